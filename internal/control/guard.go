package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// What panics_total calls the parts of the control plane.
const (
	requestComponent  = "control"
	listenerComponent = "control listener"
	monitorComponent  = "control monitor"
	probeComponent    = "control probe"
	changeComponent   = "control change"
	stopComponent     = "control stop"
	watchComponent    = "control watch"
)

// guard calls f. A panic in it is counted, logged with its stack, and returned as an error; the process goes on.
func (s *Server) guard(component string, f func()) error {
	return guard.Do(component, func(n int64) { s.stats.panics.Incr(n, "", component) }, func(p *guard.Panic) {
		s.log.With("error", fmt.Sprint(p.Value), "stack", p.Stack).Error(p.Line())
	}, func() error { f(); return nil })
}

// again is how long what has to go on waits after a panic.
const again = time.Second

// goOn calls f, and calls it again when it has panicked, until ctx ends.
func (s *Server) goOn(ctx context.Context, component string, f func()) {
	for s.guard(component, f) != nil {
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// witness is the metrics exporter and the log of a trial: of all that its components count and say it passes on the panics.
type witness struct {
	stats *stats
	log   *service.Logger
	attrs []slog.Attr
}

const trialMetrics = "deltaforge_trial"

// register makes the witness the exporter trialMetrics of an environment.
func (w witness) register(env *service.Environment) error {
	return env.RegisterMetricsExporter(trialMetrics, service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return w, nil })
}

// unseen is a stat that nobody looks at.
type unseen struct{}

func (unseen) Incr(int64)   {}
func (unseen) Set(int64)    {}
func (unseen) Timing(int64) {}

// panicCounter passes on the panics of a component.
type panicCounter struct {
	stats     *stats
	component string
}

// Incr implements service.MetricsExporterCounter.
func (c panicCounter) Incr(n int64) { c.stats.panics.Incr(n, "", c.component) }

// NewCounterCtor implements service.MetricsExporter.
func (w witness) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	at := slices.Index(keys, "component")
	return func(values ...string) service.MetricsExporterCounter {
		if name == "panics_total" && at >= 0 {
			return panicCounter{w.stats, values[at]}
		}
		return unseen{}
	}
}

// NewTimerCtor implements service.MetricsExporter.
func (witness) NewTimerCtor(string, ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return unseen{} }
}

// NewGaugeCtor implements service.MetricsExporter.
func (witness) NewGaugeCtor(string, ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return unseen{} }
}

// Close implements service.MetricsExporter.
func (witness) Close(context.Context) error { return nil }

// Enabled implements slog.Handler.
func (witness) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// Handle implements slog.Handler.
func (w witness) Handle(_ context.Context, r slog.Record) error {
	if !strings.HasPrefix(r.Message, "Panic in the ") {
		return nil // the caller gets what a trial has found
	}
	log := w.log
	add := func(a slog.Attr) bool { log = log.With(a.Key, a.Value.String()); return true }
	for _, a := range w.attrs {
		add(a)
	}
	r.Attrs(add)
	log.Error(r.Message)
	return nil
}

// WithAttrs implements slog.Handler.
func (w witness) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "error" || a.Key == "stack" || a.Key == fieldSource {
			w.attrs = append(slices.Clip(w.attrs), a)
		}
	}
	return w
}

// WithGroup implements slog.Handler; the engine has no groups.
func (w witness) WithGroup(string) slog.Handler { return w }
