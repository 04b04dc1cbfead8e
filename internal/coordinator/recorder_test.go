package coordinator

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // the engine's own parts of a stream
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// recorder is a metrics exporter and a log that keep everything.
type recorder struct {
	mu     sync.Mutex
	values map[string]float64   // counters and gauges, as name{label values}; guarded by mu
	sets   map[string][]float64 // every value of a gauge; guarded by mu
	times  map[string][]int64   // guarded by mu
	lines  []slog.Record        // guarded by mu
	onIncr func(name string)
	onSet  atomic.Pointer[func(series string)] // may panic
}

func newRecorder() *recorder {
	return &recorder{values: map[string]float64{}, times: map[string][]int64{}, sets: map[string][]float64{}}
}

// own leaves out the labels that the engine gives every component.
func own(keys, values []string) (labels []string) {
	for n, k := range keys {
		if k != "label" && k != "path" && k != "stream" {
			labels = append(labels, values[n])
		}
	}
	return labels
}

func series(name string, labels []string) string {
	if len(labels) == 0 {
		return name
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

func (r *recorder) value(name string, labels ...string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.values[series(name, labels)]
}

func (r *recorder) history(name string, labels ...string) []float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]float64(nil), r.sets[series(name, labels)]...)
}

func (r *recorder) timings(name string, labels ...string) []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int64(nil), r.times[series(name, labels)]...)
}

// logged returns the messages of a level, and the stacks that came with them.
func (r *recorder) logged(level slog.Level) (messages []string, stacks string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lines {
		if l.Level == level {
			messages = append(messages, l.Message)
			l.Attrs(func(a slog.Attr) bool {
				if a.Key == "stack" {
					stacks += a.Value.String()
				}
				return true
			})
		}
	}
	return messages, stacks
}

// text returns every line that was logged.
func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, l := range r.lines {
		b.WriteString(l.Level.String() + " " + l.Message + "\n")
	}
	return b.String()
}

type recorded struct {
	r    *recorder
	name string
}

func (m recorded) Incr(n int64) {
	if m.r.onIncr != nil && n > 0 {
		m.r.onIncr(m.name)
	}
	m.r.mu.Lock()
	m.r.values[m.name] += float64(n)
	m.r.mu.Unlock()
}

func (m recorded) Set(n int64) { m.SetFloat64(float64(n)) }

// set has f called before every gauge and timing that is set.
func (r *recorder) set(f func(series string)) { r.onSet.Store(&f) }

func (r *recorder) setting(series string) {
	if f := r.onSet.Load(); f != nil {
		(*f)(series)
	}
}

func (m recorded) SetFloat64(v float64) {
	m.r.setting(m.name)
	m.r.mu.Lock()
	m.r.values[m.name] = v
	m.r.sets[m.name] = append(m.r.sets[m.name], v)
	m.r.mu.Unlock()
}

func (m recorded) Timing(n int64) {
	m.r.setting(m.name)
	if m.r.onIncr != nil {
		m.r.onIncr(m.name)
	}
	m.r.mu.Lock()
	m.r.times[m.name] = append(m.r.times[m.name], n)
	m.r.mu.Unlock()
}

func (r *recorder) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	return func(v ...string) service.MetricsExporterCounter { return recorded{r, series(name, own(keys, v))} }
}

func (r *recorder) NewTimerCtor(name string, keys ...string) service.MetricsExporterTimerCtor {
	return func(v ...string) service.MetricsExporterTimer { return recorded{r, series(name, own(keys, v))} }
}

func (r *recorder) NewGaugeCtor(name string, keys ...string) service.MetricsExporterGaugeCtor {
	return func(v ...string) service.MetricsExporterGauge { return recorded{r, series(name, own(keys, v))} }
}

func (r *recorder) Close(context.Context) error { return nil }

// logHandler is the recorder as an slog.Handler with attributes.
type logHandler struct {
	r     *recorder
	attrs []slog.Attr
}

func (logHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h logHandler) WithGroup(string) slog.Handler          { return h }
func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return logHandler{h.r, append(append([]slog.Attr(nil), h.attrs...), a...)}
}

func (h logHandler) Handle(ctx context.Context, rec slog.Record) error {
	rec = rec.Clone()
	rec.AddAttrs(h.attrs...)
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.r.lines = append(h.r.lines, rec)
	return slog.NewTextHandler(testenv.Said(), nil).Handle(ctx, rec)
}

// endedInput ends a stream at once.
type endedInput struct{}

func (endedInput) Connect(context.Context) error { return nil }
func (endedInput) Close(context.Context) error   { return nil }
func (endedInput) ReadBatch(context.Context) (service.MessageBatch, service.AckFunc, error) {
	return nil, nil, service.ErrEndOfInput
}

// resources returns the engine's resources over a recorder: those of a stream that has ended.
func resources(t *testing.T, r *recorder) *service.Resources {
	var res *service.Resources
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterBatchInput("capture", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, mgr *service.Resources) (service.BatchInput, error) {
			res = mgr
			return endedInput{}, nil
		}))
	runStream(t, env, r, "capture: {}", nil)
	return res
}

// runStream runs a stream with one input until the input ends.
func runStream(t *testing.T, env *service.Environment, r *recorder, input string, consume service.MessageBatchHandlerFunc) {
	runBuilder(t, env, env.NewStreamBuilder(), r, input, consume)
}

// runBuilder is runStream for a builder that has some settings already.
func runBuilder(
	t *testing.T, env *service.Environment, b *service.StreamBuilder, r *recorder, input string, consume service.MessageBatchHandlerFunc,
) {
	require.NoError(t, env.RegisterMetricsExporter("recorder", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return r, nil }))
	b.SetLogger(slog.New(logHandler{r: r}))
	require.NoError(t, b.SetMetricsYAML("recorder: {}"))
	require.NoError(t, b.AddInputYAML(input))
	if consume == nil {
		consume = func(context.Context, service.MessageBatch) error { return nil }
	}
	require.NoError(t, b.AddBatchConsumerFunc(consume))
	s, err := b.Build()
	require.NoError(t, err)
	require.NoError(t, s.Run(t.Context()))
}
