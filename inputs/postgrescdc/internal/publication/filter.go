// Package publication works out which tables a source captures, and what its publication has to be for that without the server
// refusing any write of an application.
package publication

import (
	"fmt"
	"strings"

	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

// Name is a table's full name.
type Name struct{ Schema, Table string }

func (n Name) String() string { return n.Schema + "." + n.Table }

// SQL returns the name as statements have it.
func (n Name) SQL() string { return Ident(n.Schema) + "." + Ident(n.Table) }

// Ident quotes a name for SQL.
func Ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Literal quotes a string for SQL, and for the options of the replication commands.
func Literal(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// Filter chooses tables by name. Those of system schemas never are.
type Filter struct{ tablefilter.Filter }

// Pattern is "schema.table".
type Pattern = tablefilter.Pattern

// ParsePatterns reads the patterns of a field.
func ParsePatterns(field string, list []string) ([]Pattern, error) {
	out := make([]Pattern, 0, len(list))
	for _, s := range list {
		p, ok := tablefilter.Parse(s)
		if !ok {
			return nil, fmt.Errorf("%s: want schema.table, schema.*, schema.prefix%% or %%.table, got %q", field, s)
		}
		out = append(out, p)
	}
	return out, nil
}

// system reports whether a schema is one that is never captured.
func system(schema string) bool {
	return schema == "information_schema" || strings.HasPrefix(schema, "pg_")
}

// Match reports whether the table is captured.
func (f *Filter) Match(schema, table string) bool {
	return !system(schema) && f.Filter.Match(schema, table)
}

// Unmatched says, for each pattern of tables to include that captures no table, what is wrong with it.
func (f *Filter) Unmatched(tables []Table) (texts []string) {
	for _, p := range f.Include {
		found, captured := false, false
		for i := range tables {
			if p.Match(tables[i].Schema, tables[i].Table) {
				found = true
				captured = captured || f.Match(tables[i].Schema, tables[i].Table)
			}
		}
		switch {
		case captured:
		case system(p.Container):
			texts = append(texts, fmt.Sprintf("%s: tables of the schema %s are never captured", p, p.Container))
		case found:
			texts = append(texts, fmt.Sprintf("%s: every table that matches is left out by tables.exclude", p))
		case strings.Contains(p.Container+p.Table, "*"):
			texts = append(texts, fmt.Sprintf("%s: no table matches: inside of a name, %% stands for any characters, and * for itself: write %s", p,
				strings.ReplaceAll(p.String(), "*", "%")))
		case strings.Contains(p.Container+p.Table, "%"):
			texts = append(texts, fmt.Sprintf("%s: no table matches: correct the pattern, or make a table", p))
		default:
			texts = append(texts, fmt.Sprintf("there is no table %s: correct its name, or make it", p))
		}
	}
	return texts
}

// Choose returns the tables that match. A partition is left out when a table above it matches: its rows appear under that one.
func (f *Filter) Choose(all []Table) []Table {
	matched := map[uint32]bool{}
	for i := range all {
		matched[all[i].OID] = f.Match(all[i].Schema, all[i].Table)
	}
	var out []Table
next:
	for i := range all {
		if !matched[all[i].OID] {
			continue
		}
		for _, a := range all[i].Ancestors {
			if matched[a] {
				continue next
			}
		}
		out = append(out, all[i])
	}
	return out
}

// whole returns what is captured as a whole, tables that do not exist yet included: everything, or the schemas of patterns such as
// shop.*. With anything to leave out it is nothing.
func (f *Filter) whole() (everything bool, schemas []string) {
	if len(f.Exclude) > 0 {
		return false, nil
	}
	for _, p := range f.Include {
		switch {
		case p.Table != "%":
		case p.Container == "%":
			return true, nil
		case !strings.ContainsAny(p.Container, "%*"):
			schemas = append(schemas, p.Container)
		}
	}
	return len(f.Include) == 0, schemas
}
