package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// process is one pipeline run by the real binary, which can be killed and started again with the same state.
type process struct {
	t       *testing.T
	bin     string
	dir     string
	config  string
	metrics string // address
	http    string // the engine's address
	log     syncBuffer
	record  *record  // log and pages, for the end of the run
	env     []string // more than environment has
	cmd     *exec.Cmd
	done    chan error
	peakKiB int // greatest resident size seen over all runs
}

// newProcess writes the stream; %[1]s in it is the folder that survives restarts.
func newProcess(t *testing.T, stream string) *process {
	t.Helper()
	dir := wroteDir(t)
	p := &process{
		t: t, bin: binary(t), dir: dir, config: filepath.Join(givenDir(t), "stream.yaml"), metrics: testenv.FreeAddr(t), http: testenv.FreeAddr(t),
		record: newRecord(t, dir, "log.txt"),
	}
	full := stream + fmt.Sprintf(`
http:
  address: %s
metrics:
  deltaforge:
    address: %s
    pipeline: e2e
`, p.http, p.metrics)
	require.NoError(t, os.WriteFile(p.config, []byte(full), 0o600))
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of the process:\n%s", tail(p.log.String(), 8000))
		}
	})
	return p
}

// start runs the binary.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, "run", p.config) //nolint:noctx // outlives no test: see kill
	p.cmd.Dir, p.cmd.Env = p.dir, append(environment(p.t, p.dir), p.env...)
	out := io.MultiWriter(&p.log, p.record)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(p.t, p.cmd.Start())
	p.done = make(chan error, 1)
	cmd, done := p.cmd, p.done
	go func() { done <- cmd.Wait() }()
}

// kill ends the process with SIGKILL, as the kernel's OOM killer does.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.samplePeak()
	_ = p.cmd.Process.Kill()
	<-p.done //nolint:errcheck // it was killed
	p.cmd = nil
}

// stop ends the process as an operator does, and fails the test when it does not end well.
func (p *process) stop() {
	p.t.Helper()
	p.samplePeak()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.done:
		require.NoError(p.t, err, "exit after SIGTERM")
	case <-time.After(time.Minute):
		p.t.Fatal("still running a minute after SIGTERM")
	}
	p.cmd = nil
}

// samplePeak reads the greatest resident size of the running process.
func (p *process) samplePeak() {
	if p.cmd == nil {
		return
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if n, err := strconv.Atoi(strings.Fields(rest)[0]); err == nil {
				p.peakKiB = max(p.peakKiB, n)
			}
		}
	}
}

// scrape returns the metrics page, or "" while it is not there.
func (p *process) scrape() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.metrics+"/metrics", http.NoBody)
	if err != nil {
		return ""
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || p.record.add(string(b)) != nil {
		return ""
	}
	return string(b)
}

// metric adds up the values of all series of one name whose line contains every one of the given labels.
func (p *process) metric(name string, labels ...string) (sum float64, found bool) {
	for line := range strings.SplitSeq(p.scrape(), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		match := true
		for _, l := range labels {
			match = match && strings.Contains(rest, l)
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil && match {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// syncBuffer collects output that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
