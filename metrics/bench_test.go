package metrics

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sourceKeys returns the label keys of a source's stat, as the engine passes them.
func sourceKeys() []string { return []string{"label", "path", "stream", "table", "op"} }

// The engine keeps a counter without labels: this is all that it does for each message or batch.
func BenchmarkCounter(b *testing.B) {
	c := offline(b).NewCounterCtor("output_sent", "label", "path")("out", "root.output")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Incr(1)
		}
	})
}

func BenchmarkTimer(b *testing.B) {
	timer := offline(b).NewTimerCtor("output_latency_ns", "label", "path")("out", "root.output")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := int64(1); pb.Next(); i++ {
			timer.Timing(i & 0xffffff)
		}
	})
}

func BenchmarkGauge(b *testing.B) {
	gauge := offline(b).NewGaugeCtor("source_lag_seconds", "label", "path")("db", "root.input")
	b.ReportAllocs()
	for i := range b.N {
		gauge.Set(int64(i))
	}
}

// A stat with labels is looked up each time a component increments it: the engine's public API keeps nothing.
func BenchmarkLabelledCounter(b *testing.B) {
	ctor := offline(b).NewCounterCtor("source_events_total", sourceKeys()...)
	var values [500][]string
	for i := range values {
		values[i] = []string{"db", "root.input", "orders", "shop.table" + string(rune('a'+i%26)) + string(rune('a'+i/26)), "c"}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			ctor(values[i%len(values)]...).Incr(1)
		}
	})
}

// What a component pays for a labelled counter through the engine's public API. The engine copies the label values and
// makes a wrapper each time, so components count once per batch and not once per event.
func BenchmarkLabelledCounterThroughEngine(b *testing.B) {
	made := make(chan *service.MetricCounter, 1)
	env := service.NewEnvironment()
	require.NoError(b, components{input: func(m *service.Metrics) {
		made <- m.NewCounter("source_events_total", "table", "op")
	}}.register(env))
	builder := env.NewStreamBuilder()
	require.NoError(b, builder.SetYAML(`
http: {enabled: false}
metrics: {deltaforge: {address: ""}}
input: {label: db, test_source: {}}
output: {drop: {}}
`))
	builder.SetLogger(slog.New(slog.DiscardHandler))
	stream, err := builder.Build()
	require.NoError(b, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(context.Background()) }()
	defer func() {
		assert.NoError(b, stream.StopWithin(20*time.Second))
		assert.NoError(b, <-done)
	}()
	events := <-made
	b.ReportAllocs()
	for b.Loop() {
		events.Incr(1, "shop.orders", "c")
	}
}

// The bound the benchmarks watch, as a test.
func TestHotPathDoesNotAllocate(t *testing.T) {
	e := offline(t)
	counter := e.NewCounterCtor("output_sent", "label", "path")("out", "root.output")
	timer := e.NewTimerCtor("output_latency_ns", "label", "path")("out", "root.output")
	gauge := e.NewGaugeCtor("source_lag_seconds", "label", "path")("db", "root.input")
	ctor, values := e.NewCounterCtor("source_events_total", sourceKeys()...), []string{"db", "root.input", "orders", "shop.orders", "c"}
	timer.Timing(1000)
	ctor(values...).Incr(1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		counter.Incr(1)
		timer.Timing(1000)
		gauge.Set(1)
		ctor(values...).Incr(1)
	}))
}
