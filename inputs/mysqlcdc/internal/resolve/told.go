package resolve

import (
	"context"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Changes of shapes as events: one for each table name whose table is another one after a statement than before it. A rename
// is one for each of its names.

// Change returns what changes make of the table of a name, which had this shape before; nil when they leave it as it is, or when nothing
// is known about it. early reports a shape that is of a later place than the changes.
func (s *Schemas) Change(n statement.TableName, before *shape.Table, changes []shape.Change, early func(asOf string) bool) *change.SchemaChange {
	if before != nil && before.AsOf != "" && early(before.AsOf) {
		before = nil
	}
	after, touched, replaced := before, false, before == nil
	for _, c := range changes {
		switch {
		case c.DB == n.DB && c.Table == n.Table:
			after, touched = c.Def, true
		case c.DB == n.DB && c.Table == "" && c.Database == nil:
			after, touched = nil, true
		default:
			continue
		}
		replaced = replaced || after == nil
	}
	if !touched {
		return nil
	}
	c := &change.SchemaChange{Old: s.TableOf(n, before), New: s.TableOf(n, after)}
	switch {
	case c.Old == nil && c.New == nil:
		return nil
	case !replaced && c.Old.Fingerprint() == c.New.Fingerprint():
		return nil
	}
	return c
}

// TableOf returns a table as its rows will have it, nil for none: the same as build makes of the definition and a table map.
func (s *Schemas) TableOf(n statement.TableName, def *shape.Table) *change.Table {
	if def == nil || def.Unknown != "" {
		return nil
	}
	t := &change.Table{Source: s.Source, Database: n.DB, Name: n.Table, Columns: make([]change.Column, len(def.Columns))}
	for i, cc := range def.Columns {
		t.Columns[i] = columnOf(cc)
		c := s.loggedAs(cc)
		s.finish(&c, &t.Columns[i])
	}
	if err := s.setKey(nil, def, t); err != nil {
		t.Key = nil // the keys of the configuration are not those of this version
	}
	return t
}

// columnOf is what a definition alone says of a column.
func columnOf(cc shape.Column) change.Column {
	return change.Column{Name: cc.Name, Type: cc.Type, Nullable: cc.Nullable, Default: cc.Default}
}

// LayoutOf returns how rows of a table are read by a query: of a Table as TableOf gives it. Labels come as text then, in the character set
// of their column.
func (s *Schemas) LayoutOf(ctx context.Context, n statement.TableName, def *shape.Table) (*row.Layout, error) {
	l := &row.Layout{
		Table:   &change.Table{Source: s.Source, Database: n.DB, Name: n.Table, Columns: make([]change.Column, len(def.Columns))},
		Columns: make([]row.Column, len(def.Columns)),
	}
	for i, cc := range def.Columns {
		l.Table.Columns[i] = columnOf(cc)
		c := s.loggedAs(cc)
		text := c.Text
		if text != nil {
			var err error
			if text, err = s.Charset(ctx, cc.Charset()); err != nil {
				return nil, err
			}
			c.Text = text
		}
		s.finish(&c, &l.Table.Columns[i])
		c.Text = text
		l.Columns[i] = c
	}
	return l, s.setKey(nil, def, l.Table)
}

// loggedAs is what the log has for a column, as far as that says something about its logical type.
func (s *Schemas) loggedAs(cc shape.Column) row.Column {
	c := row.Column{Type: mysql.MYSQL_TYPE_STRING, Unsigned: strings.Contains(cc.Type, "unsigned")}
	if types := shape.LogTypes(cc.DataType()); types != nil {
		c.Type = types[0]
	} else if cc.DataType() == "vector" {
		c.Type = mysql.MYSQL_TYPE_VECTOR
	}
	c.Meta, _ = cc.ExpectedMeta(s.Charsets.Widths)
	if cs := cc.Charset(); cs != "" && cs != "binary" {
		c.Text = &charset.Charset{} // that it is text is all that matters
	}
	return c
}
