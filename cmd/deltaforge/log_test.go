package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// logged returns the lines of a log that have the fields.
func logged(t *testing.T, log string, fields map[string]string) (found []map[string]any) {
	t.Helper()
lines:
	for line := range strings.Lines(log) {
		var all map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &all), line)
		for key, want := range fields {
			if all[key] != want {
				continue lines
			}
		}
		found = append(found, all)
	}
	return found
}

// Components of ours whose servers are not there.
const unreachable = `
input: {label: shop, deltaforge_mysql: {name: orders, dsn: 'u:hunter2-sesame@tcp(127.0.0.1:1)/', tables: {include: ['shop.a']}}}
output: {deltaforge_redis: {url: 'redis://:hunter3-sesame@127.0.0.1:1', stream: x}}
`

// Every line of a component of ours says what it is about, in the words of the metrics page.
func TestLogFields(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	root := filepath.Join(dir, "mapped.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, `
http: {address: %q}
metrics:
  mapping: meta tenant = @stream.or("").split("-").index(0)
  deltaforge: {address: %q, tenant: nobody}
`, freeAddress(t), freeAddress(t)), 0o600))
	p := streams(t, dir, nil, "-o", root)
	p.want(200, "POST", "/streams/acme-1", unreachable)
	p.want(200, "POST", "/streams/plain", strings.ReplaceAll(unreachable, "orders", "others"))
	pg := "input: {label: pg, deltaforge_postgres: {name: pg, dsn: 'postgres://u:hunter4-sesame@127.0.0.1:1/db'}}\n" +
		"output: {label: log, broker: {outputs: [{deltaforge_kafka: {seed_brokers: ['127.0.0.1:1'], topic: t, timeout: 1s}}]}}\n"
	p.want(200, "POST", "/streams/acme-2", pg)
	for _, want := range []map[string]string{
		{"pipeline": "acme-1", "tenant": "acme", "source": "orders", "level": "error"},
		{"pipeline": "acme-1", "tenant": "acme", "sink": "root.output", "level": "error"},
		{"pipeline": "plain", "tenant": "plain", "source": "others"},
		{"pipeline": "acme-2", "tenant": "acme", "source": "pg", "level": "error"},
		{"pipeline": "acme-2", "tenant": "acme", "sink": "root.output.broker.outputs.0", "level": "error"},
		{"pipeline": "acme-1", "tenant": "acme", "action": "create"},
	} {
		require.Eventually(t, func() bool { return len(logged(t, whole(p.out), want)) > 0 }, patience, 50*time.Millisecond, "%v: %s", want, p.out)
	}
	for _, line := range logged(t, whole(p.out), map[string]string{"pipeline": "acme-1", "source": "orders", "level": "error"}) {
		assert.Contains(t, line["error"], "connection refused")
	}
	p.end(syscall.SIGTERM)
	for line := range strings.Lines(p.out.String()) {
		var all map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &all), line)
		for _, key := range []string{"time", "level", "msg"} {
			assert.NotEmpty(t, all[key], line)
		}
		if path, _ := all["path"].(string); strings.HasPrefix(path, "root.input") || strings.HasPrefix(path, "root.output") {
			assert.NotEmpty(t, all["pipeline"], line)
			assert.NotEmpty(t, all["tenant"], line)
			assert.True(t, all["source"] != nil || all["sink"] != nil, line)
		}
	}
	assert.NotContains(t, p.out.String(), "hunter")
}

// whole returns what ends with a line.
func whole(o *output) string {
	text := o.String()
	return text[:strings.LastIndexByte(text, '\n')+1]
}

// shows waits until the metrics page has the lines.
func (p *program) shows(lines ...string) {
	p.t.Helper()
	page := ""
	require.Eventually(p.t, func() bool {
		page = p.want(200, "GET", "/metrics", "")
		return !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(page, line+"\n") })
	}, patience, 50*time.Millisecond, "%v are not all on the metrics page", lines)
}

// The numbers that the control plane has of a pipeline carry the tenant that the engine's mapping gives it.
func TestTenantOfNumbers(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	page := freeAddress(t)
	root := filepath.Join(dir, "mapped.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, `
http: {address: %q}
metrics:
  mapping: meta tenant = @stream.or("").split("-").index(0)
  deltaforge: {address: %q}
`, freeAddress(t), page), 0o600))
	p := streams(t, dir, nil, "-o", root)
	p.want(200, "POST", "/streams/acme-1", ticks)
	numbers := &program{t: t, url: "http://" + page}
	numbers.shows(
		`deltaforge_pipeline_status{pipeline="acme-1",tenant="acme"} 1`,
		`deltaforge_pipeline_info{pipeline="acme-1",source_type="generate",tenant="acme"} 1`,
		`deltaforge_pipeline_lifecycle_total{action="create",outcome="success",pipeline="acme-1",tenant="acme"} 1`,
		`deltaforge_sink_connections_total{pipeline="acme-1",sink="root.output",tenant="acme"} 1`,
	)
	p.want(200, "DELETE", "/streams/acme-1", "")
	assert.NotContains(t, numbers.want(200, "GET", "/metrics", ""), `"acme-1"`)
}

func TestLogSettings(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	config := filepath.Join(dir, "run.yaml")
	run := func(logger string, env []string, args ...string) string {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\nlogger: {%s}\n"+
			"input: {generate: {mapping: 'root.a = 1', count: 1, interval: ''}}\noutput: {drop: {}}\n", freeAddress(t), logger), 0o600))
		p := launch(t, dir, env, append(append([]string{}, args...), config)...)
		assert.Zero(t, p.wait(), p.out)
		return p.out.String()
	}
	assert.Contains(t, run("", nil, "run"), `"msg":"Launching a DeltaForge instance`)
	assert.Contains(t, run("format: logfmt", nil, "run"), `msg="Launching a DeltaForge instance`)
	assert.Empty(t, run("level: ERROR", nil, "run"))
	assert.NotEmpty(t, run("level: ERROR", nil, "run", "--log.level", "info"))
	assert.NotEmpty(t, run("level: ERROR", nil, "--log.level", "info", "run"))
	assert.NotEmpty(t, run("level: ERROR", []string{"DELTAFORGE_LOG=info"}, "run"))
	assert.Empty(t, run("", []string{"DELTAFORGE_LOG=info"}, "run", "--log.level", "error"))
	assert.Contains(t, run("message_name: text, static_fields: {team: a}", nil, "run"), `"text":"Launching a DeltaForge instance, use CTRL+C to close","team":"a"`)
	for _, rotate := range []string{"true", "false"} {
		file := filepath.Join(dir, "log-"+rotate)
		assert.Empty(t, run("file: {path: "+file+", rotate: "+rotate+"}", nil, "run"))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotEmpty(t, logged(t, string(text), map[string]string{"pipeline": "default", "sink": "root.output"}))
	}
	// A start that fails before there is a configuration still says why, as JSON.
	require.NoError(t, os.WriteFile(config, []byte("nonsense: 1\n"), 0o600))
	p := launch(t, dir, nil, "run", config)
	assert.Equal(t, 1, p.wait())
	assert.Contains(t, p.out.String(), `"msg":"Config lint error"`)
}

// `deltaforge run` says how its pipeline is, on the engine's own server.
func TestHealthOfRunMode(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	address, page := freeAddress(t), freeAddress(t)
	config := filepath.Join(dir, "run.yaml")
	begin := func(stream string) *program {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {deltaforge: {address: %q, pipeline: orders, tenant: acme}}\n%s",
			address, page, stream), 0o600))
		p := launch(t, dir, nil, "run", config)
		p.url = "http://" + address
		// The engine serves before it calls anything of ours, and adds routes to its server while that serves, which is a race with
		// the requests of that moment. The first number of the pipeline, on another listener, comes when all routes are there.
		require.Eventually(t, func() bool {
			resp, err := http.Get("http://" + page + "/metrics") //nolint:noctx // a test
			if err != nil {
				return false
			}
			text, err := io.ReadAll(resp.Body)
			return errors.Join(err, resp.Body.Close()) == nil && numberOf(string(text), "deltaforge_pipeline_status", `pipeline="orders"`) == 1
		}, patience, 20*time.Millisecond, "%s", p.out)
		p.want(200, "GET", "/health", "")
		return p
	}
	p := begin(ticks)
	require.Eventually(t, func() bool { status, _ := p.call("GET", "/ready", ""); return status == 200 }, patience, 20*time.Millisecond)
	assert.JSONEq(t, `{"status":"ready","pipelines":[{"name":"orders","status":"running","source":"generate"}]}`, p.want(200, "GET", "/ready", ""))
	assert.JSONEq(t, `{"status":"healthy","pipelines":[{"name":"orders","status":"running","source":"generate"}]}`, p.want(200, "GET", "/benthos/health", ""))
	p.want(405, "POST", "/ready", "")
	p.want(404, "GET", "/streams", "")
	numbers := &program{t: t, url: "http://" + page}
	numbers.shows(
		`deltaforge_pipeline_status{pipeline="orders",tenant="acme"} 1`, `deltaforge_pipelines{status="running"} 1`,
		`deltaforge_pipeline_info{pipeline="orders",source_type="generate",tenant="acme"} 1`,
		`deltaforge_api_requests_total{method="POST",route="/ready",status="405"} 1`,
	)
	before := len(p.out.String()) // a busy machine may have taken its time to become ready
	p.end(syscall.SIGTERM)
	assert.Zero(t, p.cmd.ProcessState.ExitCode(), p.out)
	assert.NotContains(t, p.out.String()[before:], "Not ready", "the end is no loss of readiness")

	p = begin(unreachable)
	text := p.want(503, "GET", "/ready", "")
	require.Eventually(t, func() bool {
		_, text = p.call("GET", "/ready", "")
		return strings.Contains(text, "orders: connecting to 127.0.0.1:1 as u") && strings.Contains(text, "output is not connected: connecting to Redis")
	}, patience, 20*time.Millisecond, text)
	assert.Contains(t, text, `"status":"not_ready"`)
	assert.Contains(t, text, `"source":"orders"`)
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), `"msg":"Not ready: 1 pipeline of 1"`) }, patience, 20*time.Millisecond)
	assert.NotContains(t, text+p.out.String(), "hunter")
}

