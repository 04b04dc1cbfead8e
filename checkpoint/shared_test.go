package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// sharedStores are the configurations of stores in servers, each empty.
func sharedStores(t *testing.T) map[string]func(t *testing.T) string {
	t.Helper()
	return map[string]func(t *testing.T) string{
		"postgres": func(t *testing.T) string {
			return fmt.Sprintf("postgres: {dsn: %q, table: %s}", testenv.Postgres(t).DSN(testenv.Postgres(t).Database(t)), testenv.Name(t))
		},
		"mysql": func(t *testing.T) string {
			return fmt.Sprintf("mysql: {dsn: %q}", testenv.MySQL(t).DSN(testenv.MySQL(t).Database(t)))
		},
		"mariadb": func(t *testing.T) string {
			return fmt.Sprintf("mysql: {dsn: %q}", testenv.MariaDB(t).DSN(testenv.MariaDB(t).Database(t)))
		},
		"redis": func(t *testing.T) string {
			return fmt.Sprintf("redis: {url: 'redis://%s', prefix: 'p[*]%s:'}", testenv.Redis(t).Addr(), testenv.Name(t))
		},
		"kafka": func(t *testing.T) string {
			return fmt.Sprintf("kafka: {seed_brokers: [%s], topic: %s}", testenv.Kafka(t).Addr(), testenv.Name(t))
		},
	}
}

func openShared(t *testing.T, config string) *Shared {
	t.Helper()
	p, err := cacheSpec().ParseYAML(config, service.GlobalEnvironment())
	require.NoError(t, err)
	open, err := parseStore(p)
	require.NoError(t, err)
	s, err := open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s.(*Shared)
}

// Each store in a server keeps what it is given, byte by byte, and has one owner of a key: the last one to come.
func TestSharedStores(t *testing.T) {
	for name, config := range sharedStores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			conf := config(t)
			first := openShared(t, conf)
			keys, err := first.Keys(ctx)
			require.NoError(t, err)
			assert.Empty(t, keys)
			_, err = first.Get(ctx, "shop")
			require.ErrorIs(t, err, ErrNotFound)
			keys, err = first.Keys(ctx)
			require.NoError(t, err)
			assert.Empty(t, keys, "a key that was only asked for")

			large := []byte(strings.Repeat("schema history äöü \\ ' \" ${x} ", 100_000)) // 3 MB
			if name == "kafka" {
				large = large[:900_000] // what a topic takes by default
			}
			require.NoError(t, first.Set(ctx, "shop", []byte(`{"position":"1"}`)))
			require.NoError(t, first.Set(ctx, "shop", []byte(`{"position":"2"}`)))
			require.NoError(t, first.Set(ctx, SchemaKey("shop"), large))
			require.NoError(t, first.Set(ctx, "Shop", []byte("another key")))
			keys, err = first.Keys(ctx)
			require.NoError(t, err)
			assert.Equal(t, []string{"Shop", "shop", SchemaKey("shop")}, keys)

			second := openShared(t, conf)
			v, err := second.Peek(ctx, "shop")
			require.NoError(t, err)
			assert.JSONEq(t, `{"position":"2"}`, string(v))
			require.NoError(t, first.Set(ctx, "shop", []byte(`{"position":"3"}`)), "who only looks takes nothing over")

			v, err = second.Get(ctx, "shop")
			require.NoError(t, err)
			assert.JSONEq(t, `{"position":"3"}`, string(v))
			require.NoError(t, second.Set(ctx, "shop", []byte(`{"position":"3a"}`)))
			err = first.Set(ctx, "shop", []byte(`{"position":"4"}`))
			require.ErrorIs(t, err, ErrFenced)
			require.ErrorContains(t, err, `key "shop"`)
			require.ErrorIs(t, first.Set(ctx, "shop", []byte(`{"position":"4"}`)), ErrFenced, "for good")
			require.NoError(t, second.Set(ctx, "shop", []byte(`{"position":"5"}`)), "the first one has not disturbed the second")
			require.NoError(t, first.Set(ctx, "Shop", []byte("still mine")), "a key of its own")
			v, err = second.Get(ctx, SchemaKey("shop"))
			require.NoError(t, err)
			assert.Equal(t, large, v)

			added, err := second.Add(ctx, "shop", []byte("6"))
			require.NoError(t, err)
			assert.False(t, added)
			require.NoError(t, second.Delete(ctx, "shop"))
			require.ErrorIs(t, second.Delete(ctx, "shop"), ErrNotFound)
			added, err = second.Add(ctx, "shop", []byte("7"))
			require.NoError(t, err)
			assert.True(t, added)

			third := openShared(t, conf)
			v, err = third.Get(ctx, "shop")
			require.NoError(t, err)
			assert.Equal(t, "7", string(v))
			require.NoError(t, third.Set(ctx, "shop", v))
			require.ErrorIs(t, second.Set(ctx, "shop", []byte("8")), ErrFenced)
		})
	}
}

