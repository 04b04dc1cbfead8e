package tally

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
)

func TestTally(t *testing.T) {
	a, b := &change.Table{Name: "a"}, &change.Table{Name: "b"}
	counts := New()
	for range 2 { // the second time as the first
		for segment, events := range [][]change.Event{
			{{Table: a, Op: change.Create}, {Table: b, Op: change.Update}, {Table: a, Op: change.Create}},
			{{Table: b, Op: change.Delete}},
			{{Table: a, Op: change.Create}, {Table: a, Op: change.Update}},
			{{Table: b, Op: change.Delete}, {Table: b, Op: change.Delete}},
		} {
			for i := range events {
				counts.Add(&events[i], segment)
			}
		}
		require.Equal(t, []Count{
			{Kind{b, change.Update}, 1, 0}, {Kind{a, change.Create}, 3, 2}, {Kind{a, change.Update}, 1, 2}, {Kind{b, change.Delete}, 3, 3},
		}, counts.Take())
		require.Empty(t, counts.Take())
	}
}

// Random kinds cost what a lookup costs, and nothing is allocated.
func BenchmarkTally(b *testing.B) {
	var events [64]change.Event
	for i := range events {
		events[i] = change.Event{Table: &change.Table{}, Op: change.Create}
	}
	counts := New()
	b.ReportAllocs()
	for b.Loop() {
		for i := range events {
			counts.Add(&events[i*37%64%16], 0)
		}
		counts.Take()
	}
}
