package redisout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
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
		return sink.Explain(kind, what, err, fmt.Sprintf("run ACL SETUSER %s +multi +exec +xadd +watch +get +mget +set +type ~%s*", user, x.conf.checkpointKey("")))
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
		queued = append(queued, redis.NewStatusCmd(ctx, "set", c.checkpointKey(r.Key), r.Value))
	}
	for _, q := range queued {
		_ = pipe.Process(ctx, q)
	}
	exec, watch := redis.NewSliceCmd(ctx, "exec"), redis.NewStatusCmd(ctx, "watch", c.checkpointKey(x.ledger.Key()))
	_ = pipe.Process(ctx, exec)
	_ = pipe.Process(ctx, watch)
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

// types fails the entries whose stream is a key of another type, before anything is written: an error inside of a transaction would not keep
// the position back.
func (x *exact) types(ctx context.Context, a *attempt) error {
	var names []string
	ask := map[string]*redis.StatusCmd{}
	for _, i := range a.queue {
		if name := a.entries[i].stream.text; !x.streams[name] && ask[name] == nil {
			ask[name] = redis.NewStatusCmd(ctx, "type", name)
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	cl := x.client()
	if cl == nil {
		return service.ErrNotConnected
	}
	pipe := cl.Pipeline()
	for _, name := range names {
		_ = pipe.Process(ctx, ask[name]) // only queues
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return x.explain(err)
	}
	if len(x.streams) >= maxStreamsNamed {
		clear(x.streams)
	}
	wrong := map[string]string{}
	for _, name := range names {
		if is := ask[name].Val(); is == "none" || is == "stream" {
			x.streams[name] = true
		} else {
			wrong[name] = is
		}
	}
	a.drop(func(e *entry) error {
		if is := wrong[e.stream.text]; is != "" {
			return sink.Errorf(sink.Routing, "adding to stream %s: the key is a %s: rename one of them", e.stream.text, is)
		}
		return nil
	})
	return nil
}

// write adds the entries of an attempt, each once, in transactions that end where the source can go on.
func (x *exact) write(ctx context.Context, a *attempt, batch service.MessageBatch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	marks, err := x.marks(batch)
	if err != nil {
		return err
	}
	if err := x.finish(ctx); err != nil {
		return err
	}
	a.drop(func(e *entry) error {
		if marks[e.message].Done {
			return errDone
		}
		return nil
	})
	if err := x.types(ctx, a); err != nil {
		return err
	}
	for len(a.queue) > 0 {
		n, hold := a.cut(marks, x.conf.maxBuffered)
		if err := x.part(ctx, a, marks, n, hold); err != nil {
			return err
		}
	}
	return nil
}

// part adds the first n entries of the queue in one transaction.
func (x *exact) part(ctx context.Context, a *attempt, marks []*exactly.Mark, n int, hold bool) error {
	t := &transaction{}
	failed := map[*exactly.Mark]bool{}
	for i := range a.failed {
		failed[marks[i]] = true
	}
	var all []*exactly.Mark
	for _, i := range a.queue[:n] {
		e := &a.entries[i]
		t.entries = append(t.entries, e)
		m := marks[e.message]
		if all = append(all, m); !failed[m] {
			t.marks = append(t.marks, m)
		}
	}
	last := exactly.Last(all)
	if hold {
		last = nil // an event before it is not delivered: a crash must bring it again
	}
	tx, err := x.ledger.Rows(ctx, last)
	if err != nil {
		return x.fencedOr(err)
	}
	t.tx = tx
	err = x.transact(ctx, t)
	if c, ok := errors.AsType[culprit](err); ok {
		a.drop(func(e *entry) error {
			if e == c.entry {
				return c.error
			}
			return nil
		})
		return nil
	}
	if err != nil {
		return err
	}
	a.queue = a.queue[n:]
	for k, answer := range t.answers {
		if err, bad := answer.(error); bad {
			a.fail(t.entries[k].message, classify(err, "adding to stream "+t.entries[k].stream.text))
		}
	}
	return nil
}

func (x *exact) fencedOr(err error) error {
	if errors.Is(err, exactly.ErrFenced) {
		return &sink.Error{Kind: sink.Fenced, Err: err}
	}
	return err
}

// marks returns the places of the messages' events.
func (x *exact) marks(batch service.MessageBatch) ([]*exactly.Mark, error) {
	marks := make([]*exactly.Mark, len(batch))
	for i, m := range batch {
		ev, ok := change.FromMessage(m)
		if !ok || ev.Mark == nil || ev.Mark.Ledger != x.ledger {
			return nil, sink.Errorf(sink.Other, "%s: message %d of the batch is not an event of the source that keeps its position here: a processor has made it, or "+
				"it comes from another input", fieldExactly, i)
		}
		marks[i] = ev.Mark
	}
	return marks, nil
}

// errDone takes an entry out of the queue that is in the sink.
var errDone = errors.New("in the sink")

// drop takes the entries out of the queue for which why returns an error, and fails their messages unless it is errDone.
func (a *attempt) drop(why func(*entry) error) {
	kept := make([]int, 0, len(a.queue))
	for _, i := range a.queue {
		e := &a.entries[i]
		switch err := why(e); {
		case err == nil:
			kept = append(kept, i)
		case !errors.Is(err, errDone):
			a.fail(e.message, err)
		}
	}
	a.queue = kept
}

// cut returns how many entries go into the next transaction: at most limit bytes, as far as it can end there. Hold says that an event before its
// last one has failed.
func (a *attempt) cut(marks []*exactly.Mark, limit int) (n int, hold bool) {
	first := len(marks) // message that has failed
	for i := range a.failed {
		first = min(first, i)
	}
	queue := make([]*exactly.Mark, len(a.queue))
	for k, i := range a.queue {
		queue[k] = marks[a.entries[i].message]
	}
	ends := exactly.Ends(queue)
	size := 0
	for k, i := range a.queue {
		e := &a.entries[i]
		if size += e.size; n > 0 && (size > limit || e.message > first && a.entries[a.queue[k-1]].message < first && ends[k-1]) {
			break
		}
		if ends[k] {
			n = k + 1
		}
	}
	return n, a.entries[a.queue[n-1]].message > first
}
