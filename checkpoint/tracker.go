package checkpoint

import "sync"

// Tracker works out how far a checkpoint may move when batches are acknowledged in any order. It moves only over
// batches that are all acknowledged, only forwards, and over each batch once.
//
// All methods may be called from any goroutine.
type Tracker struct {
	mu      sync.Mutex
	pending []*Pending // oldest first; guarded by mu
	safe    Token      // guarded by mu
}

// NewTracker returns a tracker whose safe position is start: everything up to start counts as delivered.
func NewTracker(start Token) *Tracker {
	return &Tracker{safe: start}
}

// Pending is one batch on its way through the pipeline.
type Pending struct {
	tracker *Tracker
	token   Token // behind its last event, or later when nothing follows it; guarded by tracker.mu
	done    bool  // guarded by tracker.mu
	passed  bool  // the safe position is behind it; guarded by tracker.mu
}

// Add registers a batch that has been handed out. The token is the position behind its last event. Batches are added
// in log order by one goroutine.
func (t *Tracker) Add(tok Token) *Pending {
	p := &Pending{tracker: t, token: tok}
	t.mu.Lock()
	t.pending = append(t.pending, p)
	t.mu.Unlock()
	return p
}

// Pass notes a position behind which there is nothing to deliver: everything added before it makes it safe. It reports
// whether the safe position moved at once. However many positions are passed while a batch is in flight, it keeps
// the last one only.
func (t *Tracker) Pass(tok Token) (moved bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.pending); n > 0 {
		t.pending[n-1].token = tok
		return false
	}
	t.safe = tok
	return true
}

// Ack marks the batch as delivered and reports whether the safe position moved because of it. Repeated calls have no
// effect.
func (p *Pending) Ack() (moved bool) {
	t := p.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.done {
		return false
	}
	p.done = true
	n := 0
	for n < len(t.pending) && t.pending[n].done {
		t.safe = t.pending[n].token
		t.pending[n].passed = true
		t.pending[n] = nil
		n++
	}
	if n == 0 {
		return false
	}
	t.pending = t.pending[n:]
	if len(t.pending) == 0 {
		t.pending = nil // lets the array go
	}
	return true
}

// Undo takes an acknowledgement back that the safe position has not passed yet: the batch is going to be delivered again,
// because one before it has to be. Without it, the safe position would pass a batch whose second delivery is under way.
func (p *Pending) Undo() {
	p.tracker.mu.Lock()
	defer p.tracker.mu.Unlock()
	p.done = p.passed
}

// Safe returns the newest position behind which every batch is acknowledged.
func (t *Tracker) Safe() Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.safe
}

// InFlight returns how many batches are handed out and not passed by the safe position yet.
func (t *Tracker) InFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending)
}
