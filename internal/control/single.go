package control

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/control/internal/sources"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	"github.com/deltaforge/deltaforge/internal/control/internal/trial"
)

// SingleOptions say how the health of run mode's one pipeline is told.
type SingleOptions struct {
	// Pipeline is the name of the pipeline, as on the metrics page.
	Pipeline string
	// SourceType is the type of its input.
	SourceType string
	// Interval is how often the gauges are set and readiness is looked at; 0: 1 s.
	Interval time.Duration
	// Engine says where the engine's server listens. /health and /ready are on that server. Without an address it does not listen.
	Engine engine.Options
	// Resources are those of the process.
	Resources *service.Resources
}

// NewSingle returns the control plane of run mode: /health and /ready on the engine's own HTTP server, the gauges of the
// pipeline, and its changes of readiness in the log. There is nothing to create or to stop, and so no listener of its own.
// Close it in any case.
func NewSingle(o SingleOptions) (*Server, error) {
	s := &Server{
		opts: Options{Interval: o.Interval, Resources: o.Resources}.withDefaults(), log: o.Resources.Logger().With("target", "control"),
		stats: account.New(o.Resources.Metrics(), nil), state: &state.Dir{}, sources: sources.New(), pipelines: newRegistry(), stop: func() {},
	}
	s.checker = planChecker{trial.New(o.Resources, trial.Witness{Panicked: s.stats.Panicked, Log: s.log})}
	s.sources.Only = o.Pipeline
	s.pipelines.put(o.Pipeline, pipeline{status: state.Running})
	s.readiness.types = map[string]string{o.Pipeline: o.SourceType}
	one := &single{name: o.Pipeline}
	s.streams = one
	o.Resources.SetGeneric(sources.Key, s.sources)
	if o.Engine.Address != "" {
		one.server = engine.New(o.Engine)
		if err := one.server.Identify(o.Resources); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// StartSingle begins to tell how the pipeline is. Connections are asked for from any goroutine.
func (s *Server) StartSingle(ctx context.Context, connections func() []service.ConnectionStatus) error {
	server, err := engine.RegistrarOf(s.opts.Resources)
	if err != nil {
		return err
	}
	one, _ := s.streams.(*single)
	one.ask = connections
	if one.server != nil {
		// The engine only logs that it cannot listen, and the pipeline would run with nobody to ask how it is.
		if err := one.server.Await(ctx); err != nil {
			return err
		}
	}
	ctx, s.stop = context.WithCancel(ctx)
	probes := map[string]http.Handler{}
	for _, rt := range s.routes() {
		if rt.probe {
			probes[rt.path] = s.account(rt.path, s.getOnly(rt))
		}
	}
	claim := func() {
		for path, h := range probes {
			server.RegisterEndpoint(path, "How the pipeline is, as JSON.", h.ServeHTTP)
		}
	}
	claim()
	s.wg.Go(func() { s.goOn(ctx, monitorComponent, func() { s.watch(ctx, claim) }) })
	return nil
}

// getOnly serves a route on a server that does not look at methods.
func (s *Server) getOnly(rt route) http.Handler {
	next := s.serve(rt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", http.MethodGet)
		fail(http.StatusMethodNotAllowed, "%s takes GET, not %s", rt.path, account.KnownMethod(r.Method)).write(w)
	})
}

// watch is monitor in run mode. It claims the endpoints over and over: a stream that the engine builds again, because its file
// has changed, registers its own /ready. Readiness is not looked at in the first moment, when nothing can be connected yet.
func (s *Server) watch(ctx context.Context, claim func()) {
	s.readiness.shown = map[string]string{}
	tick := time.NewTicker(s.opts.Interval)
	defer tick.Stop()
	_ = s.guard(monitorComponent, func() { s.show(ctx) })
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_ = s.guard(monitorComponent, func() { claim(); s.look(ctx) })
	}
}

// show sets the gauges.
func (s *Server) show(ctx context.Context) {
	if states, err := s.states(ctx); err == nil {
		s.publish(ctx, states)
	}
}

// single is the one pipeline of run mode. It is there as long as the process.
type single struct {
	name   string
	server *engine.Client // the engine's server; nil: there is none, or nobody knows where
	ask    func() []service.ConnectionStatus
}

func (o *single) List(context.Context) (map[string]engine.Info, error) {
	return map[string]engine.Info{o.name: {Active: true}}, nil
}

func (o *single) Get(_ context.Context, id string) (engine.Info, bool, error) {
	return engine.Info{Active: true}, id == o.name, nil
}

func (o *single) Connections(context.Context, string) ([]engine.Connection, error) {
	var all []engine.Connection
	for _, c := range o.ask() {
		one := engine.Connection{Label: c.Label(), Path: strings.Join(c.Path(), "."), Connected: c.Active()}
		if err := c.Err(); err != nil {
			one.Error = err.Error()
		}
		all = append(all, one)
	}
	return all, nil
}
