package mysqlcdc

import (
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Changes of shapes as events: one for each table name whose table is another one behind a statement than before it. A rename
// is one for each of its names.

// tableOf returns a table as its rows will have it, nil for none: the same as build makes of the definition and a table map.
func (s *schemas) tableOf(n tableName, def *tableDef) *change.Table {
	if def == nil {
		return nil
	}
	t := &change.Table{Source: s.source, Database: n.db, Name: n.table, Columns: make([]change.Column, len(def.Columns))}
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
func (s *schemas) loggedAs(cc columnDef) column {
	c := column{typ: mysql.MYSQL_TYPE_STRING, unsigned: strings.Contains(cc.Type, "unsigned")}
	if types := binlogTypes(cc.dataType()); types != nil {
		c.typ = types[0]
	} else if cc.dataType() == "vector" {
		c.typ = mysql.MYSQL_TYPE_VECTOR
	}
	c.meta, _ = cc.expectedMeta(s.charsets.widths)
	if cs := cc.charset(); cs != "" && cs != "binary" {
		c.text = &charset{} // that it is text is all that matters
	}
	return c
}
