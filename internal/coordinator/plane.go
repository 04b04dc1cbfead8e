package coordinator

import (
	"cmp"
	"errors"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
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
	alone  *stats     // not nil: there is no control plane, and the source says itself how its pipeline is
	gate   plane.Gate // nil: there is no control plane
	detach func()

	mu      sync.Mutex
	saver   *saver // guarded by mu
	failure string // guarded by mu
}

// attach connects with the control plane, once. The engine's reading goroutine calls it at each Connect: constructors
// run for sources that never start, too.
func (l *link) attach(i *Input, res *service.Resources) {
	if l.gate != nil || l.alone != nil {
		return
	}
	v, _ := res.GetGeneric(plane.Key)
	if p, ok := v.(plane.Registry); ok {
		l.gate, l.detach = p.Attach(res.StreamID(), i.cfg.Name, plane.Source{
			Report: func() plane.Report { return l.report(i.lag) }, Withdraw: func() {},
		})
		return
	}
	l.alone = i.st
	l.alone.pipelineInfo.Set(1, cmp.Or(i.cfg.Type, i.kind))
}

// paused reports whether nothing may be handed out, and when to ask again.
func (l *link) paused() (bool, <-chan struct{}) {
	if l.gate == nil {
		return false, nil
	}
	return l.gate()
}

// note remembers where positions are, and whether a Connect failed in a way that only a person can mend.
func (l *link) note(s *saver, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saver, l.failure = s, ""
	if errors.Is(err, ErrPositionLost) || errors.Is(err, checkpoint.ErrIncompatible) {
		l.failure = err.Error()
	}
	if l.alone != nil {
		status := int64(statusRunning)
		if l.failure != "" {
			status = statusFailed
		}
		l.alone.pipelineStatus.Set(status)
	}
}

func (l *link) report(behind *lag) plane.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := plane.Report{LagSeconds: -1, LagBytes: -1, State: plane.Running}
	if l.failure != "" {
		r.State, r.Cause = plane.Failed, l.failure
	}
	if l.saver == nil {
		return r
	}
	if tok := l.saver.position(); !tok.IsZero() {
		r.Position = tok.String()
	}
	r.LagSeconds = behind.seconds(time.Now())
	return r
}

func (l *link) close() {
	if l.detach != nil {
		l.detach()
	}
	if l.alone != nil {
		l.alone.pipelineStatus.Set(statusStopped)
	}
}
