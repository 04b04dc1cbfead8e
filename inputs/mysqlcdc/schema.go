package mysqlcdc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// schemas makes shapes for decoding out of the table maps of the captured tables and what the history knows about the tables. Each
// is checked against the other. Where the server puts names into the table maps (binlog_row_metadata=FULL) those win, and mend the
// history. It belongs to the reading goroutine.
type schemas struct {
	source  *change.Source
	catalog *catalog
	// definition returns what the history says about a table, nil for nothing; define corrects that.
	definition func(ctx context.Context, db, table string) (*tableDef, error)
	define     func(db, table string, def *tableDef)
	// warn logs that the history had to be corrected.
	warn     func(format string, args ...any)
	flavor   string
	keys     map[string][]string // from the configuration
	charsets charsetInfo
	values   valueOptions
	// changed is called with the table's name when its shape is another one than before.
	changed func(table string)

	charsetDecoders map[string]*charset
	known           map[string]*knownShape
}

type knownShape struct {
	body  []byte // of the table map that it was resolved for
	shape *shape
	stale bool
}

// forget makes every shape be resolved again: a statement may have changed any of them.
func (s *schemas) forget() {
	for _, k := range s.known {
		k.stale = true
	}
}

// resolve returns the shape for rows events behind a table map. The place is for errors.
func (s *schemas) resolve(ctx context.Context, m *tableMap, place string) (*shape, error) {
	name := m.name()
	k := s.known[name]
	if k != nil && !k.stale && bytes.Equal(k.body, m.body) {
		return k.shape, nil
	}
	sh, err := s.build(ctx, m)
	if err != nil {
		return nil, coordinator.WithTable(name, fmt.Errorf("shape of table %s at %s: %w", name, place, err))
	}
	if k != nil {
		if k.shape.table.Fingerprint() == sh.table.Fingerprint() {
			sh.table = k.shape.table // equal tables share their metadata templates
		} else {
			s.changed(name)
		}
	}
	if s.known == nil {
		s.known = map[string]*knownShape{}
	}
	s.known[name] = &knownShape{body: bytes.Clone(m.body), shape: sh}
	return sh, nil
}

// lastSeen returns the table of a name as its rows were last seen; nil when there were none since its shape may have changed.
func (s *schemas) lastSeen(name string) *change.Table {
	if k := s.known[name]; k != nil && !k.stale {
		return k.shape.table
	}
	return nil
}

func (s *schemas) build(ctx context.Context, m *tableMap) (*shape, error) {
	meta, err := m.parseMetadata(s.flavor)
	if err != nil {
		return nil, coordinator.WithKind(coordinator.KindProtocol, err)
	}
	sh := &shape{
		columns: make([]column, len(m.types)),
		table:   &change.Table{Source: s.source, Database: m.db, Name: m.table, Columns: make([]change.Column, len(m.types))},
	}
	for i := range m.types {
		sh.columns[i].typ, sh.columns[i].meta = realType(m.types[i], m.metas[i])
		sh.columns[i].unsigned = meta.columns[i].unsigned
		sh.table.Columns[i].Nullable = isSet(m.nullable, i)
	}
	def, err := s.definition(ctx, m.db, m.table)
	if err != nil {
		return nil, err
	}
	err = s.fromHistory(ctx, def, m, meta, sh)
	if err != nil && meta.full {
		if def != nil {
			s.warn("Table %s is another one than the schema history says, and is taken as the log has it: %v", m.name(), err)
		}
		def, err = s.repair(ctx, def, m, meta, sh)
	}
	if err != nil {
		return nil, err
	}
	var logged []int
	if meta.full {
		logged = meta.key
	}
	return sh, s.setKey(logged, def, sh.table)
}

