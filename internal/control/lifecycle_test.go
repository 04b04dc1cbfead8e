package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/door"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func (p *plane) uptime(id string) float64 {
	p.t.Helper()
	var info engine.Info
	require.NoError(p.t, json.Unmarshal([]byte(p.want(200, "GET", "/streams/"+id, "")), &info))
	return info.Uptime
}

func TestPauseKeepsTheConnection(t *testing.T) {
	p := start(t, Options{StopTimeout: 10 * time.Minute}, nil)
	p.want(200, "POST", "/streams/pausable", testing1)
	s := seen("pausable")
	eventually(t, "rows flow", func() bool { return s.delivered.Load() > 3 })

	p.want(200, "POST", "/streams/pausable/pause", "")
	eventually(t, "the batch under way when the gate closed was the last one", s.held.Load)
	before := s.delivered.Load()
	time.Sleep(50 * time.Millisecond)
	assert.Equal(t, before, s.delivered.Load(), "paused, and rows flow")
	assert.Equal(t, map[string]string{"pausable": "paused"}, p.statuses())
	status, states := p.states("/ready")
	assert.Equal(t, 200, status)
	assert.Equal(t, "paused", states["pausable"].Status)
	assert.Equal(t, "orders", states["pausable"].Source)
	assert.Equal(t, fmt.Sprint("at ", before), states["pausable"].Position)
	assert.InDelta(t, 1.5, *states["pausable"].LagSeconds, 0)
	eventually(t, "gauges", func() bool {
		return p.stats.get("pipeline_status{pausable}") == 0.5 && p.stats.get("pipelines{paused}") == 1 && p.stats.get("pipelines{running}") == 0
	})
	p.want(200, "POST", "/streams/pausable/pause", "") // again: no harm
	p.want(409, "POST", "/streams/pausable/start", "")

	p.want(200, "POST", "/streams/pausable/resume", "")
	eventually(t, "rows flow again", func() bool { return s.delivered.Load() > before })
	assert.EqualValues(t, 1, s.connects.Load(), "the source has not reconnected")
	assert.Zero(t, s.closes.Load())
	p.want(200, "POST", "/streams/pausable/resume", "")

	// A paused pipeline stops at once, and starts running.
	p.want(200, "POST", "/streams/pausable/pause", "")
	began := time.Now()
	p.want(200, "POST", "/streams/pausable/stop", "")
	assert.Less(t, time.Since(began), time.Minute, "it does not wait for its timeout")
	assert.EqualValues(t, 1, s.closes.Load())
	p.want(409, "POST", "/streams/pausable/pause", "")
	p.want(409, "POST", "/streams/pausable/resume", "")
	before = s.delivered.Load()
	p.want(200, "POST", "/streams/pausable/start", "")
	eventually(t, "rows flow after the start", func() bool { return s.delivered.Load() > before })

	assert.Len(t, p.log.with(`"action":"pause"`, `"outcome":"success"`, `"pipeline":"pausable"`, `"remote_address":"127.0.0.1:`), 3)
	assert.InDelta(t, 3, p.stats.get("pipeline_lifecycle_total{pausable,pause,success}"), 0)
	assert.InDelta(t, 1, p.stats.get("pipeline_lifecycle_total{pausable,pause,error}"), 0)
}

func TestForeignInputCannotPause(t *testing.T) {
	p := start(t, Options{}, map[string]string{"file": ticking})
	text := p.want(409, "POST", "/streams/file/pause", "")
	assert.Contains(t, text, "its input generate cannot be paused, only test_source can; stop the pipeline instead")
	assert.Equal(t, map[string]string{"file": "running"}, p.statuses())

	// One foreign input among ours would go on.
	const both = "input: {broker: {inputs: [{test_source: {name: orders}}, {generate: {mapping: 'root = 1'}}]}}\noutput: {drop: {}}\n"
	p.want(200, "POST", "/streams/mixed", both)
	assert.Contains(t, p.want(409, "POST", "/streams/mixed/pause", ""), "its input generate cannot be paused")
	p.want(200, "POST", "/streams/pair", "input: {broker: {inputs: [{test_source: {name: a}}, {test_source: {name: b}}]}}\noutput: {drop: {}}\n")
	p.want(200, "POST", "/streams/pair/pause", "")
	assert.Equal(t, map[string]string{"file": "running", "mixed": "running", "pair": "paused"}, p.statuses())
}

