package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/deltaforge/deltaforge/internal/testenv"

	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/internal/openapi"
	"github.com/deltaforge/deltaforge/internal/control/internal/sources"
	contract "github.com/deltaforge/deltaforge/internal/plane"
)

func TestMain(m *testing.M) {
	registerTestComponents()
	os.Exit(testenv.MainWithoutLeaks(
		m,
		// The engine's command line kills a process that does not end; the limit here is an hour.
		goleak.IgnoreAnyFunction("github.com/redpanda-data/benthos/v4/internal/cli/common.RunManagerUntilStopped.func1.1"),
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"), // the engine's /stats, one a process
	))
}

const (
	ticking  = "input: {generate: {mapping: 'root.a = 1', interval: 1s}}\noutput: {drop: {}}\n"
	testing1 = "input: {test_source: {name: orders, checkpoint: {key: k1}}}\noutput: {drop: {}}\n"
)

// plane is a control plane in front of a real engine in streams mode.
type plane struct {
	t      *testing.T
	server *Server
	url    string
	engine string // the engine's own address
	log    *lines
	stats  *numbers
	header http.Header
	client *http.Client
	done   chan error
}

// start runs the engine with files as its streams. It fails the test when it does not start.
func start(t *testing.T, o Options, files map[string]string) *plane {
	t.Helper()
	dir := t.TempDir()
	p := &plane{
		t: t, engine: freeAddress(t), log: &lines{}, stats: &numbers{values: map[string]float64{}}, header: http.Header{},
		done: make(chan error, 1), client: &http.Client{Transport: &http.Transport{}},
	}
	args := []string{"deltaforge", "streams", "-o", filepath.Join(dir, "root", "root.yaml")}
	write(t, args[3], fmt.Sprintf("http: {address: %q}\nmetrics: {test_numbers: {}}\nlogger: {level: \"OFF\"}\nshutdown_timeout: 1h\n", p.engine))
	for name, config := range files {
		write(t, filepath.Join(dir, name+".yaml"), config)
		args = append(args, filepath.Join(dir, name+".yaml"))
	}
	env := service.GlobalEnvironment().Clone()
	require.NoError(t, env.RegisterMetricsExporter("test_numbers", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return p.stats, nil }))
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	o.Engine.Address, o.Engine.Lock = p.engine, engine.NewLock()
	if o.SourceTypes == nil {
		o.SourceTypes = []string{"test_source"}
	}
	if o.Interval == 0 {
		o.Interval = 20 * time.Millisecond
	}
	started := make(chan struct{})
	go func() {
		_, err := service.RunCLIToCode(context.Background(),
			service.CLIOptSetArgs(args...), service.CLIOptSetEnvironment(env), service.CLIOptAddTeeLogger(slog.New(slog.NewJSONHandler(p.log, nil))),
			service.CLIOptSetMainSchemaFrom(func() *service.ConfigSchema {
				schema := env.FullConfigSchema("", "")
				for field, value := range o.Engine.Lock.Fields() {
					schema.SetFieldDefault(value, "http", "basic_auth", field)
				}
				return schema
			}),
			service.CLIOptOnConfigParse(func(conf *service.ParsedConfig) (err error) {
				o.Resources = conf.Resources()
				p.server, err = New(context.Background(), o)
				return err
			}),
			service.CLIOptOnStreamStart(func(*service.RunningStreamSummary) error {
				if err := p.server.Start(context.Background()); err != nil {
					return err
				}
				close(started)
				return nil
			}))
		p.done <- err
	}()
	select {
	case err := <-p.done:
		require.Failf(t, "no start", "%v", err)
	case <-started:
	}
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	p.url = scheme + p.server.Addr().String()
	t.Cleanup(sourcesSeen.Clear) // the next test may have pipelines of the same names
	t.Cleanup(p.stop)
	return p
}

