package row

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Column is what it takes to decode one column.
type Column struct {
	// Type and meta are realType's.
	Type     byte
	Meta     uint16
	Unsigned bool
	// Text is the charset of a column that holds text; nil for binary.
	Text *charset.Charset
	// Labels are those of an enum or set, in UTF-8.
	Labels [][]byte
	// Unsure says that a label with "?" may be another one.
	Unsure bool
	// Pad is the length that BINARY(n) is padded to.
	Pad int
	// Packed is set for MariaDB's UUID and INET types.
	Packed packed
	// values are the options that concern the column; none of them costs anything when it is off.
	values columnValues
}

var (
	errBadLabel = errors.New("a number that is none of the column's labels")
	errUnsure   = errors.New("information_schema shows characters beyond U+FFFF as ?, so the label may be another one: SET GLOBAL " +
		"binlog_row_metadata = 'FULL' puts labels into the log, and so does, once, ALTER TABLE … MODIFY with the column as it is")
	errBadDecimal = errors.New("a decimal with digits that are none")
)

// decode returns the value in p, which is as long as its width says, and the grown arena. Values refer to p or to the arena.
func (c *Column) decode(p, arena []byte) (v change.Value, _ []byte, err error) {
	start := len(arena)
	text := func(out []byte, err error) (change.Value, []byte, error) {
		if err != nil {
			return change.UnavailableValue(), out[:start], err
		}
		return change.TextValue(out[start:len(out):len(out)]), out, nil
	}
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG,
		mysql.MYSQL_TYPE_LONGLONG:
		n := binlog.UintLE(p)
		if c.values.integer != integerNumber {
			return c.decodeInteger(n, arena)
		}
		if c.Unsigned {
			return change.UintValue(n), arena, nil
		}
		return change.IntValue(signExtend(n, len(p))), arena, nil
	case mysql.MYSQL_TYPE_FLOAT:
		return change.Float32Value(math.Float32frombits(binary.LittleEndian.Uint32(p))), arena, nil
	case mysql.MYSQL_TYPE_DOUBLE:
		return change.Float64Value(math.Float64frombits(binary.LittleEndian.Uint64(p))), arena, nil
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		arena, err = appendDecimal(arena, p, int(c.Meta>>8), int(c.Meta&0xff))
		if err != nil {
			return change.UnavailableValue(), arena[:start], err
		}
		return change.DecimalValue(arena[start:len(arena):len(arena)]), arena, nil
	case mysql.MYSQL_TYPE_YEAR:
		if p[0] == 0 {
			return change.UintValue(0), arena, nil
		}
		return change.UintValue(1900 + uint64(p[0])), arena, nil
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return c.date(text(appendDate3(arena, p)))
	case mysql.MYSQL_TYPE_DATETIME2:
		return c.date(text(appendDateTime2(arena, p, int(c.Meta))))
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		return c.date(text(appendTimestamp(arena, binlog.UintBE(p[:4]), fractionMicros(p[4:]), int(c.Meta))))
	case mysql.MYSQL_TYPE_TIME2:
		return text(appendTime2(arena, p, int(c.Meta)))
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIME:
		v, arena, err := text(c.appendOld(arena, p))
		if c.Type == mysql.MYSQL_TYPE_TIME {
			return v, arena, err
		}
		return c.date(v, arena, err)
	case mysql.MYSQL_TYPE_BIT:
		return c.decodeBit(p, arena)
	case mysql.MYSQL_TYPE_ENUM:
		return c.decodeEnum(binlog.UintLE(p), arena)
	case mysql.MYSQL_TYPE_SET:
		return text(c.appendSet(arena, binlog.UintLE(p)))
	default:
		return c.decodeBlob(p, arena)
	}
}

// decodeBlob decodes the types that have a length before their bytes.
func (c *Column) decodeBlob(p, arena []byte) (change.Value, []byte, error) {
	start := len(arena)
	fail := func(err error) (change.Value, []byte, error) {
		return change.UnavailableValue(), arena[:start], err
	}
	switch c.Type {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, binlog.TypeMariaVarcharCompressed:
		p = p[1:]
		if c.Meta > 255 {
			p = p[1:]
		}
	default:
		p = p[c.Meta:]
	}
	switch c.Type {
	case mysql.MYSQL_TYPE_JSON:
		if len(p) == 0 { // what an UPDATE IGNORE and the like can leave; the server shows null
			return change.JSONValue([]byte("null")), arena, nil
		}
		out, err := appendBinaryJSON(arena, p)
		if err != nil {
			return fail(err)
		}
		return change.JSONValue(out[start:len(out):len(out)]), out, nil
	case binlog.TypeMariaVarcharCompressed, binlog.TypeMariaBlobCompressed:
		var err error
		if p, err = inflateColumn(p); err != nil {
			return fail(err)
		}
	}
	if c.Packed != PackedNone && c.Text == nil {
		if len(p) < c.Pad {
			arena = append(arena, p...)
			arena = append(arena, make([]byte, c.Pad-len(p))...)
			p = arena[start:len(arena):len(arena)]
		}
		start = len(arena)
		out, err := c.Packed.append(arena, p)
		if err != nil {
			return fail(err)
		}
		return change.TextValue(out[start:len(out):len(out)]), out, nil
	}
	return c.content(p, arena)
}

