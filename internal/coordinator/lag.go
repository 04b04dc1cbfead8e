package coordinator

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

const (
	// lagEvery is how often the gauges that move with the clock are set.
	lagEvery = time.Second
	// endGrace is how long the server's word that we are at its end holds. Logs hear from their server more often
	// than that; when nothing comes, the lag is the time since the last word.
	endGrace = 12 * time.Second
)

// lag knows how far the source is behind. The sessions feed it; a goroutine that outlives them sets the gauges, so that
// they grow while the database cannot be reached.
type lag struct {
	mu         sync.Mutex
	caughtUp   bool                // the server has said that we are at its end; guarded by mu
	atEnd      time.Time           // when it said so last; guarded by mu
	lastCommit time.Time           // commit time of the last commit read; guarded by mu
	lastRow    time.Time           // when the last row was read; guarded by mu
	tables     map[string]tableLag // guarded by mu
}

// tableLag is how late the last commit that touched a table was when it was read.
type tableLag struct {
	late time.Duration
	set  bool // the gauge shows late
}

func newLag() *lag { return &lag{tables: map[string]tableLag{}} }

// read notes a segment.
func (l *lag) read(seg *Segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case seg.CaughtUp:
		l.caughtUp, l.atEnd = true, seg.ReadAt
	case !seg.CommitTime.IsZero():
		l.caughtUp = false
		l.lastCommit = seg.CommitTime
	}
	if seg.Rows != nil {
		l.lastRow = seg.ReadAt
	}
}

// touched notes that a commit touched a table.
func (l *lag) touched(table string, committed, read time.Time) {
	if committed.IsZero() {
		return
	}
	l.mu.Lock()
	l.tables[table] = tableLag{late: max(0, read.Sub(committed))}
	l.mu.Unlock()
}

// run sets the gauges until ctx ends.
func (l *lag) run(ctx context.Context, in *Input) {
	l.mu.Lock()
	if l.lastRow.IsZero() {
		l.lastRow = time.Now()
	}
	l.mu.Unlock()
	for {
		l.publish(in, time.Now())
		if sleep(ctx, lagEvery) != nil {
			return
		}
	}
}

// seconds returns how far the source is behind.
func (l *lag) seconds(now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch silent := now.Sub(l.atEnd); {
	case l.caughtUp && silent > endGrace:
		return silent.Seconds()
	case !l.caughtUp && !l.lastCommit.IsZero():
		return max(0, now.Sub(l.lastCommit).Seconds())
	}
	return 0
}

// withdraw takes the gauges off the page: nothing moves them any more, and a lag that stands still is none. Called when run
// has ended.
func (l *lag) withdraw(st *stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := math.NaN()
	for name := range l.tables {
		st.sourceTableLag.SetFloat64(gone, name)
	}
	for _, g := range []*service.MetricGauge{st.sourceLag, st.sourceLagBytes, st.sourceIdle} {
		g.SetFloat64(gone)
	}
}

func (l *lag) publish(in *Input, now time.Time) {
	seconds := l.seconds(now)
	l.mu.Lock()
	idle := max(0, now.Sub(l.lastRow).Seconds())
	if idle < lagEvery.Seconds() {
		idle = 0 // rows flow
	}
	for name, t := range l.tables {
		late := t.late
		if l.caughtUp {
			late = 0
		}
		if !t.set || late != t.late {
			in.st.sourceTableLag.SetFloat64(late.Seconds(), name)
			l.tables[name] = tableLag{late: late, set: true}
		}
	}
	l.mu.Unlock()
	in.st.sourceLag.SetFloat64(seconds)
	in.st.sourceIdle.SetFloat64(idle)
	if r, ok := in.log.(LagReporter); ok {
		if n, known := r.LagBytes(); known {
			in.st.sourceLagBytes.Set(n)
		}
	}
}
