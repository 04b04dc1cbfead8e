package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// recordVersion is the version of the progress record.
const recordVersion = 1

// State is where the load of a table is.
type State string

// The states.
const (
	// Waiting is a table that is to be loaded, and that has not been looked at.
	Waiting State = "waiting"
	// Loading is one of which chunks are read.
	Loading State = "loading"
	// Pruning is one of which every row is delivered, and whose copies remove what it does not have.
	Pruning State = "pruning"
	// Done is one of which every row is delivered.
	Done State = "done"
	// Stopped is one whose load a person has ended.
	Stopped State = "stopped"
	// Skipped is one that was there before snapshots were asked for: it is known, and was never loaded.
	Skipped State = "skipped"
	// Gone is one that was not there any more.
	Gone State = "gone"
)

// open reports whether something is still to be read.
func (s State) open() bool { return s == Waiting || s == Loading || s == Pruning }

// record is what is saved beside the position.
type record struct {
	Version int  `json:"version"`
	Paused  bool `json:"paused,omitempty"`
	// First says that the source has started for the first time, and that its tables have not been listed since.
	First bool `json:"first,omitempty"`
	// Anew says that the position was lost, and that the tables have not been listed since: all of them are to be loaded.
	Anew bool `json:"anew,omitempty"`
	// Lost is the newest loss of the position; nil: there was none.
	Lost *plane.LostPosition `json:"lost,omitempty"`
	// Signals are the event ids of the newest requests by the signal table, so that none counts twice.
	Signals []string `json:"signals,omitempty"`
	// Early are those that came before the tables were listed.
	Early []signal `json:"early,omitempty"`
	Loads []*load  `json:"loads"` // sorted by table
}

