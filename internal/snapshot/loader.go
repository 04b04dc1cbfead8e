package snapshot

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/livecopy"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

// Numbers are where a Loader counts. Its functions do not block.
type Numbers struct {
	Rows  func(table string, n int)         // rows that were read
	Ratio func(table string, ratio float64) // 0 to 1, of what is delivered
	// Changed is called when Record has something new.
	Changed func()
}

// Loader loads the tables of one source. It outlives sessions: what is delivered is in its record, which is saved beside the position and
// before it. It may be used from any goroutine.
type Loader struct {
	cfg     Config
	src     Source
	out     *service.Logger
	numbers Numbers
	copies  *livecopy.Pipeline // nil: no output keeps copies
	open    atomic.Bool        // something is to be loaded: the stream is looked at
	done    chan struct{}

	mu      sync.Mutex
	rec     *record          // what is delivered; guarded by mu, as are all the others
	adopt   bool             // tables that are not in the record are known, and not to be loaded
	again   bool             // tables that were loaded are to be loaded again
	listed  bool             // the tables have been listed, in this process
	tables  map[string]Table // as they were listed last
	steps   []step           // on their way, in the order of their marks
	mark    uint64           // of the newest step
	changes uint64           // of the record
	saved   uint64           // the changes that the saved record has
	join    *Join            // of the running session; nil: none
	pace    time.Time        // when the next chunk may be read
	ids     int64            // the newest number in a load's ID
}

// New returns a loader. It does nothing before Begin.
func New(cfg Config, src Source, out *service.Logger, numbers Numbers) *Loader {
	l := &Loader{cfg: cfg, src: src, out: out, numbers: numbers, rec: &record{Version: recordVersion}, done: make(chan struct{}), tables: map[string]Table{}}
	src.Notify(l.appeared)
	return l
}

// Begin sets what is known: the saved record, nil when there is none, and whether the source starts for the first time. Called once, before
// anything else but New. An error wraps checkpoint.ErrBroken or checkpoint.ErrIncompatible.
func (l *Loader) Begin(saved []byte, first bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if saved != nil {
		r, err := parseRecord(saved)
		if err != nil {
			return err
		}
		l.rec = r
	}
	if saved == nil && first {
		l.rec.First = true
		l.touch() // so that no position is saved without it
	}
	l.again = l.cfg.Mode == Always
	l.adopt = saved == nil && !first && l.cfg.Mode == Initial
	l.look()
	return nil
}

// Renew notes that a position is lost: everything that was loaded is to be loaded again, once the tables are listed. No session runs.
func (l *Loader) Renew(from, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rec.Loads = nil
	l.rec.Anew, l.listed, l.adopt = true, false, false
	l.rec.Lost = &plane.LostPosition{At: time.Now().UTC(), From: from, Why: why}
	l.touch()
	l.look()
}

// Renewed notes where the source has begun anew, and returns the position that was lost.
func (l *Loader) Renewed(to string) (from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rec.Lost == nil {
		return ""
	}
	lost := *l.rec.Lost
	lost.To = to
	l.rec.Lost = &lost
	l.touch()
	return lost.From
}

// look works out whether there is something to load.
func (l *Loader) look() {
	l.open.Store(slices.ContainsFunc(l.rec.Loads, func(d *load) bool { return d.State.open() }))
	l.changed()
}

// changed wakes who waits for the state to change.
func (l *Loader) changed() {
	if l.join != nil {
		l.join.wake()
	}
	if l.cfg.Mode == InitialOnly && l.listed && !l.open.Load() && len(l.steps) == 0 && l.changes == l.saved {
		select {
		case <-l.done:
		default:
			close(l.done)
		}
	}
}

// Done is closed when the input has nothing more to do: everything is loaded, delivered and saved, and the mode is InitialOnly.
func (l *Loader) Done() <-chan struct{} { return l.done }

// Wanted reports whether tables are loaded by themselves.
func (l *Loader) Wanted() bool { return l.cfg.Mode != Never }

// touch notes that the record has changed.
func (l *Loader) touch() {
	l.changes++
	l.numbers.Changed()
}

// Record returns the progress when everything up to a mark is delivered, and a number for Saved; nil when it is as it was saved.
func (l *Loader) Record(mark uint64) ([]byte, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.steps) && l.steps[n].mark <= mark {
		l.deliver(&l.steps[n])
		n++
	}
	if n > 0 {
		l.steps = slices.Delete(l.steps, 0, n)
		l.touch()
		l.look()
	}
	if l.changes == l.saved {
		return nil, l.saved, nil
	}
	data, err := json.Marshal(l.rec)
	return data, l.changes, err
}

// Saved reports that a record that Record returned is saved.
func (l *Loader) Saved(changes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = max(l.saved, changes)
	l.changed()
}

