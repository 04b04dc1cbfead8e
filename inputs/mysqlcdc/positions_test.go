package mysqlcdc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// TestPositions does to a server what makes saved positions mean something else, with the source stopped and with it streaming. The
// source goes on exactly, or it says that the position is lost. It never leaves out a row.
func TestPositions(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		w := &world{b: b}
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		for _, c := range positionCases() {
			if c.mysqlOnly && b.srv.IsMariaDB() {
				continue
			}
			for _, streaming := range []bool{false, true} {
				for _, useGTID := range []string{"true", "false"} {
					t.Run(fmt.Sprintf("%s/streaming=%t/gtid=%s", c.name, streaming, useGTID), func(t *testing.T) {
						want := c.file
						if useGTID == "true" {
							want = c.gtid
						}
						if streaming && c.streaming != "" {
							want = c.streaming
						}
						w.try(t, c, streaming, useGTID, want)
					})
				}
			}
		}
	})
}

// positionCase is something that happens to a server. What is expected is "exact" or a part of the error of a lost position.
type positionCase struct {
	name       string
	happens    func(t *testing.T, w *world)
	gtid, file string
	// streaming is for a source that is at the end of the log, when it is something else.
	streaming string
	mysqlOnly bool
	// idle lets the source look at the log's end for a while.
	idle bool
}

const exact = "exact"

func positionCases() []positionCase {
	return []positionCase{
		{name: "nothing", happens: func(t *testing.T, w *world) { w.insert(t, 3) }, gtid: exact, file: exact, idle: true},
		{name: "new files", happens: func(t *testing.T, w *world) {
			w.insert(t, 1)
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.insert(t, 1)
		}, gtid: exact, file: exact, idle: true},
		{name: "purge of what was read", happens: func(t *testing.T, w *world) {
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.purge(t)
			w.insert(t, 3)
		}, gtid: exact, file: "does not have file bin.", streaming: exact},
		{name: "purge of what was not read", happens: func(t *testing.T, w *world) {
			w.insert(t, 3)
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.purge(t)
			w.insert(t, 3)
		}, gtid: "purged", file: "does not have file bin.", streaming: exact},
		{name: "reset, file gone", happens: func(t *testing.T, w *world) {
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.insert(t, 1)
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.reset(t)
			w.insert(t, 30)
		}, gtid: "its log was reset", file: "its log was reset"},
		{name: "reset, file there", happens: func(t *testing.T, w *world) {
			w.reset(t)
			w.insert(t, 60)
		}, gtid: "was reset", file: "was reset"},
		{name: "reset and purged", happens: func(t *testing.T, w *world) {
			w.reset(t)
			w.insert(t, 3)
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.purge(t)
			w.insert(t, 60)
		}, gtid: "its log", file: "its log"},
		{name: "gtid_mode down and up", happens: func(t *testing.T, w *world) {
			w.gtidMode(t, "ON_PERMISSIVE", "OFF_PERMISSIVE")
			w.insert(t, 2)
			w.b.exec(t, "FLUSH BINARY LOGS")
			w.insert(t, 1)
			w.gtidMode(t, "ON_PERMISSIVE")
			w.insert(t, 1)
			w.gtidMode(t, "ON")
			w.insert(t, 1)
		}, gtid: "SET GLOBAL gtid_mode = 'ON_PERMISSIVE'", file: "SET GLOBAL gtid_mode = 'ON_PERMISSIVE'", streaming: exact, mysqlOnly: true},
		{name: "gtid_mode down", happens: func(t *testing.T, w *world) {
			w.gtidMode(t, "ON_PERMISSIVE", "OFF_PERMISSIVE")
			w.insert(t, 2)
		}, gtid: exact, file: exact, mysqlOnly: true},
	}
}

// world is a server with one table, whose next row is known.
type world struct {
	b    *bench
	rows int
	// want are the rows that were inserted since the source has started.
	want      []string
	streaming bool
}

func (w *world) insert(t *testing.T, n int) {
	t.Helper()
	for range n {
		w.rows++
		w.b.exec(t, fmt.Sprintf("INSERT INTO c VALUES (%d)", w.rows))
		w.want = append(w.want, fmt.Sprintf(`c {"id":%d} - {"id":%d}`, w.rows, w.rows))
	}
}

