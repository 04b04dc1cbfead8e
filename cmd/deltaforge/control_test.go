package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// mainVariable makes the test binary the program.
const mainVariable = "DELTAFORGE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		plantPanics(os.Getenv(plantVariable))
		main()
		return
	}
	if os.Getenv(demoChild) != "" {
		os.Exit(m.Run()) // of which TestDemoChild makes the program
	}
	os.Exit(testenv.Main(m))
}

// given are the files in a test's folder that the test gives to the program, and those in which the program keeps what it was given.
func given() []string {
	return []string{"root.yaml", "other.yaml", "run.yaml", "numbers.yaml", "state/streams"}
}

// patience bounds every wait of a test.
const patience = time.Minute

// program is a running deltaforge.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *output
	url    string
	token  string
	ended  chan struct{} // closed at the exit
	exited bool
}

type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = testenv.Said().Write(b)
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func launch(t *testing.T, dir string, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, out: &output{}, ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], args...) //nolint:noctx // ended by Cleanup
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.out, p.out
	p.cmd.Env = append(append(os.Environ(), mainVariable+"=1"), env...)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // tests look at the exit code
	}()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// end sends a signal and waits for the exit.
func (p *program) end(sig syscall.Signal) {
	if p.exited {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	p.wait()
}

func (p *program) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
		p.exited = true
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("still running:\n%s", p.out)
		return 0
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return testenv.FreeAddr(t)
}

// streams launches streams mode and waits for its control plane.
func streams(t *testing.T, dir string, env []string, args ...string) *program {
	t.Helper()
	address := freeAddress(t)
	root := filepath.Join(dir, "root.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\n", freeAddress(t)), 0o600))
	p := launch(t, dir, env, append([]string{"streams", "-o", root, "--control-address", address}, args...)...)
	p.url = "http://" + address
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/ping") //nolint:noctx // a test
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond, "no control plane: %s", p.out)
	return p
}

func (p *program) call(method, path, body string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	_, _ = testenv.Said().Write(text)
	return resp.StatusCode, string(text)
}

func (p *program) want(status int, method, path, body string) string {
	p.t.Helper()
	got, text := p.call(method, path, body)
	require.Equal(p.t, status, got, "%s %s: %s\n%s", method, path, text, p.out)
	return text
}

func (p *program) statuses() map[string]string {
	p.t.Helper()
	var all map[string]struct{ Status string }
	require.NoError(p.t, json.Unmarshal([]byte(p.want(200, "GET", "/streams", "")), &all))
	m := map[string]string{}
	for id, s := range all {
		m[id] = s.Status
	}
	return m
}

const (
	ticks = "input: {generate: {mapping: 'root.a = 1', interval: 1s}}\noutput: {drop: {}}\n"
	// A source whose database is not there.
	source = "input: {label: src, deltaforge_mysql: {name: orders, dsn: 'u:hunter2-sesame@tcp(127.0.0.1:1)/shop', tables: {include: ['shop.a']}}}\noutput: {drop: {}}\n"
)

func TestControlPlaneSurvivesAKill(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	env := []string{"DELTAFORGE_CONTROL_TOKEN=opensesame", "DELTAFORGE_LOG=warn,control=info"}
	p := streams(t, dir, env, "--state-dir", "state")
	status, _ := p.call("GET", "/streams", "")
	assert.Equal(t, 401, status)
	p.token = "opensesame"
	assert.Empty(t, p.statuses())
	for _, id := range []string{"a", "b", "c"} {
		p.want(200, "POST", "/streams/"+id, ticks)
	}
	config := source
	p.want(200, "POST", "/streams/src", config)
	p.want(200, "POST", "/streams/src/pause", "")
	p.want(200, "POST", "/streams/b/stop", "")
	p.want(200, "DELETE", "/streams/c", "")
	want := map[string]string{"a": "running", "b": "stopped", "src": "paused"}
	assert.Equal(t, want, p.statuses())
	p.end(syscall.SIGKILL)
	log := p.out.String()

	p = streams(t, dir, env, "--state-dir", "state")
	p.token = "opensesame"
	assert.Equal(t, want, p.statuses())
	assert.NotContains(t, p.want(200, "GET", "/streams/src", ""), "hunter2-sesame")
	p.want(200, "POST", "/streams/src/stop?timeout=20s", "")
	testCheckpoint(t, p, dir)
	p.end(syscall.SIGTERM)
	assert.Zero(t, p.cmd.ProcessState.ExitCode(), p.out)
	log += p.out.String()
	for _, secret := range []string{"opensesame", "hunter2-sesame"} {
		assert.NotContains(t, log, secret)
	}
	for line := range strings.Lines(log) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		assert.True(t, fields["level"] != "info" || fields["target"] == "control", "level by target: %s", line)
	}
	assert.Contains(t, log, `"msg":"Pipeline b: stop"`)

	// The files are what `deltaforge streams` reads.
	plain := launch(t, dir, nil, "streams", "-o", "root.yaml", "--control-address", "", "state/streams")
	require.Eventually(t, func() bool { return strings.Count(plain.out.String(), "Output type drop is now active") == 3 },
		patience, 20*time.Millisecond, "%s", plain.out)
}