// load is the progress of one table: of what is delivered.
type load struct {
	Table string `json:"table"`
	// ID is in the event ids of its rows. A later load of the same table has another one.
	ID    string `json:"id,omitempty"`
	State State  `json:"state"`
	Where string `json:"where,omitempty"`
	// Rows are delivered; Estimate is what the server guessed at the start, -1 when it did not.
	Rows     int64     `json:"rows,omitempty"`
	Estimate int64     `json:"estimate,omitempty"`
	Parts    []part    `json:"parts,omitempty"`
	Began    time.Time `json:"began,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	// Again are keys of rows that have to be read again: the stream has changed them in events that lack values.
	Again []again `json:"again,omitempty"`
	// Kept says that outputs which keep copies were told of its beginning.
	Kept bool `json:"kept,omitempty"`
	// Problem is why it cannot go on at present; it is tried again.
	Problem string `json:"problem,omitempty"`
}

// again is a row that has to be read again.
type again struct {
	N   uint64   `json:"n"` // counts them, in the load
	Key savedKey `json:"key"`
}

// part is a range of keys, and how far it is delivered: up to and with From.
type part struct {
	From Bound `json:"from,omitempty"`
	To   Bound `json:"to,omitempty"`
	Done bool  `json:"done,omitempty"`
}

// MarshalJSON implements json.Marshaler: a bound is JSON already.
func (b Bound) MarshalJSON() ([]byte, error) {
	if b == nil {
		return []byte("null"), nil
	}
	return b, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bound) UnmarshalJSON(data []byte) error {
	if *b = nil; !bytes.Equal(data, []byte("null")) {
		*b = slices.Clone(data)
	}
	return nil
}

// savedKey is the key of a row as it is saved.
type savedKey []savedValue

type savedValue struct {
	Kind change.Kind `json:"kind"`
	Bits uint64      `json:"bits,omitempty"`
	Data []byte      `json:"data,omitempty"`
}

func saveKey(key []change.Value) savedKey {
	s := make(savedKey, len(key))
	for i, v := range key {
		s[i] = savedValue{Kind: v.Kind(), Data: v.Bytes()}
		if v.Kind() < change.Decimal {
			s[i].Bits = v.Uint()
		}
	}
	return s
}

func (s savedKey) values() ([]change.Value, error) {
	key := make([]change.Value, len(s))
	for i, v := range s {
		switch v.Kind {
		case change.Null:
			key[i] = change.NullValue()
		case change.Bool:
			key[i] = change.BoolValue(v.Bits != 0)
		case change.Int:
			key[i] = change.IntValue(int64(v.Bits))
		case change.Uint:
			key[i] = change.UintValue(v.Bits)
		case change.Float32:
			key[i] = change.Float32Value(math.Float32frombits(uint32(v.Bits)))
		case change.Float64:
			key[i] = change.Float64Value(math.Float64frombits(v.Bits))
		case change.Decimal:
			key[i] = change.DecimalValue(v.Data)
		case change.Text:
			key[i] = change.TextValue(v.Data)
		case change.Bytes:
			key[i] = change.BytesValue(v.Data)
		case change.JSON:
			key[i] = change.JSONValue(v.Data)
		default:
			return nil, fmt.Errorf("a key of the kind %d", v.Kind)
		}
	}
	return key, nil
}

// parseRecord reads a progress record. An error wraps checkpoint.ErrBroken or checkpoint.ErrIncompatible.
func parseRecord(data []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: the progress of snapshots: %w", checkpoint.ErrBroken, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%w: the progress of snapshots has version %d, want %d: use the version of DeltaForge that wrote it, or "+
			"`deltaforge checkpoint reset KEY`, which begins anew", checkpoint.ErrIncompatible, r.Version, recordVersion)
	}
	for _, l := range r.Loads {
		if l == nil || l.Table == "" {
			return nil, fmt.Errorf("%w: the progress of snapshots has a load without a table", checkpoint.ErrBroken)
		}
		for _, a := range l.Again {
			if _, err := a.Key.values(); err != nil {
				return nil, fmt.Errorf("%w: the progress of snapshots: table %s: %w", checkpoint.ErrBroken, l.Table, err)
			}
		}
	}
	slices.SortFunc(r.Loads, func(a, b *load) int { return strings.Compare(a.Table, b.Table) })
	return &r, nil
}

// step is what the delivery of a chunk adds to the progress.
type step struct {
	mark  uint64
	table string
	id    string // of the load, which may have begun anew since
	part  int    // -1: none
	next  Bound  // where the part goes on; nil: it is done
	rows  int
	again []uint64 // numbers of those that were read again
}

// find returns the load of a table; nil: there is none.
func (r *record) find(table string) *load {
	if i, ok := r.index(table); ok {
		return r.Loads[i]
	}
	return nil
}

// index returns where the load of a table is, or would be.
func (r *record) index(table string) (int, bool) {
	return slices.BinarySearchFunc(r.Loads, table, func(l *load, t string) int { return strings.Compare(l.Table, t) })
}

// put adds a load, in place of the one that the table has.
func (r *record) put(l *load) {
	i, ok := r.index(l.Table)
	if ok {
		r.Loads[i] = l
		return
	}
	r.Loads = slices.Insert(r.Loads, i, l)
}

// apply enters a step. It reports whether the load is done with it.
func (l *load) apply(s *step) (done bool) {
	if l.ID != s.id || !l.State.open() {
		return false
	}
	l.Rows += int64(s.rows)
	if s.part >= 0 {
		p := &l.Parts[s.part]
		if p.Done = s.next == nil; !p.Done {
			p.From = s.next
		} else {
			p.From = nil
		}
	}
	l.Again = slices.DeleteFunc(l.Again, func(a again) bool { return slices.Contains(s.again, a.N) })
	return l.finished()
}

// finished reports whether nothing is left to be read.
func (l *load) finished() bool {
	return len(l.Parts) > 0 && len(l.Again) == 0 && !slices.ContainsFunc(l.Parts, func(p part) bool { return !p.Done })
}

func (s savedKey) equal(o savedKey) bool {
	return slices.EqualFunc(s, o, func(a, b savedValue) bool { return a.Kind == b.Kind && a.Bits == b.Bits && bytes.Equal(a.Data, b.Data) })
}

// clone returns a copy that shares no state with the load.
func (l *load) clone() *load {
	c := *l
	c.Parts, c.Again = slices.Clone(l.Parts), slices.Clone(l.Again)
	return &c
}
