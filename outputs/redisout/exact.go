package redisout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// # Exactly once
//
// The position of the source is a key beside the streams, and each transaction sets it together with its entries. The key is the guard, too: a
// connection watches it before it reads it, so that EXEC runs nothing once anybody else has set it. That holds for a twin that was paused, and for
// what a lost connection has on its way.
//
// When an answer is lost, the key on the next connection says what became of the transaction. Until that is known it stays open, and nothing
// comes after it: if it was not run, it is sent again as it is.
type exact struct {
	conf     *config
	pipeline *exactly.Pipeline
	client   func() *redis.Client // nil: not connected
	stats    *sink.Transactions

	mu      sync.Mutex
	ledger  *exactly.Ledger // guarded by mu, as are all the others
	conn    *redis.Conn     // watches the key; nil: there is none
	of      *redis.Client   // that conn belongs to
	open    *transaction    // of which the outcome is not known; nil: there is none
	streams map[string]bool // whose type is known to be right
}

// transaction is entries and the records that belong to them.
type transaction struct {
	tx      *exactly.Tx
	entries []*entry
	marks   []*exactly.Mark // of events that are done with it
	answers []any           // of the entries, once it was run
	tried   bool            // it was sent, and its outcome is not known
}

// checkpointSuffix stands between the prefix and the key of a position.
const checkpointSuffix = ":checkpoint:"

// checkpointKey returns the key in Redis of a record.
func (c *config) checkpointKey(key string) string {
	return strings.TrimSuffix(c.guardKey, guardSuffix) + checkpointSuffix + key
}

// meet finds the source whose position it is.
func (x *exact) meet(ctx context.Context) error {
	l, err := x.pipeline.Ledger(ctx)
	if err != nil {
		return sink.Errorf(sink.Other, "%s: %w", fieldExactly, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ledger != l {
		x.ledger, x.open = l, nil // the source was made anew: what was open was another instance's
		x.drop()
	}
	return nil
}

// Load implements exactly.Sink.
func (x *exact) Load(ctx context.Context, keys ...string) ([][]byte, error) {
	cl := x.client()
	if cl == nil {
		return nil, service.ErrNotConnected
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = x.conf.checkpointKey(k)
	}
	found, err := cl.MGet(ctx, names...).Result()
	if err != nil {
		return nil, x.explain(err)
	}
	values := make([][]byte, len(keys))
	for i, v := range found {
		if text, ok := v.(string); ok {
			values[i] = []byte(text)
		}
	}
	return values, nil
}

// explain is an error about the key of the position.
func (x *exact) explain(err error) error {
	what := fmt.Sprintf("the position under %s* at %s", x.conf.checkpointKey(""), x.conf.shown)
	switch kind, hint := kindOf(err); kind {
	case sink.Permission:
		user := x.conf.redis.Username
		if user == "" {
			user = "default"
		}
		return sink.Explain(kind, what, err, fmt.Sprintf("run ACL SETUSER %s +multi +exec +xadd +watch +get +mget +set +del +type ~%s*", user, x.conf.checkpointKey("")))
	case sink.Routing:
		return sink.Explain(kind, what, err, "something else has that key: choose another checkpoint.key in the source")
	default:
		return sink.Explain(kind, what, err, hint)
	}
}

// Save implements exactly.Sink.
func (x *exact) Save(ctx context.Context, begin func(context.Context) (*exactly.Tx, error)) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.finish(ctx); err != nil {
		return err
	}
	tx, err := begin(ctx)
	if err != nil || tx == nil {
		return err
	}
	return x.transact(ctx, &transaction{tx: tx})
}

// Growth implements exactly.Sink. EXEC holds up everybody else, and its overhead is small.
func (x *exact) Growth() int { return 1 }

// finish ends the transaction whose outcome is not known, if there is one; x.mu is held.
func (x *exact) finish(ctx context.Context) error {
	if x.open == nil {
		return nil
	}
	return x.transact(ctx, x.open)
}

// drop gives up the connection; x.mu is held.
func (x *exact) drop() {
	if x.conn != nil {
		_ = x.conn.Close() // what there is to say has been said
		x.conn = nil
	}
}

// transact sends a transaction until its outcome is known; x.mu is held. When it returns an error, x.open says whether the outcome is known:
// then nothing of the transaction is in the sink.
func (x *exact) transact(ctx context.Context, t *transaction) error {
	x.open = t
	if x.of != x.client() {
		x.drop()
	}
	for range maxRefusals {
		if x.conn == nil {
			committed, err := x.connect(ctx, t)
			if err != nil || committed {
				return err
			}
		}
		refused, err := x.send(ctx, t)
		if !refused {
			return err
		}
		x.drop() // somebody has set the key: look
	}
	return sink.Errorf(sink.Other, "%s at %s was touched %d times in a row and kept its value: what else writes there?", x.conf.checkpointKey(x.ledger.Key()), x.conf.shown,
		maxRefusals)
}

// connect makes a connection that watches the key, and says what became of the transaction.
func (x *exact) connect(ctx context.Context, t *transaction) (committed bool, err error) {
	cl := x.client()
	if cl == nil {
		return false, service.ErrNotConnected
	}
	x.conn, x.of = cl.EphemeralConn(), cl
	key := x.conf.checkpointKey(x.ledger.Key())
	pipe := x.conn.Pipeline()
	watch, get := redis.NewStatusCmd(ctx, "watch", key), redis.NewStringCmd(ctx, "get", key)
	_ = pipe.Process(ctx, watch) // only queues, as does the following
	_ = pipe.Process(ctx, get)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		x.drop()
		return false, x.explain(err)
	}
	var value []byte
	if get.Err() == nil {
		value = []byte(get.Val())
	}
	committed, err = t.tx.Found(value)
	if !committed && t.tried {
		t.tried = false
		x.stats.Aborted()
	}
	switch {
	case err != nil:
		x.open = nil
		x.drop()
		return false, &sink.Error{Kind: sink.Fenced, Err: err}
	case committed:
		x.commit(t)
	}
	return committed, nil
}

