// Package hash keeps values in hashes of a Redis server: one for each key, with the fields value and owner.
//
// Who claims a key writes its owner into the hash, and each later write is a script that looks at the owner first: what an earlier owner writes after that,
// or what a connection that was given up still has on its way, changes nothing.
package hash

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Timeout bounds one request.
const Timeout = 10 * time.Second

// Hashes are the hashes under one prefix. The methods may be called concurrently.
type Hashes struct {
	cl     *redis.Client
	prefix string
	owner  string // this instance
}

// ParseURL reads redis://[user[:password]@]host[:port][/db] and the like. Its error does not show it: what makes it unreadable is often a password.
func ParseURL(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil || url == "" {
		return nil, errors.New("it is not redis://[user[:password]@]host[:port][/db], rediss://... or unix://[user[:password]@]/path[?db=n]; " +
			"special characters in a password are percent-encoded")
	}
	return o, nil
}

// Open returns the hashes whose names begin with prefix. It connects at first use.
func Open(o *redis.Options, prefix string) *Hashes {
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = Timeout, Timeout, Timeout, true
	o.PoolSize, o.MaxRetries = 2, -1
	o.Protocol, o.DisableIdentity = 2, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Hashes{cl: redis.NewClient(o), prefix: prefix, owner: rand.Text()}
}

// String says where the hashes are.
func (h *Hashes) String() string {
	return fmt.Sprintf("hashes %s* at %s", h.prefix, h.cl.Options().Addr)
}

// A hash that is gone was deleted by somebody: it is made again.
const write = `local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
if ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'value', ARGV[3]) else redis.call('HDEL', KEYS[1], 'value') end
return 1`

// Claim makes a key this instance's.
func (h *Hashes) Claim(ctx context.Context, key string) error {
	return h.explain(h.cl.HSet(ctx, h.prefix+key, "owner", h.owner).Err())
}

// Write sets the value of a key that this instance has claimed; nil: none. It reports false, and changes nothing, when another instance has claimed the key
// since.
func (h *Hashes) Write(ctx context.Context, key string, value []byte) (mine bool, err error) {
	has := 0
	if value != nil {
		has = 1
	}
	n, err := h.cl.Eval(ctx, write, []string{h.prefix + key}, h.owner, has, value).Int()
	return n == 1 || err != nil, h.explain(err)
}

// Peek returns the value of a key, nil if there is none.
func (h *Hashes) Peek(ctx context.Context, key string) ([]byte, error) {
	v, err := h.cl.HGet(ctx, h.prefix+key, "value").Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, h.explain(err)
	}
	return []byte(v), nil
}

// escape quotes what has a meaning in a pattern.
var escape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`) //nolint:gochecknoglobals // a constant

// Keys returns the keys that have a value, in order.
func (h *Hashes) Keys(ctx context.Context) (keys []string, err error) {
	all := h.cl.ScanType(ctx, 0, escape.Replace(h.prefix)+"*", 1000, "hash").Iterator()
	for all.Next(ctx) {
		has, err := h.cl.HExists(ctx, all.Val(), "value").Result()
		if err != nil {
			return nil, h.explain(err)
		}
		if has {
			keys = append(keys, strings.TrimPrefix(all.Val(), h.prefix))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), h.explain(all.Err()) // SCAN may tell a key twice
}

// Close ends the connections.
func (h *Hashes) Close() error { return h.cl.Close() }

func (h *Hashes) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case redis.HasErrorPrefix(err, "NOPERM"):
		err = fmt.Errorf("%w; run ACL SETUSER USER +eval +hset +hget +hdel +hexists +scan ~%s*", err, h.prefix)
	}
	return fmt.Errorf("%s: %w", h, err)
}
