package checkpoint

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/internal/sqlitefile"
)

// SQLite is the embedded store: one file, one row a key, that an operator can open with the sqlite3 shell.
//
// Beside it there are the files that SQLite makes (-wal, -shm), the locks (.lock), and the list of the saved keys (.keys), which tells a store
// that has lost its content from a new one. Only the owner can read these files.
//
// It locks each key it touches until Close, so that two processes (or two sources of one process) never save under the
// same key, and so that a reset is refused while the source runs. The locks are the kernel's: they end with the process.
type SQLite struct {
	db    *sql.DB
	path  string
	mu    sync.Mutex
	locks *keyLocks           // guarded by mu
	held  map[string]struct{} // keys that are locked; guarded by mu
	saved map[string]struct{} // keys that are marked as saved; guarded by mu
	marks marks
}

// fileMode is the mode of the files of a store: only the owner may read positions and the shapes of tables.
const fileMode = 0o600

// ErrLocked means that another process, or another source of this one, uses the key.
var ErrLocked = errors.New("checkpoint key is in use")

const sqliteTable = `CREATE TABLE IF NOT EXISTS checkpoints (
	key        TEXT PRIMARY KEY,
	value      TEXT NOT NULL,
	updated_at TEXT NOT NULL
) WITHOUT ROWID`

// OpenSQLite opens the store in the file at path and makes the file when it is missing. Its folder must exist.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	if dir := filepath.Dir(path); dir != "." {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("opening checkpoint store %s: folder %s: %w", path, dir, errors.Unwrap(err))
		}
	}
	if err := private(path); err != nil {
		return nil, fmt.Errorf("opening checkpoint store %s: %w", path, err)
	}
	s, err := openSQLite(ctx, path, "rwc")
	if err != nil {
		return nil, err
	}
	if _, err := s.db.ExecContext(ctx, sqliteTable); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("opening checkpoint store %s: %w", path, err)
	}
	return s, nil
}

// private makes the file when it is missing, and keeps others from it. SQLite gives the files that it makes beside it the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if errors.Is(err, fs.ErrPermission) {
		return nil // SQLite says what it cannot do
	}
	if err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock", path + keysSuffix} {
		if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o007 != 0 {
			_ = os.Chmod(name, info.Mode().Perm()&^0o007) // somebody else's file, which is theirs to protect
		}
	}
	return f.Close()
}

// OpenExistingSQLite opens the store in the file at path. A missing file is an error that wraps fs.ErrNotExist.
func OpenExistingSQLite(ctx context.Context, path string) (*SQLite, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening checkpoint store: %w", err)
	}
	return openSQLite(ctx, path, "rw")
}

func openSQLite(ctx context.Context, path, mode string) (*SQLite, error) {
	db, err := sqlitefile.Open(ctx, path, mode)
	if err != nil {
		return nil, fmt.Errorf("opening checkpoint store %s: %w", path, err)
	}
	return &SQLite{db: db, path: path, held: map[string]struct{}{}, saved: map[string]struct{}{}, marks: marks{path + keysSuffix}}, nil
}

// keysSuffix ends the name of the file of marks.
const keysSuffix = ".keys"

// Get implements Store. It locks the key. If a key was saved and is missing now, the error wraps ErrLost.
func (s *SQLite) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.lock(key); err != nil {
		return nil, err
	}
	value, err := s.read(ctx, key)
	switch {
	case err == nil:
		return value, s.mark(key) // a store of an earlier version has no marks
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	was, markErr := s.marks.has(key)
	if markErr != nil {
		return nil, fmt.Errorf("checkpoint store %s: %w", s.path, markErr)
	}
	if was {
		return nil, fmt.Errorf("checkpoint store %s: %w: %w under key %q: the file was emptied, replaced, or separated from its -wal file; restore it from a "+
			"backup, or, to start as if for the first time, `deltaforge checkpoint reset --path %s %s`", s.path, ErrBroken, ErrLost, key, s.path, key)
	}
	return nil, err
}

