package control

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/control/internal/sources"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	contract "github.com/deltaforge/deltaforge/internal/plane"
)

func TestReadiness(t *testing.T) {
	p := start(t, Options{Tenant: func(string) string { return "acme" }, StopTimeout: 5 * time.Second}, map[string]string{"good": ticking})
	eventually(t, "ready", func() bool { status, _ := p.states("/ready"); return status == 200 })
	p.want(200, "POST", "/streams/bad", "input: {generate: {mapping: 'root = 1'}}\noutput: {label: sinker, test_unreachable: {}}\n")
	eventually(t, "not ready with its reason", func() bool {
		status, states := p.states("/ready")
		return status == 503 && states["bad"].Reason == "sinker is not connected: dialing postgres://u:"+document.Mask+"@db: no route to host"
	})
	status, states := p.states("/health")
	assert.Equal(t, 200, status, "not connected is not failed")
	assert.Equal(t, State{Name: "good", Status: "running", Source: "generate"}, states["good"])
	assert.Equal(t, "running", states["bad"].Status)
	eventually(t, "logged", func() bool { return len(p.log.with(`"msg":"Not ready: 1 pipeline of 2"`)) == 1 })
	line := p.log.with(`"msg":"Not ready: 1 pipeline of 2"`)[0]
	var logged map[string]any
	require.NoError(t, json.Unmarshal([]byte(line), &logged))
	assert.Equal(t, "2", logged["running"])
	// The first look may come before the input is connected.
	assert.Regexp(t, `bad \(running\): (input is not connected; )?sinker is not connected`, line)

	p.want(200, "POST", "/streams/bad/stop", "")
	eventually(t, "ready again", func() bool { return len(p.log.with(`"msg":"Ready: 2 pipelines"`)) == 1 })
	time.Sleep(200 * time.Millisecond) // ten looks later
	// The very first look may come before the other one is connected.
	assert.Len(t, p.log.with(`"msg":"Not ready: 1 pipeline of 2"`), 1, "logged once per change")
	assert.Len(t, p.log.with(`"msg":"Ready: 2 pipelines"`), 1)
	assert.Len(t, p.log.with(`"action":"stop"`, `"tenant":"acme"`), 1)
	for name, want := range map[string]float64{
		"pipelines{running}": 1, "pipelines{stopped}": 1, "pipelines{failed}": 0, "pipeline_status{good}": 1, "pipeline_status{bad}": 0,
		"pipeline_info{good,generate}": 1,
	} {
		assert.InDelta(t, want, p.stats.get(name), 0, name)
	}
}

func TestFailedAndEnded(t *testing.T) {
	p := start(t, Options{}, map[string]string{"once": "input: {generate: {mapping: 'root = 1', count: 1, interval: ''}}\noutput: {drop: {}}\n"})
	eventually(t, "ended", func() bool { return p.statuses()["once"] == "stopped" })
	status, states := p.states("/health")
	assert.Equal(t, 200, status)
	assert.Equal(t, "its input has ended", states["once"].Reason)
	p.want(200, "POST", "/streams/once/start", "") // once more
	eventually(t, "ended", func() bool { return p.statuses()["once"] == "stopped" })

	p.want(200, "POST", "/streams/lost", testing1)
	eventually(t, "rows flow", func() bool { return seen("lost").delivered.Load() > 0 })
	seen("lost").failure.Store("position lost")
	status, text := p.call("GET", "/health", "")
	assert.Equal(t, 503, status)
	var a answerOf
	require.NoError(t, json.Unmarshal([]byte(text), &a))
	assert.Equal(t, []string{"lost"}, a.Failed)
	assert.Equal(t, "failed", a.Status)
	eventually(t, "gauges", func() bool {
		return p.stats.get("pipeline_status{lost}") == -1 && p.stats.get("pipelines{failed}") == 1
	})
	seen("lost").failure.Store("")
	p.want(200, "GET", "/health", "")
	p.want(200, "DELETE", "/streams/lost", "")
	eventually(t, "gauges of a deleted pipeline", func() bool {
		return !p.stats.has("pipeline_status{lost}")
	})
	time.Sleep(100 * time.Millisecond) // five looks later
	assert.False(t, p.stats.has("pipeline_status{lost}"))
	assert.InDelta(t, 1, p.stats.get("pipeline_lifecycle_total{,delete,success}"), 0)
}

