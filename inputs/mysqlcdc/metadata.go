package mysqlcdc

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// binaryCollation is the id of the collation "binary".
const binaryCollation = 63

// columnMeta is what the optional metadata of a table map says about one column.
type columnMeta struct {
	name      string
	unsigned  bool
	collation uint64 // 0 when it says nothing
	labels    [][]byte
}

// tableMeta is the optional metadata of a table map. With binlog_row_metadata=MINIMAL it has signedness and charsets; with
// FULL also names, labels and the primary key.
type tableMeta struct {
	columns []columnMeta
	// signed says that the signedness is there.
	signed bool
	// full says that the names are there, and with them everything else.
	full bool
	key  []int
}

// parseMetadata reads the optional metadata (MySQL source, Table_map_event::Optional_metadata_fields).
func (m *tableMap) parseMetadata(flavor string) (*tableMeta, error) {
	t := &tableMeta{columns: make([]columnMeta, len(m.types))}
	c := cursor{b: m.optional}
	for len(c.b) > 0 && !c.short {
		kind := byte(c.uint(1))
		field := cursor{b: c.take(c.length())}
		switch kind {
		case replication.TABLE_MAP_OPT_META_SIGNEDNESS:
			t.signed = true
			t.readSignedness(m, field.b)
		case replication.TABLE_MAP_OPT_META_DEFAULT_CHARSET:
			t.readDefaultCharset(m, &field, flavor, isCharacter)
		case replication.TABLE_MAP_OPT_META_COLUMN_CHARSET:
			t.readColumnCharset(m, &field, flavor, isCharacter)
		case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_DEFAULT_CHARSET:
			t.readDefaultCharset(m, &field, flavor, isEnumOrSet)
		case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_COLUMN_CHARSET:
			t.readColumnCharset(m, &field, flavor, isEnumOrSet)
		case replication.TABLE_MAP_OPT_META_COLUMN_NAME:
			t.full = true
			for i := range t.columns {
				t.columns[i].name = string(field.take(field.length()))
			}
		case replication.TABLE_MAP_OPT_META_ENUM_STR_VALUE:
			t.readLabels(m, &field, mysql.MYSQL_TYPE_ENUM)
		case replication.TABLE_MAP_OPT_META_SET_STR_VALUE:
			t.readLabels(m, &field, mysql.MYSQL_TYPE_SET)
		case replication.TABLE_MAP_OPT_META_SIMPLE_PRIMARY_KEY:
			t.readKey(&field, false)
		case replication.TABLE_MAP_OPT_META_PRIMARY_KEY_WITH_PREFIX:
			t.readKey(&field, true)
		default:
			field.b = nil
		}
		c.short = c.short || field.short
	}
	if c.short {
		return nil, fmt.Errorf("metadata of table map of %s: %w", m.name(), errTruncated)
	}
	return t, nil
}

// isNumeric reports the types that the signedness has bits for.
func isNumeric(t byte) bool {
	switch t {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG,
		mysql.MYSQL_TYPE_DECIMAL, mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE,
		mysql.MYSQL_TYPE_YEAR:
		return true
	default:
		return false
	}
}

// isCharacter reports the types that the charsets are for. MariaDB counts geometry among them, MySQL 9.7 vectors.
func isCharacter(t byte, flavor string) bool {
	switch t {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_BLOB,
		typeMariaVarcharCompressed, typeMariaBlobCompressed:
		return true
	case mysql.MYSQL_TYPE_GEOMETRY:
		return flavor == flavorMariaDB
	case mysql.MYSQL_TYPE_VECTOR:
		return flavor == flavorMySQL
	default:
		return false
	}
}

func isEnumOrSet(t byte, _ string) bool {
	return t == mysql.MYSQL_TYPE_ENUM || t == mysql.MYSQL_TYPE_SET
}

// readSignedness reads a bit for each numeric column, most significant bit first.
func (t *tableMeta) readSignedness(m *tableMap, bitmap []byte) {
	nth := 0
	for i, typ := range m.types {
		if !isNumeric(typ) {
			continue
		}
		if nth/8 < len(bitmap) && bitmap[nth/8]&(0x80>>(nth%8)) != 0 {
			t.columns[i].unsigned = true
		}
		nth++
	}
}

// readDefaultCharset reads the collation of most columns of a class, and pairs of a number in the class and a collation for
// the others.
func (t *tableMeta) readDefaultCharset(m *tableMap, c *cursor, flavor string, class func(byte, string) bool) {
	byDefault := c.lenenc()
	others := map[uint64]uint64{}
	for len(c.b) > 0 {
		i := c.lenenc()
		others[i] = c.lenenc()
	}
	nth := uint64(0)
	for i, typ := range m.types {
		if real, _ := realType(typ, m.metas[i]); !class(real, flavor) {
			continue
		}
		t.columns[i].collation = byDefault
		if id, ok := others[nth]; ok {
			t.columns[i].collation = id
		}
		nth++
	}
}

// readColumnCharset reads a collation for each column of a class.
func (t *tableMeta) readColumnCharset(m *tableMap, c *cursor, flavor string, class func(byte, string) bool) {
	for i, typ := range m.types {
		if real, _ := realType(typ, m.metas[i]); class(real, flavor) {
			t.columns[i].collation = c.lenenc()
		}
	}
}

func (t *tableMeta) readLabels(m *tableMap, c *cursor, class byte) {
	for i, typ := range m.types {
		if real, _ := realType(typ, m.metas[i]); real != class {
			continue
		}
		n := c.length()
		labels := make([][]byte, 0, n)
		for range n {
			labels = append(labels, c.take(c.length()))
		}
		t.columns[i].labels = labels
	}
}

func (t *tableMeta) readKey(c *cursor, prefixes bool) {
	for len(c.b) > 0 {
		i := c.lenenc()
		if prefixes {
			c.lenenc()
		}
		if i >= uint64(len(t.columns)) {
			c.short = true
			return
		}
		t.key = append(t.key, int(i))
	}
}
