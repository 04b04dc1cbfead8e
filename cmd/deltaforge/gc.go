package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Rows are garbage as soon as they are delivered. With Go's default a busy pipeline, which holds little at any time, would
// collect dozens of times a second; so while much is allocated, memory is used up to a bound before it is collected. When
// nothing happens the heap stays small, for many idle processes.
const (
	busyPercent = 800
	idlePercent = 50
	// busyMemory bounds what Go takes from the system while rows flow, unless more than a third of it is live: then the
	// bound rises with that.
	busyMemory = 180 << 20
	liveFactor = 3
	// tunePeriod is how often the pace is looked at, and busyCycles how many collections in that time are many.
	tunePeriod = 250 * time.Millisecond
	busyCycles = 2
	// calmPeriods is how long the pace must have been low before the heap is kept small again.
	calmPeriods = 20
)

// tuneGC sets the garbage collector's pace until ctx ends. GOGC or GOMEMLIMIT in the environment is the operator's own
// choice; then it does nothing. What it does, it does by way of protect.
func tuneGC(ctx context.Context, protect func(component string, f func()) (ended bool)) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	ticker := time.NewTicker(tunePeriod)
	defer ticker.Stop()
	p := pace{limit: math.MaxInt64}
	debug.SetGCPercent(idlePercent)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		protect("garbage collector", func() {
			metrics.Read(samples)
			if p.next(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
				p.set()
			}
		})
	}
}

// pace decides how often garbage is collected.
type pace struct {
	busy   bool
	limit  int64 // of the memory that Go takes
	cycles uint64
	calm   int
}

// next takes the number of collections so far and the bytes that were live after the last one. It reports whether the pace
// is another one now.
func (p *pace) next(cycles, live uint64) (changed bool) {
	n := cycles - p.cycles
	p.cycles = cycles
	switch {
	case n >= busyCycles || n > 0 && p.busy:
		p.calm = 0
		limit := max(busyMemory, liveFactor*int64(live))
		// What is live changes a little all the time; changing the pace stops the world.
		if !p.busy || limit > p.limit || limit < p.limit/2 {
			p.busy, p.limit = true, limit
			return true
		}
	case n == 0 && p.busy:
		if p.calm++; p.calm >= calmPeriods {
			p.busy, p.limit = false, math.MaxInt64
			return true
		}
	}
	return false
}

// set makes the runtime go at the pace.
func (p *pace) set() {
	debug.SetMemoryLimit(p.limit)
	if p.busy {
		debug.SetGCPercent(busyPercent)
	} else {
		debug.SetGCPercent(idlePercent)
	}
}