// What was seen of a pipeline before it was deleted does not come onto the page after the deletion.
func TestDeletedPipelineStaysOffThePage(t *testing.T) {
	p := start(t, Options{Interval: time.Hour}, nil)
	eventually(t, "the only look of the monitor", func() bool { return p.stats.has("pipelines{running}") })
	p.want(200, "POST", "/streams/brief", ticking)
	before, err := p.server.states(t.Context())
	require.NoError(t, err)
	require.Len(t, before, 1)
	p.want(200, "DELETE", "/streams/brief", "")
	p.server.publish(t.Context(), before)
	assert.False(t, p.stats.has("pipeline_status{brief}"))
	assert.False(t, p.stats.has("pipeline_info{brief,generate}"))
}

// What the sources of a pipeline say becomes its status, its readiness and its reason; the worst one speaks for it.
func TestSourcesSpeakForTheirPipeline(t *testing.T) {
	running := engine.Info{Active: true}
	lag := func(v float64) *float64 { return &v }
	word := func(state contract.State, cause string, seconds float64) contract.Report {
		return contract.Report{Position: "tx " + cause, LagSeconds: seconds, LagBytes: -1, State: state, Cause: cause}
	}
	calm, late := word(contract.Running, "", 0), word(contract.Running, "", 7)
	loops := word(contract.Retrying, "dialing mysql://u:hunter2-sesame@h: refused", 3)
	lost := word(contract.Failed, "position lost: bin.000007 is gone", 2)
	for name, c := range map[string]struct {
		told    pipeline
		info    engine.Info
		gone    bool
		sources map[string]contract.Report
		status  string
		ready   bool
		reason  string
		Source  string
		lag     *float64
	}{
		"calm":                  {pipeline{status: state.Running}, running, false, map[string]contract.Report{"a": calm}, state.Running, true, "", "a", lag(0)},
		"the latest of two":     {pipeline{status: state.Running}, running, false, map[string]contract.Report{"a": calm, "b": late}, state.Running, true, "", "b", lag(7)},
		"one of two loops":      {pipeline{status: state.Running}, running, false, map[string]contract.Report{"a": late, "b": loops}, state.Running, false, "b: dialing mysql://u:" + document.Mask + "@h: refused", "b", lag(3)},
		"one of two has failed": {pipeline{status: state.Running}, running, false, map[string]contract.Report{"a": loops, "b": lost}, state.Failed, false, lost.Cause, "b", lag(2)},
		"paused and failed":     {pipeline{status: state.Paused}, running, false, map[string]contract.Report{"a": lost}, state.Failed, false, lost.Cause, "a", lag(2)},
		"paused":                {pipeline{status: state.Paused}, running, false, map[string]contract.Report{"a": late}, state.Paused, true, "", "a", lag(7)},
		"stopped after a failure": {
			pipeline{status: state.Stopped}, engine.Info{}, true, map[string]contract.Report{"a": lost}, state.Stopped, true, "", "a", lag(2),
		},
		"the engine has lost it": {
			pipeline{status: state.Running},
			engine.Info{},
			true, nil, state.Failed, false,
			"the engine does not run it any more: start it, or put its configuration again", "deltaforge_mysql", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{sources: sources.New(), pipelines: newRegistry(), stats: account.New(service.MockResources().Metrics(), nil), streams: &single{
				name: "p", ask: func() []service.ConnectionStatus { return nil },
			}}
			for source, r := range c.sources {
				s.sources.Attach("p", source, contract.Source{Report: func() contract.Report { return r }, Withdraw: func() {}})
			}
			c.told.config = []byte("input: {deltaforge_mysql: {}}")
			st := s.stateOf(t.Context(), "p", c.told, c.info, !c.gone)
			assert.Equal(t, c.status, st.Status)
			assert.Equal(t, c.ready, st.ready)
			assert.Equal(t, c.reason, st.Reason)
			assert.Equal(t, c.Source, st.Source)
			assert.Equal(t, c.lag, st.LagSeconds)
			if len(c.sources) > 1 {
				assert.Len(t, st.Sources, len(c.sources))
			}
		})
	}
}

// A pipeline between two configurations is not ready, and has not failed.
func TestBeingReplaced(t *testing.T) {
	s := &Server{sources: sources.New(), pipelines: newRegistry()}
	unlock := s.pipelines.lock("p")
	st := s.stateOf(t.Context(), "p", pipeline{status: state.Running, config: []byte("{}")}, engine.Info{}, false)
	assert.Equal(t, []any{state.Running, replacing, false}, []any{st.Status, st.Reason, st.ready})
	unlock()
	assert.Equal(t, state.Failed, s.stateOf(t.Context(), "p", pipeline{status: state.Running, config: []byte("{}")}, engine.Info{}, false).Status)
}
