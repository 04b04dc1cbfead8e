package postgrescdc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/snapshot"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// lateServer is a server of its own on which commits can be made to wait for a standby that is not there. They are in the log then, and
// no query sees them.
func lateServer(t *testing.T) (d *database, late func(on bool)) {
	t.Helper()
	d = newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true, Args: []string{"max_prepared_transactions=5"}}))
	return d, func(on bool) {
		t.Helper()
		names := ""
		if on {
			names = "nobody"
		}
		d.exec("ALTER SYSTEM SET synchronous_standby_names = '"+names+"'", "SELECT pg_reload_conf()")
		require.Eventually(t, func() bool {
			return d.queryText("SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'") == names
		}, waitFor, tick)
		if on {
			require.Eventually(t, d.waits, waitFor, tick)
		}
	}
}

// waits reports whether a commit waits for a standby: the server begins with that when its checkpointer has heard of it.
func (d *database) waits() bool {
	conn := d.connect()
	defer func() { _ = conn.Close(context.Background()) }()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SET synchronous_commit = on")
		if err == nil {
			_, err = conn.Exec(context.Background(), "COMMENT ON DATABASE "+d.name+" IS 'a commit'")
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			require.NoError(d.t, err)
			return false
		case <-time.After(tick):
			if d.queryText("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1", conn.PgConn().PID()) == "1" {
				d.exec(fmt.Sprintf("SELECT pg_cancel_backend(%d)", conn.PgConn().PID()))
				require.NoError(d.t, <-done)
				return true
			}
		}
	}
}

// start runs a statement that may not end for long, on a connection of its own, and returns a function that waits for their end.
func (d *database) start(sql string) func() {
	conn := d.connect()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SET synchronous_commit = on")
		if err == nil {
			_, err = conn.Exec(context.Background(), sql)
		}
		done <- err
	}()
	return func() {
		d.t.Helper()
		select {
		case err := <-done:
			require.NoError(d.t, err)
		case <-time.After(waitFor):
			require.Fail(d.t, "it does not end", sql)
		}
	}
}

func txOf(t testing.TB, m *service.Message) *change.Tx {
	t.Helper()
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	return ev.Tx
}

// readItem reads the table item after a position, and returns its rows and what the transaction saw.
func readItem(t testing.TB, r snapshot.Reader, after checkpoint.Position) ([]string, snapshot.View) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	defer cancel()
	v, err := r.Begin(ctx, "public.item", after)
	require.NoError(t, err)
	rows, err := readRows(r, snapshot.Chunk{Table: "public.item", Limit: 100})
	require.NoError(t, err)
	return asInserts(t, rows.Events), v
}

