package mysqlcdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// pattern matches tables: a database and a table name, each with "%" for any characters; "*" alone is "%".
type pattern struct{ db, table string }

func parsePattern(s string) (pattern, error) {
	db, table, ok := strings.Cut(s, ".")
	if !ok || db == "" || table == "" {
		return pattern{}, fmt.Errorf("%q: want db.table, db.*, db.prefix%% or %%.table", s)
	}
	p := pattern{db, table}
	for _, part := range []*string{&p.db, &p.table} {
		if *part == "*" {
			*part = "%"
		}
		if strings.Contains(*part, "*") {
			return pattern{}, fmt.Errorf("%q: * stands for a whole name; want %% for a part of one", s)
		}
	}
	return p, nil
}

func (p pattern) matches(db, table string) bool {
	return coordinator.MatchName(p.db, db) && coordinator.MatchName(p.table, table)
}

// exact reports that the pattern names one table.
func (p pattern) exact() bool { return !strings.Contains(p.db+p.table, "%") }

// tableFilter says which tables are captured: those that an include pattern matches (without one, all) and no exclude pattern.
// System schemas are captured only when a pattern names them in full.
type tableFilter struct {
	include, exclude []pattern
	// fold says that the server compares names without case and reports them in lower case (lower_case_table_names).
	fold bool
}

func newTableFilter(include, exclude []string) (f tableFilter, err error) {
	parse := func(field string, texts []string) (patterns []pattern, err error) {
		for _, s := range texts {
			p, err := parsePattern(s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", field, err)
			}
			patterns = append(patterns, p)
		}
		return patterns, nil
	}
	if f.include, err = parse("tables.include", include); err != nil {
		return f, err
	}
	f.exclude, err = parse("tables.exclude", exclude)
	return f, err
}

func (f tableFilter) captures(db, table string) bool {
	if f.fold {
		db, table = strings.ToLower(db), strings.ToLower(table)
	}
	any := func(patterns []pattern, system bool) bool {
		for _, p := range patterns {
			if f.fold {
				p = pattern{strings.ToLower(p.db), strings.ToLower(p.table)}
			}
			if p.matches(db, table) && (!system || p.db == db) {
				return true
			}
		}
		return false
	}
	system := catalog.IsSystemSchema(db)
	if len(f.include) == 0 && system || len(f.include) > 0 && !any(f.include, system) {
		return false
	}
	return !any(f.exclude, false)
}

// capturesIn reports whether tables of a database may be captured.
func (f tableFilter) capturesIn(db string) bool {
	if len(f.include) == 0 {
		return !catalog.IsSystemSchema(db)
	}
	return slices.ContainsFunc(f.include, func(p pattern) bool {
		if f.fold {
			p, db = pattern{strings.ToLower(p.db), p.table}, strings.ToLower(db)
		}
		return coordinator.MatchName(p.db, db) && (!catalog.IsSystemSchema(db) || p.db == db)
	})
}
