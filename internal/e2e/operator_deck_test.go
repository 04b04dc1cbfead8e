package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/metrics"
)

// deck is the real binary in streams mode, as an operator has it: pipelines come and go over the control plane, numbers come
// from the metrics page. At the end of the test no password of the deck may be in anything that the process has said or written.
type deck struct {
	t       *testing.T
	dir     string
	control string // address
	metrics string // address
	log     syncBuffer
	cmd     *exec.Cmd
	done    chan error
	env     []string

	mu       sync.Mutex
	secrets  []string        // guarded by mu
	said     strings.Builder // every answer and metrics page; guarded by mu
	asserted map[string]bool // series whose value was looked at; guarded by mu
}

// newDeck prepares the binary. Resources are those that its pipelines share: the engine takes none from the root
// configuration in streams mode.
func newDeck(t *testing.T, resources string) *deck {
	t.Helper()
	d := &deck{
		t: t, dir: t.TempDir(), control: freeAddr(t), metrics: freeAddr(t), asserted: map[string]bool{},
		done: make(chan error, 1),
	}
	token := d.secret("DECK_TOKEN")
	root := filepath.Join(d.dir, "root.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {deltaforge: {address: %q, tenant: acme}}\n",
		freeAddr(t), d.metrics), 0o600))
	args := []string{"streams", "-o", root, "--control-address", d.control, "--state-dir", "state"}
	if resources != "" { // an empty file does not lint
		shared := filepath.Join(d.dir, "resources.yaml")
		require.NoError(t, os.WriteFile(shared, []byte(resources), 0o600))
		args = append(args, "-r", shared)
	}
	d.cmd = exec.Command(binary(t), args...)
	d.env = append(d.env, "DELTAFORGE_CONTROL_TOKEN="+token)
	return d
}

// secret makes a password that is nowhere else in the world and gives it to the process as a variable.
func (d *deck) secret(variable string) string {
	word := "pw" + strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "") + strings.ToLower(variable[len(variable)-3:])
	d.hide(word)
	d.env = append(d.env, variable+"="+word)
	return word
}

func (d *deck) hide(word string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secrets = append(d.secrets, word)
}

// start runs the process and waits for its control plane.
func (d *deck) start() {
	d.t.Helper()
	d.cmd.Dir, d.cmd.Env = d.dir, append(os.Environ(), d.env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(d.t, d.cmd.Start())
	go func() { d.done <- d.cmd.Wait() }()
	d.t.Cleanup(func() {
		d.end()
		d.checkSecrets()
		if d.t.Failed() {
			d.t.Logf("log of the process:\n%s", tail(d.log.String(), 8000))
		}
	})
	eventually(d.t, 60*time.Second, "serving", func() bool {
		status, _ := d.call(http.MethodGet, "/ready", "")
		return status != 0
	})
}

func (d *deck) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.done:
		assert.NoError(d.t, err, "exit after SIGTERM")
	case <-time.After(60 * time.Second):
		d.t.Error("still running 60 s after SIGTERM")
		_ = d.cmd.Process.Kill()
		<-d.done
	}
}

// checkSecrets looks for every password in the log, in every answer, on every page, and in every file the process has.
func (d *deck) checkSecrets() {
	d.mu.Lock()
	defer d.mu.Unlock()
	texts := map[string]string{"the log": d.log.String(), "answers and pages": d.said.String()}
	require.NoError(d.t, filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		texts[path] = string(b)
		return err
	}))
	assert.Greater(d.t, len(texts), 3, "files that were looked at")
	for where, text := range texts {
		for _, word := range d.secrets {
			assert.False(d.t, strings.Contains(text, word), "a password is in %s", where)
		}
	}
}

// call sends a request to the control plane. The status is 0 while nobody answers.
func (d *deck) call(method, path, body string) (status int, answer string) {
	return d.fetch(method, "http://"+d.control+path, body)
}

func (d *deck) fetch(method, url, body string) (status int, answer string) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(d.t, err)
	d.mu.Lock()
	req.Header.Set("Authorization", "Bearer "+d.secrets[0])
	d.mu.Unlock()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said.Write(b)
	return res.StatusCode, string(b)
}

// want makes a request that must have a status.
func (d *deck) want(status int, method, path, body string) string {
	d.t.Helper()
	got, answer := d.call(method, path, body)
	require.Equal(d.t, status, got, "%s %s: %s", method, path, answer)
	return answer
}

// page is one scrape.
type page struct {
	d    *deck
	text string
}

func (d *deck) scrape() page {
	d.t.Helper()
	status, text := d.fetch(http.MethodGet, "http://"+d.metrics+"/metrics", "")
	require.Equal(d.t, http.StatusOK, status)
	return page{d, text}
}

// find adds up the lines of a series, named without its prefix, that have every one of the labels ("op=c").
func (p page) find(name string, labels ...string) (sum float64, found bool) {
	for line := range strings.SplitSeq(p.text, "\n") {
		rest, ok := strings.CutPrefix(line, "deltaforge_"+name)
		if !ok || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		match := true
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			match = match && strings.Contains(rest, key+"="+strconv.Quote(value))
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil && match {
			sum, found = sum+v, true
		}
	}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.asserted["deltaforge_"+strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")] = true
	return sum, found
}

// get is find for what must be there.
func (p page) get(name string, labels ...string) float64 {
	p.d.t.Helper()
	sum, found := p.find(name, labels...)
	require.True(p.d.t, found, "no %s %v on the page:\n%s", name, labels, p.lines(name))
	return sum
}

// is asserts a value.
func (p page) is(want float64, name string, labels ...string) {
	p.d.t.Helper()
	assert.InDelta(p.d.t, want, p.get(name, labels...), 1e-9, "%s %v:\n%s", name, labels, p.lines(name))
}

// atLeast asserts a bound.
func (p page) atLeast(want float64, name string, labels ...string) {
	p.d.t.Helper()
	assert.GreaterOrEqual(p.d.t, p.get(name, labels...), want, "%s %v:\n%s", name, labels, p.lines(name))
}

func (p page) lines(name string) string {
	return strings.Join(regexp.MustCompile(`(?m)^deltaforge_`+name+`.*$`).FindAllString(p.text, 30), "\n")
}

// until scrapes until a series has a value that ok accepts.
func (d *deck) until(timeout time.Duration, ok func(float64) bool, name string, labels ...string) page {
	d.t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		p := d.scrape()
		v, found := p.find(name, labels...)
		if found && ok(v) {
			return p
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("after %s %s %v is not what was expected:\n%s\nready: %v", timeout, name, labels, p.lines(name),
				slices.Collect(d.readiness()))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (d *deck) readiness() func(func(string) bool) {
	return func(yield func(string) bool) {
		_, answer := d.call(http.MethodGet, "/ready", "")
		yield(answer)
	}
}

func atLeast(n float64) func(float64) bool { return func(v float64) bool { return v >= n } }
func atMost(n float64) func(float64) bool  { return func(v float64) bool { return v <= n } }

// covered fails the test unless it has looked at every series that scenarios gives to it.
func (d *deck) covered() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, s := range metrics.AllSeries() {
		if scenarios()[s.Name] == d.t.Name() {
			n++
			assert.True(d.t, d.asserted[s.Name], "%s has looked at no value of %s", d.t.Name(), s.Name)
		}
	}
	assert.Positive(d.t, n)
}
