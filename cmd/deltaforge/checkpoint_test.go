package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/checkpoint"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func runCheckpoint(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	app := &cli.App{Name: "deltaforge", Writer: &out, ErrWriter: &out, Commands: []*cli.Command{checkpointCommand()}}
	app.ExitErrHandler = func(*cli.Context, error) {}
	err := app.RunContext(t.Context(), append([]string{"deltaforge", "checkpoint"}, args...))
	return out.String(), err
}

func TestCheckpointCommand(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "positions.db")
	_, err := runCheckpoint(t, "list", "--path", path)
	require.ErrorContains(t, err, "no such file", "a store that nobody made is not made by looking at it")
	assert.NoFileExists(t, path)

	ctx := context.WithoutCancel(t.Context())
	store, err := checkpoint.OpenSQLite(ctx, path)
	require.NoError(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	token := checkpoint.Token{Source: "7301/1", Commit: checkpoint.Text("0/16B3748"), Sent: 7}
	require.NoError(t, checkpoint.Save(ctx, store, "orders", "postgresql", token, at))
	require.NoError(t, store.Set(ctx, "broken", []byte("not a record")))

	out, err := runCheckpoint(t, "list", "--path", path)
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^orders\s+postgresql\s+0/16B3748\+7\s+2026-01-02T03:04:05Z\s+true$`, out)
	assert.Regexp(t, `(?m)^broken\s+\?\s+broken checkpoint: .*true$`, out)

	out, err = runCheckpoint(t, "show", "--path", path, "orders")
	require.NoError(t, err)
	assert.JSONEq(t, `{"version":2,"kind":"postgresql","source":"7301/1","position":"0/16B3748","sent":7,"saved_at":"2026-01-02T03:04:05Z",
		"sum":"3f92f3fd"}`, out)

	_, err = runCheckpoint(t, "reset", "--path", path, "orders")
	require.ErrorIs(t, err, checkpoint.ErrLocked, "a running source keeps its position")
	require.NoError(t, store.Close()) // the source stops

	for _, args := range [][]string{{"show", "--path", path, "nobody"}, {"reset", "--path", path, "nobody"}} {
		_, err = runCheckpoint(t, args...)
		require.ErrorIs(t, err, checkpoint.ErrNotFound)
		require.ErrorContains(t, err, `"nobody"`)
	}
	_, err = runCheckpoint(t, "show", "--path", path)
	require.ErrorContains(t, err, "want one KEY")
	_, err = runCheckpoint(t, "show", "--path", path, "broken")
	require.ErrorIs(t, err, checkpoint.ErrBroken)
	require.ErrorContains(t, err, "not a record", "what is there is shown")

	out, err = runCheckpoint(t, "reset", "--path", path, "orders")
	require.NoError(t, err)
	assert.Contains(t, out, "0/16B3748", "what is forgotten is shown once more")
	out, err = runCheckpoint(t, "list", "--path", path)
	require.NoError(t, err)
	assert.NotContains(t, out, "orders")
}

func TestResetSchema(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "positions.db")
	ctx := context.WithoutCancel(t.Context())
	fill := func() *checkpoint.SQLite {
		store, err := checkpoint.OpenSQLite(ctx, path)
		require.NoError(t, err)
		token := checkpoint.Token{Commit: checkpoint.Text("bin.000001:4")}
		require.NoError(t, checkpoint.Save(ctx, store, "shop", "mysql", token, time.Now()))
		require.NoError(t, store.Set(ctx, checkpoint.SchemaKey("shop"), []byte("history")))
		return store
	}
	store := fill()
	out, err := runCheckpoint(t, "list", "--path", path)
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^shop.schema_history\s+schema history\s+7 bytes\s+true$`, out)
	out, err = runCheckpoint(t, "show", "--path", path, "shop.schema_history")
	require.NoError(t, err)
	assert.Equal(t, "history\n", out)
	_, err = runCheckpoint(t, "reset-schema", "--path", path, "shop")
	require.ErrorIs(t, err, checkpoint.ErrLocked, "a running source keeps its history")
	require.NoError(t, store.Close())

	_, err = runCheckpoint(t, "reset-schema", "--path", path, "shop")
	require.NoError(t, err)
	out, err = runCheckpoint(t, "list", "--path", path)
	require.NoError(t, err)
	assert.Contains(t, out, "bin.000001:4", "the position stays")
	assert.NotContains(t, out, "schema history")
	_, err = runCheckpoint(t, "reset-schema", "--path", path, "shop")
	require.ErrorIs(t, err, checkpoint.ErrNotFound)

	require.NoError(t, fill().Close())
	_, err = runCheckpoint(t, "reset", "--path", path, "shop")
	require.NoError(t, err)
	out, err = runCheckpoint(t, "list", "--path", path)
	require.NoError(t, err)
	assert.NotContains(t, out, "shop", "a history goes with its position")
}

// TestResetIsTheWayOut of a record that is damaged, and of a store that has lost its content.
func TestResetIsTheWayOut(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	for name, lose := range map[string]func(path string){
		"damaged": func(path string) {
			store, err := checkpoint.OpenSQLite(ctx, path)
			require.NoError(t, err)
			require.NoError(t, store.Set(ctx, "shop", []byte("not a record")))
			require.NoError(t, store.Close())
		},
		"emptied": func(path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(testenv.TempDir(t), "positions.db")
			load := func() error {
				store, err := checkpoint.OpenSQLite(ctx, path)
				require.NoError(t, err)
				_, err = checkpoint.Load(ctx, store, "shop", "mysql")
				require.NoError(t, store.Close())
				return err
			}
			store, err := checkpoint.OpenSQLite(ctx, path)
			require.NoError(t, err)
			require.NoError(t, checkpoint.Save(ctx, store, "shop", "mysql", checkpoint.Token{Commit: checkpoint.Text("p")}, time.Now()))
			require.NoError(t, store.Close())
			lose(path)
			require.ErrorIs(t, load(), checkpoint.ErrBroken)
			_, err = runCheckpoint(t, "reset", "--path", path, "shop")
			require.NoError(t, err)
			require.ErrorIs(t, load(), checkpoint.ErrNotFound)
		})
	}
}
