// Package e2e runs the real binary between real servers: kills it, stops what it talks to, and compares what arrived with
// what the database has. At the end of a run no password that it used may be in anything the binary has said or written.
package e2e

import (
	"errors"
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
	return built(t, "github.com/deltaforge/deltaforge/cmd/deltaforge")
}

// built returns the path of a command of ours, which it builds once in a run.
func built(t *testing.T, pkg string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers, left out under -short")
	}
	path := filepath.Join(folder(binFolder), filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
	return path
}

const rootEnv = "DELTAFORGE_E2E_ROOT"

// The folders of a run.
const (
	binFolder   = "bin"   // what was built
	givenFolder = "given" // what the tests give to the binary: configurations with passwords in them
	wroteFolder = "wrote" // all that the binary has said and written, until the end of the run
)

func folder(name string) string { return filepath.Join(os.Getenv(rootEnv), name) }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deltaforge-e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = os.Setenv(rootEnv, dir)
	}
	for _, name := range []string{binFolder, givenFolder, wroteFolder} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	if err == nil {
		err = plant()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := testenv.Main(m)
	if err := noPasswords(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}
