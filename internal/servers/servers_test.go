package servers_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// kept starts a server of every kind; write stores a value, and read gets it back.
func kept(t *testing.T) map[string]func(*testing.T) (s *servers.Server, write func(), read func() string) {
	t.Helper()
	mysql := func(start func(testing.TB, servers.Options) *testenv.MySQLServer) func(*testing.T) (*servers.Server, func(), func() string) {
		return func(t *testing.T) (*servers.Server, func(), func() string) {
			s := start(t, servers.Options{})
			db := s.DB(t, "")
			exec := func(query string) {
				_, err := db.ExecContext(t.Context(), query)
				require.NoError(t, err)
			}
			return s.Server, func() {
					exec("CREATE DATABASE d")
					exec("CREATE TABLE d.t (v text)")
					exec("INSERT INTO d.t VALUES ('kept')")
				}, func() (v string) {
					require.NoError(t, s.DB(t, "d").QueryRowContext(t.Context(), "SELECT v FROM t").Scan(&v))
					return v
				}
		}
	}
	return map[string]func(*testing.T) (*servers.Server, func(), func() string){
		"PostgreSQL": func(t *testing.T) (*servers.Server, func(), func() string) {
			s := testenv.StartPostgres(t, servers.Options{})
			return s.Server, func() {
					_, err := s.Pool(t, "").Exec(t.Context(), "CREATE TABLE t AS SELECT 'kept' AS v")
					require.NoError(t, err)
				}, func() (v string) {
					require.NoError(t, s.Pool(t, "").QueryRow(t.Context(), "SELECT v FROM t").Scan(&v))
					return v
				}
		},
		"MySQL":   mysql(testenv.StartMySQL),
		"MariaDB": mysql(testenv.StartMariaDB),
		"Kafka": func(t *testing.T) (*servers.Server, func(), func() string) {
			s := testenv.StartKafka(t, servers.Options{})
			topic := s.Topic(t, 1)
			return s.Server, func() {
					client := s.Client(t, kgo.DefaultProduceTopic(topic))
					require.NoError(t, client.ProduceSync(t.Context(), kgo.StringRecord("kept")).FirstErr())
				}, func() string {
					return string(s.Consume(t, 1, topic)[0].Value)
				}
		},
		"Redis": func(t *testing.T) (*servers.Server, func(), func() string) {
			s := testenv.StartRedis(t, servers.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
			return s.Server, func() {
					require.NoError(t, s.Client(t).Set(t.Context(), "k", "kept", 0).Err())
				}, func() string {
					v, err := s.Client(t).Get(t.Context(), "k").Result()
					require.NoError(t, err)
					return v
				}
		},
	}
}

func TestRestartKeepsData(t *testing.T) {
	for name, start := range kept(t) {
		t.Run(name, func(t *testing.T) {
			s, write, read := start(t)
			write()
			addr := s.Addr()
			require.NoError(t, s.Restart(t.Context()))
			require.Equal(t, "kept", read())
			require.NoError(t, s.Kill())
			require.Zero(t, s.PID())
			require.NoError(t, s.Start(t.Context()))
			require.Equal(t, "kept", read())
			require.Equal(t, addr, s.Addr())
			require.Error(t, s.Start(t.Context()), "it is running")

			// An interrupt at the terminal goes to our process group.
			group, err := syscall.Getpgid(s.PID())
			require.NoError(t, err)
			require.NotEqual(t, syscall.Getpgrp(), group)

			dir := s.Dir()
			require.DirExists(t, dir)
			require.NoError(t, s.Close())
			require.NoDirExists(t, dir)
			require.NoError(t, s.Close())
		})
	}
}

func TestStopIsBounded(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	require.NoError(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Stop(ctx), context.DeadlineExceeded)
	require.Zero(t, s.PID())
	require.NoError(t, s.Stop(t.Context()), "not running")
}

func TestPauseAndResume(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	client := s.Client(t)
	require.NoError(t, client.Ping(t.Context()).Err())
	require.NoError(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, redis.NewClient(&redis.Options{Addr: s.Addr(), ContextTimeoutEnabled: true}).Ping(ctx).Err())
	require.NoError(t, s.Resume())
	require.NoError(t, client.Ping(t.Context()).Err())
}

// openTempDir is a temporary directory that the account of PostgreSQL gets through to, which t.TempDir is not.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "open-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // that is the point
	return dir
}

