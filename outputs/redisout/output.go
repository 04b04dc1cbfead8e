// Package redisout provides deltaforge_redis, the output that writes change events to Redis.
//
// It works from a message's payload and metadata alone, so that any Benthos input can feed it.
package redisout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/livecopy"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func init() {
	service.MustRegisterBatchOutput("deltaforge_redis", spec(),
		func(p *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			c, err := parseConfig(p)
			if err != nil {
				return nil, service.BatchPolicy{}, 0, err
			}
			return newOutput(c, res), c.batching, c.maxInFlight, nil
		})
}

// What panics_total calls what the engine does with the output, and what the client does with us.
const (
	component      = "redis output"
	testComponent  = "redis connection test"
	closeComponent = "redis output close"
	logComponent   = "redis client log"
)

// output is the service.BatchOutput. The engine calls Connect until it succeeds, then WriteBatch from up to
// max_in_flight goroutines.
type output struct {
	conf   *config
	log    *service.Logger
	stats  *sink.Stats
	gate   sink.Gate
	parked sink.Parking[*attempt]

	building sync.Mutex
	build    builder // guarded by building

	exact *exact              // nil: at least once
	prune *pruner             // nil: what a load does not show stays
	dead  *deadletter.Letters // nil: an event that fails for good is refused

	bulk atomic.Int64 // the server's proto-max-bulk-len, 0 where it does not tell

	mu        sync.Mutex
	cl        *redis.Client // nil until Connect, after a failure, and after Close; guarded by mu
	connected bool          // has been before; guarded by mu
	closed    bool          // guarded by mu
}

var (
	_ service.BatchOutput        = (*output)(nil)
	_ service.ConnectionTestable = (*output)(nil)
)

func newOutput(c *config, res *service.Resources) *output {
	o := &output{
		conf:   c,
		log:    res.Logger(),
		stats:  sink.NewStats(res.Metrics(), int64(c.maxBuffered)*int64(c.maxInFlight)),
		parked: sink.Parking[*attempt]{Limit: c.maxInFlight, Same: (*attempt).same},
		build:  builder{conf: c, streams: make(map[tableName]name), columns: make(map[string]*columns)},
	}
	if c.exactly {
		o.exact = &exact{conf: c, pipeline: exactly.Of(res), client: o.client, stats: sink.NewTransactions(res.Metrics()), streams: map[string]bool{}}
	}
	if c.prune {
		o.prune = &pruner{conf: c, log: res.Logger(), pipeline: livecopy.Of(res), client: o.client, loads: map[string]bool{}}
		o.prune.pipeline.Expect(o.prune)
	}
	if c.dead != nil {
		o.dead = deadletter.New(*c.dead, res, o.stats)
	}
	// The client library has one logger for the whole process. What matters comes back as errors.
	redis.SetLogger(demoted{o.log, o.stats})
	return o
}

type demoted struct {
	log   *service.Logger
	stats *sink.Stats
}

func (d demoted) Printf(_ context.Context, format string, v ...any) {
	d.stats.Do(d.log, logComponent, func() { d.log.Debugf("go-redis: "+format, v...) })
}

// ConnectionTest reaches the server with a client of its own.
func (o *output) ConnectionTest(ctx context.Context) service.ConnectionTestResults {
	err := o.stats.Guard(o.log, testComponent, func() error {
		cl, err := o.dial(ctx)
		if err != nil {
			return err
		}
		return cl.Close()
	})
	if err != nil {
		return service.ConnectionTestFailed(err).AsList()
	}
	return service.ConnectionTestSucceeded().AsList()
}

// Connect reaches the server, and holds it against what is needed. After WriteBatch gave up on a batch, the first call
// reports why; the next one lets the batch be tried again.
func (o *output) Connect(ctx context.Context) error {
	return o.stats.Guard(o.log, component, func() error { return o.connect(ctx) })
}

func (o *output) connect(ctx context.Context) error {
	o.mu.Lock()
	closed, cl := o.closed, o.cl
	o.mu.Unlock()
	if closed {
		return service.ErrEndOfInput // the engine's word for a component that is closed
	}
	if o.exact != nil {
		if err := o.exact.meet(ctx); err != nil {
			o.stats.Failed(sink.KindOf(err))
			return err
		}
	}
	if o.prune != nil {
		o.prune.pipeline.Join(o.prune)
	}
	if cl == nil {
		var err error
		if cl, err = o.dial(ctx); err != nil {
			o.stats.Failed(sink.KindOf(err))
			return err
		}
		o.adopt(cl)
	}
	if o.exact != nil {
		if err := o.exact.pipeline.Attach(o.exact); err != nil {
			return err
		}
	}
	if o.prune != nil {
		if err := o.prune.resume(ctx, o.client()); err != nil {
			o.stats.Failed(sink.KindOf(err))
			return err
		}
	}
	if err := o.dead.Open(ctx); err != nil {
		o.stats.Failed(sink.KindOf(err))
		return err
	}
	return o.gate.Pass()
}

// client returns the client; nil: the output is not connected.
func (o *output) client() *redis.Client {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cl
}

// adopt makes cl the client of the output, unless Close was faster.
func (o *output) adopt(cl *redis.Client) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.cl != nil {
		// A client without requests on their way has nothing to report.
		_ = cl.Close()
		return
	}
	o.cl = cl
	if o.connected {
		o.stats.Reconnected()
	} else if warning := o.conf.shownPassword(); warning != "" {
		o.log.Warn(warning)
	}
	o.connected = true
}