// content decodes what the log and a query have in one form: text, bytes, geometries and vectors.
func (c *Column) content(p, arena []byte) (change.Value, []byte, error) {
	start := len(arena)
	fail := func(err error) (change.Value, []byte, error) {
		return change.UnavailableValue(), arena[:start], err
	}
	switch c.Type {
	case mysql.MYSQL_TYPE_GEOMETRY:
		if len(p) < 4 {
			return fail(fmt.Errorf("geometry of %d bytes: %w", len(p), binlog.ErrTruncated))
		}
		arena = append(arena, `{"wkb":"`...)
		arena = base64.StdEncoding.AppendEncode(arena, p[4:])
		arena = append(arena, `","srid":`...)
		arena = append(strconv.AppendUint(arena, binlog.UintLE(p[:4]), 10), '}')
		return change.JSONValue(arena[start:len(arena):len(arena)]), arena, nil
	case mysql.MYSQL_TYPE_VECTOR:
		out, err := appendVector(arena, p)
		if err != nil {
			return fail(err)
		}
		return change.JSONValue(out[start:len(out):len(out)]), out, nil
	}
	if c.Text == nil {
		if len(p) < c.Pad {
			arena = append(arena, p...)
			arena = append(arena, make([]byte, c.Pad-len(p))...)
			p = arena[start:len(arena):len(arena)]
		}
		return change.BytesValue(p), arena, nil
	}
	s, arena, err := c.Text.Decode(arena, p)
	if err != nil {
		if c.values.base64Text {
			return change.BytesValue(p), arena, nil
		}
		return fail(fmt.Errorf("%w (%s)", err, c.Text.Name))
	}
	return change.TextValue(s), arena, nil
}

func (c *Column) decodeBit(p, arena []byte) (change.Value, []byte, error) {
	n := int(c.Meta>>8)*8 + int(c.Meta&0xff)
	v := binlog.UintBE(p)
	if n == 1 {
		return change.BoolValue(v&1 != 0), arena, nil
	}
	start := len(arena)
	for i := n - 1; i >= 0; i-- {
		arena = append(arena, byte('0'+v>>i&1))
	}
	return change.TextValue(arena[start:len(arena):len(arena)]), arena, nil
}

// decodeEnum returns the label. Number 0 is what a server that is not strict stores for a value that is none: an empty string.
func (c *Column) decodeEnum(n uint64, arena []byte) (change.Value, []byte, error) {
	switch {
	case n == 0:
		return change.TextValue(nil), arena, nil
	case n > uint64(len(c.Labels)):
		return change.UnavailableValue(), arena, fmt.Errorf("%w: %d of %d", errBadLabel, n, len(c.Labels))
	case c.Unsure && bytes.IndexByte(c.Labels[n-1], '?') >= 0:
		return change.UnavailableValue(), arena, fmt.Errorf("label %d, %q: %w", n, c.Labels[n-1], errUnsure)
	default:
		return change.TextValue(c.Labels[n-1]), arena, nil
	}
}

func (c *Column) appendSet(dst []byte, mask uint64) ([]byte, error) {
	first := true
	for i, label := range c.Labels {
		if i >= 64 || mask>>i&1 == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if c.Unsure && bytes.IndexByte(label, '?') >= 0 {
			return dst, fmt.Errorf("label %d, %q: %w", i+1, label, errUnsure)
		}
		dst = append(dst, label...)
	}
	if n := len(c.Labels); n < 64 && mask>>n != 0 {
		return dst, fmt.Errorf("%w: bits %#x of %d", errBadLabel, mask, n)
	}
	return dst, nil
}

// appendDecimal appends a DECIMAL as the server prints it (MySQL source, bin2decimal): groups of nine digits in four bytes,
// the incomplete groups at both ends in fewer, the sign in the first bit, all bits inverted when it is negative.
func appendDecimal(dst, p []byte, precision, scale int) ([]byte, error) {
	if len(p) == 0 {
		return dst, errBadDecimal
	}
	negative := p[0]&0x80 == 0
	group := func(n int, first bool) (uint64, bool) {
		size := binlog.DecimalBytes(n)
		var v uint64
		for i, b := range p[:size] {
			if first && i == 0 {
				b ^= 0x80
			}
			if negative {
				b = ^b
			}
			v = v<<8 | uint64(b)
		}
		p = p[size:]
		return v, v < [...]uint64{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}[n]
	}
	if negative {
		dst = append(dst, '-')
	}
	start := len(dst)
	whole, first := precision-scale, true
	for whole > 0 {
		n := whole % 9
		if n == 0 {
			n = 9
		}
		v, ok := group(n, first)
		if !ok {
			return dst, errBadDecimal
		}
		first = false
		whole -= n
		switch {
		case len(dst) > start:
			dst = appendDigits(dst, v, n)
		case v > 0:
			dst = strconv.AppendUint(dst, v, 10)
		}
	}
	if len(dst) == start {
		dst = append(dst, '0')
	}
	if scale > 0 {
		dst = append(dst, '.')
	}
	for scale > 0 {
		n := min(scale, 9)
		v, ok := group(n, first)
		if !ok {
			return dst, errBadDecimal
		}
		first = false
		dst = appendDigits(dst, v, n)
		scale -= n
	}
	return dst, nil
}

// appendVector appends a VECTOR, single-precision numbers in little-endian order, as a JSON array.
func appendVector(dst, p []byte) ([]byte, error) {
	if len(p)%4 != 0 {
		return dst, fmt.Errorf("vector of %d bytes: %w", len(p), binlog.ErrTruncated)
	}
	dst = append(dst, '[')
	for i := 0; i < len(p); i += 4 {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := float64(math.Float32frombits(binary.LittleEndian.Uint32(p[i:])))
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return dst, errors.New("a vector with an element that is not a number")
		}
		dst = appendJSONFloat(dst, f, 32)
	}
	return append(dst, ']'), nil
}

func appendJSONFloat(dst []byte, f float64, bits int) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}
