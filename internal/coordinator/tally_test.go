package coordinator

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
)

func TestTally(t *testing.T) {
	a, b := &change.Table{Name: "a"}, &change.Table{Name: "b"}
	counts := tally{index: map[kind]int{}}
	for range 2 { // the second time as the first
		for segment, events := range [][]change.Event{
			{{Table: a, Op: change.Create}, {Table: b, Op: change.Update}, {Table: a, Op: change.Create}},
			{{Table: b, Op: change.Delete}},
			{{Table: a, Op: change.Create}, {Table: a, Op: change.Update}},
			{{Table: b, Op: change.Delete}, {Table: b, Op: change.Delete}},
		} {
			for i := range events {
				counts.add(&events[i], segment)
			}
		}
		require.Equal(t, []kindCount{
			{kind{b, change.Update}, 1, 0}, {kind{a, change.Create}, 3, 2}, {kind{a, change.Update}, 1, 2}, {kind{b, change.Delete}, 3, 3},
		}, counts.take())
		require.Empty(t, counts.take())
	}
}

// Random kinds cost what a lookup costs, and nothing is allocated.
func BenchmarkTally(b *testing.B) {
	var events [64]change.Event
	for i := range events {
		events[i] = change.Event{Table: &change.Table{}, Op: change.Create}
	}
	counts := tally{index: map[kind]int{}}
	b.ReportAllocs()
	for b.Loop() {
		for i := range events {
			counts.add(&events[i*37%64%16], 0)
		}
		counts.take()
	}
}
