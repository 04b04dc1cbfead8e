package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// The commands find the position where the source of a configuration keeps it: in its file, in a cache, in a server, in either sink.
func TestCheckpointsOfConfiguration(t *testing.T) {
	const source = "input:\n  deltaforge_mysql:\n    dsn: u:p@tcp(127.0.0.1:1)/\n    name: shop\n    checkpoint: {key: '${KEY}', %s}\n"
	t.Setenv("KEY", "orders")
	for name, config := range map[string]func(t *testing.T) string{
		"file": func(t *testing.T) string {
			path := filepath.Join(testenv.TempDir(t), "p.db")
			s, err := checkpoint.OpenSQLite(t.Context(), path)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			return fmt.Sprintf(source, "path: "+path) + "output: {drop: {}}\n"
		},
		"cache": func(t *testing.T) string {
			return fmt.Sprintf(source, "cache: positions") + "output: {drop: {}}\ncache_resources:\n- label: positions\n  file: {directory: " + testenv.TempDir(t) + "}\n"
		},
		"server": func(t *testing.T) string {
			return fmt.Sprintf(source, "cache: positions") + "output: {drop: {}}\ncache_resources:\n- label: positions\n  deltaforge_checkpoint:\n    redis: {url: redis://" +
				testenv.Redis(t).Addr() + ", prefix: " + testenv.Name(t) + "}\n"
		},
		"redis": func(t *testing.T) string {
			return fmt.Sprintf(source, "exactly_once: true") + "output:\n  deltaforge_redis: {url: redis://" + testenv.Redis(t).Addr() + ", prefix: " + testenv.Name(t) + ", exactly_once: true}\n"
		},
		"kafka": func(t *testing.T) string {
			return fmt.Sprintf(source, "exactly_once: true") + "output:\n  deltaforge_kafka: {seed_brokers: [" + testenv.Kafka(t).Addr() + "], topic_prefix: df, checkpoint_topic: " +
				testenv.Name(t) + ", exactly_once: true}\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(testenv.TempDir(t), "shop.yaml")
			require.NoError(t, os.WriteFile(file, []byte(config(t)), 0o600))
			run := func(args ...string) (string, error) {
				return runCheckpoint(t, append([]string{args[0], "--config", file}, args[1:]...)...)
			}
			out, err := run("list")
			require.NoError(t, err)
			assert.NotContains(t, out, "orders")
			_, err = run("reset", "orders")
			require.ErrorIs(t, err, checkpoint.ErrNotFound)
			require.NoError(t, withConfigured(t.Context(), file, nil, func(ctx context.Context, key string, k keeper) error {
				require.Equal(t, "orders", key)
				return fill(ctx, t, k, key)
			}))

			out, err = run("list")
			require.NoError(t, err)
			assert.Regexp(t, `(?m)^orders\s+mysql\s+bin.000001:4\+7\s+2026-01-02T03:04:05Z\s+(\?|false)$`, out)
			assert.Regexp(t, `(?m)^orders.schema_history\s+schema history\s+7 bytes`, out)
			out, err = run("show", "orders")
			require.NoError(t, err)
			assert.Contains(t, out, `"position": "bin.000001:4"`)
			out, err = run("show", "orders.schema_history")
			require.NoError(t, err)
			assert.Equal(t, "history\n", out)
			_, err = run("show", "other")
			require.ErrorContains(t, err, "have the keys orders")

			_, err = run("reset-schema", "orders")
			require.NoError(t, err)
			out, err = run("list")
			require.NoError(t, err)
			assert.NotContains(t, out, "schema history")
			_, err = run("reset-schema", "orders")
			require.ErrorIs(t, err, checkpoint.ErrNotFound)
			out, err = run("reset", "orders")
			require.NoError(t, err)
			assert.Contains(t, out, "bin.000001:4", "what is forgotten is shown once more")
			out, err = run("list")
			require.NoError(t, err)
			assert.NotContains(t, out, "orders")
		})
	}
	_, err := runCheckpoint(t, "list", "--config", "a.yaml", "--path", "b.db")
	require.ErrorContains(t, err, "give either --path or --config")
}

// fill gives a keeper a position with a schema history.
func fill(ctx context.Context, t *testing.T, k keeper, key string) error {
	t.Helper()
	r, err := checkpoint.NewRecord("mysql", checkpoint.Token{Commit: checkpoint.Text("bin.000001:4"), Sent: 7}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	require.NoError(t, err)
	r.History = true
	value, err := r.Marshal()
	require.NoError(t, err)
	history := exactly.Record{Key: checkpoint.SchemaKey(key), Value: []byte("history")}
	var store checkpoint.Store
	switch k := k.(type) {
	case *sinkKeeper:
		return k.sink.Save(ctx, func(ctx context.Context) (*exactly.Tx, error) {
			return k.ledger.Begin(ctx, func() (exactly.Prepared, error) {
				return exactly.Prepared{Records: []exactly.Record{history, {Key: key, Value: value}}, Saved: func() {}}, nil
			})
		})
	case storeKeeper:
		store = k.store
	case fileKeeper:
		store = k.store
	}
	if err := store.Set(ctx, history.Key, history.Value); err != nil {
		return err
	}
	return store.Set(ctx, key, value)
}
