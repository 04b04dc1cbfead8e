package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/deltaforge/deltaforge/metrics"
)

// scenarios says which test makes a series take a known value in the real binary between real servers, and asserts it from
// the page. The tests themselves check that they do.
func scenarios() map[string]string {
	all := map[string]string{}
	for test, series := range map[string][]string{
		"TestOperatorCounts": {
			"build_info", "pipeline_info",
			"source_events_total", "source_bytes_total", "source_connections_total", "source_ack_latency_seconds",
			"source_info", "source_lag_seconds", "source_lag_bytes", "source_table_lag_seconds", "source_idle_seconds",
			"source_schema_changes_total", "panics_total",
			"batch_events", "batch_bytes", "bytes_total", "stage_latency_seconds", "pipeline_channel_capacity",
			"e2e_latency_seconds", "checkpoint_success_total", "checkpoint_latency_seconds", "last_checkpoint_timestamp_seconds",
			"processor_latency_seconds", "processor_events_in_total", "processor_events_out_total",
			"processor_batches_in_total", "processor_batches_out_total",
			"sink_events_total", "sink_batch_total", "sink_bytes_total", "sink_latency_seconds", "sink_connections_total",
			"sink_buffer_limit_bytes",
			"api_requests_total", "api_request_duration_seconds", "pipeline_lifecycle_total",
		},
		"TestOperatorFaults": {
			"source_reconnects_total", "source_errors_total", "pipeline_channel_depth", "batches_in_flight",
			"checkpoint_failure_total", "sink_failures_total", "sink_retries_total", "sink_reconnects_total",
			"sink_buffer_events", "sink_buffer_bytes",
		},
		"TestOperatorEngineSeries": {
			"processor_errors_total",
			"cache_operations_total", "cache_latency_seconds",
			"buffer_events_in_total", "buffer_events_out_total", "buffer_batches_in_total", "buffer_batches_out_total",
			"buffer_latency_seconds",
			"rate_limit_checked_total", "rate_limit_triggered_total", "batches_created_total",
			"processor_dropped_total", "sink_dropped_total",
		},
		"TestOperatorDeadLetters": {
			"dead_letter_events_total", "dead_letter_evicted_total", "dead_letter_entries", "dead_letter_bytes", "dead_letter_oldest_seconds",
		},
		"TestOperatorExactlyOnce": {"sink_txn_commits_total", "sink_txn_aborts_total"},
		"TestOperatorFanout":      {"spool_events", "spool_bytes", "spool_dropped_total", "spool_retries_total"},
		"TestOperatorLag":         {"source_read_lag_seconds"},
		"TestOperatorSnapshot":    {"snapshot_rows_total", "snapshot_progress_ratio"},
		"TestOperatorFailed":      {"pipelines", "pipeline_status"},
		"TestOperatorStrict":      {"sink_rejected_total"},
		"TestOperatorGuest":       {"rate_limit_errors_total"},
	} {
		for _, s := range series {
			all["deltaforge_"+s] = test
		}
	}
	return all
}

// Every series has a scenario.
func TestEverySeriesHasAScenario(t *testing.T) {
	known := map[string]bool{}
	for _, s := range metrics.AllSeries() {
		known[s.Name] = true
		_, shown := scenarios()[s.Name]
		assert.True(t, shown, "%s wants a scenario", s.Name)
	}
	for name := range scenarios() {
		assert.True(t, known[name], "%s is no series", name)
	}
}
