package redisout

import (
	"context"
	"slices"

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
// a moment in the middle of a pipeline, an entry fails and those after it are added: the failed one, added later, has
// been overtaken. So entries go out in transactions (MULTI ... EXEC), one after the other, the next when the one before
// has its answers. What can happen to a transaction:
//
//   - Everything is added.
//   - Nothing is added, and EXEC answers nil: another connection has raised the guard key. The transaction is sent again.
//   - Nothing is added (EXECABORT): a command was refused when it was queued (out of memory, read-only, no permission),
//     or EXEC was. The transaction is sent again, as it is, until it succeeds. Where the user lacks permission for some
//     keys only, these streams are set aside, as a whole, and the others go on.
//   - EXEC has run, and some commands failed in it. Memory, role and permissions do not change while it runs, so that
//     the entries of one stream have all been added or all been refused. A stream whose name is taken by a key of
//     another type, or that has no ids left, fails for good, message by message; anything else is set aside and tried
//     again, as a whole.
//   - No answer: the connection is gone, and the transaction was run, was not, or still lies somewhere on its way. It is sent
//     again on a new connection, which first raises the guard: from then on the old one adds nothing. So the transaction may be
//     added twice, as a whole and in order: an entry is repeated after itself and never after one that is newer.
//
// MULTI being refused is the one case in which the commands would be run by themselves; Connect makes sure that it is
// allowed, and the connection is given up if it is refused later.
type attempt struct {
	entries  []entry
	messages int
	failed   map[int]error // messages that failed for good

	queue    []int // indexes of entries that have to be added, in order
	aside    map[string]error
	refusals int // of the guard, in a row
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

// bound fails the entries that have a field with more bytes than the server takes, if that limit is known.
func (a *attempt) bound(limit int64) {
	if limit <= 0 {
		return
	}
	a.queue = slices.DeleteFunc(a.queue, func(i int) bool {
		e := &a.entries[i]
		n := max(len(e.event), len(e.key))
		if int64(n) <= limit {
			return false
		}
		a.fail(e.message, sink.Errorf(sink.TooLarge, "entry for stream %s has a field of %d bytes and the server's proto-max-bulk-len is %d",
			e.stream.text, n, limit))
		return true
	})
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
// Entries of such a stream return to the front of the queue by way of kept.
func (a *attempt) next(limit int, kept []int) (tx, rest []int, newKept []int) {
	size := 0
	for n, i := range a.queue {
		e := &a.entries[i]
		if _, aside := a.aside[e.stream.text]; aside {
			kept = append(kept, i)
			continue
		}
		if size += e.size; len(tx) > 0 && (size > limit || e.sweep != "") {
			return tx, a.queue[n:], kept
		}
		tx = append(tx, i)
		if e.sweep != "" {
			return tx, a.queue[n+1:], kept
		}
	}
	return tx, nil, kept
}

// run adds what is queued, transaction by transaction. It returns the first failure that may pass; what is then left
// in the queue has not been added.
func (a *attempt) run(ctx context.Context, cl *redis.Client, c *config) error {
	a.aside, a.refusals = make(map[string]error), 0
	var kept []int
	for len(a.queue) > 0 {
		var tx, rest []int
		tx, rest, kept = a.next(c.maxBuffered, kept)
		if len(tx) == 0 {
			a.queue = nil
			break
		}
		var again []int
		var err error
		if a.entries[tx[0]].sweep != "" {
			if len(kept) > 0 { // what is before it goes first
				a.queue = inOrder(kept, tx, rest)
				return a.aside[a.entries[kept[0]].stream.text]
			}
			if err = a.sweep(ctx, cl, c, tx[0]); err != nil {
				again = tx
			}
		} else {
			again, err = a.transact(ctx, cl, c, tx)
		}
		if err != nil {
			a.queue = inOrder(kept, again, rest)
			return err
		}
		if len(again) > 0 {
			// Nothing was run, or streams have been set aside.
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

// inOrder merges rising lists. The elements of c come after those of b.
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

// delivered counts the messages that were added, with their bytes. It is asked when the queue is empty.
func (a *attempt) delivered() (messages int, size int64) {
	last := -1
	for i := range a.entries {
		e := &a.entries[i]
		if a.failed != nil && a.failed[e.message] != nil {
			continue
		}
		if e.message != last {
			messages++
			last = e.message
		}
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
