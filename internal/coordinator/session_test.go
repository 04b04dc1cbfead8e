package coordinator

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// TestUnansweredBatchBelongsToTheInput: a batch has no answer for longer than any patience, the session fails meanwhile. The next session
// reads on after it, and nothing goes out beside it.
func TestUnansweredBatchBelongsToTheInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		var froms []string
		l := &funcLog{run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
			froms = append(froms, from.String())
			first := Segment{Source: "server"}
			if from.IsZero() {
				first.Commit = commitText(0)
			}
			out <- first
			if from.IsZero() {
				out <- transaction(1)
			} else {
				out <- transaction(2)
			}
			select {
			case <-fail:
				fail = nil
				return errFake
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		store := newMemStore()
		in := newTestInput(t, Config{MaxInFlight: 1, RespectTx: true, MaxWait: time.Millisecond}, l, store, nil)
		require.NoError(t, in.Connect(t.Context()))
		_, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		close(fail)
		_, _, err = in.ReadBatch(t.Context())
		require.ErrorIs(t, err, service.ErrNotConnected)
		began := time.Now()
		require.NoError(t, in.Connect(t.Context()))
		assert.LessOrEqual(t, time.Since(began), backoffMin, "nobody waits for the answer")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, _, err = in.ReadBatch(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "max_in_flight is 1, across sessions")
		assert.Equal(t, "tx0", store.saved(t).String())
		require.NoError(t, ack(t.Context(), nil))
		b, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		id, _ := b[0].MetaGet("event_id")
		assert.Equal(t, "tx2:1", id)
		require.NoError(t, ack(t.Context(), nil))
		require.NoError(t, in.Close(context.Background()))
		assert.Equal(t, []string{"start", "tx1"}, froms)
		assert.Equal(t, "tx2", store.saved(t).String())
	})
}

// TestRejectedBatchGoesOutAgainInTheNextSession: it is sent again by the one who was told, whatever session made it, before anything new.
func TestRejectedBatchGoesOutAgainInTheNextSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		l := &funcLog{run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
			if from.IsZero() {
				out <- Segment{Source: "server", Commit: commitText(0)}
				out <- transaction(1)
				<-fail
				return errFake
			}
			return segments(Segment{Source: "server"}, transaction(2))(ctx, from, out)
		}}
		in := newTestInput(t, Config{MaxInFlight: 1, RespectTx: true}, l, newMemStore(), nil)
		require.NoError(t, in.Connect(t.Context()))
		_, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		close(fail)
		_, _, err = in.ReadBatch(t.Context())
		require.ErrorIs(t, err, service.ErrNotConnected)
		require.NoError(t, ack(t.Context(), errFake))
		require.NoError(t, in.Connect(t.Context()))
		for _, want := range []string{"tx1:1", "tx2:1"} {
			b, ack, err := in.ReadBatch(t.Context())
			require.NoError(t, err)
			id, _ := b[0].MetaGet("event_id")
			assert.Equal(t, want, id)
			require.NoError(t, ack(t.Context(), nil))
		}
		require.NoError(t, in.Close(context.Background()))
	})
}

// TestSafePositionDoesNotGoBack: a log that repeats the position where it began, inside a transaction of which a part is delivered, moves
// nothing; the end of that transaction does.
func TestSafePositionDoesNotGoBack(t *testing.T) {
	rest := transaction(1)
	rest.Rows.(*rows).rows[0].at = at{0, 6}
	rest.Commit = nil
	for name, c := range map[string]struct {
		segs []Segment
		want string
	}{
		"idle":                         {[]Segment{{Commit: commitText(0)}, {Commit: commitText(0), CaughtUp: true}}, "tx0+5"},
		"before the rest":              {[]Segment{{Commit: commitText(0)}, rest}, "tx0+6"},
		"after a part of the rest":     {[]Segment{rest, {Commit: commitText(0)}}, "tx0+6"},
		"the rest has nothing for us":  {[]Segment{{Commit: commitText(0)}, {Commit: commitText(1)}}, "tx1"},
		"and what follows, just so":    {[]Segment{{Commit: commitText(1)}, {Commit: commitText(2)}}, "tx2"},
		"the whole rest, then a pause": {[]Segment{rest, {Commit: commitText(1)}, {Commit: commitText(1), CaughtUp: true}}, "tx1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newMemStore()
				require.NoError(t, checkpoint.Save(t.Context(), store, "fake", "fake",
					checkpoint.Token{Source: "server", Commit: commitText(0), Sent: 5}, time.Now()))
				l := &funcLog{run: segments(append([]Segment{{Source: "server"}}, c.segs...)...)}
				in := newTestInput(t, Config{MaxInFlight: 1}, l, store, nil)
				require.NoError(t, in.Connect(t.Context()))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				for {
					_, ack, err := in.ReadBatch(ctx)
					if err != nil {
						break
					}
					require.NoError(t, ack(t.Context(), nil))
				}
				require.NoError(t, in.Close(context.Background()))
				assert.Equal(t, c.want, store.saved(t).String())
			})
		})
	}
}

// TestBackoffGrowsWhereTheLogGetsNowhere: whatever a log says before it fails in the same place again. Whether a session fails before or after
// Connect has returned is a race; either way there is one pause after each session.
func TestBackoffGrowsWhereTheLogGetsNowhere(t *testing.T) {
	for name, c := range map[string]struct {
		before []Segment
		lives  time.Duration
	}{
		"nothing":                          {},
		"a position that does not move":    {before: []Segment{{Commit: commitText(3)}}},
		"a session that lives for a while": {lives: 20 * time.Second},
		"a row that was never handed out":  {before: []Segment{{Rows: &rows{fail: errFake}}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newMemStore()
				require.NoError(t, checkpoint.Save(t.Context(), store, "fake", "fake",
					checkpoint.Token{Source: "server", Commit: commitText(3)}, time.Now()))
				var runs atomic.Int32
				l := &funcLog{run: func(ctx context.Context, _ checkpoint.Token, out chan<- Segment) error {
					runs.Add(1)
					for _, seg := range append([]Segment{{Source: "server"}}, c.before...) {
						out <- seg
					}
					_ = sleep(ctx, max(c.lives, time.Millisecond))
					return errFake
				}}
				in := newTestInput(t, Config{MaxInFlight: 1, RespectTx: true}, l, store, nil)
				for began := time.Now(); time.Since(began) < time.Hour; {
					err := in.Connect(t.Context())
					if back, ok := errors.AsType[*service.ErrBackOff](err); ok {
						require.NoError(t, sleep(t.Context(), back.Wait)) // as the engine does
						continue
					}
					_, _, err = in.ReadBatch(t.Context())
					require.Error(t, err)
				}
				assert.LessOrEqual(t, runs.Load(), sessionsIn(time.Hour, c.lives))
				require.NoError(t, in.Close(context.Background()))
			})
		})
	}
}

// sessionsIn returns how many sessions there are at most, when each fails after it has lived for so long and the pause after it is twice the
// one before. The last one begins after the pause in which the time ends.
func sessionsIn(d, lives time.Duration) (n int32) {
	pause := backoffMin
	for ; d > 0; n++ {
		d -= lives + pause
		pause = min(backoffMax, 2*pause)
	}
	return n + 1
}
