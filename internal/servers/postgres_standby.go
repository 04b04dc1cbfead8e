package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// copyOf makes the data directory of a standby, as pg_basebackup does, which is not among the programs that are fetched. The log that comes after the copy is
// streamed.
func (s *Postgres) copyOf(ctx context.Context, data string, cred *syscall.Credential, of *Postgres) error {
	conn, err := pgx.Connect(ctx, of.DSN(""))
	if err != nil {
		return fmt.Errorf("copying the PostgreSQL data directory: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('standby', true)"); err != nil {
		return fmt.Errorf("copying the PostgreSQL data directory: %w", err)
	}
	copied := copyData(data, of.path("data"))
	var label string
	if err := errors.Join(copied, conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label)); err != nil {
		return fmt.Errorf("copying the PostgreSQL data directory: %w", err)
	}
	auto, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(auto, "primary_conninfo = '%s'\n", of.DSN(""))
	if err := errors.Join(err, auto.Close(), os.WriteFile(filepath.Join(data, "backup_label"), []byte(label), 0o600),
		os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600)); err != nil {
		return err
	}
	return chownAll(s.dir, cred)
}

// copyData copies the data directory of a running server, in the middle of a backup.
func copyData(to, from string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		switch {
		case errors.Is(err, os.ErrNotExist): // it was a temporary one
			return nil
		case err != nil || relErr != nil:
			return errors.Join(err, relErr)
		case filepath.Dir(rel) == "pg_replslot": // a standby has slots of its own
			return filepath.SkipDir
		case d.IsDir():
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		case strings.HasPrefix(rel, "postmaster."), !d.Type().IsRegular():
			return nil
		}
		return copyFile(filepath.Join(to, rel), path)
	})
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