// mark notes that a key is saved.
func (s *SQLite) mark(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.saved[key]; ok {
		return nil
	}
	if err := s.marks.add(markSaved, key); err != nil {
		return fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	s.saved[key] = struct{}{}
	return nil
}

// unmark notes that a key is deleted, and reports whether it was marked.
func (s *SQLite) unmark(key string) (was bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.saved, key)
	if was, err = s.marks.has(key); err == nil {
		err = s.marks.add(markDeleted, key)
	}
	if err != nil {
		return was, fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	return was, nil
}

func (s *SQLite) read(ctx context.Context, key string) ([]byte, error) {
	var value string
	err := s.db.QueryRowContext(ctx, `SELECT value FROM checkpoints WHERE key = ?`, key).Scan(&value)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, s.notFound(ctx)
	case err != nil && noTable(err):
		// Opened with OpenExistingSQLite: an SQLite file, but not one of ours.
		return nil, fmt.Errorf("%s is not a checkpoint store: %w", s.path, err)
	case err != nil:
		return nil, fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	return []byte(value), nil
}

// notFound returns ErrNotFound, unless the file is damaged: then the key may have been there.
func (s *SQLite) notFound(ctx context.Context) error {
	var found string
	if err := s.db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found); err != nil {
		return fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	if found != "ok" {
		return fmt.Errorf("checkpoint store %s: %w: the file is damaged, restore it from a backup: %s", s.path, ErrBroken, found)
	}
	return ErrNotFound
}

// Set implements Store. It locks the key, and returns when the value is on disk.
func (s *SQLite) Set(ctx context.Context, key string, value []byte) error {
	return s.write(ctx, key, value, `INSERT INTO checkpoints (key, value, updated_at) VALUES (?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at`)
}

// Add is Set for a key that must not exist; it reports false when it does.
func (s *SQLite) Add(ctx context.Context, key string, value []byte) (added bool, err error) {
	if err := s.lock(key); err != nil {
		return false, err
	}
	if _, err := s.read(ctx, key); err == nil {
		return false, nil
	} else if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	return true, s.write(ctx, key, value, `INSERT INTO checkpoints (key, value, updated_at) VALUES (?, ?, ?)`)
}

func (s *SQLite) write(ctx context.Context, key string, value []byte, stmt string) error {
	if err := s.lock(key); err != nil {
		return err
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	if _, err := s.db.ExecContext(ctx, stmt, key, string(value), now); err != nil {
		return fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	return s.mark(key) // not before: a mark without a record would be a loss
}

// Delete removes a key. It returns ErrLocked while a source uses the key, and ErrNotFound if the key is neither there nor lost.
func (s *SQLite) Delete(ctx context.Context, key string) error {
	if err := s.lock(key); err != nil {
		return err
	}
	was, err := s.unmark(key)
	if err != nil {
		return err
	}
	res, err := s.db.ExecContext(ctx, `DELETE FROM checkpoints WHERE key = ?`, key)
	if err != nil && !(was && noTable(err)) {
		return fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	if res == nil {
		return nil
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 && !was {
		return ErrNotFound
	}
	return nil
}

func noTable(err error) bool { return strings.Contains(err.Error(), "no such table") }

// Keys returns all keys in order. It locks none.
func (s *SQLite) Keys(ctx context.Context) (keys []string, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT key FROM checkpoints ORDER BY key`)
	if err != nil {
		return nil, fmt.Errorf("checkpoint store %s: %w", s.path, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var k string
		if err := rows.Scan(&k); err != nil {
			return nil, fmt.Errorf("checkpoint store %s: %w", s.path, err)
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// Peek reads a key without locking it. It can be used while a source runs.
func (s *SQLite) Peek(ctx context.Context, key string) ([]byte, error) { return s.read(ctx, key) }

// InUse reports whether a source uses the key.
func (s *SQLite) InUse(key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[key]; ok {
		return true, nil
	}
	l, err := s.openLocks()
	if err != nil {
		return false, err
	}
	return l.isHeld(key)
}

// Close implements io.Closer. It gives the locks back.
func (s *SQLite) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.locks != nil {
		err = s.locks.close()
		s.locks = nil
	}
	return errors.Join(s.db.Close(), err)
}

func (s *SQLite) lock(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[key]; ok {
		return nil
	}
	l, err := s.openLocks()
	if err != nil {
		return err
	}
	if err := l.acquire(key); err != nil {
		return fmt.Errorf("key %q in checkpoint store %s: %w", key, s.path, err)
	}
	s.held[key] = struct{}{}
	return nil
}

// openLocks opens the lock file beside the store; s.mu is held.
func (s *SQLite) openLocks() (*keyLocks, error) {
	if s.locks == nil {
		l, err := openKeyLocks(s.path + ".lock")
		if err != nil {
			return nil, fmt.Errorf("checkpoint store %s: %w", s.path, err)
		}
		s.locks = l
	}
	return s.locks, nil
}
