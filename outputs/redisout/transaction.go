package redisout

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// maxRefusals is how often in a row the guard may refuse a transaction of a batch before the output says so. The guard refuses one
// when another writer has connected meanwhile.
const maxRefusals = 20

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
	exec, watch := redis.NewSliceCmd(ctx, "exec"), c.watch(ctx)
	_ = pipe.Process(ctx, exec)
	_ = pipe.Process(ctx, watch)
	_, sent := pipe.Exec(ctx)

	again, err = a.answered(c, multi, exec, queued, tx, sent)
	// Without its watch the connection may not be used for another transaction. One that broke is not used again anyway.
	if e := watch.Err(); e != nil && isAnswer(e) {
		return again, c.guardError(e)
	}
	return again, err
}

// answered sorts out the answers to a transaction.
func (a *attempt) answered(c *config, multi *redis.StatusCmd, exec *redis.SliceCmd, queued []*redis.StatusCmd, tx []int, sent error) ([]int, error) {
	switch {
	case len(exec.Val()) == len(tx): // whatever became of the connection afterwards
		a.refusals = 0
		return a.ran(exec.Val(), tx), nil
	case isAnswer(multi.Err()):
		return tx, classify(multi.Err(), "starting a transaction at "+c.shown)
	case errors.Is(exec.Err(), redis.Nil):
		if a.refusals++; a.refusals <= maxRefusals {
			return tx, nil
		}
		return tx, sink.Errorf(sink.Other, "the guard key %s at %s was raised %d times in a row: other writers connect again and again; "+
			"give each pipeline a %s of its own", c.guardKey, c.shown, a.refusals, fieldGuardKey)
	case exec.Err() != nil && aborted(exec.Err()):
		return tx, a.refused(queued, tx, exec.Err())
	}
	if n := tooLarge(queued); n >= 0 {
		// The server has closed the connection over it, and has run nothing.
		i := tx[n]
		a.fail(a.entries[i].message, classify(queued[n].Err(), "adding to stream "+a.entries[i].stream.text))
		return append(append([]int(nil), tx[:n]...), tx[n+1:]...), nil
	}
	if exec.Err() != nil {
		return tx, classify(exec.Err(), "adding to streams at "+c.shown)
	}
	return tx, classify(sent, "adding to streams at "+c.shown) // of a new connection, before it was used
}

// tooLarge returns the index of the command that is too large for the server, or -1.
func tooLarge(queued []*redis.StatusCmd) int {
	for n, q := range queued {
		if err := q.Err(); err != nil && isAnswer(err) && strings.HasPrefix(err.Error(), protocolError) {
			return n
		}
	}
	return -1
}

// refused sorts out a transaction when the server has run nothing of it.
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

// ran sorts out the answers of a transaction that was run. It returns the entries that were set aside.
func (a *attempt) ran(answers []any, tx []int) (again []int) {
	for n, i := range tx {
		err, failed := answers[n].(error)
		if !failed {
			continue
		}
		stream := a.entries[i].stream.text
		cause := classify(err, "adding to stream "+stream)
		if cause.Kind == sink.Routing || cause.Kind == sink.TooLarge {
			a.fail(a.entries[i].message, cause)
			continue
		}
		a.aside[stream] = cause
		again = append(again, i)
	}
	return again
}
