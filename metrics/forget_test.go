package metrics

import (
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newTestExporter(t *testing.T, maxTables int) *exporter {
	t.Helper()
	e, err := newExporter(config{pipeline: "default", tenant: "default", maxTables: maxTables}, service.MockResources().Logger())
	require.NoError(t, err)
	return e
}

func withdraw(g service.MetricsExporterGauge) { g.(*gauge).SetFloat64(math.NaN()) }

// ours returns the lines of the page about pipelines.
func (e *exporter) ours() string {
	w := httptest.NewRecorder()
	e.handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil)) //nolint:noctx // a test
	return series(w.Body.String(), "deltaforge_")
}

// A stream as its components, the engine and the control plane speak of it.
func (e *exporter) speak(stream, table string) (late service.MetricsExporterCounter) {
	keys := []string{engineLabel, enginePath, engineStream}
	own := append(keys[:3:3], "table", "op")
	events := e.NewCounterCtor("source_events_total", own...)("db", "root.input", stream, table, "c")
	events.Incr(3)
	e.NewGaugeCtor("source_table_lag_seconds", own[:4]...)("db", "root.input", stream, table).Set(1)
	e.NewCounterCtor("output_sent", keys...)("out", "root.output", stream).Incr(3)
	e.NewGaugeCtor("batches_in_flight", keys...)("db", "root.input", stream).Set(1)
	e.NewTimerCtor("odd_thing", keys...)("db", "root.input", stream).Timing(7)
	return events
}

func TestDeletedPipelinesLeaveThePage(t *testing.T) {
	e := newTestExporter(t, 2)
	status := e.NewGaugeCtor("pipeline_status", "pipeline") // the control plane's, as long as the process lives
	lifecycle := e.NewCounterCtor("pipeline_lifecycle_total", "pipeline", "action", "outcome")
	e.NewCounterCtor("cache_get", engineLabel, enginePath)("shared", "").Incr(1)
	status("stays").Set(1)
	e.speak("stays", "shop.a")
	before := e.ours()
	require.Contains(t, before, `deltaforge_source_events_total{op="c",pipeline="stays",source="db",table="shop.a",tenant="default"} 3`)

	var late service.MetricsExporterCounter
	for n := range 3 {
		status("goes").Set(1)
		lifecycle("goes", "create", "success").Incr(1)
		late = e.speak("goes", fmt.Sprint("shop.table", n))
		page := e.ours()
		require.Contains(t, page, fmt.Sprintf(`{op="c",pipeline="goes",source="db",table="shop.table%d",tenant="default"} 3`, n), "begins at 0, and has room for its table")
		require.Contains(t, page, `deltaforge_sink_events_total{pipeline="goes",sink="out",tenant="default"} 3`)
		require.Contains(t, page, `deltaforge_pipeline_status{pipeline="goes",tenant="default"} 1`)
		require.Contains(t, page, `action="create",outcome="success",pipeline="goes",tenant="default"} 1`)
		withdraw(status("goes"))
		late.Incr(100) // a component that has been cut off
		withdraw(status("goes"))
		require.Equal(t, before, e.ours())
	}
}

// Pipelines come and go for ever: nothing grows.
func TestChurnIsBounded(t *testing.T) {
	e := newTestExporter(t, 5)
	status := e.NewGaugeCtor("pipeline_status", "pipeline")
	for n := range 500 {
		stream := fmt.Sprint("s", n)
		status(stream).Set(1)
		e.speak(stream, "shop."+stream)
		withdraw(status(stream))
	}
	assert.NotContains(t, e.ours(), "pipeline=")
	delete(e.stats.families, "build_info")
	for name, f := range e.stats.families {
		assert.Empty(t, f.own, name)
		assert.Empty(t, f.engine, name)
		assert.Empty(t, f.speakers, name)
	}
	assert.Empty(t, e.stats.tables.seen)
	e.speak("last", "shop.last")
	assert.NotContains(t, e.ours(), otherTables)
}

// A stream named as the label of what belongs to no stream does not take that with it.
func TestForgetKeepsWhatIsShared(t *testing.T) {
	e := newTestExporter(t, 5)
	shared := e.NewCounterCtor("cache_get", engineLabel, enginePath)("shared", "")
	shared.Incr(1)
	withdraw(e.NewGaugeCtor("pipeline_status", "pipeline")("default"))
	shared.Incr(1)
	assert.True(t, strings.Contains(e.ours(), `label="shared",path="",pipeline="default",tenant="default"} 2`), e.ours())
}
