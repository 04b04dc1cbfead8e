package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/kafkaconn"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// # Exactly once
//
// The position of the source is a record in a compacted topic, and each transaction writes it together with its rows.
//
// A producer that is made ends what an earlier one with the same transactional id has open, and refuses what it still has on its way. Then it
// reads the position: nobody else can write it in between without fencing this producer. If it is not the one that this instance knows, another
// instance has taken over. If it is that of the transaction whose answer was lost, that one was committed. So whenever anything goes wrong, the
// producer is given up and made anew, and the transaction is sent again, unless it is in the topic.
type exact struct {
	o        *output
	pipeline *exactly.Pipeline
	stats    *sink.Transactions

	mu     sync.Mutex
	ledger *exactly.Ledger // guarded by mu, as are all the others
	cl     *kgo.Client     // the producer; nil: there is none
	values map[string][]byte
	loaded map[string]bool // topics whose partitions the producer shows
	dirty  bool            // something was written since values were read
	open   *transaction    // of which the outcome is not known; nil: there is none
}

// transaction is rows and the records that belong to them.
type transaction struct {
	tx    *exactly.Tx
	recs  []*kgo.Record
	marks []*exactly.Mark // of events that are done with it
	tried bool            // it was sent, and its outcome is not known
}

// mostTries is how often a transaction is sent in one call when its producer is fenced.
const mostTries = 3

// meet finds the source whose position it is, and makes the producer. It returns why that is not possible.
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
	if x.cl == nil && x.open == nil {
		return x.renew(ctx)
	}
	return nil
}

// Load implements exactly.Sink.
func (x *exact) Load(ctx context.Context, keys ...string) ([][]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cl == nil || x.dirty {
		if err := x.renew(ctx); err != nil {
			return nil, err
		}
	}
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = x.values[k]
	}
	return values, nil
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

// Growth implements exactly.Sink. A broker answers the first rows of a transaction some 20 ms late when those of the one before it are just committed
// (add.partitions.to.txn.retry.backoff.ms), which is the time of five thousand rows.
func (x *exact) Growth() int { return 4 }

// finish ends the transaction whose outcome is not known, if there is one; x.mu is held.
func (x *exact) finish(ctx context.Context) error {
	if x.open == nil {
		return nil
	}
	return x.transact(ctx, x.open)
}

// transact sends a transaction until its outcome is known; x.mu is held. When it returns an error, x.open says whether the outcome is known: then
// nothing of the transaction is in the sink.
func (x *exact) transact(ctx context.Context, t *transaction) (err error) {
	x.open = t
	for range mostTries {
		if x.cl == nil {
			if err := x.renew(ctx); err != nil {
				return err
			}
			committed, err := t.tx.Found(x.values[x.ledger.Key()])
			if !committed && t.tried {
				t.tried = false
				x.stats.Aborted()
			}
			if err != nil {
				x.open = nil
				x.drop()
				return &sink.Error{Kind: sink.Fenced, Err: err}
			}
			if committed {
				x.commit(t)
				return nil
			}
		}
		if err = x.send(ctx, t); err == nil {
			x.commit(t)
			return nil
		}
		if r, ok := errors.AsType[refusedRecords](err); ok {
			x.open = nil
			t.tx.Aborted()
			x.stats.Aborted()
			return r
		}
		x.drop()
		if sink.KindOf(err) != sink.Fenced {
			return err
		}
	}
	return err
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

// drop gives up the producer; x.mu is held.
func (x *exact) drop() {
	if x.cl == nil {
		return
	}
	ended := x.o.stats.Go(x.o.log, endComponent, x.cl.Close)
	select {
	case <-ended:
	case <-time.After(closeLimit):
	}
	x.cl = nil
	clear(x.loaded)
}

// refusedRecords is an error of records that the broker refuses for what they are: the transaction was given up.
type refusedRecords struct {
	errs map[*kgo.Record]error
	error
}

func (r refusedRecords) Unwrap() error { return r.error }

// send writes a transaction and commits it; x.mu is held.
func (x *exact) send(ctx context.Context, t *transaction) error {
	recs := make([]*kgo.Record, 0, len(t.recs)+3)
	for _, r := range t.recs {
		*r = kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp} // the client leaves its own fields
		recs = append(recs, r)
	}
	for _, r := range t.tx.Records() {
		recs = append(recs, &kgo.Record{Topic: x.o.conf.checkpointTopic, Key: []byte(r.Key), Value: r.Value})
	}
	x.dirty, t.tried = true, true
	errs, err := x.commitRecords(ctx, x.cl, recs)
	if err == nil || len(errs) == 0 {
		return err
	}
	bad := make(map[*kgo.Record]error)
	var first error
	for _, r := range recs {
		cause := errs[r]
		if cause == nil {
			continue
		}
		c := classify(cause, "topic "+r.Topic)
		if first == nil {
			first = c
		}
		if !permanent(c.Kind, cause) || r.Topic == x.o.conf.checkpointTopic {
			return c // for another try, or to be mended by a person
		}
		bad[r] = cause
	}
	abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.o.conf.timeout)
	defer cancel()
	if err := x.cl.EndTransaction(abort, kgo.TryAbort); err != nil {
		return classify(err, "giving up the transaction "+x.id())
	}
	return refusedRecords{bad, first}
}

