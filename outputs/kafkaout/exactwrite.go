package kafkaout

import (
	"context"
	"errors"
	"maps"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// write writes the records of an attempt, each once, in transactions that end where the source can go on.
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
	if err := x.topics(ctx, a); err != nil {
		return err
	}
	most := len(a.recs) // of records in a transaction
	for {
		queue := a.left(marks)
		if len(queue) == 0 {
			return nil
		}
		rows := a.rows(marks, queue, x.o.conf.maxBuffered, most)
		n, hold := rows.Fit(x.o.conf.maxBuffered)
		last, done := rows.Take(n, hold)
		err := x.part(ctx, a, queue[:n], last, done)
		if r, ok := errors.AsType[refusedRecords](err); ok {
			most = x.isolate(ctx, a, queue[:n], r)
			continue
		}
		if err != nil {
			if sink.KindOf(err) == sink.UnknownTopic {
				x.forget(a)
			}
			return err
		}
	}
}

// forget has the topics of an attempt looked up again.
func (x *exact) forget(a *attempt) {
	cl, err := x.o.client()
	if err != nil {
		return
	}
	a.eachTopic([]segment{a.all()}, func(topic string) { x.o.topics.forget(cl, topic) })
}

// topics makes the topics that are missing, and fails the messages whose topics can never be.
func (x *exact) topics(ctx context.Context, a *attempt) error {
	cl, err := x.o.client()
	if err != nil {
		return err
	}
	a.work = []segment{a.all()}
	defer func() { a.work = nil }()
	names := x.o.topics.unknown(a)
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, x.o.conf.timeout)
	defer cancel()
	bad := x.o.topics.ensure(ctx, cl, names)
	wait := maps.Clone(bad)
	maps.DeleteFunc(wait, func(_ string, err error) bool { return never(err) })
	if len(wait) > 0 {
		return firstOf(wait)
	}
	a.refuse(bad)
	return nil
}

// all returns all records.
func (a *attempt) all() segment {
	all := make(segment, len(a.recs))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// left returns the records that are to be written, in order.
func (a *attempt) left(marks []*exactly.Mark) segment {
	left := make(segment, 0, len(a.recs))
	for i, m := range a.msgs {
		if a.failed[int(m)] == nil && !marks[m].Done {
			left = append(left, int32(i))
		}
	}
	return left
}

// rows returns what is left, of which at most so many go into one transaction.
func (a *attempt) rows(marks []*exactly.Mark, queue segment, limit, most int) exactly.Rows {
	return exactly.Rows{
		Marks: marks, Failed: a.failed, Left: len(queue), Message: func(k int) int { return int(a.msgs[queue[k]]) },
		Size: func(k int) int {
			if k >= most {
				return limit + 1 // no more than that
			}
			return int(a.sizes[queue[k]])
		},
	}
}

// part writes records in one transaction.
func (x *exact) part(ctx context.Context, a *attempt, queue segment, last *exactly.Mark, done []*exactly.Mark) error {
	t := &transaction{recs: make([]*kgo.Record, len(queue)), marks: done}
	for k, i := range queue {
		t.recs[k] = &a.recs[i]
	}
	var err error
	if t.tx, err = x.ledger.Rows(ctx, last); err != nil {
		if errors.Is(err, exactly.ErrFenced) {
			return &sink.Error{Kind: sink.Fenced, Err: err}
		}
		return err
	}
	return x.transact(ctx, t)
}

// isolate fails the culprits among records that the broker has refused, and returns how many records the next transaction may have: where no limit
// tells which one it is, half as many, until it is alone.
func (x *exact) isolate(ctx context.Context, a *attempt, queue segment, r refusedRecords) (most int) {
	cl, err := x.o.client()
	if err != nil {
		return len(queue)
	}
	beyond := x.o.beyond(ctx, cl)
	known := false
	for _, i := range queue {
		if r.errs[&a.recs[i]] == nil {
			continue
		}
		if err := beyond(&a.recs[i], int(a.sizes[i])); err != nil {
			a.fail(int(a.msgs[i]), err)
			known = true
		}
	}
	if known {
		return len(a.recs)
	}
	messages := map[int32]bool{}
	for _, i := range queue {
		messages[a.msgs[i]] = true
	}
	if len(messages) > 1 {
		return max(1, len(queue)/2)
	}
	a.fail(int(a.msgs[queue[0]]), r.error)
	return len(a.recs)
}
