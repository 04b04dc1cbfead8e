package mysqlcdc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// The options of how values are delivered.
const (
	fieldBigint      = "bigint"
	fieldTinyint1    = "tinyint1"
	fieldZeroDate    = "zero_date"
	fieldUndecodable = "undecodable_text"

	bigintNumber, bigintString        = "number", "string"
	tinyint1Number, tinyint1Boolean   = "number", "boolean"
	zeroText, zeroNull, zeroError     = "text", "null", "error"
	undecodableError, undecodableBase = "error", "base64"
)

func valueFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldBigint, bigintNumber, bigintString).Default(bigintNumber).Advanced().
			Description("How `BIGINT` is delivered, in keys too: as a number with all its digits, or, for consumers that read numbers as " +
				"doubles, as a string. Integers inside JSON columns stay as they are."),
		service.NewStringEnumField(fieldTinyint1, tinyint1Number, tinyint1Boolean).Default(tinyint1Number).Advanced().
			Description("How `TINYINT(1)`, which is what `BOOL` makes, is delivered. As a boolean, 0 is false and any other number true."),
		// null is a word of YAML: the linter must let it pass with and without quotes.
		service.NewAnyField(fieldZeroDate).Default(zeroText).Advanced().
			Description("What becomes of dates with a zero month or day, such as `0000-00-00`, which no calendar has: `text`, as the " +
				"server shows them; `null`; or `error`, with which the message is marked as failed.").
			Example(zeroNull).
			LintRule(`root = if ![null, "text", "null", "error"].contains(this) { ["want text, null or error"] }`),
		service.NewStringEnumField(fieldUndecodable, undecodableError, undecodableBase).Default(undecodableError).Advanced().
			Description("What becomes of text whose bytes are not text in the column's character set: `error`, with which the message is " +
				"marked as failed, or `base64`, `{\"_base64\":\"…\"}` as for binary columns."),
	}
}

// valueOptions are the parsed options.
type valueOptions struct {
	bigint, tinyint1, zeroDate, undecodable string
}

func parseValueOptions(conf *service.ParsedConfig) (o valueOptions, err error) {
	if o.bigint, err = oneOf(conf, fieldBigint, bigintNumber, bigintString); err != nil {
		return o, err
	}
	if o.tinyint1, err = oneOf(conf, fieldTinyint1, tinyint1Number, tinyint1Boolean); err != nil {
		return o, err
	}
	zero, err := conf.FieldAny(fieldZeroDate)
	if err != nil {
		return o, err
	}
	switch zero {
	case nil:
		o.zeroDate = zeroNull
	case zeroText, zeroNull, zeroError:
		o.zeroDate = fmt.Sprint(zero)
	default:
		return o, fmt.Errorf("%s: want one of %s, %s, %s, got %v", fieldZeroDate, zeroText, zeroNull, zeroError, zero)
	}
	o.undecodable, err = oneOf(conf, fieldUndecodable, undecodableError, undecodableBase)
	return o, err
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

// apply sets the options on a column whose types are known.
func (o valueOptions) apply(c *column, col *change.Column) {
	switch {
	case c.typ == mysql.MYSQL_TYPE_LONGLONG && o.bigint == bigintString:
		c.values.integer, col.Quoted = integerString, true
	case o.tinyint1 == tinyint1Boolean && isTinyint1(c.typ, col.Type):
		c.values.integer, col.Logical = integerBoolean, change.LogicalBool
	case isDate(c.typ) && o.zeroDate == zeroNull:
		c.values.zeroDate, col.Nullable = zeroAsNull, true
	case isDate(c.typ) && o.zeroDate == zeroError:
		c.values.zeroDate = zeroAsError
	}
	c.values.base64Text = o.undecodable == undecodableBase
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
func (c *column) decodeInteger(n uint64, arena []byte) (change.Value, []byte, error) {
	if c.values.integer == integerBoolean {
		return change.BoolValue(n != 0), arena, nil
	}
	start := len(arena)
	if c.unsigned {
		arena = strconv.AppendUint(arena, n, 10)
	} else {
		arena = strconv.AppendInt(arena, int64(n), 10)
	}
	return change.DecimalValue(arena[start:len(arena):len(arena)]), arena, nil
}

var errZeroDate = errors.New("a date with a zero month or day")

// date is what a decoded date or time becomes under zero_date.
func (c *column) date(v change.Value, arena []byte, err error) (change.Value, []byte, error) {
	if c.values.zeroDate == zeroAsText || err != nil || !isZeroDate(v.Bytes()) {
		return v, arena, err
	}
	if c.values.zeroDate == zeroAsNull {
		return change.NullValue(), arena, nil
	}
	return change.UnavailableValue(), arena, fmt.Errorf("%w: %s", errZeroDate, v.Bytes())
}

// isZeroDate looks for a zero month or day in "yyyy-mm-dd…".
func isZeroDate(text []byte) bool {
	return len(text) >= len("0000-00-00") && (string(text[5:7]) == "00" || string(text[8:10]) == "00")
}
