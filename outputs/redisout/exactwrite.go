package redisout

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/sink"
)

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
	marks, err := change.Marks(batch, x.ledger)
	if err != nil {
		return sink.Errorf(sink.Other, "%s: %w", fieldExactly, err)
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
		rows := exactly.Rows{
			Marks: marks, Failed: a.failed, Left: len(a.queue),
			Message: func(k int) int { return a.entries[a.queue[k]].message }, Size: func(k int) int { return a.entries[a.queue[k]].size },
		}
		n, hold := rows.Fit(x.conf.maxBuffered)
		last, done := rows.Take(n, hold)
		if err := x.part(ctx, a, marks, n, last, done); err != nil {
			return err
		}
	}
	return nil
}

// part adds the first n entries of the queue in one transaction.
func (x *exact) part(ctx context.Context, a *attempt, marks []*exactly.Mark, n int, last *exactly.Mark, done []*exactly.Mark) error {
	t := &transaction{marks: done}
	for _, i := range a.queue[:n] {
		t.entries = append(t.entries, &a.entries[i])
	}
	var err error
	if t.tx, err = x.ledger.Rows(ctx, last); err != nil {
		return x.fencedOr(err)
	}
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
			x.notAdded(a, t.entries[k], marks, err)
		}
	}
	return nil
}

// notAdded fails an entry that the server has refused while it ran the transaction: its stream was right when it was asked for, and is not any more. The position has
// passed it, but the source has it until it is out of the way.
func (x *exact) notAdded(a *attempt, e *entry, marks []*exactly.Mark, err error) {
	marks[e.message].Done = false
	delete(x.streams, e.stream.text)
	a.fail(e.message, classify(err, "adding to stream "+e.stream.text))
}

func (x *exact) fencedOr(err error) error {
	if errors.Is(err, exactly.ErrFenced) {
		return &sink.Error{Kind: sink.Fenced, Err: err}
	}
	return err
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
