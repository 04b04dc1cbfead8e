package metrics

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const foreignStream = `
http: {enabled: false}
metrics:
  deltaforge: {address: "127.0.0.1:0", tenant: acme}
input:
  broker:
    inputs:
      - label: gen
        generate: {count: 8, interval: "", batch_size: 2, mapping: 'root.id = counter()'}
      - test_source: {}
buffer:
  memory: {}
pipeline:
  threads: 1
  processors:
    - label: check
      mapping: 'root = if this.id == 3 { throw("three") }'
    - rate_limit: {resource: limit}
    - cache: {resource: store, operator: add, key: '${! json("id") % 4 }', value: x}
    - label: odd
      mapping: 'root = if this.id % 2 == 0 { deleted() }'
output:
  label: out
  drop: {}
cache_resources:
  - label: store
    memory: {}
rate_limit_resources:
  - label: limit
    local: {count: 1000, interval: 1s}
`

// Every component of the engine has its series, and the page has nothing else.
func TestForeignComponents(t *testing.T) {
	url, _ := start(t, components{}, foreignStream)
	golden(t, url, "deltaforge_", "foreign.prom")
}

// What components emit under the names of the table appears under them, in the unit of the series.
func TestOwnStats(t *testing.T) {
	input := func(m *service.Metrics) {
		m.NewCounter("source_events_total", "table", "op").Incr(5, "shop.orders", "c")
		m.NewCounter("source_bytes_total").Incr(512)
		m.NewGauge("source_lag_seconds").SetFloat64(1.25)
		m.NewGauge("last_checkpoint_timestamp_seconds").SetFloat64(1700000000.5)
		m.NewGauge("source_idle_seconds") // never set: not shown
		m.NewTimer("stage_latency_ns", "stage", "trigger").Timing(2_000_000, "decode", "events")
		m.NewTimer("batch_events").Timing(3)
		m.NewTimer("batch_bytes").Timing(5000)
		m.NewGauge("pipeline_channel_depth").Set(7)
		m.NewCounter("panics_total").Incr(0)
	}
	url, _ := start(t, components{input: input}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0", pipeline: orders}}
input: {label: db, test_source: {}}
output: {drop: {}}
`)
	golden(t, url, "deltaforge_", "own.prom")
	page := scrape(t, url)
	stage := `{pipeline="orders",stage="decode",tenant="default",trigger="events"`
	require.Contains(t, page, "deltaforge_stage_latency_seconds_sum"+stage+"} 0.002\n")
	require.Contains(t, page, "deltaforge_stage_latency_seconds_bucket"+stage+`,le="0.001"} 0`+"\n")
	require.Contains(t, page, "deltaforge_stage_latency_seconds_bucket"+stage+`,le="0.0025"} 1`+"\n")
	require.Contains(t, page, "\ndeltaforge_build_info{commit=")
	require.Contains(t, page, "\ngo_goroutines ")
	require.Contains(t, page, "\nprocess_cpu_seconds_total ")
}

// A source says its name, and everything that is counted about its input goes by it, what the engine counts included.
func TestSourcesGoByTheirNames(t *testing.T) {
	input := func(m *service.Metrics) {
		m.NewGauge("source_info", "source").Set(1, "shop")
		m.NewCounter("source_bytes_total").Incr(512)
		m.NewCounter("source_events_total", "table", "op").Incr(5, "shop.orders", "c")
	}
	url, _ := start(t, components{input: input}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0"}}
input: {broker: {inputs: [{label: db, test_source: {}}, {generate: {count: 1, interval: "", mapping: "root = {}"}}]}}
output: {drop: {}}
`)
	var page string
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the engine counts a connection after the input has made it
		page = scrape(c, url)
		for _, want := range []string{
			`source_info{pipeline="default",source="shop",tenant="default"} 1`,
			`source_bytes_total{pipeline="default",source="shop",tenant="default"} 512`,
			`source_events_total{op="c",pipeline="default",source="shop",table="shop.orders",tenant="default"} 5`,
			`source_connections_total{pipeline="default",source="shop",tenant="default"} 1`,
			`source_connections_total{pipeline="default",source="root.input.broker.inputs.1",tenant="default"} 1`,
		} {
			assert.Contains(c, page, "deltaforge_"+want+"\n")
		}
	}, time.Minute, 10*time.Millisecond)
	require.NotContains(t, page, `source="db"`)
}

