//go:build unix

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const manyTables = 10_000

// manyTablesInput counts rows of many tables, as a source does that captures all of them.
func manyTablesInput(m *service.Metrics) {
	events, lag := m.NewCounter("source_events_total", "table", "op"), m.NewGauge("source_table_lag_seconds", "table")
	changes := m.NewCounter("source_schema_changes_total", "table")
	for n := range manyTables {
		table := fmt.Sprintf("shop.table_%d", n)
		for _, op := range []string{"c", "u", "d"} {
			events.Incr(1, table, op)
		}
		lag.Set(1, table)
		changes.Incr(1, table)
	}
}

const manyTablesStream = `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0"}}
input: {label: db, test_source: {}}
output: {drop: {}}
`

// The page stays small however many tables there are, and no count is lost.
func TestTenThousandTables(t *testing.T) {
	emitted := make(chan struct{})
	url, _ := start(t, components{input: func(m *service.Metrics) {
		manyTablesInput(m)
		close(emitted)
	}}, manyTablesStream)
	<-emitted
	page := fetch(t, url)
	lines := series(page, "deltaforge_source_events_total")
	assert.Equal(t, 3*(1000+1), strings.Count(lines, "\n"))
	assert.True(t, strings.Contains(lines, `{op="u",pipeline="default",source="db",table="__other__",tenant="default"} 9000`+"\n"))
	assert.Equal(t, 1001, strings.Count(series(page, "deltaforge_source_schema_changes_total"), "\n"))
	assert.Equal(t, 1000, strings.Count(series(page, "deltaforge_source_table_lag_seconds"), "\n"))
	// A bounded page is what keeps a scrape quick. The time itself is not asserted: under the race detector it says nothing.
	assert.Less(t, len(page), 1<<20, "bytes of the page")
	began := time.Now()
	fetch(t, url)
	t.Logf("a scrape of %d bytes takes %s", len(page), time.Since(began))
}

// fetch is scrape without its lint.
func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	return string(body)
}

// groupRows is how many rows a source counts at a time: 32 KiB of log.
const groupRows = 200

// BenchmarkShareOfCPU is what the numbers of a source and a sink cost: one iteration counts a batch, as the coordinator and an
// output do, for rows of four tables and three operations in disorder. %CPU is the share of one core at 300,000 events a second.
// Batches of 5,000 are what a source makes by default at that rate. What a batch costs is mostly the engine's, which makes two
// objects for each number that it passes on; so with single events, which the engine itself moves at less than that rate, it is
// more than a core.
func BenchmarkShareOfCPU(b *testing.B) {
	const rate = 300_000
	made := make(chan *service.Metrics, 1)
	env := service.NewEnvironment()
	require.NoError(b, components{input: func(m *service.Metrics) { made <- m }}.register(env))
	builder := env.NewStreamBuilder()
	require.NoError(b, builder.SetYAML(strings.Replace(manyTablesStream, "127.0.0.1:0", "", 1)))
	builder.SetLogger(slog.New(slog.DiscardHandler))
	stream, err := builder.Build()
	require.NoError(b, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(context.Background()) }()
	defer func() {
		assert.NoError(b, stream.StopWithin(20*time.Second))
		assert.NoError(b, <-done)
	}()
	numbers := newBatchNumbers(<-made)
	for _, events := range []int{1, 100, 5000} {
		b.Run(fmt.Sprintf("batch=%d", events), func(b *testing.B) {
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				numbers.count(events)
			}
			perBatch := float64((cpuTime(b) - began).Nanoseconds()) / float64(b.N)
			b.ReportMetric(100*perBatch/1e9*rate/float64(events), "%CPU")
		})
	}
}

// batchNumbers are what is counted for each batch.
type batchNumbers struct {
	rows, read    *service.MetricCounter
	stage         *service.MetricTimer
	plainTimers   []*service.MetricTimer
	plainCounters []*service.MetricCounter
	gauges        []*service.MetricGauge
}

func newBatchNumbers(m *service.Metrics) *batchNumbers {
	return &batchNumbers{
		rows: m.NewCounter("source_events_total", "table", "op"), read: m.NewCounter("source_bytes_total"),
		stage: m.NewTimer("stage_latency_ns", "stage", "trigger"),
		plainTimers: []*service.MetricTimer{
			m.NewTimer("batch_events"), m.NewTimer("batch_bytes"), m.NewTimer("e2e_latency_ns"), m.NewTimer("sink_latency_ns"),
		},
		plainCounters: []*service.MetricCounter{
			m.NewCounter("bytes_total"), m.NewCounter("sink_events_total"), m.NewCounter("sink_bytes_total"), m.NewCounter("sink_batch_total"),
		},
		gauges: []*service.MetricGauge{
			m.NewGauge("pipeline_channel_depth"), m.NewGauge("batches_in_flight"), m.NewGauge("sink_buffer_events"), m.NewGauge("sink_buffer_bytes"),
		},
	}
}

func (n *batchNumbers) count(events int) {
	tables, ops := []string{"shop.a", "shop.b", "shop.c", "shop.d"}, []string{"c", "u", "d"}
	for left := events; left > 0; left -= groupRows {
		kinds := min(left, len(tables)*len(ops))
		for i := range kinds {
			n.rows.Incr(int64(min(left, groupRows)/kinds), tables[i%len(tables)], ops[i/len(tables)])
		}
		n.read.Incr(32 << 10)
		n.gauges[0].Set(1)
	}
	for _, s := range []string{"decode", "batch", "process", "deliver"} {
		n.stage.Timing(1_000_000, s, "events")
	}
	for _, t := range n.plainTimers {
		t.Timing(1_000_000)
	}
	for _, c := range n.plainCounters {
		c.Incr(1)
	}
	n.gauges[0].Set(0)
	for _, g := range n.gauges[1:] { // it goes up, and down again
		g.Set(1)
		g.Set(0)
	}
}

// cpuTime is what the process has used; other processes do not count.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
