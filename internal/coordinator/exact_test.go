package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// exactSink is what survives instances: rows and records, written together.
type exactSink struct {
	t *testing.T

	mu   sync.Mutex
	data map[string][]byte
	rows []string
	r    *rand.Rand
}

func newExactSink(t *testing.T, seed uint64) *exactSink {
	return &exactSink{t: t, data: map[string][]byte{}, r: rand.New(rand.NewPCG(seed, 3))}
}

func (s *exactSink) intN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.IntN(n)
}

func (s *exactSink) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.rows...)
}

// records returns a copy of what the sink has beside the rows.
func (s *exactSink) records() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.data)
}

// exactOutput is the output of one instance.
type exactOutput struct {
	*exactSink
	faulty bool
	gone   context.Context //nolint:containedctx // nothing is written after its end
}

func (o *exactOutput) Load(_ context.Context, keys ...string) ([][]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = o.data[k]
	}
	return values, nil
}

func (o *exactOutput) Save(ctx context.Context, begin func(context.Context) (*exactly.Tx, error)) error {
	tx, err := begin(ctx)
	if err != nil || tx == nil {
		return err
	}
	return o.transact(ctx, tx, nil)
}

func (o *exactOutput) Growth() int { return 1 + o.intN(4) }

var errSinkAway = errors.New("the sink is away")

// transact writes rows and records together, or neither; its answer may be lost.
func (o *exactOutput) transact(ctx context.Context, tx *exactly.Tx, rows []string) error {
	for {
		if sleep(ctx, time.Duration(o.intN(30))*time.Millisecond) != nil || o.gone.Err() != nil {
			return context.Canceled // with the turn: the process is gone
		}
		outcome := 0
		if o.faulty {
			outcome = o.intN(12)
		}
		o.mu.Lock()
		committed, err := tx.Found(o.data[tx.Records()[len(tx.Records())-1].Key])
		if err == nil && !committed && outcome != 1 {
			for _, r := range tx.Records() {
				o.data[r.Key] = r.Value
			}
			o.rows = append(o.rows, rows...)
		}
		o.mu.Unlock()
		switch {
		case err != nil:
			return err
		case committed:
			tx.Committed()
			return nil
		case outcome == 1 && o.intN(2) == 0:
			tx.Aborted()
			return errSinkAway
		case outcome == 1, outcome == 2:
			continue // the answer is lost: look
		}
		tx.Committed()
		return nil
	}
}

// dropped is a filter in the pipeline.
func dropped(data []byte) bool {
	var a at
	var key, val int
	_, _ = fmt.Sscanf(string(data), "%d:%d:%d:%d:", &a.commit, &a.sent, &key, &val)
	return val%4 == 0 || val%50 > 40
}

// write delivers a batch as an output does.
func (o *exactOutput) write(ctx context.Context, batch service.MessageBatch) error {
	var marks []*exactly.Mark
	var rows []string
	for _, m := range batch {
		data, err := m.AsBytes()
		require.NoError(o.t, err)
		ev, ok := change.FromMessage(m)
		require.True(o.t, ok)
		require.NotNil(o.t, ev.Mark)
		if !dropped(data) && !ev.Mark.Done {
			marks, rows = append(marks, ev.Mark), append(rows, string(data))
		}
	}
	ends := exactly.Ends(marks)
	for from := 0; from < len(marks); {
		to := from + 1
		for !ends[to-1] || to < len(marks) && o.intN(4) > 0 {
			to++
		}
		tx, err := marks[0].Ledger.Rows(ctx, exactly.Last(marks[from:to]))
		if err != nil {
			return err
		}
		if err := o.transact(ctx, tx, rows[from:to]); err != nil {
			return err
		}
		for _, m := range marks[from:to] {
			m.Done = true
		}
		from = to
		if o.faulty && o.intN(15) == 0 {
			return errSinkAway // a part of the batch is in the sink
		}
	}
	return nil
}

// live runs one instance until life ends; everything that it has not written then is gone with it.
func (o *exactOutput) live(life context.Context, cfg Config, l *fakeLog) *Input {
	res := service.MockResources()
	require.NoError(o.t, exactly.Of(res).Attach(o))
	in := newTestInput(o.t, cfg, l, nil, res)
	in.store = nil
	for life.Err() == nil {
		err := in.Connect(life)
		for err == nil {
			var batch service.MessageBatch
			var ack service.AckFunc
			if batch, ack, err = in.ReadBatch(life); err == nil {
				werr := o.write(life, batch)
				if life.Err() == nil {
					require.NoError(o.t, ack(life, werr))
				}
			}
		}
		if back, ok := errors.AsType[*service.ErrBackOff](err); ok {
			_ = sleep(life, back.Wait)
		}
	}
	return in
}

