package row

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/change"
)

// The values of the options of how values are delivered.
const (
	BigintNumber, BigintString        = "number", "string"
	Tinyint1Number, Tinyint1Boolean   = "number", "boolean"
	ZeroText, ZeroNull, ZeroError     = "text", "null", "error"
	UndecodableError, UndecodableBase = "error", "base64"
)

// Options are the parsed options.
type Options struct {
	Bigint, Tinyint1, ZeroDate, Undecodable string
}

// columnValues is what the options make of one column. The zero value is what the defaults are.
type columnValues struct {
	integer    integerForm
	zeroDate   zeroForm
	base64Text bool
}

type integerForm uint8

const (
	integerNumber integerForm = iota
	integerString
	integerBoolean
)

type zeroForm uint8

const (
	zeroAsText zeroForm = iota
	zeroAsNull
	zeroAsError
)

// Apply sets the options on a column whose types are known.
func (o Options) Apply(c *Column, col *change.Column) {
	switch {
	case c.Type == mysql.MYSQL_TYPE_LONGLONG && o.Bigint == BigintString:
		c.values.integer, col.Quoted = integerString, true
	case o.Tinyint1 == Tinyint1Boolean && isTinyint1(c.Type, col.Type):
		c.values.integer, col.Logical = integerBoolean, change.LogicalBool
	case isDate(c.Type) && o.ZeroDate == ZeroNull:
		c.values.zeroDate, col.Nullable = zeroAsNull, true
	case isDate(c.Type) && o.ZeroDate == ZeroError:
		c.values.zeroDate = zeroAsError
	}
	c.values.base64Text = o.Undecodable == UndecodableBase
}

// isTinyint1 reports a TINYINT that was declared with the display width 1.
func isTinyint1(typ byte, text string) bool {
	return typ == mysql.MYSQL_TYPE_TINY && strings.HasPrefix(strings.ToLower(text), "tinyint(1)")
}

func isDate(typ byte) bool {
	switch typ {
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2,
		mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		return true
	default:
		return false
	}
}

// signExtend makes a signed integer of one that was read from that many bytes.
func signExtend(n uint64, size int) int64 {
	shift := 64 - 8*size
	return int64(n<<shift) >> shift
}

// decodeInteger returns an integer that is not delivered as a number: a BIGINT as digits, a TINYINT(1) as a boolean.
func (c *Column) decodeInteger(n uint64, arena []byte) (change.Value, []byte, error) {
	if c.values.integer == integerBoolean {
		return change.BoolValue(n != 0), arena, nil
	}
	start := len(arena)
	if c.Unsigned {
		arena = strconv.AppendUint(arena, n, 10)
	} else {
		arena = strconv.AppendInt(arena, int64(n), 10)
	}
	return change.DecimalValue(arena[start:len(arena):len(arena)]), arena, nil
}

// ErrZeroDate is the error of a message under zero_date: error.
var ErrZeroDate = errors.New("a date with a zero month or day")

// date is what a decoded date or time becomes under zero_date.
func (c *Column) date(v change.Value, arena []byte, err error) (change.Value, []byte, error) {
	if c.values.zeroDate == zeroAsText || err != nil || !isZeroDate(v.Bytes()) {
		return v, arena, err
	}
	if c.values.zeroDate == zeroAsNull {
		return change.NullValue(), arena, nil
	}
	return change.UnavailableValue(), arena, fmt.Errorf("%w: %s", ErrZeroDate, v.Bytes())
}

// isZeroDate looks for a zero month or day in "yyyy-mm-dd…".
func isZeroDate(text []byte) bool {
	return len(text) >= len("0000-00-00") && (string(text[5:7]) == "00" || string(text[8:10]) == "00")
}
