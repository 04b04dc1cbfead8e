// Package exactly lets an output keep the position of its source, in the transaction that writes the rows before it.
//
// The source offers a Ledger, the output attaches itself as a Sink; both find each other by their pipeline (Of). Each event carries a Mark,
// with which the output asks what belongs into a transaction that ends with the event. There is one transaction at a time: who has begun one
// has the turn, and ends it. The value of the record of the position guards each of them: it is only written over the value that this
// instance has read or written last. Who finds another value is fenced.
package exactly

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// ErrFenced means that another instance has taken over the position.
var ErrFenced = checkpoint.ErrFenced

// errNoDoubt is a use of a transaction that has ended.
var errNoDoubt = errors.New("the transaction has ended")

// Record is what is written beside the rows.
type Record struct {
	Key   string
	Value []byte // nil: the record is deleted
}

// Prepared is what a source wants written in one transaction. The last record is that of the position.
type Prepared struct {
	Records []Record
	// Saved is called once the records are in the sink.
	Saved func()
}

// Source is the source's part of a Ledger. Its methods are called by who has the turn.
type Source interface {
	// Prepare returns what belongs into a transaction whose rows end with an event. With nil the position stays where it is, and its
	// record is new all the same.
	Prepare(last *Mark) (Prepared, error)
	// Fenced is called once, when another instance has taken over.
	Fenced(err error)
}

// Mark is an event's place in the log of its source. All fields but Done are the source's.
type Mark struct {
	Ledger *Ledger
	Batch  any    // what the source knows of the events around it
	N      int    // how many events of Batch there are up to this one
	Order  uint64 // increases along the log
	Cut    bool   // the source can go on exactly after it
	// Done says that the event is in the sink. It is the output's: an event that the source sends again is not written again.
	Done bool
}

// written is how many of the records that were in the sink are remembered.
const written = 4096

// Ledger is how a source and an output agree on what the sink has. A Ledger has one source and one sink.
type Ledger struct {
	key    string
	source Source
	turn   chan struct{} // has a token while nobody has the turn

	known []byte // the record of the position in the sink; nil: none; of who has the turn
	armed bool   // the position is this instance's; of who has the turn
	// written are the newest records that were known to be in the sink, as sums; of who has the turn. A sink that has one of them again has lost what came after it.
	written [written]uint64
	next    int

	mu     sync.Mutex
	fenced error // guarded by mu
}