// Our flags work before the subcommand, too.
func TestFlagsBeforeTheSubcommand(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	root := filepath.Join(dir, "root.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\n", freeAddress(t)), 0o600))
	address := freeAddress(t)
	p := launch(t, dir, []string{"DELTAFORGE_CONTROL_ADDRESS=127.0.0.1:1"}, "--control-address", address, "--state-dir", "early", "--control-max-body", "50",
		"--control-cors-origin", "https://a", "--control-cors-origin", "https://b", "streams", "-o", root, "--state-dir", "late")
	p.url = "http://" + address
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/ping") //nolint:noctx // a test
		return err == nil && resp.Body.Close() == nil
	}, patience, 20*time.Millisecond, "%s", p.out)
	assert.NoDirExists(t, filepath.Join(dir, "early"), "the nearer one counts")
	assert.DirExists(t, filepath.Join(dir, "late"))
	p.want(413, "POST", "/streams/x", strings.Repeat("#", 51))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/streams", nil)
	require.NoError(t, err)
	req.Header.Set("Origin", "https://b")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	assert.Equal(t, "https://b", resp.Header.Get("Access-Control-Allow-Origin"))
	require.NoError(t, resp.Body.Close())
	p.end(syscall.SIGTERM)

	// What no flag says is in the environment.
	p = launch(t, dir, []string{"DELTAFORGE_CONTROL_ADDRESS=" + address, "DELTAFORGE_STATE_DIR=kept"}, "streams", "-o", root)
	p.url = "http://" + address
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/ping") //nolint:noctx // a test
		return err == nil && resp.Body.Close() == nil
	}, patience, 20*time.Millisecond, "%s", p.out)
	assert.DirExists(t, filepath.Join(dir, "kept"))
}
