package coordinator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// The three things that a cache can be for a source.
const (
	lasts    = ""                           // a restart finds everything
	inMemory = "the memory of this process" // said at the start
	useless  = "it keeps nothing"           // said at the start, and no position is ever confirmed
)

// stockCaches has every cache of the engine. In a configuration, DIR is a folder that outlives the process.
func stockCaches() map[string]struct {
	config string // of the cache "positions", and of others
	is     string
} {
	type cache = struct{ config, is string }
	return map[string]cache{
		"file":                  {"file: {directory: DIR}", lasts},
		"memory":                {"memory: {}", inMemory},
		"lru":                   {"lru: {}", inMemory},
		"ttlru":                 {"ttlru: {}", inMemory},
		"noop":                  {"noop: {}", useless},
		"deltaforge_checkpoint": {"deltaforge_checkpoint: {path: DIR/c.db}", lasts},
		"multilevel":            {"multilevel: [quick, lasting]\n---\nlabel: quick\nmemory: {}\n---\nlabel: lasting\nfile: {directory: DIR}", lasts},
		"multilevel in memory":  {"multilevel: [quick, small]\n---\nlabel: quick\nmemory: {}\n---\nlabel: small\nlru: {}", inMemory},
	}
}

func cacheResources(t *testing.T, config, dir string) (*service.Resources, func()) {
	b := service.NewResourceBuilder()
	for one := range strings.SplitSeq("label: positions\n"+strings.ReplaceAll(config, "DIR", dir), "\n---\n") {
		require.NoError(t, b.AddCacheYAML(one))
	}
	res, stop, err := b.Build()
	require.NoError(t, err)
	return res, func() { require.NoError(t, stop(context.Background())) }
}

func cachePositions(t *testing.T, res *service.Resources) *positions {
	p, err := openStore(t.Context(), Config{CheckpointCache: "positions", CheckpointKey: "shop"}, "fake", res)
	require.NoError(t, err)
	return p
}

// TestStockCaches: what each cache of the engine does with a position and with what belongs to it.
func TestStockCaches(t *testing.T) {
	all := stockCaches()
	service.GlobalEnvironment().WalkCaches(func(name string, _ *service.ConfigView) {
		assert.Contains(t, all, name, "a cache of the engine that nobody has looked at")
	})
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			dir := testenv.TempDir(t)
			res, stop := cacheResources(t, c.config, dir)
			p := cachePositions(t, res)
			if c.is == lasts {
				assert.Empty(t, p.volatile)
			} else {
				assert.Contains(t, p.volatile, c.is)
			}
			_, err := p.load(t.Context())
			require.ErrorIs(t, err, checkpoint.ErrNotFound)
			first, second := checkpoint.Token{Source: "s", Commit: commitText(1), Sent: 2}, checkpoint.Token{Source: "s", Commit: commitText(2)}
			require.NoError(t, p.saveHistory(t.Context(), []byte("history")))
			err = p.save(t.Context(), first, time.Now(), time.Now())
			if c.is == useless {
				require.ErrorContains(t, err, `saving position tx1+2 under key "shop": cache "positions" does not keep what it is given: choose another one`)
				stop()
				return
			}
			require.NoError(t, err)
			require.NoError(t, p.save(t.Context(), second, time.Now(), time.Now()))
			require.NoError(t, p.keep(t.Context()))
			if c.is == lasts { // restart
				stop()
				res, stop = cacheResources(t, c.config, dir)
			}
			p = cachePositions(t, res)
			r, err := p.load(t.Context())
			require.NoError(t, err)
			assert.Equal(t, checkpoint.Token{Source: "s", Commit: checkpoint.Text("tx2")}, r.Token())
			assert.True(t, r.History)
			history, _, err := p.loadHistory(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, "history", string(history))

			// What belongs to the position is gone: that is not "none".
			require.NoError(t, res.AccessCache(t.Context(), "positions", func(c service.Cache) {
				require.NoError(t, c.Delete(t.Context(), checkpoint.SchemaKey("shop")))
			}))
			_, _, err = p.loadHistory(t.Context(), r)
			require.ErrorIs(t, err, checkpoint.ErrBroken)
			require.ErrorContains(t, err, "`deltaforge checkpoint reset-schema shop`")
			require.NoError(t, checkpoint.Forget(t.Context(), checkpoint.FromCache(res, "positions"), "shop"))
			_, err = p.load(t.Context())
			require.ErrorIs(t, err, checkpoint.ErrNotFound)
			stop()
		})
	}
}

