package checkpoint

import (
	"context"
	"reflect"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Volatile says why a cache loses positions when the process ends: it is one of the engine's caches that keep their content in memory, or keep
// nothing. The result is empty for any other cache, and for one whose type is unknown.
//
// The engine does not tell the type of a resource, so Volatile looks at the Go types of the engine. If their names change, it no longer
// recognizes the caches, which TestStockCaches notices.
func (c *Cache) Volatile(ctx context.Context) (reason string) { return c.volatile(ctx, c.label, 4) }

func (c *Cache) volatile(ctx context.Context, label string, depth int) (reason string) {
	_ = c.res.AccessCache(ctx, label, func(cache service.Cache) { // what cannot be reached fails where it is used
		v := innermost(reflect.ValueOf(cache))
		switch v.Type().Name() {
		case "noopCacheAdapter":
			reason = "it keeps nothing"
		case "memoryCache", "lruCacheAdapter", "ttlruCacheAdapter":
			reason = "it keeps what it is given in the memory of this process"
		case "multilevelCache":
			levels := v.FieldByName("caches")
			for i := 0; depth > 0 && levels.IsValid() && levels.Kind() == reflect.Slice && i < levels.Len(); i++ {
				if reason = c.volatile(ctx, levels.Index(i).String(), depth-1); reason == "" {
					return // one level that lasts is enough
				}
			}
		}
	})
	return reason
}

// innermost takes the engine's wrappers off a cache: structures with the next one in a field c.
func innermost(v reflect.Value) reflect.Value {
	for range 8 {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			break
		}
		inner := v.FieldByName("c")
		if !inner.IsValid() || inner.Kind() != reflect.Interface || inner.IsNil() {
			break
		}
		v = inner
	}
	return v
}
