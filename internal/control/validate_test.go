package control

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/document"
)

// A file is checked without a process around it: its own resources are there, and what is wrong is said without secrets.
func TestValidateFile(t *testing.T) {
	r, err := ValidateFile(t.Context(), []byte("http: {address: '127.0.0.1:1'}\n"+ticking+"tests: []\ncache_resources: [{label: c, memory: {}}]\n"+
		"pipeline: {processors: [{cache: {resource: c, operator: get, key: a}}]}\n"), true)
	require.NoError(t, err)
	for _, c := range r.Connections {
		assert.NotEqual(t, "failed", c.Status, c.Component)
	}
	r, err = ValidateFile(t.Context(), []byte("input: {test_source: {name: a}}\noutput: {label: sinker, test_unreachable: {}}\n"), true)
	assert.ErrorContains(t, err, "sinker: dialing postgres://u:"+document.Mask+"@db: no route to host")
	assert.Equal(t, []FileConnection{{"input", "connected"}, {"sinker", "failed"}}, r.Connections)
	r, err = ValidateFile(t.Context(), []byte("input: {test_source: {name: a}}\noutput: {label: sinker, test_unreachable: {}}\n"), false)
	require.NoError(t, err, "offline")
	assert.Empty(t, r.Connections)
	for text, want := range map[string]string{
		"nonsense: 1\n" + ticking: "nonsense",
		"input: [":                "yaml",
		"input: {test_source: {refuse: true}}\noutput: {drop: {}}\n":                          "the source refuses its configuration",
		ticking + "pipeline: {processors: [{cache: {resource: c, operator: get, key: a}}]}\n": "cache resource 'c' was not found",
	} {
		_, err := ValidateFile(t.Context(), []byte(text), false)
		assert.ErrorContains(t, err, want, text)
	}
	r, err = ValidateFile(t.Context(), []byte("input: {broker: {inputs: [{deltaforge_mysql: {name: a}}]}}\nbuffer: {memory: {}}\noutput: {drop: {}}\n"), false)
	assert.Error(t, err, "there is no such input in this test")
	assert.Len(t, r.Advice, 1)
}
