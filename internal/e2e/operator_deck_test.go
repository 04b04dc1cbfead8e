package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math"
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

	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/metrics"
)

// deck is the real binary in streams mode, as an operator has it: pipelines come and go over the control plane, numbers come
// from the metrics page.
type deck struct {
	t       *testing.T
	dir     string
	control string // address
	metrics string // address
	log     syncBuffer
	record  *record // log, answers and pages, for the end of the run
	cmd     *exec.Cmd
	done    chan error
	env     []string
	token   string

	mu       sync.Mutex
	asserted map[string]bool // series whose value was looked at; guarded by mu
	ops      map[string]bool // values of the label op that were asked for; guarded by mu
}

// newDeck prepares the binary. Resources are those that its pipelines share: the engine takes none from the root
// configuration in streams mode.
func newDeck(t *testing.T, resources string) *deck {
	t.Helper()
	return newDeckOf(t, binary(t), "", resources)
}

// newDeckOf prepares another binary, or one with more in its root configuration.
func newDeckOf(t *testing.T, bin, more, resources string) *deck {
	t.Helper()
	d := &deck{
		t: t, dir: wroteDir(t), control: testenv.FreeAddr(t), metrics: testenv.FreeAddr(t), asserted: map[string]bool{}, ops: map[string]bool{},
		done: make(chan error, 1),
	}
	d.record = newRecord(t, d.dir, "said.txt")
	d.token = d.secret("DELTAFORGE_CONTROL_TOKEN")
	given := givenDir(t)
	root := filepath.Join(given, "root.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {deltaforge: {address: %q, tenant: acme}}\n%s",
		testenv.FreeAddr(t), d.metrics, more), 0o600))
	args := []string{"streams", "-o", root, "--control-address", d.control, "--state-dir", "state"}
	if resources != "" { // an empty file does not lint
		shared := filepath.Join(given, "resources.yaml")
		require.NoError(t, os.WriteFile(shared, []byte(resources), 0o600))
		args = append(args, "-r", shared)
	}
	d.cmd = exec.Command(bin, args...) //nolint:noctx // outlives no test: see kill
	return d
}

// newPassword makes a password that is nowhere else in the world. Its signs are written differently in URLs, JSON and base64, and
// are safe in a DSN.
func newPassword(suffix string) string {
	return "pw&" + rand.Text()[:12] + "+x=" + strings.ToLower(suffix)
}

// secret makes a password and gives it to the process as a variable.
func (d *deck) secret(variable string) string {
	word := newPassword(variable[:3])
	hide(d.t, variable+" of "+d.t.Name(), word)
	d.env = append(d.env, variable+"="+word)
	return word
}

// start runs the process and waits for its control plane.
func (d *deck) start() {
	d.t.Helper()
	d.cmd.Dir, d.cmd.Env = d.dir, environment(d.t, d.dir, d.env...)
	out := io.MultiWriter(&d.log, d.record)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(d.t, d.cmd.Start())
	go func() { d.done <- d.cmd.Wait() }()
	d.t.Cleanup(func() {
		d.end()
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
		<-d.done //nolint:errcheck // it was killed
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
	req.Header.Set("Authorization", "Bearer "+d.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	require.NoError(d.t, d.record.add(string(b)))
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
	for _, l := range labels {
		if op, ok := strings.CutPrefix(l, "op="); ok && sum > 0 {
			p.d.ops[op] = true
		}
	}
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
	if timeout > 15*time.Second { // what has a bound has it from the playbook of operators
		timeout = max(timeout, patience)
	}
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

// follows asserts that a gauge grows as the clock does, over some seconds. It is set once a second, and neither it nor the page comes
// at once on a busy machine, so that one look in several has to show it.
func (d *deck) follows(seconds int, name string, labels ...string) {
	d.t.Helper()
	const looks, off = 10, 2.5
	var passed, grown float64
	for range looks {
		first, at := d.scrape().get(name, labels...), time.Now()
		time.Sleep(time.Duration(seconds) * time.Second)
		grown, passed = d.scrape().get(name, labels...)-first, time.Since(at).Seconds()
		if math.Abs(passed-grown) <= off {
			return
		}
	}
	assert.InDelta(d.t, passed, grown, off, "growth of %s %v in %v seconds", name, labels, passed)
}

// pipelines waits until the page counts the pipelines so. It counts them once a second.
func (d *deck) pipelines(want map[string]int) {
	d.t.Helper()
	eventually(d.t, 30*time.Second, fmt.Sprintf("the pipelines %v", want), func() bool {
		p, same := d.scrape(), true
		for status, n := range want {
			v, found := p.find("pipelines", "status="+status)
			same = same && found && v == float64(n)
		}
		return same
	})
}

func (d *deck) readiness() func(func(string) bool) {
	return func(yield func(string) bool) {
		_, answer := d.call(http.MethodGet, "/ready", "")
		yield(answer)
	}
}

func atLeast(n float64) func(float64) bool { return func(v float64) bool { return v >= n } }
func exactly(n float64) func(float64) bool { return func(v float64) bool { return v == n } }
func atMost(n float64) func(float64) bool  { return func(v float64) bool { return v <= n } }

// covered fails the test unless it has looked at every series that scenarios gives to it.
func (d *deck) covered() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	test, _, _ := strings.Cut(d.t.Name(), "/")
	for _, s := range metrics.AllSeries() {
		if scenarios()[s.Name] == test {
			n++
			assert.True(d.t, d.asserted[s.Name], "%s has looked at no value of %s", d.t.Name(), s.Name)
		}
	}
	assert.Positive(d.t, n)
}
