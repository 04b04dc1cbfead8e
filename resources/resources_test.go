// Package resources has no code, only the tests of what lies beside it: that the dashboard and the alert rules name series
// and labels which the exporter has, that alerts fire when they should and not otherwise, and that a Prometheus which
// scrapes a running pipeline answers every query.
package resources

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/resources/grafana"
)

const (
	dashboardFile = "grafana/deltaforge.json"
	rulesFile     = "prometheus/alerts.yaml"
	ruleTestsFile = "prometheus/alerts_test.yaml"
	configFile    = "prometheus/prometheus.yaml"
	runbookFile   = "../docs/operations.md"
	runbookURL    = "https://github.com/deltaforge/deltaforge/blob/main/docs/operations.md#"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write the generated dashboard")

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestDashboardIsGenerated(t *testing.T) {
	want, err := grafana.JSON()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(dashboardFile, want, 0o644))
	}
	got, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run `go generate ./resources/...`")
}

// board is what the tests read of the dashboard, out of the file that Grafana imports.
type board struct {
	Panels      []boardPanel
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct {
			Name, Type, Definition string
		}
	}
}

type boardPanel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	Targets                  []struct{ Expr, LegendFormat string }
	FieldConfig              struct {
		Defaults struct{ Unit string }
	}
}

func loadBoard(t *testing.T) board {
	t.Helper()
	data, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var b board
	require.NoError(t, json.Unmarshal(data, &b))
	require.NotEmpty(t, b.Panels)
	return b
}

func (b board) expressions() []string {
	var all []string
	for _, p := range b.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	for _, a := range b.Annotations.List {
		all = append(all, a.Expr)
	}
	return all
}

var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

// variables returns the selector and the label of each choice that asks Prometheus.
func (b board) variables(t *testing.T) map[string][2]string {
	t.Helper()
	vars := map[string][2]string{}
	for _, v := range b.Templating.List {
		if v.Type != "query" {
			continue
		}
		parts := labelValues.FindStringSubmatch(v.Definition)
		require.NotNil(t, parts, "the query of %s is not label_values(series, label)", v.Name)
		vars[v.Name] = [2]string{parts[1], parts[2]}
	}
	return vars
}

func TestDashboardHasItsRowsAndVariables(t *testing.T) {
	b := loadBoard(t)
	var rows, vars []string
	for _, p := range b.Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
		}
	}
	for _, v := range b.Templating.List {
		vars = append(vars, v.Name)
	}
	assert.Equal(t, []string{
		"Fleet overview", "Throughput", "Lag", "Latency", "Checkpoints", "Batching", "Errors", "Snapshot progress", "Control plane",
	}, rows)
	assert.Equal(t, []string{"datasource", "instance", "tenant", "pipeline", "source", "sink"}, vars)
}

func TestEveryPanelExplainsItself(t *testing.T) {
	titles, ids, cells := map[string]bool{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range loadBoard(t).Panels {
		assert.NotEmpty(t, p.Title)
		assert.False(t, ids[p.ID], "two panels with id %d", p.ID)
		assert.False(t, titles[p.Title], "two panels called %q", p.Title)
		ids[p.ID], titles[p.Title] = true, true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, cells[[2]int{x, y}], "%q covers another panel", p.Title)
				cells[[2]int{x, y}] = p.Title
			}
		}
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.FieldConfig.Defaults.Unit, "%q has no unit", p.Title)
		assert.Greater(t, len(p.Description), 40, "%q does not say what to do", p.Title)
		assert.NotEmpty(t, p.Targets, "%q has no query", p.Title)
		if p.Type != "table" {
			for _, target := range p.Targets {
				assert.NotEmpty(t, target.LegendFormat, "%q has a nameless line", p.Title)
			}
		}
	}
}

var variable = regexp.MustCompile(`\$\{?(\w+)`)

