package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"go.opentelemetry.io/otel/trace"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// How long a rejected batch waits before it is sent again.
const (
	resendMin = 50 * time.Millisecond
	resendMax = 10 * time.Second
)

// deliveries are the batches that have been handed to the pipeline and are not passed by the safe position.
//
// A rejected batch is sent again, and so is every batch after it that has been handed out, in their order: a consumer that
// has seen a later change of a row must see it again after the earlier one. Nothing new is handed out until the last of
// them is on its way, and they do not start before every earlier attempt is answered.
type deliveries struct {
	in      *Input
	tracker *checkpoint.Tracker
	changed chan struct{} // has a token when an attempt was answered
	end     func(error)   // ends the session

	mu        sync.Mutex
	pending   []*delivery   // oldest first; guarded by mu
	resend    []*delivery   // the end of pending that is to be handed out again; guarded by mu
	out       int           // attempts that wait for their acknowledgement; guarded by mu
	rejected  bool          // an attempt was rejected and resend is not filled yet; guarded by mu
	pause     time.Duration // after the last rejection; guarded by mu
	notBefore time.Time     // of the next resend; guarded by mu
	retired   bool          // another session has taken over; guarded by mu
	hasMoved  bool          // the safe position has moved since the session began; guarded by mu
}

// delivery is one batch and its way through the pipeline. Its fields but batch are guarded by deliveries.mu.
type delivery struct {
	batch   *batch
	attempt int       // acknowledgements of earlier attempts are ignored
	waiting bool      // the attempt is not acknowledged
	done    bool      // accepted, and nothing before it rejected since
	handed  time.Time // when the attempt was handed out
}

func newDeliveries(in *Input, from checkpoint.Token) *deliveries {
	return &deliveries{in: in, end: func(error) {}, tracker: checkpoint.NewTracker(from), changed: make(chan struct{}, 1)}
}

func (d *deliveries) safe() checkpoint.Token { return d.tracker.Safe() }

// moved reports whether the safe position has moved since the session began.
func (d *deliveries) moved() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hasMoved
}

// passed notes a position behind which there is nothing to deliver. Called by the batcher only, which also adds its
// batches to the tracker, so that both are in log order.
func (d *deliveries) passed(tok checkpoint.Token) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tracker.Pass(tok) {
		d.advance()
	}
}

// advance reports the newest safe position, unless the session has been replaced. It is called with d.mu held, so that
// positions are reported in order.
func (d *deliveries) advance() {
	if !d.retired {
		d.hasMoved = true
		d.in.saver.moved(d.safe())
	}
}

// retire makes the acknowledgements that are still to come count for nothing: another session has taken over.
func (d *deliveries) retire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retired = true
	d.in.st.inFlight.Set(0)
}

// attempt is a batch that is handed to the pipeline for the n-th time.
type attempt struct {
	dl *delivery
	n  int

	passage change.Passage
	span    trace.Span // nil: tracing is off
}

// again hands out the next batch that has to be sent again, or nil. Busy means that nothing may be handed out yet, because
// enough is out or because something has been rejected, and wait, when it is not zero, how long until there is something to be sent again.
func (d *deliveries) again() (a *attempt, wait time.Duration, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out >= d.in.cfg.MaxInFlight {
		return nil, 0, true
	}
	if len(d.resend) == 0 {
		return nil, 0, d.rejected
	}
	if wait := time.Until(d.notBefore); wait > 0 {
		return nil, wait, true
	}
	dl := d.resend[0]
	d.resend = d.resend[1:]
	return d.hand(dl), 0, true
}

// offer takes a new batch in and hands it out. It returns nil when a batch before it has been rejected meanwhile: then
// it goes out after that one.
func (d *deliveries) offer(b *batch) *attempt {
	d.mu.Lock()
	defer d.mu.Unlock()
	dl := &delivery{batch: b}
	d.pending = append(d.pending, dl)
	if d.rejected {
		return nil // it is among the pending ones that resend is filled with
	}
	if len(d.resend) > 0 {
		d.resend = append(d.resend, dl)
		return nil
	}
	return d.hand(dl)
}

