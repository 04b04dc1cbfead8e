// Package metrics is the deltaforge metrics exporter: it turns the stats of the engine, and of every component that
// runs in it, into Prometheus series with fixed names, labels and units.
//
// It depends on nothing else of DeltaForge. Components emit through service.Resources.Metrics() only, under the names of
// the table in this package, without the prefix deltaforge_.
package metrics

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// Field names.
const (
	fieldAddress   = "address"
	fieldPipeline  = "pipeline"
	fieldTenant    = "tenant"
	fieldMaxTables = "max_tables"
)

// Spec is the configuration of the exporter.
func Spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Version("0.1.0").
		Summary("Serves DeltaForge's metrics to Prometheus, under fixed names, labels and base units.").
		Description(`
Series are named `+"`deltaforge_*`"+` and listed in the metrics reference. Sources, processors, sinks, caches, buffers and rate limits have them
whether they are DeltaForge's own or not; a stat of the engine that is not in the list is exported as `+"`deltaforge_engine_<name>`"+`.
Series of the Go runtime and of the process are included.

Every series has the labels `+"`pipeline` and `tenant`"+`. In streams mode the pipeline is the stream's id. The component a series is about
(`+"`source`, `processor`, `sink`"+` and so on) is its label, or its path where it has none.

The page is `+"`/metrics`"+` on a listener of its own and also on the engine's HTTP server. An address in use is an error at start.

== Labels by mapping

`+"`metrics.mapping`"+` can set `+"`tenant` or `pipeline`"+` for some stats, or add labels, which are then kept on every series it sets them for.

== Components that measure themselves

A series can be known to both a component and the engine: a `+"`deltaforge_kafka`"+` output counts its deliveries, and so does the engine. What a
component says about itself then replaces what the engine says about it, for that series and that component. Nothing is counted twice.
`).
		Fields(
			service.NewStringField(fieldAddress).
				Description("The address to serve `/metrics` on. Empty for no listener of its own: the page is then on the engine's HTTP server only.").
				Example("127.0.0.1:9000").Example("").
				LintRule(`root = if this != "" && !this.contains(":") { [ "must be host:port, :port or empty" ] }`).
				Default("0.0.0.0:9000"),
			service.NewStringField(fieldPipeline).
				Description("The value of the label `pipeline` where no stream id is known: outside of streams mode, and for resources that streams share.").
				Example("orders").
				LintRule(`root = if this == "" { [ "must not be empty" ] }`).
				Default("default"),
			service.NewStringField(fieldTenant).
				Description("The value of the label `tenant` where `metrics.mapping` sets none.").
				Example("acme").
				Default("default"),
			service.NewIntField(fieldMaxTables).
				Description("How many values the label `table` may have over all pipelines. Counters of further tables count under `table=\"__other__\"`, with one "+
					"warning; gauges of further tables are not exported, because a sum of them would mean nothing.").
				LintRule(`root = if this < 1 { [ "must be at least 1" ] }`).
				Advanced().
				Default(1000),
		).
		Example("One pipeline", "Served on the loopback interface only, with the pipeline's name in its label.", `
metrics:
  deltaforge:
    address: 127.0.0.1:9000
    pipeline: orders
    tenant: acme
`).
		Example("Tenants of streams", "In streams mode, streams named `<tenant>-<something>` get their tenant from their id.",
			"\nmetrics:\n"+tenantOfStream)
}

// tenantOfStream is the documentation's example of a mapping. A test runs it.
const tenantOfStream = `  mapping: |
    meta tenant = @stream.or("").split("-").index(0)
  deltaforge: {}
`

func init() {
	service.MustRegisterMetricsExporter("deltaforge", Spec(), New)
}

// New makes an exporter, which serves until it is closed.
func New(conf *service.ParsedConfig, log *service.Logger) (service.MetricsExporter, error) {
	c, err := parseConfig(conf)
	if err != nil {
		return nil, err
	}
	return newExporter(c, log)
}

type config struct {
	address   string
	pipeline  string
	tenant    string
	maxTables int
}

