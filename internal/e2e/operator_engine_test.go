package e2e

import (
	"testing"
	"time"
)

// Components of the engine that know nothing of us have their numbers on the page, under our names.
func TestOperatorEngineSeries(t *testing.T) {
	d := newDeck(t, `
cache_resources: [{label: seen, memory: {}}]
rate_limit_resources: [{label: slowly, local: {count: 1, interval: 1s}}]
`)
	d.start()
	// Ten messages, of which two fail in the processor.
	d.want(200, "POST", "/streams/strict", `
input: {label: gen, generate: {count: 10, interval: '', mapping: 'root.id = counter()'}}
pipeline:
  processors: [{label: picky, mapping: 'root = if this.id > 8 { throw("no") }'}]
output: {label: nowhere, reject_errored: {drop: {}}}
`)
	d.until(30*time.Second, atLeast(2), "processor_errors_total", "pipeline=strict", "processor=picky")
	now := d.until(30*time.Second, atLeast(8), "sink_events_total", "pipeline=strict")
	now.is(8, "sink_events_total", "pipeline=strict")
	// Five messages through a buffer, a cache and a rate limit, in batches of the engine's policy.
	d.want(200, "POST", "/streams/parts", `
input: {label: gen, generate: {count: 5, interval: '', mapping: 'root.id = counter()'}}
buffer: {memory: {limit: 1000000}}
pipeline:
  processors:
    - rate_limit: {resource: slowly}
    - cache: {resource: seen, operator: set, key: '${! json("id") }', value: x}
output: {label: nowhere, drop: {}}
`)
	d.want(200, "POST", "/streams/policy", `
input: {label: gen, generate: {count: 10, interval: '', mapping: 'root.id = counter()'}}
output: {label: gather, broker: {outputs: [{label: hole, drop: {}}], batching: {count: 5}}}
`)
	now = d.until(60*time.Second, atLeast(5), "sink_events_total", "pipeline=parts")
	now.is(5, "cache_operations_total", "cache=seen", "operation=set", "outcome=success")
	now.is(5, "cache_latency_seconds_count", "cache=seen", "operation=set")
	now.is(5, "buffer_events_in_total", "pipeline=parts")
	now.is(5, "buffer_events_out_total", "pipeline=parts")
	now.is(5, "buffer_batches_in_total", "pipeline=parts")
	now.atLeast(1, "buffer_batches_out_total", "pipeline=parts")
	d.until(30*time.Second, atLeast(1), "buffer_latency_seconds_count", "pipeline=parts")
	now.atLeast(5, "rate_limit_checked_total", "rate_limit=slowly")
	now.atLeast(1, "rate_limit_triggered_total", "rate_limit=slowly")
	d.until(30*time.Second, atLeast(2), "batches_created_total", "pipeline=policy", "mechanism=count").
		is(2, "batches_created_total", "pipeline=policy")
	// What a pipeline drops it counts itself, as the reference of the metrics says.
	d.want(200, "POST", "/streams/dropping", `
input: {label: gen, generate: {count: 10, interval: '', mapping: 'root.id = counter()'}}
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
          processors: [{metric: {type: counter, name: sink_dropped_total, labels: {sink: bin, reason: first}}}]
          drop: {}
      - output: {label: rest, drop: {}}
`)
	d.until(30*time.Second, atLeast(5), "processor_dropped_total", "pipeline=dropping")
	d.until(30*time.Second, atLeast(1), "sink_dropped_total", "pipeline=dropping")
	now = d.until(30*time.Second, atLeast(4), "sink_events_total", "pipeline=dropping", "sink=rest")
	now.is(4, "sink_events_total", "pipeline=dropping", "sink=rest")
	now.is(5, "processor_dropped_total", "pipeline=dropping", "processor=filter", "reason=even")
	now.is(1, "sink_dropped_total", "pipeline=dropping", "sink=bin", "reason=first")
	d.covered()
}
