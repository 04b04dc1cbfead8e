package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// at is a place in the fake log: after the transaction commit and after sent events of the next one.
type at struct{ commit, sent int }

func (a at) less(b at) bool {
	return a.commit < b.commit || a.commit == b.commit && a.sent < b.sent
}

func commitText(n int) checkpoint.Text { return checkpoint.Text("tx" + strconv.Itoa(n)) }

func atOf(t testing.TB, tok checkpoint.Token) at {
	n, err := strconv.Atoi(strings.TrimPrefix(tok.Commit.String(), "tx"))
	require.NoError(t, err)
	return at{n, int(tok.Sent)}
}

// row is an event of the fake log. The event at{commit, n} is the n-th of the transaction after commit.
type row struct {
	at       at
	key, val int
	size     int
	filtered bool // counted in the transaction, not delivered
	silent   bool // delivered before
}

func (r row) payload() []byte {
	s := fmt.Sprintf("%d:%d:%d:%d:", r.at.commit, r.at.sent, r.key, r.val)
	return []byte(s + strings.Repeat("x", max(0, r.size-len(s))))
}

var (
	fakeSource = &change.Source{Connector: "fake", Name: "fake", Version: "test"} //nolint:gochecknoglobals // immutable
	fakeTable  = &change.Table{                                                   //nolint:gochecknoglobals // immutable
		Source: fakeSource, Database: "db", Name: "t",
		Columns: []change.Column{{Name: "id"}},
	}
)

func (r row) message(read time.Time) *service.Message {
	return change.NewMessage(&change.Event{
		Op: change.Create, Table: fakeTable, Index: uint64(r.at.sent), Silent: r.silent,
		Origin: &change.Origin{
			ReadAt: read, Tx: &change.Tx{ID: "t", Position: string(commitText(r.at.commit + 1)), CommitTime: read},
		},
	}, r.payload(), nil)
}

// rows is what a segment carries.
type rows struct {
	rows []row
	read time.Time
	fail error // Decode's result when it is set
	boom bool  // Decode panics
}

func (r *rows) Decode(_ context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	if r.boom {
		panic("decoder broken on purpose")
	}
	if r.fail != nil {
		return nil, r.fail
	}
	for _, row := range r.rows {
		if !row.filtered {
			dst = append(dst, row.message(r.read))
		}
	}
	return dst, nil
}

// fakeLog is a log that is known beforehand. Everything random in it comes from its own source.
type fakeLog struct {
	t   testing.TB
	txs [][]row // transaction n is txs[n-1]

	mu     sync.Mutex
	r      *rand.Rand // guarded by mu
	faults int        // one in so many segments ends the session; 0 never; guarded by mu
	active bool       // guarded by mu
	froms  []checkpoint.Token

	hang      chan struct{} // when it is not nil, Run ignores its context until it is closed
	onConfirm func(checkpoint.Token)
	onRun     func(from at)
	silent    bool // what was delivered before is read again
}

func (l *fakeLog) intN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

func (l *fakeLog) fault() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faults > 0 && l.r.IntN(l.faults) == 0
}

func (l *fakeLog) setFaults(n int) {
	l.mu.Lock()
	l.faults = n
	l.mu.Unlock()
}

func (l *fakeLog) Confirm(tok checkpoint.Token) {
	if l.onConfirm != nil {
		l.onConfirm(tok)
	}
}

var errFake = errors.New("the fake log fails")

