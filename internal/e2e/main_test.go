// Package e2e runs the real binary between real servers: kills it, stops what it talks to, and compares what arrived with
// what the database has.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// binary returns the path of the built command; the first test that needs it builds it.
func binary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers, left out under -short")
	}
	path := filepath.Join(buildDir(), "deltaforge")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/deltaforge/deltaforge/cmd/deltaforge").CombinedOutput()
	if err != nil {
		t.Fatalf("building the command: %v\n%s", err, out)
	}
	return path
}

func buildDir() string { return os.Getenv(buildDirEnv) }

const buildDirEnv = "DELTAFORGE_E2E_BUILD"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deltaforge-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Setenv(buildDirEnv, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return testenv.Main(m)
}