func TestStopAndStart(t *testing.T) {
	p := start(t, Options{}, map[string]string{"file": ticking})
	p.want(200, "POST", "/streams/file/stop", "")
	p.want(200, "POST", "/streams/file/stop", "")
	assert.Equal(t, map[string]string{"file": "stopped"}, p.statuses())
	assert.Contains(t, p.want(200, "GET", "/streams/file", ""), `"interval":"1s"`)
	assert.JSONEq(t, `{"uptime_ns":0}`, p.want(200, "GET", "/streams/file/stats", ""))
	p.want(400, "POST", "/streams/file", ticking)
	p.want(200, "PATCH", "/streams/file", "input: {generate: {interval: 3s}}")
	assert.Equal(t, map[string]string{"file": "stopped"}, p.statuses(), "a patch does not start it")
	p.want(200, "POST", "/streams/file/start", "")
	p.want(200, "POST", "/streams/file/start", "")
	assert.Equal(t, map[string]string{"file": "running"}, p.statuses())
	assert.Contains(t, p.want(200, "GET", "/streams/file", ""), `"interval":"3s"`)
	p.want(200, "DELETE", "/streams/file", "")
	assert.Empty(t, p.statuses())
	p.want(404, "DELETE", "/streams/file", "")
}

// What the issue of every operator is: a change that is wrong must not take down what runs.
func TestBrokenChangesLeaveThePipelineRunning(t *testing.T) {
	dir := testenv.TempDir(t, "streams")
	p := start(t, Options{StateDir: dir}, nil)
	p.want(200, "POST", "/streams/keep", testing1)
	before := p.uptime("keep")
	saved, err := os.ReadFile(filepath.Join(dir, "streams", "keep.yaml"))
	require.NoError(t, err)
	for name, c := range map[string]struct{ method, body, want string }{
		"unknown component":   {"PUT", "input: {nope: {}}", "nope"},
		"unknown field":       {"PATCH", "input: {test_source: {nope: 1}}", "nope"},
		"two inputs":          {"PATCH", "input: {generate: {mapping: root = 1}}", "lint_errors"},
		"no YAML":             {"PUT", "a: [", "did not find expected node content"},
		"no mapping":          {"PUT", "[1]", "want a mapping"},
		"patch is no YAML":    {"PATCH", "a: [", "the patch"},
		"constructor refuses": {"PATCH", "input: {test_source: {refuse: true}}", "the source refuses its configuration"},
		"masked secret":       {"PATCH", "input: {test_source: {password: '" + document.Mask + "'}}", "was masked"},
	} {
		text := p.want(400, c.method, "/streams/keep", c.body)
		assert.Contains(t, text, c.want, name)
	}
	assert.Greater(t, p.uptime("keep"), before, "the pipeline was restarted")
	now, err := os.ReadFile(filepath.Join(dir, "streams", "keep.yaml"))
	require.NoError(t, err)
	assert.Equal(t, string(saved), string(now))
	assert.EqualValues(t, 0, seen("keep").closes.Load())
	assert.InDelta(t, 5, p.stats.get("pipeline_lifecycle_total{keep,patch,error}"), 0)
	assert.InDelta(t, 3, p.stats.get("pipeline_lifecycle_total{keep,update,error}"), 0)
}

// The engine refuses what the check let pass: the old configuration runs again.
func TestUpdateGoesBack(t *testing.T) {
	dir := testenv.TempDir(t, "streams")
	p := start(t, Options{StateDir: dir}, nil)
	p.want(200, "POST", "/streams/back", testing1)
	text := p.want(400, "PATCH", "/streams/back", "buffer: {test_buffer: {}}") // the check does not build buffers
	assert.Contains(t, text, "the buffer refuses its configuration")
	assert.Equal(t, map[string]string{"back": "running"}, p.statuses())
	assert.NotContains(t, p.want(200, "GET", "/streams/back", ""), "test_buffer")
	saved, err := os.ReadFile(filepath.Join(dir, "streams", "back.yaml"))
	require.NoError(t, err)
	assert.Equal(t, testing1, string(saved))
	delivered := seen("back").delivered.Load()
	eventually(t, "rows flow", func() bool { return seen("back").delivered.Load() > delivered })
}

