// Package resolve finds out with which shape the rows after a table map are decoded: what the history says and what the log says of
// its rows must agree.
package resolve

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// Schemas makes shapes for decoding out of the table maps of the captured tables and what the history knows about the tables. Each
// is checked against the other. Where the server puts names into the table maps (binlog_row_metadata=FULL) those win, and mend the
// history. It belongs to the reading goroutine.
type Schemas struct {
	Source  *change.Source
	Catalog *catalog.Catalog
	// Definition returns what the history says about a table, nil for nothing; define corrects that.
	Definition func(db, table string) *shape.Table
	Define     func(db, table string, def *shape.Table)
	// Warn logs that the history had to be corrected.
	Warn     func(format string, args ...any)
	Flavor   string
	Keys     map[string][]string // from the configuration
	Charsets charset.Info
	Values   row.Options
	// Changed is called with the table's name when its shape is another one than before.
	Changed func(table string)

	charsetDecoders map[string]*charset.Charset
	known           map[string]*knownShape
}

type knownShape struct {
	body  []byte // of the table map that it was resolved for
	shape *row.Layout
	stale bool
}

// Forget makes every shape be resolved again: a statement may have changed any of them.
func (s *Schemas) Forget() {
	for _, k := range s.known {
		k.stale = true
	}
}

// Resolve returns the shape for rows events after a table map; nil for a sequence, which has no rows. The place is for errors.
func (s *Schemas) Resolve(ctx context.Context, m *binlog.TableMap, place string) (*row.Layout, error) {
	name := m.Name()
	k := s.known[name]
	if k != nil && !k.stale && bytes.Equal(k.body, m.Body) {
		return k.shape, nil
	}
	sh, err := s.build(ctx, m)
	if err != nil {
		return nil, fault.WithTable(name, fmt.Errorf("shape of table %s at %s: %w", name, place, err))
	}
	if sh == nil {
		return nil, nil
	}
	if k != nil {
		if k.shape.Table.Fingerprint() == sh.Table.Fingerprint() {
			sh.Table = k.shape.Table // equal tables share their metadata templates
		} else {
			s.Changed(name)
		}
	}
	if s.known == nil {
		s.known = map[string]*knownShape{}
	}
	s.known[name] = &knownShape{body: bytes.Clone(m.Body), shape: sh}
	return sh, nil
}

// LastSeen returns the table of a name as its rows were last seen; nil when there were none since its shape may have changed.
func (s *Schemas) LastSeen(name string) *change.Table {
	if k := s.known[name]; k != nil && !k.stale {
		return k.shape.Table
	}
	return nil
}

func (s *Schemas) build(ctx context.Context, m *binlog.TableMap) (*row.Layout, error) {
	meta, err := m.ParseMetadata(s.Flavor)
	if err != nil {
		return nil, fault.WithKind(fault.KindProtocol, err)
	}
	sh := &row.Layout{
		Columns: make([]row.Column, len(m.Types)),
		Table:   &change.Table{Source: s.Source, Database: m.DB, Name: m.Table, Columns: make([]change.Column, len(m.Types))},
	}
	for i := range m.Types {
		sh.Columns[i].Type, sh.Columns[i].Meta = binlog.RealType(m.Types[i], m.Metas[i])
		sh.Columns[i].Unsigned = meta.Columns[i].Unsigned
		sh.Table.Columns[i].Nullable = binlog.IsSet(m.Nullable, i)
	}
	def := s.Definition(m.DB, m.Table)
	err = s.fromHistory(ctx, def, m, meta, sh)
	if err != nil && meta.Full {
		if def != nil {
			s.Warn("Table %s is another one than the schema history says, and is taken as the log has it: %v", m.Name(), err)
		}
		def, err = s.repair(ctx, def, m, meta, sh)
	}
	if err != nil {
		return nil, err
	}
	if s.Flavor == product.MariaDB && def.IsSequence() {
		return nil, nil
	}
	sh.RowEnd = def.RowEndIn(m)
	var logged []int
	if meta.Full {
		logged = meta.Key
	}
	return sh, s.setKey(logged, def, sh.Table)
}

