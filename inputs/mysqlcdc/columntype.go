package mysqlcdc

import (
	"fmt"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// logical returns the logical type, and precision and scale.
func (c *column) logical() (l change.Logical, precision, scale int) {
	switch c.typ {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_YEAR:
		return change.LogicalInt32, 0, 0
	case mysql.MYSQL_TYPE_LONG:
		if c.unsigned {
			return change.LogicalUint32, 0, 0
		}
		return change.LogicalInt32, 0, 0
	case mysql.MYSQL_TYPE_LONGLONG:
		if c.unsigned {
			return change.LogicalUint64, 0, 0
		}
		return change.LogicalInt64, 0, 0
	case mysql.MYSQL_TYPE_FLOAT:
		return change.LogicalFloat32, 0, 0
	case mysql.MYSQL_TYPE_DOUBLE:
		return change.LogicalFloat64, 0, 0
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return change.LogicalDecimal, int(c.meta >> 8), int(c.meta & 0xff)
	case mysql.MYSQL_TYPE_BIT:
		if c.meta == 1 {
			return change.LogicalBool, 0, 0
		}
		return change.LogicalText, 0, 0
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return change.LogicalDate, 0, 0
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2:
		return change.LogicalTime, 0, int(c.meta)
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2:
		return change.LogicalDateTime, 0, int(c.meta)
	case mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		return change.LogicalTimestamp, 0, int(c.meta)
	case mysql.MYSQL_TYPE_JSON:
		return change.LogicalJSON, 0, 0
	case mysql.MYSQL_TYPE_GEOMETRY:
		return change.LogicalGeometry, 0, 0
	case mysql.MYSQL_TYPE_VECTOR:
		return change.LogicalArray, 0, 0
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return change.LogicalText, 0, 0
	default:
		if c.text == nil {
			return change.LogicalBytes, 0, 0
		}
		return change.LogicalText, 0, 0
	}
}

// typeText writes the type as the server would; width is that of the charset's widest character.
func (c *column) typeText(width int) string {
	n := strconv.Itoa(int(c.meta))
	digits := ""
	if c.meta > 0 {
		digits = "(" + n + ")"
	}
	unsigned := ""
	if c.unsigned {
		unsigned = " unsigned"
	}
	switch c.typ {
	case mysql.MYSQL_TYPE_TINY:
		return "tinyint" + unsigned
	case mysql.MYSQL_TYPE_SHORT:
		return "smallint" + unsigned
	case mysql.MYSQL_TYPE_INT24:
		return "mediumint" + unsigned
	case mysql.MYSQL_TYPE_LONG:
		return "int" + unsigned
	case mysql.MYSQL_TYPE_LONGLONG:
		return "bigint" + unsigned
	case mysql.MYSQL_TYPE_FLOAT:
		return "float" + unsigned
	case mysql.MYSQL_TYPE_DOUBLE:
		return "double" + unsigned
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return fmt.Sprintf("decimal(%d,%d)%s", c.meta>>8, c.meta&0xff, unsigned)
	case mysql.MYSQL_TYPE_YEAR:
		return "year"
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return "date"
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2:
		return "time" + digits
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2:
		return "datetime" + digits
	case mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		return "timestamp" + digits
	case mysql.MYSQL_TYPE_BIT:
		return fmt.Sprintf("bit(%d)", int(c.meta>>8)*8+int(c.meta&0xff))
	case mysql.MYSQL_TYPE_ENUM:
		return "enum(" + labelsText(c.labels) + ")"
	case mysql.MYSQL_TYPE_SET:
		return "set(" + labelsText(c.labels) + ")"
	case mysql.MYSQL_TYPE_JSON:
		return "json"
	case mysql.MYSQL_TYPE_GEOMETRY:
		return "geometry"
	case mysql.MYSQL_TYPE_VECTOR:
		return "vector"
	default:
		return c.stringTypeText(width)
	}
}

func (c *column) stringTypeText(width int) string {
	name := [2]string{"varbinary", "varchar"}
	switch c.typ {
	case mysql.MYSQL_TYPE_STRING:
		name = [2]string{"binary", "char"}
	case mysql.MYSQL_TYPE_BLOB, typeMariaBlobCompressed:
		size := [...]string{"", "tiny", "", "medium", "long"}[min(c.meta, 4)]
		if c.text == nil {
			return size + "blob"
		}
		return size + "text"
	}
	if c.text == nil {
		return name[0] + "(" + strconv.Itoa(int(c.meta)) + ")"
	}
	return name[1] + "(" + strconv.Itoa(int(c.meta)/width) + ")"
}