// TestLateCommits has transactions that are in the log, and delivered, before a query sees them.
func TestLateCommits(t *testing.T) {
	d, late := lateServer(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)", "INSERT INTO item VALUES (1, 'old'), (2, 'old'), (3, 'old')")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	reader := openReader(t, r)
	begun := s.last.Commit
	_, v := readItem(t, reader, begun)
	require.Eventually(t, func() bool { return v.Reached(s.last.Commit) || v.Reached(s.next().Commit) }, waitFor, tick)

	late(true)
	ends := d.start("UPDATE item SET v = 'late' WHERE id = 1")
	first := s.events(1)
	end, err := lsn.ParseServer(d.queryText("SELECT pg_current_wal_lsn()::text"))
	require.NoError(t, err)
	rows, v := readItem(t, reader, begun)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1,"v":"old"}}`, `c item {"before":null,"after":{"id":2,"v":"old"}}`,
		`c item {"before":null,"after":{"id":3,"v":"old"}}`,
	}, rows)
	commit, err := lsn.Parse(txOf(t, first[0]).Position)
	require.NoError(t, err)
	require.Less(t, commit, end)
	require.False(t, v.Sees(txOf(t, first[0])))

	// One that does not wait ends after it, so that the number of the first is among those that run.
	d.exec("SET synchronous_commit = local", "UPDATE item SET v = 'new' WHERE id = 2")
	second := s.events(1)
	rows, v = readItem(t, reader, begun)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1,"v":"old"}}`, `c item {"before":null,"after":{"id":2,"v":"new"}}`,
		`c item {"before":null,"after":{"id":3,"v":"old"}}`,
	}, rows)
	require.False(t, v.Sees(txOf(t, first[0])))
	require.True(t, v.Sees(txOf(t, second[0])))
	require.Eventually(t, func() bool { return v.Reached(s.last.Commit) || v.Reached(s.next().Commit) }, waitFor, tick)

	// What was delivered before somebody began to follow is visible, or is waited for.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	other := openReader(t, r)
	_, err = other.Begin(ctx, "public.item", s.last.Commit)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, `public.item: waiting for the transaction of the server process `)
	require.Contains(t, log.all(), `SELECT pg_terminate_backend(`)
	require.Contains(t, log.all(), `, active), open since 20`)
	late(false)
	ends()
	rows, v = readItem(t, reader, s.last.Commit)
	require.Equal(t, `c item {"before":null,"after":{"id":1,"v":"late"}}`, rows[0])
	require.True(t, v.Sees(txOf(t, first[0])))

	// A prepared transaction that nobody commits is not waited for; one whose commit is late is.
	d.exec("BEGIN; UPDATE item SET v = 'prepared' WHERE id = 3; PREPARE TRANSACTION 'it''s'", "UPDATE item SET v = 'newer' WHERE id = 2")
	s.events(1)
	_, v = readItem(t, reader, s.last.Commit)
	late(true)
	ends = d.start("COMMIT PREPARED 'it''s'")
	third := s.events(1)
	require.False(t, v.Sees(txOf(t, third[0])))
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = openReader(t, r).Begin(ctx, "public.item", s.last.Commit)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, `public.item: waiting for the prepared transaction "it's": `)
	late(false)
	ends()
	rows, v = readItem(t, reader, s.last.Commit)
	require.Equal(t, `c item {"before":null,"after":{"id":3,"v":"prepared"}}`, rows[2])
	require.True(t, v.Sees(txOf(t, third[0])))
}

// TestOpenWriters has a transaction open whose rows are in the log, of which the last part is not written out: the place that a chunk
// waits for is after them, and the stream comes there nevertheless.
func TestOpenWriters(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true}))
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)", "INSERT INTO item VALUES (1, 'old')")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	reader := openReader(t, r)
	readItem(t, reader, s.last.Commit) // what follows needs no look at the catalogue
	open := d.connect()
	_, err := open.Exec(t.Context(), "BEGIN; INSERT INTO item VALUES (2, 'open')")
	require.NoError(t, err)
	busy := d.connect()
	_, err = busy.Exec(t.Context(), "BEGIN; INSERT INTO item VALUES (3, 'busy')")
	require.NoError(t, err)
	busyCtx, stop := context.WithCancel(t.Context())
	slept := make(chan struct{})
	go func() {
		defer close(slept)
		_, _ = busy.Exec(busyCtx, "SELECT pg_sleep(600)")
	}()
	defer func() { stop(); <-slept }()
	require.Eventually(t, func() bool {
		return d.queryText("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = $1", busy.PgConn().PID()) == "1"
	}, waitFor, tick)
	next := func() string { return d.queryText("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") }
	before := next()
	rows, v := readItem(t, reader, Position{At: s.last.Commit.(Position).At + 1}) // not settled yet
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1,"v":"old"}}`}, rows)
	for !v.Reached(s.last.Commit) {
		require.Nil(t, s.next().Rows)
	}
	require.NotEqual(t, before, next(), "a transaction that wrote the log out")
	require.NotContains(t, log.all(), "waiting for")
	_, err = open.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.False(t, v.Sees(txOf(t, s.events(1)[0])))
}
