package control

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/door"
	"github.com/deltaforge/deltaforge/internal/control/engine"
)

// The engine's own server answers the control plane and nobody else.
func TestEngineIsLocked(t *testing.T) {
	p := start(t, Options{}, map[string]string{"x": ticking})
	for _, path := range []string{"/streams", "/streams/x", "/streams/x/stats", "/resources/cache/a", "/ready", "/x/ready", "/metrics", "/version", "/benthos/streams"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.engine+path, strings.NewReader("{}"))
			require.NoError(t, err)
			req.SetBasicAuth("control-plane", "")
			resp, err := p.client.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			if resp.StatusCode != http.StatusNotFound { // of what this engine does not have
				assert.Equal(t, 401, resp.StatusCode, "%s %s", method, path)
			}
		}
	}
	assert.Equal(t, map[string]string{"x": "running"}, p.statuses())
}

// Who can create a pipeline can run programs: without credentials, nobody but this machine may reach the listener.
func TestOpenDoor(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		_, err := New(t.Context(), Options{Address: address, Resources: service.MockResources(), Engine: engine.Options{Address: "127.0.0.1:1"}})
		if assert.Error(t, err, address) {
			assert.Contains(t, err.Error(), "without credentials")
			assert.Contains(t, err.Error(), "--insecure")
		}
	}
	p := start(t, Options{Address: "0.0.0.0:0", Insecure: true}, nil)
	assert.Len(t, p.log.with("The control plane is insecure"), 1)
	assert.Equal(t, 200, p.ask("GET", "/streams", "10.1.2.3:5", "db.example:8080"))
	p.stop()
	p = start(t, Options{Address: "0.0.0.0:0", Credentials: door.Credentials{Token: "t0k3n-of-a-test"}}, nil)
	assert.Empty(t, p.log.with("insecure"))
	assert.Equal(t, 401, p.ask("GET", "/streams", "127.0.0.1:5", "127.0.0.1:8080"))
}

// ask serves a request of a caller at an address, to a host.
func (p *plane) ask(method, path, remote, host string) int {
	r := httptest.NewRequestWithContext(p.t.Context(), method, path, strings.NewReader(""))
	r.RemoteAddr, r.Host = remote, host
	w := httptest.NewRecorder()
	p.server.handler().ServeHTTP(w, r)
	return w.Code
}

// A name that an attacker points to this machine is not one of this machine's.
func TestHost(t *testing.T) {
	p := start(t, Options{}, nil)
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "[::1]:8080": 200, "localhost:8080": 200, "localhost": 200, "10.0.0.1": 200, "df.localhost:1": 200,
		"evil.example:8080": 403, "evil.example": 403, "localhost.evil.example": 403, "": 403, "127.0.0.1.evil.example": 403,
	} {
		assert.Equal(t, want, p.ask("GET", "/streams", "127.0.0.1:5", host), host)
	}
	assert.Equal(t, 200, p.ask("GET", "/health", "127.0.0.1:5", "pod.example"), "health is for everybody")
}

// Thousands of keys that nobody knows must not keep the linter, and so a core, busy for minutes.
func TestManyUnknownKeys(t *testing.T) {
	p := start(t, Options{}, nil)
	unknown := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "unknown_%d: 1\n", i)
		}
		return ticking + b.String()
	}
	for _, path := range []string{"/validate", "/streams/x"} {
		assert.Contains(t, p.want(400, "POST", path, unknown(40_000)), "more than 20000 keys and values", path)
		text := p.want(400, "POST", path, unknown(1000))
		assert.Contains(t, text, "unknown_0")
		assert.Contains(t, text, "and 900 more")
	}
	assert.Contains(t, p.want(400, "POST", "/streams", "x:\n  "+strings.ReplaceAll(unknown(40_000), "\n", "\n  ")), "more than 20000 keys and values")
}

