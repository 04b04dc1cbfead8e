// Package kafkaout provides deltaforge_kafka, the output that writes change events to Apache Kafka.
//
// It works from a message's payload and metadata alone, so that any Benthos input can feed it.
package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func init() {
	service.MustRegisterBatchOutput("deltaforge_kafka", spec(),
		func(p *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			c, err := parseConfig(p)
			if err != nil {
				return nil, service.BatchPolicy{}, 0, err
			}
			return newOutput(c, res), c.batching, c.maxInFlight, nil
		})
}

const closeLimit = 10 * time.Second

// What panics_total calls what the engine does with the output, and what the client does with us.
const (
	component      = "kafka output"
	testComponent  = "kafka connection test"
	closeComponent = "kafka output close"
	endComponent   = "kafka client close"
	hookComponent  = "kafka client"
	logComponent   = "kafka client log"
	lossComponent  = "kafka client data loss"
)

// output is the service.BatchOutput. The engine calls Connect until it succeeds, then WriteBatch from up to
// max_in_flight goroutines.
type output struct {
	conf   *config
	log    *service.Logger
	stats  *sink.Stats
	topics topics
	free   chan *attempt // done with, for the next batch

	building sync.Mutex
	build    builder // guarded by building

	exact *exact // nil: at least once

	hooks  *hooks
	gate   sink.Gate
	parked sink.Parking[*attempt]
	dead   *deadletter.Letters // nil: an event that fails for good is refused

	mu     sync.Mutex
	cl     *kgo.Client // nil before Connect and after Close; guarded by mu
	closed bool        // guarded by mu
}

var (
	_ service.BatchOutput        = (*output)(nil)
	_ service.ConnectionTestable = (*output)(nil)
)

func newOutput(c *config, res *service.Resources) *output {
	stats := sink.NewStats(res.Metrics(), int64(c.maxBuffered)*int64(c.maxInFlight))
	o := &output{
		conf:   c,
		log:    res.Logger(),
		stats:  stats,
		hooks:  newHooks(res.Logger(), stats),
		parked: sink.Parking[*attempt]{Limit: c.maxInFlight, Same: (*attempt).same},
		topics: newTopics(c.create),
		build:  builder{conf: c, topics: make(map[tableName]string)},
		free:   make(chan *attempt, c.maxInFlight),
	}
	if c.dead != nil {
		o.dead = deadletter.New(*c.dead, res, stats)
	}
	if c.exactly {
		o.exact = newExactSink(o, res)
	}
	return o
}

// ConnectionTest reaches a broker with a client of its own.
func (o *output) ConnectionTest(ctx context.Context) service.ConnectionTestResults {
	if err := o.stats.Guard(o.log, testComponent, func() error { return o.test(ctx) }); err != nil {
		return service.ConnectionTestFailed(err).AsList()
	}
	return service.ConnectionTestSucceeded().AsList()
}

func (o *output) test(ctx context.Context) error {
	cl, err := kgo.NewClient(clientOptions(o.conf, o.log, &sink.Stats{}, newHooks(o.log, &sink.Stats{}))...)
	if err != nil {
		return classify(err, "making a Kafka client")
	}
	defer cl.Close()
	return o.ping(ctx, cl)
}

// Connect reaches a broker. After WriteBatch gave up on a batch, the first call reports why; the next one lets the
// batch be tried again.
func (o *output) Connect(ctx context.Context) error {
	return o.stats.Guard(o.log, component, func() error { return o.connect(ctx) })
}

func (o *output) connect(ctx context.Context) error {
	cl, err := o.client()
	if err != nil {
		return err
	}
	if err := o.ping(ctx, cl); err != nil {
		o.stats.Failed(sink.KindOf(err))
		return err
	}
	if err := o.dead.Open(ctx); err != nil {
		o.stats.Failed(sink.KindOf(err))
		return err
	}
	if o.exact != nil {
		if err := o.exact.meet(ctx); err != nil {
			o.stats.Failed(sink.KindOf(err))
			return err
		}
		if err := o.exact.pipeline.Attach(o.exact); err != nil {
			return err
		}
	}
	return o.gate.Pass()
}

