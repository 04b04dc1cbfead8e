package metrics

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Labels that the engine puts on stats, and those that every series has.
const (
	engineLabel  = "label"
	enginePath   = "path"
	engineStream = "stream"

	labelPipeline = "pipeline"
	labelTenant   = "tenant"
	labelTable    = "table"
	labelSource   = "source"
)

// sourceInfo is the stat by which a source of ours says its name, first of all: the engine labels what it counts of an input, and what
// the input itself counts, with the place of the input in the configuration.
const sourceInfo = "source_info"

// stats is the bridge between the engine's stats and the families on the page. It is a prometheus.Collector.
type stats struct {
	pipeline, tenant string // where a stat does not say
	targets          map[statKey]target
	tables           *tableBound
	forgotten        atomic.Uint64 // how often a stream was forgotten
	sources          sync.Map      // names of sources by the place of their input

	mu       sync.RWMutex
	families map[string]*family   // by name; guarded by mu
	unmapped map[statKey]*unknown // stats without a row; guarded by mu
}

// unknown is a stat without a row.
type unknown struct {
	row   row
	scale float64
}

func newStats(pipeline, tenant string, tables *tableBound) *stats {
	return &stats{
		pipeline: pipeline, tenant: tenant, targets: targets(table()), tables: tables,
		families: map[string]*family{}, unmapped: map[statKey]*unknown{},
	}
}

// Describe sends nothing: which labels a series has depends on metrics.mapping, so the collector is unchecked.
func (s *stats) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *stats) Collect(ch chan<- prometheus.Metric) {
	s.mu.RLock()
	families := make([]*family, 0, len(s.families))
	for _, f := range s.families {
		families = append(families, f)
	}
	s.mu.RUnlock()
	for _, f := range families {
		f.collect(ch)
	}
}

// forget drops every series of a stream that has been deleted: streams may come and go for as long as the process lives.
func (s *stats) forget(stream string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.sources.Range(func(key, _ any) bool {
		if at, ok := key.(place); ok && at.stream == stream {
			s.sources.Delete(key)
		}
		return true
	})
	tables := map[string]bool{}
	for _, f := range s.families {
		f.forget(stream)
		f.addTables(tables)
	}
	s.tables.keep(tables)
	s.forgotten.Add(1) // last: see handles
}

// stat is one stat with the label keys it was registered with. The engine makes one for each component.
type stat struct {
	stats  *stats
	target target
	family *family
	keys   []string
}

// register finds the series of a stat.
func (s *stats) register(name string, k kind, keys []string) *stat {
	t, ok := s.targets[statKey{name, k}]
	var scale float64
	if ok {
		scale = t.row.buckets.scale()
	} else {
		t, scale = s.unknownTarget(name, k)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.families[t.row.series]
	if f == nil {
		f = newFamily(prefix+t.row.series, t.row.help, k, t.row.buckets, scale)
		if t.row.lifetime {
			f.onGone = s.forget
		}
		s.families[t.row.series] = f
	}
	return &stat{stats: s, target: t, family: f, keys: slices.Clone(keys)}
}

// unknownTarget makes a row for a stat that has none. Two stats whose names become the same get a number each.
func (s *stats) unknownTarget(name string, k kind) (t target, scale float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := statKey{name, k}
	u := s.unmapped[key]
	if u == nil {
		base, unit := engineName(name, k)
		series := base
		for n := 2; s.taken(series); n++ {
			series = numbered(base, n, k)
		}
		u = &unknown{scale: unit, row: row{
			series: series, kind: k,
			help: "Engine stat " + strconv.Quote(name) + ", for which DeltaForge has no series of its own.",
		}}
		if k == timerKind {
			u.row.buckets = latencyBuckets
		}
		s.unmapped[key] = u
	}
	return target{row: &u.row, own: true}, u.scale
}

// taken reports whether another stat without a row has the series. The caller holds mu.
func (s *stats) taken(series string) bool {
	for _, u := range s.unmapped {
		if u.row.series == series {
			return true
		}
	}
	return false
}

// numbered puts n before the suffix that the type demands.
func numbered(series string, n int, k kind) string {
	suffix := ""
	switch k {
	case counterKind:
		suffix = "_total"
	case timerKind:
		suffix = "_seconds"
	case gaugeKind:
	}
	return strings.TrimSuffix(series, suffix) + "_" + strconv.Itoa(n) + suffix
}

// resolve returns what the stat writes to for the label values, which are in the order of the keys.
func (s *stat) resolve(values []string) prometheus.Metric {
	in := make(map[string]string, len(s.keys))
	for i, key := range s.keys {
		if i < len(values) {
			in[key] = strings.ToValidUTF8(values[i], "\uFFFD")
		}
	}
	if s.target.row.series == sourceInfo && in[labelSource] != "" {
		s.stats.sources.Store(placeOf(in), in[labelSource])
	}
	ls := s.stats.labels(s.target, in)
	if table := ls.labels[labelTable]; table != "" {
		ls.labels[labelTable] = s.stats.tables.admit(table)
	}
	if s.target.row.kind == gaugeKind && ls.labels[labelTable] == otherTables {
		return s.family.newChild(ls).metric // many tables cannot share one value: it is set and never shown
	}
	return s.family.handle(ls, s.target.own)
}

// place is where a component is.
type place struct{ stream, label, path string }

func placeOf(in map[string]string) place {
	return place{stream: in[engineStream], label: in[engineLabel], path: in[enginePath]}
}

// labels turns the labels of a stat into those of its series.
func (s *stats) labels(t target, in map[string]string) labelSet {
	pipeline := firstOf(in[labelPipeline], in[engineStream], s.pipeline)
	tenant := firstOf(in[labelTenant], s.tenant)
	name := firstOf(in[engineLabel], in[enginePath])

	out := prometheus.Labels{}
	if !t.row.process {
		out[labelPipeline], out[labelTenant] = pipeline, tenant
	}
	for _, label := range t.row.labels {
		out[label] = in[label]
		if value, ok := t.fixed[label]; ok {
			out[label] = value
		} else if out[label] == "" && label == t.row.component {
			out[label] = name
			if source, ok := s.sources.Load(placeOf(in)); ok && label == labelSource {
				out[label], _ = source.(string)
			}
		}
	}
	mapped := t.row.group != ""
	for key, value := range in {
		switch key {
		case labelPipeline, labelTenant, engineStream:
			continue
		case engineLabel, enginePath:
			if mapped {
				continue
			}
		}
		if _, ok := out[labelName(key)]; !ok { // added by metrics.mapping, or the stat has no row
			out[labelName(key)] = value
		}
	}
	ls := labelSet{labels: out, sum: t.row.sum}
	if !t.row.process {
		ls.stream = firstOf(in[engineStream], in[labelPipeline])
		ls.component = pipeline + "\xff" + tenant + "\xff" + name
	}
	return ls
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
