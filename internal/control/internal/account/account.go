// Package account counts, times and names the requests of the control plane.
package account

import (
	"crypto/rand"
	"net/http"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Stats are the numbers of the control plane, under the names of the metrics reference.
type Stats struct {
	Requests  *service.MetricCounter
	Duration  *service.MetricTimer
	Lifecycle *service.MetricCounter
	Pipelines *service.MetricGauge
	Status    *service.MetricGauge
	Info      *service.MetricGauge
	Panics    *service.MetricCounter
	tenant    func(pipeline string) string // nil: numbers carry none
}

// New returns the numbers. The pipeline ones carry what tenant returns; nil: they carry none.
func New(m *service.Metrics, tenant func(pipeline string) string) *Stats {
	of := func(more ...string) []string { // the labels of a pipeline
		if tenant != nil {
			return append([]string{"pipeline", "tenant"}, more...)
		}
		return append([]string{"pipeline"}, more...)
	}
	return &Stats{
		tenant:    tenant,
		Requests:  m.NewCounter("api_requests_total", "route", "method", "status"),
		Duration:  m.NewTimer("api_request_duration_ns", "route", "method"),
		Lifecycle: m.NewCounter("pipeline_lifecycle_total", of("action", "outcome")...),
		Pipelines: m.NewGauge("pipelines", "status"),
		Status:    m.NewGauge("pipeline_status", of()...),
		Info:      m.NewGauge("pipeline_info", of("source_type")...),
		Panics:    m.NewCounter("panics_total", "pipeline", "component"),
	}
}

// Of returns the values of the labels of a pipeline.
func (s *Stats) Of(pipeline string, more ...string) []string {
	if s.tenant == nil {
		return append([]string{pipeline}, more...)
	}
	tenant := ""
	if pipeline != "" {
		tenant = s.tenant(pipeline)
	}
	return append([]string{pipeline, tenant}, more...)
}

// Panicked counts panics of a component that belongs to no pipeline.
func (s *Stats) Panicked(n int64, component string) { s.Panics.Incr(n, "", component) }

// Recorder remembers the status of an answer.
type Recorder struct {
	http.ResponseWriter
	Code int // 0: nothing is written yet
}

// WriteHeader implements http.ResponseWriter.
func (r *Recorder) WriteHeader(status int) {
	if r.Code == 0 {
		r.Code = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *Recorder) Write(b []byte) (int, error) {
	if r.Code == 0 {
		r.Code = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *Recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// KnownMethod bounds the method label: a method is whatever a client sends.
func KnownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// RequestID returns the caller's own id where it is fit for a log, else a new one.
func RequestID(given string) string {
	if len(given) == 0 || len(given) > 128 {
		return rand.Text()
	}
	for _, c := range given {
		if c <= ' ' || c > '~' {
			return rand.Text()
		}
	}
	return given
}
