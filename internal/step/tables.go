package step

import (
	"fmt"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

// FieldTables is the field of table patterns.
const FieldTables = "tables"

// TablesField is a list of table patterns: what the rule it stands in is about.
func TablesField(of string) *service.ConfigField {
	return service.NewStringListField(FieldTables).Default([]any{}).LintRule(tablefilter.Rule).
		Description("Patterns of the tables that " + of + ": `database.table`, or `schema.table` for PostgreSQL. Each half may be `*`, or have `%` for any characters. Empty: every table.").
		Example([]string{"shop.orders", "shop.order_%", "*.customers"})
}

// Tables are table patterns.
type Tables []tablefilter.Pattern

// ParseTables reads a list of table patterns.
func ParseTables(conf *service.ParsedConfig, path ...string) (Tables, error) {
	texts, err := conf.FieldStringList(path...)
	if err != nil {
		return nil, err
	}
	var t Tables
	for _, text := range texts {
		p, ok := tablefilter.Parse(text)
		if !ok {
			return nil, fmt.Errorf("%s: want a table pattern such as a.b, a.*, a.prefix%% or %%.b, got %s", path[len(path)-1], text)
		}
		t = append(t, p)
	}
	return t, nil
}

// Match reports whether a table is one of them. Without patterns, every table is.
func (t Tables) Match(table *change.Table) bool {
	for _, p := range t {
		if p.Match(table.Container(), table.Name) {
			return true
		}
	}
	return len(t) == 0
}

// Captures returns what the wildcards of the first pattern that matches a table stand for.
func (t Tables) Captures(table *change.Table) []string {
	for _, p := range t {
		if p.Match(table.Container(), table.Name) {
			return append(captures(p.Container, table.Container()), captures(p.Table, table.Name)...)
		}
	}
	return nil
}

// Wildcards returns how many wildcards every pattern has.
func (t Tables) Wildcards() int {
	least := 0
	for i, p := range t {
		if n := strings.Count(p.Container, "%") + strings.Count(p.Table, "%"); i == 0 || n < least {
			least = n
		}
	}
	return least
}

// captures returns what each % of a pattern stands for in a name that it matches: all but the last as little as possible.
func captures(pattern, name string) (out []string) {
	parts := strings.Split(pattern, "%")
	name = name[len(parts[0]):]
	for i, p := range parts[1:] {
		at := strings.Index(name, p)
		if i == len(parts)-2 {
			at = len(name) - len(p)
		}
		out = append(out, name[:at])
		name = name[at+len(p):]
	}
	return out
}
