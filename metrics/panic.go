package metrics

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// panics ends panics on goroutines that belong to nobody's pipeline: each is counted and logged with its stack.
type panics struct {
	stats *stats
	log   *service.Logger
}

// caught is deferred. It is the guard of every goroutine and callback here.
func (p panics) caught() {
	if r := recover(); r != nil {
		p.note(r)
	}
}

func (p panics) note(r any) {
	p.log.With("error", fmt.Sprint(r), "stack", string(debug.Stack())).Errorf("Panic in the metrics: %v", r)
	p.stats.register("panics_total", counterKind, []string{"component"}).resolve([]string{"metrics"}).(*counter).Incr(1)
}

// collector returns a collector whose panics end with its series: the client library calls it on a goroutine of its own.
func (p panics) collector(c prometheus.Collector) prometheus.Collector { return guarded{c, p} }

type guarded struct {
	prometheus.Collector
	panics panics
}

// Collect implements prometheus.Collector.
func (g guarded) Collect(ch chan<- prometheus.Metric) {
	defer g.panics.caught()
	g.Collector.Collect(ch)
}

// handler returns a handler whose panics are an answer.
func (p panics) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				p.note(v)
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
