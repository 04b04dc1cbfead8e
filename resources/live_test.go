package resources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/deltaforge/deltaforge"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/metrics"
)

// runStream runs a stream until the test ends and returns the address of its metrics page.
func runStream(t *testing.T, yaml string) (addr string) {
	t.Helper()
	addr = freeAddr(t)
	log := &syncBuffer{}
	b := service.NewStreamBuilder()
	require.NoError(t, b.SetYAML(yaml+fmt.Sprintf("\nmetrics:\n  deltaforge: {address: %q, pipeline: live, tenant: acme}\n", addr)))
	b.SetLogger(slog.New(slog.NewTextHandler(log, nil)))
	stream, err := b.Build()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		assert.NoError(t, stream.Stop(ctx))
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of the stream:\n%s", log.String())
		}
	})
	return addr
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func scrape(t *testing.T, addr string) string {
	t.Helper()
	var page string
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		var err error
		page, err = fetch("http://" + addr + "/metrics")
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^deltaforge_sink_events_total\{.*\} [1-9]`, page)
	}, 20*time.Second, 50*time.Millisecond)
	return page
}

// What a running stream shows passes promtool's lint without a word.
func TestPageOfARunningStreamIsClean(t *testing.T) {
	page := scrape(t, runStream(t, `
input:
  generate: {interval: 1ms, mapping: 'root.id = counter()'}
pipeline:
  processors: [{mapping: 'root = this'}]
output:
  drop: {}
`))
	out, err := promtool(t, page, "check", "metrics")
	require.NoError(t, err, out)
	require.Empty(t, out)
	// It does speak when there is something to say.
	out, err = promtool(t, "deltaforge_bad_millis 1\n", "check", "metrics")
	require.Error(t, err)
	require.Contains(t, out, "deltaforge_bad_millis")
}

// A page with every series and label of the table: each query of the dashboard finds data in it, and the labels that
// name its lines. A query that joins series whose labels do not fit finds nothing.
func TestDashboardFindsEverySeries(t *testing.T) {
	p := startPrometheus(t, target{"deltaforge", "all", servePage(t)})
	b := loadBoard(t)
	for _, panel := range b.Panels {
		for _, query := range panel.Targets {
			var found []sample
			require.EventuallyWithT(t, func(t *assert.CollectT) {
				var err error
				found, err = p.query(t, choose(query.Expr, "all"))
				require.NoError(t, err)
				require.NotEmpty(t, found)
			}, 20*time.Second, 200*time.Millisecond, "%q finds nothing: %s", panel.Title, query.Expr)
			for _, label := range legendLabels(query.LegendFormat) {
				assert.Contains(t, found[0].Metric, label, "%q: %s", panel.Title, query.LegendFormat)
			}
		}
	}
	for name, v := range b.variables(t) {
		var values []string
		require.NoError(t, p.get(t, "/api/v1/label/"+v[1]+"/values", url.Values{"match[]": {choose(v[0], "all")}}, &values))
		assert.Len(t, values, 1, "variable %s: %v", name, values)
	}
}

func legendLabels(format string) []string {
	var labels []string
	for _, m := range regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`).FindAllStringSubmatch(format, -1) {
		labels = append(labels, m[1])
	}
	return labels
}

