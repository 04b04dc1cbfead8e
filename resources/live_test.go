package resources

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv/prom"
	"github.com/deltaforge/deltaforge/metrics"
)

// A page with every series and label of the table: each query of the dashboard finds data in it, and the labels that
// name its lines. A query that joins series whose labels do not fit finds nothing.
func TestDashboardFindsEverySeries(t *testing.T) {
	p := prom.Start(t, rulesFile, prom.Target{Job: "deltaforge", Instance: "all", Addr: servePage(t)})
	b := loadBoard(t)
	for _, panel := range b.Panels {
		for _, query := range panel.Targets {
			var found []prom.Sample
			require.EventuallyWithT(t, func(t *assert.CollectT) {
				var err error
				found, err = p.Query(t, prom.Choose(query.Expr, "all"))
				require.NoError(t, err)
				require.NotEmpty(t, found)
			}, 2*time.Minute, 200*time.Millisecond, "%q finds nothing: %s", panel.Title, query.Expr)
			for _, label := range legendLabels(query.LegendFormat) {
				assert.Contains(t, found[0].Metric, label, "%q: %s", panel.Title, query.LegendFormat)
			}
		}
	}
	for name, v := range b.variables(t) {
		var values []string
		require.NoError(t, p.Get(t, "/api/v1/label/"+v[1]+"/values", url.Values{"match[]": {prom.Choose(v[0], "all")}}, &values))
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
