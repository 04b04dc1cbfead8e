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
		n, hold := a.fit(marks, queue, x.o.conf.maxBuffered, most)
		err := x.part(ctx, a, marks, queue[:n], hold)
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

// fit returns how many of the records go into the next transaction. Hold says that an event before its last one has failed.
func (a *attempt) fit(marks []*exactly.Mark, queue segment, limit, most int) (n int, hold bool) {
	first := int32(len(marks)) // message that has failed
	for i := range a.failed {
		first = min(first, int32(i))
	}
	of := make([]*exactly.Mark, len(queue))
	for k, i := range queue {
		of[k] = marks[a.msgs[i]]
	}
	n = exactly.Fit(exactly.Ends(of), limit, func(k int) int {
		if k >= most {
			return limit + 1 // no more than that
		}
		return int(a.sizes[queue[k]])
	}, func(k int) bool { return a.msgs[queue[k]] > first && a.msgs[queue[k-1]] < first })
	return n, a.msgs[queue[n-1]] > first
}

// part writes records in one transaction.
func (x *exact) part(ctx context.Context, a *attempt, marks []*exactly.Mark, queue segment, hold bool) error {
	t := &transaction{recs: make([]*kgo.Record, len(queue))}
	failed := map[*exactly.Mark]bool{}
	for i := range a.failed {
		failed[marks[i]] = true
	}
	all := make([]*exactly.Mark, len(queue))
	for k, i := range queue {
		t.recs[k], all[k] = &a.recs[i], marks[a.msgs[i]]
		if !failed[all[k]] {
			t.marks = append(t.marks, all[k])
		}
	}
	last := exactly.Last(all)
	if hold {
		last = nil // an event before it is not delivered: a crash must bring it again
	}
	tx, err := x.ledger.Rows(ctx, last)
	if err != nil {
		if errors.Is(err, exactly.ErrFenced) {
			return &sink.Error{Kind: sink.Fenced, Err: err}
		}
		return err
	}
	t.tx = tx
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
