package grafana

func batching() []Panel {
	return []Panel{
		{
			Title: "Batch size", Unit: unitShort,
			Help: "Events of a batch. Very small under load: the source's transactions are tiny or batch.max_ms is too short.",
			Queries: []Query{
				{quantile(0.5, "deltaforge_batch_events", "@pipeline", "pipeline"), "{{pipeline}} median"},
				{quantile(0.99, "deltaforge_batch_events", "@pipeline", "pipeline"), "{{pipeline}} 99 %"},
			},
		},
		{
			Title: "Batch bytes", Unit: unitBytes,
			Help: "Payload of a batch. Near the sink's request limit: lower batch.max_bytes before it refuses batches as too large.",
			Queries: []Query{
				{quantile(0.5, "deltaforge_batch_bytes", "@pipeline", "pipeline"), "{{pipeline}} median"},
				{quantile(0.99, "deltaforge_batch_bytes", "@pipeline", "pipeline"), "{{pipeline}} 99 %"},
			},
		},
		{
			Title: "Batches by trigger", Unit: unitEvents, Stack: true,
			Help:    "Batches a second by what ended them. events or bytes: the limits are reached, larger ones may be faster. timer: traffic is thin. transaction: the log had nothing more to give.",
			Queries: []Query{{`sum by (trigger) (rate(deltaforge_stage_latency_seconds_count{@pipeline, stage="batch"}[$__rate_interval]))`, "{{trigger}}"}},
		},
		{
			Title: "Batches in flight", Unit: unitShort,
			Help:    "Delivered to the pipeline and not yet acknowledged. Flat above 0 with nothing delivered: the sink hangs, see Sink failures by kind.",
			Queries: []Query{{`sum by (pipeline) (deltaforge_batches_in_flight{@pipeline})`, "{{pipeline}}"}},
		},
		{
			Title: "Pipeline channel usage", Unit: unitRatio, Max: 1,
			Help: "Full: processors or sink are slower than the database writes, and the source waits for them. Empty while lag grows: reading or decoding is the limit.",
			Queries: []Query{{
				`sum by (pipeline) (deltaforge_pipeline_channel_depth{@pipeline}) / sum by (pipeline) (deltaforge_pipeline_channel_capacity{@pipeline})`,
				"{{pipeline}}",
			}},
		},
		{
			Title: "Sink buffer usage", Unit: unitRatio, Max: 1, Yellow: 0.5, Red: 0.8,
			Help: "Unsent bytes in the client library against its bound. The first sign of backpressure: look at the sink server's load before the source stalls.",
			Queries: []Query{{
				`sum by (pipeline, sink) (deltaforge_sink_buffer_bytes{@sink}) / sum by (pipeline, sink) (deltaforge_sink_buffer_limit_bytes{@sink})`,
				"{{pipeline}}/{{sink}}",
			}},
		},
		{
			Title: "Sink buffer events", Unit: unitShort, Width: 12,
			Help:    "Events that the client library holds unsent. Growing: the sink takes less than it is given.",
			Queries: []Query{{`sum by (pipeline, sink) (deltaforge_sink_buffer_events{@sink})`, "{{pipeline}}/{{sink}}"}},
		},
		{
			Title: "Events per delivery", Unit: unitShort, Width: 12,
			Help: "Mean number of events of an acknowledged batch. About 1 under load: an output policy splits batches; remove it.",
			Queries: []Query{{
				rate("deltaforge_sink_events_total", "@sink", "pipeline, sink") + " / " + rate("deltaforge_sink_batch_total", "@sink", "pipeline, sink"),
				"{{pipeline}}/{{sink}}",
			}},
		},
	}
}