func (w *world) reset(t *testing.T) {
	t.Helper()
	if w.b.srv.IsMariaDB() {
		w.b.exec(t, "RESET MASTER")
		return
	}
	w.b.exec(t, "RESET BINARY LOGS AND GTIDS")
}

// until lets the clock of files, which counts seconds, go on after the one of a position was made.
func (w *world) until(t *testing.T, tok checkpoint.Token) {
	t.Helper()
	p := parsedPosition(t, reparsed(tok))
	require.NotZero(t, p.Created)
	for w.b.query(t, "SELECT UNIX_TIMESTAMP()") <= fmt.Sprint(p.Created) {
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) purge(t *testing.T) {
	t.Helper()
	if !w.streaming {
		w.b.purge(t)
		return
	}
	// The files of a reader are kept.
	newest, _ := w.b.newestFile(t)
	w.b.exec(t, "PURGE BINARY LOGS TO '"+newest+"'")
}

func (w *world) gtidMode(t *testing.T, modes ...string) {
	t.Helper()
	for _, m := range modes {
		w.b.exec(t, "SET GLOBAL gtid_mode = "+m)
	}
}

// try runs the source, lets something happen, and looks what the source makes of it.
func (w *world) try(t *testing.T, c positionCase, streaming bool, useGTID, want string) {
	l := w.b.newLog(t, "use_gtid: "+useGTID)
	l.filesInterval = 200 * time.Millisecond
	w.want, w.streaming = nil, streaming
	f := &follower{log: l}
	f.start(t)
	defer f.run.stop(t)
	w.insert(t, 10)
	f.follow(t, w.want)
	if !streaming {
		f.run.stop(t)
	}
	w.until(t, f.run.tok)
	c.happens(t, w)
	if !w.b.srv.IsMariaDB() {
		defer w.gtidMode(t, "ON_PERMISSIVE", "ON") // the first is refused where it is ON
	}
	if !streaming {
		f.restart(t)
	}
	err := f.follow(t, w.want)
	if want == exact {
		require.NoError(t, err)
		require.Equal(t, w.want, f.got)
		if streaming && c.idle {
			f.idle(t)
		}
		f.run.stop(t)
		w.insert(t, 1)
		f.restart(t) // from the position after it
		require.NoError(t, f.follow(t, w.want))
		require.Equal(t, w.want, f.got)
		return
	}
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, want)
	require.Equal(t, w.want[:len(f.got)], f.got, "rows until then")
	if strings.Contains(want, "ON_PERMISSIVE") { // what the error says loses nothing
		w.gtidMode(t, "ON_PERMISSIVE")
		f.restart(t)
		require.NoError(t, f.follow(t, w.want))
		require.Equal(t, w.want, f.got)
		return
	}
	require.ErrorContains(t, err, "deltaforge checkpoint reset KEY")
	f.anew(t, w)
}

// anew begins anew after a lost position: at the end of the log, and with all that comes after it.
func (f *follower) anew(t *testing.T, w *world) {
	t.Helper()
	f.log.cfg.start = startEarliest // counts for a first start only
	require.NoError(t, f.log.Renew(t.Context()))
	w.want, f.got, f.run.inside = nil, nil, false
	f.start(t)
	require.NotNil(t, f.run.tok.Commit)
	w.b.exec(t, "CREATE TABLE more (id INT PRIMARY KEY)", "DROP TABLE more") // the history goes on from there
	w.insert(t, 2)
	require.NoError(t, f.follow(t, w.want))
	require.Equal(t, w.want, f.got)
	f.run.stop(t)
	w.insert(t, 1)
	f.restart(t)
	require.NoError(t, f.follow(t, w.want))
	require.Equal(t, w.want, f.got)
}

// follower is a source that begins again when a session ends, as the coordinator does.
type follower struct {
	log *mysqlLog
	run *run
	got []string
}

func (f *follower) start(t *testing.T) { f.run = start(t, f.log, checkpoint.Token{}).connected(t) }

func (f *follower) restart(t *testing.T) {
	t.Helper()
	f.run = start(t, f.log, reparsed(f.run.tok))
}