// The output counts its own deliveries: what the engine counts about it must not be added.
func TestNoDoubleCounting(t *testing.T) {
	failed := false
	write := func(m *service.Metrics, batch service.MessageBatch) error {
		if !failed {
			failed = true
			m.NewCounter("sink_failures_total", "kind").Incr(1, "too_large")
			return errors.New("too large")
		}
		m.NewCounter("sink_events_total").Incr(int64(len(batch)))
		return nil
	}
	url, _ := start(t, components{write: write}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0"}}
input:
  broker:
    inputs:
      - generate: {count: 4, interval: "", batch_size: 2, mapping: 'root.id = counter()'}
      - test_source: {}
output:
  broker:
    outputs:
      - {label: ours, test_sink: {}}
      - {label: theirs, drop: {}}
`)
	golden(t, url, "deltaforge_sink_", "ownership.prom")
}

const labelledStream = `
http: {enabled: false}
metrics:
  mapping: |
    meta tenant = if @label == "db" { "initech" }
    meta "dataCenter" = "fra"
    root = if this == "output_rejected" { deleted() }
  deltaforge: {address: "127.0.0.1:0", tenant: acme}
input: {label: db, test_source: {}}
output: {label: out, drop: {}}
`

// metrics.mapping sets the tenant of some stats, adds a label, and deletes a stat.
func TestMappingLabels(t *testing.T) {
	url, _ := start(t, components{}, labelledStream)
	golden(t, url, "deltaforge_", "mapping.prom")
}

// A stat without a row keeps its value, in a base unit and under a name that Prometheus accepts.
func TestUnknownStats(t *testing.T) {
	input := func(m *service.Metrics) {
		m.NewCounter("OrdersSeen").Incr(3)
		m.NewCounter("http_request_code_2xx").Incr(2)
		m.NewCounter("wait_ms").Incr(1500)
		m.NewCounter("bytes_total").Incr(9)            // has a row
		m.NewGauge("bytes_total").Set(10)              // has none: another type
		m.NewGauge("bytes").Set(11)                    // would have the same name
		m.NewGauge("queue:size_count").SetFloat64(0.5) // reserved character and suffix
		m.NewTimer("http_request_latency_ns", "le").Timing(40_000_000, "x")
	}
	url, _ := start(t, components{input: input}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0"}}
input: {label: db, test_source: {}}
output: {drop: {}}
`)
	golden(t, url, "deltaforge_engine_", "unknown.prom")
	page := scrape(t, url)
	labels := `{label="db",le_label="x",path="root.input",pipeline="default",tenant="default"`
	require.Contains(t, page, "deltaforge_engine_http_request_latency_seconds_sum"+labels+"} 0.04\n")
	require.Contains(t, page, "deltaforge_bytes_total{pipeline=\"default\",tenant=\"default\"} 9\n")
}

// A gauge set to NaN is withdrawn; gauges of a pipeline are the sum over its sources.
func TestGauges(t *testing.T) {
	n := 0
	input := func(m *service.Metrics) {
		n++
		depth := m.NewGauge("pipeline_channel_depth")
		depth.Set(100)
		depth.Set(int64(n))
		lag := m.NewGauge("source_lag_seconds")
		lag.Set(4)
		if n == 2 {
			lag.SetFloat64(math.NaN())
			m.NewGauge("pipeline_channel_depth").SetFloat64(20.5) // as a component that starts again does
		}
	}
	url, _ := start(t, components{input: input}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0"}}
input:
  broker:
    inputs: [{label: one, test_source: {}}, {label: two, test_source: {}}]
output: {drop: {}}
`)
	page := scrape(t, url)
	require.Equal(t, "deltaforge_pipeline_channel_depth{pipeline=\"default\",tenant=\"default\"} 21.5\n",
		series(page, "deltaforge_pipeline_channel_depth"))
	require.Equal(t, "deltaforge_source_lag_seconds{pipeline=\"default\",source=\"one\",tenant=\"default\"} 4\n",
		series(page, "deltaforge_source_lag_seconds"))
}

func TestTableBound(t *testing.T) {
	input := func(m *service.Metrics) {
		events, lag := m.NewCounter("source_events_total", "table", "op"), m.NewGauge("source_table_lag_seconds", "table")
		for range 2 {
			for _, table := range []string{"a.one", "a.two", "a.three", "a.four"} {
				events.Incr(1, table, "c")
				lag.Set(3, table)
			}
		}
	}
	url, log := start(t, components{input: input}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0", max_tables: 2}}
input: {label: db, test_source: {}}
output: {drop: {}}
`)
	page := scrape(t, url)
	require.Equal(t, `deltaforge_source_events_total{op="c",pipeline="default",source="db",table="__other__",tenant="default"} 4
deltaforge_source_events_total{op="c",pipeline="default",source="db",table="a.one",tenant="default"} 2
deltaforge_source_events_total{op="c",pipeline="default",source="db",table="a.two",tenant="default"} 2
`, series(page, "deltaforge_source_events_total"))
	require.Equal(t, `deltaforge_source_table_lag_seconds{pipeline="default",source="db",table="a.one",tenant="default"} 3
deltaforge_source_table_lag_seconds{pipeline="default",source="db",table="a.two",tenant="default"} 3
`, series(page, "deltaforge_source_table_lag_seconds"))
	require.Equal(t, 1, strings.Count(log.String(), "Too many tables"), log.String())
	require.Contains(t, log.String(), "max_tables=2")
}

// What the reference page says about counting what a pipeline drops.
func TestDroppedByHand(t *testing.T) {
	url, _ := start(t, components{}, `
http: {enabled: false}
metrics: {deltaforge: {address: "127.0.0.1:0"}}
input:
  broker:
    inputs:
      - generate: {count: 10, interval: "", mapping: 'root.id = counter()'}
      - test_source: {}
`+droppingStream)
	golden(t, url, "deltaforge_processor_dropped_total", "dropped_processor.prom")
	golden(t, url, "deltaforge_sink_dropped_total", "dropped_sink.prom")
	golden(t, url, "deltaforge_sink_events_total", "dropped_delivered.prom")
}
