package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// The files of streams mode are the control plane's: a bad one is a failed pipeline, an edit that does not build changes nothing,
// and what was stopped stays stopped.
func TestWatchedStreams(t *testing.T) {
	dir := testenv.TempDir(t, append(given(), "pipelines")...)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pipelines"), 0o700))
	file := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "pipelines", name), []byte(text), 0o600))
	}
	file("good.yaml", ticks)
	file("bad.yaml", "input: {nonsense: {}}\n")
	p := streams(t, dir, nil, "-w", "pipelines")
	assert.Equal(t, map[string]string{"good": "running", "bad": "failed"}, p.statuses())
	assert.Contains(t, p.want(503, "GET", "/health", ""), "nonsense")
	file("bad.yaml", ticks)
	becomes := func(id, status string) {
		t.Helper()
		require.Eventually(t, func() bool { return p.statuses()[id] == status }, patience, 50*time.Millisecond, "%s", p.out)
	}
	becomes("bad", "running")
	p.want(200, "GET", "/health", "")
	file("good.yaml", strings.Replace(source, "deltaforge_mysql: {", "deltaforge_mysql: {bogus: 1, ", 1))
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), "Pipeline good: update refused") }, patience, 50*time.Millisecond)
	assert.Equal(t, "running", p.statuses()["good"])
	p.want(200, "POST", "/streams/good/stop", "")
	file("good.yaml", ticks+"# another\n")
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), `"msg":"Pipeline good: update"`) }, patience, 50*time.Millisecond, "%s", p.out)
	assert.Equal(t, "stopped", p.statuses()["good"])
	p.end(syscall.SIGHUP)
	assert.Zero(t, p.cmd.ProcessState.ExitCode(), "SIGHUP ends it as SIGTERM does: %s", p.out)
}

// A run that watches its file starts again with what builds, and goes on with the old configuration where it does not.
func TestWatchedRun(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	address := freeAddress(t)
	config := func(count int, more string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run.yaml"), fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\n"+
			"input: {generate: {mapping: 'root.round = %d', interval: 20ms}}\noutput: {file: {path: %q, codec: lines}}\n%s", address, count,
			filepath.Join(dir, "out"), more), 0o600))
	}
	config(1, "")
	p := launch(t, dir, nil, "run", "-w", "run.yaml")
	written := func(text string) bool {
		out, _ := os.ReadFile(filepath.Join(dir, "out"))
		return strings.Contains(string(out), text)
	}
	require.Eventually(t, func() bool { return written(`{"round":1}`) }, patience, 20*time.Millisecond, "%s", p.out)
	config(2, "nonsense: 1\n")
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), "The changed configuration is refused") }, patience, 20*time.Millisecond, "%s", p.out)
	resp, err := http.Get("http://" + address + "/ready") //nolint:noctx // a test
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 200, resp.StatusCode)
	config(3, "")
	require.Eventually(t, func() bool { return written(`{"round":3}`) }, patience, 20*time.Millisecond, "%s", p.out)
	assert.False(t, written(`{"round":2}`))
	p.end(syscall.SIGTERM)
	assert.Zero(t, p.cmd.ProcessState.ExitCode(), p.out)
}

// A password is text, also where YAML takes it for something else.
func TestPasswordOfDigits(t *testing.T) {
	dir := testenv.TempDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.yaml"), fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\n"+
		"input: {generate: {mapping: 'root = {}', interval: 1s}}\noutput:\n  deltaforge_redis:\n    url: redis://127.0.0.1:1\n    stream: x\n"+
		"    password: ${REDIS_PASSWORD}\n", freeAddress(t)), 0o600))
	for _, password := range []string{"48151623", "048151623", "a8151623 #b", "1e3481516"} {
		p := launch(t, dir, []string{"REDIS_PASSWORD=" + password}, "run", "run.yaml")
		require.Eventually(t, func() bool { return strings.Contains(p.out.String(), "connecting to Redis at 127.0.0.1:1: ") }, patience,
			20*time.Millisecond, "%s: %s", password, p.out)
		p.end(syscall.SIGTERM)
		assert.NotContains(t, p.out.String(), "8151623")
	}
}
