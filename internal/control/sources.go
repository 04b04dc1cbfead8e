package control

import (
	"maps"
	"sync"
)

// SourcesKey is where a source finds *Sources among the engine's generic values (service.Resources.GetGeneric). A source
// does not import this package: it asks the value for the method Attach.
const SourcesKey = "deltaforge.sources"

// Sources connects the control plane with the sources in the process: it tells them when their pipeline is paused, and
// they tell it where they are.
type Sources struct {
	only string // run mode: the name of the pipeline, which the engine gives none

	mu        sync.Mutex
	pipelines map[string]*attached // guarded by mu
}

// attached is what Sources knows of one pipeline.
type attached struct {
	paused  bool
	changed chan struct{} // closed and replaced when paused changes
	sources map[string]report
}

// report returns where a source is: its position, how far it is behind in seconds (negative: unknown), and what is wrong
// with it that only a person can mend ("" for nothing).
type report = func() (position string, lag float64, failure string)

// NewSources returns an empty registry.
func NewSources() *Sources { return &Sources{pipelines: map[string]*attached{}} }

func (s *Sources) get(pipeline string) *attached {
	if pipeline == "" {
		pipeline = s.only
	}
	a := s.pipelines[pipeline]
	if a == nil {
		a = &attached{changed: make(chan struct{}), sources: map[string]report{}}
		s.pipelines[pipeline] = a
	}
	return a
}

// Attach is called by a source when it first connects, from any goroutine. The pipeline is Resources.StreamID. The report
// is called from other goroutines until detach and must not block.
//
// The source asks gate before it hands a batch to its pipeline: while paused is true it keeps its connection and hands
// over nothing; changed is closed at the next change. detach is called once, when the source closes.
func (s *Sources) Attach(pipeline, source string, r func() (position string, lag float64, failure string)) (
	gate func() (paused bool, changed <-chan struct{}), detach func(),
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.get(pipeline).sources[source] = r
	gate = func() (bool, <-chan struct{}) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := s.get(pipeline)
		return a.paused, a.changed
	}
	return gate, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.get(pipeline).sources, source)
	}
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

// forget drops what is known of a pipeline that has been deleted.
func (s *Sources) forget(pipeline string) {
	s.SetPaused(pipeline, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.get(pipeline).sources) == 0 {
		delete(s.pipelines, pipeline)
	}
}

// sourceReport is the word of one source.
type sourceReport struct {
	name     string
	position string
	lag      float64
	failure  string
}

// reports asks the sources of a pipeline where they are.
func (s *Sources) reports(pipeline string) []sourceReport {
	s.mu.Lock()
	asked := map[string]report{}
	if a := s.pipelines[pipeline]; a != nil {
		maps.Copy(asked, a.sources)
	}
	s.mu.Unlock()
	all := make([]sourceReport, 0, len(asked))
	for name, r := range asked {
		position, lag, failure := r()
		all = append(all, sourceReport{name: name, position: position, lag: lag, failure: failure})
	}
	return all
}
