package e2e

import (
	"database/sql"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// pair is a primary, its replica, and an address that leads to one of them.
type pair struct {
	source
	proxy   *testenv.Proxy
	follow  func()         // returns when the replica can take over: what the source has read by now is there
	promote func() *sql.DB // after the end of the primary
	kill    func() error   // ends the primary
	replica string         // its address
}

// The primary is killed under load, and its replica takes over its address: the source goes on there, and each change that the new primary has is delivered once, in
// the order of its row. The process is killed once more on the new primary.
func TestFailOverUnderLoad(t *testing.T) {
	for n, open := range []func(t *testing.T) *pair{mysqlPair, postgresPair} {
		t.Run([]string{"mysql", "postgres"}[n], func(t *testing.T) {
			part(t, 1+n)
			binary(t)
			p := open(t)
			dst := redisSink(t, testenv.Redis(t))
			dst.output += "    exactly_once: true\n"
			w := p.workload(t)
			w.fragile = true
			stream := newProcess(t, strings.Replace(p.input, "    snapshot:", "    checkpoint: {exactly_once: true}\n    snapshot:", 1)+dst.output)
			stream.start()
			awaitKept(t, stream)
			w.run(4, 2*time.Millisecond)
			eventually(t, patience, "some delivered", func() bool { return len(dst.all(t)) > 200 })
			if p.slot == "" { // nothing makes the primary wait for the replica, so the source waits
				require.NoError(t, stream.cmd.Process.Signal(syscall.SIGSTOP))
			}
			p.follow()
			require.NoError(t, p.kill())
			w.wg.Wait() // the writers have lost their connections
			if p.slot == "" {
				require.NoError(t, stream.cmd.Process.Signal(syscall.SIGCONT))
			}
			p.proxy.Redirect(p.replica)
			w.db = p.promote()
			w.base, w.fragile = 100_000, false
			w.run(4, 2*time.Millisecond)
			before := len(dst.all(t))
			eventually(t, patience, "more delivered", func() bool { return len(dst.all(t)) > before+200 })
			stream.kill()
			stream.start()
			w.end()
			a := finish(t, w, dst, patience)
			assert.Zero(t, a.again, "events delivered again")
			stream.stop()
		})
	}
}

func mysqlPair(t *testing.T) *pair {
	t.Helper()
	primary := testenv.StartMySQL(t, servers.Options{NoSync: true})
	replica := testenv.StartMySQL(t, servers.Options{NoSync: true, Args: []string{"--server-id=2"}})
	p := &pair{source: mysqlSource(t, primary), proxy: testenv.NewProxy(t, primary.Addr()), replica: replica.Addr(), kill: primary.Kill}
	dsn, err := mysql.ParseDSN(primary.UserDSN(""))
	require.NoError(t, err)
	p.input = strings.Replace(p.input, dsn.Addr, p.proxy.Addr(), 1)
	there := replica.DB(t, "")
	ask := func(db *sql.DB, q string) (s string) {
		t.Helper()
		require.NoError(t, db.QueryRowContext(t.Context(), q).Scan(&s), q)
		return s
	}
	executed := func() string { return strings.ReplaceAll(ask(p.db, "SELECT @@GLOBAL.gtid_executed"), "\n", "") }
	host, port, err := net.SplitHostPort(primary.Addr())
	require.NoError(t, err)
	// What the primary has done so far, such as making its accounts, the replica has done by itself.
	_, err = there.ExecContext(t.Context(), "RESET BINARY LOGS AND GTIDS")
	require.NoError(t, err)
	for _, q := range []string{
		"SET GLOBAL gtid_purged = '" + executed() + "'",
		"SET SESSION sql_log_bin = 0",
		"CREATE DATABASE " + p.slug + " CHARACTER SET utf8mb4",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %s, SOURCE_USER = '%s', SOURCE_PASSWORD = '%s', SOURCE_AUTO_POSITION = 1, "+
			"GET_SOURCE_PUBLIC_KEY = 1", host, port, servers.User, servers.Password),
		"START REPLICA",
	} {
		_, err = there.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	p.follow = func() {
		require.Equal(t, "0", ask(there, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+executed()+"', 120)"))
	}
	p.promote = func() *sql.DB {
		_, err := there.ExecContext(t.Context(), "STOP REPLICA")
		require.NoError(t, err)
		return replica.DB(t, p.slug)
	}
	return p
}

func postgresPair(t *testing.T) *pair {
	t.Helper()
	primary := testenv.StartPostgresOf(t, "17", servers.Options{NoSync: true})
	src := postgresSource(t, primary)
	ask := func(db *sql.DB, q string) (s string) {
		t.Helper()
		require.NoError(t, db.QueryRowContext(t.Context(), q).Scan(&s), q)
		return s
	}
	ask(src.db, "SELECT pg_create_physical_replication_slot('standby')::text")
	standby := testenv.StartPostgresReplica(t, primary, servers.Options{NoSync: true, Args: []string{
		"primary_slot_name=standby", "sync_replication_slots=on", "hot_standby_feedback=on",
	}})
	_, err := src.db.ExecContext(t.Context(), "ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
	require.NoError(t, err)
	ask(src.db, "SELECT pg_reload_conf()::text")
	p := &pair{source: src, proxy: testenv.NewProxy(t, primary.Addr()), replica: standby.Addr(), kill: primary.Kill}
	p.input = strings.Replace(p.input, primary.Addr(), p.proxy.Addr(), 1)
	there, err := sql.Open("pgx", standby.DSN(p.slug))
	require.NoError(t, err)
	t.Cleanup(func() { _ = there.Close() })
	p.follow = func() {
		eventually(t, patience, "the slot on the standby", func() bool {
			ask(p.db, "SELECT pg_log_standby_snapshot()::text")
			return ask(there, "SELECT count(*)::text FROM pg_replication_slots WHERE synced AND NOT temporary") == "1"
		})
	}
	p.promote = func() *sql.DB {
		require.Equal(t, "true", ask(there, "SELECT pg_promote()::text"))
		return there
	}
	return p
}
