package control

import (
	"context"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// What panics_total calls the parts of the control plane.
const (
	requestComponent  = "control"
	listenerComponent = "control listener"
	monitorComponent  = "control monitor"
	probeComponent    = "control probe"
	changeComponent   = "control change"
	stopComponent     = "control stop"
	watchComponent    = "control watch"
)

// guard calls f. A panic in it is counted, logged with its stack, and returned as an error; the process goes on.
func (s *Server) guard(component string, f func()) error {
	return guard.Do(component, func(n int64) { s.stats.Panicked(n, component) }, func(p *guard.Panic) {
		s.log.With("error", fmt.Sprint(p.Value), "stack", p.Stack).Error(p.Line())
	}, func() error { f(); return nil })
}

// again is how long what has to go on waits after a panic.
const again = time.Second

// goOn calls f, and calls it again when it has panicked, until ctx ends.
func (s *Server) goOn(ctx context.Context, component string, f func()) {
	for s.guard(component, f) != nil {
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}
