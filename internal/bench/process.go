package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is the binary under measurement.
type process struct {
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // how; valid when done is closed
	dir     string
	metrics string // address of the metrics page
	http    string // address of the engine's API
	log     *os.File
	zero    time.Time // when the consumer was last seen without a row
}

// start runs the binary, in a folder of its own, with the variables that its configuration wants.
func (s *suite) start(ctx context.Context, args []string, env map[string]string) (*process, error) {
	dir, err := os.MkdirTemp(s.dir, "run-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the pipeline: %w", err)
	}
	p := &process{dir: dir, done: make(chan struct{})}
	for _, addr := range []*string{&p.metrics, &p.http} {
		if *addr, err = freeAddr(ctx); err != nil {
			return nil, err
		}
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, fmt.Errorf("making the log of the pipeline: %w", err)
	}
	p.cmd = exec.CommandContext(ctx, s.bin, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.log, p.log
	p.cmd.Env = append(os.Environ(), "METRICS_ADDR="+p.metrics, "HTTP_ADDR="+p.http, "PROFILE="+strconv.FormatBool(s.profile != ""))
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal above when this thread ends, so the thread stays as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting the binary: %w", errors.Join(err, p.log.Close()))
	}
	return p, nil
}

// stop ends the process as an operator does. It is killed after ten seconds, which is an error.
func (p *process) stop() error {
	defer p.log.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("the pipeline did not stop; %s", p.tail())
	}
	return nil
}

// tail is the end of the log, for errors.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return "its log ends with:\n" + string(bytes.TrimSpace(text[max(0, len(text)-3000):]))
}

// alive returns an error when the process has ended by itself.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("the pipeline ended (%w); %s", p.err, p.tail())
	default:
		return nil
	}
}

func freeAddr(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func get(ctx context.Context, url string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, res.Status)
	}
	return io.ReadAll(res.Body)
}

// metric adds up all series of a name. A page that is not there yet counts 0.
func (p *process) metric(ctx context.Context, name string) int64 {
	page, err := get(ctx, "http://"+p.metrics+"/metrics", 5*time.Second)
	if err != nil {
		return 0
	}
	sum := 0.0
	for line := range strings.SplitSeq(string(page), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum += v
		}
	}
	return int64(sum)
}

// usage is what the process has taken so far.
func (p *process) usage() (cpu, rss float64, err error) { return usageOf(p.cmd.Process.Pid) }

// usageOf reads the CPU seconds (user and system) of a process and its greatest resident size in MB from the kernel.
func usageOf(pid int) (cpu, rss float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("reading the usage of process %d: unknown format", pid)
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	status, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	const ticks = 100 // USER_HZ, the same on every Linux that Go runs on
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return (user + system) / ticks, kib / 1024, err
		}
	}
	return 0, 0, fmt.Errorf("reading the usage of process %d: it has ended", pid)
}

// cpuProfile fetches a profile of that many seconds from the engine's debug endpoints and keeps it, and its flame graph, under
// the name.
func (s *suite) cpuProfile(ctx context.Context, p *process, name string, seconds int) {
	data, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.http, seconds), time.Duration(seconds+10)*time.Second)
	if err == nil {
		data, err = portable(data)
	}
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(s.profile, name+".pprof"), data, 0o644),
			writeFlame(filepath.Join(s.profile, name+".svg"), name+", CPU time of the process", data))
	}
	if err != nil {
		s.note("no profile of %s: %v", name, err)
	}
}

// reference runs this program as one of the references and returns what it has measured about itself.
func (s *suite) reference(ctx context.Context, args ...string) (sample, error) {
	cmd := exec.CommandContext(ctx, s.self, append([]string{"reference"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("running the reference %s: %w\n%s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		return sample{}, fmt.Errorf("reading what the reference %s printed: %w", args[0], err)
	}
	return sample{value: float64(m.Rows) / m.Seconds, cpu: m.CPU}, nil
}
