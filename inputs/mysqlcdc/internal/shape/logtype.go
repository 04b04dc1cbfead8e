package shape

import (
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
)

// LogTypes returns the types that a column can have in the log; nil for a type that is not known.
func LogTypes(dataType string) []byte {
	switch dataType {
	case "tinyint":
		return []byte{mysql.MYSQL_TYPE_TINY}
	case "smallint":
		return []byte{mysql.MYSQL_TYPE_SHORT}
	case "mediumint":
		return []byte{mysql.MYSQL_TYPE_INT24}
	case "int":
		return []byte{mysql.MYSQL_TYPE_LONG}
	case "bigint":
		return []byte{mysql.MYSQL_TYPE_LONGLONG}
	case "float":
		return []byte{mysql.MYSQL_TYPE_FLOAT}
	case "double":
		return []byte{mysql.MYSQL_TYPE_DOUBLE}
	case "decimal":
		return []byte{mysql.MYSQL_TYPE_NEWDECIMAL}
	case "bit":
		return []byte{mysql.MYSQL_TYPE_BIT}
	case "year":
		return []byte{mysql.MYSQL_TYPE_YEAR}
	case "date":
		return []byte{mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE}
	case "time":
		return []byte{mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_TIME}
	case "datetime":
		return []byte{mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_DATETIME}
	case "timestamp":
		return []byte{mysql.MYSQL_TYPE_TIMESTAMP2, mysql.MYSQL_TYPE_TIMESTAMP}
	case "char", "binary":
		return []byte{mysql.MYSQL_TYPE_STRING}
	case "varchar", "varbinary":
		return []byte{mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, binlog.TypeMariaVarcharCompressed}
	case "tinyblob", "tinytext", "blob", "text", "mediumblob", "mediumtext", "longblob", "longtext":
		return []byte{mysql.MYSQL_TYPE_BLOB, binlog.TypeMariaBlobCompressed}
	case "enum":
		return []byte{mysql.MYSQL_TYPE_ENUM}
	case "set":
		return []byte{mysql.MYSQL_TYPE_SET}
	case "json":
		return []byte{mysql.MYSQL_TYPE_JSON}
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
		"geomcollection":
		return []byte{mysql.MYSQL_TYPE_GEOMETRY}
	default:
		return nil
	}
}

// ExpectedMeta returns the metadata that the log has for the type, where it says something. The widths are those of the widest
// characters of the character sets.
func (cc Column) ExpectedMeta(widths map[string]int) (uint16, bool) {
	args := TypeArguments(cc.Type)
	first := 0
	if len(args) > 0 {
		first = args[0]
	}
	switch cc.DataType() {
	case "decimal":
		if len(args) == 2 {
			return uint16(args[0]<<8 | args[1]), true
		}
	case "time", "datetime", "timestamp":
		return uint16(first), true
	case "bit":
		return uint16(first/8<<8 | first%8), len(args) == 1
	case "char", "varchar":
		if width := widths[cc.Charset()]; width > 0 {
			return uint16(first * width), len(args) == 1
		}
	case "binary", "varbinary":
		return uint16(first), len(args) == 1
	case "tinyblob", "tinytext":
		return 1, true
	case "blob", "text":
		return 2, true
	case "mediumblob", "mediumtext":
		return 3, true
	case "longblob", "longtext", "json":
		return 4, true
	}
	return 0, false
}

// TypeArguments returns the numbers in the brackets of a type.
func TypeArguments(columnType string) []int {
	_, s, ok := strings.Cut(columnType, "(")
	if !ok {
		return nil
	}
	s, _, _ = strings.Cut(s, ")")
	var args []int
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		args = append(args, n)
	}
	return args
}
