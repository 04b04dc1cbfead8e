package metrics

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// family is all series of one name.
type family struct {
	name    string // with prefix
	help    string
	kind    kind
	buckets bucketSet
	scale   float64 // what a timing or, for a stat without a row, any value is multiplied with

	onGone func(stream string) // called when a gauge of the family is withdrawn for a stream; nil: nothing follows from it

	mu sync.RWMutex
	// Components that emit a stat under the name of the series feed own. The engine's stats about components feed engine. The key is the
	// labels as one string. Guarded by mu.
	own, engine map[string]*child
	speakers    map[string]string // components with a child in own, and their streams; guarded by mu
}

// child is one line of the page, or the lines of one histogram.
type child struct {
	component string // identity of the component that made it
	stream    string // the stream that it is about; empty: none, and it stays as long as the process
	table     string // value of the label table
	metric    prometheus.Metric
	shown     func() bool       // nil: always
	parts     map[string]*gauge // by component, where metric is the sum of theirs; guarded by the family's mu
}

// labelSet is what a stat resolves to.
type labelSet struct {
	labels    prometheus.Labels
	component string // identity of the component that emits the stat; empty on series of the process
	stream    string // see child
	sum       bool   // components add up
}

func newFamily(name, help string, k kind, b bucketSet, scale float64) *family {
	return &family{
		name: name, help: help, kind: k, buckets: b, scale: scale,
		own: map[string]*child{}, engine: map[string]*child{}, speakers: map[string]string{},
	}
}

// collect sends the lines of the family. What a component says about itself replaces what the engine says about it:
// both would count the same deliveries. It is decided here, and not when a stat arrives, because the engine may count
// an incident before the component has had its say.
func (f *family) collect(ch chan<- prometheus.Metric) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, c := range f.own {
		c.collect(ch)
	}
	for key, c := range f.engine {
		_, same := f.own[key]
		_, speaks := f.speakers[c.component]
		if !same && !speaks {
			c.collect(ch)
		}
	}
}

// forget drops the series of a stream. A handle that somebody still has writes to nothing.
func (f *family) forget(stream string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, children := range []map[string]*child{f.own, f.engine} {
		maps.DeleteFunc(children, func(_ string, c *child) bool { return c.stream == stream })
	}
	maps.DeleteFunc(f.speakers, func(_, s string) bool { return s == stream })
}

// addTables adds the values of the label table.
func (f *family) addTables(all map[string]bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, children := range []map[string]*child{f.own, f.engine} {
		for _, c := range children {
			all[c.table] = true
		}
	}
}

func (c *child) collect(ch chan<- prometheus.Metric) {
	if c.shown == nil || c.shown() {
		ch <- c.metric
	}
}

// handle returns what the stat of a component writes to, and makes it if there is none.
func (f *family) handle(ls labelSet, own bool) prometheus.Metric {
	key := labelKey(ls.labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	children := f.engine
	if own {
		children = f.own
		f.speakers[ls.component] = ls.stream
	}
	c := children[key]
	if c == nil {
		c = f.newChild(ls)
		children[key] = c
	}
	if !ls.sum {
		return c.metric
	}
	part := c.parts[ls.component]
	if part == nil {
		part = &gauge{scale: f.scale, total: c.metric.(*gauge)}
		c.parts[ls.component] = part
	}
	return part
}

func (f *family) newChild(ls labelSet) *child {
	c := &child{component: ls.component, stream: ls.stream, table: ls.labels[labelTable], parts: map[string]*gauge{}}
	opts := prometheus.Opts{Name: f.name, Help: f.help, ConstLabels: ls.labels}
	switch f.kind {
	case counterKind:
		c.metric = &counter{Counter: prometheus.NewCounter(prometheus.CounterOpts(opts)), scale: f.scale}
	case gaugeKind:
		g := &gauge{Gauge: prometheus.NewGauge(prometheus.GaugeOpts(opts)), scale: f.scale}
		if f.onGone != nil && ls.stream != "" {
			g.gone = func() { f.onGone(ls.stream) }
		}
		c.metric, c.shown = g, g.known.Load
	case timerKind:
		c.metric = &timer{scale: f.scale, Histogram: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: f.name, Help: f.help, ConstLabels: ls.labels,
			Buckets:                         f.buckets.bounds(),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		})}
	}
	return c
}

func labelKey(labels prometheus.Labels) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		b.WriteString(name)
		b.WriteByte(0xff)
		b.WriteString(labels[name])
		b.WriteByte(0xff)
	}
	return b.String()
}

// counter is a service.MetricsExporterCounter.
type counter struct {
	prometheus.Counter
	scale float64
}

// Incr ignores negative counts, which Prometheus answers with a panic.
func (c *counter) Incr(count int64) { c.IncrFloat64(float64(count)) }

func (c *counter) IncrFloat64(count float64) {
	if count >= 0 {
		c.Add(count * c.scale)
	}
}

// gauge is a service.MetricsExporterGauge. It is not shown before it is set, nor while it is set to NaN: that is how
// a component withdraws a value which would otherwise stay frozen after it has closed.
type gauge struct {
	prometheus.Gauge
	scale float64
	known atomic.Bool
	gone  func() // called when it is withdrawn; may be nil

	total *gauge        // not nil: this is one component's part of total, and has no Gauge
	last  atomic.Uint64 // bits of what is in total for this part
}

func (g *gauge) Set(value int64) { g.SetFloat64(float64(value)) }

func (g *gauge) SetFloat64(value float64) {
	value *= g.scale
	if g.total == nil {
		g.Gauge.Set(value)
		g.known.Store(!math.IsNaN(value))
		if g.gone != nil && math.IsNaN(value) {
			g.gone()
		}
		return
	}
	if math.IsNaN(value) {
		value = 0
	}
	before := math.Float64frombits(g.last.Swap(math.Float64bits(value)))
	g.total.Add(value - before)
	g.total.known.Store(true)
}

// timer is a service.MetricsExporterTimer.
type timer struct {
	prometheus.Histogram
	scale float64
}

// Timing takes a negative delta, which a clock set back can make, for zero.
func (t *timer) Timing(delta int64) { t.Observe(float64(max(delta, 0)) * t.scale) }
