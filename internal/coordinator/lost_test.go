package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// takeFor reads what an input delivers, as an engine does, for some time.
func takeFor(t *testing.T, in *Input, d time.Duration) (reads int, failures []error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		batch, ack, err := in.ReadBatch(ctx)
		if err == nil {
			reads += len(batch)
			require.NoError(t, ack(ctx, nil))
			continue
		}
		for ctx.Err() == nil {
			if err = in.Connect(ctx); err == nil {
				break
			}
			var back *service.ErrBackOff
			if !errors.As(err, &back) {
				return reads, failures
			}
			failures = append(failures, back.Err)
			_ = sleep(ctx, back.Wait)
		}
	}
	return reads, failures
}

// TestALostPositionFails unless something else is wanted, and says what else there is.
func TestALostPositionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimDB(t, newRand(1), 30)
		in := newTestInput(t, loadConfig(snapshot.Initial), simLog{d}, newMemStore(), nil)
		reads, _ := takeFor(t, in, 10*time.Second)
		assert.InDelta(t, 30.5, reads, 0.5, "perhaps one of them again, as the last row after an empty part")
		d.purge(5)
		reads, failures := takeFor(t, in, 10*time.Minute)
		assert.Zero(t, reads)
		require.Len(t, failures, 10, "it looks once a minute")
		require.ErrorIs(t, failures[0], fault.ErrPositionLost)
		assert.EqualError(t, failures[0], "position lost: purged; or `on_position_lost: snapshot` begins anew at the end of the log, and loads all tables again")
		require.NoError(t, in.Close(context.Background()))
	})
}

// TestALostPositionIsGivenUp: at the second look, with all that there is to say, also by the status and after a restart. Nothing goes out before the new beginning is
// saved, and what the store has saved of the old one is not confirmed any more.
func TestALostPositionIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store, rec := newSimDB(t, newRand(1), 30), newMemStore(), newRecorder()
		cfg := loadConfig(snapshot.Never)
		cfg.OnLost = LostSnapshot
		in := newTestInput(t, cfg, simLog{d}, store, resources(t, rec))
		takeFor(t, in, 10*time.Second)
		d.purge(5)
		store.block = make(chan struct{})
		reads, failures := takeFor(t, in, 10*time.Second)
		assert.Zero(t, reads, "the store does not answer")
		assert.Len(t, failures, 1)
		close(store.block)
		reads, failures = takeFor(t, in, 10*time.Second)
		assert.Empty(t, failures)
		assert.Len(t, d.rows, reads, "all is loaded, though mode is never")

		want := &plane.LostPosition{From: "tx0", To: "tx5", Why: "position lost: purged"}
		for range 2 {
			got := in.loader.Status().Lost
			require.NotNil(t, got)
			assert.WithinDuration(t, time.Now(), got.At, time.Hour)
			got.At = time.Time{}
			assert.Equal(t, want, got)
			require.NoError(t, in.Close(context.Background()))
			in = newTestInput(t, cfg, simLog{d}, store, nil)
			reads, _ = takeFor(t, in, 10*time.Second)
			assert.Zero(t, reads)
		}
		require.NoError(t, in.Close(context.Background()))
		errs, _ := rec.logged(slog.LevelError)
		assert.Contains(t, errs, "The position tx0 of fake is given up, as `on_position_lost: snapshot` says: position lost: purged")
		warnings, _ := rec.logged(slog.LevelWarn)
		assert.Contains(t, warnings, "Reading of fake begins anew at tx5: the changes between tx0 and there are lost. All tables are loaded again. Rows that were "+
			"deleted in between stay at the consumers: nothing tells which they are")
	})
}