// TestExactlyOnce: whatever is dropped, cut, refused, lost on its way or killed, the sink has each row once, in the order of the log. Instances
// follow each other, and overlap.
func TestExactlyOnce(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { exactlyOnce(t, seed) })
		})
		if !ok {
			return
		}
	}
}

func exactlyOnce(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	w.cfg.MaxInFlight, w.cfg.ExactlyOnce = 1, true
	sink := newExactSink(t, seed)
	var want []string
	for _, r := range w.order {
		if !dropped(r.payload()) {
			want = append(want, string(r.payload()))
		}
	}
	var lives sync.WaitGroup
	gone, kill := context.WithCancel(t.Context())
	life, end := context.WithCancel(t.Context())
	defer func() { kill(); end(); lives.Wait() }()
	run := func(o *exactOutput, life context.Context, faults int) {
		l := &fakeLog{t: t, txs: w.log.txs, r: rand.New(rand.NewPCG(seed, 4)), faults: faults}
		lives.Go(func() {
			in := o.live(life, w.cfg, l)
			_ = in.Close(context.Background()) // a process that is gone saves nothing
		})
	}
	for range 1 + sink.intN(5) {
		life, end := context.WithCancel(life)
		gone, kill := context.WithCancel(gone)
		run(&exactOutput{sink, true, gone}, life, 100)
		_ = sleep(t.Context(), time.Duration(sink.intN(3000))*time.Millisecond)
		if sink.intN(3) > 0 {
			kill()
			end()
		}
		defer func() { kill(); end() }()
	}
	run(&exactOutput{sink, false, t.Context()}, life, 0)
	for deadline := time.Now().Add(10 * time.Minute); len(sink.written()) < len(want) && time.Now().Before(deadline); {
		_ = sleep(t.Context(), 100*time.Millisecond)
	}
	_ = sleep(t.Context(), 5*time.Second)
	require.Equal(t, want, sink.written())
	// What is dropped at the end moves the position, too.
	rec, err := checkpoint.UnmarshalRecord(sink.records()["fake"])
	require.NoError(t, err)
	assert.Equal(t, at{len(w.log.txs), 0}, atOf(t, rec.Token()))
}

// TestFencedStops: an instance that another one has taken over from says so, saves nothing, and does not come back. The other one takes over by its
// start alone.
func TestFencedStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newExactSink(t, 1)
		o := &exactOutput{sink, false, t.Context()}
		instance := func() *Input {
			res := service.MockResources()
			require.NoError(t, exactly.Of(res).Attach(o))
			one := Segment{Commit: commitText(1), Rows: &rows{rows: []row{{at: at{0, 1}, key: 1, val: 1}}}}
			in := newTestInput(t, Config{ExactlyOnce: true, MaxInFlight: 1, RespectTx: true},
				&funcLog{run: segments(Segment{Source: "server", Commit: commitText(0)}, one)}, nil, res)
			in.store = nil
			require.NoError(t, in.Connect(t.Context()))
			return in
		}
		in := instance()
		batch, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		other := instance()
		_ = sleep(t.Context(), time.Second)
		before := sink.records()

		err = o.write(t.Context(), batch)
		require.ErrorIs(t, err, exactly.ErrFenced)
		require.NoError(t, ack(t.Context(), err))
		_, _, err = in.ReadBatch(t.Context())
		require.ErrorIs(t, err, service.ErrNotConnected)
		for range 3 {
			back, ok := errors.AsType[*service.ErrBackOff](in.Connect(t.Context()))
			require.True(t, ok)
			require.ErrorIs(t, back.Err, exactly.ErrFenced)
		}
		state, cause, _ := in.state(time.Now())
		assert.Equal(t, plane.Failed, state)
		assert.Contains(t, cause, `the position under key "fake" has another value than the one that this instance wrote or read last`)
		require.ErrorIs(t, in.Close(context.Background()), exactly.ErrFenced)
		assert.Equal(t, before, sink.records())
		assert.Empty(t, sink.written())

		batch, ack, err = other.ReadBatch(t.Context())
		require.NoError(t, err)
		require.NoError(t, o.write(t.Context(), batch))
		require.NoError(t, ack(t.Context(), nil))
		require.NoError(t, other.Close(context.Background()))
		assert.Equal(t, []string{"0:1:1:1:"}, sink.written())
	})
}

