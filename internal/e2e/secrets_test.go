package e2e

import (
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/secrets"
)

// passwords are all that the run has used.
var passwords secrets.Hunt //nolint:gochecknoglobals // of the run, as its folders are

// noPasswords looks for every password of the run in all that the binary has said and written.
func noPasswords() error {
	return errors.Join(passwords.Add("the password of the servers", servers.Password), passwords.Verify(folder(wroteFolder)))
}

// hide makes a password one that must not be seen again.
func hide(t *testing.T, what, word string) {
	t.Helper()
	require.NoError(t, passwords.Add(what, word))
}

// wroteDir is a folder for what the binary writes, which stays until the end of the run.
func wroteDir(t *testing.T) string { return dirIn(t, wroteFolder) }

// givenDir is a folder for what a test gives to the binary.
func givenDir(t *testing.T) string { return dirIn(t, givenFolder) }

func dirIn(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(folder(name), testenv.Name(t))
	require.NoError(t, os.Mkdir(dir, 0o700))
	return dir
}

// environment is that of a process: what it writes to a temporary folder is kept, too.
func environment(t *testing.T, dir string, more ...string) []string {
	t.Helper()
	tmp := filepath.Join(dir, "tmp")
	require.NoError(t, os.MkdirAll(tmp, 0o700))
	return append(append(os.Environ(), "TMPDIR="+tmp), more...)
}

// record keeps what was said in a file. It may be used from any goroutine.
type record struct {
	file *os.File
	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

func newRecord(t *testing.T, dir, name string) *record {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, name))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	return &record{file: file, seen: map[string]bool{}}
}

// Write implements io.Writer, for a log.
func (r *record) Write(p []byte) (int, error) { return r.file.Write(p) }

// add keeps the lines of an answer or a page that were not there before, numbers at their end aside.
func (r *record) add(text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fresh strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if at := strings.LastIndexByte(line, ' '); at >= 0 {
			if _, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
				line = line[:at]
			}
		}
		if !r.seen[line] {
			r.seen[line] = true
			fresh.WriteString(line + "\n")
		}
	}
	_, err := r.file.WriteString(fresh.String())
	return err
}

// plantEnv makes a run plant a password, in one of the forms that TestPlantedPasswordFailsTheRun knows.
const plantEnv = "DELTAFORGE_E2E_PLANT"

func plant() error {
	form := os.Getenv(plantEnv)
	if form == "" {
		return nil
	}
	const word = "planted&word+with=signs"
	text := map[string]string{
		"plain": word, "base64": base64.StdEncoding.EncodeToString([]byte("me:" + word)), "url": url.QueryEscape(word), "servers": servers.Password,
	}[form]
	return errors.Join(passwords.Add("a planted one", word),
		os.WriteFile(filepath.Join(folder(wroteFolder), "some.log"), []byte(`{"msg":"`+text+`"}`), 0o600))
}

// A run fails when a password is in a file, and says where and which, but not the password.
func TestPlantedPasswordFailsTheRun(t *testing.T) {
	runWith := func(form string) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), plantEnv+"="+form)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := runWith("")
	require.NoError(t, err, out)
	for _, form := range []string{"plain", "base64", "url", "servers"} {
		out, err := runWith(form)
		require.Error(t, err, form)
		require.Contains(t, out, "some.log: ", form)
		require.NotContains(t, out, "planted&word", form)
	}
}