func failures() []Panel {
	return []Panel{
		{
			Title: "Source errors by kind", Unit: unitPerHour,
			Help:    "Errors in an hour. auth, permission: the account. position_lost: the log is gone. decode, schema: a defect or an unsupported change; the log names table and position. Others heal by reconnecting.",
			Queries: []Query{{increase("deltaforge_source_errors_total", "@source", "pipeline, source, kind"), "{{pipeline}}/{{source}} {{kind}}"}},
		},
		{
			Title: "Sink failures by kind", Unit: unitPerHour,
			Help:    "Failed deliveries in an hour; nothing is lost, they are tried again. connect, timeout, backpressure: the server. auth, permission, unknown_topic, too_large, readonly: its configuration.",
			Queries: []Query{{increase("deltaforge_sink_failures_total", "@sink", "pipeline, sink, kind"), "{{pipeline}}/{{sink}} {{kind}}"}},
		},
		{
			Title: "Reconnects", Unit: unitPerHour,
			Help: "New sessions in an hour. A handful is a restart of the server; a steady stream is a proxy or firewall that cuts connections, or a setting the server refuses.",
			Queries: []Query{
				{increase("deltaforge_source_reconnects_total", "@source", "pipeline, source"), "{{pipeline}}/{{source}} source"},
				{increase("deltaforge_sink_reconnects_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}} sink"},
			},
		},
		{
			Title: "Retries", Unit: unitPerHour,
			Help:    "Deliveries tried again in an hour. Without failures beside them they healed; growing, the sink is overloaded.",
			Queries: []Query{{increase("deltaforge_sink_retries_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}}"}},
		},
		{
			Title: "Processor errors", Unit: unitPerHour,
			Help:    "Events in an hour on which a processor failed. Log lines of the processor show the event and the reason; route them with a catch or a dead-letter output.",
			Queries: []Query{{increase("deltaforge_processor_errors_total", "@processor", "pipeline, processor"), "{{pipeline}}/{{processor}}"}},
		},
		{
			Title: "Events rejected by strict error handling", Unit: unitPerHour,
			Help:    "Events in an hour that a sink refused because a processor had failed on them. They block the pipeline until the processor handles them.",
			Queries: []Query{{increase("deltaforge_sink_rejected_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}}"}},
		},
		{
			Title: "Panics", Unit: unitPerHour, Width: 12,
			Help:    "Panics caught in an hour, by component. A defect: the log has the stack. The pipeline went on by itself unless it panics again and again.",
			Queries: []Query{{increase("deltaforge_panics_total", "@pipeline", "pipeline, component"), "{{pipeline}} {{component}}"}},
		},
		{
			Title: "Schema changes", Unit: unitPerHour, Width: 12,
			Help:    "New versions of table schemas in an hour. Errors that begin here come from a migration: tell the consumers' owners.",
			Queries: []Query{{increase("deltaforge_source_schema_changes_total", "@source", "pipeline, table"), "{{pipeline}} {{table}}"}},
		},
	}
}

func snapshots() []Panel {
	return []Panel{
		{
			Title: "Snapshot progress by table", Kind: "bargauge", Unit: unitRatio, Max: 1,
			Help:    "Share of the rows estimated at the start that is delivered. Standing still with Snapshot rows read at 0: paused, or it waits; the log says for what (Snapshot of … has to wait).",
			Queries: []Query{{`min by (pipeline, table) (deltaforge_snapshot_progress_ratio{@source})`, "{{pipeline}} {{table}}"}},
		},
		{
			Title: "Snapshot rows read", Unit: unitEvents,
			Help:    "Rows a second, the ten busiest tables. Slow with a busy sink: the sink bounds it. Slow with an idle sink: the database's disk, or max_rows_per_second.",
			Queries: []Query{{"topk(10, " + rate("deltaforge_snapshot_rows_total", "@source", "pipeline, table") + ")", "{{pipeline}} {{table}}"}},
		},
		{
			Title: "Snapshot time remaining", Unit: unitSeconds,
			Help: "Time left at the speed of the last ten minutes. Days: raise max_parallel_chunks. The stream goes on meanwhile.",
			Queries: []Query{{
				`(1 - min by (pipeline, table) (deltaforge_snapshot_progress_ratio{@source})) / ` +
					`(min by (pipeline, table) (deriv(deltaforge_snapshot_progress_ratio{@source}[10m])) > 0)`,
				"{{pipeline}} {{table}}",
			}},
		},
	}
}

func control() []Panel {
	return []Panel{
		{
			Title: "API requests", Unit: unitRequests, Width: 12, Stack: true,
			Help:    "Requests a second by route and status. Many 401: a client with an old token. 5xx: the log has the reason beside the request id.",
			Queries: []Query{{rate("deltaforge_api_requests_total", "@process", "route, method, status"), "{{method}} {{route}} {{status}}"}},
		},
		{
			Title: "API latency", Unit: unitSeconds, Width: 12, Red: 5,
			Help:    "95th percentile by route. Creating and stopping a pipeline waits for its connections; anything else that is slow means a process short of processor time.",
			Queries: []Query{{quantile(0.95, "deltaforge_api_request_duration_seconds", "@process", "route, method"), "{{method}} {{route}}"}},
		},
		{
			Title: "API errors", Unit: unitRatio, Width: 12, Max: 1, Red: 0.05,
			Help: "Share of requests that were answered with 4xx or 5xx. Find the route above and the caller in the audit log.",
			Queries: []Query{{
				`sum by (route) (rate(deltaforge_api_requests_total{@process, status=~"[45].."}[$__rate_interval])) / ` +
					rate("deltaforge_api_requests_total", "@process", "route"), "{{route}}",
			}},
		},
		{
			Title: "Lifecycle actions", Unit: unitPerHour, Width: 12,
			Help:    "What was done to pipelines in an hour, and whether it worked. Errors: the answer to the request said why; the audit log has the caller.",
			Queries: []Query{{increase("deltaforge_pipeline_lifecycle_total", "@pipeline", "action, outcome"), "{{action}} {{outcome}}"}},
		},
	}
}
