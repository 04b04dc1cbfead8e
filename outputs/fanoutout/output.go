// Package fanoutout provides deltaforge_fanout, the output that gives each batch to several outputs, of which some may be late.
package fanoutout

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func init() {
	service.MustRegisterBatchOutput("deltaforge_fanout", spec(),
		func(p *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			o, err := newOutput(p, res)
			return o, service.BatchPolicy{}, 1, err
		})
}

const component = "fanout"

// child is one of the outputs.
type child struct {
	name string
	out  *service.OwnedOutput
	late bool // it has its batches from the spool
	wake chan struct{}

	primed    bool
	delivered int64 // the newest batch of the spool that is delivered; guarded by output.mu
}

// output is the service.BatchOutput.
type output struct {
	conf     *config
	log      *service.Logger
	stats    *sink.Stats
	series   *series
	pipeline string
	gate     sink.Gate
	children []*child

	mu       sync.Mutex
	progress chan struct{}     // closed and made anew when a late output has delivered; guarded by mu, as are all the others
	spool    *spool            // nil until it is needed, and after Close
	ends     []<-chan struct{} // of the goroutines
	stop     context.CancelFunc
	closed   bool
	put      map[string]int64 // the place of the batch that is being written, for each late output; nil: it is not in the spool yet
	putOf    service.MessageBatch
}

type series struct {
	events, bytes    *service.MetricGauge
	dropped, retries *service.MetricCounter
}

func newOutput(p *service.ParsedConfig, res *service.Resources) (*output, error) {
	c, err := parseConfig(p)
	if err != nil {
		return nil, err
	}
	m := res.Metrics()
	o := &output{
		conf: c, log: res.Logger(), stats: sink.NewStats(m, 0), pipeline: res.StreamID(), progress: make(chan struct{}),
		series: &series{
			events: m.NewGauge("spool_events", "output"), bytes: m.NewGauge("spool_bytes", "output"),
			dropped: m.NewCounter("spool_dropped_total", "output"), retries: m.NewCounter("spool_retries_total", "output"),
		},
	}
	for _, out := range c.outputs {
		ch := &child{name: out.name, out: out.output, late: c.late(out), wake: make(chan struct{}, 1)}
		if ch.late {
			o.series.dropped.Incr(0, ch.name)
			o.series.retries.Incr(0, ch.name)
		}
		o.children = append(o.children, ch)
	}
	return o, nil
}

// lateOnes returns the names of the outputs that are fed from the spool.
func (o *output) lateOnes() (names []string) {
	for _, c := range o.children {
		if c.late {
			names = append(names, c.name)
		}
	}
	return names
}

// Connect opens the spool and lets the outputs connect, which they do by themselves.
func (o *output) Connect(ctx context.Context) error {
	return o.stats.Guard(o.log, component, func() error { return o.connect(ctx) })
}

func (o *output) connect(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return service.ErrEndOfInput // the engine's word for a component that is closed
	}
	if o.stop != nil {
		return o.gate.Pass()
	}
	for _, c := range o.children {
		if !c.primed {
			if err := c.out.Prime(); err != nil {
				return sink.Errorf(sink.Other, "output %s: %w", c.name, err)
			}
			c.primed = true
		}
	}
	if len(o.lateOnes()) > 0 {
		s, err := openSpool(ctx, o.conf.path, o.pipeline)
		if err != nil {
			return sink.Errorf(sink.Other, "%w", err)
		}
		o.spool = s
	}
	ctx, o.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, c := range o.children {
		if c.late {
			s := o.spool
			o.ends = append(o.ends, o.stats.Go(o.log, component, func() { o.feed(ctx, c, s) }), o.stats.Go(o.log, component, func() { o.publish(ctx, c, s) }))
		}
	}
	return o.gate.Pass()
}

const (
	minPause = 200 * time.Millisecond
	maxPause = 10 * time.Second
	lookAt   = 5 * time.Second // how often a feed looks by itself
)

