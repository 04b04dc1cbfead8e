package metrics

import (
	"slices"
	"strings"
)

// prefix starts the name of every series except those of the Go and process collectors.
const prefix = "deltaforge_"

// kind is what the engine calls counter, gauge and timer. A timer becomes a histogram.
type kind int

const (
	counterKind kind = iota
	gaugeKind
	timerKind
)

func (k kind) String() string {
	switch k {
	case counterKind:
		return "counter"
	case gaugeKind:
		return "gauge"
	case timerKind:
		return "histogram"
	}
	return "unknown"
}

// bucketSet names the classic buckets of a histogram and with them its unit.
type bucketSet int

const (
	noBuckets bucketSet = iota
	// latencyBuckets: the stat arrives in nanoseconds, as all timings of the engine, and is shown in seconds.
	latencyBuckets
	// eventBuckets and byteBuckets: the stat is a plain number that uses the timer type for want of another.
	eventBuckets
	byteBuckets
)

// bounds are the upper bounds of the classic buckets: 0.5 ms to 60 s, 1 to 65,536 events, 1 KiB to 64 MiB.
func (b bucketSet) bounds() []float64 {
	switch b {
	case noBuckets:
	case latencyBuckets:
		return []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
	case eventBuckets:
		return powers(1, 2, 17)
	case byteBuckets:
		return powers(1024, 4, 9)
	}
	return nil
}

// scale is what a timing is multiplied with to get the unit of its series.
func (b bucketSet) scale() float64 {
	if b == latencyBuckets {
		return 1e-9
	}
	return 1
}

func powers(start, factor float64, n int) []float64 {
	bounds := make([]float64, n)
	for i := range bounds {
		bounds[i], start = start, start*factor
	}
	return bounds
}

// fixed are label values that a feed sets whatever the stat says.
type fixed map[string]string

// feed is a stat that the engine emits for every component of a kind, ours and foreign ones.
type feed struct {
	stat  string
	fixed fixed
}

// row describes one series. Every row is also fed by the stat that has its own name: a component of ours emits
// "source_bytes_total" and the page shows "deltaforge_source_bytes_total". Durations are emitted in nanoseconds, as the engine's, and
// under a name that says so, as the engine's: "sink_latency_ns" is shown as "deltaforge_sink_latency_seconds".
type row struct {
	group     string
	series    string // without prefix
	kind      kind
	labels    []string // besides pipeline and tenant
	component string   // which of labels is the component: its label, else its path; a stat may set it itself
	process   bool     // belongs to the process: neither pipeline nor tenant
	lifetime  bool     // a gauge that is withdrawn when its pipeline is deleted, and all series of the pipeline with it
	sum       bool     // a gauge of the pipeline that several of its components may set: their values add up
	buckets   bucketSet
	help      string
	feeds     []feed
	remark    string // on the reference page only, after help
}

// stat is the name of the stat that a component of ours emits for the series.
func (r *row) stat() string {
	if r.buckets == latencyBuckets {
		return strings.TrimSuffix(r.series, "_seconds") + "_ns"
	}
	return r.series
}

// target is where a stat goes.
type target struct {
	row   *row
	fixed fixed
	own   bool // emitted under the name of the series, not by the engine on behalf of a component
}

type statKey struct {
	name string
	kind kind
}

// targets indexes the rows by the stats that feed them. A stat of the right name and another type has no row.
func targets(rows []row) map[statKey]target {
	index := map[statKey]target{}
	for i := range rows {
		r := &rows[i]
		index[statKey{r.stat(), r.kind}] = target{row: r, own: true}
		for _, f := range r.feeds {
			index[statKey{f.stat, r.kind}] = target{row: r, fixed: f.fixed}
		}
	}
	return index
}

// Series describes one series of the exporter, for documentation, dashboards and their tests.
type Series struct {
	Name   string   // with prefix
	Type   string   // counter, gauge or histogram
	Labels []string // all of them, sorted
	Help   string
}

// AllSeries returns the table in the order of the reference page. Stats without a row, which are exported as
// deltaforge_engine_*, and the Go and process collectors are not in it.
func AllSeries() []Series {
	rows := table()
	all := make([]Series, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		labels := slices.Clone(r.labels)
		if !r.process {
			labels = append(labels, labelPipeline, labelTenant)
		}
		slices.Sort(labels)
		all = append(all, Series{Name: prefix + r.series, Type: r.kind.String(), Labels: labels, Help: r.help})
	}
	return all
}
