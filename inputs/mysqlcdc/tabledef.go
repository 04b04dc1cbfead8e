package mysqlcdc

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// tableDef is the shape of a table between two DDL statements. It is immutable: a statement makes a new one.
type tableDef struct {
	// Collation is the table's default collation.
	Collation string      `json:"collation,omitempty"`
	Columns   []columnDef `json:"columns"`
	Indexes   []indexDef  `json:"indexes,omitempty"`
	// Versioned is MariaDB's system versioning.
	Versioned bool `json:"versioned,omitempty"`
	// RowEnd is the column with the end of a row's life, if the table shows one: it belongs to every unique index.
	RowEnd string `json:"row_end,omitempty"`
	// Period are the columns with the ends of MariaDB's period of the application, if a statement has told them.
	Period []string `json:"period,omitempty"`
	// AsOf is set when the shape was read from the catalogue at that position and is not known before it. Statements
	// before it are in the shape already.
	AsOf string `json:"as_of,omitempty"`
}

type indexDef struct {
	Name   string `json:"n"`
	Unique bool   `json:"u,omitempty"`
	// Columns are empty when a part of the index is an expression.
	Columns []string `json:"c,omitempty"`
}

const primaryIndex = "PRIMARY"

func (t *tableDef) clone() *tableDef {
	c := *t
	c.Columns = slices.Clone(t.Columns)
	c.Period = slices.Clone(t.Period)
	c.Indexes = make([]indexDef, len(t.Indexes))
	for i, ix := range t.Indexes {
		ix.Columns = slices.Clone(ix.Columns)
		c.Indexes[i] = ix
	}
	return &c
}

func (t *tableDef) column(name string) int {
	return slices.IndexFunc(t.Columns, func(c columnDef) bool { return strings.EqualFold(c.Name, name) })
}

func (t *tableDef) index(name string) int {
	return slices.IndexFunc(t.Indexes, func(ix indexDef) bool { return strings.EqualFold(ix.Name, name) })
}

// key returns the columns of the primary key; without one, of the first unique index whose columns are all NOT NULL.
func (t *tableDef) key() []string {
	for _, ix := range t.Indexes {
		if ix.Name == primaryIndex || ix.Unique && t.notNull(ix) {
			return ix.Columns
		}
	}
	return nil
}

func (t *tableDef) notNull(ix indexDef) bool {
	for _, name := range ix.Columns {
		if i := t.column(name); i < 0 || t.Columns[i].Nullable {
			return false
		}
	}
	return len(ix.Columns) > 0
}

// sortIndexes puts the indexes in the order that the server keeps (MySQL source, sort_keys).
func (t *tableDef) sortIndexes() {
	rank := func(ix indexDef) int {
		switch {
		case ix.Name == primaryIndex:
			return 0
		case ix.Unique && t.notNull(ix):
			return 1
		case ix.Unique:
			return 2
		default:
			return 3
		}
	}
	slices.SortStableFunc(t.Indexes, func(a, b indexDef) int { return cmp.Compare(rank(a), rank(b)) })
}

// addIndex adds an index; an unnamed one is named after its first column.
func (t *tableDef) addIndex(ix indexDef) {
	if ix.Name == primaryIndex {
		for _, name := range ix.Columns {
			if i := t.column(name); i >= 0 {
				t.Columns[i].Nullable = false
			}
		}
	}
	if ix.Name == "" {
		base := "functional_index"
		if len(ix.Columns) > 0 {
			base = ix.Columns[0]
		}
		ix.Name = base
		for n := 2; t.index(ix.Name) >= 0 || strings.EqualFold(ix.Name, primaryIndex); n++ {
			ix.Name = base + "_" + strconv.Itoa(n)
		}
	}
	t.Indexes = append(t.Indexes, ix)
}

// endUniques adds the end of a row's life to the unique indexes that lack it.
func (t *tableDef) endUniques() {
	i := t.column(t.RowEnd)
	if i < 0 {
		t.RowEnd = ""
		return
	}
	if !t.Versioned {
		return
	}
	for n := range t.Indexes {
		if ix := &t.Indexes[n]; ix.Unique && !slices.ContainsFunc(ix.Columns, func(c string) bool { return strings.EqualFold(c, t.RowEnd) }) {
			ix.Columns = append(ix.Columns, t.Columns[i].Name)
		}
	}
}

// setPeriod remembers the columns of a period, which are never NULL.
func (t *tableDef) setPeriod(p *[2]string) {
	if p != nil {
		t.Period = p[:]
	}
	for _, name := range t.Period {
		if i := t.column(name); i >= 0 {
			t.Columns[i].Nullable = false
		}
	}
}

