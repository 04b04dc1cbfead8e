package coordinator

import (
	"context"
	"errors"
	"fmt"
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
)

// world is an oracle around inputs that follow each other over one log and one store.
type world struct {
	t     *testing.T
	cfg   Config
	log   *fakeLog
	store *memStore
	order []row      // every event that is delivered, in log order
	index map[at]int // place in order

	mu       sync.Mutex
	r        *rand.Rand
	dead     bool              // the process is gone: nothing that the input still does counts
	saved    at                // newest saved position
	confirm  at                // newest confirmed position
	next     int               // in order: the first event that the process has not handed out
	acked    map[int]int       // event → hand-out that was acknowledged
	handed   map[int]int       // event → its newest hand-out
	rejected map[int]rejection // by first event: rejected in the running process and not handed out again
	ids      map[string]at
	sink     []row
	handouts int
	life     int  // processes that were started
	fresh    bool // the process has not started a session yet
	faulty   bool
	done     chan struct{} // closed when everything is acknowledged
}

type rejection struct {
	when time.Time
	life int
}

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &world{
		t: t, r: r, store: newMemStore(), index: map[at]int{}, acked: map[int]int{}, handed: map[int]int{},
		rejected: map[int]rejection{}, ids: map[string]at{}, faulty: true, done: make(chan struct{}),
		cfg: Config{
			MaxEvents: 1 + r.IntN(12), MaxBytes: 50 + r.IntN(1500), RespectTx: r.IntN(4) > 0,
			MaxWait:            []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond}[r.IntN(3)],
			CheckpointInterval: []time.Duration{0, 20 * time.Millisecond, 300 * time.Millisecond}[r.IntN(3)],
			Decoders:           1 + r.IntN(4),
			MaxInFlight:        []int{1, 1, 2, 1 << 20}[r.IntN(4)],
		},
	}
	w.log = &fakeLog{t: t, txs: randomTxs(r, 40), r: rand.New(rand.NewPCG(seed, 2)), faults: 60 + r.IntN(400)}
	for _, tx := range w.log.txs {
		for _, row := range tx {
			if !row.filtered {
				w.index[row.at] = len(w.order)
				w.order = append(w.order, row)
			}
		}
	}
	w.log.onConfirm = w.confirmed
	w.log.onRun = w.running
	w.store.onSet = w.saving
	return w
}

// after returns the first event after a position.
func (w *world) after(a at) int {
	for n, row := range w.order {
		if a.less(at{row.at.commit, row.at.sent}) {
			return n
		}
	}
	return len(w.order)
}

// running is called when a session of the log begins.
func (w *world) running(from at) {
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.False(w.t, from.less(w.saved), "session from %v before the saved position %v", from, w.saved)
	if w.fresh {
		w.fresh = false
		w.allAcked(from, "started")
		w.next = w.after(from)
		return
	}
	// What is on its way, or waits for being sent again, stays there: the next session goes on after it, and reads nothing twice.
	assert.GreaterOrEqual(w.t, w.after(from), w.next, "session from %v", from)
}

// allAcked checks that everything up to a position is acknowledged, and that the position is a real one.
func (w *world) allAcked(pos at, what string) {
	for n, row := range w.order[:w.after(pos)] {
		if _, ok := w.acked[n]; !ok {
			assert.Fail(w.t, "unacknowledged event passed", "%s %v, event %v", what, pos, row.at)
			return
		}
	}
	if pos.sent > 0 {
		assert.Contains(w.t, w.index, pos, "%s: no event ends there", what)
	}
}

func (w *world) saving(rec checkpoint.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errors.New("this process is gone")
	}
	pos := atOf(w.t, rec.Token())
	assert.Equal(w.t, "server", rec.Source)
	assert.False(w.t, pos.less(w.saved), "saved %v after %v", pos, w.saved)
	w.allAcked(pos, "saved")
	if w.faulty && w.r.IntN(10) == 0 {
		return errors.New("the store fails")
	}
	w.saved = pos
	return nil
}

