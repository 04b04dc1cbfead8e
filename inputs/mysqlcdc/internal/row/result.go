package row

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// A query gives the values of a row in another form than the log does (MySQL internals, "Binary Protocol Resultset Row"). What is made of
// them is the same, and made by the same functions.

var errBadRow = errors.New("the server's row is malformed")

// width is how a value of the binary protocol ends.
type width uint8

const (
	widthText width = iota // a length-encoded length before it
	widthTime              // a byte with its length before it
	width1
	width2
	width4
	width8
)

func widthOf(typ byte) width {
	switch typ {
	case mysql.MYSQL_TYPE_TINY:
		return width1
	case mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_YEAR:
		return width2
	case mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_FLOAT:
		return width4
	case mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_DOUBLE:
		return width8
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIME,
		mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2, mysql.MYSQL_TYPE_TIME2:
		return widthTime
	default:
		return widthText
	}
}

// take cuts the value at the start of a cursor off.
func (w width) take(c *binlog.Cursor) []byte {
	switch w {
	case width1:
		return c.Take(1)
	case width2:
		return c.Take(2)
	case width4:
		return c.Take(4)
	case width8:
		return c.Take(8)
	case widthTime:
		return c.Take(int(c.Uint(1)))
	default:
		if len(c.Rest) > 0 && c.Rest[0] < 0xfb {
			n := int(c.Rest[0])
			c.Rest = c.Rest[1:]
			return c.Take(n)
		}
		return c.Take(c.Length())
	}
}

// Result reads the rows of a query. Its first columns are those of a layout; others may follow.
type Result struct {
	layout *Layout
	widths []width
}

// NewResult returns the reader of rows whose columns have these types in the binary protocol.
func NewResult(l *Layout, types []byte) (*Result, error) {
	r := &Result{layout: l, widths: make([]width, len(types))}
	if len(types) < len(l.Table.Columns) {
		return nil, fmt.Errorf("the result has %d columns, the table %d", len(types), len(l.Table.Columns))
	}
	for i, t := range types {
		r.widths[i] = widthOf(t)
		if i < len(l.Table.Columns) && !l.Columns[i].comesAs(r.widths[i]) {
			return nil, fmt.Errorf("column %s: the server sends type %d", l.name(i), t)
		}
	}
	return r, nil
}

// comesAs reports whether values of a column can have that width in a result.
func (c *Column) comesAs(w width) bool {
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		return w >= width1
	case mysql.MYSQL_TYPE_YEAR:
		return w == width2
	case mysql.MYSQL_TYPE_FLOAT:
		return w == width4
	case mysql.MYSQL_TYPE_DOUBLE:
		return w == width8
	}
	return w == widthTime == (isDate(c.Type) || isTime(c.Type))
}

func isTime(typ byte) bool { return typ == mysql.MYSQL_TYPE_TIME || typ == mysql.MYSQL_TYPE_TIME2 }

// rowHead is how many bytes are before the bitmap of NULLs, and how many bits of that have no meaning.
const (
	rowHead  = 1
	nullSkip = 2
)

// Raw returns the values of a row as the protocol has them; nil for NULL.
func (r *Result) Raw(p []byte) ([][]byte, error) {
	c := binlog.Cursor{Rest: p}
	c.Take(rowHead)
	nulls := c.Take((len(r.widths) + nullSkip + 7) / 8)
	raw := make([][]byte, len(r.widths))
	for i := range raw {
		if !c.Short && !binlog.IsSet(nulls, i+nullSkip) {
			raw[i] = append(make([]byte, 0, 1), r.widths[i].take(&c)...)
		}
	}
	if c.Short {
		return nil, errBadRow
	}
	return raw, nil
}