// forgetColumn takes a column out of the indexes; an index without columns goes.
func (t *tableDef) forgetColumn(name string) {
	t.Indexes = slices.DeleteFunc(t.Indexes, func(ix indexDef) bool {
		return len(ix.Columns) == 1 && strings.EqualFold(ix.Columns[0], name)
	})
	for i := range t.Indexes {
		ix := &t.Indexes[i]
		ix.Columns = slices.DeleteFunc(ix.Columns, func(c string) bool { return strings.EqualFold(c, name) })
	}
}

// databaseDef is what is known about a database.
type databaseDef struct {
	Collation string `json:"collation,omitempty"`
	// Complete says that all its tables are known; else only those that were made since the history began.
	Complete bool                 `json:"complete,omitempty"`
	Tables   map[string]*tableDef `json:"tables,omitempty"`
	// Prepared are XA transactions by their ids; only the database noDatabase has them.
	Prepared map[string]*xaPrepared `json:"prepared,omitempty"`
}

// noDatabase is the name under which a state has what belongs to no database.
const noDatabase = ""

// schemaChange is a part of what a statement did: a table's new shape, or a whole database.
type schemaChange struct {
	DB string `json:"db"`
	// Table is empty for a change of the database itself.
	Table string `json:"table,omitempty"`
	// Def is the table's shape; nil when the table is gone or not known any more.
	Def *tableDef `json:"def,omitempty"`
	// Database is the database's new definition without tables; nil when it is gone.
	Database *databaseDef `json:"database,omitempty"`
	// XA is the id of an XA transaction that is prepared, or, when Prepared is nil, has ended; nothing else is set then.
	XA       string      `json:"xa,omitempty"`
	Prepared *xaPrepared `json:"prepared,omitempty"`
}

// schemaState is the shapes of all tables at one position.
type schemaState map[string]*databaseDef

func (s schemaState) table(db, table string) *tableDef {
	if d := s[db]; d != nil {
		return d.Tables[table]
	}
	return nil
}

// clone copies the state; the tables, which nothing changes, are shared.
func (s schemaState) clone() schemaState {
	c := make(schemaState, len(s))
	for name, d := range s {
		n := &databaseDef{
			Collation: d.Collation, Complete: d.Complete, Tables: make(map[string]*tableDef, len(d.Tables)), Prepared: maps.Clone(d.Prepared),
		}
		maps.Copy(n.Tables, d.Tables)
		c[name] = n
	}
	return c
}

func (s schemaState) apply(changes []schemaChange) {
	for _, c := range changes {
		d := s[c.DB]
		switch {
		case c.XA != "":
			s.applyXA(c)
			continue
		case c.Table == "" && c.Database == nil:
			delete(s, c.DB)
			continue
		case d == nil:
			d = &databaseDef{Tables: map[string]*tableDef{}}
			s[c.DB] = d
		}
		switch {
		case c.Table == "":
			d.Collation, d.Complete = c.Database.Collation, c.Database.Complete
		case c.Def == nil:
			delete(d.Tables, c.Table)
		default:
			if d.Tables == nil {
				d.Tables = map[string]*tableDef{}
			}
			d.Tables[c.Table] = c.Def
		}
	}
}

// addIndexPart adds a column to an index that comes in parts; no column is an expression.
func (t *tableDef) addIndexPart(index string, unique bool, column string) {
	i := t.index(index)
	switch {
	case i < 0 && column == "":
		t.Indexes = append(t.Indexes, indexDef{Name: index, Unique: unique})
	case i < 0:
		t.Indexes = append(t.Indexes, indexDef{Name: index, Unique: unique, Columns: []string{column}})
	case column == "" || len(t.Indexes[i].Columns) == 0:
		t.Indexes[i].Columns = nil
	default:
		t.Indexes[i].Columns = append(t.Indexes[i].Columns, column)
	}
}

func (t *tableDef) renameInIndexes(pairs []string) {
	if len(pairs) == 0 {
		return
	}
	for i := range t.Indexes {
		for j, name := range t.Indexes[i].Columns {
			for k := 0; k < len(pairs); k += 2 {
				if strings.EqualFold(name, pairs[k]) {
					t.Indexes[i].Columns[j] = pairs[k+1]
					break
				}
			}
		}
	}
}

func (t *tableDef) dropIndex(name string) {
	if i := t.index(name); i >= 0 {
		t.Indexes = slices.Delete(t.Indexes, i, i+1)
	}
}