func (w *world) confirmed(tok checkpoint.Token) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return
	}
	pos := atOf(w.t, tok)
	assert.False(w.t, w.saved.less(pos), "confirmed %v, saved %v", pos, w.saved)
	assert.False(w.t, pos.less(w.confirm), "confirmed %v after %v", pos, w.confirm)
	w.confirm = pos
}

// handout is one batch as the pipeline got it.
type handout struct {
	id, life, first int
	rows            []row
	ack             service.AckFunc
	answered        bool
}

// took checks a batch that ReadBatch returned.
func (w *world) took(batch service.MessageBatch, ack service.AckFunc) *handout {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handouts++
	h := &handout{id: w.handouts, life: w.life, ack: ack}
	for i, m := range batch {
		ev, ok := change.FromMessage(m)
		require.True(w.t, ok)
		data, err := m.AsBytes()
		require.NoError(w.t, err)
		var a at
		_, err = fmt.Sscanf(string(data), "%d:%d:", &a.commit, &a.sent)
		require.NoError(w.t, err)
		n, ok := w.index[a]
		require.True(w.t, ok, "event %v is not for us", a)
		if i == 0 {
			h.first = n
		}
		require.Equal(w.t, h.first+i, n, "a batch is a stretch of the log")
		require.Equal(w.t, string(w.order[n].payload()), string(data))
		id := string(ev.AppendID(nil))
		if seen, ok := w.ids[id]; ok {
			require.Equal(w.t, seen, a, "id %s", id)
		}
		w.ids[id] = a
		w.handed[n] = h.id
		delete(w.acked, n)
		h.rows = append(h.rows, w.order[n])
	}
	if h.first < w.next {
		delete(w.rejected, h.first)
		require.LessOrEqual(w.t, h.first+len(h.rows), w.next)
		return h
	}
	require.Equal(w.t, w.next, h.first, "something was left out")
	w.next += len(h.rows)
	for first, r := range w.rejected {
		if r.life == w.life {
			require.False(w.t, r.when.Before(time.Now()), "new events while the batch at %v waits", w.order[first].at)
		}
	}
	w.limits(h)
	return h
}

// limits checks where a new batch was cut.
func (w *world) limits(h *handout) {
	exceeds := func(rows []row) bool {
		bytes := 0
		for _, r := range rows {
			bytes += len(r.payload())
		}
		return len(rows) > w.cfg.MaxEvents || bytes > w.cfg.MaxBytes && len(rows) > 1
	}
	require.False(w.t, exceeds(h.rows), "batch of %d exceeds the limits", len(h.rows))
	last := h.first + len(h.rows) - 1
	rest := last + 1
	for rest < len(w.order) && w.order[rest].at.commit == w.order[last].at.commit {
		rest++
	}
	if !w.cfg.RespectTx || rest == last+1 {
		return
	}
	require.Equal(w.t, h.rows[0].at.commit, w.order[last].at.commit, "a transaction is split that might have waited")
	require.True(w.t, exceeds(w.order[h.first:rest]), "a transaction is split that fits")
}

// answer acknowledges or rejects a handout.
func (w *world) answer(h *handout, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NoError(w.t, h.ack(context.Background(), err))
	if h.answered || w.dead {
		return
	}
	h.answered = true
	if err != nil {
		// Everything from there on has to be delivered again before it counts.
		if h.life == w.life && w.handed[h.first] == h.id {
			w.rejected[h.first] = rejection{time.Now(), w.life}
			for n := range w.acked {
				if n >= h.first {
					delete(w.acked, n)
				}
			}
		}
		return
	}
	for i := range h.rows {
		if n := h.first + i; w.handed[n] == h.id {
			w.acked[n] = h.id
		}
	}
	if len(w.acked) == len(w.order) {
		select {
		case <-w.done:
		default:
			close(w.done)
		}
	}
}

func (w *world) intN(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.r.IntN(n)
}

