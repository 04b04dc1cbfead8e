package servers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// Postgres is a PostgreSQL server with logical replication on. Its administrator is postgres. User can log in, replicate
// and read every table.
type Postgres struct {
	*Server
	admin url.URL
	bin   string // of its programs; empty: somebody else runs it
}

// StartPostgres starts a PostgreSQL: an installed one, else one that is fetched. With Options.TLS it accepts encrypted
// connections beside plain ones.
func StartPostgres(ctx context.Context, opts Options) (*Postgres, error) {
	bin, err := findPostgres(ctx)
	if err != nil {
		return nil, err
	}
	return startPostgres(ctx, bin, "", nil, opts)
}

// StartPostgresReplica starts a physical standby of a PostgreSQL that was started here.
func StartPostgresReplica(ctx context.Context, of *Postgres, opts Options) (*Postgres, error) {
	if of.bin == "" {
		return nil, errors.New("somebody else runs the primary, so its programs are not known")
	}
	return startPostgres(ctx, of.bin, "", of, opts)
}

// StartFetchedPostgres starts the PostgreSQL that is fetched where none is installed, also where one is: it is a newer one than that of
// many systems. It has pgvector where that is installed.
func StartFetchedPostgres(ctx context.Context, opts Options) (*Postgres, error) {
	bin, err := fetchedPostgres(ctx, binaries.EmbeddedPostgresMajor)
	if err != nil {
		return nil, err
	}
	vector, err := binaries.PgvectorDir()
	if err != nil {
		return nil, err
	}
	if _, ok := binaries.PgvectorIn(vector); !ok {
		vector = ""
	}
	return startPostgres(ctx, bin, vector, nil, opts)
}

// StartPostgresOf starts the PostgreSQL of a major version from 14 on: the installed one where it is of that version, else one that is
// fetched.
func StartPostgresOf(ctx context.Context, major string, opts Options) (*Postgres, error) {
	bin := filepath.Join("/usr/lib/postgresql", major, "bin")
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		if bin, err = fetchedPostgres(ctx, major); err != nil {
			return nil, err
		}
	}
	return startPostgres(ctx, bin, "", nil, opts)
}

// startPostgres starts the PostgreSQL in bin, with pgvector unless vector is empty; a standby of another one unless that is nil.
func startPostgres(ctx context.Context, bin, vector string, of *Postgres, opts Options) (*Postgres, error) {
	server, err := newServer("PostgreSQL", opts)
	if err != nil {
		return nil, err
	}
	s := &Postgres{Server: server, bin: bin, admin: url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", Password), Host: server.addr, RawQuery: "sslmode=disable",
	}}
	if err := s.setUp(ctx, bin, vector, of, opts); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// ConnectPostgres describes a PostgreSQL that somebody else runs, by the URL of an administrator's database. User is
// created there when it is missing.
func ConnectPostgres(ctx context.Context, dsn string) (*Postgres, error) {
	admin, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the PostgreSQL URL: %w", errors.Unwrap(err)) // the whole error would show the password
	}
	s := &Postgres{Server: externalServer("PostgreSQL", admin.Host), admin: *admin}
	return s, s.createUser(ctx)
}

// DSN is a URL for the administrator; db may be empty.
func (s *Postgres) DSN(db string) string {
	dsn := s.admin
	if db != "" {
		dsn.Path = "/" + db
	} else if dsn.Path == "" {
		dsn.Path = "/postgres"
	}
	return dsn.String()
}

// UserDSN is a URL for User.
func (s *Postgres) UserDSN(db string) string {
	dsn := s.admin
	dsn.User = url.UserPassword(User, Password)
	dsn.Path = "/" + db
	return dsn.String()
}

