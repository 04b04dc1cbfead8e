package control

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	log := NewTargetLog(levels)
	root := log.Logger()
	root.Info("dropped")
	root.Warn("waits\n")
	var out bytes.Buffer
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
{"level":"debug","message":"from the source","@service":"x","stream":"p1","pipeline":"p1","path":"root.input","label":"","source":"orders","position":7}
{"level":"info","message":"from the sink","@service":"x","path":"root.output","label":"sinker"}
{"level":"error","message":"replaced","@service":"x","path":"root.input"}
`, "\n"), out.String())

	out.Reset()
	log.SetFormat(LogFormat{Out: &out, Text: true, Time: true})
	root.Warn("as text")
	assert.Regexp(t, `^time=\S+ level=warning msg="as text"\n$`, out.String())
	out.Reset()
	early := NewTargetLog(levels)
	early.Logger().Error("the configuration was never read")
	early.Flush(&out)
	early.Flush(&out)
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	early.Disable()
	early.Logger().Error("somebody else writes it")
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
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

func TestRedactText(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p%40ss@h/db":                "postgres://u:#@h/db",
		"redis://:p@h:6379":                       "redis://:#@h:6379",
		"root:p@ss@tcp(127.0.0.1:3306)/db":        "root:#@tcp(127.0.0.1:3306)/db",
		"host=h user=u password=abc sslmode=off":  "host=h user=u password=# sslmode=off",
		"host=h password='a b' x=1":               "host=h password=# x=1",
		"Authorization: Bearer abc.def":           "Authorization: Bearer #",
		"dial tcp 127.0.0.1:3306: refused":        "dial tcp 127.0.0.1:3306: refused",
		"http://host:8080/path":                   "http://host:8080/path",
		"at 10:42:07 mail a@example.com was sent": "at 10:42:07 mail a@example.com was sent",
	} {
		assert.Equal(t, strings.ReplaceAll(want, "#", Mask), redactText(in))
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

func TestPanicIsAnAnswer(t *testing.T) {
	s := &Server{opts: Options{}.withDefaults(), stats: newStats(service.MockResources().Metrics()), log: service.MockResources().Logger()}
	rec := serveOnce(s, route{"GET", "/x", "", true, "", nil, nil})
	assert.Equal(t, 500, rec.Code)
	assert.JSONEq(t, `{"error":"internal error"}`, rec.Body.String())
}

func serveOnce(s *Server, rt route) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.account(rt.path, s.serve(rt)).ServeHTTP(w, httptest.NewRequest(rt.method, rt.path, nil)) //nolint:noctx // a test
	return w
}