// dial makes a client and checks that it may run transactions.
func (o *output) dial(ctx context.Context) (*redis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, o.conf.connectTimeout)
	defer cancel()
	cl, err := o.conf.open(ctx)
	if err != nil {
		return nil, o.unreached(err)
	}
	multi, exec, watch := redis.NewStatusCmd(ctx, "multi"), redis.NewSliceCmd(ctx, "exec"), o.conf.watch(ctx)
	limit := redis.NewMapStringStringCmd(ctx, "config", "get", bulkLimit)
	pipe := cl.Pipeline()
	for _, cmd := range []redis.Cmder{multi, exec, watch, limit} {
		_ = pipe.Process(ctx, cmd) // only queues
	}
	_, err = pipe.Exec(ctx)
	if isAnswer(limit.Err()) || errors.Is(exec.Err(), redis.Nil) {
		// A user may be forbidden to ask for the limit; another writer may have connected. What counts is the others' answers.
		err = cmp.Or(multi.Err(), notNil(exec.Err()), watch.Err())
	}
	if err != nil {
		_ = cl.Close() // err says what there is to say
		return nil, o.unreached(err)
	}
	// What it does not tell is 0. Then it refuses what is larger, and closes the connection with it.
	n, _ := strconv.ParseInt(limit.Val()[bulkLimit], 10, 64)
	o.bulk.Store(n)
	return cl, nil
}

// unreached is the error of a server that is not there, or does not do what is needed.
func (o *output) unreached(err error) error {
	c := classify(err, "connecting to Redis at "+o.conf.shown)
	if c.Kind == sink.Other && !isAnswer(err) {
		c.Kind = sink.Connect // certificates, a server of another protocol
	}
	return c
}

// bulkLimit is the server's setting for the most bytes that a field of an entry may have.
const bulkLimit = "proto-max-bulk-len"

func notNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// WriteBatch returns nil when the server has added every entry of the batch, a BatchError when some messages can never
// be added and all others are, and ErrNotConnected when the rest is to be tried again.
func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	return o.gate.Repeat(o.stats, o.log, component, func() error { return o.write(ctx, batch) }, o.disconnect)
}

// disconnect gives up the client, whose connection may be in the middle of a transaction.
func (o *output) disconnect() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cl != nil {
		_ = o.cl.Close() // what there is to say has been said
		o.cl = nil
	}
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
	a.bound(o.bulk.Load())
	o.stats.Buffered(a.waiting())
	var refused map[int]error
	var err error
	if o.exact != nil {
		err = o.exact.write(ctx, a, batch)
	} else {
		err = o.run(ctx, cl, a)
	}
	o.stats.Buffered(a.waiting())
	if sink.KindOf(err) == sink.Fenced {
		o.stats.Failed(sink.Fenced)
		return err // for good: the source stops
	}
	if err == nil {
		if refused, err = o.dead.Keep(ctx, batch, a.failed); err == nil && refused == nil {
			o.stats.Kept(a.failed)
		}
	}
	if err != nil {
		return o.park(ctx, cl, a, err)
	}
	return o.done(a, batch, refused)
}

// run adds what is left of an attempt, while nothing is being removed.
func (o *output) run(ctx context.Context, cl *redis.Client, a *attempt) error {
	if o.prune != nil {
		o.prune.writing.RLock()
		defer o.prune.writing.RUnlock()
	}
	return a.run(ctx, cl, o.conf)
}

// begin builds the entries of a batch, or finds the attempt that an earlier call with this batch has left.
func (o *output) begin(batch service.MessageBatch) (a *attempt, resumed bool) {
	func() {
		o.building.Lock()
		defer o.building.Unlock()
		a = o.build.build(batch, o.prune)
	}()
	if a, resumed = o.parked.Take(a); !resumed {
		a.begin()
	}
	return a, resumed
}

// park keeps an unfinished attempt for the next call with the same batch.
func (o *output) park(ctx context.Context, cl *redis.Client, a *attempt, err error) error {
	o.parked.Keep(a)
	o.mu.Lock()
	defer o.mu.Unlock()
	// A connection may hold an open transaction, or lead to a server that is no longer the primary.
	if sink.KindOf(err) != sink.OutOfMemory && o.cl == cl {
		_ = cl.Close() // err says what there is to say
		o.cl = nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	o.stats.Failed(sink.KindOf(err))
	return o.gate.Shut(err)
}

// done counts a finished attempt and reports the messages that failed for good and are not kept.
func (o *output) done(a *attempt, batch service.MessageBatch, refused map[int]error) error {
	o.gate.Open()
	o.stats.Delivered(a.delivered())
	return o.stats.Finished(batch, refused)
}

// Close drops the connections. It may be called before Connect and more than once.
func (o *output) Close(context.Context) error {
	return o.stats.Guard(o.log, closeComponent, o.close)
}

func (o *output) close() error {
	if o.exact != nil {
		o.exact.pipeline.Detach(o.exact)
	}
	if o.prune != nil {
		o.prune.pipeline.Leave(o.prune)
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
	if e := cl.Close(); e != nil && !errors.Is(e, redis.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("closing the connections to Redis: %w", e))
	}
	return err
}