// fromMetadata fills the shape from what the table map says.
func (s *schemas) fromMetadata(ctx context.Context, def *tableDef, meta *tableMeta, sh *shape) error {
	var err error
	declared := declaredTypes(def)
	for i := range sh.columns {
		c, mc := &sh.columns[i], &meta.columns[i]
		col := &sh.table.Columns[i]
		col.Name = mc.name
		width := 1
		if mc.collation != 0 && mc.collation != binaryCollation && (isCharacter(c.typ, s.flavor) || isEnumOrSet(c.typ, "")) &&
			c.typ != mysql.MYSQL_TYPE_GEOMETRY {
			cs, ok := s.charsets.collations[mc.collation]
			if !ok {
				return coordinator.WithKind(coordinator.KindSchema,
					fmt.Errorf("column %s: the server does not list collation %d", mc.name, mc.collation))
			}
			if c.text, err = s.charset(ctx, cs); err != nil {
				return err
			}
			width = max(s.charsets.widths[cs], 1)
		}
		for _, label := range mc.labels {
			if c.text != nil {
				if label, _, err = c.text.decode(nil, label); err != nil {
					return coordinator.WithKind(coordinator.KindSchema, fmt.Errorf("column %s: label %q: %w", mc.name, label, err))
				}
			}
			c.labels = append(c.labels, bytes.Clone(label))
		}
		col.Type = c.typeText(width)
		refine(c, col, declared[mc.name])
		s.finish(c, col)
	}
	return nil
}

// finish derives what both ways have in common.
func (s *schemas) finish(c *column, col *change.Column) {
	if c.typ == mysql.MYSQL_TYPE_STRING && c.text == nil {
		c.pad = int(c.meta)
		c.packed = packedType(c, col.Type)
	}
	col.Type, _, _ = strings.Cut(col.Type, " /*M!") // how MariaDB shows that a column is compressed
	if isEnumOrSet(c.typ, "") {
		c.text = nil // labels are UTF-8 by now
	}
	col.Logical, col.Precision, col.Scale = c.logical()
	switch {
	case c.packed == packedUUID:
		col.Logical = change.LogicalUUID
	case c.packed != packedNone:
		col.Logical = change.LogicalText
	case c.typ == mysql.MYSQL_TYPE_VECTOR:
		col.Parts = []change.Column{{Type: "float", Logical: change.LogicalFloat32}}
	}
	s.values.apply(c, col)
}

func (s *schemas) charset(ctx context.Context, name string) (*charset, error) {
	cs := s.charsetDecoders[name]
	if cs != nil {
		return cs, nil
	}
	var err error
	switch {
	case isEastAsian(name):
		cs, err = s.catalog.eastAsianCharset(ctx, name)
	case s.charsets.widths[name] == 1 && name != "ascii":
		cs, err = s.catalog.singleByteCharset(ctx, name)
	default:
		cs = newCharset(name)
	}
	if err != nil {
		return nil, err
	}
	if s.charsetDecoders == nil {
		s.charsetDecoders = map[string]*charset{}
	}
	s.charsetDecoders[name] = cs
	return cs, nil
}

// setKey finds the columns that identify a row; logged are those that the table map names, if any.
func (s *schemas) setKey(logged []int, def *tableDef, t *change.Table) error {
	if names, ok := s.keys[t.Database+"."+t.Name]; ok {
		for _, n := range names {
			i := columnNamed(t, n)
			if i < 0 {
				return coordinator.WithKind(coordinator.KindSchema, fmt.Errorf("keys: it has no column %q", n))
			}
			t.Key = append(t.Key, i)
		}
		return nil
	}
	if len(logged) > 0 {
		for _, i := range logged {
			if i < len(t.Columns) { // else a hidden one
				t.Key = append(t.Key, i)
			}
		}
		return nil
	}
	for _, n := range def.key() {
		if i := columnNamed(t, n); i >= 0 {
			t.Key = append(t.Key, i)
		}
	}
	return nil
}

func columnNamed(t *change.Table, name string) int {
	return slices.IndexFunc(t.Columns, func(c change.Column) bool { return strings.EqualFold(c.Name, name) })
}

// declaredTypes returns the types of the columns of a table by their names, as far as they are known: the log alone does not tell some of
// them apart from others.
func declaredTypes(def *tableDef) map[string]string {
	if def == nil {
		return nil
	}
	types := make(map[string]string, len(def.Columns))
	for _, c := range def.Columns {
		types[c.Name] = c.Type
	}
	return types
}
