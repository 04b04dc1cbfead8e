package postgrescdc

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestPanics plants a panic in each goroutine of a source. It is counted and logged with its stack, the source goes on
// from its saved position, and another pipeline in the process does not notice.
func TestPanics(t *testing.T) {
	for _, goroutine := range []string{"stream", "catalogue", "report", "watch", "interrupt"} {
		t.Run(goroutine, func(t *testing.T) {
			d := newDatabase(t)
			d.exec("CREATE TABLE item (id int PRIMARY KEY)")
			var once sync.Once
			hurt := d.pipeline("hurt", func(where string) {
				if where == goroutine {
					once.Do(func() { panic("planted") })
				}
			})
			calm := d.pipeline("calm", nil)
			for _, p := range []*pipeline{hurt, calm} {
				require.Eventually(t, func() bool { return strings.Contains(p.log(), "Reading the log of") }, waitFor, tick, p.log())
			}
			// What is written before the source has come back is read all the same.
			var want []string
			for i := range 20 {
				d.exec(fmt.Sprintf("INSERT INTO item VALUES (%d)", i))
				want = append(want, fmt.Sprintf(`{"id":%d}`, i))
			}
			for _, p := range []*pipeline{hurt, calm} {
				require.Eventually(t, func() bool { return len(p.seen()) >= len(want) }, waitFor, tick, p.log())
				assert.Subset(t, p.seen(), want)
			}
			assert.Len(t, calm.seen(), len(want))
			assert.Zero(t, calm.count("panics_total"))
			assert.Zero(t, calm.count("source_reconnects_total"))
			assert.NotContains(t, calm.log(), "level=ERROR")
			require.Eventually(t, func() bool { return hurt.count("panics_total") == 1 && strings.Contains(hurt.log(), "planted") }, waitFor, tick, hurt.log())
			assert.Contains(t, hurt.log(), "postgrescdc.(*replication).planted", "the stack of the goroutine that panicked")
		})
	}
}

// pipeline is a stream of the engine in this process.
type pipeline struct {
	mu     sync.Mutex
	keys   []string         // guarded by mu
	counts map[string]int64 // by series; guarded by mu
	lines  bytes.Buffer     // guarded by mu
}

// pipeline runs a stream until the end of the test, with a hook in its source.
func (d *database) pipeline(name string, hook func(string)) *pipeline {
	d.t.Helper()
	p := &pipeline{counts: map[string]int64{}}
	env := service.NewEnvironment()
	require.NoError(d.t, env.RegisterMetricsExporter("counts", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return p, nil }))
	require.NoError(d.t, env.RegisterBatchInput("hooked", spec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			common, err := coordinator.ParseConfig(conf)
			require.NoError(d.t, err)
			c, err := parseConfig(conf, common.Name)
			require.NoError(d.t, err)
			r := newReplication(c, &change.Source{Connector: connector, Name: common.Name}, res.Logger(), func(string) {})
			r.guard = coordinator.NewGuard(common.Name, res)
			r.hook = hook
			return coordinator.New(common, connector, r, res)
		}))
	b := env.NewStreamBuilder()
	b.SetLogger(slog.New(slog.NewTextHandler(p, nil)))
	require.NoError(d.t, b.SetMetricsYAML("counts: {}"))
	require.NoError(d.t, b.AddInputYAML(fmt.Sprintf("hooked: {name: %[1]s_%[2]s, slot: %[1]s_%[2]s, publication: pub_%[2]s, dsn: %[3]q, "+
		"checkpoint: {path: %[4]q}, snapshot: {mode: never}}", d.name, name, d.dsn, testenv.TempDir(d.t)+"/checkpoints.db")))
	require.NoError(d.t, b.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, m := range batch {
			key, _ := m.MetaGet(change.MetaKey)
			p.keys = append(p.keys, key)
		}
		return nil
	}))
	s, err := b.Build()
	require.NoError(d.t, err)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	d.t.Cleanup(func() {
		assert.NoError(d.t, s.StopWithin(waitFor))
		_ = <-done
	})
	return p
}

func (p *pipeline) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.keys...)
}

func (p *pipeline) count(series string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[series]
}

func (p *pipeline) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines.String()
}

// Write implements io.Writer for the log.
func (p *pipeline) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = testenv.Said().Write(b)
	return p.lines.Write(b)
}

// counted is a series of a pipeline: a counter, and what else the engine asks for.
type counted struct {
	p    *pipeline
	name string
}

func (c counted) Incr(n int64) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.counts[c.name] += n
}
func (counted) Set(int64)    {}
func (counted) Timing(int64) {}

// NewCounterCtor and its sisters implement service.MetricsExporter.
func (p *pipeline) NewCounterCtor(name string, _ ...string) service.MetricsExporterCounterCtor {
	return func(...string) service.MetricsExporterCounter { return counted{p, name} }
}

func (p *pipeline) NewTimerCtor(name string, _ ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return counted{p, name} }
}

func (p *pipeline) NewGaugeCtor(name string, _ ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return counted{p, name} }
}

// Close implements service.MetricsExporter.
func (*pipeline) Close(context.Context) error { return nil }
