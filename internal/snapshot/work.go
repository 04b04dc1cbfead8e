package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

const (
	// partsPerWorker is in how many parts a table is cut for each worker, so that none is long without work.
	partsPerWorker = 4
	// beginTimeout bounds the wait for a transaction that sees enough, and the time of a read.
	beginTimeout = time.Minute
	readTimeout  = 10 * time.Minute // of a chunk, or of a part of a table that is read whole
	// prepareTimeout bounds the wait for what a format needs for a table.
	prepareTimeout = 10 * time.Second
	// Between two tries of what has failed.
	retryMin = time.Second
	retryMax = time.Minute
	// listEvery is how often the tables are listed.
	listEvery = time.Minute
	// againMost bounds the keys of one query.
	againMost = 200
)

// errStale means that a chunk is not wanted any more, or not as it was read.
var errStale = errors.New("the chunk is read anew")

// reading is how far a load is read in this session. It is guarded by Loader.mu.
type reading struct {
	table, id, where string
	parts            []reach // empty: not worked out yet
	planning         bool
	asked            uint64 // the newest of the keys to be read again that was asked for
	rereading        bool
	pruning          bool
	broken           bool // something of a whole table was dropped
	tries            int  // that have failed, one after the other
	chased           int  // times in a row that rows which were read again have to be read once more
	retryAt          time.Time
}

// reach is how far a part is read.
type reach struct {
	part
	busy bool // a chunk is being read, or waits for its place
}

// result is a chunk that was read.
type result struct {
	reading  *reading
	track    *track
	part     int // -1: keys that are read again
	next     Bound
	held     bool // the same view goes on
	again    []again
	view     View
	begun    uint64
	opened   uint64        // chunks that were begun when there was the view; those after it have newer ones
	table    *change.Table // nil: no rows
	messages service.MessageBatch
	sizes    []int
}

// advance notes that a chunk is in the stream.
func (r *reading) advance(c *result) {
	if c.part < 0 {
		r.rereading = false
		return
	}
	p := &r.parts[c.part]
	p.busy = false
	if p.Done = c.next == nil; !p.Done {
		p.From = c.next
	}
}

// settled notes whether the rows of a chunk are in the stream for good, or some of them have to be read again. It counts for rows that were read again.
func (r *reading) settled(c *result, all bool) {
	switch {
	case c.part >= 0:
	case all:
		r.chased = 0
	default:
		r.chased++
	}
}

// release notes that a chunk is to be read anew.
func (r *reading) release(c *result) {
	if c.part < 0 {
		r.rereading, r.asked = false, min(r.asked, c.again[0].N-1)
		return
	}
	if !c.held {
		r.parts[c.part].busy = false
	}
}

// allSent reports whether every part is in the stream.
func (r *reading) allSent() bool {
	return len(r.parts) > 0 && !r.rereading && !slices.ContainsFunc(r.parts, func(p reach) bool { return !p.Done })
}

// task is something to read.
type task struct {
	reading *reading
	plan    bool
	prune   bool
	part    int // -1: keys
	from    Bound
	to      Bound
	again   []again
	hold    bool // the stream is held meanwhile
}

