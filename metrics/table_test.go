package metrics

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func gather(t testing.TB, e *exporter) []*dto.MetricFamily {
	t.Helper()
	families, err := e.registry.Gather()
	require.NoError(t, err)
	return families
}

func TestTableInvariants(t *testing.T) {
	stats := map[string]string{}
	for _, r := range table() {
		assert.Equal(t, r.kind == timerKind, r.buckets != noBuckets, "%s: histograms, and they alone, have buckets", r.series)
		if r.component != "" {
			assert.Contains(t, r.labels, r.component, r.series)
		}
		if len(r.feeds) > 0 {
			assert.NotEmpty(t, r.component, "%s: what the engine feeds says which component, so that the component's own word can replace it", r.series)
		}
		assert.False(t, r.sum && (r.kind != gaugeKind || r.component != "" || r.process), r.series)
		names := []string{r.series}
		for _, f := range r.feeds {
			names = append(names, f.stat)
			for label := range f.fixed {
				assert.Contains(t, r.labels, label, r.series)
			}
		}
		for _, name := range names {
			assert.Empty(t, stats[name], "stat %s feeds %s", name, r.series)
			stats[name] = r.series
		}
	}
}

func TestBuckets(t *testing.T) {
	ends := func(b bucketSet) [2]float64 {
		bounds := b.bounds()
		return [2]float64{bounds[0], bounds[len(bounds)-1]}
	}
	assert.Equal(t, [2]float64{0.0005, 60}, ends(latencyBuckets))
	assert.Equal(t, [2]float64{1, 65536}, ends(eventBuckets))
	assert.Equal(t, [2]float64{1 << 10, 64 << 20}, ends(byteBuckets))
	for _, b := range []bucketSet{latencyBuckets, eventBuckets, byteBuckets} {
		assert.True(t, slices.IsSorted(b.bounds()))
	}
}

func TestEngineName(t *testing.T) {
	for _, tc := range []struct {
		stat  string
		kind  kind
		name  string
		scale float64
	}{
		{"http_request_latency_ns", timerKind, "engine_http_request_latency_seconds", 1e-9},
		{"wait", timerKind, "engine_wait_seconds", 1e-9},
		{"wait_ms", timerKind, "engine_wait_seconds", 1e-9},
		{"seconds", timerKind, "engine_seconds", 1e-9},
		{"latency_histogram", timerKind, "engine_latency_seconds", 1e-9},
		{"HTTPCalls", counterKind, "engine_httpcalls_total", 1},
		{"messagesRead", counterKind, "engine_messages_read_total", 1},
		{"foo_total", counterKind, "engine_foo_total", 1},
		{"foo_count", counterKind, "engine_foo_total", 1},
		{"total", counterKind, "engine_total_total", 1},
		{"busy_us_total", counterKind, "engine_busy_seconds_total", 1e-6},
		{"my_counter", counterKind, "engine_my_total", 1},
		{"uptime_minutes", gaugeKind, "engine_uptime_seconds", 60},
		{"ms", gaugeKind, "engine_ms", 1},
		{"a.b:c--d_sum", gaugeKind, "engine_a_b_c_d", 1},
		{"größe", gaugeKind, "engine_gr_e", 1},
		{"", gaugeKind, "engine_unnamed", 1},
		{"gauge", gaugeKind, "engine_unnamed", 1},
	} {
		name, scale := engineName(tc.stat, tc.kind)
		assert.Equal(t, tc.name, name, "%s %s", tc.kind, tc.stat)
		assert.InDelta(t, tc.scale, scale, 0, "%s %s", tc.kind, tc.stat)
	}
	for in, want := range map[string]string{"region": "region", "dataCenter": "data_center", "le": "le_label", "0": "label_0", "__name__": "name__", "": "label_"} {
		assert.Equal(t, want, labelName(in))
	}
}

func TestVersion(t *testing.T) {
	version, commit := versionOf(&debug.BuildInfo{
		Main:     debug.Module{Path: module, Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}},
	})
	assert.Equal(t, []string{"v1.2.3", "abc"}, []string{version, commit})
	version, commit = versionOf(&debug.BuildInfo{
		Main:     debug.Module{Path: "example.com/other", Version: "v9"},
		Deps:     []*debug.Module{{Path: module, Version: "v1.2.3"}},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "theirs"}},
	})
	assert.Equal(t, []string{"v1.2.3", "unknown"}, []string{version, commit})
}

// A binary that knows its version better replaces what the toolchain has recorded.
func TestBuildInfoIsReplaced(t *testing.T) {
	e := offline(t)
	e.NewGaugeCtor("build_info", "version", "commit", "go_version")("v9", "abc", "go1").Set(1)
	found := map[string]bool{}
	for _, family := range gather(t, e) {
		if family.GetName() == "deltaforge_build_info" {
			for _, m := range family.GetMetric() {
				found[fmt.Sprint(m.GetLabel())] = true
			}
		}
	}
	require.Len(t, found, 1)
	require.Contains(t, fmt.Sprint(found), "v9")
}

// Values are found by all readers while writers add others, each made once.
func TestLookupConcurrently(t *testing.T) {
	l := newLookup[*int]()
	var mu sync.Mutex
	made := map[string]int{}
	create := func(values []string) *int {
		mu.Lock()
		defer mu.Unlock()
		made[values[0]+"/"+values[1]]++
		n, err := strconv.Atoi(values[1])
		assert.NoError(t, err)
		return &n
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 3000 {
				values := []string{"table", strconv.Itoa(i)}
				got := l.get(values, create)
				values[0] = "reused by the caller"
				assert.Equal(t, i, *got)
			}
		})
	}
	wg.Wait()
	require.Len(t, made, 3000)
	for key, n := range made {
		require.Equal(t, 1, n, key)
	}
}

// Stats of several components that become one series add up.
func TestCollapsingCounters(t *testing.T) {
	e := offline(t)
	for range 2 {
		e.NewCounterCtor("bytes_total", "label", "path")("a", "root.input").Incr(2)
		e.NewCounterCtor("bytes_total", "label", "path")("b", "root.input").Incr(3)
	}
	e.NewCounterCtor("bytes_total")().Incr(-5) // a counter never goes down
	for _, family := range gather(t, e) {
		if family.GetName() == "deltaforge_bytes_total" {
			require.Len(t, family.GetMetric(), 1)
			require.InDelta(t, 10, family.GetMetric()[0].GetCounter().GetValue(), 0)
			return
		}
	}
	t.Fatal("no series")
}

// The engine may count an incident before the component has its say, under another kind: the component's word replaces
// the count in the end.
func TestComponentSpeaksAfterEngine(t *testing.T) {
	e := offline(t)
	lines := func() (found []string) {
		for _, family := range gather(t, e) {
			if family.GetName() == "deltaforge_sink_failures_total" {
				for _, m := range family.GetMetric() {
					found = append(found, fmt.Sprintf("%s %s %v", m.GetLabel()[0].GetValue(), m.GetLabel()[2].GetValue(), m.GetCounter().GetValue()))
				}
			}
		}
		return found
	}
	for _, sink := range []string{"ours", "theirs"} {
		e.NewCounterCtor("output_error", "label", "path")(sink, "root.output").Incr(1)
	}
	require.Equal(t, []string{"other ours 1", "other theirs 1"}, lines())
	e.NewCounterCtor("sink_failures_total", "label", "path", "kind")("ours", "root.output", "timeout").Incr(1)
	require.Equal(t, []string{"other theirs 1", "timeout ours 1"}, lines())
}
