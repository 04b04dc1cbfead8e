package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
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

// The parts are all there is, and nothing twice.
func TestParts(t *testing.T) {
	var parts []slip
	for k := range 3 {
		part, err := choose(slips(), ".", fmt.Sprintf("%d/3", k+1))
		require.NoError(t, err)
		parts = append(parts, part...)
	}
	assert.ElementsMatch(t, slips(), parts)
	for _, bad := range []string{"", "1", "0/3", "4/3", "1/3x", "a/b"} {
		_, err := choose(slips(), ".", bad)
		assert.ErrorContains(t, err, "-part", bad)
	}
}

// Tests that do not end in time have not noticed anything, unless another one of them has failed. The outputs are those of `go test`.
func TestJudge(t *testing.T) {
	exit := error(&exec.ExitError{})
	for _, c := range []struct {
		name, out string
		failed    error
		want      verdict
		err       string
	}{
		{name: "passed", out: "ok  \tp\t0.1s\n", want: survived},
		{name: "failed", out: "--- FAIL: TestX (0.00s)\nFAIL\nFAIL\tp\t0.1s\n", failed: exit, want: noticed},
		{name: "panic", out: "panic: index out of range\nFAIL\tp\t0.1s\n", failed: exit, want: noticed},
		{name: "hangs", out: "panic: test timed out after 1s\n\trunning tests:\n\t\tTestX (1s)\nFAIL\tp\t1.0s\n", failed: exit, want: timedOut},
		{name: "failed, and hangs", out: "--- FAIL: TestX (0.00s)\npanic: test timed out after 1s\nFAIL\tp\t1.0s\n", failed: exit, want: noticed},
		{name: "does not compile", out: "FAIL\tp [build failed]\n", failed: exit, err: "does not compile"},
		{name: "no go", failed: exec.ErrNotFound, err: "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := judge(c.out, c.failed)
			assert.Equal(t, c.want, v)
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
			} else {
				assert.NoError(t, err)
			}
		})
	}
	assert.NoError(t, failure(map[verdict]int{noticed: 3}))
	assert.ErrorContains(t, failure(map[verdict]int{noticed: 3, timedOut: 1}), "timed out")
	assert.ErrorContains(t, failure(map[verdict]int{survived: 1}), "not noticed")
}
