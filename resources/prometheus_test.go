package resources

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv/prom"
)

func TestRulesAndConfigurationAreValid(t *testing.T) {
	out, err := prom.Tool(t, "", "check", "rules", "--lint=all", "--lint-fatal", rulesFile)
	require.NoError(t, err, out)
	out, err = prom.Tool(t, "", "check", "config", "--lint=all", "--lint-fatal", configFile)
	require.NoError(t, err, out)
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	out, err := prom.Tool(t, "", "test", "rules", ruleTestsFile)
	require.NoError(t, err, out)
}

// A rule that is changed in any of its bounds fails its cases: they hold the rule, and not only its name.
func TestCasesHoldEveryBound(t *testing.T) {
	data, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	rules := string(data)
	// All variants are one run of promtool, which says of each file whether its cases pass.
	var files []string
	variants := map[string]string{} // file to what was changed; "" for the rules as they are
	add := func(alert, rules, what string) {
		dir := t.TempDir()
		file := filepath.Join(dir, "cases.yaml")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), []byte(rules), 0o600))
		require.NoError(t, os.WriteFile(file, casesOf(t, alert), 0o600))
		files, variants[file] = append(files, file), what
	}
	checked := map[string]bool{}
	// A bound is a comparison with a number, or a time.
	for _, at := range regexp.MustCompile(`(?:[<>]|==) -?([0-9.]+)|for: ([0-9]+)m`).FindAllStringSubmatchIndex(rules, -1) {
		from, to := max(at[2], at[4]), max(at[3], at[5])
		_, alert, _ := strings.Cut(rules[:from][strings.LastIndex(rules[:from], "- alert: "):], ": ")
		alert, _, _ = strings.Cut(alert, "\n")
		if !checked[alert] {
			checked[alert] = true
			add(alert, rules, "")
		}
		for _, other := range []string{"0", "54321"} {
			if rules[from:to] != other {
				add(alert, rules[:from]+other+rules[to:], fmt.Sprintf("%s could be %s in …%s", alert, other, rules[max(0, from-60):to]))
			}
		}
	}
	require.Len(t, checked, len(loadRules(t)))
	out, err := prom.Tool(t, "", append([]string{"test", "rules"}, files...)...)
	require.Error(t, err)
	answers := regexp.MustCompile(`(?m)^Unit Testing:\s+(\S+)\n\s+(SUCCESS|FAILED)`).FindAllStringSubmatch(out, -1)
	require.Len(t, answers, len(files))
	for _, a := range answers {
		what := variants[a[1]]
		assert.Equal(t, what == "", a[2] == "SUCCESS", "%s %s", a[1], what)
	}
}

// casesOf returns the cases of one alert.
func casesOf(t *testing.T, alert string) []byte {
	t.Helper()
	var file struct {
		RuleFiles          []string         `json:"rule_files" yaml:"rule_files"`
		EvaluationInterval string           `json:"evaluation_interval" yaml:"evaluation_interval"`
		Tests              []map[string]any `json:"tests"`
	}
	readYAML(t, ruleTestsFile, &file)
	file.Tests = slices.DeleteFunc(file.Tests, func(test map[string]any) bool {
		return !strings.Contains(fmt.Sprint(test["alert_rule_test"]), "alertname:"+alert+" ")
	})
	require.NotEmpty(t, file.Tests, alert)
	data, err := json.Marshal(file) // JSON is YAML
	require.NoError(t, err)
	return data
}

// The syntax of the dashboard's expressions is checked as that of recording rules, which are expressions with a name.
func TestDashboardExpressionsParse(t *testing.T) {
	out, err := prom.Tool(t, "", "check", "rules", recordingRules(t, loadBoard(t).expressions()))
	require.NoError(t, err, out)
	out, err = prom.Tool(t, "", "check", "rules", recordingRules(t, []string{"sum by (a (b)"}))
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
		rules[i] = recording{fmt.Sprintf("expression_%d", i), prom.Choose(expr, ".*")}
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
