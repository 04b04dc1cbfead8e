package coordinator

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// A real stream of the engine, with known numbers: three transactions of four events, a batch that is rejected once, a
// session that fails once.
func TestMetricsOfAStream(t *testing.T) {
	rec := newRecorder()
	store := newMemStore()
	var txs []Segment
	for n := range 3 {
		var rs []row
		for k := range 4 {
			rs = append(rs, row{at: at{n, k + 1}, size: 100})
		}
		txs = append(txs, Segment{
			Source: "server", Bytes: 1000, CommitTime: time.Now(), Commit: commitText(n + 1),
			Rows: &rows{rows: rs, read: time.Now()},
		})
	}
	l := &funcLog{bytes: func() (int64, bool) { return 77, true }}
	runs := 0
	l.run = func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
		runs++
		if from.IsZero() {
			out <- Segment{Source: "server", Commit: commitText(0)}
			out <- txs[0]
			for saved(ctx, store) != "tx1" {
				time.Sleep(time.Millisecond)
			}
			return fault.WithKind(fault.KindConnect, errFake)
		}
		return segments(append([]Segment{{Source: "server"}}, txs[atOf(t, from).commit:]...)...)(ctx, from, out)
	}
	var in *Input
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterBatchInput("fake_cdc", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			in = newTestInput(t, Config{MaxEvents: 4, RespectTx: true, MaxWait: time.Minute}, l, store, res)
			return endAt{in, store, commitText(3).String()}, nil
		}))
	calls, events := 0, 0
	runStream(t, env, rec, "fake_cdc: {}", func(_ context.Context, b service.MessageBatch) error {
		if calls++; calls == 3 {
			return errors.New("rejected once")
		}
		events += len(b)
		return nil
	})
	assert.Equal(t, 12, events)
	assert.Equal(t, 4, calls)
	assert.Equal(t, 2, runs)
	for name, want := range map[string]float64{
		"source_events_total{db.t,c}":  12,
		"source_bytes_total":           3000,
		"source_reconnects_total":      1,
		"source_errors_total{connect}": 1,
		"bytes_total":                  1200,
		"batches_in_flight":            0,
		"pipeline_channel_depth":       0,
		"pipeline_channel_capacity":    8,
		"checkpoint_failure_total":     0,
		"panics_total{log}":            0,
	} {
		assert.Equal(t, want, rec.value(name), name)
	}
	assert.Equal(t, 1.0, rec.value("pipeline_info", "fake"))
	assert.Contains(t, rec.history("pipeline_status"), 1.0, "no control plane: the source says so itself")
	assert.Equal(t, 0.0, rec.value("pipeline_status"), "and that it has ended")
	assert.True(t, math.IsNaN(rec.value("source_lag_bytes")), "withdrawn at the end")
	assert.Equal(t, []int64{4, 4, 4}, rec.timings("batch_events"))
	assert.Equal(t, []int64{400, 400, 400}, rec.timings("batch_bytes"))
	assert.Len(t, rec.timings("stage_latency_ns", stageDecode, triggerEvents), 3)
	assert.Len(t, rec.timings("stage_latency_ns", stageBatch, triggerEvents), 3)
	assert.Len(t, rec.timings("stage_latency_ns", stageDeliver, triggerEvents), 4)
	assert.Len(t, rec.timings("e2e_latency_ns"), 3)
	saves := rec.value("checkpoint_success_total")
	assert.GreaterOrEqual(t, saves, 2.0)
	assert.Len(t, rec.timings("checkpoint_latency_ns"), int(saves))
	assert.Len(t, rec.timings("stage_latency_ns", stageCommit, triggerNone), int(saves))
	assert.InDelta(t, float64(time.Now().Unix()), rec.value("last_checkpoint_timestamp_seconds"), 60)
}

// endAt ends a stream when a position is saved.
type endAt struct {
	*Input
	store *memStore
	last  string
}

func (e endAt) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	for {
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		b, ack, err := e.Input.ReadBatch(short)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return b, ack, err
		}
		if saved(ctx, e.store) == e.last {
			return nil, nil, service.ErrEndOfInput
		}
	}
}

func saved(ctx context.Context, s *memStore) string {
	tok, _ := checkpoint.Load(ctx, s, "fake", "fake")
	return tok.String()
}

// TestClockSetBack: a stage does not take less than no time.
func TestClockSetBack(t *testing.T) {
	rec := newRecorder()
	st := newStats(resources(t, rec).Metrics(), "fake")
	st.stage(stageProcess, triggerEvents, -time.Hour)
	st.stage(stageProcess, triggerEvents, time.Second)
	var got []int64
	for _, name := range []string{"stage_latency_seconds", "stage_latency_ns"} {
		got = append(got, rec.timings(name, stageProcess, triggerEvents)...)
	}
	assert.Equal(t, []int64{0, time.Second.Nanoseconds()}, got)
}
