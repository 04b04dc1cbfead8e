package sink

import (
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Gate makes the engine repeat a batch in place, visibly and not too fast. The engine answers ErrNotConnected by
// calling Connect until it succeeds and then writing the same batch again, before any other where max_in_flight is 1.
// It shows and logs what Connect returns, and nothing of the cause of ErrNotConnected: so the reason is kept for
// the next Connect. The zero value is open.
type Gate struct {
	mu      sync.Mutex
	cause   error         // guarded by mu
	backoff time.Duration // guarded by mu
}

// Shut keeps why a batch has to be repeated. WriteBatch returns what Shut returns.
func (g *Gate) Shut(cause error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cause = cause
	g.backoff = min(max(2*g.backoff, minBackoff), maxBackoff)
	return service.ErrNotConnected
}

// Repeat calls write, which writes a batch. If write panics, Repeat calls lost and the batch is written again.
func (g *Gate) Repeat(s *Stats, log *service.Logger, component string, write func() error, lost func()) (err error) {
	if panicked := s.Guard(log, component, func() error { err = write(); return nil }); panicked != nil {
		s.Failed(Other)
		lost()
		return g.Shut(panicked)
	}
	return err
}

// Pass returns the reason once, with the time that the engine has to wait, and then nil. Connect calls it when the
// server could be reached.
func (g *Gate) Pass() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cause == nil {
		return nil
	}
	err := service.NewErrBackOff(g.cause, g.backoff)
	g.cause = nil
	return err
}

// Open notes a success: the next failure begins with a short wait.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.backoff = 0
}