// fromMetadata fills the shape from what the table map says.
func (s *Schemas) fromMetadata(ctx context.Context, def *shape.Table, meta *binlog.Metadata, sh *row.Layout) error {
	var err error
	declared := declaredTypes(def)
	for i := range sh.Columns {
		c, mc := &sh.Columns[i], &meta.Columns[i]
		col := &sh.Table.Columns[i]
		col.Name = mc.Name
		width := 1
		if mc.Collation != 0 && mc.Collation != binlog.BinaryCollation && (binlog.IsCharacter(c.Type, s.Flavor) || binlog.IsEnumOrSet(c.Type, "")) &&
			c.Type != mysql.MYSQL_TYPE_GEOMETRY {
			cs, ok := s.Charsets.Collations[mc.Collation]
			if !ok {
				return fault.WithKind(fault.KindSchema,
					fmt.Errorf("column %s: the server does not list collation %d", mc.Name, mc.Collation))
			}
			if c.Text, err = s.Charset(ctx, cs); err != nil {
				return err
			}
			width = max(s.Charsets.Widths[cs], 1)
		}
		for _, label := range mc.Labels {
			if c.Text != nil {
				if label, _, err = c.Text.Decode(nil, label); err != nil {
					return fault.WithKind(fault.KindSchema, fmt.Errorf("column %s: label %q: %w", mc.Name, label, err))
				}
			}
			c.Labels = append(c.Labels, bytes.Clone(label))
		}
		col.Type = c.TypeText(width)
		row.Refine(c, col, declared[mc.Name])
		s.finish(c, col)
	}
	return nil
}

// finish derives what both ways have in common.
func (s *Schemas) finish(c *row.Column, col *change.Column) {
	if c.Type == mysql.MYSQL_TYPE_STRING && c.Text == nil {
		c.Pad = int(c.Meta)
		c.Packed = row.PackedType(c, col.Type)
	}
	col.Type, _, _ = strings.Cut(col.Type, " /*M!")           // how MariaDB shows that a column is compressed
	col.Type, _, _ = strings.Cut(col.Type, " /* mariadb-5.3") // and that it stores times in the old way
	if binlog.IsEnumOrSet(c.Type, "") {
		c.Text = nil // labels are UTF-8 by now
	}
	col.Logical, col.Precision, col.Scale = c.Logical()
	switch {
	case c.Packed == row.PackedUUID:
		col.Logical = change.LogicalUUID
	case c.Packed != row.PackedNone:
		col.Logical = change.LogicalText
	case c.Type == mysql.MYSQL_TYPE_VECTOR:
		col.Parts = []change.Column{{Type: "float", Logical: change.LogicalFloat32}}
	}
	s.Values.Apply(c, col)
}

// Charset returns the decoder of a character set; the server is asked, once, for those that only it knows.
func (s *Schemas) Charset(ctx context.Context, name string) (*charset.Charset, error) {
	cs := s.charsetDecoders[name]
	if cs != nil {
		return cs, nil
	}
	var err error
	switch {
	case charset.IsEastAsian(name):
		cs, err = s.Catalog.EastAsianCharset(ctx, name)
	case s.Charsets.Widths[name] == 1 && name != "ascii":
		cs, err = s.Catalog.SingleByteCharset(ctx, name)
	default:
		cs = charset.New(name)
	}
	if err != nil {
		return nil, err
	}
	if s.charsetDecoders == nil {
		s.charsetDecoders = map[string]*charset.Charset{}
	}
	s.charsetDecoders[name] = cs
	return cs, nil
}

// setKey finds the columns that identify a row; logged are those that the table map names, if any.
func (s *Schemas) setKey(logged []int, def *shape.Table, t *change.Table) error {
	if names, ok := s.Keys[t.Database+"."+t.Name]; ok {
		for _, n := range names {
			i := columnNamed(t, n)
			if i < 0 {
				return fault.WithKind(fault.KindSchema, fmt.Errorf("keys: it has no column %q", n))
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
	for _, n := range def.Key() {
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
func declaredTypes(def *shape.Table) map[string]string {
	if def == nil {
		return nil
	}
	types := make(map[string]string, len(def.Columns))
	for _, c := range def.Columns {
		types[c.Name] = c.Type
	}
	return types
}
