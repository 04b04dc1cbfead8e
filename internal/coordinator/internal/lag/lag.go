// Package lag knows how late a source is, and shows it.
package lag

import (
	"math"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Every is how often Publish is called: the gauges move with the clock.
const Every = time.Second

// endGrace is how long the server's word that we are at its end holds. Logs hear from their server more often
// than that; when nothing comes, the lag is the time since the last word.
const endGrace = 12 * time.Second

// Lag knows how late the source is. The sessions and the saver feed it; what outlives sessions publishes it, so that the gauges
// grow while the database cannot be reached, while the output takes nothing and while the pipeline is paused. Its methods may be called from
// any goroutine.
type Lag struct {
	gauges gauges

	mu      sync.Mutex
	seq     uint64    // of the last segment; guarded by mu, as are all the others
	unsaved ages      // commits with rows for us that are read, and not delivered and saved
	known   time.Time // what was committed before is read
	atEnd   bool      // known is the server's word that we are at its end, and nothing was read since
	lastRow time.Time // when the last row was read
	tables  map[string]*tableLag
	bytes   int64 // as the log said last; negative: never
}

// Reading is what Read is told of a segment.
type Reading struct {
	CaughtUp  bool      // it ends at the end of the log
	Committed time.Time // zero: it says nothing about time
	ReadAt    time.Time
	Rows      bool // it has rows for us
}

type gauges struct{ lag, read, bytes, table, idle *service.MetricGauge }

// tableLag is lag for the commits that touched one table. What is not read yet may touch it.
type tableLag struct {
	unsaved ages
	shown   float64 // negative: the gauge has no value
}

// New returns the lag of a source whose gauges are in m.
func New(m *service.Metrics) *Lag {
	return &Lag{tables: map[string]*tableLag{}, bytes: -1, gauges: gauges{
		lag: m.NewGauge("source_lag_seconds"), read: m.NewGauge("source_read_lag_seconds"), bytes: m.NewGauge("source_lag_bytes"),
		table: m.NewGauge("source_table_lag_seconds", "table"), idle: m.NewGauge("source_idle_seconds"),
	}}
}

// Begin sets the time since which commits may be undelivered: the time of the saved position, or of the first start.
func (l *Lag) Begin(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.lastRow = since, time.Now()
}

// Read notes a segment, and returns its number.
func (l *Lag) Read(r Reading) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	switch {
	case r.CaughtUp:
		l.atEnd, l.known = true, r.ReadAt
	case !r.Committed.IsZero():
		l.atEnd, l.known = false, r.Committed
	}
	if !r.Rows {
		return l.seq
	}
	l.lastRow = r.ReadAt
	if !r.Committed.IsZero() {
		l.unsaved.add(l.seq, r.Committed)
	}
	return l.seq
}

// Touched notes that a segment has rows of a table.
func (l *Lag) Touched(table string, committed time.Time, seq uint64) {
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

// Saved notes that everything up to a segment is delivered and saved.
func (l *Lag) Saved(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved.pass(seq)
	for _, t := range l.tables {
		t.unsaved.pass(seq)
	}
}

// Rewind notes that a session has ended, and the next one reads again from after a segment.
func (l *Lag) Rewind(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldest := l.unsaved.rewind(seq); !oldest.IsZero() {
		l.known, l.atEnd = oldest, false
	}
	for _, t := range l.tables {
		t.unsaved.rewind(seq)
	}
}

// AsOf returns the time before which everything committed is delivered, once everything up to a segment is saved.
func (l *Lag) AsOf(seq uint64) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.unsaved {
		if a.last > seq {
			return a.committed
		}
	}
	return l.known
}

// Close says that nobody reads any more.
func (l *Lag) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atEnd = false
}

// Seconds returns the age of the oldest commit that is not delivered and saved, as far as is known, and how late the reading is.
func (l *Lag) Seconds(now time.Time) (lag, read float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.secondsLocked(now)
}

// secondsLocked is Seconds with mu held.
func (l *Lag) secondsLocked(now time.Time) (lag, read float64) {
	since := now.Sub(l.known)
	if !l.atEnd || since > endGrace {
		read = max(0, since.Seconds())
	}
	if len(l.unsaved) > 0 {
		return max(0, now.Sub(l.unsaved[0].committed).Seconds()), read
	}
	return read, read
}

// Bytes returns the lag in bytes that the log reported last; negative when it never did.
func (l *Lag) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// SetBytes notes the lag in bytes, as the log says it.
func (l *Lag) SetBytes(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes = n
}

// Withdraw takes the gauges off the page: nothing moves them any more, and a lag that stands still would be wrong.
func (l *Lag) Withdraw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := math.NaN()
	for name := range l.tables {
		l.gauges.table.SetFloat64(gone, name)
	}
	for _, g := range []*service.MetricGauge{l.gauges.lag, l.gauges.read, l.gauges.bytes, l.gauges.idle} {
		g.SetFloat64(gone)
	}
}

// Publish sets the gauges.
func (l *Lag) Publish(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lag, read := l.secondsLocked(now)
	idle := max(0, now.Sub(l.lastRow).Seconds())
	if idle < Every.Seconds() {
		idle = 0 // rows flow
	}
	for name, t := range l.tables {
		late := read
		if len(t.unsaved) > 0 {
			late = max(0, now.Sub(t.unsaved[0].committed).Seconds())
		}
		if late != t.shown {
			l.gauges.table.SetFloat64(late, name)
			t.shown = late
		}
	}
	l.gauges.lag.SetFloat64(lag)
	l.gauges.read.SetFloat64(read)
	l.gauges.idle.SetFloat64(idle)
	if l.bytes >= 0 {
		l.gauges.bytes.Set(l.bytes)
	}
}
