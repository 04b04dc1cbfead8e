package coordinator

import (
	"context"
	"time"

	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/lag"
)

const (
	// probeEvery is how often the end of the server's log is asked for while no session runs.
	probeEvery = 30 * time.Second
	// probeTimeout bounds one question.
	probeTimeout = 10 * time.Second
)

// noteRead enters a segment into the book of what is late, and numbers it.
func (i *Input) noteRead(seg *Segment) {
	seg.seq = i.lag.Read(lag.Reading{CaughtUp: seg.CaughtUp, Committed: seg.CommitTime, ReadAt: seg.ReadAt, Rows: seg.Rows != nil})
}

// watchLag sets the gauges until ctx ends.
func (i *Input) watchLag(ctx context.Context) {
	for {
		if r, ok := i.log.(LagReporter); ok {
			if n, known := r.LagBytes(); known {
				i.lag.SetBytes(n)
			}
		}
		if s := i.reading.Load(); s != nil && time.Since(s.began) >= health.SettledAfter {
			s.progress() // it lives, and there may be nothing to read
		}
		i.lag.Publish(time.Now())
		i.link.publish()
		if sleep(ctx, lag.Every) != nil {
			return
		}
	}
}

// probeLag keeps the lag in bytes growing while no session runs, until ctx ends.
func (i *Input) probeLag(ctx context.Context, p LagProber) {
	for sleep(ctx, probeEvery) == nil {
		if i.reading.Load() != nil {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, probeTimeout)
		_ = p.ProbeLag(asked) // why the server cannot be asked is told by the session that cannot be started
		cancel()
	}
}
