package grafana

import "fmt"

// Rows returns the dashboard's rows from top to bottom.
func Rows() []Row {
	return []Row{
		{"Fleet overview", fleet()},
		{"Throughput", throughput()},
		{"Lag", lag()},
		{"Latency", latency()},
		{"Checkpoints", checkpoints()},
		{"Batching", batching()},
		{"Errors", failures()},
		{"Snapshot progress", snapshots()},
		{"Control plane", control()},
	}
}

// Grafana's names of units.
const (
	unitNone     = "none"
	unitShort    = "short"
	unitSeconds  = "s"
	unitBytes    = "bytes"
	unitByteRate = "Bps"
	unitEvents   = "cps" // counts a second
	unitRequests = "reqps"
	unitPerHour  = "short"
	unitRatio    = "percentunit"
)

// rate sums the rate of a counter by labels.
func rate(series, matcher, by string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s{%s}[$__rate_interval]))", by, series, matcher)
}

// increase sums what a counter has gained in an hour, for incidents that are too rare for a rate to be read.
func increase(series, matcher, by string) string {
	return fmt.Sprintf("sum by (%s) (increase(%s{%s}[1h]))", by, series, matcher)
}

// quantile estimates a quantile of a histogram by labels.
func quantile(q float64, histogram, matcher, by string) string {
	if by != "" {
		by = ", " + by
	}
	return fmt.Sprintf("histogram_quantile(%v, sum by (le%s) (rate(%s_bucket{%s}[$__rate_interval])))", q, by, histogram, matcher)
}

// ours keeps the processes that are DeltaForge's of a series that every Go program has.
func ours(expr string) string {
	return expr + " and on (job, instance) deltaforge_build_info{@process}"
}

func fleet() []Panel {
	return []Panel{
		{
			Title: "Failed pipelines", Kind: "stat", Width: 4, Unit: unitNone, Red: 1,
			Help:    "Pipelines that stopped for good and wait for a person. Above 0: open Pipeline status over time to see which, then /ready for its reason.",
			Queries: []Query{{`count(deltaforge_pipeline_status{@pipeline} == -1) or vector(0)`, "failed"}},
		},
		{
			Title: "Pipelines by status", Kind: "stat", Width: 6, Unit: unitNone,
			Help:    "How many pipelines run, are paused, stopped or failed. A number that changed with nobody at work: look at Lifecycle actions, below.",
			Queries: []Query{{`sum by (status) (deltaforge_pipelines{@process})`, "{{status}}"}},
		},
		{
			Title: "Maximum source lag", Kind: "stat", Width: 4, Unit: unitSeconds, Yellow: 60, Red: 900,
			Help:    "The greatest lag of any source. When it is red, the row Lag says which source and the row Latency what holds it up.",
			Queries: []Query{{`max(deltaforge_source_lag_seconds{@source})`, "lag"}},
		},
		{
			Title: "Delivery rate", Kind: "stat", Width: 5, Unit: unitEvents,
			Help:    "Events a second that all sinks acknowledged. At 0 with lag above 0 nothing leaves: look at Sink failures by kind.",
			Queries: []Query{{`sum(rate(deltaforge_sink_events_total{@sink}[$__rate_interval]))`, "events"}},
		},
		{
			Title: "Panics in 24 hours", Kind: "stat", Width: 5, Unit: unitNone, Red: 1,
			Help:    "Defects that were caught; the pipeline went on. Above 0: find `panic` in the log and report the stack.",
			Queries: []Query{{`sum(increase(deltaforge_panics_total{@pipeline}[1d])) or vector(0)`, "panics"}},
		},
		{
			Title: "Pipeline status over time", Kind: "state-timeline", Width: 16, Unit: unitNone,
			Help:     "Red is failed: it does not restart by itself; ask GET /ready for the reason. Paused and stopped are somebody's doing; the audit log says whose.",
			Mappings: map[string]string{"1": "running", "0.5": "paused", "0": "stopped", "-1": "failed"},
			Queries:  []Query{{`max by (tenant, pipeline) (deltaforge_pipeline_status{@pipeline})`, "{{tenant}}/{{pipeline}}"}},
		},
		{
			Title: "Pipelines by source type", Kind: "bargauge", Unit: unitNone,
			Help:    "How many pipelines read from which kind of database. For orientation; nothing here is bad.",
			Queries: []Query{{`count by (source_type) (deltaforge_pipeline_info{@pipeline})`, "{{source_type}}"}},
		},
		{
			Title: "Build versions", Kind: "table", Width: 12, Unit: unitNone,
			Help:    "One line a process. Two versions for longer than a rollout takes: the rollout is stuck.",
			Queries: []Query{{`max by (instance, version, commit, go_version) (deltaforge_build_info{@process})`, ""}},
		},
		{
			Title: "CPU usage", Width: 6, Unit: unitShort,
			Help:    "Cores in use by each process. At the number of cores it has, decoding is the limit: give it more, or move pipelines to another process.",
			Queries: []Query{{ours(`rate(process_cpu_seconds_total{@process}[$__rate_interval])`), "{{instance}}"}},
		},
		{
			Title: "Resident memory", Width: 6, Unit: unitBytes,
			Help:    "Resident memory of each process. When it only grows: compare with Batches in flight and Sink buffer usage; lower batch.max_bytes if a few large batches hold it.",
			Queries: []Query{{ours(`process_resident_memory_bytes{@process}`), "{{instance}}"}},
		},
	}
}

