package metrics

import "slices"

// Groups, in the order of the reference page.
const (
	groupProcess    = "Process and pipelines"
	groupSource     = "Sources"
	groupPipeline   = "Batches, stages and checkpoints"
	groupProcessor  = "Processors"
	groupSink       = "Sinks"
	groupControl    = "Control plane"
	groupSupporting = "Caches, buffers, rate limits and batching policies"
)

// table returns every series that has a name, a meaning and a fixed set of labels.
func table() []row {
	return slices.Concat(processRows(), sourceRows(), pipelineRows(), processorRows(), sinkRows(), controlRows(), supportingRows())
}

func processRows() []row {
	return []row{
		{
			group: groupProcess, series: "build_info", kind: gaugeKind, process: true,
			labels: []string{"version", "commit", "go_version"},
			help:   "Always 1; the labels say which build runs.",
		},
		{
			group: groupProcess, series: "panics_total", kind: counterKind, labels: []string{"component"}, component: "component",
			help: "Panics caught in a goroutine of the component, which then fails with an error and reconnects.",
		},
		{
			group: groupProcess, series: "pipelines", kind: gaugeKind, process: true, labels: []string{"status"},
			help: "Pipelines by status: running, paused, stopped, failed.",
		},
		{
			group: groupProcess, series: "pipeline_status", kind: gaugeKind, lifetime: true,
			help: "1 running, 0.5 paused, 0 stopped, -1 failed and in need of a person.",
		},
		{
			group: groupProcess, series: "pipeline_info", kind: gaugeKind, labels: []string{"source_type"},
			help: "Always 1, for joins.",
		},
	}
}

func sourceRows() []row {
	r := func(series string, k kind, help string, labels ...string) row {
		return row{
			group: groupSource, series: series, kind: k, help: help,
			labels: append([]string{"source"}, labels...), component: "source",
		}
	}
	return []row{
		r("source_events_total", counterKind,
			"Events handed to the coordinator; op is c, u, d, r, t, m, or s for a change of a table's shape. A foreign input has neither table nor op and counts messages.",
			"table", "op").fedBy("input_received", nil),
		r(sourceInfo, gaugeKind, "Always 1; there is one for each source of ours, by the name of its configuration."),
		r("source_bytes_total", counterKind, "Bytes read from the log, filtered tables included."),
		r("source_connections_total", counterKind, "Connections that were established.").fedBy("input_connection_up", nil),
		r("source_reconnects_total", counterKind,
			"Sessions that ended and were followed by another one; for a foreign input, connections lost.").
			fedBy("input_connection_lost", nil),
		r("source_errors_total", counterKind,
			"Errors by kind: auth, permission, connect, timeout, protocol, schema, position_lost, decode, other. "+
				"A foreign input has only connect.",
			"kind").fedBy("input_connection_failed", fixed{"kind": "connect"}),
		r("source_ack_latency_seconds", timerKind, "From handing a batch to the pipeline to its acknowledgement.").
			with(latencyBuckets).fedBy("input_latency_ns", nil),
		r("source_lag_seconds", gaugeKind, "Age of the oldest commit that is not delivered and saved; 0 only when there is none and the server "+
			"has told that its end is reached."),
		r("source_read_lag_seconds", gaugeKind,
			"Now minus the commit time of the last commit read; 0 once the server has told that its end is reached."),
		r("source_lag_bytes", gaugeKind, "The server's end of the log minus the position saved."),
		r("source_table_lag_seconds", gaugeKind, "As source_lag_seconds, for the commits that touched the table.", "table"),
		r("source_idle_seconds", gaugeKind, "Seconds since the last row event; 0 while rows flow."),
		r("source_schema_changes_total", counterKind, "Schema versions made by DDL or by a new Relation message.", "table"),
		r("snapshot_rows_total", counterKind, "Rows read by a snapshot, counted as they are read.", "table"),
		r("snapshot_progress_ratio", gaugeKind, "How much of a table is delivered, 0 to 1, measured against the estimate taken at the start of its snapshot.", "table"),
	}
}