func TestNothingHalfCreated(t *testing.T) {
	dir := testenv.TempDir(t, "streams")
	p := start(t, Options{StateDir: dir}, nil)
	for id, body := range map[string]string{
		"lint": "input: {nope: {}}", "syntax": "a: [", "refused": "input: {test_source: {refuse: true}}", "a..yaml": ticking,
		"%2e%2e%2fup": ticking, "streams": ticking, strings.Repeat("x", 200): ticking, "x_benthos_test": ticking,
	} {
		status, text := p.call("POST", "/streams/"+id, body)
		assert.Equal(t, 400, status, "%s: %s", id, text)
	}
	p.want(200, "POST", "/streams/one", ticking)
	assert.Contains(t, p.want(400, "POST", "/streams/one", ticking), "Stream already exists")
	assert.Equal(t, map[string]string{"one": "running"}, p.statuses())

	// The state directory stops being writable: what cannot be kept is not created.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "streams")))
	p.want(502, "POST", "/streams/two", ticking)
	assert.Equal(t, map[string]string{"one": "running"}, p.statuses())
}

func TestManyAtOnce(t *testing.T) {
	dir := testenv.TempDir(t, "streams")
	p := start(t, Options{StateDir: dir, Interval: time.Second}, nil)
	const n = 200
	p.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 32
	each := func(do func(id string)) {
		var wg sync.WaitGroup
		slot := make(chan struct{}, 32)
		for i := range n {
			slot <- struct{}{}
			wg.Go(func() { defer func() { <-slot }(); do(fmt.Sprintf("s%03d", i)) })
		}
		wg.Wait()
	}
	each(func(id string) {
		status, text := p.call("POST", "/streams/"+id, ticking)
		assert.Equal(t, 200, status, text)
		status, _ = p.call("POST", "/streams/"+id, ticking)
		assert.Equal(t, 400, status, "created twice")
	})
	assert.Len(t, p.statuses(), n)
	each(func(id string) {
		status, text := p.call("PATCH", "/streams/"+id, "input: {generate: {interval: 7s}}")
		assert.Equal(t, 200, status, text)
	})
	configs, err := p.server.state.Configs()
	require.NoError(t, err)
	require.Len(t, configs, n)
	for id, config := range configs {
		assert.Contains(t, string(config), "7s", id)
	}
	assert.Len(t, p.server.state.Saved(), n)
	each(func(id string) {
		if id >= "s100" {
			status, text := p.call("DELETE", "/streams/"+id, "")
			assert.Equal(t, 200, status, text)
		}
	})
	left := p.statuses()
	assert.Len(t, left, 100)
	for id, status := range left {
		assert.Less(t, id, "s100")
		assert.Equal(t, state.Running, status, id)
	}
	assert.InDelta(t, 2*n, p.stats.get("api_requests_total{/streams/{id},POST,200}")+p.stats.get("api_requests_total{/streams/{id},POST,400}"), 0)
	assert.InDelta(t, 100, p.stats.get("api_requests_total{/streams/{id},DELETE,200}"), 0)
	assert.InDelta(t, n, p.stats.get("api_request_duration_ns{/streams/{id},PATCH}"), 0)
}

func TestReplaceAll(t *testing.T) {
	p := start(t, Options{}, nil)
	p.want(200, "POST", "/streams/old", ticking)
	p.want(200, "POST", "/streams/kept", ticking)
	set := "kept: {input: {generate: {mapping: 'root = 2', interval: 9s}}, output: {drop: {}}}\nnew: {input: {generate: {mapping: 'root = 3'}}, output: {drop: {}}}\n"
	assert.Contains(t, p.want(400, "POST", "/streams", set+"bad: {input: {nope: {}}}"), "stream 'bad'")
	p.want(400, "POST", "/streams", "a: [")
	p.want(400, "POST", "/streams", "'../up': {}")
	assert.Equal(t, map[string]string{"old": "running", "kept": "running"}, p.statuses())
	p.want(200, "POST", "/streams", set)
	assert.Equal(t, map[string]string{"new": "running", "kept": "running"}, p.statuses())
	assert.Contains(t, p.want(200, "GET", "/streams/kept", ""), `"9s"`)
}