// Pending reports whether a save would have something new, when everything up to a mark is delivered.
func (l *Loader) Pending(mark uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes != l.saved || len(l.steps) > 0 && l.steps[0].mark <= mark
}

// deliver enters a step that is delivered.
func (l *Loader) deliver(s *step) {
	d := l.rec.find(s.table)
	if d == nil {
		return
	}
	if d.apply(s) {
		l.delivered(d)
	}
	l.numbers.Ratio(d.Table, d.ratio())
}

// ratio is how much of the table is delivered, by the estimate.
func (d *load) ratio() float64 {
	switch {
	case d.State == Done:
		return 1
	case d.Estimate <= 0:
		return 0
	default:
		return min(float64(d.Rows)/float64(d.Estimate), 0.99)
	}
}

// newLoad returns a load that begins now.
func (l *Loader) newLoad(t Table, where string) *load {
	l.ids = max(l.ids+1, time.Now().UnixMilli())
	return &load{Table: t.Name, ID: strconv.FormatInt(l.ids, 36), State: Waiting, Where: where, Estimate: t.Rows, Began: time.Now().UTC()}
}

// begin puts a load in the place of what the table has.
func (l *Loader) begin(d *load) {
	l.rec.put(d)
	if l.join != nil {
		l.join.forget(d.Table)
	}
	l.touch()
	l.numbers.Ratio(d.Table, 0)
}

// appeared hears of a table that has come under a captured name.
func (l *Loader) appeared(a Appearance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Mode == Never || !l.chosen(a.Table) {
		return
	}
	l.out.With("table", a.Table).Infof("Table %s is loaded: %s", a.Table, a.Why)
	l.begin(l.newLoad(Table{Name: a.Table, Rows: -1}, l.cfg.Where[a.Table]))
	l.look()
}

// chosen reports whether a table is loaded without being asked for.
func (l *Loader) chosen(table string) bool {
	return len(l.cfg.Tables) == 0 || slices.ContainsFunc(l.cfg.Tables, func(p string) bool { return match(p, table) })
}

// match reports whether a name is that of a pattern, as in tables.include.
func match(pattern, name string) bool {
	p, ok := tablefilter.Parse(pattern)
	container, table, _ := strings.Cut(name, ".")
	return pattern == name || ok && p.Match(container, table)
}

// Reconcile holds the tables that are there against the record. A session calls it with what it has listed.
func (l *Loader) Reconcile(tables []Table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.tables)
	begun, rows := 0, int64(0)
	for _, t := range tables {
		l.tables[t.Name] = t
		d := l.rec.find(t.Name)
		switch {
		case d == nil && !l.rec.Anew && (l.adopt || l.cfg.Mode == Never):
			l.rec.put(&load{Table: t.Name, State: Skipped})
			l.touch()
			continue
		case !l.chosen(t.Name), l.cfg.Mode == Never && !l.rec.Anew:
		case d == nil, d.State == Gone, l.again && !d.State.open():
			d = l.newLoad(t, l.cfg.Where[t.Name])
			l.begin(d)
			begun++
			rows += max(t.Rows, 0)
		}
		if d != nil && d.State.open() {
			if d.Estimate < 0 {
				d.Estimate = t.Rows
			}
			l.refuse(d, t.Refused)
		}
	}
	if begun > 0 {
		l.out.Infof("Snapshot of %d tables begins: about %d rows", begun, rows)
	}
	if l.changes == 0 { // so that a record is there, and tables that come later are told from those that were there
		l.touch()
	}
	if l.rec.First || l.rec.Anew {
		l.rec.First, l.rec.Anew = false, false
		l.touch()
	}
	l.adopt, l.again, l.listed = false, false, true
	l.heedEarly()
	l.look()
}

// refuse notes that a table cannot be read at present, or that it can again.
func (l *Loader) refuse(d *load, err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem == d.Problem {
		return
	}
	if d.Problem = problem; problem != "" {
		l.out.With("table", d.Table, "error", problem).Warnf("Snapshot of %s has to wait: %s", d.Table, problem)
	}
}

// gone ends a load whose table is not there any more.
func (l *Loader) gone(d *load) {
	d.State, d.Ended, d.Problem = Gone, time.Now().UTC(), ""
	l.out.With("table", d.Table).Warnf("Snapshot of %s ends: the table is not there any more", d.Table)
	l.touch()
	l.look()
}

// slow waits until n rows may be read, and counts them.
func (l *Loader) slow(ctx context.Context, n int) error {
	if l.cfg.Rate == 0 {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	wait := l.pace.Sub(now)
	if wait < 0 {
		wait, l.pace = 0, now
	}
	l.pace = l.pace.Add(time.Duration(float64(n) / float64(l.cfg.Rate) * float64(time.Second)))
	l.mu.Unlock()
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
