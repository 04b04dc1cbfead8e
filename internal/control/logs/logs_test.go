package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/document"
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
	log := New()
	root := log.Logger()
	root.Info("dropped")
	root.Warn("waits\n")
	var out bytes.Buffer
	log.SetLevels(levels)
	log.SetFormat(Format{Out: &out, Static: map[string]string{"@service": "x"}, MessageKey: "message"})
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
		strings.ReplaceAll(out.String(), document.Mask, "#"))

	out.Reset()
	log.SetFormat(Format{Out: &out, Text: true, Time: true})
	root.Warn("as text")
	assert.Regexp(t, `^time=\S+ level=warning msg="as text"\n$`, out.String())
	out.Reset()
	early := New()
	early.Logger().Debug("of no interest")
	early.Logger().Error("the configuration was never read")
	early.Flush(&out)
	early.Flush(&out)
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
}

// What each line says of where it is from.
func TestLogFields(t *testing.T) {
	log := New()
	log.SetLevels(Levels{})
	var out bytes.Buffer
	names := document.NewSourceNames([]string{"test_source"})
	names.Put("s", []byte("input: {broker: {inputs: [{generate: {}}, {label: z, test_source: {name: books}}]}}"))
	log.SetFormat(Format{Out: &out, Pipeline: "only", Sources: names, Tenant: func(pipeline string) string { return "tenant of " + pipeline }})
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