// testCheckpoint reads and forgets the position of the stopped source.
func testCheckpoint(t *testing.T, p *program, dir string) {
	t.Helper()
	assert.Contains(t, p.want(200, "GET", "/streams/src/checkpoint", ""), `"record":null`)
	p.want(404, "DELETE", "/streams/src/checkpoint", "")
	path := filepath.Join(dir, "deltaforge-checkpoints.db")
	save := func() {
		s, err := checkpoint.OpenSQLite(t.Context(), path)
		require.NoError(t, err)
		require.NoError(t, checkpoint.Save(t.Context(), s, "orders", "mysql", checkpoint.Token{Commit: checkpoint.Text("gtid:1-7")}, time.Now()))
		require.NoError(t, s.Close())
	}
	save()
	assert.Contains(t, p.want(200, "GET", "/streams/src/checkpoint", ""), `"position":"gtid:1-7"`)
	p.want(200, "DELETE", "/streams/src/checkpoint", "")
	s, err := checkpoint.OpenExistingSQLite(t.Context(), path)
	require.NoError(t, err)
	_, err = s.Peek(t.Context(), "orders")
	assert.ErrorIs(t, err, checkpoint.ErrNotFound)
	require.NoError(t, s.Close())
}

func TestBadStarts(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	busy := streams(t, dir, nil, "--state-dir", "state")
	busy.want(200, "POST", "/streams/a", ticks)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	root := write("other.yaml", fmt.Sprintf("http: {address: %q}\nmetrics: {none: {}}\n", freeAddress(t)))
	free := freeAddress(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "twice", "streams"), 0o700))
	write("twice/streams/a.yaml", ticks)
	write("a.yaml", ticks)
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"address in use":      {nil, []string{"streams", "-o", root, "--control-address", strings.TrimPrefix(busy.url, "http://")}, "choose another --control-address"},
		"directory in use":    {nil, []string{"streams", "-o", root, "--control-address", free, "--state-dir", "state"}, "used by another process"},
		"directory a file":    {nil, []string{"streams", "-o", root, "--control-address", free, "--state-dir", "a.yaml"}, "give a --state-dir"},
		"directory in a file": {nil, []string{"streams", "-o", root, "--control-address", free, "--state-dir", "a.yaml/state"}, "give a --state-dir that this process can write"},
		"engine's address":    {nil, []string{"streams", "-o", "root.yaml", "--control-address", free}, "is another process's"},
		"twice":               {nil, []string{"streams", "-o", root, "--control-address", free, "--state-dir", "twice", "a.yaml"}, `pipeline "a" is in the state directory`},
		"no such file":        {nil, []string{"streams", "-o", root, "--control-address", free, "none.yaml"}, "none.yaml"},
		"log directive":       {[]string{"DELTAFORGE_LOG=warn,input.x=chatty"}, []string{"streams", "-o", root, "--control-address", free}, `"input.x=chatty"`},
		"RUST_LOG directive":  {[]string{"RUST_LOG=[span]=info"}, []string{"run", "a.yaml"}, `"[span]=info"`},
		"token file":          {nil, []string{"streams", "-o", root, "--control-token-file", "none"}, "--control-token-file"},
		"empty token file":    {nil, []string{"streams", "-o", root, "--control-token-file", write("empty", "\n")}, "is empty"},
		"users file":          {nil, []string{"streams", "-o", root, "--control-address", free, "--control-users-file", write("users", "ann\n")}, "user:password"},
		"certificate":         {nil, []string{"streams", "-o", root, "--control-tls-cert", "none"}, "--control-tls-cert"},
		"no API":              {nil, []string{"streams", "-o", root, "--no-api", "--state-dir", "s"}, "no control plane: --no-api is given"},
		"run mode":            {nil, []string{"run", "--control-address", free, "a.yaml"}, "no control plane: it is a part of streams mode"},
		"open to everybody":   {nil, []string{"streams", "-o", root, "--control-address", "0.0.0.0:0"}, "--insecure to let everybody in"},
		"empty users file":    {nil, []string{"streams", "-o", root, "--control-address", free, "--control-users-file", write("nobody", "# none\n")}, "no user in it"},
		"no prefixes":         {nil, []string{"streams", "-o", root, "--prefix-stream-endpoints=false"}, "add --no-api"},
		"no engine's server":  {nil, []string{"streams", "-o", write("off.yaml", "http: {enabled: false}\n")}, "http.enabled is false"},
		"engine's own lock":   {nil, []string{"streams", "-o", write("auth.yaml", "http: {basic_auth: {enabled: false}}\nmetrics: {none: {}}\n")}, "http.basic_auth: in streams mode"},
		"debug for everybody": {nil, []string{"run", write("debug.yaml", "http: {address: '0.0.0.0:0', debug_endpoints: true}\nmetrics: {none: {}}\n"+ticks)}, "http.debug_endpoints"},
		"password a number":   {nil, []string{"run", write("number.yaml", "input: {generate: {mapping: 'root = 1'}}\noutput: {deltaforge_redis: {url: 'redis://127.0.0.1:1', stream: x, password: 48151623}}\n")}, "field output.deltaforge_redis.password"},
		"log level":           {nil, []string{"run", write("loud.yaml", fmt.Sprintf("http: {address: %q}\nlogger: {level: LOUD}\nmetrics: {none: {}}\n", freeAddress(t))+ticks)}, `logger.level: unknown level "LOUD"`},
		"log level flag":      {nil, []string{"run", "--log.level", "chatty", "a.yaml"}, `--log.level: unknown level "chatty"`},
		"run's address":       {nil, []string{"run", write("busy.yaml", "http: {address: "+engineOf(t, dir)+"}\nmetrics: {none: {}}\n"+ticks)}, "choose another http.address"},
		"watch and set":       {nil, []string{"run", "-w", "--set", "http.address=" + free, "a.yaml"}, "--watcher cannot check"},
		"body limit":          {nil, []string{"streams", "-o", root, "--control-max-body", "0"}, "--control-max-body"},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, dir, c.env, c.args...)
			assert.Equal(t, 1, p.wait(), p.out)
			assert.Contains(t, p.out.String(), c.want)
			assert.NotContains(t, p.out.String(), "48151623")
			if strings.HasPrefix(name, "directory") {
				assert.NotContains(t, p.out.String(), "is now active", "a pipeline runs before the start has failed")
			}
		})
	}
}

