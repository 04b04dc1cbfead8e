package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// build makes a stream with these metrics and does not run it.
func build(t *testing.T, metricsYAML string) (*service.Stream, error) {
	t.Helper()
	builder := service.NewStreamBuilder()
	require.NoError(t, builder.SetYAML("http: {enabled: false}\ninput: {generate: {mapping: 'root = 1'}}\noutput: {drop: {}}"))
	require.NoError(t, builder.SetMetricsYAML(metricsYAML))
	builder.SetLogger(slog.New(slog.DiscardHandler))
	return builder.Build()
}

func TestAddressInUse(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, taken.Close()) }()
	address := taken.Addr().String()

	_, err = build(t, fmt.Sprintf("deltaforge: {address: %q}", address))
	require.ErrorContains(t, err, "listening for metrics on "+address)
	require.ErrorContains(t, err, "address already in use")
	require.ErrorContains(t, err, "choose another address")
}

func TestBadConfiguration(t *testing.T) {
	for name, tc := range map[string]struct{ yaml, lint, err string }{
		"no port":     {`{address: localhost}`, "must be host:port", "field address: address localhost: missing port"},
		"no pipeline": {`{address: "", pipeline: ""}`, "must not be empty", "field pipeline must not be empty"},
		"no tables":   {`{address: "", max_tables: 0}`, "must be at least 1", "field max_tables must be at least 1, not 0"},
		"unknown":     {`{adress: ""}`, "field adress not recognised", ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := "metrics: {deltaforge: " + tc.yaml + "}"
			lints, err := lint(config)
			require.NoError(t, err)
			require.Len(t, lints, 1)
			require.Contains(t, lints[0].What, tc.lint)
			if tc.err == "" {
				return
			}
			parsed, err := Spec().ParseYAML(tc.yaml, nil)
			require.NoError(t, err)
			_, err = parseConfig(parsed)
			require.ErrorContains(t, err, tc.err)
		})
	}
}

func lint(config string) ([]service.Lint, error) {
	return service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter().LintYAML([]byte(config))
}

// Linting opens no listener: it works where the service already runs.
func TestLintIsOffline(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, taken.Close()) }()
	lints, err := lint(fmt.Sprintf("metrics: {deltaforge: {address: %q}}\ninput: {generate: {mapping: 'root = 1'}}\noutput: {drop: {}}", taken.Addr()))
	require.NoError(t, err)
	require.Empty(t, lints)
}

// Streams without an address share a process; the engine's HTTP server has their pages.
func TestEngineServesPage(t *testing.T) {
	for _, name := range []string{"one", "two"} {
		mux := http.NewServeMux()
		server := httptest.NewServer(mux)
		defer server.Close()
		log := &logBuffer{}
		builder := components{}.environment(t).NewStreamBuilder()
		require.NoError(t, builder.SetYAML("metrics: {deltaforge: {address: '', pipeline: "+name+"}}\ninput: {label: db, test_source: {}}\noutput: {drop: {}}"))
		builder.SetHTTPMux(mux)
		builder.SetLogger(log.logger())
		stream, err := builder.Build()
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- stream.Run(context.Background()) }()
		defer func() {
			assert.NoError(t, stream.Stop(context.Background()))
			assert.NoError(t, <-done)
		}()
		want := `deltaforge_source_connections_total{pipeline="` + name + `",source="db",tenant="default"} 1` + "\n"
		require.Eventually(t, func() bool {
			return series(scrape(t, server.URL+"/metrics"), "deltaforge_source_connections_total") == want
		}, time.Minute, 10*time.Millisecond)
		require.NotContains(t, log.String(), "Serving metrics")
	}
}

const streamsMain = `
http: {enabled: false}
metrics:
` + tenantOfStream + `
logger: {level: OFF}
`

const streamYAML = `
input:
  broker:
    inputs: [{generate: {count: 1, interval: "", mapping: 'root = "x"'}}, {test_source: {}}]
pipeline:
  processors: [{rate_limit: {resource: shared}}]
output: {label: out, drop: {}}
`

