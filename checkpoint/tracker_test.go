package checkpoint

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func tok(n uint64) Token { return Token{Commit: Text("p"), Sent: n} }

func safeOf(tr *Tracker) uint64 {
	return tr.Safe().Sent
}

func TestTrackerMovesOverContiguousAcksOnly(t *testing.T) {
	tr := NewTracker(tok(0))
	a, b, c := tr.Add(tok(1)), tr.Add(tok(2)), tr.Add(tok(3))
	assert.False(t, b.Ack(), "b is behind a")
	assert.Equal(t, uint64(0), safeOf(tr))
	assert.True(t, a.Ack())
	assert.Equal(t, uint64(2), safeOf(tr))
	assert.False(t, a.Ack(), "a second ack")
	assert.Equal(t, 1, tr.InFlight())
	assert.True(t, c.Ack())
	assert.Equal(t, uint64(3), safeOf(tr))
	assert.Zero(t, tr.InFlight())
}

func TestTrackerUndo(t *testing.T) {
	tr := NewTracker(tok(0))
	a, b := tr.Add(tok(1)), tr.Add(tok(2))
	b.Ack()
	b.Undo()
	assert.True(t, a.Ack())
	assert.Equal(t, uint64(1), safeOf(tr), "b is to be delivered again")
	a.Undo() // passed already: no effect
	assert.True(t, b.Ack())
	assert.Equal(t, uint64(2), safeOf(tr))
}

// Random acks in any order, repeated, some never: the safe position is always the longest acked prefix.
func TestTrackerRandom(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		tr := NewTracker(tok(0))
		var ps []*Pending
		acked := map[int]bool{}
		last := uint64(0)
		for range 300 {
			if len(ps) == 0 || r.IntN(2) == 0 {
				ps = append(ps, tr.Add(tok(uint64(len(ps)+1))))
			} else {
				i := r.IntN(len(ps))
				ps[i].Ack()
				acked[i] = true
			}
			want := uint64(0)
			for acked[int(want)] {
				want++
			}
			got := safeOf(tr)
			require.Equal(t, want, got, "seed %d", seed)
			require.GreaterOrEqual(t, got, last)
			last = got
		}
	}
}