// engineOf returns the address that the engine of a running process listens on.
func engineOf(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "root.yaml"))
	require.NoError(t, err)
	_, address, _ := strings.Cut(string(text), "address: ")
	address, _, _ = strings.Cut(address, "}")
	return address
}

// A plain run is stock Benthos: no listener of ours, nothing asked for.
func TestPlainRun(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	config := filepath.Join(dir, "run.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\n"+
		"input: {generate: {mapping: 'root.a = 1', count: 2, interval: ''}}\noutput: {stdout: {}}\n", freeAddress(t)), 0o600))
	for _, env := range [][]string{nil, {"DELTAFORGE_LOG=info"}, {"DELTAFORGE_LOG=off"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, os.Args[0], "run", config)
		cmd.Env = append(append(os.Environ(), mainVariable+"=1"), env...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Run(), "%s", &stderr)
		cancel()
		assert.Equal(t, "{\"a\":1}\n{\"a\":1}\n", stdout.String(), "the log is not among the data")
		if len(env) == 1 && env[0] == "DELTAFORGE_LOG=off" {
			assert.Empty(t, stderr.String())
		} else {
			assert.Contains(t, stderr.String(), `"msg":"Launching a DeltaForge instance`)
			assert.NotContains(t, stderr.String(), "control plane")
		}
	}
}
