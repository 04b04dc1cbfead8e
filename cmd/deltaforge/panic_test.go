package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// victim is a pipeline with a panic in it.
type victim struct {
	id        string
	where     string // of test_log
	stat      string // that panics; see plantVariable
	component string // that the panic is counted for
	output    string // drop, unless given
	guard     bool   // the panic is planted where the component begins
	update    bool   // and that is when the pipeline is replaced
}

// numberOf returns the value of the series with all of the labels, -1 when there is none.
func numberOf(page, series string, labels ...string) float64 {
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), series+"{")
		if !ok || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		v, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		return v
	}
	return -1
}

// One pipeline for each goroutine of ours, and for each call that others make on theirs, with a panic in it: it is counted,
// logged with its stack, the pipeline goes on, and the pipeline beside it notices nothing of all that.
func TestPanicsStayInTheirPipeline(t *testing.T) {
	kafka, cut := fakeKafka(t, "")
	shaky, _ := fakeKafka(t, freeAddress(t))
	victims := []victim{
		{id: "v-log", where: "log", component: "log"},
		{id: "v-decode", where: "decode", component: "decode"},
		{id: "v-lag", where: "lag", component: "lag"},
		{id: "v-confirm", where: "confirm", component: "checkpoint"},
		{id: "v-save", stat: "checkpoint_success_total", component: "checkpoint"},
		{id: "v-dispatch", stat: "source_bytes_total", component: "dispatch"},
		{id: "v-batch", stat: "batch_events", component: "batch"},
		{id: "v-connect", where: "end", stat: "source_reconnects_total", component: "connect"},
		{id: "v-read", stat: "batches_in_flight", component: "read"},
		{id: "v-ack", stat: "e2e_latency_ns", component: "acknowledgement"},
		{id: "v-kafka", stat: "sink_batch_total", component: "kafka output", output: kafka},
		{id: "v-hook", stat: "sink_retries_total", component: "kafka client", output: kafka},
		{id: "v-session", guard: true, component: "session"},
		{id: "v-close", guard: true, component: "close", update: true},
		{id: "v-kafka-connect", guard: true, component: "kafka output", output: kafka},
		{id: "v-kafka-close", guard: true, component: "kafka output close", output: kafka, update: true},
		{id: "v-kafka-end", guard: true, component: "kafka client close", output: kafka, update: true},
		{id: "v-kafka-log", guard: true, component: "kafka client log", output: shaky},
	}
	// Those of the process, which belong to no pipeline.
	process := []string{
		"control listener", "control monitor", "control probe", "control change", "control stop", "connection test", "kafka connection test",
		"signals", "garbage collector",
	}
	plan := []string{"pipeline_lifecycle_total@v-handler"}
	for _, v := range victims {
		if v.stat != "" {
			plan = append(plan, v.stat+"@"+v.id)
		}
		if v.guard {
			plan = append(plan, "panics_total@"+v.id+"+"+v.component)
		}
	}
	for _, component := range process {
		plan = append(plan, "panics_total@"+component)
	}
	dir, page := testenv.TempDir(t, given()...), freeAddress(t)
	root := filepath.Join(dir, "numbers.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {deltaforge: {address: %q}}\n", freeAddress(t), page), 0o600))
	p := streams(t, dir, []string{plantVariable + "=" + strings.Join(plan, ",")}, "-o", root)
	scrape := func() string { return (&program{t: t, url: "http://" + page}).want(200, "GET", "/metrics", "") }
	const stream = "input: {label: in, test_log: {name: %s, panic: '%s', checkpoint: {path: %s.db, interval_ms: 100}, batch: {max_ms: 5}}}\noutput: %s\n"
	config := func(v victim) string {
		return fmt.Sprintf(stream, v.id, v.where, v.id, cmp.Or(v.output, "{drop: {}}"))
	}
	create := func(status int, v victim) { p.want(status, "POST", "/streams/"+v.id, config(v)) }
	create(200, victim{id: "calm"})
	create(500, victim{id: "v-handler"})
	for _, v := range victims {
		create(200, v)
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		require.Eventually(t, ok, 3*time.Minute, 100*time.Millisecond, "%s: %s", what, p.out)
	}
	await("rows to Kafka", func() bool { return numberOf(scrape(), "deltaforge_sink_events_total", `pipeline="v-hook"`) > 10 })
	cut()
	for _, v := range append(victims, victim{id: "v-handler"}) {
		if v.update {
			p.want(200, "PUT", "/streams/"+v.id, config(v))
		}
		await("the panic of "+v.id, func() bool {
			return v.component == "" || numberOf(scrape(), "deltaforge_panics_total", `pipeline="`+v.id+`"`, `component="`+v.component+`"`) == 1
		})
		before := numberOf(scrape(), "deltaforge_checkpoint_success_total", `pipeline="`+v.id+`"`)
		await(v.id+" goes on", func() bool {
			return numberOf(scrape(), "deltaforge_checkpoint_success_total", `pipeline="`+v.id+`"`) > before+3
		})
	}
	for _, output := range []string{"{drop: {}}", kafka} { // a test of connections that panics fails, the next one does not
		assert.Contains(t, p.want(400, "POST", "/validate", config(victim{id: "tested", output: output})), "panic in the ")
		p.want(200, "POST", "/validate", config(victim{id: "tested", output: output}))
	}
	await("ready", func() bool { status, _ := p.call("GET", "/ready", ""); return status == 200 })
	assert.Len(t, p.statuses(), len(victims)+2)

	now := scrape()
	for _, line := range regexp.MustCompile(`(?m)^deltaforge_panics_total\{.*\} [1-9]\d*$`).FindAllString(now, -1) {
		assert.NotContains(t, line, "calm")
		assert.True(t, strings.HasSuffix(line, " 1"), line)
	}
	for _, series := range []string{"deltaforge_source_reconnects_total", "deltaforge_checkpoint_failure_total"} {
		assert.Zero(t, numberOf(now, series, `pipeline="calm"`), series)
	}
	log := whole(p.out)
	for _, v := range victims {
		found := 0
		for _, line := range logged(t, log, map[string]string{"pipeline": v.id, "level": "error"}) {
			if text, _ := line["msg"].(string); strings.HasPrefix(text, "Panic in the "+v.component) {
				found++
				assert.Contains(t, line["stack"], "deltaforge", "the stack of %s", v.id)
			}
		}
		assert.Equal(t, 1, found, "lines about the panic of %s", v.id)
	}
	for _, line := range logged(t, log, map[string]string{"pipeline": "calm"}) {
		if text, _ := line["msg"].(string); strings.Contains(text, "this is taken for its first start") {
			continue
		}
		assert.Contains(t, []any{"info"}, line["level"], "%v", line)
	}
	// The replacement of all pipelines: the one change that panics is told, and made at the next try.
	only := "calm:\n  " + strings.ReplaceAll(strings.TrimSpace(config(victim{id: "calm"})), "\n", "\n  ")
	assert.Contains(t, p.want(400, "POST", "/streams", only), "panic in the control change: planted")
	p.want(200, "POST", "/streams", only)
	assert.Equal(t, map[string]string{"calm": "running"}, p.statuses())
	log = whole(p.out)
	for _, component := range append(process, "control") {
		assert.InDelta(t, 1, numberOf(scrape(), "deltaforge_panics_total", `pipeline="default"`, `component="`+component+`"`), 0, component)
		text := `"msg":"Panic in the ` + component
		if component == "control" {
			text = `"msg":"Panic while answering `
		}
		assert.Contains(t, log, text)
	}
	p.end(syscall.SIGTERM)
	assert.Zero(t, p.cmd.ProcessState.ExitCode(), p.out)
}

// fakeKafka returns an output to a Kafka in this process, and what cuts the connection of the next request to write.
//
// With a first address, the client is told to ask there first, where nobody listens.
func fakeKafka(t *testing.T, first string) (output string, cut func()) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	var due atomic.Int64
	c.ControlKey(0, func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if due.Add(-1) >= 0 {
			return nil, errors.New("no answer"), true
		}
		return nil, nil, false
	})
	brokers := c.ListenAddrs()
	if first != "" {
		brokers = append([]string{first}, brokers...)
	}
	text, err := json.Marshal(brokers)
	require.NoError(t, err)
	return fmt.Sprintf("{deltaforge_kafka: {seed_brokers: %s, topic: t}}", text), func() { due.Store(20) }
}