func throughput() []Panel {
	return []Panel{
		{
			Title: "Rows read", Unit: unitEvents,
			Help:    "Rows a second that each source hands on. 0 while the database writes: compare Log read; if that moves, a filter removes the tables.",
			Queries: []Query{{rate("deltaforge_source_events_total", "@source", "pipeline, source"), "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Rows read by operation", Unit: unitEvents, Stack: true,
			Help:    "c create, u update, d delete, r snapshot read, t truncate, m message. A flood of one kind is usually a bulk job in the database: find its owner.",
			Queries: []Query{{rate("deltaforge_source_events_total", "@source", "op"), "{{op}}"}},
		},
		{
			Title: "Busiest tables", Unit: unitEvents,
			Help:    "The ten tables with most rows a second. One that nobody needs belongs out of the source's table list.",
			Queries: []Query{{"topk(10, " + rate("deltaforge_source_events_total", "@source", "pipeline, table") + ")", "{{pipeline}} {{table}}"}},
		},
		{
			Title: "Log read", Unit: unitByteRate,
			Help:    "Bytes a second read from the database's log, other tables' included. 0 while the database writes: the source is not connected or is blocked by the sink.",
			Queries: []Query{{rate("deltaforge_source_bytes_total", "@source", "pipeline, source"), "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Events delivered", Unit: unitEvents,
			Help:    "Events a second that each sink acknowledged. Below Rows read for long: the sink is the bottleneck, see Sink delivery latency.",
			Queries: []Query{{rate("deltaforge_sink_events_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}}"}},
		},
		{
			Title: "Payload throughput", Unit: unitByteRate,
			Help: "Bytes a second handed to the pipeline and acknowledged by the sink. Far more out than in: an envelope with before images, or a fan-out; check the network's limit.",
			Queries: []Query{
				{rate("deltaforge_bytes_total", "@pipeline", "pipeline"), "{{pipeline}} in"},
				{rate("deltaforge_sink_bytes_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}} out"},
			},
		},
		{
			Title: "Processor output ratio", Unit: unitRatio, Width: 12,
			Help: "Events that leave each processor for one that enters. A filter that suddenly passes nothing was changed or meets a new schema.",
			Queries: []Query{{
				rate("deltaforge_processor_events_out_total", "@processor", "pipeline, processor") + " / " +
					rate("deltaforge_processor_events_in_total", "@processor", "pipeline, processor"), "{{pipeline}}/{{processor}}",
			}},
		},
		{
			Title: "Dropped events by reason", Unit: unitEvents, Width: 12,
			Help: "Events a second that a processor or sink dropped, by its reason. Not an error; a reason you did not configure is worth a look at that component's settings.",
			Queries: []Query{
				{rate("deltaforge_processor_dropped_total", "@processor", "pipeline, processor, reason"), "{{pipeline}}/{{processor}} {{reason}}"},
				{rate("deltaforge_sink_dropped_total", "@sink", "pipeline, sink, reason"), "{{pipeline}}/{{sink}} {{reason}}"},
			},
		},
	}
}

func lag() []Panel {
	return []Panel{
		{
			Title: "Source lag", Unit: unitSeconds, Width: 12, Yellow: 60, Red: 900,
			Help:    "Age of the oldest commit that is not delivered and saved; 0 only when there is none. In step with the clock: nothing is delivered; if the reading is late too, look at Reconnects and Source errors by kind, else at the sink. Slowly up: more is written than delivered, see Latency by stage. A paused, stopped or failed pipeline keeps its lag.",
			Queries: []Query{{`max by (pipeline, source) (deltaforge_source_lag_seconds{@source})`, "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Source read lag", Unit: unitSeconds, Width: 12, Yellow: 60, Red: 900,
			Help:    "Age of the last commit read; 0 at the end of the log. Late here: the database cannot be read, or the output takes less than is written and the reading waits for it.",
			Queries: []Query{{`max by (pipeline, source) (deltaforge_source_read_lag_seconds{@source})`, "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Retained log size", Unit: unitBytes, Width: 12, Yellow: 1 << 30, Red: 10 << 30,
			Help:    "From the saved position to the end of the log. On PostgreSQL it fills the database's disk: get the pipeline going or, as a last resort, drop the slot and take a new snapshot.",
			Queries: []Query{{`max by (pipeline, source) (deltaforge_source_lag_bytes{@source})`, "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Tables with the greatest lag", Unit: unitSeconds, Width: 12,
			Help:    "Age of the oldest commit of each table that is not delivered and saved, the ten worst. One table alone: a large transaction on it; find the job that made it.",
			Queries: []Query{{`topk(10, max by (pipeline, table) (deltaforge_source_table_lag_seconds{@source}))`, "{{pipeline}} {{table}}"}},
		},
		{
			Title: "Source idle time", Unit: unitSeconds, Width: 12,
			Help:    "Time since the last row. Normal on a quiet database. If the database does write: check the table list and, on PostgreSQL, the publication.",
			Queries: []Query{{`max by (pipeline, source) (deltaforge_source_idle_seconds{@source})`, "{{pipeline}}/{{source}}"}},
		},
	}
}

func latency() []Panel {
	return []Panel{
		{
			Title: "End-to-end latency", Unit: unitSeconds, Red: 10,
			Help: "End-to-end latency of events inside DeltaForge. High with Sink delivery latency high: the sink. High alone: batches wait, see Latency by stage.",
			Queries: []Query{
				{quantile(0.5, "deltaforge_e2e_latency_seconds", "@pipeline", "pipeline"), "{{pipeline}} median"},
				{quantile(0.99, "deltaforge_e2e_latency_seconds", "@pipeline", "pipeline"), "{{pipeline}} 99 %"},
			},
		},
		{
			Title: "End-to-end latency distribution", Kind: "heatmap", Unit: unitSeconds,
			Help:    "Each column is the distribution at that time. Two bands: some batches meet a slow partition, shard or processor.",
			Queries: []Query{{`sum by (le) (increase(deltaforge_e2e_latency_seconds_bucket{@pipeline}[$__rate_interval]))`, "{{le}}"}},
		},
		{
			Title: "Latency by stage", Unit: unitSeconds,
			Help:    "95th percentile of each stage of a batch. decode: more processor time. batch: lower batch.max_ms. process: the slowest processor. deliver: the sink. commit: the checkpoint store.",
			Queries: []Query{{quantile(0.95, "deltaforge_stage_latency_seconds", "@pipeline", "pipeline, stage"), "{{pipeline}} {{stage}}"}},
		},
		{
			Title: "Sink delivery latency", Unit: unitSeconds,
			Help:    "95th percentile of one delivery, failures included for our sinks. Up: the sink's own load or the network; compare with that server's dashboard.",
			Queries: []Query{{quantile(0.95, "deltaforge_sink_latency_seconds", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}}"}},
		},
		{
			Title: "Processor latency", Unit: unitSeconds,
			Help:    "95th percentile of one invocation. The slowest one bounds the pipeline: simplify it, or raise pipeline.threads if order does not matter.",
			Queries: []Query{{quantile(0.95, "deltaforge_processor_latency_seconds", "@processor", "pipeline, processor"), "{{pipeline}}/{{processor}}"}},
		},
		{
			Title: "Batch acknowledgement latency", Unit: unitSeconds,
			Help:    "95th percentile from the hand-over of a batch to its acknowledgement. Retries inside the sink count: see Retries.",
			Queries: []Query{{quantile(0.95, "deltaforge_source_ack_latency_seconds", "@source", "pipeline, source"), "{{pipeline}}/{{source}}"}},
		},
	}
}

func checkpoints() []Panel {
	return []Panel{
		{
			Title: "Checkpoint age", Unit: unitSeconds, Width: 12, Red: 600,
			Help:    "What a restart would read again. It grows on a quiet database; growing while rows flow, the sink does not acknowledge or the store does not save.",
			Queries: []Query{{`time() - max by (pipeline, source) (deltaforge_last_checkpoint_timestamp_seconds{@source})`, "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Checkpoints saved and failed", Unit: unitEvents, Width: 12,
			Help: "Saves a second. Failures lose nothing, but a restart repeats events: check the disk or server of the checkpoint store.",
			Queries: []Query{
				{rate("deltaforge_checkpoint_success_total", "@source", "pipeline, source"), "{{pipeline}}/{{source}} saved"},
				{rate("deltaforge_checkpoint_failure_total", "@source", "pipeline, source"), "{{pipeline}}/{{source}} failed"},
			},
		},
		{
			Title: "Checkpoint save latency", Unit: unitSeconds, Width: 12, Red: 1,
			Help:    "95th percentile of one save. Above a second: slow disk or far store; raise checkpoint.interval_ms or move the store.",
			Queries: []Query{{quantile(0.95, "deltaforge_checkpoint_latency_seconds", "@source", "pipeline, source"), "{{pipeline}}/{{source}}"}},
		},
		{
			Title: "Exactly-once transactions", Unit: unitEvents, Width: 12,
			Help: "Transactions a second that sinks committed and aborted. Steady aborts: a second process uses the same transactional id, or transactions time out. No data without `exactly_once`.",
			Queries: []Query{
				{rate("deltaforge_sink_txn_commits_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}} committed"},
				{rate("deltaforge_sink_txn_aborts_total", "@sink", "pipeline, sink"), "{{pipeline}}/{{sink}} aborted"},
			},
		},
	}
}
