package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/prom"
	"github.com/deltaforge/deltaforge/resources/grafana"
)

const alertRules = "../../resources/prometheus/alerts.yaml"

// A Prometheus from Debian scrapes the binary while it carries rows out of two databases, into a topic and a stream. Every query of
// the dashboard has data, and no alert fires; promtool has nothing to say about the page.
func TestOperatorDashboard(t *testing.T) {
	prom.Tools(t)
	d := newDeck(t, "")
	shop, books := deckMySQL(t, d, ""), deckPostgres(t, d, "")
	_, _, toBroker := deckKafka(t, d)
	redis, stream := deckRedis(t, d), testenv.Name(t)
	work := []*workload{shop.workload(t), books.workload(t)}
	// A table that takes its time to be loaded, for the panels of snapshots.
	newWorkload(t, shop.db, "stock", false).fill("")
	_, err := shop.db.ExecContext(t.Context(), "ANALYZE TABLE stock")
	require.NoError(t, err)
	shop.input = strings.Replace(shop.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 100, max_rows_per_second: 100, max_parallel_chunks: 1}", 1)
	d.start()
	d.want(200, "POST", "/streams/shop", through(shop.input+toBroker))
	d.want(200, "POST", "/streams/books", counting(books.input+deckStream(redis.Addr(), stream)))
	for _, id := range []string{"shop", "books"} {
		d.until(60*time.Second, atLeast(1), "checkpoint_success_total", "pipeline="+id)
	}
	p := prom.Start(t, alertRules, prom.Target{Job: "deltaforge", Instance: "live", Addr: d.metrics})
	for _, w := range work {
		w.run(2, 20*time.Millisecond)
		defer w.end()
	}
	for _, db := range []source{shop, books} {
		_, err := db.db.ExecContext(t.Context(), "ALTER TABLE accounts ADD COLUMN extra INT")
		require.NoError(t, err)
	}

	later := map[string]bool{} // panels of what this pipeline has not
	var empty []string
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		status, _ := d.call("POST", "/streams/nobody/pause", "") // for the latency and the errors of the API
		assert.Equal(c, 404, status)
		empty = nil
		for _, row := range grafana.Rows() {
			for _, panel := range row.Panels {
				later[panel.Title] = strings.Contains(panel.Help, "No data without `exactly_once`")
				for _, expr := range panel.Expressions() {
					found, err := p.Query(c, prom.Choose(expr, "live"))
					require.NoError(c, err)
					if len(found) == 0 {
						empty = append(empty, panel.Title+": "+expr)
					}
				}
			}
		}
		empty = slices.DeleteFunc(empty, func(query string) bool {
			title, _, _ := strings.Cut(query, ": ")
			return later[title]
		})
		assert.Empty(c, empty)
	}, patience, time.Second)

	var firing struct{ Alerts []struct{ State string } }
	require.NoError(t, p.Get(t, "/api/v1/alerts", nil, &firing))
	for _, a := range firing.Alerts {
		assert.NotEqual(t, "firing", a.State)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) { // until each was evaluated once
		require.NoError(c, p.Get(c, "/api/v1/rules", nil, &rules))
		require.NotEmpty(c, rules.Groups)
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				assert.Equal(c, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			}
		}
	}, patience, time.Second)
	var out string
	out, err = prom.Tool(t, d.scrape().text, "check", "metrics")
	require.NoError(t, err, out)
	assert.Empty(t, out)
	// It does speak when there is something to say.
	out, err = prom.Tool(t, "deltaforge_bad_millis 1\n", "check", "metrics")
	require.Error(t, err)
	assert.Contains(t, out, "deltaforge_bad_millis")
}

// counting drops deletes, and counts them, in front of the output and in it.
func counting(stream string) string {
	drop := func(name, label string) string {
		return "{switch: [{check: 'this.op == \"d\"', processors: [{metric: {type: counter, name: " + name + "_dropped_total, labels: {" + name + ": " +
			label + ", reason: deletes}}}, {mapping: 'root = deleted()'}]}]}"
	}
	return strings.Replace(stream, "\noutput:\n", "\npipeline:\n  processors: ["+drop("processor", "filter")+"]\noutput:\n  processors: ["+
		strings.ReplaceAll(drop("sink", "store"), `"d"`, `"u"`)+"]\n", 1)
}