// feed delivers what the spool has for an output, in order, until ctx ends.
func (o *output) feed(ctx context.Context, c *child, s *spool) {
	pause, failing := minPause, false
	for ctx.Err() == nil {
		id, batch, err := s.first(ctx, c.name)
		switch {
		case err == nil && id == 0:
			select {
			case <-c.wake:
			case <-time.After(lookAt):
			case <-ctx.Done():
			}
			continue
		case err == nil:
			err = c.out.WriteBatch(ctx, batch)
		}
		if err == nil {
			err = s.done(ctx, id)
		}
		if err == nil {
			if failing {
				o.log.With("output", c.name).Infof("Output %s takes events again", c.name)
			}
			pause, failing = minPause, false
			o.mark(c, id)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		o.series.retries.Incr(1, c.name)
		if !failing {
			o.log.With("output", c.name, "error", err.Error()).Errorf("Output %s does not take its events; they wait in the spool, and the others go on", c.name)
		}
		failing = true
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// publish says what an output has still to deliver, until ctx ends: an output that is away may hold up its feed for as long.
func (o *output) publish(ctx context.Context, c *child, s *spool) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if events, size, err := s.waiting(ctx, c.name); err == nil {
			o.series.events.Set(events, c.name)
			o.series.bytes.Set(size, c.name)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// mark notes what a late output has delivered.
func (o *output) mark(c *child, id int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.delivered = id
	close(o.progress)
	o.progress = make(chan struct{})
}

// WriteBatch returns when the outputs that commit_policy asks for have a batch, and the disk has it for the others.
func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	return o.gate.Repeat(o.stats, o.log, component, func() error { return o.write(ctx, batch) }, func() {})
}

func (o *output) write(ctx context.Context, batch service.MessageBatch) error {
	change.Reached(batch)
	began := time.Now()
	defer func() { o.stats.Took(time.Since(began)) }()
	if err := o.keep(ctx, batch); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o.stats.Failed(sink.KindOf(err))
		return o.gate.Shut(err)
	}
	err := o.direct(ctx, batch)
	if err == nil {
		err = o.quorum(ctx)
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.put, o.putOf = nil, nil
	o.mu.Unlock()
	o.gate.Open()
	o.stats.Written(batch)
	return nil
}

// keep puts a batch into the spool, once: a batch that is written again because a direct output has refused it is there already.
func (o *output) keep(ctx context.Context, batch service.MessageBatch) error {
	late := o.lateOnes()
	o.mu.Lock()
	s, there := o.spool, o.put != nil && slices.EqualFunc(o.putOf, batch, sameMessage)
	o.mu.Unlock()
	if len(late) == 0 || there {
		return nil
	}
	if s == nil {
		return service.ErrNotConnected
	}
	ids, dropped, err := s.put(ctx, late, batch, o.conf.maxBytes, o.conf.quorum == 0)
	if err != nil {
		kind := sink.Other
		if errors.Is(err, errFull) {
			kind = sink.Backpressure
		}
		return sink.Errorf(kind, "%w", err)
	}
	o.mu.Lock()
	o.put, o.putOf = ids, batch
	o.mu.Unlock()
	for _, c := range o.children {
		if n := dropped[c.name]; n > 0 {
			o.series.dropped.Incr(int64(n), c.name)
			o.log.With("output", c.name).Errorf("The spool is full: the %d oldest events for output %s are dropped, and never reach it", n, c.name)
		}
		if c.late {
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// sameMessage reports whether two messages are the same delivery of the same event.
func sameMessage(a, b *service.Message) bool {
	x, okX := change.FromMessage(a)
	y, okY := change.FromMessage(b)
	return okX && okY && x == y
}

// direct gives a batch to the outputs that are waited for, all at a time. An output that refuses is told so by its own error: the source sends
// the batch again.
func (o *output) direct(ctx context.Context, batch service.MessageBatch) error {
	var wg sync.WaitGroup
	errs := make([]error, len(o.children))
	for i, c := range o.children {
		if c.late {
			continue
		}
		wg.Add(1)
		mine := batch.Copy()
		o.stats.Go(o.log, component, func() {
			defer wg.Done()
			errs[i] = errPanic
			errs[i] = c.out.WriteBatch(ctx, mine)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err == nil {
			continue
		}
		if _, partial := errors.AsType[*service.BatchError](err); partial {
			return err // it names the messages
		}
		return fmt.Errorf("output %s: %w", o.children[i].name, err)
	}
	return nil
}

var errPanic = errors.New("the output has panicked")

// quorum waits until enough of the late outputs have the batch that is in the spool.
func (o *output) quorum(ctx context.Context) error {
	for o.conf.quorum > 0 {
		o.mu.Lock()
		have, progress := 0, o.progress
		for _, c := range o.children {
			if c.delivered >= o.put[c.name] {
				have++
			}
		}
		o.mu.Unlock()
		if have >= o.conf.quorum {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close ends the outputs. What the spool has is delivered after the next start.
func (o *output) Close(ctx context.Context) error {
	return o.stats.Guard(o.log, component, func() error { return o.close(ctx) })
}

func (o *output) close(ctx context.Context) error {
	o.mu.Lock()
	s, ends, stop := o.spool, o.ends, o.stop
	o.closed, o.spool, o.ends = true, nil, nil
	o.mu.Unlock()
	if stop != nil {
		stop()
	}
	for _, end := range ends {
		<-end
	}
	var errs []error
	for _, c := range o.children {
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("output %s: %w", c.name, err))
		}
	}
	if s != nil {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// graceful is how long an output may take to end by itself. One whose server is away never does.
const graceful = 500 * time.Millisecond

// close ends an output. One that is still trying to deliver a batch is made to give up: it must not deliver it later, after newer ones.
func (c *child) close(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, graceful)
	defer cancel()
	if c.out.Close(soon) == nil {
		return nil
	}
	c.giveUp()
	return c.out.Close(ctx)
}

// giveUp calls what the engine's own brokers call, and what has no public name: TriggerCloseNow of the output that is owned.
func (c *child) giveUp() {
	unwrap := reflect.ValueOf(c.out.XUnwrapper()).MethodByName("Unwrap")
	if !unwrap.IsValid() {
		return
	}
	if now := unwrap.Call(nil)[0].MethodByName("TriggerCloseNow"); now.IsValid() {
		now.Call(nil)
	}
}
