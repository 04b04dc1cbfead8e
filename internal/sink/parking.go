package sink

import (
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Parking keeps unfinished deliveries until the engine hands in the same batch again. A is an output's delivery of one
// batch. A Parking with only Limit and Same set is empty and ready.
type Parking[A any] struct {
	Limit int               // how many it keeps: as many as the engine has batches on their way
	Same  func(a, b A) bool // whether finishing a delivers the batch that b was made of

	mu     sync.Mutex
	parked []A  // oldest first; guarded by mu
	closed bool // guarded by mu
}

// Take removes and returns the delivery that was begun with the batch of fresh. If there is none, it returns fresh.
func (p *Parking[A]) Take(fresh A) (a A, resumed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, old := range p.parked {
		if p.Same(old, fresh) {
			p.parked = append(p.parked[:i:i], p.parked[i+1:]...)
			return old, true
		}
	}
	return fresh, false
}

// Keep takes in an unfinished delivery. When Limit is reached, the oldest one is dropped.
func (p *Parking[A]) Keep(a A) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if len(p.parked) >= p.Limit {
		p.parked = append(p.parked[:0:0], p.parked[1:]...)
	}
	p.parked = append(p.parked, a)
}

// Len returns how many it keeps.
func (p *Parking[A]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked)
}

// Close lets go of everything, and of what is still to come.
func (p *Parking[A]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked, p.closed = nil, true
}

// Written counts a batch of which every message is where it should be.
func (s *Stats) Written(batch service.MessageBatch) {
	var size int64
	for _, m := range batch {
		if b, err := m.AsBytes(); err == nil {
			size += int64(len(b))
		}
	}
	s.Delivered(len(batch), size)
	s.batches.Incr(1)
}

// Kept counts the failures of messages that were kept as dead letters, by index: the source does not hear of them.
func (s *Stats) Kept(failed map[int]error) {
	for _, err := range failed {
		s.Failed(KindOf(err))
	}
}

// Finished counts a batch when every message of it has an outcome. Failed holds the messages that can never be delivered, by
// index. The returned error names them for the engine; it is nil when there are none.
func (s *Stats) Finished(batch service.MessageBatch, failed map[int]error) error {
	s.batches.Incr(1)
	if len(failed) == 0 {
		return nil
	}
	var all *service.BatchError
	for i := range batch {
		err := failed[i]
		if err == nil {
			continue
		}
		s.Failed(KindOf(err))
		if all == nil {
			all = service.NewBatchError(batch, err)
		}
		all = all.Failed(i, err)
	}
	if all == nil {
		return nil
	}
	return all
}
