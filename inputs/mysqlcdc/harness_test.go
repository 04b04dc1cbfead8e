package mysqlcdc

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithoutLeaks(m)) }

// patience bounds every wait of a test.
const patience = time.Minute

// onBoth runs a test on MySQL and on MariaDB, each with a database of its own.
func onBoth(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Run("mysql", func(t *testing.T) { test(t, newBench(t, testenv.MySQL(t))) })
	t.Run("mariadb", func(t *testing.T) { test(t, newBench(t, testenv.MariaDB(t))) })
}

// onOwn is onBoth with servers of its own. A test needs them that changes what others read there, now or later: that purges files or
// numbers them anew, sets what is not of its session, or leaves what cannot be read. And one that looks at transactions without rows of
// its own: on the others they may be anybody's.
func onOwn(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Run("mysql", func(t *testing.T) { test(t, newBench(t, testenv.StartMySQL(t, servers.Options{NoSync: true}))) })
	t.Run("mariadb", func(t *testing.T) { test(t, newBench(t, testenv.StartMariaDB(t, servers.Options{NoSync: true}))) })
}

// bench is a server and a database on it.
type bench struct {
	srv *testenv.MySQLServer
	db  string
	sql *sql.Conn
}

func newBench(t *testing.T, srv *testenv.MySQLServer) *bench {
	t.Helper()
	db := srv.Database(t)
	conn, err := srv.DB(t, db).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &bench{srv: srv, db: db, sql: conn}
}

func (b *bench) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := b.sql.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
}

// query returns one value.
func (b *bench) query(t *testing.T, q string) (s string) {
	t.Helper()
	require.NoError(t, b.sql.QueryRowContext(t.Context(), q).Scan(&s), q)
	return s
}

// newLog returns a log with a configuration that captures the bench's database, unless yaml says otherwise.
func (b *bench) newLog(t *testing.T, yaml string) *mysqlLog {
	t.Helper()
	return newTestLog(t, b.srv.UserDSN(""), b.db, yaml)
}

func newTestLog(t *testing.T, dsn, db, yaml string) *mysqlLog {
	t.Helper()
	if !strings.Contains(yaml, "tables:") {
		yaml += fmt.Sprintf("\ntables: {include: [%q]}", db+".*")
	}
	if !strings.Contains(yaml, "heartbeat_interval:") {
		yaml += "\nheartbeat_interval: 200ms\nread_timeout: 10s"
	}
	if !strings.Contains(yaml, "snapshot:") {
		yaml += "\nsnapshot: {mode: never}"
	}
	conf, err := spec().ParseYAML(fmt.Sprintf("name: test_%s\ndsn: %q\n%s", db, dsn, yaml), nil)
	require.NoError(t, err)
	cfg, err := parseConfig(conf, "test", service.MockResources())
	require.NoError(t, err)
	return newLog(cfg, testenv.Resources())
}

// run is a Run in progress.
type run struct {
	out    chan coordinator.Segment
	done   chan error
	cancel context.CancelFunc
	// tok is the position after everything that was taken.
	tok checkpoint.Token
	// inside says that the transaction of what was taken last goes on.
	inside bool
}

func start(t *testing.T, l *mysqlLog, from checkpoint.Token) *run {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &run{out: make(chan coordinator.Segment), done: make(chan error, 1), cancel: cancel, tok: from}
	go func() { r.done <- l.Run(ctx, from, r.out) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// connected waits for the first segment.
func (r *run) connected(t *testing.T) *run {
	t.Helper()
	seg := r.segment(t)
	require.Nil(t, seg.Rows)
	return r
}

func (r *run) segment(t *testing.T) coordinator.Segment {
	t.Helper()
	select {
	case seg := <-r.out:
		if seg.Commit != nil {
			r.tok = checkpoint.Token{Source: seg.Source, Commit: seg.Commit}
		}
		return seg
	case err := <-r.done:
		r.done <- err
		require.NoError(t, err, "the log ended")
	case <-time.After(patience):
		require.FailNow(t, "no segment in time")
	}
	panic("unreachable")
}

// fail waits for the error that ends the run.
func (r *run) fail(t *testing.T) error {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case <-r.out:
		case err := <-r.done:
			r.done <- err
			require.Error(t, err)
			return err
		case <-timeout:
			require.FailNow(t, "the log did not end in time")
		}
	}
}

func (r *run) stop(t *testing.T) {
	r.cancel()
	for {
		select {
		case <-r.out:
		case err := <-r.done:
			r.done <- err
			return
		case <-time.After(patience):
			t.Error("Run did not return in time")
			return
		}
	}
}

// received is one message.
type received struct {
	event *change.Event
	json  map[string]any
	raw   string
	key   string
	err   error
}

// take reads until it has n events and the transaction of the last has ended.
func (r *run) take(t *testing.T, n int) []received {
	t.Helper()
	var got []received
	for {
		seg := r.segment(t)
		if seg.Rows != nil {
			batch, err := seg.Rows.Decode(t.Context(), nil)
			require.NoError(t, err)
			for _, m := range batch {
				got = append(got, receive(t, m))
			}
		}
		if len(got) >= n && seg.Commit != nil {
			require.Len(t, got, n)
			return got
		}
	}
}

func receive(t *testing.T, m *service.Message) received {
	t.Helper()
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	raw, err := m.WithContext(m.Context()).AsBytes()
	rc := received{event: ev, err: m.GetError()}
	if rc.err == nil {
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, &rc.json), string(raw))
	}
	rc.raw = string(raw)
	rc.key, _ = m.MetaGet(change.MetaKey)
	return rc
}

// rows returns "op key before after" of each event, and checks what all events have in common.
func rows(t *testing.T, got []received) (lines []string) {
	t.Helper()
	ids := map[string]bool{}
	for _, g := range got {
		require.NoError(t, g.err)
		id := g.json["event_id"].(string)
		require.False(t, ids[id], "event id %s twice", id)
		ids[id] = true
		require.Equal(t, string(g.event.AppendID(nil)), id)
		lines = append(lines, fmt.Sprintf("%c %s %s %s", g.event.Op, g.key, part(g.raw, "before"), part(g.raw, "after")))
	}
	return lines
}

// part cuts a row image out of an envelope, bytes as they are.
func part(raw, name string) string {
	var whole map[string]json.RawMessage
	if json.Unmarshal([]byte(raw), &whole) != nil {
		return "?"
	}
	if s := string(whole[name]); s != "null" {
		return s
	}
	return "-"
}