// The environment of the process is not the caller's to read.
func TestEnvironmentIsNotEchoed(t *testing.T) {
	t.Setenv("DELTAFORGE_TEST_PLAIN", "hunter6-sesame")
	p := start(t, Options{}, nil)
	for _, config := range []string{
		"input: {'${DELTAFORGE_TEST_PLAIN}': {}}\noutput: {drop: {}}\n",
		"input: {generate: {mapping: 'root = ', count: '${DELTAFORGE_TEST_PLAIN}'}}\noutput: {drop: {}}\n",
		"input: {generate: {mapping: 'root = ${DELTAFORGE_TEST_PLAIN} +'}}\noutput: {drop: {}}\n",
		"${DELTAFORGE_TEST_PLAIN}: 1\n" + ticking,
		"input: {test_source: {refuse: '${DELTAFORGE_TEST_PLAIN}'}}\noutput: {drop: {}}\n",
	} {
		for _, path := range []string{"/validate", "/streams/x"} {
			assert.NotContains(t, p.want(400, "POST", path, config), "hunter6-sesame", "%s %s", path, config)
		}
	}
	assert.NotContains(t, p.log.String(), "hunter6-sesame")
}

// A password is text, whatever a YAML parser would take it for.
func TestPasswordsAreText(t *testing.T) {
	for _, password := range []string{"48151623", "0123", "1e3", "true", "null", "a #b", "it's", `say "so"`, "a: b", "- x", "*x", "${X}y", "~", " x "} {
		t.Setenv("DELTAFORGE_TEST_PW", password)
		for _, config := range []string{
			"password: ${DELTAFORGE_TEST_PW}", "a:\n  - password:   ${DELTAFORGE_TEST_PW}   # said elsewhere\n    b: 1", "\"password\": ${DELTAFORGE_TEST_PW:x}\r\n",
		} {
			root, err := document.Mapping([]byte(document.ExpandEnv(string(document.QuoteSecrets([]byte(config))))))
			require.NoError(t, err, "%s of %s", config, password)
			var got []string
			var walk func(v any)
			walk = func(v any) {
				switch v := v.(type) {
				case map[string]any:
					if s, ok := v["password"].(string); ok {
						got = append(got, s)
					}
					for _, e := range v {
						walk(e)
					}
				case []any:
					for _, e := range v {
						walk(e)
					}
				}
			}
			var v any
			require.NoError(t, root.Decode(&v))
			walk(v)
			assert.Equal(t, []string{password}, got, config)
		}
	}
	t.Setenv("DELTAFORGE_TEST_PW", "7")
	for _, config := range []string{"count: ${DELTAFORGE_TEST_PW}", "password: '${DELTAFORGE_TEST_PW}'", "password: x${DELTAFORGE_TEST_PW}", "mapping: ${DELTAFORGE_TEST_PW}"} {
		assert.Equal(t, config, string(document.QuoteSecrets([]byte(config))))
	}
	for config, want := range map[string]string{
		"output: {x: {password: 48151623}}": "line 1: field output.x.password", "a:\n  sasl:\n    - password: true": "line 3: field a.sasl.password",
		"secret: 1e3": "type float", "api_token: 0x10": "field api_token",
	} {
		err := document.CheckSecrets([]byte(config))
		if assert.ErrorContains(t, err, want, config) {
			assert.NotContains(t, err.Error(), "48151623")
		}
	}
	for _, config := range []string{"password: '1'", "password:", "password: ${X}", "token_ttl_ms: 5", "max_tokens: 5"} {
		assert.NoError(t, document.CheckSecrets([]byte(config)), config)
	}
}

