package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each test that the page names is there, and each fault has one.
func TestEachFaultHasItsTests(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	named, err := tests(string(text))
	require.NoError(t, err)
	require.Greater(t, len(named), 5, "packages")
	for pkg, names := range named {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, pkg)
		var code strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			code.Write(b)
		}
		for _, name := range names {
			assert.Contains(t, code.String(), "\nfunc "+name+"(t *testing.T)", "%s of %s", name, pkg)
		}
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| fault ") {
			assert.Contains(t, line, ": Test", "a fault without a test")
		}
	}
}

func TestTestsOfAPage(t *testing.T) {
	got, err := tests("| fault | expected | tests |\n|---|---|---|\n| a | b | `x/y`: TestA, TestB; `z`: TestC |\n| c | d | `z`: TestC, TestD |\nno row\n")
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"x/y": {"TestA", "TestB"}, "z": {"TestC", "TestD"}}, got)
	_, err = tests("| a | b | TestA |\n")
	require.ErrorContains(t, err, "want `package`: TestA, TestB")
}
