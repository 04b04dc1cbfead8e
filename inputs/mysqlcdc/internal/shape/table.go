// Package shape is what a table looks like between two statements, and the shapes of all tables at a place of the log.
package shape

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Table is the shape of a table between two DDL statements. It is immutable: a statement makes a new one.
type Table struct {
	// Collation is the table's default collation.
	Collation string   `json:"collation,omitempty"`
	Columns   []Column `json:"columns"`
	Indexes   []Index  `json:"indexes,omitempty"`
	// Versioned is MariaDB's system versioning.
	Versioned bool `json:"versioned,omitempty"`
	// RowEnd is the column with the end of a row's life, if the table shows one: it belongs to every unique index.
	RowEnd string `json:"row_end,omitempty"`
	// Period are the columns with the ends of MariaDB's period of the application, if a statement has told them.
	Period []string `json:"period,omitempty"`
	// AsOf is set when the shape was read from the catalogue at that position and is not known before it. Statements
	// before it are in the shape already.
	AsOf string `json:"as_of,omitempty"`
	// Unknown says why the columns are not known, where the table is: there are none then.
	Unknown string `json:"unknown,omitempty"`
}

// Index is an index or unique constraint of a table.
type Index struct {
	Name   string `json:"n"`
	Unique bool   `json:"u,omitempty"`
	// Columns are empty when a part of the index is an expression.
	Columns []string `json:"c,omitempty"`
}

// PrimaryIndex is the name that servers give the primary key.
const PrimaryIndex = "PRIMARY"

// Clone returns a copy that may be changed.
func (t *Table) Clone() *Table {
	c := *t
	c.Columns = slices.Clone(t.Columns)
	c.Period = slices.Clone(t.Period)
	c.Indexes = make([]Index, len(t.Indexes))
	for i, ix := range t.Indexes {
		ix.Columns = slices.Clone(ix.Columns)
		c.Indexes[i] = ix
	}
	return &c
}

// Column returns the number of the column of a name, compared without case; -1 for none.
func (t *Table) Column(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
}

// Index returns the number of the index of a name, compared without case; -1 for none.
func (t *Table) Index(name string) int {
	return slices.IndexFunc(t.Indexes, func(ix Index) bool { return strings.EqualFold(ix.Name, name) })
}

// Key returns the columns of the primary key; without one, of the first unique index whose columns are all NOT NULL.
func (t *Table) Key() []string {
	for _, ix := range t.Indexes {
		if ix.Name == PrimaryIndex || ix.Unique && t.NotNull(ix) {
			return ix.Columns
		}
	}
	return nil
}

// NotNull reports an index on columns that are all NOT NULL: a unique one identifies a row.
func (t *Table) NotNull(ix Index) bool {
	for _, name := range ix.Columns {
		if i := t.Column(name); i < 0 || t.Columns[i].Nullable {
			return false
		}
	}
	return len(ix.Columns) > 0
}

// SortIndexes puts the indexes in the order that the server keeps (MySQL source, sort_keys).
func (t *Table) SortIndexes() {
	rank := func(ix Index) int {
		switch {
		case ix.Name == PrimaryIndex:
			return 0
		case ix.Unique && t.NotNull(ix):
			return 1
		case ix.Unique:
			return 2
		default:
			return 3
		}
	}
	slices.SortStableFunc(t.Indexes, func(a, b Index) int { return cmp.Compare(rank(a), rank(b)) })
}