// Many instances come at the same time: one of them has the key, and what is saved is what it was told.
func TestSharedStoresHaveOneOwner(t *testing.T) {
	for name, config := range sharedStores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := config(t)
			const instances = 3
			opened, came := make([]*Shared, instances), make(chan error, instances)
			for i := range opened {
				opened[i] = openShared(t, conf)
				go func() { came <- setAgain(context.WithoutCancel(t.Context()), opened[i], []byte("first")) }() // ends with its answer
			}
			for range instances {
				if err := <-came; err != nil {
					require.ErrorIs(t, err, ErrFenced)
				}
			}
			var saved []string
			for i, s := range opened {
				value := fmt.Sprint(i)
				if err := setAgain(t.Context(), s, []byte(value)); err == nil {
					saved = append(saved, value)
				} else {
					require.ErrorIs(t, err, ErrFenced)
				}
			}
			require.Len(t, saved, 1)
			v, err := openShared(t, conf).Peek(t.Context(), "shop")
			require.NoError(t, err)
			assert.Equal(t, saved[0], string(v))
		})
	}
}

// setAgain saves until that is done or refused for good, as a source does.
func setAgain(ctx context.Context, s *Shared, value []byte) (err error) {
	for range 20 {
		if err = s.Set(ctx, "shop", value); err == nil || errors.Is(err, ErrFenced) {
			return err
		}
	}
	return err
}

// What is wrong with a configuration is said with its field, and never with a password.
func TestStoreConfig(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"{path: a.db, redis: {url: redis://h}}", "want one of path, postgres, mysql, redis and kafka, got 2 of them"},
		{"path: ''", "field path: want a file name"},
		{"postgres: {dsn: 'postgres://u:se%cret@h/d'}", "field postgres: field dsn: it is not postgres://"},
		{"postgres: {dsn: ''}", "field postgres: field dsn: it is not postgres://"},
		{"postgres: {dsn: 'postgres://u:p@h/d', table: 'a; DROP TABLE b'}", "field table: "},
		{"mysql: {dsn: 'u:secret@tcp(h)'}", "field mysql: field dsn: it is not user:password@tcp(host:port)/database"},
		{"mysql: {dsn: 'u:secret@tcp(h)/'}", "it names no database"},
		{"redis: {url: 'redis://u:se%cret@h'}", "field redis: field url: it is not redis://"},
		{"kafka: {seed_brokers: [], topic: t}", "field kafka: field seed_brokers: at least one host:port is needed"},
		{"kafka: {seed_brokers: [h], topic: t, replication_factor: -2}", "field kafka: field replication_factor: -2 is not between"},
	} {
		p, err := cacheSpec().ParseYAML(c.yaml, service.GlobalEnvironment())
		require.NoError(t, err, c.yaml)
		_, err = parseStore(p)
		require.ErrorContains(t, err, c.want, c.yaml)
		assert.NotContains(t, err.Error(), "cret", c.yaml)
	}
	for yaml, kind := range map[string]string{"{}": "*checkpoint.SQLite", "postgres: {dsn: 'postgres://u:p@h/d'}": "*checkpoint.Shared"} {
		p, err := cacheSpec().ParseYAML(yaml, service.GlobalEnvironment())
		require.NoError(t, err)
		open, err := parseStore(p)
		require.NoError(t, err)
		t.Chdir(testenv.TempDir(t))
		s, err := open(t.Context())
		require.NoError(t, err)
		assert.Equal(t, kind, fmt.Sprintf("%T", s))
		require.NoError(t, s.Close())
	}
}