func TestRestart(t *testing.T) {
	dir := testenv.TempDir(t, "streams")
	files := map[string]string{"filed": testing1, "filed2": ticking}
	p := start(t, Options{StateDir: dir}, files)
	for _, id := range []string{"runs", "paused", "stopped", "gone"} {
		p.want(200, "POST", "/streams/"+id, testing1)
	}
	p.want(200, "POST", "/streams/lenient?chilled=true", testing1+"nonsense: 1\n")
	p.want(200, "POST", "/streams/paused/pause", "")
	p.want(200, "POST", "/streams/stopped/stop", "")
	p.want(200, "DELETE", "/streams/gone", "")
	p.want(200, "POST", "/streams/filed/pause", "")
	p.want(200, "POST", "/streams/filed2/stop", "")
	p.stop()
	write(t, filepath.Join(dir, "streams", "broken.yaml"), "input: {test_source: {refuse: true}}\n")
	delivered := map[string]int64{}
	for _, id := range []string{"paused", "stopped", "filed", "runs"} {
		delivered[id] = seen(id).delivered.Load()
	}

	p = start(t, Options{StateDir: dir}, files)
	assert.Equal(t, map[string]string{
		"runs": "running", "paused": "paused", "stopped": "stopped", "filed": "paused", "filed2": "stopped", "lenient": "running",
		"broken": "failed",
	}, p.statuses())
	eventually(t, "rows flow", func() bool { return seen("runs").delivered.Load() > delivered["runs"] })
	for _, id := range []string{"paused", "stopped", "filed"} {
		assert.Equal(t, delivered[id], seen(id).delivered.Load(), "%s delivered", id)
	}
	status, states := p.states("/health")
	assert.Equal(t, 503, status)
	assert.Contains(t, states["broken"].Reason, "the source refuses its configuration")
	eventually(t, "not ready: the broken one, and nobody else", func() bool {
		status, states := p.states("/ready")
		return status == 503 && !slices.ContainsFunc(slices.Collect(maps.Values(states)), func(st State) bool { return st.Reason != "" && st.Name != "broken" })
	})
	eventually(t, "gauge", func() bool { return p.stats.get("pipeline_status{broken}") == -1 })
	p.want(400, "POST", "/streams/broken/start", "")
	p.want(200, "PATCH", "/streams/broken", "input: {test_source: {refuse: false}}")
	assert.Equal(t, "running", p.statuses()["broken"])
	p.want(200, "POST", "/streams/paused/resume", "")
	eventually(t, "rows flow", func() bool { return seen("paused").delivered.Load() > delivered["paused"] })
	p.want(200, "POST", "/streams/stopped/start", "")
	eventually(t, "rows flow", func() bool { return seen("stopped").delivered.Load() > delivered["stopped"] })
	eventually(t, "ready: paused and stopped pipelines do not count", func() bool { status, _ := p.states("/ready"); return status == 200 })
}

func TestBadStart(t *testing.T) {
	busy := start(t, Options{StateDir: testenv.TempDir(t, "streams")}, nil)
	file := filepath.Join(testenv.TempDir(t, "streams"), "file")
	write(t, file, "")
	broken := testenv.TempDir(t, "streams")
	write(t, filepath.Join(broken, "statuses.json"), "{")
	odd := testenv.TempDir(t, "streams")
	write(t, filepath.Join(odd, "statuses.json"), `{"a":{"status":"happy"}}`)
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"address in use":       {Options{Address: busy.server.Addr().String()}, "address already in use"},
		"directory in use":     {Options{StateDir: busy.server.opts.StateDir}, "is used by another process"},
		"directory is a file":  {Options{StateDir: file}, "state directory " + file},
		"directory in a file":  {Options{StateDir: filepath.Join(file, "state")}, "give a --state-dir that this process can write"},
		"statuses are no JSON": {Options{StateDir: broken}, "statuses.json"},
		"unknown status":       {Options{StateDir: odd}, `got "happy"`},
		"bad token":            {Options{Credentials: door.Credentials{Token: "x "}}, "white space"},
		"empty password":       {Options{Credentials: door.Credentials{Users: map[string]string{"a": ""}}}, "user:password"},
		"engine nowhere":       {Options{Engine: engine.Options{Address: "nowhere"}}, "http.address"},
	} {
		c.o.Resources = service.MockResources()
		if c.o.Engine.Address == "" {
			c.o.Engine.Address = "127.0.0.1:1"
		}
		if c.o.Address == "" {
			c.o.Address = "127.0.0.1:0"
		}
		_, err := New(t.Context(), c.o)
		assert.ErrorContains(t, err, c.want, name)
	}
}

