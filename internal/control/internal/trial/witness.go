package trial

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Witness is the metrics exporter and the log of a trial: it passes on the panics of the components, and drops
// everything else that they count and say.
type Witness struct {
	Panicked func(n int64, component string) // counts them
	Log      *service.Logger
	attrs    []slog.Attr
}

const trialMetrics = "deltaforge_trial"

// register makes the witness the exporter trialMetrics of an environment.
func (w Witness) register(env *service.Environment) error {
	return env.RegisterMetricsExporter(trialMetrics, service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return w, nil })
}

// unseen is a stat that nobody looks at.
type unseen struct{}

func (unseen) Incr(int64) {}

func (unseen) Set(int64) {}

func (unseen) Timing(int64) {}

// panicCounter passes on the panics of a component.
type panicCounter struct {
	panicked  func(n int64, component string)
	component string
}

// Incr implements service.MetricsExporterCounter.
func (c panicCounter) Incr(n int64) { c.panicked(n, c.component) }

// NewCounterCtor implements service.MetricsExporter.
func (w Witness) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	at := slices.Index(keys, "component")
	return func(values ...string) service.MetricsExporterCounter {
		if name == "panics_total" && at >= 0 {
			return panicCounter{w.Panicked, values[at]}
		}
		return unseen{}
	}
}

// NewTimerCtor implements service.MetricsExporter.
func (Witness) NewTimerCtor(string, ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return unseen{} }
}

// NewGaugeCtor implements service.MetricsExporter.
func (Witness) NewGaugeCtor(string, ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return unseen{} }
}

// Close implements service.MetricsExporter.
func (Witness) Close(context.Context) error { return nil }

// Enabled implements slog.Handler.
func (Witness) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// Handle implements slog.Handler.
func (w Witness) Handle(_ context.Context, r slog.Record) error {
	if !strings.HasPrefix(r.Message, "Panic in the ") {
		return nil // the caller gets what a trial has found
	}
	log := w.Log
	add := func(a slog.Attr) bool { log = log.With(a.Key, a.Value.String()); return true }
	for _, a := range w.attrs {
		add(a)
	}
	r.Attrs(add)
	log.Error(r.Message)
	return nil
}

// WithAttrs implements slog.Handler.
func (w Witness) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "error" || a.Key == "stack" || a.Key == "source" {
			w.attrs = append(slices.Clip(w.attrs), a)
		}
	}
	return w
}

// WithGroup implements slog.Handler; the engine has no groups.
func (w Witness) WithGroup(string) slog.Handler { return w }
