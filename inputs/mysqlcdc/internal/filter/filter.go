// Package filter decides which tables the configuration captures, and knows which databases a server keeps out of its log.
package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// Pattern matches tables: a database and a table name, each with "%" for any characters; "*" alone is "%".
type Pattern struct{ DB, Table string }

// ParsePattern reads db.table, db.*, db.prefix% or %.table.
func ParsePattern(s string) (Pattern, error) {
	db, table, ok := strings.Cut(s, ".")
	if !ok || db == "" || table == "" {
		return Pattern{}, fmt.Errorf("%q: want db.table, db.*, db.prefix%% or %%.table", s)
	}
	p := Pattern{db, table}
	for _, part := range []*string{&p.DB, &p.Table} {
		if *part == "*" {
			*part = "%"
		}
		if strings.Contains(*part, "*") {
			return Pattern{}, fmt.Errorf("%q: * stands for a whole name; want %% for a part of one", s)
		}
	}
	return p, nil
}

func (p Pattern) matches(db, table string) bool {
	return coordinator.MatchName(p.DB, db) && coordinator.MatchName(p.Table, table)
}

// Exact reports that the pattern names one table.
func (p Pattern) Exact() bool { return !strings.Contains(p.DB+p.Table, "%") }

// Filter says which tables are captured: those that an include pattern matches (without one, all) and no exclude pattern.
// System schemas are captured only when a pattern names them in full.
type Filter struct {
	Include, Exclude []Pattern
	// Fold says that the server compares names without case and reports them in lower case (lower_case_table_names).
	Fold bool
}

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
	if f.Include, err = parse("tables.include", include); err != nil {
		return f, err
	}
	f.Exclude, err = parse("tables.exclude", exclude)
	return f, err
}

// Captures reports whether the rows of a table are delivered.
func (f Filter) Captures(db, table string) bool {
	if f.Fold {
		db, table = strings.ToLower(db), strings.ToLower(table)
	}
	any := func(patterns []Pattern, system bool) bool {
		for _, p := range patterns {
			if f.Fold {
				p = Pattern{strings.ToLower(p.DB), strings.ToLower(p.Table)}
			}
			if p.matches(db, table) && (!system || p.DB == db) {
				return true
			}
		}
		return false
	}
	system := catalog.IsSystemSchema(db)
	if len(f.Include) == 0 && system || len(f.Include) > 0 && !any(f.Include, system) {
		return false
	}
	return !any(f.Exclude, false)
}

// CapturesIn reports whether tables of a database may be captured.
func (f Filter) CapturesIn(db string) bool {
	if len(f.Include) == 0 {
		return !catalog.IsSystemSchema(db)
	}
	return slices.ContainsFunc(f.Include, func(p Pattern) bool {
		if f.Fold {
			p, db = Pattern{strings.ToLower(p.DB), p.Table}, strings.ToLower(db)
		}
		return coordinator.MatchName(p.DB, db) && (!catalog.IsSystemSchema(db) || p.DB == db)
	})
}

// String returns the pattern as the configuration may have it.
func (p Pattern) String() string { return p.DB + "." + p.Table }

// Unmatched returns the patterns that match none of the tables.
func (f Filter) Unmatched(patterns []Pattern, tables []statement.TableName) (none []Pattern) {
	for _, p := range patterns {
		one := Filter{Include: []Pattern{p}, Fold: f.Fold}
		if !slices.ContainsFunc(tables, func(n statement.TableName) bool { return one.Captures(n.DB, n.Table) }) {
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
