package step

import (
	"fmt"

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
