package coordinator

import (
	"cmp"
	"slices"

	"github.com/deltaforge/deltaforge/internal/change"
)

// kind is what source_events_total tells apart.
type kind struct {
	table *change.Table
	op    change.Op
}

// tally counts the events of a group by kind. It belongs to one goroutine.
type tally struct {
	index map[kind]int // into kinds
	kinds []kindCount
	at    int // in kinds, of the event before: rows mostly come in runs of one kind
}

type kindCount struct {
	kind
	n    int64
	last int // segment of the last event
}

// add counts an event of a segment. Segments come in order.
func (t *tally) add(ev *change.Event, segment int) {
	k := kind{ev.Table, ev.Op}
	if len(t.kinds) == 0 || t.kinds[t.at].kind != k {
		at, known := t.index[k]
		if !known {
			at = len(t.kinds)
			t.index[k] = at
			t.kinds = append(t.kinds, kindCount{kind: k})
		}
		t.at = at
	}
	t.kinds[t.at].n++
	t.kinds[t.at].last = segment
}

// take returns the counts, in the order of their last segments, and begins anew. They are valid until the next add.
func (t *tally) take() []kindCount {
	counts := t.kinds
	slices.SortFunc(counts, func(a, b kindCount) int { return cmp.Compare(a.last, b.last) })
	clear(t.index)
	t.kinds, t.at = t.kinds[:0], 0
	return counts
}
