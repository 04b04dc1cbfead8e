package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/internal/advice"
	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// pipeline is what the control plane knows of a pipeline. It is a value: whoever changes it puts a new one.
type pipeline struct {
	status  string // running, paused or stopped
	config  []byte // as it came; nil: ask the engine (a configuration file that may change under us)
	chilled bool
	saved   bool   // made over HTTP, so its configuration is kept in the state directory
	file    string // the configuration file that it comes from; empty: none
	failure string // why it does not run though it should
}

// registry holds the pipelines.
type registry struct {
	mu    sync.Mutex
	all   map[string]pipeline // guarded by mu
	locks map[string]*idLock  // guarded by mu
	set   sync.RWMutex        // held for writing while all pipelines are replaced
}

// idLock serialises what is done to one pipeline.
type idLock struct {
	mu    sync.Mutex
	users int
}

func newRegistry() *registry {
	return &registry{all: map[string]pipeline{}, locks: map[string]*idLock{}}
}

func (g *registry) get(id string) (pipeline, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.all[id]
	return p, ok
}

func (g *registry) put(id string, p pipeline) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all[id] = p
}

func (g *registry) delete(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, id)
}

func (g *registry) snapshot() map[string]pipeline {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.all)
}

// lock waits for its turn to change a pipeline and returns the function that ends the turn.
func (g *registry) lock(id string) (unlock func()) {
	g.mu.Lock()
	l := g.locks[id]
	if l == nil {
		l = &idLock{}
		g.locks[id] = l
	}
	l.users++
	g.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(g.locks, id)
		}
	}
}

// busy reports whether something is being done to a pipeline.
func (g *registry) busy(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.locks[id] != nil
}

// refusal is an error with the answer that the caller gets.
type refusal struct {
	reply *reply
	text  string
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

func refusef(status int, format string, args ...any) error {
	return &refusal{fail(status, format, args...), fmt.Sprintf(format, args...)}
}

// lintRefusal answers as the engine does.
func lintRefusal(lints []string) error {
	return &refusal{jsonReply(http.StatusBadRequest, map[string]any{"lint_errors": lints}), strings.Join(lints, "; ")}
}

// replyTo turns an error into an answer: a refusal has its own, anything else means that the engine or the state
// directory could not be used.
func replyTo(err error) *reply {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reply
	}
	return fail(http.StatusBadGateway, "%v", err)
}

// find returns a pipeline. It also finds one that the engine has and the control plane has not heard of. The caller holds its lock.
func (s *Server) find(ctx context.Context, id string) (pipeline, error) {
	if p, ok := s.pipelines.get(id); ok {
		return p, nil
	}
	_, found, err := s.engine.Get(ctx, id)
	if err != nil {
		return pipeline{}, err
	}
	if !found {
		return pipeline{}, refusef(http.StatusNotFound, "Stream not found")
	}
	p := pipeline{status: state.Running}
	s.pipelines.put(id, p)
	return p, nil
}

// configOf returns the configuration of a pipeline as it came, or as the engine has it.
func (s *Server) configOf(ctx context.Context, id string, p pipeline) ([]byte, error) {
	if p.config != nil {
		return p.config, nil
	}
	info, found, err := s.engine.Get(ctx, id)
	if err == nil && !found {
		err = refusef(http.StatusNotFound, "Stream not found")
	}
	return info.Config, err
}

// keep saves a pipeline and then puts it in the registry.
func (s *Server) keep(id string, p pipeline) error {
	if err := s.state.Set(id, &state.Pipeline{Status: p.status, Chilled: p.chilled}); err != nil {
		return err
	}
	s.pipelines.put(id, p)
	return nil
}

// run makes the engine run a configuration under an id that it does not have. The gate is set before. The secrets of the configuration are
// known already: who takes a configuration in learns them.
func (s *Server) run(ctx context.Context, id string, p pipeline, query url.Values) error {
	s.opts.Names.Put(id, p.config)
	if found, err := advice.Of(p.config); err == nil {
		for _, f := range found {
			s.log.With("pipeline", id).Warnf("This stream gives up a guarantee of its source. %s", f)
		}
	}
	s.sources.SetPaused(id, p.status == state.Paused)
	a, err := s.engine.Request(ctx, http.MethodPost, engine.StreamPath(id), chilledQuery(query, p.chilled), document.QuoteSecrets(p.config))
	if err != nil {
		return err
	}
	a.Body = []byte(document.Shown(p.config, string(a.Body)))
	return badConfig(a)
}

