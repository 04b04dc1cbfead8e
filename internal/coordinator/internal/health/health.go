// Package health knows what is wrong with the parts of a source, and since when.
package health

import (
	"errors"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/plane"
)

const (
	// StuckAfter is how long a source may try again in one place before it counts as failed: only a person can help it then.
	StuckAfter = 2 * time.Minute
	// UnansweredAfter is how long the output may take for a batch before its pipeline is not ready.
	UnansweredAfter = time.Minute
	// SettledAfter is how long a session without progress must live to end the trouble of the sessions before it: there may be nothing to
	// read.
	SettledAfter = 30 * time.Second
)

// Part is a part of a source that can be in trouble.
type Part int

// The parts, in the order in which their trouble is reported.
const (
	Source Part = iota
	Output
	Store
	parts
)

// Health is what is wrong with a source, part by part, and since when.
type Health struct {
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

// Trouble notes what is wrong with a part, and since when. What lasts makes the source failed.
func (h *Health) Trouble(p Part, since time.Time, err error) {
	h.set(p, trouble{
		cause: err.Error(), since: since, stuck: true,
		final: errors.Is(err, fault.ErrPositionLost) || errors.Is(err, checkpoint.ErrIncompatible) || errors.Is(err, exactly.ErrFenced),
	})
}

// Retrying notes what is wrong with a part and will not need a person.
func (h *Health) Retrying(p Part, since time.Time, err error) {
	h.set(p, trouble{cause: err.Error(), since: since})
}

func (h *Health) set(p Part, t trouble) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.troubles[p] = t
}

// Clear notes that nothing is wrong with a part any more.
func (h *Health) Clear(p Part) { h.set(p, trouble{}) }

// State returns the worst that is wrong, and since when.
func (h *Health) State(now time.Time) (s plane.State, cause string, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s = plane.Running
	for _, t := range h.troubles {
		switch {
		case t.cause == "":
		case t.final, t.stuck && now.Sub(t.since) >= StuckAfter:
			return plane.Failed, t.cause, t.since
		case s == plane.Running:
			s, cause, since = plane.Retrying, t.cause, t.since
		}
	}
	return s, cause, since
}