func (l *fakeLog) Run(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
	l.mu.Lock()
	if l.active {
		l.t.Error("two Runs at the same time")
	}
	l.active = true
	l.froms = append(l.froms, from)
	l.mu.Unlock()
	defer func() { l.mu.Lock(); l.active = false; l.mu.Unlock() }()
	if l.hang != nil {
		defer func() { <-l.hang }()
	}
	send := func(s Segment) error {
		s.Source, s.ReadAt, s.Bytes = "server", time.Now(), 10
		if r, ok := s.Rows.(*rows); ok {
			r.read = s.ReadAt
		}
		select {
		case out <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if l.fault() {
		return errFake
	}
	first := Segment{}
	start := at{}
	if from.IsZero() {
		first.Commit = commitText(0)
	} else {
		start = atOf(l.t, from)
	}
	if l.onRun != nil {
		l.onRun(start)
	}
	if err := send(first); err != nil {
		return err
	}
	for n := start.commit + 1; n <= len(l.txs); n++ {
		skip := 0
		if n == start.commit+1 {
			skip = start.sent
		}
		if err := l.transaction(n, skip, send); err != nil {
			return err
		}
		if l.fault() {
			return errFake
		}
		switch l.intN(6) {
		case 0: // an idle moment, and the server says so
			if err := send(Segment{CaughtUp: true, Commit: commitText(n)}); err != nil {
				return err
			}
		case 1:
			if err := send(Segment{CaughtUp: true}); err != nil {
				return err
			}
		case 2:
			if err := sleep(ctx, time.Duration(l.intN(100))*time.Millisecond); err != nil {
				return err
			}
		}
	}
	for {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := send(Segment{CaughtUp: true, Commit: commitText(len(l.txs))}); err != nil {
			return err
		}
	}
}

// transaction sends transaction n without its first skip events, in segments of random sizes.
func (l *fakeLog) transaction(n, skip int, send func(Segment) error) error {
	left := l.txs[n-1][skip:]
	if l.silent {
		left = slices.Clone(l.txs[n-1])
		for i := range skip {
			left[i].silent = true
		}
	}
	for len(left) > 0 {
		k := 1 + l.intN(len(left))
		seg := Segment{Rows: &rows{rows: left[:k]}, CommitTime: time.Now()}
		if l.fault() {
			seg.Rows = &rows{fail: errFake}
			if l.intN(2) == 0 {
				seg.Rows = &rows{boom: true}
			}
		}
		left = left[k:]
		if len(left) == 0 && l.intN(2) == 0 {
			seg.Commit = commitText(n)
			return send(seg)
		}
		if err := send(seg); err != nil {
			return err
		}
		if l.fault() {
			return errFake
		}
	}
	return send(Segment{Commit: commitText(n), CommitTime: time.Now()})
}

// randomTxs makes n transactions over some keys: most of them small, some without events for us, some too large for a batch.
func randomTxs(r *rand.Rand, n int) [][]row {
	txs := make([][]row, n)
	val := 0
	for i := range txs {
		size := 1 + r.IntN(5)
		switch r.IntN(12) {
		case 0:
			size = 0
		case 1:
			size = 10 + r.IntN(25)
		}
		filtered := r.IntN(8) == 0
		for k := range size {
			val++
			txs[i] = append(txs[i], row{
				at: at{i, k + 1}, key: r.IntN(6), val: val, size: 10 + r.IntN(60),
				filtered: filtered || r.IntN(10) == 0,
			})
		}
	}
	return txs
}

// memStore is a checkpoint store in memory that outlives inputs.
type memStore struct {
	mu    sync.Mutex
	data  map[string][]byte
	onSet func(checkpoint.Record) error // called with every record, before it is kept
	block chan struct{}                 // when it is not nil, Set waits for it and ignores its context
}

func newMemStore() *memStore { return &memStore{data: map[string][]byte{}} }

func (s *memStore) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.data[key]; ok {
		return v, nil
	}
	return nil, checkpoint.ErrNotFound
}

func (s *memStore) Set(_ context.Context, key string, value []byte) error {
	if s.block != nil {
		<-s.block
	}
	if s.onSet != nil {
		rec, err := checkpoint.UnmarshalRecord(value)
		if err != nil {
			return err
		}
		if err := s.onSet(rec); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[key] = value
	return nil
}

func (s *memStore) saved(t testing.TB) checkpoint.Token {
	tok, err := checkpoint.Load(t.Context(), s, "fake", "fake")
	require.NoError(t, err)
	return tok
}

// newTestInput returns an input over l that keeps its position in store.
func newTestInput(t testing.TB, cfg Config, l Log, store checkpoint.Store, res *service.Resources) *Input {
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = 10
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 1 << 20
	}
	cfg.Name, cfg.CheckpointKey, cfg.CheckpointPath = "fake", "fake", "unused"
	if res == nil {
		res = service.MockResources()
	}
	in, err := New(cfg, "fake", l, res)
	require.NoError(t, err)
	in.store = &positions{Store: store, Closer: unowned{}, key: "fake", kind: "fake"}
	return in
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func itoa(n int) string { return strconv.Itoa(n) }
