package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"go.opentelemetry.io/otel/trace"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/tracing"
)

// deliveries are the books of an input: the safe position, and in log order every batch after it. They outlive sessions: a batch that has
// no answer when its session ends stays on its way, and the next session goes on after it.
//
// The safe position moves only over batches that are all accepted, only forwards, and over each batch once.
//
// A rejected batch is sent again, and so is every batch after it that has been handed out, in their order: a consumer that
// has seen a later change of a row must see it again after the earlier one. Nothing new is handed out until the last of
// them is on its way, and they do not start before every earlier attempt is answered. One that was rejected goes out alone, in parts that
// become smaller (see apart).
type deliveries struct {
	in      *Input
	changed chan struct{} // has a token when an attempt was answered

	mu        sync.Mutex
	safe      place       // guarded by mu, as are all the others
	pending   []*delivery // oldest first
	due       int         // those of pending that are to be handed out again
	out       int         // attempts that wait for their answer
	alone     bool        // what is out is to be answered before anything else goes out
	handing   *delivery   // what is out and has not reached the engine yet
	rejected  bool        // an attempt was rejected, and others are not answered yet
	pause     time.Duration
	notBefore time.Time // of what is due
	closed    bool
	era       uint64 // of the log that is read
	anew      bool   // the log is read from a new beginning, which is not known yet
}

// place is a position, the number of the last segment before it, and the mark of the last chunk of a snapshot before it. Its order increases
// along the log, whatever the position is. The era counts how often the position
// was lost and the log read from a new beginning before it.
type place struct {
	token checkpoint.Token
	seq   uint64
	mark  uint64
	order uint64
	era   uint64
}

// state is where a delivery is.
type state int

const (
	isCut  state = iota // on its way to the pipeline, in its session: it ends with it
	isDue               // to be handed out, or handed out again
	isOut               // handed out, without an answer
	isDone              // accepted, and nothing before it rejected since
)

// delivery is one batch and its way through the pipeline. Its fields but batch are guarded by deliveries.mu.
type delivery struct {
	batch   *batch
	end     place // after its last event, or later when nothing follows it
	state   state
	attempt int       // answers to earlier attempts are ignored
	handed  time.Time // when the attempt was handed out
	refusal refusal
}

func newDeliveries(in *Input) *deliveries {
	return &deliveries{in: in, changed: make(chan struct{}, 1)}
}

// begin sets the first safe position: everything before it is delivered. Called once, before anything else.
func (d *deliveries) begin(from checkpoint.Token) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.safe = place{token: from}
}

// position returns the newest position before which everything is delivered.
func (d *deliveries) position() checkpoint.Token {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.safe.token
}

// resume forgets what was cut and not handed out, which ends with its session, and returns where the next one begins.
func (d *deliveries) resume() place {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.pending)
	for n > 0 && d.pending[n-1].state == isCut {
		n--
	}
	clear(d.pending[n:])
	d.pending = d.pending[:n]
	p := d.safe
	if n > 0 {
		p = d.pending[n-1].end
	}
	if d.anew {
		p.token, p.era = checkpoint.Token{}, d.era
	}
	return p
}

// renew has the next session begin as if nothing were saved. What is on its way stays there, and the new beginning is safe after it.
func (d *deliveries) renew(era uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.era, d.anew = era, true
}

// cut takes a batch in. Batches are cut, and positions passed, by the batcher only, so that both are in log order.
func (d *deliveries) cut(b *batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b.delivery = &delivery{batch: b, end: b.end}
	d.anew = false
	d.pending = append(d.pending, b.delivery)
}

// passed notes a position. There is nothing to deliver between it and the last batch that was cut, so it is safe once every such batch is
// accepted. If several positions are passed while a batch is on its way, only the last one is kept.
func (d *deliveries) passed(p place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.anew = false
	if n := len(d.pending); n > 0 {
		d.pending[n-1].end = p
		return
	}
	d.safe = p
	d.in.saver.moved(p)
}

// again hands out the next batch that has to be sent again, or nil. Busy means that nothing may be handed out yet, because
// enough is out or because something has been rejected. Wait is the time until a batch can be sent again; zero when that is unknown.
func (d *deliveries) again() (a *attempt, wait time.Duration, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rejected || d.alone || d.out >= d.in.cfg.MaxInFlight {
		return nil, 0, true
	}
	if d.due == 0 {
		return nil, 0, false
	}
	if wait := time.Until(d.notBefore); wait > 0 {
		return nil, wait, true
	}
	for _, dl := range d.pending {
		if dl.state == isDue {
			if dl.suspect() && d.out > 0 {
				break
			}
			return d.hand(dl), 0, true
		}
	}
	return nil, 0, true
}