func TestDashboardNamesSeriesThatExist(t *testing.T) {
	b, c := loadBoard(t), newCatalogue()
	defined := map[string]bool{"__rate_interval": true}
	for name, v := range b.variables(t) {
		defined[name] = true
		e, err := parse(v[0])
		require.NoError(t, err)
		assert.Empty(t, c.check(e), "variable %s: %s", name, v[0])
		assert.Contains(t, c[e.selectors[0].name].labels, v[1], "variable %s", name)
	}
	for _, expr := range b.expressions() {
		for _, v := range variable.FindAllStringSubmatch(expr, -1) {
			assert.True(t, defined[v[1]], "no variable %s, in %s", v[0], expr)
		}
		e, err := parse(expr)
		if assert.NoError(t, err) {
			assert.Empty(t, c.check(e), expr)
		}
	}
}

type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func loadRules(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, rulesFile, &file)
	var rules []rule
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	require.NotEmpty(t, rules)
	return rules
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(data, into))
}

func TestAlertsNameSeriesThatExist(t *testing.T) {
	c := newCatalogue()
	for _, r := range loadRules(t) {
		e, err := parse(r.Expr)
		if assert.NoError(t, err, r.Alert) {
			assert.Empty(t, c.check(e), r.Alert)
		}
	}
}

// Each alert says how bad it is, what it is about and where to begin, and the runbook has its section.
func TestAlertsLeadToTheRunbook(t *testing.T) {
	data, err := os.ReadFile(runbookFile)
	require.NoError(t, err)
	sections := map[string]string{}
	for _, part := range strings.Split(string(data), "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		sections[title] = text
	}
	for _, r := range loadRules(t) {
		assert.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
		assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
		assert.Contains(t, r.Annotations["description"], "irst ", "%s does not say what to check first", r.Alert)
		assert.Equal(t, runbookURL+strings.ToLower(r.Alert), r.Annotations["runbook_url"], r.Alert)
		text, ok := sections[r.Alert]
		if !assert.True(t, ok, "%s has no section in the runbook", r.Alert) {
			continue
		}
		for _, heading := range []string{"### What it means", "### What to look at", "### How to fix it"} {
			assert.Contains(t, text, heading, r.Alert)
		}
	}
}

// What the runbook points to is there: sections, files, and panels, whose titles it sets in italics.
func TestRunbookPointsToWhatExists(t *testing.T) {
	data, err := os.ReadFile(runbookFile)
	require.NoError(t, err)
	text := string(data)
	titles := map[string]bool{}
	for _, p := range loadBoard(t).Panels {
		titles[p.Title] = true
	}
	links := regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1)
	require.NotEmpty(t, links)
	for _, m := range links {
		name, section, ok := strings.Cut(m[1], "#")
		file := runbookFile
		if name != "" {
			file = filepath.Join(filepath.Dir(runbookFile), name)
		}
		if assert.FileExists(t, file) && ok {
			assert.True(t, anchorsOf(t, file)[section], "no section %s", m[1])
		}
	}
	panels := regexp.MustCompile(`[^*]\*([A-Z][^*\n]+)\*[^*]`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(panels), 15)
	for _, m := range panels {
		assert.True(t, titles[m[1]], "no panel %q", m[1])
	}
}

// anchorsOf returns what links to the sections of a page are made of.
func anchorsOf(t *testing.T, page string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(data), -1) {
		anchors[regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"), "")] = true
	}
	return anchors
}

