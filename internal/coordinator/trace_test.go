package coordinator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/deltaforge/deltaforge/internal/change"
)

// A stream with a tracer has one span an attempt: from the read of the oldest event to the answer of the output, with
// what the engine traces of the messages below it.
func TestSpans(t *testing.T) {
	rec, store, spans := newRecorder(), newMemStore(), tracetest.NewSpanRecorder()
	read := time.Now().Add(-time.Minute)
	seg := Segment{
		Source: "server", CommitTime: read, ReadAt: read, Commit: commitText(1),
		Rows: &rows{rows: []row{{at: at{0, 1}, size: 10}, {at: at{0, 2}, size: 10}}, read: read},
	}
	l := &funcLog{run: segments(Segment{Source: "server", Commit: commitText(0)}, seg)}
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterBatchInput("fake_cdc", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			return endAt{newTestInput(t, Config{MaxEvents: 2, RespectTx: true}, l, store, res), store, commitText(1).String()}, nil
		}))
	require.NoError(t, env.RegisterOtelTracerProvider("spans", service.NewConfigSpec(),
		func(*service.ParsedConfig) (trace.TracerProvider, error) {
			return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), nil
		}))
	b := env.NewStreamBuilder()
	require.NoError(t, b.SetTracerYAML("spans: {}"))
	require.NoError(t, b.AddProcessorYAML("mapping: root = this"))
	calls := 0
	runBuilder(t, env, b, rec, "fake_cdc: {}", func(_ context.Context, batch service.MessageBatch) error {
		change.Reached(batch)
		if calls++; calls == 1 {
			return errors.New("rejected once")
		}
		return nil
	})
	ours, below := tracetest.SpanStubs{}, 0
	for _, s := range tracetest.SpanStubsFromReadOnlySpans(spans.Ended()) {
		if s.Name == "deltaforge.batch" {
			ours = append(ours, s)
		} else if s.Parent.IsValid() {
			below++
		}
	}
	require.Len(t, ours, 2, "attempts")
	assert.Equal(t, 4, below, "one span of the processor for each of two messages, twice")
	for n, s := range ours {
		assert.True(t, s.StartTime.Equal(read), "from the read")
		assert.GreaterOrEqual(t, s.EndTime.Sub(s.StartTime), time.Minute)
		attrs := map[string]any{}
		for _, a := range s.Attributes {
			attrs[string(a.Key)] = a.Value.AsInterface()
		}
		assert.Equal(t, map[string]any{
			"deltaforge.source": "fake", "deltaforge.position": "tx1", "deltaforge.tables": []string{"db.t"},
			"deltaforge.events": int64(2), "deltaforge.attempt": int64(n + 1),
		}, attrs)
	}
	assert.Equal(t, codes.Error, ours[0].Status.Code)
	assert.Equal(t, codes.Unset, ours[1].Status.Code)
	assert.Len(t, rec.timings("stage_latency_ns", stageProcess, triggerEvents), 2)
	assert.Len(t, rec.timings("stage_latency_ns", stageDeliver, triggerEvents), 2)
}

// Without a tracer nothing is paid for spans after the first batch has told so.
func TestNoTracer(t *testing.T) {
	l := &funcLog{run: segments(Segment{Source: "server", Commit: commitText(0)}, transaction(1))}
	in := newTestInput(t, Config{RespectTx: true}, l, newMemStore(), resources(t, newRecorder()))
	require.True(t, in.tracer.On())
	require.NoError(t, in.Connect(t.Context()))
	batch, ack, err := in.ReadBatch(t.Context())
	require.NoError(t, err)
	assert.False(t, in.tracer.On())
	assert.False(t, trace.SpanFromContext(batch[0].Context()).SpanContext().IsValid())
	require.NoError(t, ack(t.Context(), nil))
	require.NoError(t, in.Close(context.Background()))
}
