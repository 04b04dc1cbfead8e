package control

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/door"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/openapi"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Every route, with what it takes to get each of its own statuses that a test can get.
func TestRoutes(t *testing.T) {
	p := start(t, Options{Checkpoints: saved{"k1": `{"position":"7"}`}}, map[string]string{"filed": ticking})
	eventually(t, "connected", func() bool { status, _ := p.states("/ready"); return status == 200 })
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/health", "", 200, `"status":"healthy"`},
		{"GET", "/ready", "", 200, `"status":"ready"`},
		{"GET", "/openapi.json", "", 200, `"openapi":"3.1.0"`},
		{"GET", "/ping", "", 200, "pong"},
		{"GET", "/version", "", 200, "version"},
		{"GET", "/endpoints", "", 200, "/streams/{id}"},
		{"GET", "/metrics", "", 404, ""},
		{"GET", "/stats", "", 404, ""},
		{"GET", "/streams", "", 200, `"filed":{"active":true`},
		{"GET", "/streams/filed", "", 200, `"generate"`},
		{"GET", "/streams/none", "", 404, "Stream not found"},
		{"GET", "/streams/filed/stats", "", 200, "uptime_ns"},
		{"GET", "/streams/none/stats", "", 404, "Stream not found"},
		{"POST", "/streams/made", testing1, 200, `"status":"running"`},
		{"POST", "/streams/made", testing1, 400, "already exists"},
		{"PUT", "/streams/made", testing1, 200, `"status":"running"`},
		{"PUT", "/streams/none", testing1, 404, "not found"},
		{"PUT", "/streams/made", "}", 400, ""},
		{"PATCH", "/streams/made", "{}", 200, `"status":"running"`},
		{"PATCH", "/streams/none", "{}", 404, "not found"},
		{"PATCH", "/streams/made", "[]", 400, "want a mapping"},
		{"POST", "/streams/none/pause", "", 404, "not found"},
		{"POST", "/streams/none/resume", "", 404, "not found"},
		{"POST", "/streams/none/stop", "", 404, "not found"},
		{"POST", "/streams/none/start", "", 404, "not found"},
		{"GET", "/streams/none/checkpoint", "", 404, "not found"},
		{"GET", "/streams/filed/checkpoint", "", 404, "no source"},
		{"GET", "/streams/made/checkpoint", "", 200, `{"pipeline":"made","checkpoints":[{"source":"orders","key":"k1","store":"default","record":{"position":"7"}}]}`},
		{"DELETE", "/streams/made/checkpoint", "", 409, "stop it first"},
		{"POST", "/streams/made/stop", "", 200, `"status":"stopped"`},
		{"DELETE", "/streams/made/checkpoint", "", 200, ""},
		{"DELETE", "/streams/made/checkpoint", "", 404, "no position saved"},
		{"GET", "/streams/made/checkpoint", "", 200, `"record":null`},
		{"DELETE", "/streams/made", "", 200, ""},
		{"DELETE", "/streams/made?timeout=1s", "", 404, ""},
		{"POST", "/validate", testing1, 200, `{"valid":true,"connections":[{"component":"input","status":"connected"},{"component":"output","status":"connected"}]}`},
		{"POST", "/validate", "input: {nope: {}}", 400, `"lint_errors"`},
		{"POST", "/validate", "a: [", 400, `"error"`},
		{"POST", "/validate", "input: {test_source: {refuse: true}}", 400, "input: "},
		{"POST", "/validate", "output: {test_unreachable: {}}", 400, `"status":"failed","error":"dialing postgres://u:` + document.Mask + `@db: no route to host"`},
		{"POST", "/resources/cache/mem", "memory: {}", 200, ""},
		{"POST", "/resources/cache/mem", "nope: {}", 400, "nope"},
		{"POST", "/resources/nope/mem", "memory: {}", 400, "must be set to one of"},
		{"POST", "/streams/cached", ticking + "pipeline: {processors: [{cache: {resource: mem, operator: get, key: a}}]}", 200, ""},
		{"PATCH", "/streams/cached", "input: {generate: {interval: 2s}}", 200, ""},
		{"PATCH", "/streams/cached", "pipeline: {processors: [{cache: {resource: none, operator: get, key: a}}]}", 400, "'none' was not found"},
		{"GET", "/nope", "", 404, "/openapi.json"},
		{"GET", "/streams/a/b/c", "", 404, ""},
	} {
		text := p.want(c.status, c.method, c.path, c.body)
		assert.Contains(t, text, c.want, "%s %s", c.method, c.path)
	}
	_, exists := p.statuses()["none"]
	assert.False(t, exists)
}

