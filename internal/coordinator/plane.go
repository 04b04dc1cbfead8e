package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// The values of pipeline_status that a source sets where there is no control plane.
const (
	statusRunning = 1
	statusStopped = 0
	statusFailed  = -1
)

// link is a source's connection to the control plane.
type link struct {
	in     *Input     // nil: not attached yet
	alone  bool       // there is no control plane, and the source says itself how its pipeline is
	gate   plane.Gate // nil: there is no control plane
	detach func()

	mu     sync.Mutex
	closed time.Time // guarded by mu
}

// attach connects with the control plane, once. The engine's reading goroutine calls it at each Connect: constructors
// run for sources that never start, too.
func (l *link) attach(i *Input, res *service.Resources) {
	if l.in != nil {
		return
	}
	v, _ := res.GetGeneric(plane.Key)
	if p, ok := v.(plane.Registry); ok {
		src := plane.Source{
			Report: func() plane.Report { return l.report(i) }, Withdraw: func() { i.lag.Withdraw() },
		}
		if i.loader != nil {
			src.Snapshot = i.loader.Request
		}
		l.gate, l.detach = p.Attach(res.StreamID(), i.cfg.Name, src)
	} else {
		l.alone = true
		i.st.pipelineInfo.Set(1, cmp.Or(i.cfg.Type, i.kind))
		i.st.pipelineStatus.Set(statusRunning)
	}
	l.in = i
}

// paused reports whether nothing may be handed out, and when to ask again.
func (l *link) paused() (bool, <-chan struct{}) {
	if l.gate == nil {
		return false, nil
	}
	return l.gate()
}

// report says how the source is.
func (l *link) report(i *Input) plane.Report {
	now := time.Now()
	r := plane.Report{LagSeconds: -1, LagBytes: i.lag.Bytes()}
	r.State, r.Cause, r.Since = i.state(now)
	if i.opened.Load() {
		if tok := i.deliver.position(); !tok.IsZero() {
			r.Position = tok.String()
		}
		r.LagSeconds, _ = i.lag.Seconds(now)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed.IsZero() {
		r.State, r.Cause, r.Since = plane.Closed, "", l.closed
		if r.LagSeconds >= 0 {
			i.lag.Publish(now)
		}
	}
	return r
}

// state returns how the source is.
func (i *Input) state(now time.Time) (s plane.State, cause string, since time.Time) {
	s, cause, since = i.health.State(now)
	if s != plane.Running {
		return s, cause, since
	}
	if out, b, ok := i.deliver.oldestOut(); ok && now.Sub(out) >= health.UnansweredAfter {
		return plane.Retrying, fmt.Sprintf("the output has not answered the batch up to %s for %s", b.end.token,
			now.Sub(out).Truncate(time.Second)), out
	}
	if w, ok := i.log.(Waiter); ok {
		if what, since := w.Waiting(); what != "" {
			return plane.Retrying, what, since
		}
	}
	return s, "", time.Time{}
}

// cleanUp answers a connection test that is to be a cleanup.
func (i *Input) cleanUp(ctx context.Context, c *plane.Cleanup) service.ConnectionTestResults {
	l, ok := i.log.(Leaver)
	if !ok {
		return service.ConnectionTestSucceeded().AsList()
	}
	err := protect(i, "cleanup", func() error {
		left, err := l.Leftovers(ctx, c.Drop)
		for _, one := range left {
			c.Add(i.cfg.Name, one)
		}
		return err
	})
	if err != nil {
		return service.ConnectionTestFailed(err).AsList()
	}
	return service.ConnectionTestSucceeded().AsList()
}

// takeOver answers a connection test that is to be a handover.
func (i *Input) takeOver(ctx context.Context, h *plane.Handover) service.ConnectionTestResults {
	err := protect(i, "handover", func() error {
		s, ok := i.log.(Successor)
		if !ok {
			return service.ErrConnectionTestNotSupported
		}
		tok, err := s.TakeOver(ctx, h.Offset)
		if err != nil {
			return err
		}
		record, err := checkpoint.NewRecord(i.kind, tok, time.Now())
		if err != nil {
			return err
		}
		text, err := record.Marshal()
		if err == nil {
			h.Add(i.cfg.Name, text)
		}
		return err
	})
	if err != nil {
		return service.ConnectionTestFailed(err).AsList()
	}
	return service.ConnectionTestSucceeded().AsList()
}

// publish sets the status of the pipeline where there is no control plane that does.
func (l *link) publish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in == nil || !l.alone || !l.closed.IsZero() {
		return
	}
	status := int64(statusRunning)
	if s, _, _ := l.in.state(time.Now()); s == plane.Failed {
		status = statusFailed
	}
	l.in.st.pipelineStatus.Set(status)
}

// close ends the connection.
func (l *link) close() {
	l.mu.Lock()
	l.closed = time.Now()
	l.mu.Unlock()
	if l.detach != nil {
		l.detach()
	}
	if l.alone {
		l.in.st.pipelineStatus.Set(statusStopped)
	}
}