// Decode fills in the values of the layout's columns, and returns the grown arena. Values refer to the row or to the arena. A value that
// cannot be represented is left unavailable: inexact says why, of the first. An error means that the row is malformed.
func (r *Result) Decode(p []byte, values []change.Value, arena []byte) (_ []byte, inexact, err error) {
	c := binlog.Cursor{Rest: p}
	c.Take(rowHead)
	nulls := c.Take((len(r.widths) + nullSkip + 7) / 8)
	if c.Short {
		return arena, nil, errBadRow
	}
	columns := r.layout.Columns
	for i := range values {
		if binlog.IsSet(nulls, i+nullSkip) {
			values[i] = change.NullValue()
			continue
		}
		value := r.widths[i].take(&c)
		if c.Short {
			return arena, nil, errBadRow
		}
		var bad error
		if values[i], arena, bad = columns[i].fetched(value, arena); bad != nil && inexact == nil {
			inexact = fmt.Errorf("column %s: %w", r.layout.name(i), bad)
		}
	}
	return arena, inexact, nil
}

// Value returns one value of a row, in memory of the arena or the row; the arena grows.
func (r *Result) Value(p []byte, column int, arena []byte) (change.Value, []byte, error) {
	c := binlog.Cursor{Rest: p}
	c.Take(rowHead)
	nulls := c.Take((len(r.widths) + nullSkip + 7) / 8)
	for i := 0; !c.Short; i++ {
		null := binlog.IsSet(nulls, i+nullSkip)
		var value []byte
		if !null {
			value = r.widths[i].take(&c)
		}
		switch {
		case i < column || c.Short:
		case null:
			return change.NullValue(), arena, nil
		default:
			v, arena, err := r.layout.Columns[i].fetched(value, arena)
			if err != nil {
				v = change.UnavailableValue()
			}
			return v, arena, nil
		}
	}
	return change.Value{}, arena, errBadRow
}

// AppendRow appends the JSON of the layout's columns, see change.RowWriter. It returns false where Decode has an error or an inexact value.
func (r *Result) AppendRow(dst, p []byte, names [][]byte, ends []int32, scratch []byte) (out, grown []byte, ok bool) {
	c := binlog.Cursor{Rest: p}
	c.Take(rowHead)
	nulls := c.Take((len(r.widths) + nullSkip + 7) / 8)
	if c.Short {
		return dst, scratch, false
	}
	columns, start := r.layout.Columns, len(dst)
	for i := range names {
		dst = append(dst, names[i]...)
		if binlog.IsSet(nulls, i+nullSkip) {
			dst = append(dst, "null"...)
		} else {
			value := r.widths[i].take(&c)
			if c.Short {
				return dst, scratch, false
			}
			var err error
			if dst, scratch, err = columns[i].appendFetched(dst, value, scratch[:0]); err != nil {
				return dst, scratch, false
			}
		}
		ends[i] = int32(len(dst) - start) //nolint:gosec // a row has at most 1 GB
	}
	if len(dst) == start {
		return append(dst, "{}"...), scratch, true
	}
	dst[start] = '{' // in place of the comma before the first column
	return append(dst, '}'), scratch, true
}

// appendFetched appends the JSON of a value: what envelope.AppendValue makes of what fetched does.
func (c *Column) appendFetched(dst, p, scratch []byte) (out, grown []byte, err error) {
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		if c.values.integer == integerNumber {
			if n := binlog.UintLE(p); c.Unsigned {
				return strconv.AppendUint(dst, n, 10), scratch, nil
			} else {
				return strconv.AppendInt(dst, signExtend(n, len(p)), 10), scratch, nil
			}
		}
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return append(append(append(dst, '"'), withoutZerofill(p)...), '"'), scratch, nil
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		if c.Text != nil && c.Text.ASCII {
			if out, ok := envelope.AppendASCII(dst, p); ok {
				return out, scratch, nil
			}
		}
	}
	v, scratch, err := c.fetched(p, scratch)
	if err != nil {
		return dst, scratch, err
	}
	return envelope.AppendValue(dst, v), scratch, nil
}

