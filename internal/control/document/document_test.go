package document

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
		got, err := Merge([]byte(c.base), []byte(c.patch))
		require.NoError(t, err)
		assert.Equal(t, c.want, string(got), "%s + %s", c.base, c.patch)
	}
}

func TestRedactConfigKeepsReferences(t *testing.T) {
	spec := service.NewConfigSpec().Fields(service.NewStringField("name"), service.NewStringField("dsn"), service.NewStringField("password").Secret(),
		service.NewStringField("hidden").Secret())
	service.MustRegisterInput("test_secretive", spec, func(*service.ParsedConfig, *service.Resources) (service.Input, error) { return nil, nil })
	got, err := Redact(json.RawMessage(`{"input":{"test_secretive":{"password":"${PW}","hidden":"x","dsn":"a:b@tcp(h)/d","name":"n"}}}`))
	require.NoError(t, err)
	assert.JSONEq(t, `{"input":{"test_secretive":{"password":"${PW}","hidden":"`+Mask+`","dsn":"a:`+Mask+`@tcp(h)/d","name":"n"}}}`, string(got))
}

func TestFindSources(t *testing.T) {
	t.Setenv("SOURCE_NAME", "envd")
	found := FindSources([]byte("input:\n  broker:\n    inputs:\n      - {label: l, test_source: {name: '${SOURCE_NAME}', checkpoint: {key: k}}}\n      - generate: {}\n"),
		[]string{"test_source"})
	require.Len(t, found, 1)
	assert.Equal(t, "envd", found[0].Text("name"))
	assert.Equal(t, "k", found[0].Text("checkpoint", "key"))
	assert.Empty(t, found[0].Text("checkpoint", "path"))
	assert.Equal(t, "broker", InputTypeOf([]byte("input: {label: a, broker: {}}")))
	assert.Equal(t, "d", ExpandEnv("${SOURCE_MISSING:d}"))
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
		assert.Equal(t, want, ForeignInput([]byte(config), []string{"test_source"}), config)
	}
}

func TestSecretReferences(t *testing.T) {
	bare, elsewhere := map[string]bool{}, map[string]bool{}
	SecretReferences([]byte("password: ${A}\nx: ${B}\ndsn: p:${C}@h\nsecret: ${C}\n"), bare, elsewhere)
	assert.Equal(t, map[string]bool{"A": true, "C": true}, bare)
	assert.Equal(t, map[string]bool{"B": true, "C": true}, elsewhere)
}

// What GET shows of a pipeline.
func TestShownConfig(t *testing.T) {
	got, err := Redact(json.RawMessage(`{"input":{"http_client":{"url":"https://h/?api_key=abcd","headers":{"X-Api-Key":"abcd","Cookie":"s=1","A":"b"},
		"tokens":["abcd","efgh"],"pin_secret":1234,"password":"${PW:abcd}","host":"${H:db}","dsn":"host=h password='a b' user=u"}}}`))
	require.NoError(t, err)
	assert.JSONEq(t, strings.ReplaceAll(`{"input":{"http_client":{"url":"https://h/?api_key=#","headers":{"X-Api-Key":"#","Cookie":"#","A":"b"},
		"tokens":["#","#"],"pin_secret":"#","password":"${PW:#}","host":"${H:db}","dsn":"#"}}}`, "#", Mask), string(got))
}

// Files that cannot be found are an error at the start.
func TestFilesThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	_, err := Files{[]string{filepath.Join(dir, "none.yaml")}}.Expand()
	assert.ErrorContains(t, err, "none.yaml")
	paths, err := Files{[]string{filepath.Join(dir, "*.yaml")}}.Expand()
	require.NoError(t, err)
	assert.Empty(t, paths)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "b"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b", "a.yaml"), nil, 0o600))
	_, err = Files{[]string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b")}}.Expand()
	assert.ErrorContains(t, err, "are both the stream \"a\"")
}
