package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestSQLiteFullDisk: on a full disk nothing is saved, what was saved is there, also for a new process, and everything works again once there is room.
func TestSQLiteFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root mounts the small disk")
	}
	dir := testenv.TempDir(t)
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	path := filepath.Join(dir, "c.db")
	s, err := OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Set(t.Context(), "k", []byte("first")))
	filler := filepath.Join(dir, "filler")
	fill(t, filler)

	large := []byte(strings.Repeat("x", 64<<10))
	err = s.Set(t.Context(), "k", large)
	require.ErrorContains(t, err, "disk is full")
	require.ErrorContains(t, err, path)
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "first", string(got))
	_ = s.Close() // it may have something to say about the disk

	_, err = OpenSQLite(t.Context(), filepath.Join(dir, "new.db"))
	require.Error(t, err, "a store cannot be made")
	s, err = OpenSQLite(t.Context(), path)
	if err == nil { // a process that starts now has the position, or an error: never nothing
		got, err = s.Get(t.Context(), "k")
		assert.NoError(t, s.Close())
	}
	require.NotErrorIs(t, err, ErrNotFound)
	if err == nil {
		assert.Equal(t, "first", string(got))
	}

	require.NoError(t, os.Remove(filler))
	s, err = OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Set(t.Context(), "k", large))
	got, err = s.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, large, got)
	require.NoError(t, s.Close())
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	page := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	require.True(t, errors.Is(err, syscall.ENOSPC), err)
	require.NoError(t, f.Close())
}