// deliver is the sink: it writes in order, and answers early, late, twice, or never.
func (w *world) deliver(h *handout, life context.Context, acks *sync.WaitGroup) {
	outcome := 0
	if w.faulty {
		outcome = w.intN(30)
	}
	delay := time.Duration(w.intN(80)) * time.Millisecond * time.Duration(w.intN(2))
	var err error
	rows := h.rows
	switch outcome {
	case 1:
		if w.intN(4) == 0 {
			return // never, and not written
		}
	case 2, 3, 4:
		err = errors.New("the sink fails")
		rows = rows[:w.intN(len(rows)+1)]
	}
	w.mu.Lock()
	w.sink = append(w.sink, rows...)
	w.mu.Unlock()
	switch outcome {
	case 5:
		if w.intN(4) == 0 {
			return // never, though written
		}
	case 6, 7:
		delay += 6 * time.Second // later than any session waits for it
	}
	acks.Go(func() {
		if sleep(life, delay) != nil && w.intN(2) == 0 {
			return
		}
		w.answer(h, err)
		if w.intN(6) == 0 {
			_ = sleep(life, time.Duration(w.intN(300))*time.Millisecond)
			w.answer(h, []error{nil, err, errors.New("another")}[w.intN(3)])
		}
	})
}

// live runs one process: the engine's loop around an input, until life ends. With crash, nothing it does after that counts.
func (w *world) live(life context.Context, crash bool) {
	w.mu.Lock()
	w.dead, w.fresh = false, true
	w.life++
	w.mu.Unlock()
	in := newTestInput(w.t, w.cfg, w.log, w.store, nil)
	var acks sync.WaitGroup
	for life.Err() == nil {
		err := in.Connect(life)
		for err == nil {
			var batch service.MessageBatch
			var ack service.AckFunc
			if batch, ack, err = in.ReadBatch(life); err == nil {
				w.deliver(w.took(batch, ack), life, &acks)
				if w.intN(5) == 0 {
					_ = sleep(life, time.Duration(w.intN(40))*time.Millisecond)
				}
			}
		}
		if back, ok := errors.AsType[*service.ErrBackOff](err); ok {
			_ = sleep(life, back.Wait)
		} else if life.Err() == nil {
			require.ErrorIs(w.t, err, service.ErrNotConnected)
		}
	}
	if crash {
		w.mu.Lock()
		w.dead = true
		w.mu.Unlock()
	} else {
		acks.Wait()
	}
	began := time.Now()
	_ = in.Close(context.Background()) // its error is the store's, which fails on purpose
	assert.LessOrEqual(w.t, time.Since(began), closeTimeout)
	require.NoError(w.t, in.Close(context.Background()))
	w.mu.Lock()
	w.dead = true // a late acknowledgement must save nothing
	w.mu.Unlock()
	acks.Wait()
}

func TestNothingIsLostAndOrderHolds(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 100
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				for range 1 + w.intN(4) {
					life, end := context.WithTimeout(t.Context(), time.Duration(w.intN([]int{4000, 60000}[w.intN(2)]))*time.Millisecond)
					w.live(life, w.intN(2) == 0)
					end()
				}
				// At last everything works.
				w.faulty = false
				w.log.setFaults(0)
				life, end := context.WithCancel(t.Context())
				go func() {
					select {
					case <-w.done:
						_ = sleep(life, time.Second)
					case <-time.After(10 * time.Minute):
						t.Error("not everything was delivered")
					}
					end()
				}()
				w.live(life, false)
				end()
				w.check()
			})
		})
		if !ok {
			return
		}
	}
}

// check compares what the sink has with the log.
func (w *world) check() {
	want, got := map[int]int{}, map[int]int{}
	for _, r := range w.order {
		want[r.key] = r.val
	}
	for _, r := range w.sink {
		got[r.key] = r.val
	}
	assert.Equal(w.t, want, got, "the last value of each key")
	assert.Len(w.t, w.acked, len(w.order))
	assert.Equal(w.t, at{len(w.log.txs), 0}, atOf(w.t, w.store.saved(w.t)))
	assert.Equal(w.t, w.saved, w.confirm)
}
