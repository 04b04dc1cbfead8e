package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/sources"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	contract "github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// State is what /health and /ready say of a pipeline.
type State struct {
	Name       string   `json:"name"`
	Status     string   `json:"status"`
	Source     string   `json:"source,omitempty"`
	Position   string   `json:"position,omitempty"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
	LagBytes   *int64   `json:"lag_bytes,omitempty"`
	// Reason says why the pipeline is not ready, has failed, or does not run though nobody stopped it.
	Reason string `json:"reason,omitempty"`

	// Sources are all of them, where there is more than one; Source, Position and the lags are those of the worst.
	Sources []SourceState `json:"sources,omitempty"`

	ready      bool
	ours       bool // the registry had it
	sourceType string
	info       engine.Info
}

// SourceState is what /health and /ready say of one of several sources.
type SourceState struct {
	Name       string   `json:"name"`
	Position   string   `json:"position,omitempty"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
	LagBytes   *int64   `json:"lag_bytes,omitempty"`
	State      string   `json:"state"`
	Reason     string   `json:"reason,omitempty"`
}

// probes is how many streams are asked for their connections at once.
const probes = 16

// states returns the state of every pipeline, sorted by name.
func (s *Server) states(ctx context.Context) ([]State, error) {
	streams, err := s.streams.List(ctx)
	if err != nil {
		return nil, err
	}
	ours := s.pipelines.snapshot()
	known := maps.Clone(ours)
	for id := range streams { // made behind our back, on the engine's own address
		if _, ok := known[id]; !ok {
			known[id] = pipeline{status: state.Running}
		}
	}
	ids := slices.Sorted(maps.Keys(known))
	all := make([]State, len(ids))
	var wg sync.WaitGroup
	slot := make(chan struct{}, probes)
	for i, id := range ids {
		info, found := streams[id]
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			all[i] = State{Name: id, Status: known[id].status, Reason: "it could not be looked at"} // if that panics
			_ = s.guard(probeComponent, func() { all[i] = s.stateOf(ctx, id, known[id], info, found) })
			_, all[i].ours = ours[id]
		})
	}
	wg.Wait()
	return all, nil
}

// statusOf returns the status of a pipeline and why, from what it was told to be, what its sources say and what the engine has.
func (s *Server) statusOf(id string, p pipeline, info engine.Info, found bool, reports []sources.Report) (status, reason string) {
	switch {
	case p.status == state.Stopped: // whatever was wrong with it before
		return state.Stopped, ""
	case p.failure != "":
		return state.Failed, p.failure
	case !found && s.pipelines.busy(id):
		return p.status, replacing
	case !found:
		return state.Failed, "the engine does not run it any more: start it, or put its configuration again"
	}
	for _, r := range reports {
		if r.State == contract.Failed {
			return state.Failed, r.Cause
		}
	}
	if !info.Active {
		return state.Stopped, "its input has ended"
	}
	return p.status, ""
}

// replacing is the reason of a pipeline between two configurations.
const replacing = "being replaced"

// severity orders the states of sources: the worst one speaks for a pipeline.
func severity(s contract.State) int {
	switch s {
	case contract.Failed:
		return 2
	case contract.Retrying:
		return 1
	case contract.Running, contract.Closed:
	}
	return 0
}

// worstFirst returns the reports of a pipeline's sources: the failed ones, then those that retry, then the one that is latest.
func (s *Server) worstFirst(id string) []sources.Report {
	reports := s.sources.Reports(id)
	slices.SortFunc(reports, func(a, b sources.Report) int {
		return cmp.Or(cmp.Compare(severity(b.State), severity(a.State)), cmp.Compare(b.LagSeconds, a.LagSeconds), strings.Compare(a.Name, b.Name))
	})
	return reports
}

func (s *Server) stateOf(ctx context.Context, id string, p pipeline, info engine.Info, found bool) State {
	reports := s.worstFirst(id)
	st := State{Name: id, info: info}
	st.Status, st.Reason = s.statusOf(id, p, info, found, reports)
	st.sourceType = s.sourceType(ctx, id, p)
	st.Source = st.sourceType
	if len(reports) > 0 {
		worst := sourceState(reports[0])
		st.Source, st.Position, st.LagSeconds, st.LagBytes = worst.Name, worst.Position, worst.LagSeconds, worst.LagBytes
	}
	if len(reports) > 1 {
		for _, r := range reports {
			st.Sources = append(st.Sources, sourceState(r))
		}
	}
	if st.Status == state.Running && st.Reason == "" {
		st.Reason = strings.Join(s.unready(ctx, id, reports), "; ")
	}
	st.ready = st.Reason == "" || st.Status == state.Paused || st.Status == state.Stopped
	st.Reason = redact.Text(st.Reason)
	return st
}

