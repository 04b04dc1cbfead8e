package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

func init() {
	service.MustRegisterCache(cacheName, cacheSpec(), func(conf *service.ParsedConfig, _ *service.Resources) (service.Cache, error) {
		open, err := parseStore(conf)
		if err != nil {
			return nil, err
		}
		return &cache{opener: open}, nil
	})
}

// cache is the deltaforge_checkpoint resource. It opens its store at first use, since the engine constructs caches while
// it lints.
type cache struct {
	opener opener
	mu     sync.Mutex
	store  adding // nil until first use; guarded by mu
}

var _ service.Cache = (*cache)(nil)

func (c *cache) open(ctx context.Context) (adding, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		s, err := c.opener(ctx)
		if err != nil {
			return nil, err
		}
		c.store = s
	}
	return c.store, nil
}

// Get implements service.Cache.
func (c *cache) Get(ctx context.Context, key string) ([]byte, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	v, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return nil, service.ErrKeyNotFound
	}
	return v, err
}

// Set implements service.Cache. The TTL is ignored.
func (c *cache) Set(ctx context.Context, key string, value []byte, _ *time.Duration) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	return s.Set(ctx, key, value)
}

// Add implements service.Cache. The TTL is ignored.
func (c *cache) Add(ctx context.Context, key string, value []byte, _ *time.Duration) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	added, err := s.Add(ctx, key, value)
	if err == nil && !added {
		return service.ErrKeyAlreadyExists
	}
	return err
}

// Delete implements service.Cache. A missing key is not an error.
func (c *cache) Delete(ctx context.Context, key string) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	if err := s.Delete(ctx, key); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// Close implements service.Cache.
func (c *cache) Close(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		return nil
	}
	s := c.store
	c.store = nil
	return s.Close()
}

// FromCache returns a Store over a Benthos cache resource.
func FromCache(res *service.Resources, label string) *Cache {
	return &Cache{res: res, label: label}
}

// Cache is a Store over a Benthos cache resource.
type Cache struct {
	res   *service.Resources
	label string
}

func (c *Cache) access(ctx context.Context, f func(service.Cache) error) error {
	var err error
	if aErr := c.res.AccessCache(ctx, c.label, func(cache service.Cache) { err = f(cache) }); aErr != nil {
		return fmt.Errorf("cache %q: %w", c.label, aErr)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("cache %q: %w", c.label, err)
	}
	return err
}

// Get implements Store.
func (c *Cache) Get(ctx context.Context, key string) (value []byte, err error) {
	err = c.access(ctx, func(cache service.Cache) (e error) {
		if value, e = cache.Get(ctx, key); errors.Is(e, service.ErrKeyNotFound) {
			e = ErrNotFound
		}
		return e
	})
	return value, err
}

// Set implements Store.
func (c *Cache) Set(ctx context.Context, key string, value []byte) error {
	return c.access(ctx, func(cache service.Cache) error { return cache.Set(ctx, key, value, nil) })
}

// Delete implements Eraser.
func (c *Cache) Delete(ctx context.Context, key string) error {
	return c.access(ctx, func(cache service.Cache) error { return cache.Delete(ctx, key) })
}