// AddIndex adds an index; an unnamed one is named after its first column.
func (t *Table) AddIndex(ix Index) {
	if ix.Name == PrimaryIndex {
		for _, name := range ix.Columns {
			if i := t.Column(name); i >= 0 {
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
		for n := 2; t.Index(ix.Name) >= 0 || strings.EqualFold(ix.Name, PrimaryIndex); n++ {
			ix.Name = base + "_" + strconv.Itoa(n)
		}
	}
	t.Indexes = append(t.Indexes, ix)
}

// EndUniques adds the end of a row's life to the unique indexes that lack it.
func (t *Table) EndUniques() {
	i := t.Column(t.RowEnd)
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

// SetPeriod remembers the columns of a period, which are never NULL.
func (t *Table) SetPeriod(p *[2]string) {
	if p != nil {
		t.Period = p[:]
	}
	for _, name := range t.Period {
		if i := t.Column(name); i >= 0 {
			t.Columns[i].Nullable = false
		}
	}
}

// ForgetColumn takes a column out of the indexes; an index without columns goes.
func (t *Table) ForgetColumn(name string) {
	t.Indexes = slices.DeleteFunc(t.Indexes, func(ix Index) bool {
		return len(ix.Columns) == 1 && strings.EqualFold(ix.Columns[0], name)
	})
	for i := range t.Indexes {
		ix := &t.Indexes[i]
		ix.Columns = slices.DeleteFunc(ix.Columns, func(c string) bool { return strings.EqualFold(c, name) })
	}
}

// Database is what is known about a database.
type Database struct {
	Collation string `json:"collation,omitempty"`
	// Complete says that all its tables are known; else only those that were made since the history began.
	Complete bool              `json:"complete,omitempty"`
	Tables   map[string]*Table `json:"tables,omitempty"`
	// Prepared are XA transactions by their ids; only the database noDatabase has them.
	Prepared map[string]*Prepared `json:"prepared,omitempty"`
}

// NoDatabase is the name under which a state has what belongs to no database.
const NoDatabase = ""

// Change is a part of what a statement did: a table's new shape, or a whole database.
type Change struct {
	DB string `json:"db"`
	// Table is empty for a change of the database itself.
	Table string `json:"table,omitempty"`
	// Def is the table's shape; nil when the table is gone or not known any more.
	Def *Table `json:"def,omitempty"`
	// Database is the database's new definition without tables; nil when it is gone.
	Database *Database `json:"database,omitempty"`
	// XA is the id of an XA transaction that is prepared, or, when Prepared is nil, has ended; nothing else is set then.
	XA       string    `json:"xa,omitempty"`
	Prepared *Prepared `json:"prepared,omitempty"`
}

// State is the shapes of all tables at one position.
type State map[string]*Database

// Table returns the shape of a table; nil when it is not known.
func (s State) Table(db, table string) *Table {
	if d := s[db]; d != nil {
		return d.Tables[table]
	}
	return nil
}

// Clone copies the state; the tables, which nothing changes, are shared.
func (s State) Clone() State {
	c := make(State, len(s))
	for name, d := range s {
		n := &Database{
			Collation: d.Collation, Complete: d.Complete, Tables: make(map[string]*Table, len(d.Tables)), Prepared: maps.Clone(d.Prepared),
		}
		maps.Copy(n.Tables, d.Tables)
		c[name] = n
	}
	return c
}

// Apply changes the state. The shapes in it stay as they are: changes bring others.
func (s State) Apply(changes []Change) {
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
			d = &Database{Tables: map[string]*Table{}}
			s[c.DB] = d
		}
		switch {
		case c.Table == "":
			d.Collation, d.Complete = c.Database.Collation, c.Database.Complete
		case c.Def == nil:
			delete(d.Tables, c.Table)
		default:
			if d.Tables == nil {
				d.Tables = map[string]*Table{}
			}
			d.Tables[c.Table] = c.Def
		}
	}
}

// AddIndexPart adds a column to an index that comes in parts; no column is an expression.
func (t *Table) AddIndexPart(index string, unique bool, column string) {
	i := t.Index(index)
	switch {
	case i < 0 && column == "":
		t.Indexes = append(t.Indexes, Index{Name: index, Unique: unique})
	case i < 0:
		t.Indexes = append(t.Indexes, Index{Name: index, Unique: unique, Columns: []string{column}})
	case column == "" || len(t.Indexes[i].Columns) == 0:
		t.Indexes[i].Columns = nil
	default:
		t.Indexes[i].Columns = append(t.Indexes[i].Columns, column)
	}
}

// RenameInIndexes renames columns in the indexes, all at once; the names are pairs of an old one and a new one.
func (t *Table) RenameInIndexes(pairs []string) {
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

// DropIndex takes the index of a name away, if it is there.
func (t *Table) DropIndex(name string) {
	if i := t.Index(name); i >= 0 {
		t.Indexes = slices.Delete(t.Indexes, i, i+1)
	}
}