// List keeps the list of tables until ctx ends.
func (j *Join) List(ctx context.Context) {
	said := ""
	for wait := retryMin; ; {
		tables, err := j.l.src.Tables(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			j.l.Reconcile(tables)
			said, wait = "", listEvery
		default:
			if text := err.Error(); text != said {
				said = text
				j.l.out.With("error", text).Warnf("Listing the tables for a snapshot: %s", text)
			}
			wait = min(max(2*wait, retryMin), retryMax)
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// Work reads chunks until ctx ends.
func (j *Join) Work(ctx context.Context) {
	var r Reader
	defer func() {
		if r != nil {
			r.Close()
		}
	}()
	for {
		t, ok := j.take(ctx)
		if !ok {
			return
		}
		var err error
		if r == nil {
			r, err = j.l.src.Open(ctx)
		}
		if err == nil {
			err = j.do(ctx, r, t)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if r != nil { // its transaction may be open
				r.Close()
				r = nil
			}
			j.failed(t, err)
		}
	}
}

// take returns the next thing to read, and waits until there is something.
func (j *Join) take(ctx context.Context) (task, bool) {
	l := j.l
	for {
		l.mu.Lock()
		t, wait, ok := j.pick(time.Now())
		turn := j.turn
		l.mu.Unlock()
		if ok {
			return t, true
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-turn:
		case <-due:
		case <-ctx.Done():
			return task{}, false
		}
	}
}

// pick chooses what to read: of tables that are begun before others. Wait is the time until something may be tried again; 0: unknown.
func (j *Join) pick(now time.Time) (t task, wait time.Duration, ok bool) {
	if j.l.rec.Paused || j.at == nil || j.held() >= 2*j.l.cfg.Parallel { // so that memory does not grow while the sink is slow
		return task{}, 0, false
	}
	for _, state := range []State{Pruning, Loading, Waiting} {
		for _, d := range j.l.rec.Loads {
			if d.State != state {
				continue
			}
			if refused := j.l.tables[d.Table].Refused; refused != nil {
				continue
			}
			r := j.reading(d)
			if until := r.retryAt.Sub(now); until > 0 {
				if wait == 0 || until < wait {
					wait = until
				}
				continue
			}
			if t, ok := r.pick(d); ok {
				return t, 0, true
			}
		}
	}
	return task{}, wait, false
}

// held returns how many chunks are in memory: those that are being read, and those that wait for their place.
func (j *Join) held() (n int) {
	for _, r := range j.reads {
		if r.rereading {
			n++
		}
		for i := range r.parts {
			if r.parts[i].busy {
				n++
			}
		}
	}
	return n
}

// reading returns how far a load is read in this session.
func (j *Join) reading(d *load) *reading {
	r := j.reads[d.Table]
	if r != nil && r.id == d.ID {
		return r
	}
	c := d.clone()
	for i := range j.l.steps {
		if j.l.steps[i].table == d.Table {
			c.apply(&j.l.steps[i])
		}
	}
	r = &reading{table: d.Table, id: d.ID, where: d.Where}
	r.setParts(c.Parts)
	for _, a := range d.Again {
		if !slices.ContainsFunc(c.Again, func(b again) bool { return a.N == b.N }) {
			r.asked = max(r.asked, a.N)
		}
	}
	j.reads[d.Table] = r
	return r
}

func (r *reading) setParts(parts []part) {
	r.parts = make([]reach, len(parts))
	for i, p := range parts {
		r.parts[i].part = p
	}
}

// pick chooses what to read of a table.
func (r *reading) pick(d *load) (task, bool) {
	if d.State == Pruning {
		if r.pruning {
			return task{}, false
		}
		r.pruning = true
		return task{reading: r, prune: true, part: -1}, true
	}
	if len(r.parts) == 0 {
		if r.planning {
			return task{}, false
		}
		r.planning = true
		return task{reading: r, plan: true, part: -1}, true
	}
	if !r.rereading {
		var keys []again
		for _, a := range d.Again {
			if a.N > r.asked && len(keys) < againMost {
				keys = append(keys, a)
			}
		}
		if len(keys) > 0 {
			r.rereading, r.asked = true, keys[len(keys)-1].N
			return task{reading: r, part: -1, again: keys, hold: r.chased >= holdAfter}, true
		}
	}
	for i := range r.parts {
		if p := &r.parts[i]; !p.Done && !p.busy {
			p.busy = true
			return task{reading: r, part: i, from: p.From, to: p.To}, true
		}
	}
	return task{}, false
}

// do reads what a task says.
func (j *Join) do(ctx context.Context, r Reader, t task) error {
	if t.plan {
		return j.plan(ctx, r, t.reading)
	}
	if t.prune {
		return j.finish(ctx, t.reading)
	}
	track, begun, err := j.follow(ctx, t.reading)
	if err != nil {
		return err
	}
	handed := false
	defer func() {
		if !handed {
			j.l.mu.Lock()
			delete(j.active, begun)
			j.l.mu.Unlock()
		}
	}()
	after, goOn := track.after, func() {}
	if t.hold {
		if after, goOn, err = j.stop(ctx, t.reading); err != nil {
			return err
		}
		defer goOn()
	}
	began, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	view, err := r.Begin(began, t.reading.table, after)
	if err != nil {
		return err
	}
	j.l.mu.Lock()
	opened := j.begun
	j.l.mu.Unlock()
	c, err := j.chunk(t)
	if err != nil {
		return err
	}
	for n := 0; ; {
		res, err := read(ctx, r, c, newRows(t, n))
		if err != nil {
			return err
		}
		res.track, res.view, res.begun, res.opened = track, view, begun, opened
		rows := len(res.messages)
		n += rows
		if rows > 0 {
			j.l.numbers.Rows(t.reading.table, rows)
		}
		handed = handed || !res.held
		if err := j.hand(ctx, res); err != nil {
			return err
		}
		goOn()
		if err := j.l.slow(ctx, rows); err != nil || !res.held {
			return err
		}
		c.From = res.next
	}
}

// chunk returns what a task reads.
func (j *Join) chunk(t task) (Chunk, error) {
	c := Chunk{Table: t.reading.table, Where: t.reading.where, From: t.from, To: t.to, Limit: j.l.cfg.ChunkRows}
	for _, a := range t.again {
		key, err := a.Key.values()
		if err != nil {
			return c, err
		}
		c.Keys = append(c.Keys, key)
	}
	return c, nil
}

// read reads a chunk, in bounded time.
func read(ctx context.Context, r Reader, c Chunk, into *rows) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	into.prepare = func(t *change.Table) error { // the transaction is open meanwhile
		ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
		defer cancel()
		return change.Prepare(ctx, t)
	}
	c.Raw = into.addRaw
	end, err := r.Read(ctx, c, into.add)
	if err == nil {
		err = into.failed
	}
	if err != nil {
		return nil, err
	}
	return into.result(end), nil
}

// plan cuts a table into parts.
func (j *Join) plan(ctx context.Context, r Reader, rd *reading) error {
	kept, err := j.keep(ctx, rd)
	if err != nil {
		return err
	}
	bounds, err := r.Split(ctx, rd.table, j.l.cfg.Parallel*partsPerWorker)
	if err != nil {
		return err
	}
	parts := make([]part, len(bounds)+1)
	for i, b := range bounds {
		parts[i].To, parts[i+1].From = b, b
	}
	l := j.l
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.rec.find(rd.table)
	if d == nil || d.ID != rd.id || !d.State.open() {
		return errStale
	}
	d.Parts, d.State, d.Kept, d.Problem = parts, Loading, kept, ""
	rd.setParts(slices.Clone(parts))
	rd.planning, rd.tries = false, 0
	l.touch()
	j.wake()
	return nil
}

// hand gives a chunk to the goroutine of the stream. Of a whole table that is read in parts, it waits until the part before is in the stream.
func (j *Join) hand(ctx context.Context, res *result) error {
	l := j.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if j.reads[res.reading.table] != res.reading || res.reading.broken && (res.held || res.part >= 0) {
			delete(j.active, res.begun)
			return errStale
		}
		if !slices.ContainsFunc(j.waiting, func(o *result) bool { return o.begun == res.begun }) {
			break
		}
		turn := j.turn
		l.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	j.waiting = append(j.waiting, res)
	res.reading.tries = 0
	if d := l.rec.find(res.reading.table); d != nil && d.ID == res.reading.id {
		d.Problem = ""
	}
	select {
	case j.ready <- struct{}{}:
	default:
	}
	return nil
}

// failed notes that a task was not done.
func (j *Join) failed(t task, err error) {
	l := j.l
	l.mu.Lock()
	defer l.mu.Unlock()
	rd := t.reading
	switch {
	case t.plan:
		rd.planning = false
	case t.prune:
		rd.pruning = false
	case t.part < 0:
		rd.release(&result{part: -1, again: t.again})
	default:
		rd.parts[t.part].busy = false
		rd.broken = false
	}
	defer j.wake()
	d := l.rec.find(rd.table)
	if errors.Is(err, errStale) || d == nil || d.ID != rd.id || !d.State.open() {
		return
	}
	if errors.Is(err, ErrGone) {
		l.gone(d)
		j.forget(d.Table)
		return
	}
	if errors.Is(err, ErrAnew) {
		l.out.With("table", d.Table).Infof("Table %s is loaded from its beginning: %s", d.Table, err)
		l.begin(l.newLoad(Table{Name: d.Table, Rows: -1}, d.Where))
		l.look()
		return
	}
	rd.retryAt = time.Now().Add(min(retryMin<<min(rd.tries, 10), retryMax))
	rd.tries++
	if !t.prune {
		err = fmt.Errorf("reading it: %w", err)
	}
	l.refuse(d, err)
}

// untrackIdle forgets what is followed for nothing, when no chunk is read.
func (j *Join) untrackIdle() {
	if len(j.active) == 0 {
		clear(j.tracks)
	}
}