// Pipelines of files: one that is wrong does not keep the others from running, and an edit goes the way of a PUT.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("good.yaml"), ticking+"tests: []\n")
	write(t, path("bad.yaml"), "input: {generate: {mapping: 'root = ('}}\noutput: {drop: {}}\n")
	write(t, path("sub/deep.yml"), ticking)
	write(t, path("sub/good_benthos_test.yaml"), "tests: []\n")
	write(t, path("sub/notes.txt"), "nothing")
	p := start(t, Options{Files: []string{dir}, Watch: true}, nil)
	assert.Equal(t, map[string]string{"good": "running", "bad": "failed", "sub_deep": "running"}, p.statuses())
	status, states := p.states("/health")
	assert.Equal(t, 503, status)
	assert.Contains(t, states["bad"].Reason, "bad.yaml")

	becomes := func(id, want string) {
		t.Helper()
		eventually(t, id+" becomes "+want, func() bool { return p.statuses()[id] == want })
	}
	edit := func(name, text string) { // with another size, so that the clock's grain does not matter
		t.Helper()
		write(t, path(name), text)
	}
	edit("bad.yaml", ticking+"# mended\n")
	becomes("bad", "running")

	edit("good.yaml", "input: {test_source: {refuse: true}}\noutput: {drop: {}}\n")
	eventually(t, "the edit is refused", func() bool { return len(p.log.with("Pipeline good: update refused", "refuses its configuration")) > 0 })
	assert.Equal(t, "running", p.statuses()["good"])
	assert.Contains(t, p.want(200, "GET", "/streams/good", ""), "generate", "the old one stays")

	p.want(200, "POST", "/streams/good/stop", "")
	edit("good.yaml", "input: {test_source: {name: edited}}\noutput: {drop: {}}\n")
	eventually(t, "the edit is taken", func() bool { return strings.Contains(p.want(200, "GET", "/streams/good", ""), "edited") })
	assert.Equal(t, "stopped", p.statuses()["good"], "an edit starts nothing")
	p.want(200, "POST", "/streams/good/start", "")
	becomes("good", "running")

	edit("new.yaml", ticking)
	becomes("new", "running")
	require.NoError(t, os.Remove(path("new.yaml")))
	becomes("new", "")
}

// A component that listens on the engine's server is reached through the control plane, with its credentials.
func TestEndpointsOfComponents(t *testing.T) {
	p := start(t, Options{Credentials: door.Credentials{Token: "t0k3n-of-a-test"}}, map[string]string{"hook": "input: {http_server: {path: /in}}\noutput: {drop: {}}\n"})
	status, _ := p.call("POST", "/hook/in", "hello")
	assert.Equal(t, 401, status)
	p.header.Set("Authorization", "Bearer t0k3n-of-a-test")
	eventually(t, "running", func() bool { status, _ := p.call("POST", "/hook/in", "hello"); return status == 200 })
	for _, path := range []string{"/streams/hook/in", "/nobody/in", "/hook", "/debug/config/json"} {
		status, _ := p.call("GET", path, "")
		assert.Equal(t, 404, status, path)
	}
}

// A caller that never reads its answer is cut off.
func TestWriteTimeout(t *testing.T) {
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	fail(500, "x").write(w)
	assert.WithinDuration(t, time.Now().Add(writeTimeout), w.deadline, 10*time.Second)
}

type deadlines struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error { d.deadline = at; return nil }

func TestCheckMain(t *testing.T) {
	res := service.MockResources()
	s, err := NewSingle(SingleOptions{Pipeline: "orders", SourceType: "test_source", Resources: res})
	require.NoError(t, err)
	main := "http: {address: '127.0.0.1:1'}\nmetrics: {none: {}}\n" + ticking
	require.NoError(t, s.CheckMain(context.Background(), []byte(main), false))
	for text, want := range map[string]string{
		"input: {test_source: {refuse: true}}\noutput: {drop: {}}\n": "refuses its configuration",
		main + "nonsense: 1\n":                "nonsense",
		"input: [":                            "yaml",
		"output: {x: {password: 12345678}}\n": "in quotes",
	} {
		assert.ErrorContains(t, s.CheckMain(context.Background(), []byte(text), false), want, text)
	}
	require.NoError(t, s.Close(context.Background()))
}
