package metrics

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// planted is a collector that panics after its first series.
type planted struct{ first prometheus.Gauge }

func (planted) Describe(chan<- *prometheus.Desc) {}

func (p planted) Collect(ch chan<- prometheus.Metric) {
	ch <- p.first
	panic("planted in a collector")
}

// The page is made on goroutines of the client library: a panic there must not end the process.
func TestPanicsOfThePage(t *testing.T) {
	log := &logBuffer{}
	logger := loggerOf(t, log.logger())
	e, err := newExporter(config{address: "127.0.0.1:0", pipeline: "default", tenant: "default", maxTables: 5}, logger)
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close(t.Context())) }()
	p := panics{e.stats, logger}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "deltaforge_planted", Help: "A test's."})
	require.NoError(t, e.registry.Register(p.collector(planted{g})))
	url := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1] + "/metrics"
	for n := range 2 {
		page := scrape(t, url)
		assert.Contains(t, page, "deltaforge_planted 0")
		assert.Contains(t, page, "deltaforge_build_info")
		if n == 1 {
			assert.Contains(t, page, `deltaforge_panics_total{component="metrics",pipeline="default",tenant="default"}`)
		}
	}
	assert.Contains(t, log.String(), "Panic in the metrics: planted in a collector")
	assert.Contains(t, log.String(), "metrics.planted.Collect", "the stack")

	w := httptest.NewRecorder()
	p.handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("planted in the handler") })).
		ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil)) //nolint:noctx // a test
	assert.Equal(t, 500, w.Code)
	assert.Contains(t, log.String(), "planted in the handler")
}

// shaky is a listener that panics once.
type shaky struct {
	net.Listener
	once *sync.Once
}

func (l shaky) Accept() (net.Conn, error) {
	l.once.Do(func() { panic("planted in the listener") })
	return l.Listener.Accept()
}

// A panic while serving is counted, and the page is served on.
func TestPanicOfTheListener(t *testing.T) {
	log := &logBuffer{}
	logger := loggerOf(t, log.logger())
	e, err := newExporter(config{pipeline: "default", tenant: "default", maxTables: 5}, logger)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	require.NoError(t, err)
	e.server = serve(shaky{l, &sync.Once{}}, e.handler, logger, panics{e.stats, logger})
	assert.Contains(t, scrape(t, "http://"+l.Addr().String()+"/metrics"),
		`deltaforge_panics_total{component="metrics",pipeline="default",tenant="default"} 1`)
	assert.Contains(t, log.String(), "Panic in the metrics: planted in the listener")
	assert.Contains(t, log.String(), "metrics.shaky.Accept", "the stack")
	require.NoError(t, e.Close(t.Context()))
	require.NoError(t, e.Close(t.Context()))
	assert.NotContains(t, log.String(), "Metrics listener ended")
}

// loggerOf makes an engine's logger.
func loggerOf(t *testing.T, l *slog.Logger) *service.Logger {
	t.Helper()
	var log *service.Logger
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterBatchInput("capture", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			log = res.Logger()
			return nil, service.ErrEndOfInput
		}))
	b := env.NewStreamBuilder()
	b.SetLogger(l)
	require.NoError(t, b.SetYAML("http: {enabled: false}\nmetrics: {none: {}}\ninput: {capture: {}}\noutput: {drop: {}}\n"))
	s, err := b.Build()
	require.NoError(t, err)
	require.Error(t, s.Run(t.Context()))
	require.NotNil(t, log)
	return log
}
