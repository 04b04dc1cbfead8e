package testenv

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv/secrets"
)

// A run fails when a password was said, and tells which, but not the password.
func TestSaidPasswordFailsTheRun(t *testing.T) {
	for text, fails := range map[string]bool{
		"nothing":        false,
		servers.Password: true,
		base64.StdEncoding.EncodeToString([]byte("me:" + servers.Password)): true,
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), plantedEnv+"="+text)
		out, err := cmd.Output()
		if !fails {
			require.NoError(t, err, "%s", out)
			continue
		}
		var failed *exec.ExitError
		require.ErrorAs(t, err, &failed)
		assert.Contains(t, string(failed.Stderr), "the password of the servers, ")
	}
}

// What the loggers and the writers of tests get is kept.
func TestSaid(t *testing.T) {
	const word = "a word that is said"
	h := &secrets.Hunt{}
	require.NoError(t, h.Add("it", word))
	Resources().Logger().With("field", word).Debug("hello")
	found, _, err := h.Search(watch.dir)
	require.NoError(t, err)
	require.Len(t, found, 1)
}

func TestPasswordInAFolder(t *testing.T) {
	dir, h := t.TempDir(), &secrets.Hunt{}
	require.NoError(t, h.Add("it", "sesame-open"))
	for _, name := range []string{"given.yaml", "state/streams/a.yaml", "state/statuses", "given.yaml.bak"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("dsn: u:sesame-open@h"), 0o600))
	}
	found, err := searchFolder(h, dir, []string{"given.yaml", "state/streams"})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{
		filepath.Join(dir, "state", "statuses") + ": it, as it is", filepath.Join(dir, "given.yaml.bak") + ": it, as it is",
	}, found)
}

// failing is a test that only notes that it has failed.
type failing struct {
	testing.TB
	dir     string
	cleanup []func()
	errors  int
}

func (f *failing) Helper()               {}
func (f *failing) TempDir() string       { return f.dir }
func (f *failing) Cleanup(do func())     { f.cleanup = append(f.cleanup, do) }
func (f *failing) Errorf(string, ...any) { f.errors++ }

func TestTempDirFailsItsTest(t *testing.T) {
	for text, want := range map[string]int{"nothing": 0, servers.Password: 1} {
		f := &failing{TB: t, dir: t.TempDir()}
		require.NoError(t, os.WriteFile(filepath.Join(TempDir(f), "written"), []byte(text), 0o600))
		require.Len(t, f.cleanup, 1)
		f.cleanup[0]()
		assert.Equal(t, want, f.errors)
	}
}