// client returns the one client of the output, made at the first call. It survives lost connections. It sends only when flushed (see attempt).
func (o *output) client() (*kgo.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, service.ErrEndOfInput // the engine's word for a component that is closed
	}
	if o.cl != nil {
		return o.cl, nil
	}
	cl, err := kgo.NewClient(append(clientOptions(o.conf, o.log, o.stats, o.hooks), kgo.ManualFlushing())...)
	if err != nil {
		return nil, classify(err, "making a Kafka client")
	}
	if warning := o.conf.ShownPassword(); warning != "" {
		o.log.Warn(warning)
	}
	o.cl = cl
	return cl, nil
}

func (o *output) ping(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, o.conf.ConnectTimeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		c := classify(err, fmt.Sprintf("connecting to Kafka at %v", o.conf.Seeds))
		if c.Kind == sink.Other {
			c.Kind = sink.Connect // certificates, a listener of another protocol
		}
		return c
	}
	return nil
}

// WriteBatch returns nil when the brokers have acknowledged every record of the batch, a BatchError when some messages
// can never be written and all others are, and ErrNotConnected when the rest is to be tried again.
func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	return o.gate.Repeat(o.stats, o.log, component, func() error { return o.write(ctx, batch) }, func() {})
}

func (o *output) write(ctx context.Context, batch service.MessageBatch) error {
	o.mu.Lock()
	cl := o.cl
	o.mu.Unlock()
	if cl == nil {
		return service.ErrNotConnected
	}
	change.Reached(batch)
	start := time.Now()
	defer func() { o.stats.Took(time.Since(start)) }()
	a, resumed := o.begin(batch)
	if resumed {
		o.stats.Retried()
	}
	var refused map[int]error
	var err error
	if o.exact != nil {
		err = o.exact.write(ctx, a, batch)
	} else {
		err = o.deliver(ctx, cl, a)
	}
	if err == nil {
		if refused, err = o.dead.Keep(ctx, batch, a.failed); err == nil && refused == nil {
			o.stats.Kept(a.failed)
		}
	}
	if errors.Is(err, exactly.ErrFenced) {
		o.stats.Failed(sink.Fenced)
		return err // for good: the source stops
	}
	if err != nil {
		return o.park(ctx, a, err)
	}
	return o.done(a, batch, refused)
}

// begin builds the records of a batch, or finds the attempt that an earlier call with this batch has left.
func (o *output) begin(batch service.MessageBatch) (a *attempt, resumed bool) {
	a = o.unused(len(batch))
	func() {
		o.building.Lock()
		defer o.building.Unlock()
		o.build.build(a, batch)
	}()
	fresh := a
	if a, resumed = o.parked.Take(fresh); resumed {
		o.reuse(fresh)
	} else {
		a.plan(o.conf.maxBuffered)
	}
	return a, resumed
}

// unused returns an attempt for a batch. One that was made for far larger batches is let go, so that a quiet pipeline keeps little.
func (o *output) unused(messages int) *attempt {
	select {
	case a := <-o.free:
		if cap(a.recs) <= max(1000, 8*messages) {
			return a
		}
	default:
	}
	return newAttempt()
}

// reuse keeps an attempt that is done with.
func (o *output) reuse(a *attempt) {
	a.drop()
	select {
	case o.free <- a:
	default:
	}
}

// deliver goes on with a until every record is acknowledged or refused. It returns the first failure that may pass.
func (o *output) deliver(ctx context.Context, cl *kgo.Client, a *attempt) error {
	defer func() { o.stats.Buffered(cl.BufferedProduceRecords(), cl.BufferedProduceBytes()) }()
	// The client must not give up on records because the engine stops waiting for them.
	lasting := context.WithoutCancel(ctx)
	var held map[string]error
	if a.sent == nil {
		a.release()
		held = o.holdBack(ctx, cl, a)
	}
	for a.sent != nil || len(a.work) > 0 {
		if a.sent == nil {
			a.handOver(lasting, cl)
			o.stats.Buffered(cl.BufferedProduceRecords(), cl.BufferedProduceBytes())
		}
		if err := o.settle(ctx, cl, a); err != nil {
			return err
		}
		if err := a.harvest(o.beyond(ctx, cl)); err != nil {
			if sink.KindOf(err) == sink.UnknownTopic {
				a.eachTopic(a.work, func(topic string) { o.topics.forget(cl, topic) })
			}
			return err
		}
	}
	if len(held) > 0 {
		return firstOf(held)
	}
	if len(a.held) > 0 {
		return sink.Errorf(sink.UnknownTopic, "records wait for their topic")
	}
	return nil
}

