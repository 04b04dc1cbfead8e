package resolve

import (
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

// TableOf returns a table as its rows will have it, nil for none: the same as build makes of the definition and a table map.
func (s *Schemas) TableOf(n statement.TableName, def *shape.Table) *change.Table {
	if def == nil || def.Unknown != "" {
		return nil
	}
	t := &change.Table{Source: s.Source, Database: n.DB, Name: n.Table, Columns: make([]change.Column, len(def.Columns))}
	for i, cc := range def.Columns {
		t.Columns[i] = change.Column{Name: cc.Name, Type: cc.Type, Nullable: cc.Nullable}
		c := s.loggedAs(cc)
		s.finish(&c, &t.Columns[i])
	}
	if err := s.setKey(nil, def, t); err != nil {
		t.Key = nil // the keys of the configuration are not those of this version
	}
	return t
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
