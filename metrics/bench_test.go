package metrics

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// sourceKeys are the label keys of a source's stat, as the engine passes them.
var sourceKeys = []string{"label", "path", "stream", "table", "op"}

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
	ctor := offline(b).NewCounterCtor("source_events_total", sourceKeys...)
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

// The bound the benchmarks watch, as a test.
func TestHotPathDoesNotAllocate(t *testing.T) {
	e := offline(t)
	counter := e.NewCounterCtor("output_sent", "label", "path")("out", "root.output")
	timer := e.NewTimerCtor("output_latency_ns", "label", "path")("out", "root.output")
	gauge := e.NewGaugeCtor("source_lag_seconds", "label", "path")("db", "root.input")
	ctor, values := e.NewCounterCtor("source_events_total", sourceKeys...), []string{"db", "root.input", "orders", "shop.orders", "c"}
	timer.Timing(1000)
	ctor(values...).Incr(1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		counter.Incr(1)
		timer.Timing(1000)
		gauge.Set(1)
		ctor(values...).Incr(1)
	}))
}
