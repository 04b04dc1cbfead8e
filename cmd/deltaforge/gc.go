package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Rows are garbage as soon as they are delivered. With Go's default a busy pipeline, which holds little at any time, would
// collect dozens of times a second; so while much is allocated the heap may grow to busyHeap between collections. When
// nothing happens it shrinks back, which keeps idle processes small.
const (
	busyHeap    = 160 << 20
	maxPercent  = 800
	idlePercent = 100
	// tunePeriod is how often the pace is looked at, and busyCycles how many collections in that time are many.
	tunePeriod = 250 * time.Millisecond
	busyCycles = 2
	// calmPeriods is how long the pace must have been low before the default returns.
	calmPeriods = 20
)

// tuneGC sets the garbage collector's pace until ctx ends. GOGC or GOMEMLIMIT in the environment is the operator's own
// choice; then it does nothing.
func tuneGC(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	ticker := time.NewTicker(tunePeriod)
	defer ticker.Stop()
	var p pace
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(samples)
		if percent, changed := p.next(samples[0].Value.Uint64(), samples[1].Value.Uint64()); changed {
			debug.SetGCPercent(percent)
		}
	}
}

// pace decides on the garbage collector's percentage.
type pace struct {
	percent int // 0 is idlePercent
	cycles  uint64
	calm    int
}

// next takes the number of collections so far and the bytes that were live after the last one.
func (p *pace) next(cycles, live uint64) (percent int, changed bool) {
	n := cycles - p.cycles
	p.cycles = cycles
	old := max(p.percent, idlePercent)
	switch {
	case n >= busyCycles || n > 0 && old > idlePercent:
		p.calm = 0
		want := min(max(int(100*busyHeap/max(live, 1))-100, idlePercent), maxPercent)
		// The live heap changes a little all the time; changing the percentage stops the world.
		if want > old*5/4 || want < old*4/5 {
			p.percent = want
		}
	case n == 0 && old > idlePercent:
		if p.calm++; p.calm >= calmPeriods {
			p.percent = idlePercent
		}
	}
	return max(p.percent, idlePercent), max(p.percent, idlePercent) != old
}