// saved are positions in memory.
type saved map[string]string

func (s saved) Read(_ context.Context, at CheckpointLocation) (json.RawMessage, error) {
	if v, ok := s[at.Key]; ok {
		return json.RawMessage(v), nil
	}
	return nil, ErrNoCheckpoint
}

func (s saved) Delete(_ context.Context, at CheckpointLocation) error {
	if _, ok := s[at.Key]; !ok {
		return ErrNoCheckpoint
	}
	delete(s, at.Key)
	return nil
}

func TestNoCheckpoints(t *testing.T) {
	p := start(t, Options{}, map[string]string{"filed": testing1})
	p.want(501, "GET", "/streams/filed/checkpoint", "")
	p.want(200, "POST", "/streams/filed/stop", "")
	p.want(501, "DELETE", "/streams/filed/checkpoint", "")
}

// The document names every path and method that is served, and no other: each is asked for by real HTTP.
func TestOpenAPI(t *testing.T) {
	p := start(t, Options{}, map[string]string{"x": ticking})
	var doc struct {
		Paths map[string]map[string]struct {
			Responses  map[string]any   `json:"responses"`
			Security   []map[string]any `json:"security"`
			Parameters []struct{ Name, In string }
		} `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(p.want(200, "GET", "/openapi.json", "")), &doc))
	methods := []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	assert.Greater(t, len(doc.Paths), 15)
	for path, operations := range doc.Paths {
		real := strings.NewReplacer("{id}", "nobody", "{type}", "cache").Replace(path)
		for _, method := range methods {
			op, described := operations[strings.ToLower(method)]
			status, text := p.call(method, real, "[")
			if !described {
				assert.Equal(t, 405, status, "%s %s is served and not described", method, path)
				continue
			}
			assert.NotEqual(t, 405, status, "%s %s is described and not served", method, path)
			assert.NotContains(t, text, "no such route", "%s %s", method, path)
			assert.Contains(t, op.Responses, fmt.Sprint(status), "%s %s", method, path)
			for _, v := range openapi.PathVariable.FindAllStringSubmatch(path, -1) {
				assert.True(t, slices.ContainsFunc(op.Parameters, func(q struct{ Name, In string }) bool { return q.Name == v[1] && q.In == "path" }))
			}
			secured := len(op.Security) > 0
			assert.Equal(t, !slices.Contains([]string{"/health", "/ready", "/openapi.json", "/ping"}, path), secured, path)
		}
	}
	// The other way round: whatever pattern is served is in the document.
	for _, rt := range p.server.routes() {
		assert.Contains(t, doc.Paths[rt.path], strings.ToLower(rt.method))
	}
}

func TestCredentials(t *testing.T) {
	p := start(t, Options{Credentials: door.Credentials{Token: "t0k3n", Users: map[string]string{"ann": "s3cret"}}}, map[string]string{"x": ticking})
	eventually(t, "connected", func() bool { status, _ := p.states("/ready"); return status == 200 })
	for header, want := range map[string]int{
		"": 401, "Bearer t0k3n": 200, "Bearer t0k3": 401, "Bearer ": 401, "Bearer  t0k3n": 401, "Basic YW5uOnMzY3JldA==": 200, // ann:s3cret
		"Basic YW5uOnMzY3JlVA==": 401, "Basic Ym9iOg==": 401, "Basic Ym9iOnMzY3JldA==": 401, "Basic ???": 401, "t0k3n": 401,
	} {
		p.header.Set("Authorization", header)
		for _, rt := range p.server.routes() {
			if rt.method != "GET" || rt.open || rt.takesID() || rt.path == "/metrics" || rt.path == "/stats" {
				continue
			}
			status, text, h := p.send("GET", rt.path, nil)
			assert.Equal(t, want, status, "%s with %q", rt.path, header)
			if want == 401 {
				assert.Contains(t, h.Get("WWW-Authenticate"), "Bearer")
				assert.NotContains(t, text, "generate")
			}
		}
		if want == 401 {
			status, _ := p.call("DELETE", "/streams/x", "")
			assert.Equal(t, 401, status)
			status, _ = p.call("POST", "/streams/y", ticking)
			assert.Equal(t, 401, status)
		}
	}
	p.header.Del("Authorization")
	p.want(200, "GET", "/health", "")
	p.want(200, "GET", "/ready", "")
	p.header.Set("Authorization", "Basic YW5uOnMzY3JldA==")
	p.header.Set("X-Request-Id", "req-1")
	_, _, h := p.send("POST", "/streams/x/stop", nil)
	assert.Equal(t, "req-1", h.Get("X-Request-Id"))
	assert.Len(t, p.log.with(`"user":"ann"`, `"request_id":"req-1"`, `"action":"stop"`), 1)
	for _, secret := range []string{"t0k3n", "s3cret"} {
		assert.NotContains(t, p.log.String(), secret)
	}
	assert.Positive(t, p.stats.get("api_requests_total{/streams,GET,401}"))
}

// Without credentials, callers on other machines get health and nothing else.
func TestNoCredentials(t *testing.T) {
	p := start(t, Options{}, map[string]string{"x": ticking})
	eventually(t, "connected", func() bool { status, _ := p.states("/ready"); return status == 200 })
	ask := func(method, path, remote string) int {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(""))
		r.RemoteAddr, r.Host = remote, "127.0.0.1:8080"
		w := httptest.NewRecorder()
		p.server.handler().ServeHTTP(w, r)
		return w.Code
	}
	for _, remote := range []string{"10.1.2.3:5", "[2001:db8::1]:5", "nonsense"} {
		for _, rt := range p.server.routes() {
			path := strings.NewReplacer("{id}", "x", "{type}", "cache").Replace(rt.path)
			if status := ask(rt.method, path, remote); rt.open {
				assert.Equal(t, 200, status, path)
			} else {
				assert.Equal(t, 403, status, "%s %s from %s", rt.method, path, remote)
			}
		}
	}
	assert.Equal(t, 200, ask("GET", "/streams", "127.0.0.1:5"))
	assert.Equal(t, 200, ask("GET", "/streams", "[::1]:5"))
	assert.Equal(t, map[string]string{"x": "running"}, p.statuses())
}

func TestOrigins(t *testing.T) {
	p := start(t, Options{}, map[string]string{"x": ticking})
	p.header.Set("Origin", "https://evil.example")
	p.want(403, "POST", "/streams/x/stop", "")
	p.want(403, "DELETE", "/streams/x", "")
	_, _, h := p.send("GET", "/streams", nil)
	assert.Empty(t, h.Get("Access-Control-Allow-Origin"))
	p.header.Set("Access-Control-Request-Method", "POST")
	p.want(405, "OPTIONS", "/streams/x", "")
	p.stop()

	p = start(t, Options{Origins: []string{"https://ui.example"}}, map[string]string{"x": ticking})
	p.header.Set("Origin", "https://ui.example")
	p.header.Set("Access-Control-Request-Method", "POST")
	status, _, h := p.send("OPTIONS", "/streams/x", nil)
	assert.Equal(t, 204, status)
	assert.Equal(t, "https://ui.example", h.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "DELETE, GET, PATCH, POST, PUT", h.Get("Access-Control-Allow-Methods"))
	_, _, h = p.send("POST", "/streams/x/stop", nil)
	assert.Equal(t, "https://ui.example", h.Get("Access-Control-Allow-Origin"))
	p.header.Set("Origin", "https://evil.example")
	p.want(403, "POST", "/streams/x/start", "")
	p.want(405, "OPTIONS", "/streams/x", "")
}

func TestLargeBody(t *testing.T) {
	p := start(t, Options{MaxBody: 1000}, nil)
	fits := ticking + "#" + strings.Repeat("x", 1000-len(ticking)-1)
	p.want(200, "POST", "/streams/fits", fits)
	for _, path := range []string{"/streams/large", "/streams", "/validate", "/resources/cache/a"} {
		assert.Contains(t, p.want(413, "POST", path, fits+"x"), "1000 bytes")
	}
	status, _, _ := p.send("POST", "/streams/large", io.LimitReader(rand.Reader, 5000)) // of unknown length
	assert.Equal(t, 413, status)
	assert.Equal(t, map[string]string{"fits": "running"}, p.statuses())
}

func TestSlowClients(t *testing.T) {
	p := start(t, Options{ReadTimeout: 2 * time.Second}, nil)
	for name, c := range map[string]struct{ sent, want string }{
		"header": {"GET /streams HTTP/1.1\r\nHost: localhost\r\n", ""},
		"body":   {"POST /streams/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ninput:", "408 Request Timeout"},
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.server.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(conn, c.sent)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		answer, err := io.ReadAll(bufio.NewReader(conn))
		assert.Falsef(t, errors.Is(err, context.DeadlineExceeded), "%s: still connected", name)
		assert.NoError(t, err, name)
		assert.Contains(t, string(answer), c.want, name)
		assert.NoError(t, conn.Close())
	}
	assert.Empty(t, p.statuses())
	assert.InDelta(t, 1, p.stats.get("api_requests_total{/streams/{id},POST,408}"), 0)
}

func TestTLS(t *testing.T) {
	certificate, key := testenv.Certificate(t, "127.0.0.1")
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	p := start(t, Options{TLS: &tls.Config{Certificates: []tls.Certificate{pair}}}, nil)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificate))
	p.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	p.want(200, "GET", "/ready", "")
	resp, err := http.Get(strings.Replace(p.url, "https", "http", 1) + "/ready") //nolint:noctx // a test
	require.NoError(t, err)
	assert.Equal(t, 400, resp.StatusCode, "plain HTTP on a TLS listener")
	require.NoError(t, resp.Body.Close())
	http.DefaultClient.CloseIdleConnections()
}

func TestSecretsStayInside(t *testing.T) {
	dir := testenv.TempDir(t, "streams")
	t.Setenv("CONTROL_TEST_PASSWORD", "hunter5-sesame")
	p := start(t, Options{StateDir: dir, StopTimeout: 5 * time.Second}, nil)
	config := `
input:
  test_source:
    name: orders
    dsn: user:hunter1-sesame@tcp(127.0.0.1:3306)/shop
    password: hunter2-sesame
    hidden: hunter3-sesame
output:
  test_unreachable: {}
pipeline:
  processors:
    - mapping: |
        meta url = "postgres://u:hunter4-sesame@db/x?sslmode=off"
        root.password = "${CONTROL_TEST_PASSWORD}"
`
	p.want(200, "POST", "/streams/secretive", config)
	eventually(t, "output fails", func() bool { status, _ := p.states("/ready"); return status == 503 })
	all := p.want(200, "GET", "/streams/secretive", "") + p.want(503, "GET", "/ready", "") + p.want(200, "GET", "/health", "") +
		p.want(200, "GET", "/streams", "") + p.want(200, "GET", "/streams/secretive/stats", "")
	assert.Contains(t, all, "user:"+document.Mask+"@tcp(127.0.0.1:3306)/shop")
	assert.Contains(t, all, `"name":"orders"`)
	p.want(200, "POST", "/streams/secretive/stop", "")
	all += p.want(200, "GET", "/streams/secretive", "")
	_, text := p.call("POST", "/validate", config)
	all += text
	for _, secret := range []string{"hunter1-sesame", "hunter2-sesame", "hunter3-sesame", "hunter4-sesame", "hunter5-sesame"} {
		assert.NotContains(t, all, secret)
	}
	saved, err := p.server.state.Configs()
	require.NoError(t, err)
	assert.Equal(t, config, string(saved["secretive"]), "a file of the operator's own, as it came")
	assert.NotContains(t, string(saved["secretive"]), "hunter5-sesame")
	var info engine.Info
	require.NoError(t, json.Unmarshal([]byte(p.want(200, "GET", "/streams/secretive", "")), &info))
	assert.Contains(t, p.want(400, "PUT", "/streams/secretive", string(info.Config)), "was masked")
}