// offer hands out a batch that was cut. It returns nil when an earlier batch has been rejected meanwhile: this one then goes out after it.
func (d *deliveries) offer(b *batch) *attempt {
	d.mu.Lock()
	defer d.mu.Unlock()
	b.delivery.state = isDue
	d.due++
	if d.rejected || d.alone || d.due > 1 {
		return nil
	}
	return d.hand(b.delivery)
}

// hand begins an attempt; d.mu is held.
func (d *deliveries) hand(dl *delivery) *attempt {
	dl.attempt++
	dl.state, dl.handed = isOut, time.Now()
	d.due--
	d.out++
	d.alone, d.handing = dl.suspect(), dl
	return &attempt{dl: dl, n: dl.attempt, handed: dl.handed}
}

// reached notes that the engine has got what was handed out.
func (d *deliveries) reached() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handing = nil
}

// takeBack makes a batch due again that was handed out and that the engine did not get: nobody will answer it.
func (d *deliveries) takeBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handing == nil {
		return
	}
	d.handing.state, d.handing = isDue, nil
	d.due++
	d.out--
	d.alone = d.alone && d.out > 0
}

func (d *deliveries) gaugeOut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.in.st.inFlight.Set(int64(d.out))
	}
}

// close makes the answers that are still to come count for nothing.
func (d *deliveries) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.in.st.inFlight.Set(0)
}

// oldestOut returns the batch of the oldest attempt that has no answer, and when it was handed out; false when every attempt is answered.
func (d *deliveries) oldestOut() (since time.Time, b *batch, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dl := range d.pending {
		if dl.state == isOut && (!ok || dl.handed.Before(since)) {
			since, b, ok = dl.handed, dl.batch, true
		}
	}
	return since, b, ok
}

// attempt is a batch that is handed to the pipeline for the n-th time.
type attempt struct {
	dl     *delivery
	n      int
	handed time.Time

	passage change.Passage
	span    trace.Span // nil: tracing is off
}

// result is what the engine gets. The pipeline may change the messages, so a batch that is sent again is built from new
// messages.
func (d *deliveries) result(a *attempt) (service.MessageBatch, service.AckFunc, error) {
	d.gaugeOut()
	messages := make(service.MessageBatch, len(a.dl.batch.messages))
	copy(messages, a.dl.batch.messages)
	if a.dl.batch.used {
		for i, m := range messages {
			messages[i] = change.Renew(m)
		}
	}
	a.dl.batch.used = true
	a.span = d.in.tracer.Start(tracing.Attempt{Position: a.dl.batch.end.token, Oldest: a.dl.batch.oldest, N: a.n}, messages)
	messages[0] = a.passage.With(messages[0])
	return messages, func(_ context.Context, err error) error {
		if panicked := protect(d.in, "acknowledgement", func() error { d.resolve(a, err); return nil }); panicked != nil {
			d.settle(a, panicked) // unless the books had it before the panic
		}
		return nil
	}, nil
}

// resolve is the answer to one attempt.
func (d *deliveries) resolve(a *attempt, err error) {
	if !d.settle(a, err) {
		return
	}
	d.gaugeOut()
	d.timed(a)
	tracing.End(a.span, err)
	if err == nil {
		d.in.st.e2e.Timing(time.Since(a.dl.batch.oldest).Nanoseconds())
	}
}

// settle enters an answer into the books. A repeated answer, or one to an earlier attempt, has no effect; settle then reports false.
func (d *deliveries) settle(a *attempt, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	dl := a.dl
	if d.closed || dl.state != isOut || dl.attempt != a.n {
		return false
	}
	d.out--
	if d.out == 0 {
		d.alone = false
	}
	if err == nil {
		d.accepted(dl)
	} else {
		d.refused(dl, err)
	}
	if d.rejected && d.out == 0 {
		d.rearm()
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return true
}

// timed splits the time of an attempt between the processors and the output. If the output does not tell when it got the batch, all the
// time counts as the output's.
func (d *deliveries) timed(a *attempt) {
	began, trigger := a.handed, a.dl.batch.trigger
	if reached, ok := a.passage.Time(); ok {
		d.in.st.stage(stageProcess, trigger, reached.Sub(began))
		began = reached
	}
	d.in.st.stage(stageDeliver, trigger, time.Since(began))
}

// accepted notes a delivered batch; d.mu is held.
func (d *deliveries) accepted(dl *delivery) {
	dl.state = isDone
	n := 0
	for n < len(d.pending) && d.pending[n].state == isDone {
		d.safe = d.pending[n].end
		if d.in.exact != nil {
			d.pending[n].batch.unmark()
		}
		d.pending[n] = nil
		n++
	}
	if n == 0 {
		return
	}
	if d.pending = d.pending[n:]; len(d.pending) == 0 {
		d.pending = nil // lets the array go
	}
	d.pause = 0
	d.in.health.Clear(health.Output)
	d.in.saver.moved(d.safe)
}