// fetched returns the value that a query has as p, and the grown arena.
func (c *Column) fetched(p, arena []byte) (v change.Value, _ []byte, err error) {
	start := len(arena)
	text := func(out []byte, err error) (change.Value, []byte, error) {
		if err != nil {
			return change.UnavailableValue(), out[:start], err
		}
		return change.TextValue(out[start:len(out):len(out)]), out, nil
	}
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG,
		mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_BIT:
		return c.decode(p, arena)
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return change.DecimalValue(withoutZerofill(p)), arena, nil
	case mysql.MYSQL_TYPE_YEAR:
		return change.UintValue(binlog.UintLE(p)), arena, nil
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		t, err := parseTime(p)
		if err != nil || t.month > 12 || t.day > 31 || t.year > 9999 {
			return change.UnavailableValue(), arena, errBadTime
		}
		return c.date(text(appendDate(arena, t.year, t.month, t.day), nil))
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2:
		return c.date(text(appendFetchedTime(arena, p, int(c.Meta))))
	case mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		out, err := appendFetchedTime(arena, p, int(c.Meta))
		if len(p) > 0 && err == nil { // else it is the zero timestamp, which is no instant
			out = append(out, 'Z')
		}
		return c.date(text(out, err))
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2:
		return text(appendFetchedClock(arena, p, int(c.Meta)))
	case mysql.MYSQL_TYPE_JSON:
		out, err := appendJSONText(arena, p)
		if err != nil {
			return change.UnavailableValue(), arena, err
		}
		return change.JSONValue(out[start:len(out):len(out)]), out, nil
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		if c.Text == nil {
			return change.TextValue(p), arena, nil
		}
		return c.content(p, arena)
	}
	if c.Packed != PackedNone {
		return change.TextValue(p), arena, nil
	}
	return c.content(p, arena)
}

// withoutZerofill takes the zeros off that a ZEROFILL column has in front.
func withoutZerofill(p []byte) []byte {
	for len(p) > 1 && p[0] == '0' && p[1] != '.' {
		p = p[1:]
	}
	return p
}

// fetchedTime is a date and time as the binary protocol has it.
type fetchedTime struct{ year, month, day, hour, minute, second, micros uint64 }

// parseTime reads a date and time: as much as is not zero.
func parseTime(p []byte) (t fetchedTime, err error) {
	c := binlog.Cursor{Rest: p}
	if len(p) > 0 {
		t.year, t.month, t.day = c.Uint(2), c.Uint(1), c.Uint(1)
	}
	if len(c.Rest) > 0 {
		t.hour, t.minute, t.second = c.Uint(1), c.Uint(1), c.Uint(1)
	}
	if len(c.Rest) > 0 {
		t.micros = c.Uint(4)
	}
	if c.Short || len(c.Rest) > 0 {
		return t, errBadTime
	}
	return t, nil
}

// appendFetchedTime renders a date and time.
func appendFetchedTime(dst, p []byte, digits int) ([]byte, error) {
	t, err := parseTime(p)
	if err != nil {
		return dst, err
	}
	return appendDateTime(dst, t.year, t.month, t.day, t.hour, t.minute, t.second, t.micros, digits)
}

// appendFetchedClock renders a TIME: nothing for zero, else a sign, days, hours, minutes, seconds and, if there are any, microseconds.
func appendFetchedClock(dst, p []byte, digits int) ([]byte, error) {
	var hour, minute, second, micros uint64
	c := binlog.Cursor{Rest: p}
	if len(p) > 0 {
		if c.Uint(1) != 0 {
			dst = append(dst, '-')
		}
		hour = c.Uint(4) * 24
		hour, minute, second = hour+c.Uint(1), c.Uint(1), c.Uint(1)
	}
	if len(c.Rest) > 0 {
		micros = c.Uint(4)
	}
	if c.Short || len(c.Rest) > 0 || minute > 59 || second > 59 || micros > 999999 {
		return dst, errBadTime
	}
	return appendFraction(appendClock(dst, hour, minute, second), micros, digits), nil
}

// TimeText renders a date, a date and time, or a TIME of a result with all its digits, as SQL takes it.
func (c *Column) TimeText(p []byte) (string, error) {
	const digits = 6
	if isTime(c.Type) {
		out, err := appendFetchedClock(nil, p, digits)
		return string(out), err
	}
	out, err := appendFetchedTime(nil, p, digits)
	return string(bytes.Replace(out, []byte("T"), []byte(" "), 1)), err
}