// commit notes that a transaction is in the sink.
func (x *exact) commit(t *transaction) {
	x.open = nil
	for _, m := range t.marks {
		m.Done = true
	}
	t.tx.Committed()
	x.stats.Committed()
}

// send sends a transaction. Refused means that somebody has touched the key.
func (x *exact) send(ctx context.Context, t *transaction) (refused bool, err error) {
	c := x.conf
	pipe := x.conn.Pipeline()
	multi := redis.NewStatusCmd(ctx, "multi")
	_ = pipe.Process(ctx, multi) // only queues, as do the following
	queued := make([]*redis.StatusCmd, 0, len(t.entries)+1)
	for _, e := range t.entries {
		queued = append(queued, e.command(ctx, c))
	}
	for _, r := range t.tx.Records() {
		set := redis.NewStatusCmd(ctx, "set", c.checkpointKey(r.Key), r.Value)
		if r.Value == nil {
			set = redis.NewStatusCmd(ctx, "del", c.checkpointKey(r.Key))
		}
		queued = append(queued, set)
	}
	for _, q := range queued {
		_ = pipe.Process(ctx, q)
	}
	exec, watch := redis.NewSliceCmd(ctx, "exec"), redis.NewStatusCmd(ctx, "watch", c.checkpointKey(x.ledger.Key()))
	_ = pipe.Process(ctx, exec)
	_ = pipe.Process(ctx, watch)
	t.tried = true
	_, sent := pipe.Exec(ctx)
	if watch.Err() != nil {
		x.drop() // without its watch the connection may not be used
	}
	switch {
	case len(exec.Val()) == len(queued):
		t.answers = exec.Val()[:len(t.entries)]
		x.commit(t)
		return false, nil
	case errors.Is(exec.Err(), redis.Nil):
		return true, nil
	case isAnswer(multi.Err()), exec.Err() != nil && aborted(exec.Err()), tooLarge(queued) >= 0:
		// The server has run nothing of it.
		x.drop()
		x.open = nil
		t.tx.Aborted()
		x.stats.Aborted()
		return false, x.refused(t, multi, queued, exec.Err())
	}
	x.drop()
	if exec.Err() != nil {
		sent = exec.Err()
	}
	return false, classify(sent, "adding to streams at "+c.shown)
}

// culprit is an error that one entry alone has caused, for good.
type culprit struct {
	entry *entry
	error
}

func (c culprit) Unwrap() error { return c.error }

// refused says why the server has run nothing of a transaction.
func (x *exact) refused(t *transaction, multi *redis.StatusCmd, queued []*redis.StatusCmd, aborted error) error {
	if err := multi.Err(); isAnswer(err) {
		return classify(err, "starting a transaction at "+x.conf.shown)
	}
	for n, q := range queued {
		err := q.Err()
		if err == nil || !isAnswer(err) {
			continue
		}
		if n >= len(t.entries) {
			return x.explain(err)
		}
		cause := classify(err, "adding to stream "+t.entries[n].stream.text)
		if cause.Kind == sink.TooLarge {
			return culprit{t.entries[n], cause}
		}
		return cause
	}
	return classify(aborted, "adding to streams at "+x.conf.shown)
}
