package resources

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/metrics"
)

// selector is one use of a series in an expression.
type selector struct {
	name     string
	matchers []string // labels
	pos      int
	function string // what is applied to it directly; "" for nothing
	ranged   bool   // has [duration]
}

// grouping is by, without, on, ignoring, group_left or group_right, with its labels.
type grouping struct {
	word     string
	labels   []string
	from, to int // the part of the expression whose series have to have the labels
}

// expression is what this package knows of a PromQL expression that promtool has found to be correct.
type expression struct {
	text      string
	selectors []selector
	groupings []grouping
}

var (
	token = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`|\\$?[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9.]+[a-zA-Z0-9.+]*|\\S")
	word  = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	// Words of the language that are neither functions nor series.
	operators  = []string{"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"} //nolint:gochecknoglobals // a constant
	groupWords = []string{"by", "without", "on", "ignoring", "group_left", "group_right"} //nolint:gochecknoglobals // a constant
)

type lexeme struct {
	text string
	pos  int
}

// parse finds the series and groupings of an expression.
func parse(text string) (expression, error) {
	e := expression{text: text}
	var toks []lexeme
	for _, at := range token.FindAllStringIndex(text, -1) {
		toks = append(toks, lexeme{text[at[0]:at[1]], at[0]})
	}
	at := func(i int) string {
		if i < 0 || i >= len(toks) {
			return ""
		}
		return toks[i].text
	}
	for i := 0; i < len(toks); i++ {
		switch t := toks[i].text; {
		case t == "[": // a range, or a subquery
			for at(i) != "]" && i < len(toks) {
				i++
			}
		case t == "{":
			return e, fmt.Errorf("a selector without a name at %q", text[toks[i].pos:])
		case slices.Contains(groupWords, strings.ToLower(t)):
			g := grouping{word: strings.ToLower(t), to: len(text)}
			end := closing(toks, i+1)
			for _, l := range toks[i+1 : end+1] {
				if word.MatchString(l.text) {
					g.labels = append(g.labels, l.text)
				}
			}
			if g.word == "by" || g.word == "without" {
				g.from, g.to = operand(toks, i, end)
			}
			e.groupings = append(e.groupings, g)
			i = end
		case !word.MatchString(t) || slices.Contains(operators, strings.ToLower(t)) || at(i+1) == "(":
		case slices.Contains(groupWords, strings.ToLower(at(i+1))): // an aggregation: sum by (…)
		default:
			s := selector{name: t, pos: toks[i].pos}
			if at(i-1) == "(" && word.MatchString(at(i-2)) {
				s.function = at(i - 2)
			}
			if at(i+1) == "{" {
				for i += 2; i < len(toks) && toks[i].text != "}"; i++ {
					if word.MatchString(toks[i].text) && at(i+1) != "}" && (at(i-1) == "{" || at(i-1) == ",") {
						s.matchers = append(s.matchers, toks[i].text)
					}
				}
			}
			s.ranged = at(i+1) == "["
			e.selectors = append(e.selectors, s)
		}
	}
	if len(e.selectors) == 0 {
		return e, fmt.Errorf("no series in %q", text)
	}
	return e, nil
}

// closing returns the index of the parenthesis that closes the one at open.
func closing(toks []lexeme, open int) int {
	depth := 0
	for i := open; i < len(toks); i++ {
		switch toks[i].text {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth <= 0 {
			return i
		}
	}
	return len(toks) - 1
}

// operand returns the extent of what an aggregation works on: after its labels, or before the word.
func operand(toks []lexeme, word, end int) (from, to int) {
	if end+1 < len(toks) && toks[end+1].text == "(" {
		return toks[end+1].pos, toks[closing(toks, end+1)].pos
	}
	depth := 0
	for i := word - 1; i >= 0; i-- {
		switch toks[i].text {
		case ")":
			depth++
		case "(":
			depth--
		}
		if depth == 0 {
			return toks[i].pos, toks[word].pos
		}
	}
	return 0, toks[word].pos
}

// catalogue is every series that an expression may name.
type catalogue map[string]known

type known struct {
	kind   string
	labels []string
}

func newCatalogue() catalogue {
	target := []string{"instance", "job"}
	c := catalogue{
		"up":                            {"gauge", target},
		"process_cpu_seconds_total":     {"counter", target},
		"process_resident_memory_bytes": {"gauge", target},
		"ALERTS":                        {"gauge", append([]string{"alertname", "alertstate", "severity", "pipeline", "tenant"}, target...)},
	}
	for _, s := range metrics.AllSeries() {
		labels := slices.Concat(s.Labels, target)
		if s.Type != "histogram" {
			c[s.Name] = known{s.Type, labels}
			continue
		}
		c[s.Name+"_bucket"] = known{"counter", append(slices.Clone(labels), "le")}
		c[s.Name+"_sum"] = known{"counter", labels}
		c[s.Name+"_count"] = known{"counter", labels}
	}
	return c
}

// check returns what is wrong with the series and labels of an expression.
func (c catalogue) check(e expression) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, s := range e.selectors {
		k, ok := c[s.name]
		if !ok {
			complain("the exporter has no series %s", s.name)
			continue
		}
		for _, label := range s.matchers {
			if !slices.Contains(k.labels, label) {
				complain("%s has no label %s", s.name, label)
			}
		}
		counts := slices.Contains([]string{"rate", "irate", "increase", "resets"}, s.function)
		moves := slices.Contains([]string{"deriv", "delta", "idelta", "predict_linear"}, s.function)
		if counts && k.kind != "counter" || moves && k.kind != "gauge" {
			complain("%s of %s, which is a %s", s.function, s.name, k.kind)
		}
	}
	for _, g := range e.groupings {
		wrong = append(wrong, c.checkGrouping(e, g)...)
	}
	return wrong
}

// checkGrouping wants the labels of by in every series that is aggregated, and those of a match between two sides in one
// of the expression's series at least.
func (c catalogue) checkGrouping(e expression, g grouping) []string {
	var wrong []string
	for _, label := range g.labels {
		found := false
		for _, s := range e.selectors {
			if s.pos < g.from || s.pos > g.to {
				continue
			}
			has := slices.Contains(c[s.name].labels, label)
			found = found || has
			if !has && (g.word == "by" || g.word == "without") {
				wrong = append(wrong, fmt.Sprintf("%s (%s): %s has no such label", g.word, label, s.name))
			}
		}
		if !found {
			wrong = append(wrong, fmt.Sprintf("%s (%s): no series of the expression has that label", g.word, label))
		}
	}
	return wrong
}