// Another process at the engine's address must not be taken for the engine.
func TestEngineOfAnotherProcess(t *testing.T) {
	other := start(t, Options{}, nil)
	s, err := New(t.Context(), Options{Address: "127.0.0.1:0", Engine: engine.Options{Address: other.engine}, Resources: service.MockResources()})
	require.NoError(t, err)
	assert.ErrorContains(t, s.Start(t.Context()), "is another process's")
	assert.NoError(t, s.Close(t.Context()))
}

// The stop of a pipeline whose output reaches nobody does not use up the time that it has: nothing that it waits for will come. Of
// one with an output that is connected it waits for what is on its way.
func TestStopWhileTheOutputIsAway(t *testing.T) {
	p := start(t, Options{StopTimeout: time.Hour}, nil)
	p.want(200, "POST", "/streams/away", "input: {test_source: {name: orders}}\noutput: {test_unreachable: {}}\n")
	eventually(t, "output fails", func() bool { status, _ := p.states("/ready"); return status == 503 })
	p.want(200, "DELETE", "/streams/away", "")
	p.want(404, "GET", "/streams/away", "")
}

func TestCutOff(t *testing.T) {
	in, there, away := engine.Connection{Path: "root.input"}, engine.Connection{Path: "root.output.broker.outputs.0", Connected: true}, engine.Connection{Path: "root.output.broker.outputs.1"}
	for want, all := range map[bool][][]engine.Connection{
		true:  {{in, away}, {away, away}},
		false: {nil, {in}, {in, there, away}, {there}},
	} {
		for _, connections := range all {
			assert.Equal(t, want, cutOff(connections), "%v", connections)
		}
	}
}

// What a deleted pipeline leaves on its servers is in the answer, and dropped when that is asked for.
func TestLeftovers(t *testing.T) {
	p := start(t, Options{}, nil)
	config := func(slots ...string) string {
		inputs := ""
		for _, slot := range slots {
			inputs += "{test_source: {name: orders, slot: " + slot + "}},"
		}
		return "input: {broker: {inputs: [" + inputs + "]}}\noutput: {drop: {}}\n"
	}
	create := func(slots ...string) { t.Helper(); p.want(200, "POST", "/streams/x", config(slots...)) }
	create("shop")
	assert.JSONEq(t, `{"deleted":"x","left_behind":[{"source":"orders","what":"the slot shop","dropped":false,"drop_with":"DROP SLOT shop"}]}`,
		p.want(200, "DELETE", "/streams/x", ""))
	assert.Len(t, p.log.with("The deleted pipeline leaves the slot shop; drop it with: DROP SLOT shop"), 1)
	create("shop")
	assert.JSONEq(t, `{"deleted":"x","left_behind":[{"source":"orders","what":"the slot shop","dropped":true}]}`,
		p.want(200, "DELETE", "/streams/x?drop_slot=true", ""))
	create("busy", "shop")
	text := p.want(502, "DELETE", "/streams/x?drop_slot=true", "")
	assert.Contains(t, text, "it is in use")
	assert.NotContains(t, text, "hunter2-sesame")
	assert.Contains(t, text, `"drop_with":"DROP SLOT busy"`)
	assert.Empty(t, p.statuses(), "the pipeline is gone all the same")
	p.want(200, "POST", "/streams/x", testing1)
	assert.JSONEq(t, `{"deleted":"x"}`, p.want(200, "DELETE", "/streams/x", ""))
	p.want(200, "POST", "/streams/x", ticking)
	assert.JSONEq(t, `{"deleted":"x"}`, p.want(200, "DELETE", "/streams/x?drop_slot=true", ""))
}
