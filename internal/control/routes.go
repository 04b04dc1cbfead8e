package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/control/internal/openapi"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// route is one method of one path. The table of them makes the handlers and the OpenAPI document.
type route struct {
	method, path, summary string
	open                  bool   // answered without credentials
	probe                 bool   // also there in run mode
	input                 string // what the body is; "" for none
	statuses              []int  // what it may answer besides what every route may
	handle                func(r *http.Request, body []byte) *reply
}

// described returns what the OpenAPI document says of the route.
func (r route) described() openapi.Route {
	return openapi.Route{Method: r.method, Path: r.path, Summary: r.summary, Open: r.open, Input: r.input, Statuses: r.statuses}
}

func (s *Server) openAPI(*http.Request, []byte) *reply {
	var all []openapi.Route
	for _, rt := range s.routes() {
		all = append(all, rt.described())
	}
	return jsonReply(http.StatusOK, openapi.Document(all))
}

// takesID reports whether the path names a pipeline.
func (r route) takesID() bool { return strings.Contains(r.path, "{id}") }

const (
	streamInput   = "The configuration of a stream, YAML or JSON"
	resourceInput = "The configuration of a resource, YAML or JSON"
	snapshotInput = "An action (start, pause, resume, stop), tables (names or patterns), where (a condition in SQL) and source (the name of one), YAML or JSON"
)

func (s *Server) routes() []route {
	const (
		badRequest  = http.StatusBadRequest
		notFound    = http.StatusNotFound
		conflict    = http.StatusConflict
		unavailable = http.StatusServiceUnavailable
		badGateway  = http.StatusBadGateway
	)
	routes := []route{
		{"GET", "/health", "Whether the process serves and no pipeline has failed", true, true, "", []int{200, unavailable, badGateway}, s.health},
		{"GET", "/ready", "Whether every running pipeline has its input and output connected", true, true, "", []int{200, unavailable, badGateway}, s.ready},
		{"GET", "/openapi.json", "This document", true, false, "", []int{200}, s.openAPI},
		{"GET", "/streams", "List the pipelines with their status", false, false, "", []int{200, badGateway}, s.listStreams},
		{"POST", "/streams", "Replace all pipelines by a map of ids to configurations", false, false, "A map of stream ids to configurations, YAML or JSON", []int{200, badRequest, conflict, badGateway}, s.replaceStreams},
		{"GET", "/streams/{id}", "The configuration of a pipeline, without its secrets", false, false, "", []int{200, notFound, badGateway}, s.getStream},
		{"POST", "/streams/{id}", "Create a pipeline", false, false, streamInput, []int{200, badRequest, badGateway}, s.createStream},
		{"PUT", "/streams/{id}", "Replace the configuration of a pipeline", false, false, streamInput, []int{200, badRequest, notFound, badGateway}, s.updateStream},
		{"PATCH", "/streams/{id}", "Change parts of the configuration of a pipeline", false, false, "The fields that change, YAML or JSON", []int{200, badRequest, notFound, badGateway}, s.patchStream},
		{"DELETE", "/streams/{id}", "Stop and delete a pipeline; its saved position stays, and so do replication slots without drop_slot=true", false, false, "", []int{200, notFound, badGateway}, s.deleteStream},
		{"GET", "/streams/{id}/stats", "The engine's numbers of a pipeline", false, false, "", []int{200, notFound, badGateway}, s.streamStats},
		{"POST", "/streams/{id}/pause", "Stop reading; keep the source connected and its position", false, false, "", []int{200, notFound, conflict, badGateway}, s.pauseStream},
		{"POST", "/streams/{id}/resume", "Read on after a pause", false, false, "", []int{200, notFound, conflict, badGateway}, s.resumeStream},
		{"POST", "/streams/{id}/stop", "Save the position and disconnect", false, false, "", []int{200, notFound, badGateway}, s.stopStream},
		{"POST", "/streams/{id}/start", "Run a stopped pipeline from its saved position", false, false, "", []int{200, badRequest, notFound, conflict, badGateway}, s.startStream},
		{"GET", "/streams/{id}/checkpoint", "The saved positions of a pipeline's sources", false, false, "", []int{200, notFound, http.StatusNotImplemented, badGateway}, s.getCheckpoint},
		{"DELETE", "/streams/{id}/checkpoint", "Forget the saved positions of a stopped pipeline", false, false, "", []int{200, notFound, conflict, http.StatusNotImplemented, badGateway}, s.deleteCheckpoint},
		{"GET", "/streams/{id}/snapshot", "How the snapshots of a pipeline's sources are", false, false, "", []int{200, notFound, conflict, badGateway}, s.getSnapshot},
		{"POST", "/streams/{id}/snapshot", "Start, pause, resume or stop the loading of tables", false, false, snapshotInput, []int{200, badRequest, notFound, conflict, badGateway}, s.postSnapshot},
		{"GET", "/streams/{id}/dlq", "The dead letters of a pipeline, oldest first", false, false, "", []int{200, notFound, conflict, badGateway}, s.listLetters},
		{"DELETE", "/streams/{id}/dlq", "Remove dead letters for good", false, false, "", []int{200, notFound, conflict, badGateway}, s.purgeLetters},
		{"POST", "/streams/{id}/dlq/replay", "Deliver dead letters again", false, false, "entries (ids), table, kind, and processors (true: through the processors first), YAML or JSON", []int{200, notFound, conflict, badGateway}, s.replayLetters},
		{"POST", "/validate", "Lint a configuration and test its connections; nothing is created", false, false, streamInput, []int{200, badRequest}, s.validate},
		{"POST", "/resources/{type}/{id}", "Create or replace a resource", false, false, resourceInput, []int{200, badRequest, badGateway}, s.storeResource},
	}
	for path, summary := range map[string]string{
		"/ping": "Answers pong", "/version": "The version of the process", "/endpoints": "The endpoints of the engine's own server",
		"/metrics": "The metrics page of the engine's server", "/stats": "The metrics page of the engine's server",
	} {
		routes = append(routes, route{"GET", path, summary, path == "/ping", false, "", []int{200, notFound, badGateway}, s.passThrough})
	}
	return routes
}

