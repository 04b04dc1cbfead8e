package metrics

import (
	"fmt"
	"strings"
)

// Reference returns the reference page of all series, in Markdown. It is made from the table that the exporter uses.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceIntro)
	rows, all := table(), AllSeries()
	group := ""
	for i, s := range all {
		if rows[i].group != group {
			group = rows[i].group
			fmt.Fprintf(&b, "\n## %s\n\n| series | type | labels | meaning | engine stats |\n|---|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Name, s.Type, labelCell(rows[i]), meaningCell(rows[i]), feedCell(rows[i]))
	}
	b.WriteString(strings.ReplaceAll(referenceEnd, "DROPPING", strings.TrimSpace(droppingStream)))
	return b.String()
}

func meaningCell(r row) string {
	meaning := r.help
	if r.remark != "" {
		meaning += " " + r.remark
	}
	return meaning
}

// droppingStream is the reference page's example of a pipeline that counts what it drops. A test runs it.
const droppingStream = `
pipeline:
  processors:
    - label: filter
      switch:
        - check: this.id % 2 == 0
          processors:
            - metric: {type: counter, name: processor_dropped_total, labels: {processor: filter, reason: even}}
            - mapping: root = deleted()
output:
  switch:
    cases:
      - check: this.id == 1
        output:
          label: bin
          processors:
            - metric: {type: counter, name: sink_dropped_total, labels: {sink: bin, reason: first}}
          drop: {}
      - output: {label: rest, drop: {}}
`

func labelCell(r row) string {
	labels := strings.Join(r.labels, ", ")
	if !r.process {
		return labels
	}
	return strings.TrimSpace(labels + " (neither pipeline nor tenant)")
}

func feedCell(r row) string {
	feeds := make([]string, len(r.feeds))
	for i, f := range r.feeds {
		feeds[i] = "`" + f.stat + "`"
	}
	return strings.Join(feeds, ", ")
}

const referenceIntro = `# Metrics

Every series that the metrics exporter ` + "`deltaforge`" + ` knows by name. This page is generated from the exporter's table:
` + "`go test ./metrics -update`" + ` writes it.

Every series has the labels ` + "`pipeline` and `tenant`" + ` besides those listed. Times are seconds, sizes bytes. ` + "`source`" + ` is the
` + "`name`" + ` of a source of ours. ` + "`processor`, `sink`" + ` and the like, and the source of a foreign input, are the label of the component, or its
path where it has none. A label that ` + "`metrics.mapping`" + ` adds is kept.

Each series is fed by the stat that has its name without ` + "`deltaforge_`" + `: that is how DeltaForge's components emit it, and how it is called
with any other exporter. Durations are emitted in nanoseconds and end in ` + "`_ns`" + ` there, as the engine's own: ` + "`sink_latency_ns`" + `. Where the last column names stats of the engine, every component has the series, foreign ones too.
Where a component emits the series itself, the engine's stats about that component do not count for it.

A series that is marked as **not emitted by this version** has its name and its place on the dashboard, and no data.
`

const referenceEnd = `
## What you drop yourself

The engine says how many messages a processor received and how many it sent. What is between the two is no count of dropped events: ` + "`archive`" + ` makes one
message of many, ` + "`split`" + ` and ` + "`group_by`" + ` make others, and some wait in between. So nothing is derived from it. A ` + "`metric`" + ` processor of the engine
in front of the place where events end emits ` + "`processor_dropped_total` or `sink_dropped_total`" + ` under the label and with the reason that you choose:

` + "```yaml" + `
DROPPING
` + "```" + `

Its count is exact, as what comes by is what is dropped. The stock output ` + "`drop`" + ` also counts as a sink, whose ` + "`sink_events_total`" + ` is what it took.

## Everything else

* A stat that has no row is exported as ` + "`deltaforge_engine_<name>`" + `, in snake case and base units: counters end in ` + "`_total`" + `, timings become histograms
  that end in ` + "`_seconds`" + `. They keep the labels ` + "`label` and `path`" + ` of the engine.
* ` + "`go_*` and `process_*`" + ` are the collectors of the Prometheus client library.

## Rules

* Histograms have classic buckets, and native ones for a Prometheus that asks for them. Latencies: 0.5 ms to 60 s; ` + "`batch_events`" + `: 1 to 65,536;
  ` + "`batch_bytes`" + `: 1 KiB to 64 MiB.
* A component gives timings in nanoseconds, as the engine does. ` + "`batch_events` and `batch_bytes`" + ` are plain numbers that use the engine's timer, the only
  distribution it has. Gauges are given in the unit of the series, with fractions.
* A gauge is shown once it has been set. Set to NaN it disappears: a component that closes withdraws a value that would otherwise stay frozen.
* A pipeline that is deleted over the control plane takes all of its series with it; one that is made under the same id later begins at 0. What was counted of its
  lifecycle goes too: a successful delete counts under the exporter's own ` + "`pipeline`" + `.
* Gauges of a pipeline that several of its sources set (` + "`pipeline_channel_depth`, `pipeline_channel_capacity`, `batches_in_flight`" + `) are the sum of theirs.
* ` + "`table`" + ` has at most ` + "`max_tables`" + ` values. Counters of further tables count under ` + "`table=\"__other__\"`" + `, with one warning; gauges of further tables
  are not exported.
* What a component says about itself holds for its label in its pipeline until the process ends, also when a stream is updated and a foreign component
  takes the label over. Give such a component another label.
* In streams mode, a resource that streams share belongs to none of them: its ` + "`pipeline`" + ` is the exporter's field.
`