func parseConfig(conf *service.ParsedConfig) (c config, err error) {
	if c.address, err = conf.FieldString(fieldAddress); err != nil {
		return c, err
	}
	if c.pipeline, err = conf.FieldString(fieldPipeline); err != nil {
		return c, err
	}
	if c.tenant, err = conf.FieldString(fieldTenant); err != nil {
		return c, err
	}
	if c.maxTables, err = conf.FieldInt(fieldMaxTables); err != nil {
		return c, err
	}
	return c, c.validate()
}

func (c config) validate() error {
	if c.address != "" {
		if _, _, err := net.SplitHostPort(c.address); err != nil {
			return fmt.Errorf("field %s: %w; it wants host:port, :port, or nothing for no listener", fieldAddress, err)
		}
	}
	if c.pipeline == "" {
		return fmt.Errorf("field %s must not be empty: it is the label of every series outside of streams mode", fieldPipeline)
	}
	if c.maxTables < 1 {
		return fmt.Errorf("field %s must be at least 1, not %d", fieldMaxTables, c.maxTables)
	}
	return nil
}

// exporter implements service.MetricsExporter. The engine makes one when a service starts or a stream is built, and
// none to lint a configuration.
type exporter struct {
	stats    *stats
	registry *prometheus.Registry
	handler  http.Handler
	server   *server // nil without an address
}

var _ service.MetricsExporter = (*exporter)(nil)

func newExporter(c config, log *service.Logger) (*exporter, error) {
	s := newStats(c.pipeline, c.tenant, &tableBound{
		limit: c.maxTables, seen: map[string]bool{},
		onExceed: func() {
			log.With(fieldMaxTables, c.maxTables).Warn(`Too many tables for one label each: further ones count under table="` + otherTables + `"`)
		},
	})
	s.addBuildInfo()
	registry := prometheus.NewRegistry()
	p := panics{s, log}
	for _, collector := range []prometheus.Collector{
		s, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(p.collector(collector)); err != nil {
			return nil, fmt.Errorf("registering a metrics collector: %w", err)
		}
	}
	e := &exporter{stats: s, registry: registry, handler: p.handler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
	}))}
	if c.address != "" {
		var err error
		if e.server, err = listen(c.address, e.handler, log, p); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// NewCounterCtor implements service.MetricsExporter.
func (e *exporter) NewCounterCtor(name string, labelKeys ...string) service.MetricsExporterCounterCtor {
	find := handles[*counter](e.stats.register(name, counterKind, labelKeys))
	return func(values ...string) service.MetricsExporterCounter { return find(values) }
}

// NewTimerCtor implements service.MetricsExporter.
func (e *exporter) NewTimerCtor(name string, labelKeys ...string) service.MetricsExporterTimerCtor {
	find := handles[*timer](e.stats.register(name, timerKind, labelKeys))
	return func(values ...string) service.MetricsExporterTimer { return find(values) }
}

// NewGaugeCtor implements service.MetricsExporter.
func (e *exporter) NewGaugeCtor(name string, labelKeys ...string) service.MetricsExporterGaugeCtor {
	find := handles[*gauge](e.stats.register(name, gaugeKind, labelKeys))
	return func(values ...string) service.MetricsExporterGauge { return find(values) }
}

// handles returns the function that finds the handle of a stat for its label values.
func handles[T prometheus.Metric](s *stat) func(values []string) T {
	known := newLookup[T]()
	create := func(values []string) T { return s.resolve(values).(T) }
	if slices.Contains(s.keys, labelPipeline) && !slices.Contains(s.keys, engineStream) {
		// The emitter outlives the streams that it names. When one was forgotten, the handles of its series lead nowhere.
		return func(values []string) T {
			known.forgetBefore(s.stats.forgotten.Load())
			return known.get(values, create)
		}
	}
	return func(values []string) T { return known.get(values, create) }
}

// HandlerFunc is how the engine gets the page for its own HTTP server: its public API looks for this method.
func (e *exporter) HandlerFunc() http.HandlerFunc { return e.handler.ServeHTTP }

// Close stops the listener. The engine calls it once, last of all, with a context that has no deadline.
func (e *exporter) Close(ctx context.Context) error {
	if e.server == nil {
		return nil
	}
	return e.server.close(ctx)
}

// scrapeLog takes what goes wrong while a page is made.
type scrapeLog struct{ log *service.Logger }

func (l scrapeLog) Println(v ...any) {
	l.log.With("error", fmt.Sprint(v...)).Error("Metrics page incomplete")
}