// In streams mode the pipeline is the stream's id, and the example of the documentation takes the tenant from it.
func TestStreamsMode(t *testing.T) {
	dir := t.TempDir()
	write := func(name, yaml string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
		return path
	}
	main := write("main.yaml", strings.Replace(streamsMain, "deltaforge: {}", `deltaforge: {address: "127.0.0.1:0"}`, 1))
	shared := write("shared.yaml", "rate_limit_resources: [{label: shared, local: {}}]")
	args := []string{"streams", "--no-api", "-o", main, "-r", shared}
	for _, id := range []string{"acme-orders", "initech-orders"} {
		args = append(args, write(id+".yaml", streamYAML))
	}
	log := &logBuffer{}
	cli := exec.CommandContext(t.Context(), os.Args[0], args...)
	cli.Env = append(os.Environ(), cliVariable+"=1")
	cli.Stdout, cli.Stderr = log, log
	require.NoError(t, cli.Start())
	defer func() {
		assert.NoError(t, cli.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, cli.Wait(), log.String())
	}()
	golden(t, log.url(t), "deltaforge_s", "streams.prom") // sources and sinks
	golden(t, log.url(t), "deltaforge_rate_limit", "shared.prom")
}

// Close frees the address, and may be called twice.
func TestClose(t *testing.T) {
	log := &logBuffer{}
	logger := service.NewLoggerFromSlog(log.logger())
	e, err := newExporter(config{address: "127.0.0.1:0", pipeline: "p", maxTables: 1}, logger)
	require.NoError(t, err)
	scrape(t, log.url(t))
	require.NoError(t, e.Close(t.Context()))
	require.NoError(t, e.Close(t.Context()))
	again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", strings.TrimSuffix(strings.TrimPrefix(log.url(t), "http://"), "/metrics"))
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// offline returns an exporter without a listener.
func offline(t testing.TB) *exporter {
	t.Helper()
	e, err := newExporter(config{pipeline: "p", tenant: "t", maxTables: 1000}, nil)
	require.NoError(t, err)
	return e
}

// Every row of the table, fed by every stat that it names, passes promtool's lint and has exactly its labels.
func TestEveryRow(t *testing.T) {
	e := offline(t)
	emit := func(stat string, k kind, keys ...string) {
		values := make([]string, len(keys))
		for i, key := range keys {
			values[i] = key + "-value"
		}
		switch k {
		case counterKind:
			e.NewCounterCtor(stat, keys...)(values...).Incr(1)
		case gaugeKind:
			e.NewGaugeCtor(stat, keys...)(values...).Set(1)
		case timerKind:
			e.NewTimerCtor(stat, keys...)(values...).Timing(1)
		}
	}
	for _, r := range table() {
		for _, f := range r.feeds {
			emit(f.stat, r.kind, "label", "path", "operation", "mechanism")
		}
		keys := slices.DeleteFunc(slices.Clone(r.labels), func(l string) bool { return l == r.component })
		emit(r.stat(), r.kind, append(keys, "path")...)
	}
	server := httptest.NewServer(e.HandlerFunc())
	defer server.Close()
	page := scrape(t, server.URL)
	for i, s := range AllSeries() {
		assert.Contains(t, page, "# HELP "+s.Name+" "+s.Help+"\n")
		assert.Contains(t, page, "# TYPE "+s.Name+" "+s.Type+"\n")
		for _, family := range gather(t, e) {
			if family.GetName() != s.Name || len(table()[i].feeds) > 0 {
				continue // the engine's stats have labels of several rows here
			}
			names := []string{}
			for _, l := range family.GetMetric()[0].GetLabel() {
				names = append(names, l.GetName())
			}
			assert.Equal(t, s.Labels, names, s.Name)
		}
	}
}

func TestNativeHistograms(t *testing.T) {
	e := offline(t)
	e.NewTimerCtor("batch_events")().Timing(100)
	e.NewTimerCtor("anything_ns")().Timing(100)
	seen := 0
	for _, family := range gather(t, e) {
		if strings.HasPrefix(family.GetName(), prefix) && family.GetType().String() == "HISTOGRAM" {
			seen++
			histogram := family.GetMetric()[0].GetHistogram()
			assert.EqualValues(t, 3, histogram.GetSchema(), family.GetName())
			assert.Len(t, histogram.GetPositiveSpan(), 1, family.GetName())
			assert.NotEmpty(t, histogram.GetBucket(), family.GetName())
		}
	}
	require.Equal(t, 2, seen)
}
