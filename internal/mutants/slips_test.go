package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every slip still has its place in the code, once, and changes it.
func TestSlipsApply(t *testing.T) {
	require.NoError(t, os.Chdir("../..")) //nolint:usetesting // for the process: no other test is here
	names := map[string]bool{}
	for _, s := range slips() {
		_, err := s.changed()
		assert.NoError(t, err, "%s: %s", s.file, s.name)
		assert.NotEqual(t, s.old, s.new, s.name)
		assert.False(t, names[s.file+s.name], "twice: %s", s.name)
		names[s.file+s.name] = true
	}
	assert.GreaterOrEqual(t, len(names), 30)
	var out bytes.Buffer
	require.NoError(t, run([]string{"-list"}, &out))
	assert.Equal(t, len(names), bytes.Count(out.Bytes(), []byte("\n")))
	assert.ErrorContains(t, run([]string{"-run", "("}, &out), "-run")
}
