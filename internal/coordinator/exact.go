package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/exactly"
)

// exact is the position of a source that the output keeps, in the transactions that write the rows.
type exact struct {
	in       *Input
	ledger   *exactly.Ledger
	pipeline *exactly.Pipeline
	sink     exactly.Sink

	// Of who has the turn of the ledger.
	written place     // newest place in the sink
	reached uint64    // the greatest mark for which the progress of snapshots was asked
	stamp   time.Time // of the last record
}

var _ exactly.Source = (*exact)(nil)

func newExact(in *Input) *exact {
	x := &exact{in: in, pipeline: exactly.Of(in.res)}
	x.ledger = exactly.NewLedger(in.cfg.CheckpointKey, x)
	return x
}

// mostClaims is how often a start reads the position again because an earlier instance has moved it meanwhile.
const mostClaims = 10

// open finds the output, takes the position over, and returns what the output has as a store. From then on what an earlier instance still
// has on its way is refused.
func (x *exact) open(ctx context.Context) (*positions, error) {
	if err := x.pipeline.Offer(x.ledger); err != nil {
		return nil, err
	}
	sink, err := x.pipeline.Sink(ctx)
	if err != nil {
		return nil, err
	}
	x.sink = sink
	x.in.growth = sink.Growth()
	key := x.ledger.Key()
	for range mostClaims {
		var values [][]byte
		values, err = sink.Load(ctx, key, checkpoint.SchemaKey(key), checkpoint.SnapshotKey(key))
		if err != nil {
			return nil, fmt.Errorf("reading the position that the output keeps under key %q: %w", key, err)
		}
		x.ledger.Know(values[0])
		if err = x.claim(ctx, values[0]); err == nil {
			x.ledger.Arm()
			return x.positions(values), nil
		}
		if !errors.Is(err, exactly.ErrFenced) {
			break
		}
	}
	return nil, fmt.Errorf("taking over the position that the output keeps under key %q: %w", key, err)
}

// claim writes the record that was read once more, with the time of this start in it.
func (x *exact) claim(ctx context.Context, data []byte) error {
	if data == nil {
		return nil
	}
	r, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		return fmt.Errorf("key %q: %w", x.ledger.Key(), err)
	}
	if r.DeliveredTo.IsZero() {
		r.DeliveredTo = r.SavedAt
	}
	r.SavedAt = x.now()
	again, err := r.Marshal()
	if err != nil {
		return err
	}
	prepare := func() (exactly.Prepared, error) {
		return exactly.Prepared{Records: []exactly.Record{{Key: x.ledger.Key(), Value: again}}, Saved: func() {}}, nil
	}
	return x.sink.Save(ctx, func(ctx context.Context) (*exactly.Tx, error) { return x.ledger.Begin(ctx, prepare) })
}

// positions is the store of what was loaded. Nothing is saved to it.
func (x *exact) positions(values [][]byte) *positions {
	key := x.ledger.Key()
	s := loaded{}
	for n, k := range []string{key, checkpoint.SchemaKey(key), checkpoint.SnapshotKey(key)} {
		if values[n] != nil {
			s[k] = values[n]
		}
	}
	return &positions{Store: s, Closer: x, key: key, kind: x.in.kind, name: "the output"}
}

// Close implements io.Closer: it lets the output go.
func (x *exact) Close() error {
	x.pipeline.Withdraw(x.ledger)
	return nil
}

// loaded is what an output has, as a checkpoint.Store.
type loaded map[string][]byte

// Get implements checkpoint.Store.
func (l loaded) Get(_ context.Context, key string) ([]byte, error) {
	if v, ok := l[key]; ok {
		return v, nil
	}
	return nil, checkpoint.ErrNotFound
}

// Set implements checkpoint.Store.
func (loaded) Set(context.Context, string, []byte) error {
	return errors.New("the position is kept by the output, in its own transactions")
}

// begin notes where the source begins.
func (x *exact) begin(from checkpoint.Token) { x.written = place{token: from} }

// save writes a place without rows, unless the sink has it or a later one.
func (x *exact) save(ctx context.Context, p place) error {
	prepare := func() (exactly.Prepared, error) {
		if p.order <= x.written.order && !x.pending() {
			return exactly.Prepared{}, nil
		}
		return x.prepare(p)
	}
	return x.sink.Save(ctx, func(ctx context.Context) (*exactly.Tx, error) { return x.ledger.Begin(ctx, prepare) })
}

// pending reports whether there is progress of snapshots to save at the newest place in the sink.
func (x *exact) pending() bool {
	return x.in.loader != nil && x.written.token.Commit != nil && x.written.mark >= x.reached && x.in.loader.Pending(x.written.mark)
}

// Prepare implements exactly.Source.
func (x *exact) Prepare(last *exactly.Mark) (exactly.Prepared, error) {
	p := x.written
	if last != nil {
		if b, ok := last.Batch.(*batch); ok {
			if n := b.resumableAt(last.N); n > 0 {
				p = b.after(n)
			}
		}
	}
	return x.prepare(p)
}

