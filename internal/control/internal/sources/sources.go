// Package sources connects the control plane with the sources of the process.
package sources

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

// Key is where a source finds *Sources among the engine's generic values (service.Resources.GetGeneric).
const Key = contract.Key

// Sources connects the control plane with the sources in the process: it tells them when their pipeline is paused, and
// they tell it where they are.
type Sources struct {
	Only string // run mode: the name of the pipeline, which the engine gives none

	mu        sync.Mutex
	pipelines map[string]*attached // guarded by mu
}

var _ contract.Registry = (*Sources)(nil)

// attached is what Sources knows of one pipeline.
type attached struct {
	paused  bool
	changed chan struct{} // closed and replaced when paused changes
	sources map[string]*attachedSource
}

// attachedSource is a source that runs, or that was closed and whose word is still asked for.
type attachedSource struct {
	contract.Source
	closed bool
}

// New returns an empty registry.
func New() *Sources { return &Sources{pipelines: map[string]*attached{}} }

func (s *Sources) get(pipeline string) *attached {
	if pipeline == "" {
		pipeline = s.Only
	}
	a := s.pipelines[pipeline]
	if a == nil {
		a = &attached{changed: make(chan struct{}), sources: map[string]*attachedSource{}}
		s.pipelines[pipeline] = a
	}
	return a
}

// Attach implements contract.Registry. What earlier sources of the pipeline have left is forgotten.
func (s *Sources) Attach(pipeline, name string, source contract.Source) (gate contract.Gate, detach func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.get(pipeline)
	was := a.sources[name]
	a.dropClosed(name)
	if was != nil && !was.closed {
		was.Withdraw = func() {} // two at a time: the one that came last has the series
	}
	this := &attachedSource{Source: source}
	a.sources[name] = this
	gate = func() (bool, <-chan struct{}) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := s.get(pipeline)
		return a.paused, a.changed
	}
	return gate, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		this.closed = true
	}
}

// dropClosed forgets the closed sources. The one of that name has a successor, which has its series.
func (a *attached) dropClosed(successor string) {
	maps.DeleteFunc(a.sources, func(name string, src *attachedSource) bool {
		if src.closed && name != successor && src.Withdraw != nil {
			src.Withdraw()
		}
		return src.closed
	})
}

// SetPaused closes or opens the gate of a pipeline, which need not exist yet.
func (s *Sources) SetPaused(pipeline string, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.get(pipeline)
	if a.paused != paused {
		a.paused = paused
		close(a.changed)
		a.changed = make(chan struct{})
	}
}

// Forget drops what is known of a pipeline that has been deleted.
func (s *Sources) Forget(pipeline string) {
	s.SetPaused(pipeline, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.get(pipeline)
	a.dropClosed("")
	if len(a.sources) == 0 {
		delete(s.pipelines, pipeline)
	}
}

// Snapshot carries out a request with the sources of a pipeline that run and load tables, and returns how their snapshots are, by their names. Only is the
// name of one of them; empty: all.
func (s *Sources) Snapshot(pipeline, only string, r contract.SnapshotRequest) (map[string]contract.SnapshotStatus, error) {
	s.mu.Lock()
	asked := map[string]func(contract.SnapshotRequest) (contract.SnapshotStatus, error){}
	if a := s.pipelines[pipeline]; a != nil {
		for name, src := range a.sources {
			if !src.closed && src.Snapshot != nil && (only == "" || only == name) {
				asked[name] = src.Snapshot
			}
		}
	}
	s.mu.Unlock()
	all := map[string]contract.SnapshotStatus{}
	var failed []error
	for name, ask := range asked {
		status, err := ask(r)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
		all[name] = status
	}
	return all, errors.Join(failed...)
}

// Report is the word of one source.
type Report struct {
	Name string
	contract.Report
}

// Reports asks the sources of a pipeline how they are, those included that are closed.
func (s *Sources) Reports(pipeline string) []Report {
	s.mu.Lock()
	asked := map[string]func() contract.Report{}
	if a := s.pipelines[pipeline]; a != nil {
		for name, src := range a.sources {
			asked[name] = src.Report
		}
	}
	s.mu.Unlock()
	all := make([]Report, 0, len(asked))
	for name, report := range asked {
		all = append(all, Report{name, report()})
	}
	return all
}
