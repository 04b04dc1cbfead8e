package resources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// prometheusTools returns prometheus and promtool. As with every server, a test that needs them is skipped under -short, and
// fails instead of being skipped where they are required.
func prometheusTools(t *testing.T) (server, promtool string) {
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

// promtool runs promtool and returns what it prints.
func promtool(t *testing.T, stdin string, args ...string) (output string, err error) {
	t.Helper()
	_, tool := prometheusTools(t)
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestRulesAndConfigurationAreValid(t *testing.T) {
	out, err := promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", rulesFile)
	require.NoError(t, err, out)
	out, err = promtool(t, "", "check", "config", "--lint=all", "--lint-fatal", configFile)
	require.NoError(t, err, out)
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	out, err := promtool(t, "", "test", "rules", ruleTestsFile)
	require.NoError(t, err, out)
}

// The syntax of the dashboard's expressions is checked as that of recording rules, which are expressions with a name.
func TestDashboardExpressionsParse(t *testing.T) {
	out, err := promtool(t, "", "check", "rules", recordingRules(t, loadBoard(t).expressions()))
	require.NoError(t, err, out)
	out, err = promtool(t, "", "check", "rules", recordingRules(t, []string{"sum by (a (b)"}))
	require.Error(t, err, out)
}

func recordingRules(t *testing.T, expressions []string) string {
	t.Helper()
	type recording struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	rules := make([]recording, len(expressions))
	for i, expr := range expressions {
		rules[i] = recording{fmt.Sprintf("expression_%d", i), choose(expr, ".*")}
	}
	type group struct {
		Name  string      `json:"name"`
		Rules []recording `json:"rules"`
	}
	data, err := json.Marshal(map[string][]group{"groups": {{"dashboard", rules}}}) // JSON is YAML
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// choose puts values into an expression for the dashboard's variables, as Grafana does: one instance, everything else All.
func choose(expr, instance string) string {
	expr = strings.ReplaceAll(expr, "$__rate_interval", "10s")
	expr = strings.ReplaceAll(expr, "$instance", instance)
	return variable.ReplaceAllString(expr, ".*")
}

// prometheus is a running Prometheus with the alert rules of this folder.
type prometheus struct{ url string }

// target is what it scrapes, under an instance label of its own.
type target struct{ job, instance, addr string }

func startPrometheus(t *testing.T, targets ...target) prometheus {
	t.Helper()
	server, _ := prometheusTools(t)
	rules, err := filepath.Abs(rulesFile)
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [%q]\nscrape_configs:\n", rules)
	for _, tg := range targets {
		config += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: [%q], labels: {instance: %s}}]}\n", tg.job, tg.addr, tg.instance)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	addr := freeAddr(t)
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
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log.String())
		}
	})
	p := prometheus{"http://" + addr}
	require.Eventually(t, func() bool {
		_, err := fetch(p.url + "/-/ready")
		return err == nil
	}, 30*time.Second, 50*time.Millisecond, "Prometheus does not get ready")
	return p
}

// fetch returns a page, and an error unless its status is 200.
func fetch(url string) (page string, err error) {
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

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// get asks the API and decodes what is under data.
func (p prometheus) get(t require.TestingT, path string, values url.Values, into any) error {
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
		return fmt.Errorf("Prometheus answered %s: %s", resp.Status, answer.Error) //nolint:revive,staticcheck // a name
	}
	return json.Unmarshal(answer.Data, into)
}

// sample is one line of a query's answer.
type sample struct {
	Metric map[string]string
	Value  [2]any // time, and the value as text
}

func (s sample) value() string { return fmt.Sprint(s.Value[1]) }

// query returns the samples that are numbers.
func (p prometheus) query(t require.TestingT, expr string) ([]sample, error) {
	var data struct{ Result []sample }
	if err := p.get(t, "/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	var numbers []sample
	for _, s := range data.Result {
		if s.value() != "NaN" {
			numbers = append(numbers, s)
		}
	}
	return numbers, nil
}
