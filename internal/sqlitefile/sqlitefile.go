// Package sqlitefile opens the files that we keep things in.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Mode is the mode of the files: only the owner may read what is in them.
const Mode = 0o600

// Open opens the database in the file at path. Mode is what SQLite does with a missing file: rw is an error, rwc makes it. There is one connection, what is
// committed is on the disk, and a transaction has the right to write from its beginning.
func Open(ctx context.Context, path, mode string) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // one writer
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Make opens a private file at path, which is made when it is missing and create is set, with a schema in it. Errors do not name the file.
func Make(ctx context.Context, path string, create bool, schema string) (*sql.DB, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, Mode) // SQLite would make it for everybody
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := Open(ctx, path, "rw")
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// InTx runs do in a transaction, and commits it unless do returns an error.
func InTx(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // err says what there is to say
		return err
	}
	return tx.Commit()
}
