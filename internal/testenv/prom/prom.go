// Package prom runs Prometheus and promtool for tests.
package prom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Tools returns prometheus and promtool. As with every server, a test that needs them is skipped under -short, and
// fails instead of being skipped where they are required.
func Tools(t *testing.T) (server, promtool string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Prometheus; -short is set")
	}
	server, promtool, err := binaries.Prometheus()
	if err == nil {
		return server, promtool
	}
	if os.Getenv("CI") == "true" || os.Getenv("DELTAFORGE_REQUIRE_SERVERS") != "" {
		t.Fatalf("a program that this run requires is not available: %v", err)
	}
	t.Skipf("NOT TESTED, a program is not available (DELTAFORGE_REQUIRE_SERVERS=1 makes this a failure): %v", err)
	return "", ""
}

// Tool runs promtool and returns what it prints.
func Tool(t *testing.T, stdin string, args ...string) (output string, err error) {
	t.Helper()
	_, tool := Tools(t)
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Choose puts values into an expression for the dashboard's variables, as Grafana does: one instance, everything else All.
func Choose(expr, instance string) string {
	expr = strings.ReplaceAll(expr, "$__rate_interval", "10s")
	expr = strings.ReplaceAll(expr, "$instance", instance)
	return variable().ReplaceAllString(expr, ".*")
}

// variable is what is left of the dashboard's.
func variable() *regexp.Regexp { return regexp.MustCompile(`\$\{?(\w+)\}?`) }

// Prometheus is a running one.
type Prometheus struct{ url string }

// Target is what it scrapes, under an instance label of its own.
type Target struct{ Job, Instance, Addr string }

// Start runs a Prometheus with a file of rules until the test ends. It scrapes once a second.
func Start(t *testing.T, rulesFile string, targets ...Target) Prometheus {
	t.Helper()
	server, _ := Tools(t)
	rules, err := filepath.Abs(rulesFile)
	require.NoError(t, err)
	var config strings.Builder
	config.WriteString(fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n", rules))
	for _, tg := range targets {
		config.WriteString(fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: [%q], labels: {instance: %s}}]}\n", tg.Job, tg.Addr, tg.Instance))
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(path, []byte(config.String()), 0o600))
	addr := testenv.FreeAddr(t)
	var log bytes.Buffer
	cmd := exec.Command(server, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), //nolint:noctx // ended below
		"--web.listen-address="+addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended: //nolint:errcheck // it was told to end
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended //nolint:errcheck // it was told to end
		}
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log.String())
		}
	})
	p := Prometheus{"http://" + addr}
	require.Eventually(t, func() bool {
		_, err := Fetch(p.url + "/-/ready")
		return err == nil
	}, 2*time.Minute, 50*time.Millisecond, "Prometheus does not get ready")
	return p
}

// Fetch returns a page, and an error unless its status is 200.
func Fetch(url string) (page string, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return string(body), errors.Join(err, resp.Body.Close())
}

// Get asks the API and decodes what is under data.
func (p Prometheus) Get(t require.TestingT, path string, values url.Values, into any) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.url+path+"?"+values.Encode(), nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("Prometheus answered %s: %s", resp.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// Sample is one line of a query's answer.
type Sample struct {
	Metric map[string]string
	Value  [2]any // time, and the value as text
}

// Text is the value.
func (s Sample) Text() string { return fmt.Sprint(s.Value[1]) }

// Query returns the samples that are numbers.
func (p Prometheus) Query(t require.TestingT, expr string) ([]Sample, error) {
	var data struct{ Result []Sample }
	if err := p.Get(t, "/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	var numbers []Sample
	for _, s := range data.Result {
		if s.Text() != "NaN" {
			numbers = append(numbers, s)
		}
	}
	return numbers, nil
}
