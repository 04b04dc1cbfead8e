package coordinator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// TestFailedSaveIsTriedAgainWhileIdle: the source has nothing more to say, and the position is saved all the same once the store takes it.
func TestFailedSaveIsTriedAgainWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		var mu sync.Mutex
		tries, full := 0, true
		store.onSet = func(checkpoint.Record) error {
			mu.Lock()
			defer mu.Unlock()
			tries++
			if full {
				return errors.New("disk full")
			}
			return nil
		}
		confirmed := make(chan string, 10)
		l := &funcLog{
			run:     segments(Segment{Source: "server", Commit: commitText(0)}),
			confirm: func(tok checkpoint.Token) { confirmed <- tok.String() },
		}
		in := newTestInput(t, Config{CheckpointInterval: 100 * time.Millisecond}, l, store, nil)
		require.NoError(t, in.Connect(t.Context()))
		time.Sleep(time.Minute)
		mu.Lock()
		assert.InDelta(t, 600, tries, 10, "as often as the interval lets it")
		full = false
		mu.Unlock()
		assert.Empty(t, confirmed, "nothing is confirmed that is not saved")
		time.Sleep(time.Second)
		assert.Equal(t, "tx0", store.saved(t).String())
		assert.Equal(t, "tx0", <-confirmed)
		require.NoError(t, in.Close(context.Background()))
	})
}

// TestLastWordsToTheServer: what is acknowledged before Close is saved and confirmed while the session still runs, so that its last status to
// the server carries the position.
func TestLastWordsToTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		var running bool
		var mu sync.Mutex
		var events []string
		note := func(what string) { mu.Lock(); events = append(events, what); mu.Unlock() }
		l := &funcLog{
			run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
				running = true
				err := segments(Segment{Source: "server", Commit: commitText(0)}, transaction(1))(ctx, from, out)
				running = false
				note("session ended")
				return err
			},
			confirm: func(tok checkpoint.Token) { note("confirmed " + tok.String()); assert.True(t, running) },
		}
		in := newTestInput(t, Config{CheckpointInterval: time.Hour, RespectTx: true}, l, store, nil)
		require.NoError(t, in.Connect(t.Context()))
		_, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, ack(t.Context(), nil))
		require.NoError(t, in.Close(context.Background()))
		assert.Equal(t, []string{"confirmed tx0", "confirmed tx1", "session ended"}, events)
		assert.Equal(t, "tx1", store.saved(t).String())
	})
}

// TestBackoffBeginsAnewAfterProgress: a source that got somewhere is tried again at once, however often it failed before.
func TestBackoffBeginsAnewAfterProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := true
		n := 0
		l := &funcLog{run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
			if failing {
				return errFake
			}
			out <- Segment{Source: "server"}
			n++
			out <- transaction(n)
			time.Sleep(time.Second)
			return errFake
		}}
		store := newMemStore()
		require.NoError(t, checkpoint.Save(t.Context(), store, "fake", "fake", checkpoint.Token{Source: "server", Commit: commitText(0)}, time.Now()))
		in := newTestInput(t, Config{RespectTx: true}, l, store, nil)
		for range 20 {
			require.Error(t, in.Connect(t.Context()))
		}
		assert.Equal(t, backoffMax, in.backoff())
		failing = false
		for range 3 {
			require.NoError(t, in.Connect(t.Context()))
			_, ack, err := in.ReadBatch(t.Context())
			require.NoError(t, err)
			require.NoError(t, ack(t.Context(), nil))
			_, _, err = in.ReadBatch(t.Context())
			require.Error(t, err)
			began := time.Now()
			require.NoError(t, in.Connect(t.Context()))
			assert.Equal(t, backoffMin, time.Since(began))
			_, _, err = in.ReadBatch(t.Context())
			require.NoError(t, err)
		}
		require.NoError(t, in.Close(context.Background()))
	})
}

// TestLimitsMetExactly: a batch that is exactly as large as it may be is not cut.
func TestLimitsMetExactly(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []int
	}{
		"events": {Config{MaxEvents: 3, MaxBytes: 1 << 20}, []int{3, 3}},
		"bytes":  {Config{MaxEvents: 100, MaxBytes: 3 * 40}, []int{3, 3}},
		"less":   {Config{MaxEvents: 100, MaxBytes: 3*40 - 1}, []int{2, 2, 2}},
		"more":   {Config{MaxEvents: 100, MaxBytes: 3*40 + 1}, []int{3, 3}},
		"one":    {Config{MaxEvents: 100, MaxBytes: 39}, []int{1, 1, 1, 1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.cfg.RespectTx, c.cfg.MaxWait = true, time.Minute
				segs := []Segment{{Commit: commitText(0)}}
				for n := 1; n <= 6; n++ {
					segs = append(segs, transaction(n))
				}
				in := newTestInput(t, c.cfg, &funcLog{run: segments(segs...)}, newMemStore(), nil)
				require.NoError(t, in.Connect(t.Context()))
				synctest.Wait()
				var got []int
				for sum := 0; sum < 6; {
					b, ack, err := in.ReadBatch(t.Context())
					require.NoError(t, err)
					require.NoError(t, ack(t.Context(), nil))
					got = append(got, len(b))
					sum += len(b)
				}
				assert.Equal(t, c.want, got)
				require.NoError(t, in.Close(context.Background()))
			})
		})
	}
}

// TestStoreThatForgetsWhileWeRun: a minute after the store has lost the position, it is said, saved again, and over.
func TestStoreThatForgetsWhileWeRun(t *testing.T) {
	rec := newRecorder()
	res := resources(t, rec)
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		in := newTestInput(t, Config{}, &funcLog{run: segments(Segment{Source: "server", Commit: commitText(0)})}, store, res)
		in.store.name = "the test's store"
		require.NoError(t, in.Connect(t.Context()))
		time.Sleep(time.Second)
		store.mu.Lock()
		clear(store.data)
		store.mu.Unlock()
		time.Sleep(keepEvery)
		assert.Equal(t, "tx0", store.saved(t).String())
		assert.Equal(t, 1.0, rec.value("checkpoint_failure_total"))
		state, cause, _ := in.state(time.Now())
		assert.Equal(t, plane.Retrying, state)
		assert.Contains(t, cause, `the test's store does not have any more what was saved under key "fake"`)
		time.Sleep(keepEvery)
		state, _, _ = in.state(time.Now())
		assert.Equal(t, plane.Running, state)
		require.NoError(t, in.Close(context.Background()))
	})
}