// unready returns why a running pipeline is not ready: what its sources say, and what is not connected. An input of ours whose
// source has said why is not named twice.
func (s *Server) unready(ctx context.Context, id string, reports []sources.Report) (reasons []string) {
	for _, r := range reports {
		if r.State == contract.Retrying {
			reasons = append(reasons, r.Name+": "+r.Cause)
		}
	}
	connections, err := s.streams.Connections(ctx, id)
	if err != nil {
		return append(reasons, "its connections cannot be looked at: "+err.Error())
	}
	for _, c := range connections {
		if !c.Connected && (len(reasons) == 0 || document.KindOf(c.Path) != "input") {
			reasons = append(reasons, describe(c))
		}
	}
	return reasons
}

// sourceState is what /health and /ready say of one source.
func sourceState(r sources.Report) SourceState {
	one := SourceState{Name: r.Name, Position: r.Position, State: string(r.State), Reason: redact.Text(r.Cause)}
	if r.LagSeconds >= 0 {
		one.LagSeconds = &r.LagSeconds
	}
	if r.LagBytes >= 0 {
		one.LagBytes = &r.LagBytes
	}
	return one
}

func describe(c engine.Connection) string {
	what := cmp.Or(c.Label, strings.TrimPrefix(c.Path, "root."))
	if c.Error == "" {
		return what + " is not connected"
	}
	return what + " is not connected: " + c.Error
}

// sourceType names the type of a pipeline's input, asking the engine at most once.
func (s *Server) sourceType(ctx context.Context, id string, p pipeline) string {
	if p.config != nil {
		return document.InputTypeOf(p.config)
	}
	s.readiness.mu.Lock()
	kind, ok := s.readiness.types[id]
	s.readiness.mu.Unlock()
	if ok {
		return kind
	}
	info, found, err := s.streams.Get(ctx, id)
	if err != nil || !found {
		return "unknown"
	}
	kind = document.InputTypeOf(info.Config)
	s.readiness.mu.Lock()
	defer s.readiness.mu.Unlock()
	if s.readiness.types == nil {
		s.readiness.types = map[string]string{}
	}
	s.readiness.types[id] = kind
	return kind
}

// answerOf is the body of /health and /ready.
type answerOf struct {
	Status    string   `json:"status"`
	Failed    []string `json:"failed,omitempty"`
	Pipelines []State  `json:"pipelines"`
}

func (s *Server) health(r *http.Request, _ []byte) *reply {
	states, err := s.states(r.Context())
	if err != nil {
		return replyTo(err)
	}
	a := answerOf{Status: "healthy", Pipelines: states}
	for _, st := range states {
		if st.Status == state.Failed {
			a.Failed = append(a.Failed, st.Name)
		}
	}
	if len(a.Failed) > 0 {
		a.Status = "failed"
		return jsonReply(http.StatusServiceUnavailable, a)
	}
	return jsonReply(http.StatusOK, a)
}

func (s *Server) ready(r *http.Request, _ []byte) *reply {
	states, err := s.states(r.Context())
	if err != nil {
		return replyTo(err)
	}
	for _, st := range states {
		if !st.ready {
			return jsonReply(http.StatusServiceUnavailable, answerOf{Status: "not_ready", Pipelines: states})
		}
	}
	return jsonReply(http.StatusOK, answerOf{Status: "ready", Pipelines: states})
}

// readiness is what the monitor remembers.
type readiness struct {
	mu    sync.Mutex
	types map[string]string // input types of streams from files; guarded by mu

	page sync.Mutex // held while a pipeline comes onto the metrics page, and while it is taken off for good

	last  string            // used by the monitor only
	shown map[string]string // pipelines with gauges, and their source type; used by the monitor only
}

