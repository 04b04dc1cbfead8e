package snapshot

import (
	"context"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// Join puts chunks into the stream of one session. One goroutine follows the stream (Segment, Next); others read chunks (Work).
type Join struct {
	l     *Loader
	ready chan struct{} // capacity 1: a chunk may be due

	// Guarded by l.mu.
	at      checkpoint.Position // the newest end of a transaction that the stream has passed; nil: not known yet
	between bool                // the stream is at that place
	turn    chan struct{}       // closed when the state changes
	tracks  map[string]*track
	reads   map[string]*reading
	waiting []*result       // read, and not in the stream yet
	begun   uint64          // chunks that were begun
	active  map[uint64]bool // those of them that are not in the stream yet
	key     []byte
	hold    *hold // nil: the stream goes on
}

// track is what the stream has changed in a table since a place in the log.
type track struct {
	after   checkpoint.Position // nil: it begins where the transaction ends that the stream is in
	changes []seen
}

// seen is a change of the stream that a chunk may not have seen.
type seen struct {
	tx    *change.Tx
	table *change.Table
	what  changeKind
	key   string
	lacks []change.Value // the key, where the new row lacks values
}

type changeKind uint8

const (
	rowChanged   changeKind = iota // the key has a new row, or none
	tableEmptied                   // no key has a row
	shapeChanged
)

// maxSeen bounds the changes of a table that are remembered. With more, what is being read of it is read anew.
const maxSeen = 1 << 20

// Session begins a session, whose stream goes on after the step that has the mark, and after a place: nil when it is not known yet. Between says that the place is
// not inside a transaction of which events are delivered.
func (l *Loader) Session(mark uint64, at checkpoint.Position, between bool) *Join {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = slices.DeleteFunc(l.steps, func(s step) bool { return s.mark > mark })
	j := &Join{
		l: l, ready: make(chan struct{}, 1), at: at, between: between && at != nil, turn: make(chan struct{}),
		tracks: map[string]*track{}, reads: map[string]*reading{}, active: map[uint64]bool{},
	}
	l.join = j
	for _, d := range l.rec.Loads {
		if d.State == Loading {
			j.reading(d) // so that nothing of its tables passes unseen
		}
	}
	return j
}

// Pending reports whether Next may have something.
func (j *Join) Pending() bool { return j.l.open.Load() }

// Ready receives when a chunk may be due without anything new in the stream.
func (j *Join) Ready() <-chan struct{} { return j.ready }

// wake tells the workers, and the goroutine of the stream; l.mu is held.
func (j *Join) wake() {
	close(j.turn)
	j.turn = make(chan struct{})
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// Segment notes what the stream has brought: messages, all of one transaction or of none, and where the transaction ends; nil: it goes on.
func (j *Join) Segment(messages service.MessageBatch, end checkpoint.Position) {
	j.l.mu.Lock()
	defer j.l.mu.Unlock()
	if len(messages) > 0 {
		j.between = false
		if len(j.reads) > 0 || j.l.cfg.Signal != "" {
			for _, m := range messages {
				if ev, ok := change.Own(m); ok && ev.Part == 0 {
					j.saw(ev.Whole())
				}
			}
		}
	}
	if end == nil {
		return
	}
	woken := !j.between
	j.at, j.between = end, true
	for _, t := range j.tracks {
		if t.after == nil {
			t.after, woken = end, true
		}
	}
	if woken && len(j.reads) > 0 {
		j.wake()
	}
}

// saw remembers what an event changes, if its table is being read.
func (j *Join) saw(ev *change.Event) {
	name := ev.Table.FullName()
	if name == j.l.cfg.Signal && ev.Op == change.Create {
		j.l.signal(ev)
	}
	r := j.reads[name]
	if r == nil {
		return
	}
	t := j.tracks[name]
	switch ev.Op {
	case change.Truncate:
		t.add(seen{tx: ev.Tx, table: ev.Table, what: tableEmptied})
	case change.Schema:
		t.add(seen{tx: ev.Tx, table: ev.Table, what: shapeChanged})
	case change.Create, change.Update, change.Delete:
		j.sawRow(r, t, ev)
	default:
	}
	if t != nil && len(t.changes) > maxSeen {
		j.l.out.Warnf("Snapshot of %s reads its newest chunks anew: the stream has brought more than %d changes of it since they were begun", name, maxSeen)
		delete(j.tracks, name)
	}
}

func (j *Join) sawRow(r *reading, t *track, ev *change.Event) {
	key := j.keyText(ev)
	if key == "" {
		return
	}
	now := seen{tx: ev.Tx, table: ev.Table, key: key}
	if slices.ContainsFunc(ev.After(), func(v change.Value) bool { return !v.Known() }) {
		now.lacks = keyOf(ev)
	}
	if ev.Op == change.Update && ev.Before() != nil {
		was := j.keyText(&change.Event{Op: change.Delete, Table: ev.Table, Images: change.ImagesOf(ev.Before(), nil)})
		if was != "" && was != key {
			t.add(seen{tx: ev.Tx, table: ev.Table, key: was})
			if now.lacks != nil && (!r.allSent() || j.owed(r, ev)) {
				// The row is not read under its old key any more, and the place of the new one may have been read before.
				j.readAgain(r, now.lacks)
			}
		}
	}
	t.add(now)
}

func (t *track) add(s seen) {
	if t != nil {
		t.changes = append(t.changes, s)
	}
}

// keyText returns the key of an event's newest image; empty: it has none.
func (j *Join) keyText(ev *change.Event) string {
	j.key = envelope.AppendKey(j.key[:0], ev)
	return string(j.key)
}

// keyOf returns the values of the key of an event's newest image.
func keyOf(ev *change.Event) []change.Value {
	key := make([]change.Value, len(ev.Table.Key))
	for i, c := range ev.Table.Key {
		if c < len(ev.After()) && ev.After()[c].Known() {
			key[i] = ev.After()[c]
		} else if c < len(ev.Before()) {
			key[i] = ev.Before()[c]
		}
	}
	return key
}

// owed reports whether the row that an event has had under another key is to be read again.
func (j *Join) owed(r *reading, ev *change.Event) bool {
	d := j.l.rec.find(r.table)
	if d == nil || d.ID != r.id || len(d.Again) == 0 {
		return false
	}
	was := saveKey(keyOf(&change.Event{Op: change.Delete, Table: ev.Table, Images: change.ImagesOf(ev.Before(), nil)}))
	return slices.ContainsFunc(d.Again, func(a again) bool { return a.Key.equal(was) })
}

// readAgain puts a key on the list of those that are read again. The list is in the record, which is saved before the position is.
func (j *Join) readAgain(r *reading, key []change.Value) {
	d := j.l.rec.find(r.table)
	if d == nil || d.ID != r.id {
		return
	}
	k := saveKey(key)
	if slices.ContainsFunc(d.Again, func(a again) bool { return a.N > r.asked && a.Key.equal(k) }) {
		return // it is on the list, and not being read yet
	}
	n := r.asked
	for _, a := range d.Again {
		n = max(n, a.N)
	}
	d.Again = append(d.Again, again{N: n + 1, Key: k})
	j.l.touch()
	j.wake()
}

// Due is a chunk whose place in the stream has come.
type Due struct {
	Messages service.MessageBatch
	Sizes    []int  // payload bytes of each message
	Mark     uint64 // of the step that its delivery is
}

// Next returns a chunk whose place is where the stream is; nil: there is none. Its rows come before anything else.
func (j *Join) Next() *Due {
	j.l.mu.Lock()
	defer j.l.mu.Unlock()
	for i := 0; j.between && i < len(j.waiting); {
		r := j.waiting[i]
		if j.current(r) && !r.view.Reached(j.at) {
			i++
			continue
		}
		j.waiting = slices.Delete(j.waiting, i, i+1)
		if !r.held {
			delete(j.active, r.begun)
		}
		due := j.put(r)
		j.wake()
		if due != nil {
			return due
		}
	}
	return nil
}

// current reports whether a chunk is of a load that is still wanted, and has been followed since it was begun.
func (j *Join) current(r *result) bool {
	return j.reads[r.reading.table] == r.reading && j.tracks[r.reading.table] == r.track && !r.reading.broken
}

// put makes a chunk ready for the stream; nil: it is to be read anew.
func (j *Join) put(r *result) *Due {
	var stale, emptied bool
	var fates map[string]*fate
	if j.current(r) {
		stale, emptied, fates = r.track.since(r)
	} else {
		stale = true
	}
	if stale {
		r.reading.broken = r.reading.broken || r.held
		r.reading.release(r)
		return nil
	}
	var lacking [][]change.Value
	kept := 0
	for i, m := range r.messages {
		if emptied {
			break
		}
		if f := j.fateOf(fates, m); f != nil {
			if f.lacks != nil && !f.whole && r.part >= 0 {
				lacking = append(lacking, f.lacks)
			}
			continue
		}
		r.messages[kept], r.sizes[kept] = m, r.sizes[i]
		kept++
	}
	r.messages, r.sizes = r.messages[:kept], r.sizes[:kept]
	for _, f := range fates {
		// The row of such a key may not have been there when it was to be read again.
		if r.part < 0 && !emptied && f.lacks != nil && !f.whole && slices.ContainsFunc(r.again, func(a again) bool { return a.Key.equal(saveKey(f.lacks)) }) {
			lacking = append(lacking, f.lacks)
		}
	}
	j.prune(r)
	for _, key := range lacking {
		j.readAgain(r.reading, key)
	}
	r.reading.settled(r, len(lacking) == 0)
	return j.deliver(r)
}

// deliver makes a step of a chunk.
func (j *Join) deliver(r *result) *Due {
	l, rd := j.l, r.reading
	l.mark++
	s := step{mark: l.mark, table: rd.table, id: rd.id, part: -1, rows: len(r.messages)}
	if !r.held {
		s.part, s.next = r.part, r.next
		for _, a := range r.again {
			s.again = append(s.again, a.N)
		}
		rd.advance(r)
	}
	l.steps = append(l.steps, s)
	n := len(r.messages)
	if n > 0 && !r.held && rd.allSent() && !j.toRead(rd) {
		r.messages[n-1], r.sizes[n-1] = markLast(r.messages[n-1], r.sizes[n-1])
	}
	return &Due{Messages: r.messages, Sizes: r.sizes, Mark: s.mark}
}

// toRead reports whether keys of a table have to be read again that nobody reads yet.
func (j *Join) toRead(rd *reading) bool {
	d := j.l.rec.find(rd.table)
	return d != nil && slices.ContainsFunc(d.Again, func(a again) bool { return a.N > rd.asked })
}

// markLast makes the message of a table's last row say so.
func markLast(m *service.Message, size int) (*service.Message, int) {
	ev, ok := change.Own(m)
	if !ok {
		return m, size
	}
	last, origin := *ev, *ev.Origin
	origin.Snapshot = change.SnapshotLast
	last.Origin = &origin
	failed := m.GetError()
	one := envelope.AppendMessages(nil, &last)
	if failed != nil {
		change.SetErrors(one, failed)
	}
	return one[0], len(last.Payload())
}

// fate is what became of a key after a chunk was read.
type fate struct {
	whole bool           // an event has brought the whole row, or its end
	lacks []change.Value // an event lacks values: the key
}

// since returns what the stream has changed that a chunk may not have seen. Stale means that the table has another shape there.
func (t *track) since(r *result) (stale, emptied bool, fates map[string]*fate) {
	fates = map[string]*fate{}
	var tx *change.Tx
	sees := false
	for i := range t.changes {
		c := &t.changes[i]
		if c.tx != tx {
			tx, sees = c.tx, r.view.Sees(c.tx)
		}
		if sees {
			continue
		}
		if c.what == shapeChanged || r.table != nil && c.table != r.table && c.table.Fingerprint() != r.table.Fingerprint() {
			return true, false, nil
		}
		if c.what == tableEmptied {
			emptied = true
			continue
		}
		f := fates[c.key]
		if f == nil {
			f = &fate{}
			fates[c.key] = f
		}
		if c.lacks == nil {
			f.whole = true
		} else {
			f.lacks = c.lacks
		}
	}
	return false, emptied, fates
}

// fateOf returns what became of the key of a row that was read.
func (j *Join) fateOf(fates map[string]*fate, m *service.Message) *fate {
	if len(fates) == 0 {
		return nil
	}
	ev, ok := change.Own(m)
	if !ok {
		return nil
	}
	j.key = envelope.AppendKey(j.key[:0], ev)
	return fates[string(j.key)]
}

// prune forgets what every view sees that is still to come: what the chunk's view sees, unless another one may be older.
func (j *Join) prune(r *result) {
	for b := range j.active {
		if b <= r.opened && b != r.begun {
			return
		}
	}
	var tx *change.Tx
	sees := false
	r.track.changes = slices.DeleteFunc(r.track.changes, func(c seen) bool {
		if c.tx != tx {
			tx, sees = c.tx, r.view.Sees(c.tx)
		}
		return sees
	})
}

// forget ends the reading of a table in this session; what was read of it and is not in the stream yet is dropped.
func (j *Join) forget(table string) {
	delete(j.reads, table)
	delete(j.tracks, table)
	j.waiting = slices.DeleteFunc(j.waiting, func(r *result) bool {
		if r.reading.table == table {
			delete(j.active, r.begun)
			return true
		}
		return false
	})
}

// follow returns the track of a table, which begins at the next place between two transactions, and waits for that.
func (j *Join) follow(ctx context.Context, r *reading) (*track, uint64, error) {
	l := j.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if j.reads[r.table] != r {
			return nil, 0, errStale
		}
		t := j.tracks[r.table]
		if t == nil {
			t = &track{}
			if j.between {
				t.after = j.at
			}
			j.tracks[r.table] = t
		}
		if t.after != nil {
			j.begun++
			j.active[j.begun] = true
			return t, j.begun, nil
		}
		turn := j.turn
		l.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
	}
}
