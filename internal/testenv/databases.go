package testenv

import (
	"context"
	"database/sql"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // for sql.Open
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// PostgresServer is a PostgreSQL for tests.
type PostgresServer struct{ *servers.Postgres }

// Postgres returns the shared PostgreSQL.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return &PostgresServer{sharedServer(t, &shared.postgres, EnvPostgres, servers.ConnectPostgres, servers.StartPostgres)}
}

// StartPostgres starts a PostgreSQL for this test alone.
func StartPostgres(t testing.TB, opts servers.Options) *PostgresServer {
	t.Helper()
	return &PostgresServer{privateServer(t, opts, servers.StartPostgres)}
}

// StartPostgresReplica starts, for this test alone, a physical standby of a PostgreSQL that this process has started.
func StartPostgresReplica(t testing.TB, of *PostgresServer, opts servers.Options) *PostgresServer {
	t.Helper()
	return &PostgresServer{privateServer(t, opts, func(ctx context.Context, opts servers.Options) (*servers.Postgres, error) {
		return servers.StartPostgresReplica(ctx, of.Postgres, opts)
	})}
}

// StartNewPostgres starts, for this test alone, a PostgreSQL of a newer version than the installed one, with pgvector where the install
// command has brought it.
func StartNewPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	skipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	server, err := servers.StartFetchedPostgres(ctx, servers.Options{NoSync: true})
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing a server: %v", err)
		}
	})
	return &PostgresServer{server}
}

// StartPostgresOf starts, for this test alone, a PostgreSQL of a major version.
func StartPostgresOf(t testing.TB, major string, opts servers.Options) *PostgresServer {
	t.Helper()
	return &PostgresServer{privateServer(t, opts, func(ctx context.Context, opts servers.Options) (*servers.Postgres, error) {
		return servers.StartPostgresOf(ctx, major, opts)
	})}
}

// Database creates a database for this test. At its end the database goes, with the replication slots in it; User may create
// publications there.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := Name(t)
	s.exec(t, "CREATE DATABASE "+name)
	s.exec(t, "GRANT CREATE ON DATABASE "+name+" TO "+servers.User)
	t.Cleanup(func() { s.dropDatabase(t, name) })
	return name
}

func (s *PostgresServer) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := s.Pool(t, "").Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("running %q on PostgreSQL: %v", query, err)
	}
}

// dropDatabase removes what a test has made. A server that the test has stopped or killed is left as it is.
func (s *PostgresServer) dropDatabase(t testing.TB, name string) {
	ctx, cancel := cleanupContext()
	defer cancel()
	pool, err := pgxpool.New(ctx, s.DSN(""))
	if err != nil {
		t.Errorf("connecting to PostgreSQL to drop %s: %v", name, err)
		return
	}
	defer pool.Close()
	if pool.Ping(ctx) != nil && !s.External() {
		return
	}
	// Sessions that the test has just left may still be on their way out, and hold their slots.
	for {
		err := dropPostgres(ctx, pool, name)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("dropping the PostgreSQL database %s with its slots: %v", name, err)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func dropPostgres(ctx context.Context, pool *pgxpool.Pool, name string) error {
	for _, query := range []string{
		"SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database = $1 AND active",
		"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active",
	} {
		if _, err := pool.Exec(ctx, query, name); err != nil {
			return err
		}
	}
	_, err := pool.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	return err
}

// Pool connects as administrator, until the end of the test.
func (s *PostgresServer) Pool(t testing.TB, db string) *pgxpool.Pool {
	t.Helper()
	return connectPostgres(t, s.DSN(db))
}

// UserPool connects as servers.User, until the end of the test.
func (s *PostgresServer) UserPool(t testing.TB, db string) *pgxpool.Pool {
	t.Helper()
	return connectPostgres(t, s.UserDSN(db))
}

func connectPostgres(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connecting to PostgreSQL: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// MySQLServer is a MySQL or MariaDB for tests.
type MySQLServer struct{ *servers.MySQL }

// MySQL returns the shared MySQL.
func MySQL(t testing.TB) *MySQLServer {
	t.Helper()
	return &MySQLServer{sharedServer(t, &shared.mysql, EnvMySQL, servers.ConnectMySQL, servers.StartMySQL)}
}

// StartMySQL starts a MySQL for this test alone.
func StartMySQL(t testing.TB, opts servers.Options) *MySQLServer {
	t.Helper()
	return &MySQLServer{privateServer(t, opts, servers.StartMySQL)}
}

// MariaDB returns the shared MariaDB.
func MariaDB(t testing.TB) *MySQLServer {
	t.Helper()
	return &MySQLServer{sharedServer(t, &shared.mariadb, EnvMariaDB, servers.ConnectMariaDB, servers.StartMariaDB)}
}

// StartMariaDB starts a MariaDB for this test alone.
func StartMariaDB(t testing.TB, opts servers.Options) *MySQLServer {
	t.Helper()
	return &MySQLServer{privateServer(t, opts, servers.StartMariaDB)}
}

// Database creates a database for this test and drops it at its end.
func (s *MySQLServer) Database(t testing.TB) string {
	t.Helper()
	name := Name(t)
	if _, err := s.DB(t, "").ExecContext(t.Context(), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4"); err != nil {
		t.Fatalf("creating the %s database %s: %v", s.Name(), name, err)
	}
	t.Cleanup(func() { s.dropDatabase(t, name) })
	return name
}

// dropDatabase removes what a test has made. A server that the test has stopped or killed is left as it is.
func (s *MySQLServer) dropDatabase(t testing.TB, name string) {
	ctx, cancel := cleanupContext()
	defer cancel()
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		t.Errorf("connecting to %s to drop %s: %v", s.Name(), name, err)
		return
	}
	defer db.Close()
	if db.PingContext(ctx) != nil && !s.External() {
		return
	}
	if _, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name); err != nil {
		t.Errorf("dropping the %s database %s: %v", s.Name(), name, err)
	}
}

// DB connects as administrator, until the end of the test.
func (s *MySQLServer) DB(t testing.TB, db string) *sql.DB {
	t.Helper()
	return s.connect(t, s.DSN(db))
}

// UserDB connects as servers.User, until the end of the test.
func (s *MySQLServer) UserDB(t testing.TB, db string) *sql.DB {
	t.Helper()
	return s.connect(t, s.UserDSN(db))
}

func (s *MySQLServer) connect(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	pool, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatalf("connecting to %s: %v", s.Name(), err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}
