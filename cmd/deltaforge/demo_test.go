package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const demoChild = "DELTAFORGE_TEST_DEMO_CHILD"

// TestDemoChild is not a test: it is the program, in the process that the tests below start.
func TestDemoChild(*testing.T) {
	if args := os.Getenv(demoChild); args != "" {
		os.Args = strings.Fields(args)
		main() // does not return
	}
}

// child is a running `deltaforge demo`.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // its TMPDIR
	folder string // its working directory
	stdout io.ReadCloser
	lines  *bufio.Reader
	stderr string // a file
}

// startDemo starts the demo and returns when rows flow.
func startDemo(t *testing.T) *child {
	if testing.Short() {
		t.Skip("starts a server")
	}
	// Not t.TempDir: the database runs under another account, which has to get through it.
	dir, err := os.MkdirTemp("", "deltaforge-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	c := &child{t: t, dir: dir, folder: t.TempDir()}
	c.cmd = exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDemoChild$")
	c.cmd.Env = append(os.Environ(), "TMPDIR="+dir, demoChild+"=deltaforge demo --metrics-address 127.0.0.1:0")
	c.cmd.Dir = c.folder
	c.stderr = filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(c.stderr)
	require.NoError(t, err)
	defer stderr.Close()
	c.cmd.Stderr = stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.stdout, err = c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	c.lines = bufio.NewReader(c.stdout)
	for {
		line, err := c.lines.ReadString('\n')
		require.NoError(t, err, c.errors())
		// A busy machine may leave out a second.
		if clock, _, ok := strings.Cut(line, "  written "); ok && clock >= "0:02" {
			break
		}
	}
	require.NotEmpty(t, c.processes(), "the test does not find the processes of the demo")
	return c
}

// processes returns what runs in or out of the demo's directory, and the demo's own group. A database's children change their
// command line, so their working directory counts too.
func (c *child) processes() []string {
	found := []string{}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(c.t, err)
	for _, link := range links {
		cwd, err1 := os.Readlink(link)
		line, err2 := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if err1 != nil || err2 != nil {
			continue // gone meanwhile
		}
		if command := string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))); strings.HasPrefix(cwd, c.dir) || strings.Contains(command, c.dir) {
			found = append(found, filepath.Base(filepath.Dir(link))+" "+command)
		}
	}
	return found
}

// end returns the rest of the output and the exit code.
func (c *child) end() (string, int) {
	rest, err := io.ReadAll(c.lines)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		require.NoError(c.t, err)
	}
	err = c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(c.t, err)
	}
	return string(rest), c.cmd.ProcessState.ExitCode()
}

// errors returns what the demo has printed to its standard error.
func (c *child) errors() string {
	text, err := os.ReadFile(c.stderr)
	require.NoError(c.t, err)
	return string(text)
}

func (c *child) signal(sig os.Signal) { require.NoError(c.t, c.cmd.Process.Signal(sig)) }

func (c *child) assertNothingLeft() {
	// What a server has left to the first process of the machine is there until that looks at it.
	assert.Eventually(c.t, func() bool {
		return len(c.processes()) == 0 && errors.Is(syscall.Kill(-c.cmd.Process.Pid, 0), syscall.ESRCH)
	}, patience, 20*time.Millisecond, "a process of the demo's group is left")
	for _, dir := range []string{c.dir, c.folder} {
		left, err := os.ReadDir(dir)
		assert.NoError(c.t, err)
		assert.Empty(c.t, left, "files that the demo has left in %s", dir)
	}
}

func TestDemoInterrupted(t *testing.T) {
	c := startDemo(t)
	c.signal(os.Interrupt)
	rest, code := c.end()
	assert.Zero(t, code, "%s\n%s", rest, c.errors())
	assert.Contains(t, rest, "Nothing was lost, nothing came twice, nothing came out of order.")
	c.assertNothingLeft()
}

func TestDemoInterruptedTwice(t *testing.T) {
	c := startDemo(t)
	// It sees both at once, however long this process is not given the time for the second.
	c.signal(syscall.SIGSTOP)
	c.signal(os.Interrupt)
	c.signal(syscall.SIGTERM) // the same signal again could be merged with the first
	c.signal(syscall.SIGCONT)
	rest, code := c.end()
	assert.Equal(t, exitAborted, code, "%s\n%s", rest, c.errors())
	assert.NotContains(t, rest, "Nothing was lost")
	c.assertNothingLeft()
}

// `deltaforge demo | head` ends by SIGPIPE, which must not skip the cleaning.
func TestDemoWithItsOutputClosed(t *testing.T) {
	c := startDemo(t)
	require.NoError(t, c.stdout.Close())
	_, code := c.end()
	assert.Equal(t, 1, code, c.errors())
	assert.Contains(t, c.errors(), "broken pipe")
	c.assertNothingLeft()
}

// Nobody can clean up after SIGKILL, but no server may stay.
func TestDemoKilled(t *testing.T) {
	c := startDemo(t)
	c.signal(os.Kill)
	_, code := c.end()
	assert.Equal(t, -1, code)
	assert.Eventually(t, func() bool { return len(c.processes()) == 0 }, patience, 50*time.Millisecond)
	assert.Empty(t, c.processes())
}

func TestDemoFailureHasAnExitCode(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDemoChild$")
	cmd.Env = append(os.Environ(), demoChild+"=deltaforge demo --rate 0")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Contains(t, string(out), "want at least 1 row a second, got 0")
}
