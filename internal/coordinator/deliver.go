package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// How long a rejected batch waits before it is sent again.
const (
	resendMin = 50 * time.Millisecond
	resendMax = 10 * time.Second
)

// deliveries are the batches that have been handed to the pipeline and are not passed by the safe position.
//
// A rejected batch is sent again, and so is every batch after it that has been handed out, in their order: a consumer that
// has seen a later change of a row must see it again after the earlier one. Nothing new is handed out meanwhile.
type deliveries struct {
	in      *Input
	tracker *checkpoint.Tracker

	mu       sync.Mutex
	pending  []*delivery   // oldest first; guarded by mu
	resend   []*delivery   // to be handed out again, in order; guarded by mu
	out      int           // attempts that wait for their acknowledgement; guarded by mu
	rejected bool          // an attempt was rejected and resend is not filled yet; guarded by mu
	pause    time.Duration // after the last rejection; guarded by mu
	wait     time.Duration // before the next resend; guarded by mu
	retired  bool          // another session has taken over; guarded by mu
	changed  chan struct{} // has a token when the fields above have changed
	hasMoved bool          // guarded by mu
}

// delivery is one batch and its way through the pipeline.
type delivery struct {
	batch *batch
	// Guarded by deliveries.mu:
	attempt int       // acknowledgements of earlier attempts are ignored
	waiting bool      // the attempt is not acknowledged
	done    bool      // accepted, and nothing before it rejected since
	handed  time.Time // when the attempt was handed out
}

func newDeliveries(in *Input, from checkpoint.Token) *deliveries {
	return &deliveries{in: in, tracker: checkpoint.NewTracker(from), changed: make(chan struct{}, 1)}
}

func (d *deliveries) safe() checkpoint.Token {
	tok, _ := d.tracker.Safe()
	return tok
}

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
	if d.tracker.Add(tok).Ack() {
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
	d.retired = true
	d.mu.Unlock()
}

// register takes a new batch in.
func (d *deliveries) register(b *batch) *delivery {
	dl := &delivery{batch: b}
	d.mu.Lock()
	d.pending = append(d.pending, dl)
	d.mu.Unlock()
	return dl
}

// takeResend returns the next batch to be handed out again and the pause before it. Busy means that nothing new may be
// handed out yet.
func (d *deliveries) takeResend() (again *delivery, pause time.Duration, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.resend) == 0 {
		return nil, 0, d.rejected
	}
	again = d.resend[0]
	d.resend = d.resend[1:]
	pause, d.wait = d.wait, 0
	return again, pause, true
}

// putBack undoes takeResend.
func (d *deliveries) putBack(dl *delivery) {
	d.mu.Lock()
	d.resend = append([]*delivery{dl}, d.resend...)
	d.mu.Unlock()
}

// hand returns what the engine gets. The messages are copies, since the pipeline may change them and the batch may be
// needed again.
func (d *deliveries) hand(dl *delivery) (service.MessageBatch, service.AckFunc) {
	d.mu.Lock()
	dl.attempt++
	dl.waiting, dl.handed = true, time.Now()
	attempt := dl.attempt
	d.out++
	d.in.st.inFlight.Set(int64(d.out))
	d.mu.Unlock()
	return dl.batch.messages.Copy(), func(_ context.Context, err error) error {
		d.resolve(dl, attempt, err)
		return nil
	}
}

// resolve is the acknowledgement of one attempt. Repeated ones, and those of an earlier attempt, have no effect.
func (d *deliveries) resolve(dl *delivery, attempt int, err error) {
	d.mu.Lock()
	if !dl.waiting || dl.attempt != attempt {
		d.mu.Unlock()
		return
	}
	dl.waiting = false
	d.out--
	d.in.st.inFlight.Set(int64(d.out))
	d.in.st.stage(stageDeliver, triggerNone, time.Since(dl.handed))
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
	d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// accepted notes a delivered batch; d.mu is held.
func (d *deliveries) accepted(dl *delivery) {
	d.in.st.e2e.Timing(time.Since(dl.batch.oldest).Nanoseconds())
	d.pause = 0
	dl.done = true
	if dl.batch.tracked.Ack() {
		d.advance()
	}
	for len(d.pending) > 0 && d.pending[0].done {
		d.pending[0] = nil
		d.pending = d.pending[1:]
	}
}

// refused notes a rejected batch; d.mu is held.
func (d *deliveries) refused(dl *delivery, err error) {
	d.pause = min(resendMax, max(resendMin, 2*d.pause))
	d.wait = d.pause
	d.rejected, d.resend = true, nil
	if !d.retired {
		d.in.out.With("position", dl.batch.token.String(), "error", err.Error()).
			Warnf("Batch of %s up to %s rejected, sending it again in %s: %v", d.in.cfg.Name, dl.batch.token, d.wait, err)
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