// prepare returns the records of a place, which moves forwards only.
func (x *exact) prepare(p place) (exactly.Prepared, error) {
	if p.order < x.written.order || p.mark < x.reached {
		// What is written is later already; or a transaction that was given up has counted chunks as delivered that come after this place.
		p = x.written
	}
	st := x.in.store
	var out exactly.Prepared
	var saved []func()
	if h, ok := x.in.log.(Historian); ok {
		record, mark, err := h.Record()
		if err != nil {
			return out, err
		}
		if record != nil {
			out.Records = append(out.Records, exactly.Record{Key: checkpoint.SchemaKey(st.key), Value: record})
			saved = append(saved, func() { st.history = record; h.Saved(mark) })
		}
	}
	history, loads := st.history != nil || len(out.Records) > 0, st.loads != nil
	if l := x.in.loader; l != nil && p.mark >= x.reached {
		x.reached = p.mark
		progress, changes, err := l.Record(p.mark)
		if err != nil {
			return out, err
		}
		if progress != nil {
			loads = true
			out.Records = append(out.Records, exactly.Record{Key: checkpoint.SnapshotKey(st.key), Value: progress})
			saved = append(saved, func() { st.loads = progress; l.Saved(changes) })
		}
	}
	r, err := checkpoint.NewRecord(st.kind, p.token, x.now())
	if err != nil {
		return out, err
	}
	r.History, r.Snapshot, r.DeliveredTo = history, loads, x.in.lag.AsOf(p.seq).UTC()
	value, err := r.Marshal()
	if err != nil {
		return out, err
	}
	out.Records = append(out.Records, exactly.Record{Key: st.key, Value: value})
	out.Saved = func() {
		for _, f := range saved {
			f()
		}
		x.written = p
		x.in.saving.Load().wrote(p)
	}
	return out, nil
}

// now is the time, later each time, so that no two records are equal.
func (x *exact) now() time.Time {
	now := time.Now()
	if !now.After(x.stamp) {
		now = x.stamp.Add(time.Nanosecond)
	}
	x.stamp = now
	return now
}

// Fenced implements exactly.Source: the source stops.
func (x *exact) Fenced(err error) { x.in.fence(err) }

// mark gives each event its place. Without a ledger it does nothing.
func (b *batch) mark(x *exact) {
	if x == nil {
		return
	}
	marks := make([]exactly.Mark, len(b.messages))
	for i, m := range b.messages {
		if ev, ok := change.Own(m); ok {
			last := i+1 == len(b.messages) // a batch never ends where the source could not go on
			marks[i] = exactly.Mark{Ledger: x.ledger, Batch: b, N: i + 1, Order: b.first + uint64(i), Cut: last || b.resumable(i+1)}
			ev.Mark = &marks[i]
		}
	}
}

// unmark lets go of a batch that is done with: what is decoded together is not handed out together, so that through their marks the events of
// one batch would keep all those of the batches before it.
func (b *batch) unmark() {
	for _, m := range b.messages {
		if ev, ok := change.Own(m); ok && ev.Mark != nil {
			ev.Mark.Batch = nil
		}
	}
}

// remark gives the events of a part of a batch their places in the part.
func (b *batch) remark() {
	for i, m := range b.messages {
		if ev, ok := change.Own(m); ok && ev.Mark != nil {
			ev.Mark.Batch, ev.Mark.N = b, i+1
		}
	}
}

// resumableAt returns the place for what ends with the n-th event: where the source could not go on after it, what follows has been dropped on
// its way, and the next place at which it can is meant; in a part of a batch that has none, the one before. 0: there is none.
func (b *batch) resumableAt(n int) int {
	can := func(n int) bool {
		ev, ok := change.Own(b.messages[n-1])
		return ok && ev.Mark != nil && ev.Mark.Cut
	}
	for k := n; k <= len(b.messages); k++ {
		if can(k) {
			return k
		}
	}
	for k := n - 1; k > 0; k-- {
		if can(k) {
			return k
		}
	}
	return 0
}

// resumable reports whether a source can go on exactly after the first n messages: not between two that have one number, nor inside a chunk of
// a snapshot. What comes after the last message is not known here.
func (s *stretch) resumable(n int) bool {
	if s.endsAt(n) {
		return true
	}
	if n == len(s.messages) || apart(s.messages, n) != n {
		return false
	}
	ev, ok := change.Own(s.messages[n-1])
	return ok && ev.Op != change.Read
}

// endsAt reports whether a transaction or a chunk ends after the first n messages.
func (s *stretch) endsAt(n int) bool {
	_, found := slices.BinarySearchFunc(s.ends, n, func(e txEnd, n int) int { return e.n - n })
	return found
}

// joined returns where a batch that is to end after n messages ends, when its source must be able to go on exactly after it; 0: not yet.
func (b *batcher) joined(n int) int {
	if b.in.exact == nil || n == 0 {
		return n
	}
	for k := n; k <= len(b.messages); k++ {
		if b.resumable(k) {
			return k
		}
	}
	for n = min(n, len(b.messages)); n > 0 && !b.resumable(n); {
		n--
	}
	return n
}