type ruleTest struct {
	Name        string
	InputSeries []struct{ Series string } `yaml:"input_series"`
	Cases       []struct {
		Alertname string
		ExpAlerts []any `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

func loadRuleTests(t *testing.T) []ruleTest {
	t.Helper()
	var file struct{ Tests []ruleTest }
	readYAML(t, ruleTestsFile, &file)
	require.NotEmpty(t, file.Tests)
	return file.Tests
}

// promtool runs the cases; here it is seen that no alert lacks one of either sort, and that where it is silent there is something
// to be silent about: a series that it looks at.
func TestEveryAlertIsTestedBothWays(t *testing.T) {
	fires, silent, looksAt := map[string]bool{}, map[string]bool{}, map[string][]string{}
	for _, r := range loadRules(t) {
		e, err := parse(r.Expr)
		require.NoError(t, err)
		for _, s := range e.selectors {
			looksAt[r.Alert] = append(looksAt[r.Alert], s.name)
		}
	}
	for _, test := range loadRuleTests(t) {
		for _, c := range test.Cases {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
				continue
			}
			for _, in := range test.InputSeries {
				name, _, _ := strings.Cut(in.Series, "{")
				silent[c.Alertname] = silent[c.Alertname] || slices.Contains(looksAt[c.Alertname], name)
			}
		}
	}
	for _, r := range loadRules(t) {
		assert.True(t, fires[r.Alert], "no case in which %s fires", r.Alert)
		assert.True(t, silent[r.Alert], "no case in which %s does not fire", r.Alert)
	}
}

// The series of the cases are those of the exporter, label for label: an alert that joins by a label which is not there would
// pass its own test.
func TestCasesHaveTheExportersSeries(t *testing.T) {
	c := newCatalogue()
	for _, test := range loadRuleTests(t) {
		for _, in := range test.InputSeries {
			e, err := parse(in.Series)
			require.NoError(t, err, test.Name)
			s := e.selectors[0]
			known, ok := c[s.name]
			if assert.True(t, ok, "%s: no series %s", test.Name, s.name) {
				assert.ElementsMatch(t, known.labels, s.matchers, "%s: %s", test.Name, in.Series)
			}
		}
	}
}

// The checks themselves find what they are for.
func TestChecksFindMistakes(t *testing.T) {
	for expr, want := range map[string]string{
		`rate(deltaforge_source_event_total[5m])`:                                              "no series deltaforge_source_event_total",
		`deltaforge_e2e_latency_seconds > 1`:                                                   "no series deltaforge_e2e_latency_seconds",
		`deltaforge_source_lag_seconds{sink="a"}`:                                              "deltaforge_source_lag_seconds has no label sink",
		`deltaforge_api_requests_total{pipeline="a"}`:                                          "has no label pipeline",
		`sum by (source, sinks) (rate(deltaforge_source_events_total[5m]))`:                    "by (sinks): deltaforge_source_events_total has no such label",
		`sum(rate(deltaforge_sink_events_total[5m])) by (source)`:                              "by (source): deltaforge_sink_events_total has no such label",
		`histogram_quantile(0.9, sum by (le, x) (rate(deltaforge_batch_events_bucket[5m])))`:   "by (x)",
		`rate(deltaforge_source_lag_seconds[5m])`:                                              "rate of deltaforge_source_lag_seconds, which is a gauge",
		`deriv(deltaforge_bytes_total[5m])`:                                                    "deriv of deltaforge_bytes_total, which is a counter",
		`deltaforge_source_lag_seconds unless on (instanze) deltaforge_pipeline_status < 1`:    "on (instanze)",
		`{__name__=~"deltaforge_.*"}`:                                                          "a selector without a name",
		`vector(0)`:                                                                            "no series",
		`up == 0 or deltaforge_sink_buffer_bytes / on (sink) deltaforge_sink_buffer_limt_byts`: "no series deltaforge_sink_buffer_limt_byts",
	} {
		e, err := parse(expr)
		if err == nil {
			err = errors.New(strings.Join(newCatalogue().check(e), "; "))
		}
		assert.ErrorContains(t, err, want, expr)
	}
	for _, expr := range []string{
		`time() - max by (pipeline) (deltaforge_last_checkpoint_timestamp_seconds{source=~"a{b}\"(c"} offset 5m) > 1e3`,
		`sum(rate(deltaforge_sink_events_total{sink!~'x'}[5m:1m])) by (sink) or up{job="a"} == 0`,
	} {
		e, err := parse(expr)
		if assert.NoError(t, err, expr) {
			assert.Empty(t, newCatalogue().check(e), expr)
		}
	}
}