// A directory that the account of PostgreSQL does not get through to is named.
func TestPostgresUnreachableDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL under another account")
	}
	s := testenv.Postgres(t)
	require.NoError(t, s.Pool(t, "").Ping(t.Context()))
	closed := filepath.Join(openTempDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	_, err := servers.StartPostgres(t.Context(), servers.Options{Dir: filepath.Join(closed, "data")})
	require.ErrorContains(t, err, "cannot get through "+closed)
}

// A server that does not start says why.
func TestStartErrorShowsLog(t *testing.T) {
	testenv.StartPostgres(t, servers.Options{}).Close() // only skips the test where there is none
	temp := openTempDir(t)
	t.Setenv("TMPDIR", temp)
	_, err := servers.StartPostgres(t.Context(), servers.Options{Args: []string{"nonsense=1"}})
	require.ErrorContains(t, err, `unrecognized configuration parameter "nonsense"`)
	_, err = servers.StartRedis(t.Context(), servers.Options{Args: []string{"--nonsense", "1"}})
	require.ErrorContains(t, err, "Bad directive")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left, "the data directories of servers that did not start")
}

func TestPostgresUser(t *testing.T) {
	s := testenv.Postgres(t)
	db := s.Database(t)
	admin := s.Pool(t, db)
	_, err := admin.Exec(t.Context(), "CREATE TABLE t AS SELECT 1 AS id")
	require.NoError(t, err)
	user := s.UserPool(t, db)
	var id int
	require.NoError(t, user.QueryRow(t.Context(), "SELECT id FROM t").Scan(&id))
	_, err = user.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", testenv.Name(t))
	require.NoError(t, err)
	_, err = user.Exec(t.Context(), "INSERT INTO t VALUES (2)")
	require.ErrorContains(t, err, "permission denied")
}

func TestMySQLUser(t *testing.T) {
	// Servers of its own: the log of the others begins with what other tests have done.
	for name, start := range map[string]func(testing.TB, servers.Options) *testenv.MySQLServer{
		"MySQL": testenv.StartMySQL, "MariaDB": testenv.StartMariaDB,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, servers.Options{NoSync: true})
			db := s.Database(t)
			_, err := s.DB(t, db).ExecContext(t.Context(), "CREATE TABLE t (id int)")
			require.NoError(t, err)
			user := s.UserDB(t, db)
			var n int
			require.NoError(t, user.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n))
			_, err = user.ExecContext(t.Context(), "SHOW BINARY LOGS")
			require.NoError(t, err)
			_, err = user.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
			require.ErrorContains(t, err, "denied")
			// Accounts and their rights are not in the log that tests read from its beginning.
			require.NotContains(t, strings.ToUpper(binlogEvents(t, s)), "CREATE USER")
		})
	}
}

// binlogEvents is the text of the oldest binlog's first events.
func binlogEvents(t *testing.T, s *testenv.MySQLServer) string {
	t.Helper()
	rows, err := s.DB(t, "").QueryContext(t.Context(), "SHOW BINLOG EVENTS LIMIT 100")
	require.NoError(t, err)
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var file, kind, info string
		var position, server, end int64
		require.NoError(t, rows.Scan(&file, &position, &kind, &server, &end, &info))
		all.WriteString(info + "\n")
	}
	require.NoError(t, rows.Err())
	return all.String()
}

func postgresEncrypted(t *testing.T, dsn string) (encrypted bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted))
	require.NoError(t, conn.Close(t.Context()))
	return encrypted
}
