package postgrescdc

import (
	"fmt"
	"strings"

	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// tableFilter chooses tables by name.
type tableFilter struct {
	include, exclude []pattern
}

// pattern is "schema.table"; each half is a name in which % stands for anything, or * alone.
type pattern struct{ schema, table string }

func parsePatterns(field string, list []string) ([]pattern, error) {
	out := make([]pattern, 0, len(list))
	for _, s := range list {
		schema, table, ok := strings.Cut(s, ".")
		if !ok || schema == "" || table == "" {
			return nil, fmt.Errorf("%s: want schema.table, schema.*, schema.prefix%% or %%.table, got %q", field, s)
		}
		out = append(out, pattern{wildcard(schema), wildcard(table)})
	}
	return out, nil
}

func wildcard(s string) string {
	if s == "*" {
		return "%"
	}
	return s
}

// match reports whether the table is captured. System schemas never are.
func (f *tableFilter) match(schema, table string) bool {
	if schema == "information_schema" || strings.HasPrefix(schema, "pg_") {
		return false
	}
	return (len(f.include) == 0 || matchAny(f.include, schema, table)) && !matchAny(f.exclude, schema, table)
}

// everything reports whether the patterns choose all tables, those that do not exist yet included.
func (f *tableFilter) everything() bool {
	if len(f.exclude) > 0 {
		return false
	}
	for _, p := range f.include {
		if p.schema == "%" && p.table == "%" {
			return true
		}
	}
	return len(f.include) == 0
}

func matchAny(list []pattern, schema, table string) bool {
	for _, p := range list {
		if coordinator.MatchName(p.schema, schema) && coordinator.MatchName(p.table, table) {
			return true
		}
	}
	return false
}

// quoteIdent quotes a name for SQL.
func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteLiteral quotes a string for SQL, and for the options of the replication commands.
func quoteLiteral(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// tableName is a table's full name.
type tableName struct{ schema, name string }

func (t tableName) String() string { return t.schema + "." + t.name }

func (t tableName) sql() string { return quoteIdent(t.schema) + "." + quoteIdent(t.name) }

func sqlList(tables []tableName) string {
	var b strings.Builder
	for i, t := range tables {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(t.sql())
	}
	return b.String()
}
