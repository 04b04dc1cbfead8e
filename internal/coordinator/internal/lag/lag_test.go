package lag

import (
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
)

// TestFirstStartIsLateUntilTheServerSaysOtherwise: before its word nobody knows, and 0 would be an untruth.
func TestFirstStartIsLateUntilTheServerSaysOtherwise(t *testing.T) {
	l := New(service.MockResources().Metrics())
	began := time.Now()
	l.Begin(began)
	lag, read := l.Seconds(began.Add(5 * time.Second))
	assert.Equal(t, []float64{5, 5}, []float64{lag, read})
	l.Read(Reading{CaughtUp: true, ReadAt: began.Add(6 * time.Second)})
	lag, read = l.Seconds(began.Add(7 * time.Second))
	assert.Equal(t, []float64{0, 0}, []float64{lag, read})
	lag, _ = l.Seconds(began.Add(18 * time.Second))
	assert.Equal(t, 0.0, lag, "its word holds for a while")
	lag, _ = l.Seconds(began.Add(19 * time.Second))
	assert.Equal(t, 13.0, lag, "and no longer")
	l.Read(Reading{CaughtUp: true, ReadAt: began.Add(20 * time.Second)})
	l.Read(Reading{Committed: began.Add(15 * time.Second), ReadAt: began.Add(21 * time.Second)})
	lag, read = l.Seconds(began.Add(22 * time.Second))
	assert.Equal(t, []float64{7, 7}, []float64{lag, read}, "a new commit ends the word")
}

// TestAges: commits that come in another order than they were committed in, and close together.
func TestAges(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var a ages
	for seq, s := range []float64{10, 10.05, 12, 11, 20, 19.95, 30} {
		a.add(uint64(seq+1), at(s))
	}
	assert.Equal(t, ages{{1, 2, at(10)}, {3, 4, at(11)}, {5, 6, at(19.95)}, {7, 7, at(30)}}, a)
	assert.Equal(t, at(11), a.rewind(3))
	assert.Equal(t, ages{{1, 2, at(10)}, {3, 3, at(11)}}, a, "of the last one a part stays")
	a.pass(1)
	assert.Len(t, a, 2, "the second commit stands for it, too")
	a.pass(2)
	assert.Equal(t, ages{{3, 3, at(11)}}, a)
	assert.Equal(t, at(11), a.rewind(2))
	assert.Empty(t, a)
	assert.True(t, a.rewind(0).IsZero())
}
