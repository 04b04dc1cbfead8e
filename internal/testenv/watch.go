package testenv

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv/secrets"
)

// watch is what the run has said, and the passwords that may not be in it.
//
//nolint:gochecknoglobals // of the run: tests of one package have no other place to gather it
var watch = struct {
	hunt secrets.Hunt
	mu   sync.Mutex
	dir  string   // guarded by mu; empty: Main does not run
	said *os.File // guarded by mu
}{}

// plantedEnv makes a run say a text, to show that it fails when that is a password.
const plantedEnv = "DELTAFORGE_TESTENV_PLANT"

// Passwords are those that tests make up, where they do not use that of the servers. No others, so that each of them is looked for.
func Passwords() []string {
	return []string{
		"opensesame", "hunter1-sesame", "hunter2-sesame", "hunter3-sesame", "hunter4-sesame", "hunter5-sesame",
	}
}

// beginWatch begins to keep what is said.
func beginWatch() (err error) {
	watch.mu.Lock()
	defer watch.mu.Unlock()
	if watch.dir, err = os.MkdirTemp("", "deltaforge-said-"); err != nil {
		return err
	}
	if watch.said, err = os.Create(filepath.Join(watch.dir, "said")); err != nil {
		return err
	}
	log.SetOutput(io.MultiWriter(os.Stderr, Said()))
	err = watch.hunt.Add("the password of the servers", servers.Password)
	for n, word := range Passwords() {
		err = errors.Join(err, watch.hunt.Add(fmt.Sprintf("made-up password %d", n+1), word))
	}
	return err
}

// endWatch looks for the passwords in what was said.
func endWatch() error {
	if text := os.Getenv(plantedEnv); text != "" {
		slog.Error("a planted line: " + text)
	}
	watch.mu.Lock()
	defer watch.mu.Unlock()
	log.SetOutput(os.Stderr)
	err := watch.said.Close()
	dir := watch.dir
	watch.dir, watch.said = "", nil
	return errors.Join(err, watch.hunt.Verify(dir), os.RemoveAll(dir))
}

// Said is where tests keep what the code under test has logged, answered and shown. At the end of the run no password may be in it.
// It may be written to from any goroutine; a write is one piece.
func Said() io.Writer { return said{} }

type said struct{}

func (said) Write(p []byte) (int, error) {
	watch.mu.Lock()
	defer watch.mu.Unlock()
	if watch.said == nil {
		return len(p), nil // a goroutine that outlives the run, or a package without Main
	}
	if _, err := watch.said.Write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Hide makes a word one that nothing may say or write any more. Those that a package uses everywhere are given to Main.
func Hide(t testing.TB, what, word string) {
	t.Helper()
	if err := watch.hunt.Add(what, word); err != nil {
		t.Fatal(err)
	}
}

// Resources returns the engine's resources for a component that is tested without it. What it logs, at any level, is said.
func Resources() *service.Resources {
	all := &slog.HandlerOptions{Level: slog.LevelDebug}
	return service.MockResources(service.MockResourcesOptUseLogger(service.NewLoggerFromSlog(slog.New(slog.NewTextHandler(Said(), all)))))
}

// TempDir is t.TempDir for a folder that the code under test writes to: at the end of the test no password may be in it. Files
// and folders that may hold some, because the test gives them or they keep what a user gave, are excepted by name.
func TempDir(t testing.TB, except ...string) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { // before that of t.TempDir
		found, err := searchFolder(&watch.hunt, dir, except)
		if err != nil {
			t.Error(err)
		}
		for _, f := range found {
			t.Errorf("a password was written: %s", f)
		}
	})
	return dir
}

func searchFolder(hunt *secrets.Hunt, dir string, except []string) ([]string, error) {
	found, _, err := hunt.Search(dir)
	return slices.DeleteFunc(found, func(f string) bool {
		return slices.ContainsFunc(except, func(name string) bool {
			rest, ours := strings.CutPrefix(f, filepath.Join(dir, name))
			return ours && (strings.HasPrefix(rest, ": ") || rest[0] == filepath.Separator)
		})
	}), err
}