// otherRoute is the route label of requests that no route matches.
const otherRoute = "other"

// handler serves every route.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, rt := range s.routes() {
		methods[rt.path] = append(methods[rt.path], rt.method)
		mux.Handle(rt.method+" "+rt.path, s.account(rt.path, s.serve(rt)))
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		mux.Handle(path, s.account(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.preflight(w, r, allowed) {
				return
			}
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			fail(http.StatusMethodNotAllowed, "%s takes %s, not %s", path, strings.Join(allowed, ", "), account.KnownMethod(r.Method)).write(w)
		})))
	}
	proxy := s.endpoints()
	mux.Handle("/", s.account(otherRoute, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.hasEndpoints(r.URL.Path) {
			proxy.ServeHTTP(w, r)
			return
		}
		fail(http.StatusNotFound, "no such route; /openapi.json lists them").write(w)
	})))
	return mux
}

// serve checks a request and hands it to the route.
func (s *Server) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, refused := s.refuse(w, r, rt.open)
		if refused != nil {
			refused.write(w)
			return
		}
		if c, ok := r.Context().Value(callerKey{}).(*caller); ok {
			c.user = user
		}
		body, refused := s.readBody(w, r)
		if refused != nil {
			refused.write(w)
			return
		}
		rt.handle(r, body).write(w)
	})
}

// readBody reads the whole body before anything is done, within the limits of size and time.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *reply) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, fail(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, fail(http.StatusRequestTimeout, "the body did not arrive within %s", s.opts.ReadTimeout)
	default:
		return nil, fail(http.StatusBadRequest, "reading the body: %v", err)
	}
}

// writeTimeout is how long a caller may take to read its answer.
const writeTimeout = 30 * time.Second

// reply is the answer to a request.
type reply struct {
	status      int
	contentType string
	body        []byte
}

func (p *reply) write(w http.ResponseWriter) {
	h := w.Header()
	if p.contentType != "" {
		h.Set("Content-Type", p.contentType)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	// A caller that does not read its answer must not keep the connection. Not every writer has deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body) // a client that has gone is nobody's error
}

// jsonReply answers with a value as JSON.
func jsonReply(status int, v any) *reply {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // it is read by people, in terminals
	if err := enc.Encode(v); err != nil {
		return &reply{status: http.StatusInternalServerError, contentType: "application/json", body: []byte(`{"error":"internal error"}`)}
	}
	return &reply{status: status, contentType: "application/json", body: body.Bytes()}
}

// fail answers with an error; secrets in it are masked.
func fail(status int, format string, args ...any) *reply {
	return jsonReply(status, map[string]string{"error": redact.Text(fmt.Sprintf(format, args...))})
}

// passed answers as the engine did, secrets in its text masked.
func passed(a engine.Answer) *reply {
	return &reply{status: a.Status, contentType: a.ContentType, body: []byte(redact.Text(string(a.Body)))}
}