// stop ends the control plane, then the engine as a signal does. It may be called more than once.
func (p *plane) stop() {
	if p.done == nil {
		return
	}
	assert.NoError(p.t, p.server.Close(context.Background()))
	assert.NoError(p.t, p.server.Close(context.Background()))
	require.NoError(p.t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	select {
	case err := <-p.done:
		assert.NoError(p.t, err)
	case <-time.After(time.Minute):
		p.t.Error("the engine did not stop")
	}
	p.done = nil
	p.client.CloseIdleConnections()
}

// call sends a request and checks that its status is one that the OpenAPI document has for the route.
func (p *plane) call(method, path, body string) (int, string) {
	p.t.Helper()
	status, text, _ := p.send(method, path, strings.NewReader(body))
	return status, text
}

func (p *plane) send(method, path string, body io.Reader) (int, string, http.Header) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, body)
	require.NoError(p.t, err)
	req.Header = p.header.Clone()
	resp, err := p.client.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	_, _ = testenv.Said().Write(text)
	p.documented(method, path, resp.StatusCode)
	return resp.StatusCode, string(text), resp.Header
}

// documented fails when a route gave a status that it does not say it may give.
func (p *plane) documented(method, path string, status int) {
	p.t.Helper()
	path, _, _ = strings.Cut(path, "?")
	for _, rt := range p.server.routes() {
		pattern := regexp.MustCompile("^" + openapi.PathVariable.ReplaceAllString(rt.path, "[^/]+") + "$")
		if rt.method == method && pattern.MatchString(path) {
			assert.Contains(p.t, openapi.AllStatuses(rt.described()), status, "%s %s is not documented to answer %d", method, path, status)
			return
		}
	}
}

// want sends a request and demands its status.
func (p *plane) want(status int, method, path, body string) string {
	p.t.Helper()
	got, text := p.call(method, path, body)
	require.Equal(p.t, status, got, "%s %s: %s", method, path, text)
	return text
}

// statuses returns the statuses of all pipelines, from GET /streams.
func (p *plane) statuses() map[string]string {
	p.t.Helper()
	var all map[string]engine.Info
	require.NoError(p.t, json.Unmarshal([]byte(p.want(200, "GET", "/streams", "")), &all))
	m := map[string]string{}
	for id, info := range all {
		m[id] = info.Status
	}
	return m
}

func (p *plane) states(path string) (int, map[string]State) {
	p.t.Helper()
	status, text := p.call("GET", path, "")
	var a answerOf
	require.NoError(p.t, json.Unmarshal([]byte(text), &a), text)
	m := map[string]State{}
	for _, st := range a.Pipelines {
		m[st.Name] = st
	}
	return status, m
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 5*time.Millisecond, what)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return testenv.FreeAddr(t)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// lines collects the log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(b, []byte(`"target":"control"`)) { // the binary's own log goes through TargetLog, which this one is not
		_, _ = testenv.Said().Write(b)
	}
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// with returns the lines that hold all of the parts.
func (l *lines) with(parts ...string) (found []string) {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			found = append(found, line)
		}
	}
	return found
}

// numbers is a metrics exporter that keeps values under name{value,value}.
type numbers struct {
	mu     sync.Mutex
	values map[string]float64
}

func (n *numbers) has(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.values[name]
	return ok
}

func (n *numbers) get(name string) float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.values[name]
}

type number struct {
	n   *numbers
	key string
}

// ctor leaves out the labels that the engine adds.
func (n *numbers) ctor(name string, keys []string) func(values []string) number {
	return func(values []string) number {
		var own []string
		for i, key := range keys {
			if key != "label" && key != "path" && key != "stream" {
				own = append(own, values[i])
			}
		}
		return number{n, name + "{" + strings.Join(own, ",") + "}"}
	}
}

func (c number) add(v float64) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	c.n.values[c.key] += v
}

func (c number) Incr(v int64)          { c.add(float64(v)) }
func (c number) IncrFloat64(v float64) { c.add(v) }
func (c number) Timing(int64)          { c.add(1) }
func (c number) Set(v int64)           { c.SetFloat64(float64(v)) }
func (c number) SetFloat64(v float64) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if math.IsNaN(v) {
		delete(c.n.values, c.key)
		return
	}
	c.n.values[c.key] = v
}

func (n *numbers) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	f := n.ctor(name, keys)
	return func(v ...string) service.MetricsExporterCounter { return f(v) }
}

func (n *numbers) NewTimerCtor(name string, keys ...string) service.MetricsExporterTimerCtor {
	f := n.ctor(name, keys)
	return func(v ...string) service.MetricsExporterTimer { return f(v) }
}

func (n *numbers) NewGaugeCtor(name string, keys ...string) service.MetricsExporterGaugeCtor {
	f := n.ctor(name, keys)
	return func(v ...string) service.MetricsExporterGauge { return f(v) }
}