// monitor sets the gauges and logs the changes of readiness until ctx ends.
func (s *Server) monitor(ctx context.Context) {
	s.readiness.shown = map[string]string{}
	tick := time.NewTicker(s.opts.Interval)
	defer tick.Stop()
	for {
		_ = s.guard(monitorComponent, func() { s.look(ctx) })
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look sets the gauges and logs a change of readiness.
func (s *Server) look(ctx context.Context) {
	states, err := s.states(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.With("error", err.Error()).Warn("Reading the state of the pipelines")
		}
		return
	}
	s.publish(ctx, states)
	s.logReadiness(states)
}

// statusValue is the value of pipeline_status.
func statusValue(status string) float64 {
	switch status {
	case state.Running:
		return 1
	case state.Paused:
		return 0.5
	case state.Failed:
		return -1
	}
	return 0
}

func (s *Server) publish(ctx context.Context, states []State) {
	counts := count(states)
	for _, status := range []string{state.Running, state.Paused, state.Stopped, state.Failed} {
		s.stats.Pipelines.Set(int64(counts[status]), status)
	}
	gone := maps.Clone(s.readiness.shown) // deleted, here or behind our back on the engine's own address
	for _, st := range states {
		if s.publishOne(st) {
			delete(gone, st.Name)
		}
	}
	for id := range gone {
		s.withdrawGone(ctx, id)
		delete(s.readiness.shown, id)
		s.readiness.mu.Lock()
		delete(s.readiness.types, id)
		s.readiness.mu.Unlock()
	}
}

// publishOne sets the gauges of a pipeline. It reports false when the pipeline was deleted since it was looked at: its numbers are off
// the page, and must not come back.
func (s *Server) publishOne(st State) bool {
	s.readiness.page.Lock()
	defer s.readiness.page.Unlock()
	if _, there := s.pipelines.get(st.Name); st.ours && !there {
		return false
	}
	s.stats.Status.SetFloat64(statusValue(st.Status), s.stats.Of(st.Name)...)
	if was, ok := s.readiness.shown[st.Name]; ok && was != st.sourceType {
		s.stats.Info.SetFloat64(math.NaN(), s.stats.Of(st.Name, was)...)
	}
	s.stats.Info.Set(1, s.stats.Of(st.Name, st.sourceType)...)
	s.readiness.shown[st.Name] = st.sourceType
	return true
}

// forget takes a deleted pipeline out of the registry and off the metrics page. The caller holds the pipeline's lock.
func (s *Server) forget(id string) {
	s.readiness.page.Lock()
	defer s.readiness.page.Unlock()
	s.pipelines.delete(id)
	s.sources.Forget(id)
	s.withdraw(id)
}

// withdraw takes the numbers of a deleted pipeline off the metrics page. The engine's metrics cannot forget a series; our
// exporter takes a status that is not a number for the end of the pipeline, and forgets all that it has of it. The caller
// holds the pipeline's lock: nobody may make it again meanwhile.
func (s *Server) withdraw(id string) { s.stats.Status.SetFloat64(math.NaN(), s.stats.Of(id)...) }

// withdrawGone is withdraw for a pipeline that was not there a moment ago.
func (s *Server) withdrawGone(ctx context.Context, id string) {
	unlock := s.pipelines.lock(id)
	defer unlock()
	if _, known := s.pipelines.get(id); known {
		return
	}
	if _, found, err := s.streams.Get(ctx, id); err == nil && !found {
		s.withdraw(id)
	}
}

func count(states []State) map[string]int {
	n := map[string]int{}
	for _, st := range states {
		n[st.Status]++
	}
	return n
}

// logReadiness logs once when it changes which pipelines are not ready.
func (s *Server) logReadiness(states []State) {
	n := count(states)
	var notReady, names []string
	for _, st := range states {
		if !st.ready || st.Status == state.Failed {
			names = append(names, st.Name+" "+st.Status)
			notReady = append(notReady, fmt.Sprintf("%s (%s): %s", st.Name, st.Status, st.Reason))
		}
	}
	now := strings.Join(names, "\n")
	if now == s.readiness.last {
		return
	}
	s.readiness.last = now
	log := s.log.With(state.Running, n[state.Running], state.Paused, n[state.Paused], state.Stopped, n[state.Stopped],
		state.Failed, n[state.Failed])
	if len(notReady) == 0 {
		log.Infof("Ready: %s", quantity(len(states)))
		return
	}
	log.With("not_ready", strings.Join(notReady, " | ")).Warnf("Not ready: %s of %d", quantity(len(notReady)), len(states))
}
