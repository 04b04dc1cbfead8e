package binlog

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// BinaryCollation is the id of the collation "binary".
const BinaryCollation = 63

// ColumnMetadata is what the optional metadata of a table map says about one column.
type ColumnMetadata struct {
	Name      string
	Unsigned  bool
	Collation uint64 // 0 when it says nothing
	Labels    [][]byte
}

// Metadata is the optional metadata of a table map. With binlog_row_metadata=MINIMAL it has signedness and charsets; with
// FULL also names, labels and the primary key.
type Metadata struct {
	Columns []ColumnMetadata
	// Signed says that the signedness is there.
	Signed bool
	// Full says that the names are there, and with them everything else.
	Full bool
	Key  []int
}

// ParseMetadata reads the optional metadata (MySQL source, Table_map_event::Optional_metadata_fields).
func (m *TableMap) ParseMetadata(flavor string) (*Metadata, error) {
	t := &Metadata{Columns: make([]ColumnMetadata, len(m.Types))}
	c := Cursor{Rest: m.optional}
	for len(c.Rest) > 0 && !c.Short {
		kind := byte(c.Uint(1))
		field := Cursor{Rest: c.Take(c.Length())}
		switch kind {
		case replication.TABLE_MAP_OPT_META_SIGNEDNESS:
			t.Signed = true
			t.readSignedness(m, field.Rest)
		case replication.TABLE_MAP_OPT_META_DEFAULT_CHARSET:
			t.readDefaultCharset(m, &field, flavor, IsCharacter)
		case replication.TABLE_MAP_OPT_META_COLUMN_CHARSET:
			t.readColumnCharset(m, &field, flavor, IsCharacter)
		case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_DEFAULT_CHARSET:
			t.readDefaultCharset(m, &field, flavor, IsEnumOrSet)
		case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_COLUMN_CHARSET:
			t.readColumnCharset(m, &field, flavor, IsEnumOrSet)
		case replication.TABLE_MAP_OPT_META_COLUMN_NAME:
			t.Full = true
			for i := range t.Columns {
				t.Columns[i].Name = string(field.Take(field.Length()))
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
			field.Rest = nil
		}
		c.Short = c.Short || field.Short
	}
	if c.Short {
		return nil, fmt.Errorf("metadata of table map of %s: %w", m.Name(), ErrTruncated)
	}
	return t, nil
}

// IsNumeric reports the types that the signedness has bits for.
func IsNumeric(t byte) bool {
	switch t {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG,
		mysql.MYSQL_TYPE_DECIMAL, mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE,
		mysql.MYSQL_TYPE_YEAR:
		return true
	default:
		return false
	}
}

// IsCharacter reports the types that the charsets are for. MariaDB counts geometry among them, MySQL 9.7 vectors.
func IsCharacter(t byte, flavor string) bool {
	switch t {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_BLOB,
		TypeMariaVarcharCompressed, TypeMariaBlobCompressed:
		return true
	case mysql.MYSQL_TYPE_GEOMETRY:
		return flavor == product.MariaDB
	case mysql.MYSQL_TYPE_VECTOR:
		return flavor == product.MySQL
	default:
		return false
	}
}

// IsEnumOrSet reports the types that have labels; the flavor makes no difference.
func IsEnumOrSet(t byte, _ string) bool {
	return t == mysql.MYSQL_TYPE_ENUM || t == mysql.MYSQL_TYPE_SET
}

// readSignedness reads a bit for each numeric column, most significant bit first.
func (t *Metadata) readSignedness(m *TableMap, bitmap []byte) {
	nth := 0
	for i, typ := range m.Types {
		if !IsNumeric(typ) {
			continue
		}
		if nth/8 < len(bitmap) && bitmap[nth/8]&(0x80>>(nth%8)) != 0 {
			t.Columns[i].Unsigned = true
		}
		nth++
	}
}

// readDefaultCharset reads the collation of most columns of a class, and pairs of a number in the class and a collation for
// the others.
func (t *Metadata) readDefaultCharset(m *TableMap, c *Cursor, flavor string, class func(byte, string) bool) {
	byDefault := c.Lenenc()
	others := map[uint64]uint64{}
	for len(c.Rest) > 0 {
		i := c.Lenenc()
		others[i] = c.Lenenc()
	}
	nth := uint64(0)
	for i, typ := range m.Types {
		if real, _ := RealType(typ, m.Metas[i]); !class(real, flavor) {
			continue
		}
		t.Columns[i].Collation = byDefault
		if id, ok := others[nth]; ok {
			t.Columns[i].Collation = id
		}
		nth++
	}
}

// readColumnCharset reads a collation for each column of a class.
func (t *Metadata) readColumnCharset(m *TableMap, c *Cursor, flavor string, class func(byte, string) bool) {
	for i, typ := range m.Types {
		if real, _ := RealType(typ, m.Metas[i]); class(real, flavor) {
			t.Columns[i].Collation = c.Lenenc()
		}
	}
}

func (t *Metadata) readLabels(m *TableMap, c *Cursor, class byte) {
	for i, typ := range m.Types {
		if real, _ := RealType(typ, m.Metas[i]); real != class {
			continue
		}
		n := c.Length()
		labels := make([][]byte, 0, n)
		for range n {
			labels = append(labels, c.Take(c.Length()))
		}
		t.Columns[i].Labels = labels
	}
}

func (t *Metadata) readKey(c *Cursor, prefixes bool) {
	for len(c.Rest) > 0 {
		i := c.Lenenc()
		if prefixes {
			c.Lenenc()
		}
		if i >= uint64(len(t.Columns)) {
			c.Short = true
			return
		}
		t.Key = append(t.Key, int(i))
	}
}
