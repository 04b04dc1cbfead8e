package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/redact"
)

const requestIDHeader = "X-Request-Id"

// stats are the numbers of the control plane, under the names of the metrics reference.
type stats struct {
	requests  *service.MetricCounter
	duration  *service.MetricTimer
	lifecycle *service.MetricCounter
	pipelines *service.MetricGauge
	status    *service.MetricGauge
	info      *service.MetricGauge
	panics    *service.MetricCounter
	tenant    func(pipeline string) string // nil: numbers carry none
}

func newStats(m *service.Metrics, tenant func(pipeline string) string) *stats {
	of := func(more ...string) []string { // the labels of a pipeline
		if tenant != nil {
			return append([]string{"pipeline", "tenant"}, more...)
		}
		return append([]string{"pipeline"}, more...)
	}
	return &stats{
		tenant:    tenant,
		requests:  m.NewCounter("api_requests_total", "route", "method", "status"),
		duration:  m.NewTimer("api_request_duration_ns", "route", "method"),
		lifecycle: m.NewCounter("pipeline_lifecycle_total", of("action", "outcome")...),
		pipelines: m.NewGauge("pipelines", "status"),
		status:    m.NewGauge("pipeline_status", of()...),
		info:      m.NewGauge("pipeline_info", of("source_type")...),
		panics:    m.NewCounter("panics_total", "pipeline", "component"),
	}
}

// of returns the values of the labels of a pipeline.
func (s *stats) of(pipeline string, more ...string) []string {
	if s.tenant == nil {
		return append([]string{pipeline}, more...)
	}
	tenant := ""
	if pipeline != "" {
		tenant = s.tenant(pipeline)
	}
	return append([]string{pipeline, tenant}, more...)
}

// panicked counts panics of a component that belongs to no pipeline.
func (s *stats) panicked(n int64, component string) { s.panics.Incr(n, "", component) }

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// account counts and times the requests of a route, names each request, and turns a panic into a 500.
func (s *Server) account(route string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		id := requestID(r.Header.Get(requestIDHeader))
		rec.Header().Set(requestIDHeader, id)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, &caller{remote: r.RemoteAddr, requestID: id}))
		defer func() {
			if p := recover(); p != nil {
				s.stats.panics.Incr(1, "", requestComponent)
				s.log.With("stack", string(debug.Stack()), "request_id", id).Errorf("Panic while answering %s %s: %v", r.Method, route, p)
				if rec.status == 0 {
					fail(http.StatusInternalServerError, "internal error").write(rec)
				}
			}
			method := knownMethod(r.Method)
			s.stats.requests.Incr(1, route, method, strconv.Itoa(rec.status))
			s.stats.duration.Timing(time.Since(began).Nanoseconds(), route, method)
		}()
		next.ServeHTTP(rec, r)
	})
}

// knownMethod bounds the method label: a method is whatever a client sends.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// requestID returns the caller's own id where it is fit for a log, else a new one.
func requestID(given string) string {
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

// caller is who sent a request, for the audit log.
type caller struct{ remote, user, requestID string }

type callerKey struct{}

// callerOf returns who a context acts for: the process itself outside a request.
func callerOf(ctx context.Context) caller {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return *c
	}
	return caller{user: "deltaforge"}
}

// audit logs and counts one lifecycle action. The pipeline label is empty for a pipeline that does not exist, also when it
// does not any more, so that callers cannot make series that stay.
func (s *Server) audit(ctx context.Context, action, id string, known bool, status int, cause error) {
	outcome, label := "success", ""
	if cause != nil {
		outcome = "error"
	}
	if known {
		label = id
	}
	s.stats.lifecycle.Incr(1, s.stats.of(label, action, outcome)...)
	c := callerOf(ctx)
	tenant := ""
	if s.opts.Tenant != nil {
		tenant = s.opts.Tenant(id)
	}
	l := s.log.With("action", action, "pipeline", id, "tenant", tenant, "outcome", outcome, "status", status,
		"remote_address", c.remote, "user", c.user, "request_id", c.requestID)
	if cause != nil {
		l.With("error", redact.Text(cause.Error())).Warnf("Pipeline %s: %s refused", id, action)
		return
	}
	l.Infof("Pipeline %s: %s", id, action)
}

// serverLog takes what net/http has to say, such as failed TLS handshakes: nothing an operator must act on.
func serverLog(l *service.Logger) *log.Logger { return log.New(debugWriter{l}, "", 0) }

type debugWriter struct{ log *service.Logger }

// Write implements io.Writer.
func (d debugWriter) Write(b []byte) (int, error) {
	d.log.Debug(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// quantity is "1 pipeline", "2 pipelines".
func quantity(n int) string {
	if n == 1 {
		return "1 pipeline"
	}
	return fmt.Sprintf("%d pipelines", n)
}
