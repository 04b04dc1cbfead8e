// Package filter decides which tables the configuration captures, and knows which databases a server keeps out of its log.
package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

// Pattern matches tables: a database and a table name.
type Pattern = tablefilter.Pattern

// ParsePattern reads db.table, db.*, db.prefix% or %.table.
func ParsePattern(s string) (Pattern, error) {
	p, ok := tablefilter.Parse(s)
	switch {
	case !ok:
		return p, fmt.Errorf("%q: want db.table, db.*, db.prefix%% or %%.table", s)
	case strings.Contains(p.Container+p.Table, "*"):
		return p, fmt.Errorf("%q: * stands for a whole name; want %% for a part of one", s)
	}
	return p, nil
}

// ParseKeys reads the columns that are a table's key, by table: db.table to "a, b". An error begins with what follows the name of the field.
func ParseKeys(keys map[string]string) (map[string][]string, error) {
	all := map[string][]string{}
	for table, columns := range keys {
		p, err := ParsePattern(table)
		if err != nil || !p.Exact() {
			return nil, fmt.Errorf(": %q: want a table as db.table", table)
		}
		for col := range strings.SplitSeq(columns, ",") {
			if col = strings.TrimSpace(col); col == "" {
				return nil, fmt.Errorf(".%s: want columns separated by commas, got %q", table, columns)
			}
			all[table] = append(all[table], col)
		}
	}
	return all, nil
}

// Filter says which tables are captured. System schemas are captured only when a pattern names them in full.
type Filter struct{ tablefilter.Filter }

// New returns the filter of the patterns that the configuration includes and excludes.
func New(include, exclude []string) (f Filter, err error) {
	parse := func(field string, texts []string) (patterns []Pattern, err error) {
		for _, s := range texts {
			p, err := ParsePattern(s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", field, err)
			}
			patterns = append(patterns, p)
		}
		return patterns, nil
	}
	f.System, f.SystemNamed = catalog.IsSystemSchema, true
	if f.Include, err = parse("tables.include", include); err != nil {
		return f, err
	}
	f.Exclude, err = parse("tables.exclude", exclude)
	return f, err
}

// Unmatched returns the patterns that match none of the tables.
func (f Filter) Unmatched(patterns []Pattern, tables []statement.TableName) (none []Pattern) {
	for _, p := range patterns {
		one := f.Filter
		one.Include, one.Exclude = []Pattern{p}, nil
		if !slices.ContainsFunc(tables, func(n statement.TableName) bool { return one.Match(n.DB, n.Table) }) {
			none = append(none, p)
		}
	}
	return none
}

// Withheld is what a server leaves out of its log: its options binlog-do-db and binlog-ignore-db.
type Withheld struct{ do, ignore []string }

// ParseWithheld reads the options as a server prints them: names with commas between them.
func ParseWithheld(do, ignore string) (w Withheld) {
	list := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
	}
	return Withheld{list(do), list(ignore)}
}

// Has reports a database whose changes are left out.
func (w Withheld) Has(db string) bool {
	if len(w.do) > 0 {
		return !slices.Contains(w.do, db)
	}
	return slices.Contains(w.ignore, db)
}

func (w Withheld) String() string {
	if len(w.do) > 0 {
		return "binlog-do-db = " + strings.Join(w.do, ", ")
	}
	return "binlog-ignore-db = " + strings.Join(w.ignore, ", ")
}