func pipelineRows() []row {
	r := func(series string, k kind, help string, labels ...string) row {
		return row{group: groupPipeline, series: series, kind: k, help: help, labels: labels}
	}
	perSource := func(series string, k kind, help string) row {
		return row{group: groupPipeline, series: series, kind: k, help: help, labels: []string{"source"}, component: "source"}
	}
	return []row{
		r("batch_events", timerKind, "Events of each batch handed to the pipeline.").with(eventBuckets),
		r("batch_bytes", timerKind, "Payload bytes of each batch handed to the pipeline.").with(byteBuckets),
		r("bytes_total", counterKind, "Payload bytes handed to the pipeline."),
		r("stage_latency_seconds", timerKind,
			"Time a batch spends in a stage: decode, batch, process (to an output of ours), deliver (to its acknowledgement; with a "+
				"foreign output the processors included), commit. trigger is what cut the batch: events, bytes, timer, transaction.",
			"stage", "trigger").with(latencyBuckets),
		r("pipeline_channel_depth", gaugeKind, "Events waiting between source and pipeline.").summed(),
		r("pipeline_channel_capacity", gaugeKind, "The most events that can wait between source and pipeline.").summed(),
		r("batches_in_flight", gaugeKind, "Batches delivered to the pipeline and not yet acknowledged.").summed(),
		r("e2e_latency_seconds", timerKind,
			"From the moment the last byte of an event was read to the moment its batch was acknowledged by the output.").
			with(latencyBuckets),
		perSource("checkpoint_success_total", counterKind, "Saves of the position that succeeded."),
		perSource("checkpoint_failure_total", counterKind, "Saves of the position that failed."),
		perSource("checkpoint_latency_seconds", timerKind, "Duration of one save of the position.").with(latencyBuckets),
		perSource("last_checkpoint_timestamp_seconds", gaugeKind, "Unix time of the last successful save of the position."),
	}
}

func processorRows() []row {
	r := func(series string, k kind, help string, labels ...string) row {
		return row{
			group: groupProcessor, series: series, kind: k, help: help,
			labels: append([]string{"processor"}, labels...), component: "processor",
		}
	}
	return []row{
		r("processor_latency_seconds", timerKind, "Duration of one invocation.").with(latencyBuckets).fedBy("processor_latency_ns", nil),
		r("processor_events_in_total", counterKind, "Events that entered.").fedBy("processor_received", nil),
		r("processor_events_out_total", counterKind, "Events that left.").fedBy("processor_sent", nil),
		r("processor_batches_in_total", counterKind, "Batches that entered.").fedBy("processor_batch_received", nil),
		r("processor_batches_out_total", counterKind, "Batches that left.").fedBy("processor_batch_sent", nil),
		r("processor_errors_total", counterKind, "Events that failed in the processor.").fedBy("processor_error", nil),
		r("processor_dropped_total", counterKind, "Events the processor removed, by its own reason.", "reason").
			remarked("Our own processors count what they drop; for others: [what you drop yourself](#what-you-drop-yourself)."),
	}
}

func sinkRows() []row {
	r := func(series string, k kind, help string, labels ...string) row {
		return row{
			group: groupSink, series: series, kind: k, help: help,
			labels: append([]string{"sink"}, labels...), component: "sink",
		}
	}
	return []row{
		r("sink_events_total", counterKind, "Events acknowledged by the server.").fedBy("output_sent", nil),
		r("sink_batch_total", counterKind, "Batches acknowledged by the server.").fedBy("output_batch_sent", nil),
		r("sink_bytes_total", counterKind, "Bytes of the messages acknowledged by the server: keys, payloads, headers or fields."),
		r("sink_latency_seconds", timerKind, "Duration of one delivery, success or failure; of a foreign output, successes only.").
			with(latencyBuckets).fedBy("output_latency_ns", nil),
		r("sink_failures_total", counterKind,
			"Failures by kind: auth, permission, connect, timeout, serialization, routing, too_large, backpressure, unknown_topic, "+
				"fenced, out_of_memory, readonly, other. A foreign output has only connect and other.",
			"kind").fedBy("output_error", fixed{"kind": "other"}).fedBy("output_connection_failed", fixed{"kind": "connect"}),
		r("sink_retries_total", counterKind, "Deliveries that were tried again."),
		r("sink_connections_total", counterKind, "Connections that were established.").fedBy("output_connection_up", nil),
		r("sink_reconnects_total", counterKind, "Connections that were lost and made again.").fedBy("output_connection_lost", nil),
		r("sink_rejected_total", counterKind,
			"Events sent back because a processor had failed on them and error handling is strict.").fedBy("output_rejected", nil).
			remarked("Strict is `error_handling: {strict: true}` of the process; each attempt counts."),
		r("sink_dropped_total", counterKind, "Events the output skipped on purpose, by reason; never an error.", "reason").
			remarked(byHand),
		r("sink_buffer_events", gaugeKind, "Events the client library holds unsent."),
		r("sink_buffer_bytes", gaugeKind, "Bytes the client library holds unsent."),
		r("sink_buffer_limit_bytes", gaugeKind, "The most bytes the client library holds unsent."),
		r("dead_letter_events_total", counterKind, "Events that could not be delivered and were kept."),
		r("dead_letter_evicted_total", counterKind, "Dead letters that were dropped; reason is age (max_age) or full (when_full: drop_oldest).", "reason"),
		r("dead_letter_entries", gaugeKind, "Dead letters of the pipeline in the file of the output."),
		r("dead_letter_bytes", gaugeKind, "Bytes of these."),
		r("dead_letter_oldest_seconds", gaugeKind, "Age of the oldest of these, from its first failure; 0 when there is none."),
		r("spool_events", gaugeKind, "Events that a late output of deltaforge_fanout has still to deliver.", "output"),
		r("spool_bytes", gaugeKind, "Bytes of these on the disk.", "output"),
		r("spool_dropped_total", counterKind, "Events that a late output never gets, because its part of the spool was full.", "output"),
		r("spool_retries_total", counterKind, "Deliveries to a late output that failed and are tried again.", "output"),
		r("sink_txn_commits_total", counterKind, "Transactions committed; with exactly_once only."),
		r("sink_txn_aborts_total", counterKind, "Attempts at a transaction of which nothing is in the sink; with exactly_once only."),
	}
}