// badConfig returns the engine's complaint about a configuration. The engine calls a constructor that fails a bad
// gateway; it is the configuration's fault.
func badConfig(a engine.Answer) error {
	if a.OK() {
		return nil
	}
	if a.Status == http.StatusBadGateway {
		return refusef(http.StatusBadRequest, "%s", a.Text())
	}
	return &refusal{passed(a), a.Text()}
}

func chilledQuery(query url.Values, chilled bool) url.Values {
	q := url.Values{}
	if chilled {
		q.Set("chilled", "true")
	}
	if t := query.Get("timeout"); t != "" {
		q.Set("timeout", t)
	}
	return q
}

// halt makes the engine stop and forget a stream. It is no error that there is none.
func (s *Server) halt(ctx context.Context, id string, query url.Values) error {
	q := url.Values{"timeout": {s.opts.StopTimeout.String()}}
	given := false
	if t := query.Get("timeout"); t != "" {
		if d, err := time.ParseDuration(t); err == nil && d > 0 {
			q.Set("timeout", t)
			given = true
		}
	}
	if !given {
		defer s.hurry(ctx, id)()
	}
	a, err := s.engine.Request(ctx, http.MethodDelete, engine.StreamPath(id), q, nil)
	if err != nil {
		return err
	}
	if !a.OK() && a.Status != http.StatusNotFound {
		return fmt.Errorf("stopping stream %q: %s", id, a.Text())
	}
	return nil
}

const (
	// hopeless is how long no output of a pipeline that is being stopped may be connected before nothing is waited for any more.
	hopeless = time.Second
	// hurried is how long the engine may then take: it gives up on what is on its way after three quarters of it.
	hurried = 2 * time.Second
)

// hurry shortens the stop of a stream whose outputs reach nobody, until it is ended by the function that it returns. The engine
// waits for the acknowledgement of what is on its way, three quarters of the time that it may take, and there will be none. What
// is not acknowledged is read again.
func (s *Server) hurry(ctx context.Context, id string) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	look := func() {
		tick := time.NewTicker(min(s.opts.Interval, hopeless/4))
		defer tick.Stop()
		for since := time.Now(); time.Since(since) < hopeless; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			connections, err := s.engine.Connections(ctx, id)
			if err != nil || !cutOff(connections) {
				since = time.Now()
			}
		}
		// The caller of halt reports the outcome.
		_, _ = s.engine.Request(ctx, http.MethodDelete, engine.StreamPath(id), url.Values{"timeout": {hurried.String()}}, nil)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.guard(stopComponent, look) })
	return func() { cancel(); wg.Wait() }
}

// cutOff reports whether there are outputs, and none is connected.
func cutOff(all []engine.Connection) bool {
	outputs := 0
	for _, c := range all {
		if !strings.Contains(c.Path, "output") {
			continue
		}
		if c.Connected {
			return false
		}
		outputs++
	}
	return outputs > 0
}

// restore takes over the engine's streams and starts those of the state directory.
func (s *Server) restore(ctx context.Context) error {
	running, err := s.engine.List(ctx)
	if err != nil {
		return err
	}
	configs, err := s.state.Configs()
	if err != nil {
		return err
	}
	saved := s.state.Saved()
	for id := range running {
		if _, twice := configs[id]; twice {
			return fmt.Errorf("pipeline %q is in the state directory and in a configuration file: delete %s, or the file",
				id, s.state.Path(id))
		}
		if err := s.adopt(ctx, id, saved[id]); err != nil {
			return err
		}
	}
	for id, config := range configs {
		document.Learn(config)
		p := pipeline{status: saved[id].Status, chilled: saved[id].Chilled, config: config, saved: true}
		if p.status == "" {
			p.status = state.Running
		}
		if p.status != state.Stopped {
			if err := s.run(ctx, id, p, nil); err != nil {
				p.failure = err.Error()
				s.log.With("pipeline", id, "error", redact.Text(p.failure)).Error("Saved pipeline does not start")
			}
		}
		s.pipelines.put(id, p)
	}
	if err := s.loadFiles(ctx); err != nil {
		return err
	}
	for id := range saved {
		if _, known := s.pipelines.get(id); !known {
			s.sources.Forget(id)
			if err := s.state.Set(id, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt gives a stream of a configuration file the status that it had.
func (s *Server) adopt(ctx context.Context, id string, was state.Pipeline) error {
	p := pipeline{status: state.Running}
	switch was.Status {
	case state.Paused:
		p.status = state.Paused
	case state.Stopped: // it has run since the engine started, with its gate closed
		config, err := s.configOf(ctx, id, p)
		if err != nil {
			return err
		}
		if err := s.halt(ctx, id, nil); err != nil {
			return err
		}
		p = pipeline{status: state.Stopped, config: config, chilled: true}
	}
	s.pipelines.put(id, p)
	return nil
}
