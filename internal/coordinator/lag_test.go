package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// feed is a log that sends what the test tells it to.
func feed(ch chan Segment) *funcLog {
	return &funcLog{run: func(ctx context.Context, _ checkpoint.Token, out chan<- Segment) error {
		for {
			select {
			case s := <-ch:
				if s.Source == "fail" {
					return errFake
				}
				select {
				case out <- s:
				case <-ctx.Done():
					return ctx.Err()
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}}
}

// lagged returns an input that has connected to feed(ch), and gauges that are read a moment after they were set.
func lagged(t *testing.T, ch chan Segment, rec *recorder, in *Input) (tick func(seconds int) (lag, idle float64)) {
	go func() { ch <- Segment{Commit: commitText(0)} }()
	require.NoError(t, in.Connect(t.Context()))
	time.Sleep(time.Millisecond)
	return func(seconds int) (float64, float64) {
		time.Sleep(time.Duration(seconds) * time.Second)
		return rec.value("source_lag_seconds"), rec.value("source_idle_seconds")
	}
}

func TestLag(t *testing.T) {
	rec := newRecorder()
	res := resources(t, rec)
	synctest.Test(t, func(t *testing.T) {
		ch := make(chan Segment)
		in := newTestInput(t, Config{RespectTx: true}, feed(ch), newMemStore(), res)
		tick := lagged(t, ch, rec, in)
		lag, idle := tick(2)
		assert.Zero(t, lag, "nothing read yet")
		assert.Equal(t, 2.0, idle)

		late := transaction(1)
		late.CommitTime = time.Now().Add(-30 * time.Second)
		ch <- late
		lag, idle = tick(1)
		assert.InDelta(t, 31, lag, 0.01)
		assert.Zero(t, idle, "rows flow")
		assert.InDelta(t, 30, rec.value("source_table_lag_seconds", "db.t"), 0.01)

		heartbeat := func() Segment { return Segment{CaughtUp: true, ReadAt: time.Now()} }
		ch <- heartbeat()
		lag, idle = tick(1)
		assert.Zero(t, lag, "the server says that we are at its end")
		assert.InDelta(t, 2, idle, 0.01)
		assert.Zero(t, rec.value("source_table_lag_seconds", "db.t"))
		for range 10 {
			lag, _ = tick(10)
			assert.Zero(t, lag, "idle, and the server says so")
			ch <- heartbeat()
		}
		lag, _ = tick(12)
		assert.Zero(t, lag, "its word still holds")
		lag, _ = tick(1)
		assert.InDelta(t, 13, lag, 0.01, "silent for longer than its word holds")

		// The database goes away: nobody connects, and the lag grows.
		ch <- heartbeat()
		lag, _ = tick(1)
		assert.Zero(t, lag)
		ch <- Segment{Source: "fail"}
		lag, _ = tick(60)
		assert.InDelta(t, 61, lag, 0.01)
		require.NoError(t, in.Close(context.Background()))
	})
}

func TestLagGrowsWhileOutputIsBlocked(t *testing.T) {
	rec := newRecorder()
	res := resources(t, rec)
	synctest.Test(t, func(t *testing.T) {
		ch := make(chan Segment)
		in := newTestInput(t, Config{MaxEvents: 1, RespectTx: true}, feed(ch), newMemStore(), res)
		tick := lagged(t, ch, rec, in)
		end := make(chan struct{})
		go func() { // a busy database, and a heartbeat now and then
			for n := 1; ; n++ {
				s := transaction(n)
				if n%10 == 0 {
					s = Segment{CaughtUp: true, ReadAt: time.Now()}
				}
				select {
				case ch <- s:
				case <-end:
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		before, _ := tick(10)
		for range 6 {
			after, _ := tick(20)
			assert.Greater(t, after, before)
			before = after
		}
		assert.Greater(t, before, 100.0)
		close(end)
		require.NoError(t, in.Close(context.Background()))
	})
}