// NewLedger returns the ledger of a source that keeps its position under key.
func NewLedger(key string, source Source) *Ledger {
	l := &Ledger{key: key, source: source, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// Key returns the key of the record of the position.
func (l *Ledger) Key() string { return l.key }

// Know sets what the sink has under the key; nil: nothing. It is called before the first transaction.
func (l *Ledger) Know(value []byte) { l.known = value }

// Arm notes that the position is this instance's: from now on another value in the sink is an end.
func (l *Ledger) Arm() { l.armed = true }

// Err returns an error that wraps ErrFenced when this instance is fenced, else nil.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fenced
}

// Rows begins the transaction whose rows end with an event; nil: whose rows do not move the position.
func (l *Ledger) Rows(ctx context.Context, last *Mark) (*Tx, error) {
	return l.Begin(ctx, func() (Prepared, error) { return l.source.Prepare(last) })
}

// Begin waits for the turn and begins a transaction with what prepare returns. Without records there is none: Begin returns nil, and nobody
// has the turn.
func (l *Ledger) Begin(ctx context.Context, prepare func() (Prepared, error)) (*Tx, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	select {
	case <-l.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the transaction before it: %w", ctx.Err())
	}
	p, err := prepare()
	if err == nil {
		err = l.Err()
	}
	if err != nil || len(p.Records) == 0 {
		l.turn <- struct{}{}
		return nil, err
	}
	return &Tx{l: l, p: p}, nil
}

// Tx is a transaction of the sink. It is used by one goroutine at a time. Committed, Aborted and a fenced Found end it, and nothing else
// does.
type Tx struct {
	l     *Ledger
	p     Prepared
	ended bool
}

// Records returns what is to be written in the transaction, the record of the position last.
func (t *Tx) Records() []Record { return t.p.Records }

// Committed notes that the transaction is in the sink.
func (t *Tx) Committed() {
	if t.ended {
		return
	}
	t.l.known = t.value()
	t.l.written[t.l.next%written] = sum(t.l.known)
	t.l.next++
	t.p.Saved()
	t.end()
}

// Aborted notes that nothing of the transaction is in the sink, and never will be.
func (t *Tx) Aborted() {
	if !t.ended {
		t.end()
	}
}

func (t *Tx) end() {
	t.ended = true
	t.l.turn <- struct{}{}
}

// Found says by what the sink has under the key (nil: nothing) whether the transaction is in it. It does not end the transaction, unless
// the value is another instance's: then the error wraps ErrFenced.
func (t *Tx) Found(value []byte) (committed bool, err error) {
	switch {
	case t.ended:
		return false, errNoDoubt
	case bytes.Equal(value, t.value()):
		return true, nil
	case (value == nil) == (t.l.known == nil) && bytes.Equal(value, t.l.known):
		return false, nil
	}
	what := "has another value than the one that this instance wrote or read last: another instance of the pipeline has taken over"
	if slices.Contains(t.l.written[:], sum(value)) {
		what = "is an older one than the sink has acknowledged: the sink has lost what came after it, as in a fail-over to a replica that was late"
	}
	if value == nil {
		what = "is gone from the sink: it was deleted, or the sink was emptied"
	}
	err = fmt.Errorf("%w: the position under key %q %s; this instance stops, and goes on from there when it is started again", ErrFenced, t.l.key, what)
	if t.l.armed {
		t.l.fence(err)
	}
	t.end()
	return false, err
}

// sum is not 0.
func sum(value []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(value)
	return h.Sum64() | 1
}

func (t *Tx) value() []byte { return t.p.Records[len(t.p.Records)-1].Value }

// fence notes the end of this instance.
func (l *Ledger) fence(err error) {
	l.mu.Lock()
	first := l.fenced == nil
	if first {
		l.fenced = err
	}
	l.mu.Unlock()
	if first {
		l.source.Fenced(err)
	}
}

// Ends returns after which of the events a transaction may end, when they are written in this order: where no event before it comes after
// one behind it, and no event is parted. After the last one it always may.
func Ends(marks []*Mark) []bool {
	ends := make([]bool, len(marks))
	least := ^uint64(0)
	for i := len(marks) - 1; i >= 0; i-- {
		ends[i] = marks[i].Cut && marks[i].Order < least
		least = min(least, marks[i].Order)
	}
	most := uint64(0)
	for i, m := range marks {
		// What is the newest event so far must be the one that the transaction ends with.
		ends[i] = ends[i] && m.Order >= most
		most = max(most, m.Order)
	}
	if n := len(marks); n > 0 {
		ends[n-1] = true
	}
	return ends
}

// Last returns the newest of the events.
func Last(marks []*Mark) *Mark {
	var last *Mark
	for _, m := range marks {
		if last == nil || m.Order > last.Order {
			last = m
		}
	}
	return last
}

// Fit returns how many of the rows that are left go into the next transaction: as many as limit has room for, as far as it may end there, and at
// least up to its first end. A transaction does not go over a row at which part is true, where it may end before it.
func Fit(ends []bool, limit int, size func(k int) int, part func(k int) bool) (n int) {
	total := 0
	for k, end := range ends {
		if total += size(k); n > 0 && (total > limit || n == k && part(k)) {
			break
		}
		if end {
			n = k + 1
		}
	}
	return n
}

// Rows are the rows of one attempt at a batch that are left, in the order in which they are to be written.
type Rows struct {
	// Marks are the places of the messages of the batch.
	Marks []*Mark
	// Failed are the messages that have failed for good, by their index.
	Failed map[int]error
	// Left is how many rows there are. Message returns of which message the k-th of them is, and Size its bytes.
	Left    int
	Message func(k int) int
	Size    func(k int) int
}

func (r Rows) marks(n int) []*Mark {
	marks := make([]*Mark, n)
	for k := range marks {
		marks[k] = r.Marks[r.Message(k)]
	}
	return marks
}

// Fit returns how many rows go into the next transaction: at most limit bytes, as far as it can end there. Hold says that an event before its last
// one has failed.
func (r Rows) Fit(limit int) (n int, hold bool) {
	first := len(r.Marks) // message that has failed
	for i := range r.Failed {
		first = min(first, i)
	}
	n = Fit(Ends(r.marks(r.Left)), limit, r.Size, func(k int) bool { return r.Message(k) > first && r.Message(k-1) < first })
	return n, r.Message(n-1) > first
}

// Take returns what a transaction of the first n rows says: the event that it ends with, nil if an event before it is not delivered, which a crash must
// bring again; and the events that are done with it.
func (r Rows) Take(n int, hold bool) (last *Mark, done []*Mark) {
	failed := map[*Mark]bool{}
	for i := range r.Failed {
		failed[r.Marks[i]] = true
	}
	marks := r.marks(n)
	for _, m := range marks {
		if !failed[m] {
			done = append(done, m)
		}
	}
	if !hold {
		last = Last(marks)
	}
	return last, done
}