func controlRows() []row {
	return []row{
		{
			group: groupControl, series: "api_requests_total", kind: counterKind, process: true,
			labels: []string{"route", "method", "status"},
			help:   "Requests to the HTTP API; route is the template, never the raw path.",
		},
		{
			group: groupControl, series: "api_request_duration_seconds", kind: timerKind, process: true,
			labels: []string{"route", "method"}, buckets: latencyBuckets,
			help: "Duration of requests to the HTTP API.",
		},
		{
			group: groupControl, series: "pipeline_lifecycle_total", kind: counterKind,
			labels: []string{"action", "outcome"},
			help:   "Lifecycle actions: create, update, patch, pause, resume, stop, delete; outcome is success or error.",
		},
	}
}

// supportingRows are the engine's own components that are neither source, processor nor sink.
func supportingRows() []row {
	r := func(component, series string, k kind, help string, labels ...string) row {
		return row{
			group: groupSupporting, series: series, kind: k, help: help,
			labels: append([]string{component}, labels...), component: component,
		}
	}
	return []row{
		r("cache", "cache_operations_total", counterKind,
			"Cache operations; operation is get, set, add or delete, outcome is success, error, not_found or duplicate.",
			"operation", "outcome").
			fedBy("cache_success", fixed{"outcome": "success"}).fedBy("cache_error", fixed{"outcome": "error"}).
			fedBy("cache_not_found", fixed{"outcome": "not_found"}).fedBy("cache_duplicate", fixed{"outcome": "duplicate"}),
		r("cache", "cache_latency_seconds", timerKind, "Duration of one cache operation.", "operation").
			with(latencyBuckets).fedBy("cache_latency_ns", nil),
		r("buffer", "buffer_events_in_total", counterKind, "Events written to the buffer.").fedBy("buffer_received", nil),
		r("buffer", "buffer_events_out_total", counterKind, "Events read from the buffer.").fedBy("buffer_sent", nil),
		r("buffer", "buffer_batches_in_total", counterKind, "Batches written to the buffer.").fedBy("buffer_batch_received", nil),
		r("buffer", "buffer_batches_out_total", counterKind, "Batches read from the buffer.").fedBy("buffer_batch_sent", nil),
		r("buffer", "buffer_latency_seconds", timerKind, "From reading a batch from the buffer to its acknowledgement.").
			with(latencyBuckets).fedBy("buffer_latency_ns", nil),
		r("rate_limit", "rate_limit_checked_total", counterKind, "Times the rate limit was asked.").fedBy("rate_limit_checked", nil),
		r("rate_limit", "rate_limit_triggered_total", counterKind, "Times the rate limit made somebody wait.").
			fedBy("rate_limit_triggered", nil),
		r("rate_limit", "rate_limit_errors_total", counterKind, "Times the rate limit could not be read.").fedBy("rate_limit_error", nil).
			remarked("The engine's own rate limit `local` cannot fail; one that asks a server can."),
		r("component", "batches_created_total", counterKind,
			"Batches a batching policy of the engine made; mechanism is size, count, period or check.", "mechanism").
			fedBy("batch_created", nil),
	}
}

// fedBy returns the row with one more stat of the engine.
func (r row) fedBy(stat string, f fixed) row {
	r.feeds = append(slices.Clip(r.feeds), feed{stat: stat, fixed: f})
	return r
}

// with returns the row with its buckets.
func (r row) with(b bucketSet) row {
	r.buckets = b
	return r
}

// summed returns the row as one whose components add up.
func (r row) summed() row {
	r.sum = true
	return r
}

// byHand is about the series that a pipeline's author feeds.
const byHand = "Counted where the pipeline says so: [what you drop yourself](#what-you-drop-yourself)."

// remarked returns the row with a remark for the reference page.
func (r row) remarked(text string) row {
	r.remark = text
	return r
}
