package mysqlcdc

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/snapshot"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// onStalled runs a test on servers whose commits can be held up between log and engine: each waits for a semi-synchronous replica.
func onStalled(t *testing.T, test func(t *testing.T, b *stalled)) {
	options := func(args ...string) servers.Options { return servers.Options{NoSync: true, Args: args} }
	for name, start := range map[string]func(t *testing.T) *testenv.MySQLServer{
		"mysql": func(t *testing.T) *testenv.MySQLServer { return testenv.StartMySQL(t, options()) },
		"mysql without GTIDs": func(t *testing.T) *testenv.MySQLServer {
			return testenv.StartMySQL(t, options("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"))
		},
		"mariadb": func(t *testing.T) *testenv.MySQLServer { return testenv.StartMariaDB(t, options()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := &stalled{bench: newBench(t, start(t)), role: "source"}
			if b.srv.IsMariaDB() {
				b.role = "master"
				b.exec(t, "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC")
			} else {
				b.exec(t, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
			}
			b.exec(t, "SET GLOBAL rpl_semi_sync_"+b.role+"_timeout = 3600000", "CREATE TABLE c (id INT PRIMARY KEY, v INT)", "INSERT INTO c VALUES (1, 1), (2, 1)")
			b.places = !b.srv.IsMariaDB() && b.query(t, "SELECT @@GLOBAL.gtid_mode") == "OFF"
			test(t, b)
		})
	}
}

// stalled is a server whose commits can be held up.
type stalled struct {
	*bench
	role string
	// places says that there are no GTIDs.
	places bool
}

// mayLook lets the account see what transactions do.
func (b *stalled) mayLook(t *testing.T) {
	b.exec(t, "SET SESSION sql_log_bin = 0", "GRANT PROCESS ON *.* TO "+servers.User+"@'127.0.0.1'", "SET SESSION sql_log_bin = 1")
}

func (b *stalled) hold(t *testing.T) {
	b.exec(t, "SET GLOBAL rpl_semi_sync_"+b.role+"_enabled = ON")
}

func (b *stalled) release(t *testing.T) {
	b.exec(t, "SET GLOBAL rpl_semi_sync_"+b.role+"_enabled = OFF")
}

// commit runs a statement whose commit may be held up, and returns what waits for its end.
func (b *stalled) commit(t *testing.T, statement string) (wait func()) {
	conn, err := b.srv.DB(t, b.db).Conn(t.Context())
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(context.WithoutCancel(t.Context()), statement)
		done <- err
	}()
	t.Cleanup(func() {
		_, _ = b.srv.DB(t, b.db).ExecContext(context.WithoutCancel(t.Context()), "SET GLOBAL rpl_semi_sync_"+b.role+"_enabled = OFF")
		_ = conn.Close()
	})
	return func() {
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(patience):
			require.FailNow(t, "the commit does not end")
		}
	}
}

// logged waits until the end of the log has moved.
func (b *stalled) logged(t *testing.T, before string) {
	require.Eventually(t, func() bool { return b.end(t) != before }, patience, 10*time.Millisecond)
}

