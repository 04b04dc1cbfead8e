package redisout

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// # The guard key
//
// A connection that is given up can still have bytes on their way: in a proxy, in a kernel, in a server that is paused. They
// can reach the server after newer entries, and would add an older value after a newer one. So that the server refuses them:
//
//   - A new connection first raises the guard key (INCR), and then watches it (WATCH). Nothing else is sent before the answer.
//   - EXEC runs nothing when a watched key has been touched. Each transaction ends with a WATCH for the next one, since EXEC
//     ends the watch. The next transaction is sent after the answer to it.
//
// So whatever an old connection has on its way is a transaction under a watch that began before the new connection raised the
// guard: it runs before that, and thereby before everything that the new connection adds, or never. This holds for the
// connections of a process that was killed, too, since its successor has the same guard key.
//
// Many writers may have one guard key, since a transaction that the guard refused is known to have added nothing: it is
// sent again on the same connection, which watches the key anew. That costs one round trip each time that another writer
// connects.

// guardSuffix cannot be the end of a default stream, which has a dot after the last colon.
const guardSuffix = ":guard"

// guardOf returns the guard key of a stream, or of the prefix of streams. Where these have a hash tag, or are one stream, a Redis
// Cluster keeps the key in the slot of the streams.
func guardOf(name string, prefix bool) string {
	if _, after, tagged := strings.Cut(name, "{"); prefix || tagged && strings.Index(after, "}") > 0 {
		return name + guardSuffix
	}
	return "{" + name + "}" + guardSuffix
}

// raiseGuard makes the server refuse what older connections have on their way, and watches for a newer one. It is called
// for each new connection, before anything is written to it.
func (c *config) raiseGuard(ctx context.Context, cn *redis.Conn) error {
	pipe := cn.Pipeline()
	raise, watch := redis.NewIntCmd(ctx, "incr", c.guardKey), c.watch(ctx)
	_ = pipe.Process(ctx, raise) // only queues, as does the following
	_ = pipe.Process(ctx, watch)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("%w", c.guardError(err)) // the client unwraps once
	}
	return nil
}

func (c *config) watch(ctx context.Context) *redis.StatusCmd {
	return redis.NewStatusCmd(ctx, "watch", c.guardKey)
}

// guardError is an error about the guard key.
func (c *config) guardError(err error) error {
	what := fmt.Sprintf("raising the guard key %s at %s", c.guardKey, c.shown)
	switch kind, _ := kindOf(err); kind {
	case sink.Permission:
		user := c.redis.Username
		if user == "" {
			user = "default"
		}
		return sink.Explain(kind, what, err, fmt.Sprintf("run ACL SETUSER %s +incr +watch ~%s", user, c.guardKey))
	case sink.Routing:
		return sink.Explain(kind, what, err, "something else has that key: set "+fieldGuardKey)
	default:
		return classify(err, "connecting to Redis at "+c.shown)
	}
}
