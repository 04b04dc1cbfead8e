package coordinator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// A source whose store says that another instance has taken over the position stops, for good, and says why.
func TestFencedByItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saves := 0
		store := newMemStore()
		store.onSet = func(checkpoint.Record) error {
			if saves++; saves > 1 {
				return fmt.Errorf("%w: another instance has taken over", checkpoint.ErrFenced)
			}
			return nil
		}
		one := func(n int) Segment {
			return Segment{Commit: commitText(n), Rows: &rows{rows: []row{{at: at{n - 1, 1}, key: 1, val: n}}}}
		}
		in := newTestInput(t, Config{MaxInFlight: 1, MaxEvents: 1, RespectTx: true}, &funcLog{run: segments(Segment{Source: "server", Commit: commitText(0)}, one(1), one(2))}, store, nil)
		require.NoError(t, in.Connect(t.Context()))
		var err error
		for err == nil {
			var ack service.AckFunc
			if _, ack, err = in.ReadBatch(t.Context()); err == nil {
				require.NoError(t, ack(t.Context(), nil))
				_ = sleep(t.Context(), time.Minute)
			}
		}
		require.ErrorIs(t, err, service.ErrNotConnected)
		require.Equal(t, 2, saves)
		for range 3 {
			back, ok := errors.AsType[*service.ErrBackOff](in.Connect(t.Context()))
			require.True(t, ok)
			require.ErrorIs(t, back.Err, checkpoint.ErrFenced)
		}
		state, cause, _ := in.state(time.Now())
		assert.Equal(t, plane.Failed, state)
		assert.Contains(t, cause, "another instance has taken over")
		require.ErrorIs(t, in.Close(context.Background()), checkpoint.ErrFenced)
		assert.Equal(t, 2, saves, "nothing is saved after that")
	})
}
