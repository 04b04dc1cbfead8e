// Package tally counts the events of a group of segments by table and operation.
package tally

import (
	"cmp"
	"slices"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Kind is what source_events_total tells apart.
type Kind struct {
	Table *change.Table
	Op    change.Op
}

// Tally counts the events of a group by kind. It belongs to one goroutine.
type Tally struct {
	index map[Kind]int // into kinds
	kinds []Count
	at    int // in kinds, of the event before: rows mostly come in runs of one kind
}

// Count is how many events of a kind there were.
type Count struct {
	Kind
	N    int64
	Last int // segment of the last event
}

// New returns an empty tally.
func New() Tally { return Tally{index: map[Kind]int{}} }

// Add counts an event of a segment. Segments come in order.
func (t *Tally) Add(ev *change.Event, segment int) {
	k := Kind{ev.Table, ev.Op}
	if len(t.kinds) == 0 || t.kinds[t.at].Kind != k {
		at, known := t.index[k]
		if !known {
			at = len(t.kinds)
			t.index[k] = at
			t.kinds = append(t.kinds, Count{Kind: k})
		}
		t.at = at
	}
	t.kinds[t.at].N++
	t.kinds[t.at].Last = segment
}

// Take returns the counts, in the order of their last segments, and begins anew. They are valid until the next Add.
func (t *Tally) Take() []Count {
	counts := t.kinds
	slices.SortFunc(counts, func(a, b Count) int { return cmp.Compare(a.Last, b.Last) })
	clear(t.index)
	t.kinds, t.at = t.kinds[:0], 0
	return counts
}