// settle has the client send what it was handed and returns when every record of it has an outcome. It returns an error when
// that takes longer than the configured timeout, or ctx ends; the client goes on and settle can be called again.
func (o *output) settle(ctx context.Context, cl *kgo.Client, a *attempt) error {
	wait, cancel := context.WithTimeout(ctx, o.conf.timeout)
	defer cancel()
	o.topics.awaitLoaded(wait, cl, a)
	// A failed flush shows below.
	_ = cl.Flush(wait)
	select {
	case <-a.settled:
		return nil
	case <-wait.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.stuck(ctx, cl, a)
}

// beyond returns the function by which harvest knows a culprit.
func (o *output) beyond(ctx context.Context, cl *kgo.Client) func(*kgo.Record, int) *sink.Error {
	return func(r *kgo.Record, size int) *sink.Error {
		ctx, cancel := context.WithTimeout(ctx, o.conf.timeout)
		defer cancel()
		l := o.topics.limitsOf(ctx, cl, r.Topic)
		return l.broken(r, size, o.conf.compressed, time.Now())
	}
}

// stuck says why records have no outcome in time. Those of a topic that is gone would wait for ever: the client does not give up
// on a record that a broker may have. When a topic is gone for the second time in a row, its records are taken back, and written
// to a topic of that name as soon as there is one.
func (o *output) stuck(ctx context.Context, cl *kgo.Client, a *attempt) error {
	text := fmt.Sprintf("%d records unacknowledged after %s", a.pending.Load(), o.conf.timeout)
	cause := o.hooks.why(time.Now().Add(-o.conf.timeout))
	if cause == nil {
		gone, err := o.topics.gone(ctx, cl, a, o.conf.ConnectTimeout)
		for name := range gone {
			if a.gone[name] {
				o.topics.forget(cl, name)
			}
		}
		a.gone, cause = gone, err
	}
	if cause == nil {
		cause = o.hooks.why(time.Time{})
	}
	if cause == nil {
		return sink.Errorf(sink.Timeout, "%s", text)
	}
	return sink.Errorf(cause.Kind, "%s: %w", text, cause.Err)
}

// holdBack keeps records of topics that do not exist out of the way of the others.
func (o *output) holdBack(ctx context.Context, cl *kgo.Client, a *attempt) map[string]error {
	names := o.topics.unknown(a)
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.conf.timeout)
	defer cancel()
	bad := o.topics.ensure(ctx, cl, names)
	wait := make(map[string]error)
	for name, err := range bad {
		if !never(err) {
			wait[name] = err
		}
	}
	if len(wait) < len(bad) {
		maps.DeleteFunc(bad, func(_ string, err error) bool { return !never(err) })
		a.refuse(bad)
	}
	if len(wait) > 0 {
		a.hold(wait)
	}
	return wait
}

// park keeps an unfinished attempt for the next call with the same batch.
func (o *output) park(ctx context.Context, a *attempt, err error) error {
	o.parked.Keep(a)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	o.stats.Failed(sink.KindOf(err))
	return o.gate.Shut(err)
}

// done counts a finished attempt and reports the messages that failed for good and are not kept.
func (o *output) done(a *attempt, batch service.MessageBatch, refused map[int]error) error {
	o.gate.Open()
	events, size := a.delivered()
	o.stats.Delivered(events, size)
	err := o.stats.Finished(batch, refused)
	o.reuse(a)
	return err
}

// Close gives up on what is unsent and ends the client. It may be called before Connect and more than once.
func (o *output) Close(ctx context.Context) error {
	return o.stats.Guard(o.log, closeComponent, func() error { return o.close(ctx) })
}

func (o *output) close(ctx context.Context) error {
	if o.exact != nil {
		o.exact.close()
	}
	o.mu.Lock()
	cl := o.cl
	o.cl, o.closed = nil, true
	o.mu.Unlock()
	o.parked.Close()
	err := o.dead.Close()
	if cl == nil {
		return err
	}
	ended := o.stats.Go(o.log, endComponent, cl.Close)
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return errors.New("closing the Kafka client: it has not ended in time")
	}
}