// commitRecords writes records in one transaction. Without an error all of them are committed. Errs are the records that have failed, for which no commit was
// tried; the transaction is open then.
func (x *exact) commitRecords(ctx context.Context, cl *kgo.Client, recs []*kgo.Record) (errs map[*kgo.Record]error, err error) {
	c := x.o.conf
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		return nil, classify(err, "beginning the transaction "+x.id())
	}
	var mu sync.Mutex
	var left sync.WaitGroup
	failed := make(map[*kgo.Record]error) // guarded by mu
	lasting := context.WithoutCancel(ctx)
	for _, r := range recs {
		left.Add(1)
		cl.Produce(lasting, r, func(r *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed[r] = err
				mu.Unlock()
			}
			left.Done()
		})
	}
	if err := cl.Flush(ctx); err != nil {
		if ctx.Err() == nil {
			return nil, classify(err, "writing the transaction "+x.id())
		}
		if cause := x.o.hooks.why(time.Now().Add(-c.timeout)); cause != nil {
			return nil, sink.Errorf(cause.Kind, "the transaction %s is not acknowledged after %s: %w", x.id(), c.timeout, cause.Err)
		}
		return nil, classify(ctx.Err(), "writing the transaction "+x.id())
	}
	left.Wait() // no longer than the flush
	if err := x.awaitLoaded(ctx, cl, recs); err != nil {
		return nil, err
	}
	if len(failed) > 0 {
		return failed, errors.New("records have failed")
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return nil, classify(err, "committing the transaction "+x.id())
	}
	return nil, nil
}

// awaitLoaded returns when the producer shows the partitions of the records' topics. It writes the first records of a topic before that; if it is told
// to commit in between, it finds that nothing was written, gives the transaction up, and returns no error.
func (x *exact) awaitLoaded(ctx context.Context, cl *kgo.Client, recs []*kgo.Record) error {
	for _, r := range recs {
		if x.loaded[r.Topic] {
			continue
		}
		if err := kafkaconn.AwaitShown(ctx, cl, r.Topic); err != nil {
			return classify(err, "writing the transaction "+x.id())
		}
		x.loaded[r.Topic] = true
	}
	return nil
}

// id returns the transactional id.
func (x *exact) id() string {
	if x.o.conf.transactionalID != "" {
		return x.o.conf.transactionalID
	}
	return "deltaforge-" + x.o.conf.checkpointTopic + "-" + x.ledger.Key()
}

// explain is an error about transactions, with the way out.
func (x *exact) explain(err error, what string) *sink.Error {
	c := classify(err, what)
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return sink.Explain(sink.Permission, what, err, fmt.Sprintf("grant Write and Describe on the transactional id %s to this user", x.id()))
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return sink.Explain(sink.Other, what, err, fmt.Sprintf("lower %s to the broker's transaction.max.timeout.ms", fieldTxTimeout))
	case errors.Is(err, kerr.CoordinatorNotAvailable), c.Kind == sink.Timeout:
		return sink.Explain(c.Kind, what, err, "has the cluster as many brokers as its transaction.state.log.replication.factor asks for?")
	}
	return c
}

var _ exactly.Sink = (*exact)(nil)

func newExactSink(o *output, res *service.Resources) *exact {
	return &exact{o: o, pipeline: exactly.Of(res), stats: sink.NewTransactions(res.Metrics()), loaded: map[string]bool{}}
}

// close gives the producer up.
func (x *exact) close() {
	x.pipeline.Detach(x)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop()
}
