package row

import (
	"fmt"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Logical returns the logical type, and precision and scale.
func (c *Column) Logical() (l change.Logical, precision, scale int) {
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_YEAR:
		return change.LogicalInt32, 0, 0
	case mysql.MYSQL_TYPE_LONG:
		if c.Unsigned {
			return change.LogicalUint32, 0, 0
		}
		return change.LogicalInt32, 0, 0
	case mysql.MYSQL_TYPE_LONGLONG:
		if c.Unsigned {
			return change.LogicalUint64, 0, 0
		}
		return change.LogicalInt64, 0, 0
	case mysql.MYSQL_TYPE_FLOAT:
		return change.LogicalFloat32, 0, 0
	case mysql.MYSQL_TYPE_DOUBLE:
		return change.LogicalFloat64, 0, 0
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return change.LogicalDecimal, int(c.Meta >> 8), int(c.Meta & 0xff)
	case mysql.MYSQL_TYPE_BIT:
		if c.Meta == 1 {
			return change.LogicalBool, 0, 0
		}
		return change.LogicalText, 0, 0
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return change.LogicalDate, 0, 0
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2:
		return change.LogicalTime, 0, int(c.Meta)
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2:
		return change.LogicalDateTime, 0, int(c.Meta)
	case mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		return change.LogicalTimestamp, 0, int(c.Meta)
	case mysql.MYSQL_TYPE_JSON:
		return change.LogicalJSON, 0, 0
	case mysql.MYSQL_TYPE_GEOMETRY:
		return change.LogicalGeometry, 0, 0
	case mysql.MYSQL_TYPE_VECTOR:
		return change.LogicalArray, 0, 0
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return change.LogicalText, 0, 0
	default:
		if c.Text == nil {
			return change.LogicalBytes, 0, 0
		}
		return change.LogicalText, 0, 0
	}
}

// TypeText writes the type as the server would; width is that of the charset's widest character.
func (c *Column) TypeText(width int) string {
	n := strconv.Itoa(int(c.Meta))
	digits := ""
	if c.Meta > 0 {
		digits = "(" + n + ")"
	}
	unsigned := ""
	if c.Unsigned {
		unsigned = " unsigned"
	}
	switch c.Type {
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
		return fmt.Sprintf("decimal(%d,%d)%s", c.Meta>>8, c.Meta&0xff, unsigned)
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
		return fmt.Sprintf("bit(%d)", int(c.Meta>>8)*8+int(c.Meta&0xff))
	case mysql.MYSQL_TYPE_ENUM:
		return "enum(" + shape.LabelsText(c.Labels) + ")"
	case mysql.MYSQL_TYPE_SET:
		return "set(" + shape.LabelsText(c.Labels) + ")"
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

func (c *Column) stringTypeText(width int) string {
	name := [2]string{"varbinary", "varchar"}
	switch c.Type {
	case mysql.MYSQL_TYPE_STRING:
		name = [2]string{"binary", "char"}
	case mysql.MYSQL_TYPE_BLOB, binlog.TypeMariaBlobCompressed:
		size := [...]string{"", "tiny", "", "medium", "long"}[min(c.Meta, 4)]
		if c.Text == nil {
			return size + "blob"
		}
		return size + "text"
	}
	if c.Text == nil {
		return name[0] + "(" + strconv.Itoa(int(c.Meta)) + ")"
	}
	return name[1] + "(" + strconv.Itoa(int(c.Meta)/width) + ")"
}
