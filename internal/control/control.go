// Package control is the control plane: an HTTP listener in front of the engine's streams API that adds health and
// readiness, pausing and stopping, pipelines that survive a restart, authentication, accounting and an audit log.
//
// It reaches the engine the way any client does, over its HTTP API, and keeps what the engine does not: which pipelines
// there should be, and in which status.
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/door"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/control/internal/sources"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	"github.com/deltaforge/deltaforge/internal/control/internal/trial"
	"github.com/deltaforge/deltaforge/internal/loopback"
)

// Options say how a control plane works. Resources and Engine.Address are required, the rest has defaults.
type Options struct {
	// Address is where to listen, such as "0.0.0.0:8080".
	Address string
	// StateDir is where pipelines and statuses are kept; empty: nowhere, and they end with the process.
	StateDir string
	// Credentials of callers. Without any, the listener must be one that only this machine reaches; see Insecure.
	Credentials door.Credentials
	// TLS, where not nil, is what the listener speaks.
	TLS *tls.Config
	// Origins are the browser origins that may call, "*" for all. None: a request that carries an Origin and changes
	// something is refused.
	Origins []string
	// MaxBody is the most bytes of a request body; 0: 1 MiB.
	MaxBody int64
	// ReadTimeout bounds reading a request, body included; 0: 30 s.
	ReadTimeout time.Duration
	// StopTimeout is how long a pipeline may take to stop when the caller does not say; 0: 30 s.
	StopTimeout time.Duration
	// Insecure lets a control plane without credentials listen on an address that other machines reach, and answer them.
	Insecure bool
	// Files are the configuration files of streams: files, folders and globs. Each is a pipeline.
	Files []string
	// ResourceFiles are the files of shared resources, which the engine reads; see Watch. Nil: there are none.
	ResourceFiles *ResourceFiles
	// Watch applies changes of Files and ResourceFiles while the process runs.
	Watch bool
	// Chilled accepts files with lint errors.
	Chilled bool
	// Interval is how often the gauges are set and readiness is looked at; 0: 1 s.
	Interval time.Duration
	// Tenant returns the tenant of a pipeline, which audit lines name; nil: they name none.
	Tenant func(pipeline string) string
	// LabelTenants makes the numbers of a pipeline carry its tenant. The engine's `metrics.mapping`, which says the tenant of
	// everything else, does not see which pipeline these are about. Other exporters than ours refuse a label that it sets too.
	LabelTenants bool

	// Engine says how to reach the engine's API.
	Engine engine.Options
	// Resources are those of the process: its logger, its metrics and the place where sources find Sources.
	Resources *service.Resources
	// Names learns what the sources are called, for the log; nil: nobody asks.
	Names *document.SourceNames
	// SourceTypes are the inputs that attach to Sources and so can be paused.
	SourceTypes []string
	// Checkpoints reads and deletes saved positions; nil: those routes answer 501.
	Checkpoints Checkpoints
}

// labels returns what gives the tenant label of a pipeline; nil: numbers have none.
func (o Options) labels() func(pipeline string) string {
	if !o.LabelTenants {
		return nil
	}
	return o.Tenant
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&o.ReadTimeout, 30*time.Second)
	set(&o.StopTimeout, 30*time.Second)
	set(&o.Interval, time.Second)
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	return o
}

// streams is where the pipelines are looked up.
type streams interface {
	List(ctx context.Context) (map[string]engine.Info, error)
	Get(ctx context.Context, id string) (info engine.Info, found bool, err error)
	Connections(ctx context.Context, id string) ([]engine.Connection, error)
}

// Server is the control plane of one process.
type Server struct {
	opts    Options
	log     *service.Logger
	stats   *account.Stats
	engine  *engine.Client // nil in run mode
	streams streams
	state   *state.Dir
	sources *sources.Sources
	checker planChecker
	files   document.Files
	seen    map[string]string // what was seen of each of them when it was read; of loadFiles, then of watchFiles

	listener net.Listener
	http     *http.Server
	stop     context.CancelFunc
	wg       sync.WaitGroup
	closing  sync.Once

	pipelines *registry
	readiness readiness
}

