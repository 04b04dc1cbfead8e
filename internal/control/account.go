package control

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/redact"
)

const requestIDHeader = "X-Request-Id"

// account counts and times the requests of a route, names each request, and turns a panic into a 500.
func (s *Server) account(route string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &account.Recorder{ResponseWriter: w}
		id := account.RequestID(r.Header.Get(requestIDHeader))
		rec.Header().Set(requestIDHeader, id)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, &caller{remote: r.RemoteAddr, requestID: id}))
		defer func() {
			if p := recover(); p != nil {
				s.stats.Panics.Incr(1, "", requestComponent)
				s.log.With("stack", string(debug.Stack()), "request_id", id).Errorf("Panic while answering %s %s: %v", r.Method, route, p)
				if rec.Code == 0 {
					fail(http.StatusInternalServerError, "internal error").write(rec)
				}
			}
			method := account.KnownMethod(r.Method)
			s.stats.Requests.Incr(1, route, method, strconv.Itoa(rec.Code))
			s.stats.Duration.Timing(time.Since(began).Nanoseconds(), route, method)
		}()
		next.ServeHTTP(rec, r)
	})
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
	s.stats.Lifecycle.Incr(1, s.stats.Of(label, action, outcome)...)
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