// follow reads until all is there, or the position is lost.
func (f *follower) follow(t *testing.T, want []string) error {
	t.Helper()
	timeout := time.After(patience)
	for len(f.got) < len(want) || f.run.inside {
		select {
		case seg := <-f.run.out:
			if seg.Rows != nil {
				batch, err := seg.Rows.Decode(t.Context(), nil)
				require.NoError(t, err)
				var got []received
				for _, m := range batch {
					got = append(got, receive(t, m))
				}
				f.got = append(f.got, rows(t, got)...)
			}
			f.run.inside = seg.Rows != nil && seg.Commit == nil
			if seg.Commit != nil {
				f.run.tok = checkpoint.Token{Source: seg.Source, Commit: seg.Commit}
			}
		case err := <-f.run.done:
			f.run.done <- err
			if fault.KindOf(err) == fault.KindPositionLost {
				return err
			}
			t.Logf("another session, since: %v", err)
			time.Sleep(50 * time.Millisecond)
			f.restart(t)
		case <-timeout:
			require.FailNow(t, "not all rows came in time", "%d of %d, at %s", len(f.got), len(want), f.run.tok)
		}
	}
	return nil
}

// idle waits for as many looks at the log's end as let the source doubt its stream.
func (f *follower) idle(t *testing.T) {
	t.Helper()
	for range 2 * maxDoubts {
		for !f.run.segment(t).CaughtUp {
		}
	}
}

// TestServerPutBack puts a server back to an older state of its files, as a restored volume or a copy with its id does.
func TestServerPutBack(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		w := &world{b: b}
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		before := map[string]*follower{}
		after := map[string]*follower{}
		for i, useGTID := range []string{"true", "false"} {
			newLog := func(id int) *mysqlLog { return b.newLog(t, fmt.Sprintf("server_id: %d\nuse_gtid: %s", id+i, useGTID)) }
			before[useGTID] = &follower{log: newLog(101)}
			before[useGTID].start(t)
			after[useGTID] = &follower{log: newLog(201)}
		}
		w.insert(t, 3)
		for _, f := range before {
			require.NoError(t, f.follow(t, w.want))
			f.run.stop(t)
		}
		data, older := filepath.Join(b.srv.Dir(), "data"), filepath.Join(b.srv.Dir(), "older")
		require.NoError(t, b.srv.Kill())
		require.NoError(t, os.CopyFS(older, os.DirFS(data)))
		w.restarted(t)

		w.want = nil
		for _, f := range after {
			f.start(t)
		}
		w.insert(t, 10)
		for _, f := range after {
			require.NoError(t, f.follow(t, w.want))
		}
		w.until(t, after["true"].run.tok)
		after["true"].run.stop(t) // the other one is streaming
		require.NoError(t, b.srv.Kill())
		require.NoError(t, os.RemoveAll(data))
		require.NoError(t, os.Rename(older, data))
		w.restarted(t)

		lost := func(when string) {
			for useGTID, f := range after {
				f.restart(t)
				err := f.follow(t, make([]string, 1000))
				require.ErrorIs(t, err, fault.ErrPositionLost, "%s: gtid=%s", when, useGTID)
				require.ErrorContains(t, err, "put back to an older state", "%s: gtid=%s", when, useGTID)
				require.Len(t, f.got, 10, "%s: gtid=%s", when, useGTID)
			}
		}
		err := after["false"].follow(t, make([]string, 1000))
		require.ErrorIs(t, err, fault.ErrPositionLost)
		require.ErrorContains(t, err, "put back to an older state")
		lost("at once")
		w.want = nil
		w.insert(t, 30) // now all that was read is executed, and the files are longer
		lost("later")
		for _, f := range before { // what both have in common
			f.got = nil
			f.restart(t)
			require.NoError(t, f.follow(t, w.want))
			require.Equal(t, w.want, f.got)
		}
	})
}

// restarted starts a server that was killed.
func (w *world) restarted(t *testing.T) {
	t.Helper()
	require.NoError(t, w.b.srv.Start(t.Context()))
	conn, err := w.b.srv.DB(t, w.b.db).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	w.b.sql = conn
}