// New opens the state directory and the listener, so that what is wrong with them is known before any pipeline starts,
// and closes the gates of the pipelines that were paused. It answers no request before Start. Close it in any case.
func New(ctx context.Context, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.Credentials.Validate(); err != nil {
		return nil, err
	}
	st, err := state.Open(o.StateDir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, log: o.Resources.Logger().With("target", "control"), stats: account.New(o.Resources.Metrics(), o.labels()),
		engine: engine.New(o.Engine), state: st, sources: sources.New(), pipelines: newRegistry(), stop: func() {},
		files: document.Files{Patterns: o.Files}, seen: map[string]string{},
	}
	s.checker = planChecker{trial.New(o.Resources, trial.Witness{Panicked: s.stats.Panicked, Log: s.log})}
	s.streams = s.engine
	for id, p := range st.Saved() {
		s.sources.SetPaused(id, p.Status != state.Running)
	}
	o.Resources.SetGeneric(sources.Key, s.sources)
	if err := s.engine.Identify(o.Resources); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	var lc net.ListenConfig
	if s.listener, err = lc.Listen(ctx, "tcp", o.Address); err != nil {
		return nil, errors.Join(fmt.Errorf("listening for the control plane on %s: %w; choose another --control-address", o.Address, err),
			st.Close())
	}
	if err := s.closed(); err != nil {
		return nil, errors.Join(err, s.listener.Close(), st.Close())
	}
	if o.TLS != nil {
		s.listener = tls.NewListener(s.listener, o.TLS)
	}
	return s, nil
}

// closed refuses a listener that strangers reach and that asks for nothing: whoever can create a pipeline can run programs as
// this process.
func (s *Server) closed() error {
	if s.opts.Credentials.Any() || s.local() || s.opts.Insecure {
		return nil
	}
	return fmt.Errorf("the control plane would listen on %s without credentials, and who can create a pipeline can run programs here: "+
		"set DELTAFORGE_CONTROL_TOKEN or give --control-token-file or --control-users-file, or listen on this machine only "+
		"(--control-address 127.0.0.1:8080), or give --insecure to let everybody in", s.Addr())
}

// local reports whether only this machine reaches the listener.
func (s *Server) local() bool { return loopback.Addr(s.Addr()) }

// Addr is the address of the listener.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Start takes over the streams that the engine has, starts those of the state directory and of the configuration files, and
// serves until Close or the end of ctx. A pipeline that does not start is not an error: it is there, failed, with its reason.
func (s *Server) Start(ctx context.Context) error {
	if err := s.engine.Await(ctx); err != nil {
		return err
	}
	if err := s.restore(ctx); err != nil {
		return err
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: min(10*time.Second, s.opts.ReadTimeout), ReadTimeout: s.opts.ReadTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    serverLog(s.log),
	}
	s.wg.Go(func() { s.goOn(ctx, listenerComponent, func() { s.serveHTTP(ctx) }) })
	s.wg.Go(func() { s.goOn(ctx, monitorComponent, func() { s.monitor(ctx) }) })
	if s.opts.Watch {
		s.wg.Go(func() { s.goOn(ctx, watchComponent, func() { s.watchFiles(ctx) }) })
	}
	s.announce()
	return nil
}

func (s *Server) serveHTTP(ctx context.Context) {
	if err := s.http.Serve(lasting{s.listener}); ctx.Err() == nil { // a panic would close the listener
		s.log.With("error", err.Error()).Error("Control plane listener ended")
	}
}

// lasting is a listener that stays open when a server that uses it ends.
type lasting struct{ net.Listener }

// Close implements net.Listener.
func (lasting) Close() error { return nil }

// announce says where the control plane listens and who may use it.
func (s *Server) announce() {
	log := s.log.With("address", s.Addr().String())
	log.Info("Serving the control plane")
	if !s.opts.Credentials.Any() && !s.local() {
		log.Warn("The control plane is insecure: it has no credentials and listens where other machines reach it. " +
			"Who can create a pipeline can run programs as this process")
	}
}

// closeTimeout bounds how long Close waits for requests in progress.
const closeTimeout = 5 * time.Second

// Close stops serving and waits for what it started. It may be called more than once, and without Start.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	s.closing.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		s.stop()
		if s.listener != nil {
			_ = s.listener.Close() // nothing is to be done about it
		}
		if s.http != nil {
			if err := s.http.Shutdown(ctx); err != nil {
				errs = append(errs, fmt.Errorf("closing the control plane: %w", err), s.http.Close())
			}
		}
		s.wg.Wait()
		if s.engine != nil {
			s.engine.Close()
		}
		errs = append(errs, s.state.Close())
	})
	return errors.Join(errs...)
}