func (b *stalled) end(t *testing.T) string {
	q := "SHOW BINARY LOG STATUS"
	if b.srv.IsMariaDB() {
		q = "SHOW MASTER STATUS"
	}
	rows, err := b.sql.QueryContext(t.Context(), q)
	require.NoError(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	require.True(t, rows.Next())
	values := make([]any, len(columns))
	var file, pos string
	for i := range values {
		values[i] = &sql.RawBytes{}
	}
	values[0], values[1] = &file, &pos
	require.NoError(t, rows.Scan(values...))
	return file + ":" + pos
}

// TestSnapshotTrap: a transaction that is in the log, and delivered, and not visible yet is one that a chunk does not see, and a chunk that
// has to see it waits for it.
func TestSnapshotTrap(t *testing.T) {
	onStalled(t, func(t *testing.T, b *stalled) {
		l := b.newLog(t, "")
		r := start(t, l, checkpoint.Token{}).connected(t)
		b.exec(t, "UPDATE c SET v = 2 WHERE id = 2")
		seen := r.take(t, 1)[0]
		before := r.tok.Commit
		reader, table := openReader(t, l), b.db+".c"
		if b.places { // commits wait for nothing yet, so that their age is enough
			readChunk(t, reader, before, snapshot.Chunk{Table: table, Limit: 10})
		}
		b.hold(t)
		if b.places {
			var err error
			require.Eventually(t, func() bool { _, err = reader.Begin(t.Context(), table, before); return err != nil }, patience, 10*time.Millisecond)
			require.ErrorContains(t, err, "GRANT PROCESS ON *.*")
			require.Equal(t, fault.KindPermission, fault.KindOf(err))
			b.mayLook(t)
			reader = openReader(t, l)
			readChunk(t, reader, before, snapshot.Chunk{Table: table, Limit: 10}) // while nothing is held up, or it would wait for that
		}
		wait := b.commit(t, "UPDATE c SET v = 2 WHERE id = 1")
		unseen := r.take(t, 1)[0]
		require.Equal(t, `{"id":1,"v":2}`, part(unseen.raw, "after"))
		delivered := r.tok.Commit
		v, err := reader.Begin(t.Context(), table, before)
		require.NoError(t, err)
		rows, err := readRows(reader, snapshot.Chunk{Table: table, Limit: 10})
		require.NoError(t, err)
		got := asReceived(t, rows)
		require.Equal(t, `{"id":1,"v":1}`, part(got[0].raw, "after"))
		require.Equal(t, `{"id":2,"v":2}`, part(got[1].raw, "after"))
		require.False(t, v.Sees(unseen.event.Tx), "the chunk has an older row than the stream")
		require.True(t, v.Sees(seen.event.Tx))
		require.False(t, v.Reached(before) && b.role == "source", "MySQL cannot say that the transaction is not visible")
		require.True(t, v.Reached(delivered))

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = openReader(t, l).Begin(short, table, delivered)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "semi-synchronous")

		b.release(t)
		wait()
		v, err = reader.Begin(t.Context(), table, delivered)
		require.NoError(t, err)
		rows, err = readRows(reader, snapshot.Chunk{Table: table, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, `{"id":1,"v":2}`, part(asReceived(t, rows)[0].raw, "after"))
		require.True(t, v.Sees(unseen.event.Tx))
		require.True(t, v.Reached(delivered))
	})
}

// TestSnapshotStart: where a snapshot is wanted, the stream starts before what is in the log and not visible yet.
func TestSnapshotStart(t *testing.T) {
	onStalled(t, func(t *testing.T, b *stalled) {
		l := b.newLog(t, "")
		l.cfg.snapshotWanted = true
		if b.places {
			b.mayLook(t)
		}
		b.hold(t)
		before := b.end(t)
		wait := b.commit(t, "UPDATE c SET v = 2 WHERE id = 1")
		b.logged(t, before)
		r := start(t, l, checkpoint.Token{})
		if b.places {
			require.Eventually(t, func() bool { return len(l.snapshots.Waits()) > 0 }, patience, 10*time.Millisecond)
			b.release(t) // it starts after it, which is visible then
			wait()
			r.connected(t)
			rows := readChunk(t, openReader(t, l), r.tok.Commit, snapshot.Chunk{Table: b.db + ".c", Limit: 10})
			require.Equal(t, `{"id":1,"v":2}`, part(asReceived(t, rows)[0].raw, "after"))
			return
		}
		r.connected(t)
		require.Equal(t, `{"id":1,"v":2}`, part(r.take(t, 1)[0].raw, "after"))
		b.release(t)
		wait()
	})
}

// TestSnapshotReplica: chunks are read from a replica when it is one, as far as it has come; a view waits for one that is late.
func TestSnapshotReplica(t *testing.T) {
	options := func(args ...string) servers.Options { return servers.Options{NoSync: true, Args: args} }
	t.Run("mysql", func(t *testing.T) {
		snapshotReplica(t, testenv.StartMySQL(t, options()), testenv.StartMySQL(t, options("--server-id=2")))
	})
	t.Run("mariadb", func(t *testing.T) {
		snapshotReplica(t, testenv.StartMariaDB(t, options()), testenv.StartMariaDB(t, options("--server-id=2", "--log-slave-updates=ON")))
	})
}

func snapshotReplica(t *testing.T, one, other *testenv.MySQLServer) {
	primary := newBench(t, one)
	conn, err := other.DB(t, "").Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	replica := &bench{srv: other, db: primary.db, sql: conn}
	primary.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v INT)")
	l := primary.newLog(t, "snapshot: {mode: never, dsn: \""+other.UserDSN("")+"\"}")
	_, err = l.Snapshots().Open(t.Context())
	require.ErrorContains(t, err, "snapshot.dsn: "+other.Addr()+" cannot stand for "+one.Addr())
	primary.exec(t, "DROP TABLE c")
	replica.replicate(t, primary)
	primary.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v INT)", "INSERT INTO c VALUES (1, 1)")
	replica.caughtUp(t, primary)

	r := start(t, l, checkpoint.Token{}).connected(t)
	replica.exec(t, "STOP REPLICA SQL_THREAD")
	before := r.tok.Commit
	primary.exec(t, "UPDATE c SET v = 2")
	late := r.take(t, 1)[0]
	reader, table := openReader(t, l), primary.db+".c"
	v, err := reader.Begin(t.Context(), table, before)
	require.NoError(t, err)
	rows, err := readRows(reader, snapshot.Chunk{Table: table, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, `{"id":1,"v":1}`, part(asReceived(t, rows)[0].raw, "after"))
	require.False(t, v.Sees(late.event.Tx))
	require.True(t, v.Reached(r.tok.Commit))

	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = openReader(t, l).Begin(short, table, r.tok.Commit)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the replica of snapshot.dsn ("+other.Addr()+") is late")

	replica.exec(t, "START REPLICA SQL_THREAD")
	v, err = reader.Begin(t.Context(), table, r.tok.Commit)
	require.NoError(t, err)
	rows, err = readRows(reader, snapshot.Chunk{Table: table, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, `{"id":1,"v":2}`, part(asReceived(t, rows)[0].raw, "after"))
	require.True(t, v.Sees(late.event.Tx))
}