// hand begins an attempt; d.mu is held.
func (d *deliveries) hand(dl *delivery) *attempt {
	dl.attempt++
	dl.waiting, dl.handed = true, time.Now()
	d.out++
	d.gaugeOut()
	return &attempt{dl: dl, n: dl.attempt}
}

func (d *deliveries) gaugeOut() {
	if !d.retired {
		d.in.st.inFlight.Set(int64(d.out))
	}
}

// result is what the engine gets. The pipeline may change the messages, so a batch that is needed again is made of new
// ones.
func (d *deliveries) result(a *attempt) (service.MessageBatch, service.AckFunc, error) {
	messages := make(service.MessageBatch, len(a.dl.batch.messages))
	copy(messages, a.dl.batch.messages)
	if a.n > 1 {
		for i, m := range messages {
			messages[i] = change.Renew(m)
		}
	}
	a.startSpan(d.in, messages)
	messages[0] = a.passage.With(messages[0])
	return messages, func(_ context.Context, err error) error {
		// What a panic leaves behind is not to be trusted: the session ends, and another one sends the batch again.
		if panicked := protect(d.in, "acknowledgement", func() error { d.resolve(a, err); return nil }); panicked != nil {
			d.end(panicked)
		}
		return nil
	}, nil
}

// resolve is the acknowledgement of one attempt. Repeated ones, and those of an earlier attempt, have no effect.
func (d *deliveries) resolve(a *attempt, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dl := a.dl
	if !dl.waiting || dl.attempt != a.n {
		return
	}
	dl.waiting = false
	d.out--
	d.gaugeOut()
	d.timed(a)
	a.endSpan(err)
	if err == nil {
		d.accepted(dl)
	} else {
		d.refused(dl, err)
	}
	if d.rejected && d.out == 0 {
		d.rejected = false
		d.resend = append([]*delivery(nil), d.pending...)
		for _, p := range d.resend {
			p.done = false
			p.batch.tracked.Undo()
		}
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// timed splits the time of an attempt between the processors and the output; d.mu is held. Where the output does not tell
// when it got the batch, all of it is the output's.
func (d *deliveries) timed(a *attempt) {
	began, trigger := a.dl.handed, a.dl.batch.trigger
	if reached, ok := a.passage.Time(); ok {
		d.in.st.stage(stageProcess, trigger, reached.Sub(began))
		began = reached
	}
	d.in.st.stage(stageDeliver, trigger, time.Since(began))
}

// accepted notes a delivered batch; d.mu is held.
func (d *deliveries) accepted(dl *delivery) {
	d.in.st.e2e.Timing(time.Since(dl.batch.oldest).Nanoseconds())
	dl.done = true
	if dl.batch.tracked.Ack() {
		d.pause = 0
		d.advance()
	}
	for len(d.pending) > 0 && d.pending[0].done {
		d.pending[0] = nil
		d.pending = d.pending[1:]
	}
}

// refused notes a rejected batch; d.mu is held.
func (d *deliveries) refused(dl *delivery, err error) {
	if !d.rejected { // else it was rejected together with another one
		d.pause = min(resendMax, max(resendMin, 2*d.pause))
	}
	d.notBefore = time.Now().Add(d.pause)
	d.rejected, d.resend = true, nil
	if !d.retired {
		d.in.out.With("position", dl.batch.token.String(), "error", err.Error()).
			Warnf("Batch of %s up to %s rejected, sending it again in %s: %v", d.in.cfg.Name, dl.batch.token, d.pause, err)
	}
}

// awaitResolved returns when no attempt is waiting for its acknowledgement, at the latest after timeout. Called by the
// goroutine that calls next.
func (d *deliveries) awaitResolved(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		d.mu.Lock()
		n := d.out
		d.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-d.changed:
		case <-ctx.Done():
			return
		}
	}
}
