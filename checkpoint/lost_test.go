package checkpoint

import (
	"context"
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestStoreThatLostItsContent: whatever was done to the file, it is not taken for a new one.
func TestStoreThatLostItsContent(t *testing.T) {
	tok := Token{Commit: Text("p")}
	for name, c := range map[string]struct {
		lose func(t *testing.T, path string)
		new  bool // it cannot be told from a new one
	}{
		"an empty file":    {lose: func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) }},
		"a file of a byte": {lose: func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte{0}, 0o600)) }},
		"no file":          {lose: func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }},
		"a dropped table":  {lose: func(t *testing.T, path string) { onFile(t, path, "DROP TABLE checkpoints") }},
		"a deleted row":    {lose: func(t *testing.T, path string) { onFile(t, path, "DELETE FROM checkpoints") }},
		"another store": {lose: func(t *testing.T, path string) {
			other := filepath.Join(testenv.TempDir(t), "other.db")
			s, err := OpenSQLite(t.Context(), other)
			require.NoError(t, err)
			require.NoError(t, Save(t.Context(), s, "elsewhere", "mysql", tok, time.Now()))
			require.NoError(t, s.Close())
			data, err := os.ReadFile(other)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, data, 0o600))
		}},
		"all files": {new: true, lose: func(t *testing.T, path string) {
			files, err := filepath.Glob(path + "*")
			require.NoError(t, err)
			for _, f := range files {
				require.NoError(t, os.Remove(f))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(testenv.TempDir(t), "c.db")
			s, err := OpenSQLite(t.Context(), path)
			require.NoError(t, err)
			require.NoError(t, Save(t.Context(), s, "shop", "mysql", tok, time.Now()))
			require.NoError(t, s.Close())
			c.lose(t, path)
			s = open(t, path)
			_, err = Load(t.Context(), s, "shop", "mysql")
			if c.new {
				require.ErrorIs(t, err, ErrNotFound)
				return
			}
			require.ErrorIs(t, err, ErrBroken)
			require.ErrorIs(t, err, ErrLost)
			require.NotErrorIs(t, err, ErrNotFound)
			require.ErrorContains(t, err, "`deltaforge checkpoint reset --path "+path+" shop`")
			_, err = Load(t.Context(), s, "never", "mysql")
			require.ErrorIs(t, err, ErrNotFound, "other keys are new")

			require.NoError(t, Forget(t.Context(), s, "shop"), "the way out")
			_, err = Load(t.Context(), s, "shop", "mysql")
			require.ErrorIs(t, err, ErrNotFound)
			require.NoError(t, Save(t.Context(), s, "shop", "mysql", tok, time.Now()))
			_, err = Load(t.Context(), s, "shop", "mysql")
			require.NoError(t, err)
		})
	}
}

// TestLogOfStoreLost: what is in the -wal file only goes with it, when the process is killed and the file is not there any more.
func TestLogOfStoreLost(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "c.db")
	s := open(t, path) // not closed: a close would empty the log into the file
	require.NoError(t, Save(t.Context(), s, "shop", "mysql", Token{Commit: Text("p")}, time.Now()))
	copied := filepath.Join(testenv.TempDir(t), "c.db")
	for _, suffix := range []string{"", keysSuffix} {
		data, err := os.ReadFile(path + suffix)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(copied+suffix, data, 0o600))
	}
	_, err := Load(t.Context(), open(t, copied), "shop", "mysql")
	require.ErrorIs(t, err, ErrLost)
}

// TestStoreWithoutMarks: one of an earlier version gets them when it is used.
func TestStoreWithoutMarks(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "c.db")
	s, err := OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, Save(t.Context(), s, "shop", "mysql", Token{Commit: Text("p")}, time.Now()))
	require.NoError(t, s.Close())
	require.NoError(t, os.Remove(path+keysSuffix))
	for range 2 {
		s, err = OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		_, err = Load(t.Context(), s, "shop", "mysql")
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	data, err := os.ReadFile(path + keysSuffix)
	require.NoError(t, err)
	assert.Equal(t, "\n+\"shop\"\n", string(data))
}

// TestFilesOfAStoreAreNobodyElses: new ones are the owner's, old ones are taken from others.
func TestFilesOfAStoreAreNobodyElses(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "c.db")
	modes := func() map[string]fs.FileMode {
		all := map[string]fs.FileMode{}
		files, err := filepath.Glob(path + "*")
		require.NoError(t, err)
		for _, f := range files {
			info, err := os.Stat(f)
			require.NoError(t, err)
			all[filepath.Base(f)] = info.Mode().Perm()
		}
		return all
	}
	s, err := OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Set(t.Context(), "k", []byte("v")))
	want := map[string]fs.FileMode{"c.db": 0o600, "c.db-wal": 0o600, "c.db-shm": 0o600, "c.db.lock": 0o600, "c.db.keys": 0o600}
	assert.Equal(t, want, modes())
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, os.Chmod(path+keysSuffix, 0o666))
	s, err = OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	assert.Equal(t, map[string]fs.FileMode{"c.db": 0o640, "c.db.lock": 0o600, "c.db.keys": 0o660}, modes(), "the group may be there on purpose")
}

// TestSynchronous: a save that has returned survives a power cut, which nobody can test; SQLite's own word has to do.
func TestSynchronous(t *testing.T) {
	s := open(t, filepath.Join(testenv.TempDir(t), "c.db"))
	var synchronous int
	var journal string
	require.NoError(t, s.db.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous))
	require.NoError(t, s.db.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&journal))
	assert.Equal(t, 2, synchronous, "FULL")
	assert.Equal(t, "wal", journal)
}

// onFile runs a statement on the file of a store that nobody uses.
func onFile(t *testing.T, path, stmt string) {
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(context.WithoutCancel(t.Context()), stmt)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