// servePage serves a page of all series, which grow with time.
func servePage(t *testing.T) (addr string) {
	began := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, allSeries(time.Since(began).Seconds()))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func allSeries(seconds float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "process_cpu_seconds_total %f\nprocess_resident_memory_bytes 1e6\n", seconds)
	for _, s := range metrics.AllSeries() {
		var labels []string
		for _, l := range s.Labels {
			value := "some"
			switch l {
			case "stage":
				value = "batch" // a panel asks for this one
			case "status":
				value = "500" // and for errors
			}
			labels = append(labels, fmt.Sprintf("%s=%q", l, value))
		}
		set := strings.Join(labels, ",")
		switch s.Type {
		case "counter":
			fmt.Fprintf(&b, "%s{%s} %f\n", s.Name, set, 1+10*seconds)
		case "gauge":
			fmt.Fprintf(&b, "%s{%s} %f\n", s.Name, set, 0.1+seconds/1e3)
		case "histogram":
			for i, le := range []string{"0.001", "1", "+Inf"} {
				fmt.Fprintf(&b, "%s_bucket{%s} %f\n", s.Name, strings.Join(append(slices.Clone(labels), `le="`+le+`"`), ","), float64(i+1)*seconds)
			}
			fmt.Fprintf(&b, "%[1]s_sum{%[2]s} %[3]f\n%[1]s_count{%[2]s} %[4]f\n", s.Name, set, seconds, 3*seconds)
		}
	}
	return b.String()
}

// A Prometheus scrapes a pipeline that moves rows from PostgreSQL to Redis. The dashboard's queries are answered, and have
// data wherever such a pipeline, in good health, feeds them; no alert fires.
func TestDashboardOfARunningPipeline(t *testing.T) {
	prometheusTools(t)
	pg, redis := testenv.Postgres(t), testenv.Redis(t)
	db, name := pg.Database(t), testenv.Name(t)
	pool := pg.Pool(t, db)
	_, err := pool.Exec(t.Context(), "CREATE TABLE public.orders (id bigserial PRIMARY KEY, item text)")
	require.NoError(t, err)
	addr := runStream(t, fmt.Sprintf(`
input:
  label: db
  deltaforge_postgres:
    name: %[1]s
    slot: %[1]s
    dsn: %[2]q
    tables: {include: ["public.*"]}
    checkpoint: {path: %[3]q}
pipeline:
  processors:
    - label: same
      mapping: root = this
output:
  label: store
  deltaforge_redis: {url: %[4]q, stream: %[1]s}
`, name, pg.DSN(db), t.TempDir()+"/checkpoints.db", redis.URL()))
	p := startPrometheus(t, target{"deltaforge", "live", addr})
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_, err := pool.Exec(context.Background(), "INSERT INTO public.orders (item) SELECT 'item ' || i FROM generate_series(1, 10) i")
				assert.NoError(t, err)
			}
		}
	})
	defer writer.Wait()
	defer close(stop)

	b := loadBoard(t)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		assert.Empty(t, p.emptyQueries(t, b, "live", mayBeEmpty()))
	}, 60*time.Second, time.Second)
	rows, err := p.query(t, `sum(deltaforge_source_events_total{instance="live", source="db", table="public.orders", op="c"})`)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	var firing struct{ Alerts []any }
	require.NoError(t, p.get(t, "/api/v1/alerts", nil, &firing))
	assert.Empty(t, firing.Alerts)
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	require.NoError(t, p.get(t, "/api/v1/rules", nil, &rules))
	require.NotEmpty(t, rules.Groups)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			assert.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
		}
	}
}

// mayBeEmpty are the panels that a pipeline in good health, without a control plane, need not feed.
func mayBeEmpty() []string {
	return []string{
		// The control plane feeds them.
		"Pipelines by status",
		"API requests", "API latency", "API errors", "Lifecycle actions",
		// Something has to happen first.
		"Schema changes", "Events left out on purpose",
		// The pipeline is not made so.
		"Exactly-once transactions", "How far is each table?", "Rows read by snapshots", "When will it be done?",
	}
}

// emptyQueries returns the panels of which no query finds data, without those that may be empty. An error of any query fails
// the test, theirs too.
func (p prometheus) emptyQueries(t require.TestingT, b board, instance string, allowed []string) []string {
	var empty []string
	for _, panel := range b.Panels {
		fed := len(panel.Targets) == 0
		for _, query := range panel.Targets {
			found, err := p.query(t, choose(query.Expr, instance))
			require.NoError(t, err)
			fed = fed || len(found) > 0
		}
		if !fed && !slices.Contains(allowed, panel.Title) {
			empty = append(empty, panel.Title)
		}
	}
	return empty
}
