package servers

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// StartMariaDB starts a MariaDB with row binlog and strict GTIDs.
func StartMariaDB(ctx context.Context, opts Options) (*MySQL, error) {
	mariadbd, installDB, err := binaries.MariaDB()
	if err != nil {
		return nil, err
	}
	s, err := newMySQL("MariaDB", opts)
	if err != nil {
		return nil, err
	}
	data := s.path("data")
	base := append([]string{mariadbd, "--no-defaults", "--datadir=" + data}, runAsRoot()...)
	args := append(append([]string{}, base...), s.serverArgs(opts)...)
	args = append(args, "--binlog-format=ROW", "--gtid-strict-mode=ON")
	if opts.TLS {
		cert, err := s.writeCertificate()
		if err != nil {
			return nil, s.abandon(err)
		}
		args = append(args, "--ssl-cert="+cert.cert, "--ssl-key="+cert.key)
	}
	args = append(args, opts.Args...)
	s.command = func() command { return command{args: args} }
	if _, err := os.Stat(filepath.Join(data, "initialised")); err != nil {
		if err := s.initMariaDB(ctx, installDB, data); err != nil {
			return nil, s.abandon(err)
		}
	}
	if err := s.Start(ctx); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// initMariaDB creates the data directory. What runs here is not in the binlog.
func (s *MySQL) initMariaDB(ctx context.Context, installDB, data string) error {
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	initFile := s.path("init.sql")
	statements := []string{
		"FLUSH PRIVILEGES",
		"ALTER USER root@localhost IDENTIFIED BY '" + Password + "'",
		"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '" + Password + "'",
		"GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
		"CREATE USER " + User + "@'127.0.0.1' IDENTIFIED BY '" + Password + "'",
		"GRANT " + mysqlPrivileges + " ON *.* TO " + User + "@'127.0.0.1'",
	}
	if err := os.WriteFile(initFile, []byte(strings.Join(statements, ";\n")+";\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(initFile)
	args := append([]string{
		installDB, "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db",
		"--skip-name-resolve", "--extra-file=" + initFile,
	}, runAsRoot()...)
	if err := runTool(ctx, "creating the MariaDB data directory", command{args: args}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(data, "initialised"), nil, 0o644)
}

// ConnectMariaDB describes a MariaDB that somebody else runs, see ConnectMySQL.
func ConnectMariaDB(ctx context.Context, dsn string) (*MySQL, error) {
	return connectMySQL(ctx, "MariaDB", dsn)
}
