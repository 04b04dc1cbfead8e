package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

func TestParseLevels(t *testing.T) {
	l, err := ParseLevels(" warn, input.mysql=debug,output.orders_kafka = info,control,rdkafka::client=off,")
	require.NoError(t, err)
	for name, want := range map[string]slog.Level{
		"": slog.LevelWarn, "input.mysql": slog.LevelDebug, "input.mysql2": slog.LevelWarn, "input.mysql.x": slog.LevelDebug,
		"input": slog.LevelWarn, "output.orders_kafka": slog.LevelInfo, "control": slog.LevelDebug, "rdkafka.client": levelOff,
	} {
		assert.Equal(t, want, l.of([]string{name}), name)
	}
	l, err = ParseLevels("input.a=error,input=debug")
	require.NoError(t, err)
	assert.Equal(t, slog.LevelError, l.of([]string{"input.a"}), "the longest target wins")
	assert.Equal(t, slog.LevelDebug, l.of([]string{"input.b"}))
	assert.Equal(t, slog.LevelError, l.of(nil), "without a level for everything")
	for _, bad := range []string{"input=chatty", "=debug", "a b=debug", "input[x]=debug", "a=b=c", "warn,{x}"} {
		_, err := ParseLevels(bad)
		if assert.Error(t, err, bad) {
			d := bad[strings.LastIndex(bad, ",")+1:]
			assert.Contains(t, err.Error(), `"`+d+`"`)
		}
	}
}

func TestTargetLog(t *testing.T) {
	levels, err := ParseLevels("warn,input.orders=debug,output.sinker=info,processors=off")
	require.NoError(t, err)
	log := NewTargetLog()
	root := log.Logger()
	root.Info("dropped")
	root.Warn("waits\n")
	var out bytes.Buffer
	log.SetLevels(levels)
	log.SetFormat(LogFormat{Out: &out, Static: map[string]string{"@service": "x"}, MessageKey: "message"})
	stream := root.With("stream", "p1").With("path", "root.input", "label", "")
	stream.Info("dropped")
	stream.With("source", "orders").Debug("from the source", "position", 7)
	sink := root.With("path", "root.output").With("label", "sinker")
	sink.Info("from the sink")
	sink.Debug("dropped")
	root.With("path", "root.pipeline.processors.0").Error("dropped")
	root.With("path", "root.output").With("path", "root.input").Error("replaced")
	assert.Equal(t, strings.TrimPrefix(`
{"level":"warning","message":"waits","@service":"x"}
{"level":"debug","message":"from the source","@service":"x","pipeline":"p1","path":"root.input","label":"","position":7,"name":"orders","source":"root.input"}
{"level":"info","message":"from the sink","@service":"x","sink":"sinker","path":"root.output","label":"sinker"}
{"level":"error","message":"replaced","@service":"x","path":"root.input","source":"root.input"}
`, "\n"), out.String())

	out.Reset()
	sink.Error("Failed to connect to x: dialing amqp://u:hunter2-sesame@h: refused", "dsn", "u:hunter3-sesame@tcp(h)/d", "cause", errors.New("postgres://u:hunter4-sesame@h"))
	assert.Equal(t, `{"level":"error","message":"Failed to connect to x: dialing amqp://u:#@h: refused","@service":"x","sink":"sinker",`+
		`"error":"dialing amqp://u:#@h: refused","path":"root.output","label":"sinker","dsn":"u:#@tcp(h)/d","cause":"postgres://u:#@h"}`+"\n",
		strings.ReplaceAll(out.String(), Mask, "#"))

	out.Reset()
	log.SetFormat(LogFormat{Out: &out, Text: true, Time: true})
	root.Warn("as text")
	assert.Regexp(t, `^time=\S+ level=warning msg="as text"\n$`, out.String())
	out.Reset()
	early := NewTargetLog()
	early.Logger().Debug("of no interest")
	early.Logger().Error("the configuration was never read")
	early.Flush(&out)
	early.Flush(&out)
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
}

