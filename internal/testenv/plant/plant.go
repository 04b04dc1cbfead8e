// Package plant makes chosen places panic, once each: the one way in which tests plant panics in code that others call or that
// runs on a goroutine of its own.
//
// The places are stats. A stat that only one goroutine moves stands for that goroutine. The stat panics_total stands for whatever
// is guarded: a guard adds 0 to it before it calls what it guards.
package plant

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	// The engine's own parts of a stream.
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
)

// guards is the stat that moves by 0 when something guarded begins.
const guards = "panics_total"

// Plan is what is still to panic.
type Plan struct {
	mu   sync.Mutex
	left map[string]bool // by entry; guarded by mu
}

// New returns a plan. Each entry is stat@label or stat@label+label: it panics the first time that the stat moves with all of
// these among the values of its labels.
func New(entries ...string) *Plan {
	p := &Plan{left: map[string]bool{}}
	for _, entry := range entries {
		p.left[entry] = true
	}
	return p
}

// step panics when it is time to.
func (p *Plan) step(stat string, labels []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for entry := range p.left {
		planted, wanted, _ := strings.Cut(entry, "@")
		missing := func(label string) bool { return !slices.Contains(labels, label) }
		if planted == stat && !slices.ContainsFunc(strings.Split(wanted, "+"), missing) {
			delete(p.left, entry)
			panic("planted in " + entry)
		}
	}
}

// Around returns the exporter with the panics in it.
func (p *Plan) Around(inner service.MetricsExporter) service.MetricsExporter {
	return exporter{inner, p}
}

type exporter struct {
	service.MetricsExporter
	plan *Plan
}

// HandlerFunc is how the engine gets the page.
func (e exporter) HandlerFunc() http.HandlerFunc {
	if h, ok := e.MetricsExporter.(interface{ HandlerFunc() http.HandlerFunc }); ok {
		return h.HandlerFunc()
	}
	return http.NotFound
}

// NewCounterCtor implements service.MetricsExporter.
func (e exporter) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	inner := e.MetricsExporter.NewCounterCtor(name, keys...)
	return func(v ...string) service.MetricsExporterCounter {
		return handle{counter: inner(v...), guard: name == guards, step: func() { e.plan.step(name, v) }}
	}
}

// NewTimerCtor implements service.MetricsExporter.
func (e exporter) NewTimerCtor(name string, keys ...string) service.MetricsExporterTimerCtor {
	inner := e.MetricsExporter.NewTimerCtor(name, keys...)
	return func(v ...string) service.MetricsExporterTimer {
		return handle{timer: inner(v...), step: func() { e.plan.step(name, v) }}
	}
}

// NewGaugeCtor implements service.MetricsExporter.
func (e exporter) NewGaugeCtor(name string, keys ...string) service.MetricsExporterGaugeCtor {
	inner := e.MetricsExporter.NewGaugeCtor(name, keys...)
	return func(v ...string) service.MetricsExporterGauge {
		return handle{gauge: inner(v...), step: func() { e.plan.step(name, v) }}
	}
}

// handle is a handle of the exporter that may panic when it moves.
type handle struct {
	counter service.MetricsExporterCounter
	timer   service.MetricsExporterTimer
	gauge   service.MetricsExporterGauge
	guard   bool
	step    func()
}

// Incr implements service.MetricsExporterCounter.
func (h handle) Incr(n int64) {
	if (n > 0) != h.guard {
		h.step()
	}
	h.counter.Incr(n)
}

// Timing implements service.MetricsExporterTimer.
func (h handle) Timing(n int64) { h.step(); h.timer.Timing(n) }

// Set implements service.MetricsExporterGauge.
func (h handle) Set(n int64) {
	if n > 0 {
		h.step()
	}
	h.gauge.Set(n)
}

// SetFloat64 is for gauges that are not whole numbers.
func (h handle) SetFloat64(v float64) {
	if g, ok := h.gauge.(interface{ SetFloat64(float64) }); ok {
		g.SetFloat64(v)
	}
}

// Caught is what became of the panics in a component of the engine.
type Caught struct {
	mu     sync.Mutex
	counts map[string]int64 // by component; guarded by mu
	lines  strings.Builder  // guarded by mu
}

// Resources returns resources for one component, whose stats panic as planned.
func Resources(t *testing.T, entries ...string) (*service.Resources, *Caught) {
	t.Helper()
	c := &Caught{counts: map[string]int64{}}
	var res *service.Resources
	env := service.NewEnvironment()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(env.RegisterMetricsExporter("planted", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) {
			return New(entries...).Around(c), nil
		}))
	must(env.RegisterBatchInput("capture", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, r *service.Resources) (service.BatchInput, error) {
			res = r
			return nil, service.ErrEndOfInput
		}))
	b := env.NewStreamBuilder()
	b.SetLogger(slog.New(slog.NewTextHandler(c, nil)))
	must(b.SetYAML("http: {enabled: false}\nmetrics: {planted: {}}\ninput: {capture: {}}\noutput: {drop: {}}\n"))
	s, err := b.Build()
	must(err)
	_ = s.Run(t.Context()) // its input gives up: it has what it was made for
	if res == nil {
		t.Fatal("the engine has made no input")
	}
	return res, c
}

// Count is how many panics of a component were counted.
func (c *Caught) Count(component string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[component]
}

// Log is what was logged.
func (c *Caught) Log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines.String()
}

// Write implements io.Writer, for the log.
func (c *Caught) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines.Write(p)
}

type panicCounter struct {
	c         *Caught
	component string
}

// Incr implements service.MetricsExporterCounter.
func (p panicCounter) Incr(n int64) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.counts[p.component] += n
}

// ignored is a stat that nobody looks at.
type ignored struct{}

func (ignored) Incr(int64)   {}
func (ignored) Set(int64)    {}
func (ignored) Timing(int64) {}

// NewCounterCtor and its sisters implement service.MetricsExporter.
func (c *Caught) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	at := slices.Index(keys, "component")
	return func(v ...string) service.MetricsExporterCounter {
		if name == guards && at >= 0 {
			return panicCounter{c, v[at]}
		}
		return ignored{}
	}
}

// NewTimerCtor implements service.MetricsExporter.
func (*Caught) NewTimerCtor(string, ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return ignored{} }
}

// NewGaugeCtor implements service.MetricsExporter.
func (*Caught) NewGaugeCtor(string, ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return ignored{} }
}

// Close implements service.MetricsExporter.
func (*Caught) Close(context.Context) error { return nil }