func (n *numbers) Close(context.Context) error { return nil }

// testSource is an input that attaches to Sources as ours do and delivers a message a millisecond.
type testSource struct {
	pipeline string
	slot     string // what it leaves on its server
	attach   func(string, string, contract.Source) (contract.Gate, func())
	gate     contract.Gate
	detach   func()
	seen     *sourceSeen
}

// sourceSeen is what the test sees of the sources of one pipeline.
type sourceSeen struct {
	delivered, connects, closes atomic.Int64
	held                        atomic.Bool // at its gate
	failure                     atomic.Value
}

var sourcesSeen sync.Map //nolint:gochecknoglobals // the engine makes the sources, tests look at them

func seen(pipeline string) *sourceSeen {
	v, _ := sourcesSeen.LoadOrStore(pipeline, &sourceSeen{})
	return v.(*sourceSeen)
}

func registerTestComponents() {
	spec := service.NewConfigSpec().Field(service.NewStringField("name").Default("")).
		Field(service.NewStringField("dsn").Default("")).
		Field(service.NewStringField("password").Secret().Default("")).
		Field(service.NewStringField("hidden").Secret().Default("")).
		Field(service.NewStringField("slot").Default("")).
		Field(service.NewBoolField("refuse").Default(false)).
		Field(service.NewAnyField("checkpoint").Default(map[string]any{}))
	service.MustRegisterBatchInput("test_source", spec, func(c *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
		if refuse, _ := c.FieldBool("refuse"); refuse {
			return nil, fmt.Errorf("the source refuses its configuration")
		}
		s := &testSource{pipeline: res.StreamID(), seen: seen(res.StreamID())}
		s.slot, _ = c.FieldString("slot")
		if v, ok := res.GetGeneric(sources.Key); ok {
			s.attach = v.(contract.Registry).Attach
		}
		return s, nil
	})
	service.MustRegisterBatchBuffer("test_buffer", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Resources) (service.BatchBuffer, error) {
			return nil, fmt.Errorf("the buffer refuses its configuration")
		})
	service.MustRegisterBatchOutput("test_unreachable", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			return unreachable{}, service.BatchPolicy{}, 1, nil
		})
}

func (s *testSource) Connect(context.Context) error {
	s.seen.connects.Add(1)
	if s.gate == nil {
		s.gate, s.detach = s.attach(s.pipeline, "orders", contract.Source{Report: func() contract.Report {
			failure, _ := s.seen.failure.Load().(string)
			return testReport(fmt.Sprint("at ", s.seen.delivered.Load()), 1.5, failure)
		}, Withdraw: func() {}})
	}
	return nil
}

func (s *testSource) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	for {
		paused, changed := s.gate()
		s.seen.held.Store(paused)
		if !paused {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	s.seen.delivered.Add(1)
	return service.MessageBatch{service.NewMessage([]byte("{}"))}, func(context.Context, error) error { return nil }, nil
}

func (s *testSource) Close(context.Context) error {
	s.seen.closes.Add(1)
	if s.detach != nil {
		s.detach()
		s.detach = nil
	}
	return nil
}

func (s *testSource) ConnectionTest(ctx context.Context) service.ConnectionTestResults {
	if c := contract.CleanupOf(ctx); c != nil && s.slot != "" {
		l := contract.Leftover{What: "the slot " + s.slot, How: "DROP SLOT " + s.slot, Dropped: c.Drop && s.slot != "busy"}
		c.Add("orders", l)
		if c.Drop && !l.Dropped {
			return service.ConnectionTestFailed(errors.New("dropping the slot at postgres://u:hunter2-sesame@db: it is in use")).AsList()
		}
	}
	return service.ConnectionTestSucceeded().AsList()
}

// unreachable is an output that never connects.
type unreachable struct{}

var errUnreachable = fmt.Errorf("dialing postgres://u:hunter2-sesame@db: no route to host")

func (unreachable) Connect(context.Context) error { return errUnreachable }

func (unreachable) WriteBatch(context.Context, service.MessageBatch) error {
	return service.ErrNotConnected
}
func (unreachable) Close(context.Context) error { return nil }
func (unreachable) ConnectionTest(context.Context) service.ConnectionTestResults {
	return service.ConnectionTestFailed(errUnreachable).AsList()
}
