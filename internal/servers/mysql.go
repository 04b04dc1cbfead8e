package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// MySQL is a MySQL or a MariaDB server with its binlog on. Its administrator is root over TCP. User can read every table and
// replicate.
type MySQL struct {
	*Server
	admin *mysql.Config
}

// mysqlPrivileges is what change data capture needs, on both products.
const mysqlPrivileges = "SELECT, REPLICATION SLAVE, REPLICATION CLIENT"

// StartMySQL starts a MySQL with GTIDs. It makes its own certificates, so TLS is always on; its accounts use
// caching_sha2_password.
func StartMySQL(ctx context.Context, opts Options) (*MySQL, error) {
	installed, err := binaries.MySQL()
	if err != nil {
		return nil, err
	}
	s, err := newMySQL("MySQL", opts)
	if err != nil {
		return nil, err
	}
	data := s.path("data")
	base := append(append(append([]string{}, installed.Command...), "--no-defaults"), installed.Args...)
	base = append(base, "--datadir="+data, "--secure-file-priv=NULL", "--mysqlx=OFF", "--log-error-verbosity=2")
	base = append(base, runAsRoot()...)
	args := append(append([]string{}, base...), s.serverArgs(opts)...)
	args = append(args, "--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	args = append(args, opts.Args...)
	s.command = func() command { return command{args: args} }
	s.tlsCA = filepath.Join(data, "ca.pem")
	if _, err := os.Stat(filepath.Join(data, "auto.cnf")); err != nil {
		if err := s.initMySQL(ctx, base, data); err != nil {
			return nil, s.abandon(err)
		}
	}
	if err := s.Start(ctx); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// initMySQL creates the data directory. What runs here is not in the binlog.
func (s *MySQL) initMySQL(ctx context.Context, base []string, data string) error {
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	initFile := s.path("init.sql")
	statements := []string{
		"ALTER USER root@localhost IDENTIFIED BY '" + Password + "'",
		"CREATE USER root@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY '" + Password + "'",
		"GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
		"CREATE USER " + User + "@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY '" + Password + "'",
		"GRANT " + mysqlPrivileges + " ON *.* TO " + User + "@'127.0.0.1'",
	}
	if err := os.WriteFile(initFile, []byte(strings.Join(statements, ";\n")+";\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(initFile)
	args := append(append([]string{}, base...), "--initialize-insecure", "--init-file="+initFile)
	return runTool(ctx, "creating the MySQL data directory", command{args: args})
}

// newMySQL is what MySQL and MariaDB have in common.
func newMySQL(name string, opts Options) (*MySQL, error) {
	server, err := newServer(name, opts)
	if err != nil {
		return nil, err
	}
	s := &MySQL{Server: server, admin: mysql.NewConfig()}
	s.admin.Net, s.admin.Addr = "tcp", s.addr
	s.admin.User, s.admin.Passwd = "root", Password
	s.admin.Logger = quietLogger{} // the driver would print its failed attempts
	s.stop = syscall.SIGTERM
	s.probe = func(ctx context.Context) error { return s.exec(ctx, "SELECT 1") }
	// A folder of its own: a server that starts deletes the temporary tables that it finds, also those of another one.
	if err := os.MkdirAll(s.path("tmp"), 0o700); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// serverArgs are the arguments both products take.
func (s *MySQL) serverArgs(opts Options) []string {
	args := []string{
		"--port=" + strconv.Itoa(s.port), "--bind-address=127.0.0.1", "--socket=" + s.path("socket"),
		"--pid-file=" + s.path("pid"), "--skip-name-resolve", "--server-id=1", "--log-bin=bin",
		"--innodb-buffer-pool-size=128M", "--tmpdir=" + s.path("tmp"),
	}
	if opts.NoSync {
		args = append(args, "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2")
	}
	return args
}

// ConnectMySQL describes a MySQL that somebody else runs, by an administrator's DSN in the form of go-sql-driver:
// user:password@tcp(host:port)/. User is created there when it is missing.
func ConnectMySQL(ctx context.Context, dsn string) (*MySQL, error) {
	return connectMySQL(ctx, "MySQL", dsn)
}

func connectMySQL(ctx context.Context, name, dsn string) (*MySQL, error) {
	admin, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the DSN of %s: %w", name, err)
	}
	admin.Logger = quietLogger{}
	s := &MySQL{Server: externalServer(name, admin.Addr), admin: admin}
	if err := s.exec(ctx, "SET SESSION sql_log_bin=0", "CREATE USER IF NOT EXISTS "+User+"@'%' IDENTIFIED BY '"+Password+"'",
		"GRANT "+mysqlPrivileges+" ON *.* TO "+User+"@'%'"); err != nil {
		return nil, fmt.Errorf("creating the user %s on %s at %s: %w", User, name, admin.Addr, err)
	}
	return s, nil
}

// IsMariaDB tells the products apart.
func (s *MySQL) IsMariaDB() bool { return s.name == "MariaDB" }

// DSN is the administrator's, in the form of go-sql-driver; db may be empty.
func (s *MySQL) DSN(db string) string { return s.dsn(db, s.admin.User, s.admin.Passwd) }

// UserDSN is User's.
func (s *MySQL) UserDSN(db string) string { return s.dsn(db, User, Password) }

func (s *MySQL) dsn(db, user, password string) string {
	config := s.admin.Clone()
	config.DBName, config.User, config.Passwd = db, user, password
	config.Logger = nil
	return config.FormatDSN()
}

// exec runs statements on one connection of the administrator.
func (s *MySQL) exec(ctx context.Context, statements ...string) (err error) {
	connector, err := mysql.NewConnector(s.admin)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// runAsRoot is what mysqld and mariadbd want to hear before they run as root.
func runAsRoot() []string {
	if os.Geteuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// quietLogger discards what the driver logs.
type quietLogger struct{}

func (quietLogger) Print(...any) {}
