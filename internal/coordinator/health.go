package coordinator

import (
	"errors"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/plane"
)

const (
	// stuckAfter is how long a source may try again in one place before it counts as failed: only a person can help it then.
	stuckAfter = 2 * time.Minute
	// unansweredAfter is how long the output may take for a batch before its pipeline is not ready.
	unansweredAfter = time.Minute
	// settledAfter is how long a session without progress must live to end the trouble of the sessions before it: there may be nothing to
	// read.
	settledAfter = 30 * time.Second
)

// part is a part of a source that can be in trouble.
type part int

// The parts, in the order in which their trouble is reported.
const (
	partSource part = iota
	partOutput
	partStore
	parts
)

// health is what is wrong with a source, part by part, and since when.
type health struct {
	mu       sync.Mutex
	troubles [parts]trouble // guarded by mu
}

// trouble is what is wrong with a part. The zero value: nothing.
type trouble struct {
	cause string
	since time.Time
	final bool // needs a person now
	stuck bool // needs a person when it lasts
}

// trouble notes what is wrong with a part, and since when. What lasts makes the source failed.
func (h *health) trouble(p part, since time.Time, err error) {
	h.set(p, trouble{
		cause: err.Error(), since: since, stuck: true,
		final: errors.Is(err, ErrPositionLost) || errors.Is(err, checkpoint.ErrIncompatible),
	})
}

// away reports whether an error means that a network or a server is away: those come back.
func away(err error) bool {
	kind := KindOf(err)
	return kind == KindConnect || kind == KindTimeout
}

// retrying notes what is wrong with a part and will not need a person.
func (h *health) retrying(p part, since time.Time, err error) {
	h.set(p, trouble{cause: err.Error(), since: since})
}

func (h *health) set(p part, t trouble) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.troubles[p] = t
}

// clear notes that nothing is wrong with a part any more.
func (h *health) clear(p part) { h.set(p, trouble{}) }

// state returns the worst that is wrong, and since when.
func (h *health) state(now time.Time) (s plane.State, cause string, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s = plane.Running
	for _, t := range h.troubles {
		switch {
		case t.cause == "":
		case t.final, t.stuck && now.Sub(t.since) >= stuckAfter:
			return plane.Failed, t.cause, t.since
		case s == plane.Running:
			s, cause, since = plane.Retrying, t.cause, t.since
		}
	}
	return s, cause, since
}
