package snapshot

import (
	"context"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/guard"
)

// A row that is to be read again, and that the stream changes each time before its place has come, by events that lack values, would be read again for ever. So after
// some tries the stream is held, between two transactions, for as long as the row is read: what the stream brings up to the row's place is what the row has seen then.

const (
	// holdAfter is how often the same rows are read again before the stream is held for them.
	holdAfter = 4
	// holdMost bounds the time for which the stream is held at a time.
	holdMost = 5 * time.Second
)

// hold is a wish to hold the stream.
type hold struct {
	held bool          // the stream stands between two transactions
	over chan struct{} // closed when it may go on
}

// Held returns what is closed when the stream may go on; nil: it need not stop, or not where it is. The goroutine of the stream calls it, and brings nothing to Segment
// until then; chunks may be taken meanwhile.
func (j *Join) Held() <-chan struct{} {
	if j == nil || !j.Pending() {
		return nil
	}
	j.l.mu.Lock()
	defer j.l.mu.Unlock()
	if j.hold == nil || !j.between {
		return nil
	}
	if !j.hold.held {
		j.hold.held = true
		j.wake()
	}
	return j.hold.over
}

// stop has the stream stand still between two transactions, and waits for that. It returns the place, and what lets the stream go on, which may be called more than once.
// One worker at a time holds it.
func (j *Join) stop(ctx context.Context, r *reading) (at checkpoint.Position, goOn func(), err error) {
	l := j.l
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &hold{over: make(chan struct{})}
	for !own.held {
		switch {
		case ctx.Err() != nil:
			j.letGo(own)
			return nil, nil, ctx.Err()
		case j.reads[r.table] != r:
			j.letGo(own)
			return nil, nil, errStale
		case j.hold == nil:
			j.hold = own
			j.wake()
		}
		turn := j.turn
		l.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
		}
		l.mu.Lock()
	}
	goOn = func() { l.locked(func() { j.letGo(own) }) }
	time.AfterFunc(holdMost, func() {
		_ = guard.Do("snapshot", func(int64) {}, func(*guard.Panic) {}, func() error { goOn(); return nil }) // it returns nil
	})
	return j.at, goOn, nil
}

// letGo ends a hold.
func (j *Join) letGo(h *hold) {
	if j.hold == h {
		close(h.over)
		j.hold = nil
		j.wake()
	}
}