// What each line says of where it is from.
func TestLogFields(t *testing.T) {
	log := NewTargetLog()
	log.SetLevels(Levels{})
	var out bytes.Buffer
	names := NewSourceNames([]string{"test_source"})
	names.Put("s", []byte("input: {broker: {inputs: [{generate: {}}, {label: z, test_source: {name: books}}]}}"))
	log.SetFormat(LogFormat{Out: &out, Pipeline: "only", Sources: names, Tenant: func(pipeline string) string { return "tenant of " + pipeline }})
	root := log.Logger()
	for _, c := range []struct {
		with []any
		want string
	}{
		{nil, `{}`},
		{[]any{"path", "config.yaml"}, `{"path":"config.yaml"}`},
		{[]any{"path", "root.yaml"}, `{"path":"root.yaml"}`},
		{[]any{"target", "control", "pipeline", "x", "tenant", "own"}, `{"target":"control","pipeline":"x","tenant":"own"}`},
		{[]any{"path", "root.output"}, `{"pipeline":"only","tenant":"tenant of only","sink":"root.output","path":"root.output"}`},
		{
			[]any{"stream", "s", "path", "root.output.broker.outputs.1", "label", "b"},
			`{"tenant":"tenant of s","sink":"b","pipeline":"s","path":"root.output.broker.outputs.1","label":"b"}`,
		},
		{
			[]any{"stream", "s", "path", "root.input", "label", "a", "source", "orders", "tenant", "own", "pipeline", "s"},
			`{"path":"root.input","label":"a","tenant":"own","pipeline":"s","name":"orders","source":"a"}`,
		},
		{ // the engine's line about a source whose name is known
			[]any{"stream", "s", "path", "root.input.broker.inputs.1", "label", "z"},
			`{"tenant":"tenant of s","pipeline":"s","path":"root.input.broker.inputs.1","label":"z","source":"books"}`,
		},
		{
			[]any{"stream", "s", "path", "root.input.processors.0", "label", "p"},
			`{"tenant":"tenant of s","pipeline":"s","path":"root.input.processors.0","label":"p"}`,
		},
		{[]any{"path", "root.output_resources", "label", "r"}, `{"pipeline":"only","tenant":"tenant of only","sink":"r","path":"root.output_resources","label":"r"}`},
	} {
		out.Reset()
		root.With(c.with...).Error("x")
		want := strings.TrimSuffix(`{"level":"error","msg":"x",`+c.want[1:], ",}")
		assert.Equal(t, strings.TrimSuffix(want, "}")+"}\n", out.String())
	}
}

func TestMergeYAML(t *testing.T) {
	for _, c := range []struct{ base, patch, want string }{
		{"a: 1", "b: 2", "a: 1\nb: 2\n"},
		{"a: {b: 1, c: [1, 2]}", `{"a": {"c": [3]}}`, "a:\n    b: 1\n    c: [3]\n"},
		{"a: ${N}", "b: ${M:2}", "a: ${N}\nb: ${M:2}\n"},
		{"a: b\nb: a", "a: {x: 1}", "a: {x: 1}\nb: a\n"},
		{"x: a\na: 1", "a: 2", "x: a\na: 2\n"},
		{"", "a: 1", "a: 1\n"},
		{"a: 1", "", "a: 1\n"},
		{"a: 1", "a: null", "a: null\n"},
	} {
		got, err := mergeYAML([]byte(c.base), []byte(c.patch))
		require.NoError(t, err)
		assert.Equal(t, c.want, string(got), "%s + %s", c.base, c.patch)
	}
}

func TestRedactConfigKeepsReferences(t *testing.T) {
	got, err := redactConfig(json.RawMessage(`{"input":{"test_source":{"password":"${PW}","hidden":"x","dsn":"a:b@tcp(h)/d","name":"n"}}}`))
	require.NoError(t, err)
	assert.JSONEq(t, `{"input":{"test_source":{"password":"${PW}","hidden":"`+Mask+`","dsn":"a:`+Mask+`@tcp(h)/d","name":"n"}}}`, string(got))
}

func TestFindSources(t *testing.T) {
	t.Setenv("SOURCE_NAME", "envd")
	found := findSources([]byte("input:\n  broker:\n    inputs:\n      - {label: l, test_source: {name: '${SOURCE_NAME}', checkpoint: {key: k}}}\n      - generate: {}\n"),
		[]string{"test_source"})
	require.Len(t, found, 1)
	assert.Equal(t, "envd", found[0].text("name"))
	assert.Equal(t, "k", found[0].text("checkpoint", "key"))
	assert.Empty(t, found[0].text("checkpoint", "path"))
	assert.Equal(t, "broker", inputType([]byte("input: {label: a, broker: {}}")))
	assert.Equal(t, "d", expandEnv("${SOURCE_MISSING:d}"))
}

