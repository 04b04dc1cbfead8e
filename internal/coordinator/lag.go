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
	// probeEvery is how often the end of the server's log is asked for while no session runs.
	probeEvery = 30 * time.Second
	// probeTimeout bounds one question.
	probeTimeout = 10 * time.Second
)

// lag knows how late the source is. The sessions and the saver feed it; a goroutine that outlives sessions sets the gauges, so that
// they grow while the database cannot be reached, while the output takes nothing and while the pipeline is paused. When the source is
// closed, the control plane has it set them.
type lag struct {
	mu      sync.Mutex
	seq     uint64    // of the last segment; guarded by mu, as are all the others
	unsaved ages      // commits with rows for us that are read, and not delivered and saved
	known   time.Time // what was committed before is read
	atEnd   bool      // known is the server's word that we are at its end, and nothing was read since
	lastRow time.Time // when the last row was read
	tables  map[string]*tableLag
	bytes   int64 // as the log said last; negative: never
}

// tableLag is lag for the commits that touched one table. What is not read yet may touch it.
type tableLag struct {
	unsaved ages
	shown   float64 // negative: the gauge has no value
}

func newLag() *lag { return &lag{tables: map[string]*tableLag{}, bytes: -1} }

// begin sets the time since which commits may be undelivered: the time of the saved position, or of the first start.
func (l *lag) begin(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.lastRow = since, time.Now()
}

// read notes a segment, and gives it its number.
func (l *lag) read(seg *Segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	seg.seq = l.seq
	switch {
	case seg.CaughtUp:
		l.atEnd, l.known = true, seg.ReadAt
	case !seg.CommitTime.IsZero():
		l.atEnd, l.known = false, seg.CommitTime
	}
	if seg.Rows == nil {
		return
	}
	l.lastRow = seg.ReadAt
	if !seg.CommitTime.IsZero() {
		l.unsaved.add(seg.seq, seg.CommitTime)
	}
}

// touched notes that a segment has rows of a table.
func (l *lag) touched(table string, committed time.Time, seq uint64) {
	if committed.IsZero() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tables[table]
	if t == nil {
		t = &tableLag{shown: -1}
		l.tables[table] = t
	}
	t.unsaved.add(seq, committed)
}

// saved notes that everything up to a segment is delivered and saved.
func (l *lag) saved(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved.pass(seq)
	for _, t := range l.tables {
		t.unsaved.pass(seq)
	}
}

// rewind notes that a session has ended, and the next one reads again from after a segment.
func (l *lag) rewind(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldest := l.unsaved.rewind(seq); !oldest.IsZero() {
		l.known, l.atEnd = oldest, false
	}
	for _, t := range l.tables {
		t.unsaved.rewind(seq)
	}
}

// asOf returns the time before which everything committed is delivered, once everything up to a segment is saved.
func (l *lag) asOf(seq uint64) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.unsaved {
		if a.last > seq {
			return a.committed
		}
	}
	return l.known
}

// close says that nobody reads any more.
func (l *lag) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atEnd = false
}

// seconds returns the age of the oldest commit that is not delivered and saved, as far as is known, and how late the reading is.
func (l *lag) seconds(now time.Time) (lag, read float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.secondsLocked(now)
}

// secondsLocked is seconds with mu held.
func (l *lag) secondsLocked(now time.Time) (lag, read float64) {
	since := now.Sub(l.known)
	if !l.atEnd || since > endGrace {
		read = max(0, since.Seconds())
	}
	if len(l.unsaved) > 0 {
		return max(0, now.Sub(l.unsaved[0].committed).Seconds()), read
	}
	return read, read
}

// run sets the gauges until ctx ends.
func (l *lag) run(ctx context.Context, in *Input) {
	for {
		if r, ok := in.log.(LagReporter); ok {
			if n, known := r.LagBytes(); known {
				l.mu.Lock()
				l.bytes = n
				l.mu.Unlock()
			}
		}
		if s := in.reading.Load(); s != nil && time.Since(s.began) >= settledAfter {
			s.progress() // it lives, and there may be nothing to read
		}
		l.publish(in.st, time.Now())
		in.link.publish()
		if sleep(ctx, lagEvery) != nil {
			return
		}
	}
}

// probe keeps the lag in bytes growing while no session runs, until ctx ends.
func (l *lag) probe(ctx context.Context, in *Input, p LagProber) {
	for sleep(ctx, probeEvery) == nil {
		if in.reading.Load() != nil {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, probeTimeout)
		_ = p.ProbeLag(asked) // why the server cannot be asked is told by the session that cannot be started
		cancel()
	}
}

// lastBytes returns the lag in bytes that the log reported last; negative when it never did.
func (l *lag) lastBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// withdraw takes the gauges off the page: nothing moves them any more, and a lag that stands still would be wrong.
func (l *lag) withdraw(st *stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := math.NaN()
	for name := range l.tables {
		st.sourceTableLag.SetFloat64(gone, name)
	}
	for _, g := range []*service.MetricGauge{st.sourceLag, st.sourceReadLag, st.sourceLagBytes, st.sourceIdle} {
		g.SetFloat64(gone)
	}
}

func (l *lag) publish(st *stats, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lag, read := l.secondsLocked(now)
	idle := max(0, now.Sub(l.lastRow).Seconds())
	if idle < lagEvery.Seconds() {
		idle = 0 // rows flow
	}
	for name, t := range l.tables {
		late := read
		if len(t.unsaved) > 0 {
			late = max(0, now.Sub(t.unsaved[0].committed).Seconds())
		}
		if late != t.shown {
			st.sourceTableLag.SetFloat64(late, name)
			t.shown = late
		}
	}
	st.sourceLag.SetFloat64(lag)
	st.sourceReadLag.SetFloat64(read)
	st.sourceIdle.SetFloat64(idle)
	if l.bytes >= 0 {
		st.sourceLagBytes.Set(l.bytes)
	}
}
