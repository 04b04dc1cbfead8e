package redisout

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// attempt is the delivery of one batch. It outlives the call that began it when the server does not take it: the
// engine is told that the output is not connected, hands in the same batch again, and the call goes on where this one
// stopped.
//
// # Order within a stream
//
// Pipelined commands each succeed or fail by themselves. Where memory runs out, or a primary turns into a replica, for
// a moment in the middle of a pipeline, an entry fails and those behind it are added: the failed one, added later, has
// been overtaken. So entries go out in transactions (MULTI ... EXEC), one after the other, the next when the one before
// has its answers. What can happen to a transaction:
//
//   - Everything is added.
//   - Nothing is added (EXECABORT): a command was refused when it was queued (out of memory, read-only, no permission),
//     or EXEC was. The transaction is sent again, as it is, until it succeeds. Where the user lacks permission for some
//     keys only, these streams are set aside, as a whole, and the others go on.
//   - EXEC has run, and some commands failed in it. Memory, role and permissions do not change while it runs, so that
//     the entries of one stream have all been added or all been refused. A stream whose name is taken by a key of
//     another type fails for good, message by message; anything else is set aside and tried again, as a whole.
//   - No answer: the connection is gone, and the transaction was run or was not. It is sent again. That may add it
//     twice, as a whole and in order, so an entry is repeated behind itself and never overtaken by one that is new.
//
// MULTI being refused is the one case in which the commands would be run by themselves; Connect makes sure that it is
// allowed, and the connection is given up if it is refused later.
type attempt struct {
	entries  []entry
	messages int
	failed   map[int]error // messages that failed for good

	queue []int // indexes of entries that have to be added, in order
	aside map[string]error
}

func (a *attempt) fail(message int, err error) {
	if a.failed == nil {
		a.failed = make(map[int]error)
	}
	a.failed[message] = err
}

func (a *attempt) begin() {
	a.queue = make([]int, len(a.entries))
	for i := range a.queue {
		a.queue[i] = i
	}
}

func (a *attempt) same(b *attempt) bool {
	if a.messages != b.messages || len(a.entries) != len(b.entries) {
		return false
	}
	for i := range a.entries {
		if !a.entries[i].same(&b.entries[i]) {
			return false
		}
	}
	return true
}

// next cuts the next transaction off the queue: at most limit bytes, at least one entry, none of a stream set aside.
// The latter return to the queue's front by way of kept.
func (a *attempt) next(limit int, kept []int) (tx, rest []int, newKept []int) {
	size := 0
	for n, i := range a.queue {
		e := &a.entries[i]
		if _, aside := a.aside[e.stream.text]; aside {
			kept = append(kept, i)
			continue
		}
		if size += e.size; size > limit && len(tx) > 0 {
			return tx, a.queue[n:], kept
		}
		tx = append(tx, i)
	}
	return tx, nil, kept
}

// run adds what is queued, transaction by transaction. It returns the first failure that may pass; what is then left
// in the queue has not been added.
func (a *attempt) run(ctx context.Context, cl *redis.Client, c *config) error {
	a.aside = make(map[string]error)
	var kept []int
	for len(a.queue) > 0 {
		var tx, rest []int
		tx, rest, kept = a.next(c.maxBuffered, kept)
		if len(tx) == 0 {
			a.queue = nil
			break
		}
		again, err := a.transact(ctx, cl, c, tx)
		if err != nil {
			a.queue = inOrder(kept, again, rest)
			return err
		}
		if len(again) > 0 {
			// Streams have been set aside; where nothing was run, the others are still to be added.
			a.queue = inOrder(again, nil, rest)
			continue
		}
		a.queue = rest
	}
	a.queue = kept
	if len(kept) > 0 {
		return a.aside[a.entries[kept[0]].stream.text]
	}
	return nil
}

// inOrder merges rising lists, of which the elements of c are behind those of b.
func inOrder(a, b, c []int) []int {
	out := make([]int, 0, len(a)+len(b)+len(c))
	tail := append(append(make([]int, 0, len(b)+len(c)), b...), c...)
	for len(a) > 0 && len(tail) > 0 {
		if a[0] < tail[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, tail = append(out, tail[0]), tail[1:]
		}
	}
	return append(append(out, a...), tail...)
}

// transact sends one transaction. It returns the entries of it that are still to be added, and an error when they have
// to wait.
func (a *attempt) transact(ctx context.Context, cl *redis.Client, c *config, tx []int) (again []int, err error) {
	// Not the client's own transactions: they leave answers unread when MULTI is refused.
	pipe := cl.Pipeline()
	multi := redis.NewStatusCmd(ctx, "multi")
	_ = pipe.Process(ctx, multi) // only queues, as do the following
	queued := make([]*redis.StatusCmd, len(tx))
	for n, i := range tx {
		queued[n] = a.entries[i].command(ctx, c)
		_ = pipe.Process(ctx, queued[n])
	}
	exec := redis.NewSliceCmd(ctx, "exec")
	_ = pipe.Process(ctx, exec)

	_, err = pipe.Exec(ctx)
	switch {
	case err == nil:
		return a.ran(exec.Val(), tx)
	case multi.Err() != nil:
		return tx, classify(multi.Err(), "starting a transaction at "+c.shown)
	case exec.Err() == nil:
		return tx, classify(err, "adding to streams at "+c.shown) // cannot be: what is not queued aborts
	case aborted(exec.Err()):
		return tx, a.refused(queued, tx, exec.Err())
	}
	return tx, classify(exec.Err(), "ending a transaction at "+c.shown)
}

// refused sorts out a transaction of which nothing was run.
func (a *attempt) refused(queued []*redis.StatusCmd, tx []int, aborted error) error {
	denied := false
	for n, i := range tx {
		err := queued[n].Err()
		if err == nil {
			continue
		}
		stream := a.entries[i].stream.text
		cause := classify(err, "adding to stream "+stream)
		if cause.Kind != sink.Permission {
			return cause
		}
		a.aside[stream] = cause
		denied = true
	}
	if !denied {
		return classify(aborted, "adding to streams")
	}
	return nil
}

// ran sorts out the answers of a transaction that was run.
func (a *attempt) ran(answers []any, tx []int) ([]int, error) {
	if len(answers) != len(tx) {
		return tx, sink.Errorf(sink.Other, "adding to streams: %d answers to %d commands", len(answers), len(tx))
	}
	var again []int
	for n, i := range tx {
		err, failed := answers[n].(error)
		if !failed {
			continue
		}
		stream := a.entries[i].stream.text
		cause := classify(err, "adding to stream "+stream)
		if cause.Kind == sink.Routing {
			a.fail(a.entries[i].message, cause)
			continue
		}
		a.aside[stream] = cause
		again = append(again, i)
	}
	return again, nil
}

// delivered counts the messages that were added, with their bytes. It is asked when the queue is empty.
func (a *attempt) delivered() (messages int, size int64) {
	for i := range a.entries {
		e := &a.entries[i]
		if a.failed != nil && a.failed[e.message] != nil {
			continue
		}
		messages++
		size += int64(e.size - entryOverhead)
	}
	return messages, size
}

// waiting returns what is not yet added.
func (a *attempt) waiting() (events, size int64) {
	for _, i := range a.queue {
		events++
		size += int64(a.entries[i].size)
	}
	return events, size
}