// TestPlaceOfRowsThatAreLeft: the place of rows is after them where the source can go on there, else after what was dropped behind them; in a part of a batch
// that has no such place it is before them. Nothing moves it past an event that is still to come.
func TestPlaceOfRowsThatAreLeft(t *testing.T) {
	event := func(op change.Op, tx, n, sub int) *service.Message {
		m := row{at: at{tx - 1, n}}.message(time.Now())
		ev, _ := change.FromMessage(m)
		ev.Op, ev.Sub = op, sub
		return m
	}
	b := &batch{
		stretch: stretch{
			source: "server", base: fakePlace(0, 0, 1), first: 100,
			messages: service.MessageBatch{
				event(change.Create, 1, 1, 0), event(change.Schema, 1, 2, 0), event(change.Schema, 1, 2, 1), // tx1
				event(change.Read, 0, 0, 0), event(change.Read, 0, 0, 0), event(change.Read, 0, 0, 0), // a chunk
				event(change.Create, 2, 1, 0),
			},
			ends: []txEnd{{3, commitText(1), 2, 0}, {6, commitText(1), 2, 1}},
		},
	}
	x := newExact(newTestInput(t, Config{ExactlyOnce: true, MaxInFlight: 1}, &fakeLog{t: t}, nil, nil))
	b.mark(x)
	places := func(b *batch) (got []string) {
		for i := range b.messages {
			ev, _ := change.FromMessage(b.messages[i])
			n := b.resumableAt(ev.Mark.N)
			if n == 0 {
				got = append(got, "stays")
				continue
			}
			p := b.after(n)
			got = append(got, fmt.Sprintf("%s+%d mark %d order %d", p.token.Commit, p.token.Sent, p.mark, p.order))
		}
		return got
	}
	chunk := "tx1+0 mark 1 order 105"
	assert.Equal(t, []string{
		"tx0+1 mark 0 order 100", "tx1+0 mark 0 order 102", "tx1+0 mark 0 order 102", chunk, chunk, chunk, "tx1+1 mark 1 order 106",
	}, places(b))

	parts := b.split([]int{1, 4, 5})
	assert.Equal(t, []string{"tx0+1 mark 0 order 100"}, places(parts[0]))
	assert.Equal(t, []string{"tx1+0 mark 0 order 102", "tx1+0 mark 0 order 102", "tx1+0 mark 0 order 102"}, places(parts[1]), "the chunk goes on in the next part")
	assert.Equal(t, []string{"stays"}, places(parts[2]))
	assert.Equal(t, []string{chunk, "tx1+1 mark 1 order 106"}, places(parts[3]))
}

// TestPlacesMoveForwards: whoever comes late with a place before the one in the sink writes that one again, with a new record.
func TestPlacesMoveForwards(t *testing.T) {
	in := newTestInput(t, Config{ExactlyOnce: true, MaxInFlight: 1}, &fakeLog{t: t}, nil, nil)
	x := newExact(in)
	in.store = x.positions([][]byte{nil, nil, nil})
	at := func(n int) place {
		return place{token: checkpoint.Token{Source: "server", Commit: commitText(n)}, order: uint64(10 * n)} //nolint:gosec // small
	}
	x.written = at(5)
	seen := map[string]bool{}
	for _, c := range []struct{ asked, want int }{{3, 5}, {5, 5}, {4, 5}, {7, 7}} {
		p, err := x.prepare(at(c.asked))
		require.NoError(t, err)
		value := p.Records[len(p.Records)-1].Value
		rec, err := checkpoint.UnmarshalRecord(value)
		require.NoError(t, err)
		assert.Equal(t, commitText(c.want).String(), rec.Position, "asked for %d", c.asked)
		assert.False(t, seen[string(value)], "a record that was there before")
		seen[string(value)] = true
	}
}

// TestSaveAtAnUnchangedPlace: what is new of a snapshot is saved where the position stays, once; else nothing is written there.
func TestSaveAtAnUnchangedPlace(t *testing.T) {
	cfg := loadConfig(snapshot.Initial)
	cfg.ExactlyOnce = true
	in := newTestInput(t, cfg, simLog{newSimDB(t, newRand(1), 5)}, nil, nil)
	x := in.exact
	in.store = x.positions([][]byte{nil, nil, nil})
	in.saving.Store(&saver{in: in, wake: make(chan struct{}, 1), begun: make(chan struct{})})
	sink := newExactSink(t, 1)
	x.sink = &exactOutput{sink, false, t.Context()}
	here := place{token: checkpoint.Token{Source: "server", Commit: commitText(5)}, order: 50}
	written := func() string { return string(sink.records()["fake"]) }
	save := func() { require.NoError(t, x.save(t.Context(), here)) }
	save()
	first := written()
	require.NotEmpty(t, first)
	save()
	require.Equal(t, first, written(), "nothing is new")
	require.NoError(t, in.loader.Begin(nil, true))
	save()
	second := written()
	require.NotEqual(t, first, second, "the snapshot has something new")
	require.NotEmpty(t, sink.records()[checkpoint.SnapshotKey("fake")])
	save()
	require.Equal(t, second, written(), "nothing is new")
}