// TestCacheThatForgets: a time to live that runs out while the source runs is noticed, said, and made good.
func TestCacheThatForgets(t *testing.T) {
	for name, config := range map[string]string{
		"memory":  "memory: {default_ttl: 30ms, compaction_interval: 1ms}",
		"ttlru":   "ttlru: {default_ttl: 30ms}",
		"bounded": "lru: {cap: 1}",
	} {
		t.Run(name, func(t *testing.T) {
			res, stop := cacheResources(t, config, "")
			defer stop()
			p := cachePositions(t, res)
			require.NoError(t, p.save(t.Context(), checkpoint.Token{Commit: commitText(1)}, time.Now(), time.Now()))
			if name == "bounded" {
				require.NoError(t, p.Set(t.Context(), "another", nil))
			}
			require.Eventually(t, func() bool { _, err := p.Get(t.Context(), "shop"); return errors.Is(err, checkpoint.ErrNotFound) }, time.Minute, time.Millisecond)
			err := p.keep(t.Context())
			require.ErrorContains(t, err, `cache "positions" does not have any more what was saved under key "shop"`)
			_, err = p.Get(t.Context(), "shop")
			require.NoError(t, err, "saved again")
		})
	}
}

// TestKeyOfTwoSources: a cache has no locks, so that somebody else's record is all there is to see.
func TestKeyOfTwoSources(t *testing.T) {
	res, stop := cacheResources(t, "memory: {}", "")
	defer stop()
	one, two := cachePositions(t, res), cachePositions(t, res)
	require.NoError(t, one.save(t.Context(), checkpoint.Token{Commit: commitText(1)}, time.Now(), time.Now()))
	require.NoError(t, one.keep(t.Context()))
	require.NoError(t, two.save(t.Context(), checkpoint.Token{Commit: commitText(2)}, time.Now(), time.Now()))
	require.ErrorContains(t, one.keep(t.Context()), "does another source use the key?")
}

// TestRecordsOfEarlierVersions: their positions are read, and so is the history under its old key, which moves to the new one.
func TestRecordsOfEarlierVersions(t *testing.T) {
	dir := testenv.TempDir(t)
	old := `{"version":1,"kind":"fake","source":"s","position":"tx7","saved_at":"2026-01-02T03:04:05Z"}`
	for name, config := range map[string]string{"a file": "file: {directory: DIR}", "others": "memory: {}"} {
		t.Run(name, func(t *testing.T) {
			res, stop := cacheResources(t, config, dir)
			defer stop()
			p := cachePositions(t, res)
			require.NoError(t, p.Set(t.Context(), "shop", []byte(old)))
			if name == "others" {
				require.NoError(t, p.Set(t.Context(), checkpoint.OldSchemaKey("shop"), []byte("history")))
			}
			r, err := p.load(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "tx7", r.Token().String())
			history, key, err := p.loadHistory(t.Context(), r)
			require.NoError(t, err)
			if name == "a file" {
				assert.Nil(t, history, "it never had one")
				return
			}
			assert.Equal(t, "history", string(history))
			assert.Equal(t, "shop/schema", key)
			require.NoError(t, p.save(t.Context(), checkpoint.Token{Commit: commitText(8)}, time.Now(), time.Now()))
			p = cachePositions(t, res)
			r, err = p.load(t.Context())
			require.NoError(t, err)
			history, key, err = p.loadHistory(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, "history", string(history))
			assert.Equal(t, checkpoint.SchemaKey("shop"), key)
		})
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	assert.Len(t, files, 1)
	data, err := os.ReadFile(files[0])
	require.NoError(t, err)
	assert.Equal(t, old, string(data))
}