func (s *Postgres) setUp(ctx context.Context, bin, vector string, of *Postgres, opts Options) error {
	cred, err := unprivileged()
	if err != nil {
		return err
	}
	if cred != nil {
		if barrier := closedParent(filepath.Dir(s.dir)); barrier != "" {
			return fmt.Errorf("PostgreSQL runs as an ordinary account, which cannot get through %s to %s", barrier, s.dir)
		}
		home, err := reachable(filepath.Dir(bin), s.path("postgres"))
		if err != nil {
			return err
		}
		bin = filepath.Join(home, "bin")
		if vector != "" {
			if vector, err = reachable(vector, s.path("pgvector")); err != nil {
				return err
			}
		}
	}
	data := s.path("data")
	settings := []string{
		"port=" + strconv.Itoa(s.port), "listen_addresses=127.0.0.1", "unix_socket_directories=",
		"wal_level=logical", "max_wal_senders=20", "max_replication_slots=20", "max_connections=200",
	}
	if opts.NoSync {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	if opts.TLS {
		cert, err := s.writeCertificate()
		if err != nil {
			return err
		}
		settings = append(settings, "ssl=on", "ssl_cert_file="+cert.cert, "ssl_key_file="+cert.key)
	}
	var args []string
	if extensions, ok := binaries.PgvectorIn(vector); ok {
		args = extensions.Loader
		settings = append(settings, extensions.Settings...)
	}
	args = append(args, filepath.Join(bin, "postgres"), "-D", data)
	for _, setting := range append(settings, opts.Args...) {
		args = append(args, "-c", setting)
	}
	s.command = func() command { return command{args: args, env: []string{"LC_ALL=C.UTF-8"}, cred: cred} }
	// Immediate shutdown, so that the shared memory is released too.
	s.stop, s.onDeath = syscall.SIGINT, syscall.SIGQUIT
	s.probe = func(ctx context.Context) error {
		return s.exec(ctx, s.DSN("postgres"), "SELECT 1")
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return s.Start(ctx)
	}
	if of != nil {
		if err := s.copyOf(ctx, data, cred, of); err != nil {
			return err
		}
		return s.Start(ctx)
	}
	if err := s.initDB(ctx, bin, data, cred); err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	return s.createUser(ctx)
}

func (s *Postgres) initDB(ctx context.Context, bin, data string, cred *syscall.Credential) error {
	pwFile := s.path("password")
	if err := os.WriteFile(pwFile, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(pwFile)
	if err := chownAll(s.dir, cred); err != nil {
		return err
	}
	return runTool(ctx, "creating the PostgreSQL data directory", command{
		args: []string{
			filepath.Join(bin, "initdb"), "--pgdata", data, "--username=postgres", "--pwfile", pwFile,
			"--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
		},
		cred: cred,
	})
}

// createUser makes User, which may be made by another process at the same time.
func (s *Postgres) createUser(ctx context.Context) error {
	for _, sql := range []string{
		"CREATE ROLE " + User + " LOGIN REPLICATION PASSWORD '" + Password + "'",
		"GRANT pg_read_all_data TO " + User,
	} {
		err := s.exec(ctx, s.DSN(""), sql)
		var pgErr *pgconn.PgError
		// duplicate_object, and what the loser of a race gets: unique_violation, "tuple concurrently updated"
		if errors.As(err, &pgErr) && (pgErr.Code == "42710" || pgErr.Code == "23505" || pgErr.Code == "XX000") {
			continue
		}
		if err != nil {
			return fmt.Errorf("creating the PostgreSQL role %s: %w", User, err)
		}
	}
	return nil
}

func (s *Postgres) exec(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// unprivileged returns an account to run PostgreSQL as, which refuses to run as root. Nil when this process is not root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no change of account is the ordinary case
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(account.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no account postgres or nobody: start this as an ordinary user")
}

// chownAll gives dir and everything in it to the account.
func chownAll(dir string, cred *syscall.Credential) error {
	if cred == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(cred.Uid), int(cred.Gid))
	})
}

// reachable returns dir, or a copy of it at to when an ordinary account cannot get to it, as in root's home directory.
func reachable(dir, to string) (string, error) {
	if closedParent(dir) == "" {
		return dir, nil
	}
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		return "", fmt.Errorf("copying %s to where PostgreSQL's account can read it: %w", filepath.Base(dir), err)
	}
	return to, nil
}

// closedParent returns the directory on the way to dir, or dir itself, that only its owner can enter. Empty: there is none.
func closedParent(dir string) string {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o001 == 0 {
			return dir
		}
	}
	return ""
}
