package postgrescdc

import (
	"sync"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// What is confirmed, and how far that is from the end of the log.

// Confirm implements coordinator.Log.
func (r *replication) Confirm(tok checkpoint.Token) {
	p, err := tokenPosition(tok)
	if err != nil || p.At == 0 {
		return // not a position of ours; the slot stays where it is, which is always safe
	}
	r.proof.mu.Lock()
	defer r.proof.mu.Unlock()
	r.proof.saved = max(r.proof.saved, p.At)
	if !r.proof.wanted {
		r.give(p.At)
	}
}

// proof is what may be confirmed once the server's log has shown that it is the one that was read.
type proof struct {
	mu     sync.Mutex
	saved  lsn.LSN // the newest position that is saved; guarded by mu
	wanted bool    // nothing may be confirmed until the log has shown it; guarded by mu
}

// give confirms a position; proof.mu is held.
func (r *replication) give(at lsn.LSN) {
	if uint64(at) > r.confirmed.Load() {
		r.confirmed.Store(uint64(at))
		r.wake()
	}
}

// startAt begins with what is confirmed at a start: nothing that is not saved, and no more than start until the log has shown its proof.
func (r *replication) startAt(start lsn.LSN, wanted bool) {
	r.proof.mu.Lock()
	defer r.proof.mu.Unlock()
	r.proof.wanted = wanted
	if wanted || r.proof.saved == 0 || start < r.proof.saved {
		r.confirmed.Store(uint64(start))
	} else {
		r.confirmed.Store(uint64(r.proof.saved))
	}
}

// proved confirms what is saved: the log has shown its proof.
func (r *replication) proved() {
	r.proof.mu.Lock()
	defer r.proof.mu.Unlock()
	r.proof.wanted = false
	r.give(r.proof.saved)
}

func (r *replication) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// LagBytes implements coordinator.LagReporter.
func (r *replication) LagBytes() (int64, bool) {
	end, confirmed := r.serverEnd.Load(), r.confirmed.Load()
	if end == 0 || confirmed == 0 {
		return 0, false
	}
	return max(0, int64(end-confirmed)), true
}