func TestForeignInput(t *testing.T) {
	for config, want := range map[string]string{
		"input: {test_source: {}}":                                  "",
		"input: {label: a, processors: [], test_source: {}}":        "",
		"input: {type: test_source, test_source: {}}":               "",
		"input: {generate: {}}":                                     "generate",
		"input: {resource: a}":                                      "resource",
		"{}":                                                        "unknown",
		"input: {read_until: {input: {test_source: {}}}}":           "",
		"input: {batched: {child: {stdin: {}}}}":                    "stdin",
		"input: {dynamic: {inputs: {a: {test_source: {}}}}}":        "",
		"input: {dynamic: {inputs: {a: {file: {}}}}}":               "file",
		"input: {broker: {inputs: []}}":                             "broker",
		"input: {sequence: {inputs: [{test_source: {}}, {x: {}}]}}": "x",
	} {
		assert.Equal(t, want, foreignInput([]byte(config), []string{"test_source"}), config)
	}
}

// In run mode there is one pipeline, without a name as far as the engine knows.
func TestSingle(t *testing.T) {
	res := service.MockResources()
	s, err := NewSingle(SingleOptions{Pipeline: "orders", SourceType: "test_source", Interval: time.Millisecond, Resources: res})
	require.NoError(t, err)
	var down atomic.Bool
	require.NoError(t, s.StartSingle(t.Context(), func() []service.ConnectionStatus {
		if down.Load() {
			return make([]service.ConnectionStatus, 1)
		}
		return nil
	}))
	defer func() { assert.NoError(t, s.Close(t.Context())) }()
	ask := func(path string) (int, answerOf) {
		for _, rt := range s.routes() {
			if rt.path == path {
				w := serveOnce(s, rt)
				var a answerOf
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
				return w.Code, a
			}
		}
		return 0, answerOf{}
	}
	v, _ := res.GetGeneric(SourcesKey)
	var failure atomic.Value
	failure.Store("")
	gate, detach := v.(*Sources).Attach("", "shop", contract.Source{
		Report: func() contract.Report { return testReport("tx7", 3, failure.Load().(string)) }, Withdraw: func() {},
	})
	paused, _ := gate()
	assert.False(t, paused)
	status, a := ask("/ready")
	assert.Equal(t, 200, status)
	lag := 3.0
	assert.Equal(t, []State{{Name: "orders", Status: "running", Source: "shop", Position: "tx7", LagSeconds: &lag}}, a.Pipelines)
	down.Store(true)
	status, _ = ask("/ready")
	assert.Equal(t, 503, status)
	status, _ = ask("/health")
	assert.Equal(t, 200, status)
	failure.Store("position lost")
	status, a = ask("/health")
	assert.Equal(t, 503, status)
	assert.Equal(t, []string{"orders"}, a.Failed)
	detach()
}

// testReport is the word of a source.
func testReport(position string, lag float64, failure string) contract.Report {
	r := contract.Report{Position: position, LagSeconds: lag, LagBytes: -1, State: contract.Running}
	if failure != "" {
		r.State, r.Cause = contract.Failed, failure
	}
	return r
}

// What a closed source has left is asked for until the pipeline is deleted or a source attaches again.
func TestClosedSourcesKeepTheirWord(t *testing.T) {
	s := NewSources()
	withdrawn := 0
	source := contract.Source{Report: func() contract.Report { return testReport("tx1", 1, "") }, Withdraw: func() { withdrawn++ }}
	_, detach := s.Attach("p", "a", source)
	detach()
	assert.Equal(t, []sourceReport{{"a", testReport("tx1", 1, "")}}, s.reports("p"))
	_, detach = s.Attach("p", "a", source)
	assert.Zero(t, withdrawn, "its successor has the series")
	detach()
	_, detach = s.Attach("p", "b", source)
	assert.Equal(t, 1, withdrawn)
	assert.Len(t, s.reports("p"), 1)
	detach()
	s.forget("p")
	assert.Equal(t, 2, withdrawn)
	assert.Empty(t, s.reports("p"))
}

func TestPanicIsAnAnswer(t *testing.T) {
	s := &Server{opts: Options{}.withDefaults(), stats: newStats(service.MockResources().Metrics(), nil), log: service.MockResources().Logger()}
	rec := serveOnce(s, route{"GET", "/x", "", true, false, "", nil, nil})
	assert.Equal(t, 500, rec.Code)
	assert.JSONEq(t, `{"error":"internal error"}`, rec.Body.String())
}

func serveOnce(s *Server, rt route) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.account(rt.path, s.serve(rt)).ServeHTTP(w, httptest.NewRequest(rt.method, rt.path, nil)) //nolint:noctx // a test
	return w
}
