package binlog

import (
	"bytes"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// DecimalBytes is how many bytes that many decimal digits take (MySQL source, dig2bytes).
func DecimalBytes(digits int) int {
	return digits/9*4 + [...]int{0, 1, 1, 2, 2, 3, 3, 4, 4}[digits%9]
}

// width says how long the values of a column are: fixed bytes, or a length of prefix bytes and what it says.
type width struct {
	fixed  int
	prefix int
}

// widthOf returns the width of a type. It is the one place that knows how long values are. The type and meta are
// realType's.
func widthOf(t byte, meta uint16) (width, error) {
	fixed := func(n int) (width, error) { return width{fixed: n}, nil }
	switch t {
	case mysql.MYSQL_TYPE_NULL:
		return fixed(0)
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_YEAR:
		return fixed(1)
	case mysql.MYSQL_TYPE_SHORT:
		return fixed(2)
	case mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		return fixed(3)
	case mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_FLOAT:
		return fixed(4)
	case mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_DOUBLE:
		return fixed(8)
	case mysql.MYSQL_TYPE_TIME:
		return fixed([...]int{3, 4, 4, 5, 5, 5, 6}[min(meta, 6)])
	case mysql.MYSQL_TYPE_TIMESTAMP:
		return fixed(4 + int(min(meta, 6)+1)/2)
	case mysql.MYSQL_TYPE_DATETIME:
		return fixed([...]int{8, 6, 6, 7, 7, 7, 8}[min(meta, 6)])
	case mysql.MYSQL_TYPE_TIME2:
		return fixed(3 + int(meta+1)/2)
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		return fixed(4 + int(meta+1)/2)
	case mysql.MYSQL_TYPE_DATETIME2:
		return fixed(5 + int(meta+1)/2)
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		precision, scale := int(meta>>8), int(meta&0xff)
		if precision < scale {
			return width{}, fmt.Errorf("decimal(%d,%d) is not a type", precision, scale)
		}
		return fixed(DecimalBytes(precision-scale) + DecimalBytes(scale))
	case mysql.MYSQL_TYPE_BIT:
		return fixed(bitBytes(meta))
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return fixed(int(meta & 0xff))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_STRING, TypeMariaVarcharCompressed:
		if meta > 255 {
			return width{prefix: 2}, nil
		}
		return width{prefix: 1}, nil
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, TypeMariaBlobCompressed:
		if meta < 1 || meta > 4 {
			return width{}, fmt.Errorf("a length of %d bytes before a blob", meta)
		}
		return width{prefix: int(meta)}, nil
	default:
		return width{}, fmt.Errorf("column type %d is not one of MySQL's or MariaDB's", t)
	}
}

// Size returns the size of the value at the start of p, its length prefix included; it is at most len(p).
func (w width) Size(p []byte) (int, error) {
	n := w.fixed
	switch w.prefix {
	case 0:
	case 1:
		if len(p) < 1 {
			return 0, ErrTruncated
		}
		n = 1 + int(p[0])
	default:
		if len(p) < w.prefix {
			return 0, ErrTruncated
		}
		n = w.prefix + int(UintLE(p[:w.prefix]))
	}
	if n > len(p) {
		return 0, ErrTruncated
	}
	return n, nil
}

// SetWidths works out the width of each column.
func (m *TableMap) SetWidths() {
	m.Widths = make([]width, len(m.Types))
	for i, t := range m.Types {
		t, meta := RealType(t, m.Metas[i])
		if m.Widths[i], m.BadWidth = widthOf(t, meta); m.BadWidth != nil {
			m.BadWidth = fmt.Errorf("column %d: %w", i+1, m.BadWidth)
			return
		}
	}
}

// HasOldTimes reports columns of the types that times had before MySQL 5.6. MariaDB has them still, under mysql56_temporal_format=OFF, and
// does not log how many digits after the second they have, which decides about their size.
func (m *TableMap) HasOldTimes() bool {
	return bytes.ContainsAny(m.Types, string([]byte{mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_DATETIME}))
}

// SetDigits says how many digits after the second a column has, if it is one of the old types.
func (m *TableMap) SetDigits(column, digits int) {
	switch m.Types[column] {
	case mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_DATETIME:
		m.Metas[column] = uint16(digits)
		m.SetWidths()
	}
}

// bitBytes returns the size of a BIT column: its metadata has the whole bytes in the high byte, the other bits in the low.
func bitBytes(meta uint16) int { return int(meta>>8) + int(meta&0xff+7)/8 }

// Image walks over one row image: it skips the value options of a partial update, and gives the null bitmap and the values.
type Image struct {
	Nulls []byte
	// Partial marks JSON columns whose value is a list of differences, one bit for each JSON column of the table, in the
	// image or not; nil for none.
	Partial []byte
	Values  []byte
}

// OpenImage reads the head of the image at the start of p.
func OpenImage(p []byte, types []byte, present int, partialEvent bool) (img Image, err error) {
	c := Cursor{Rest: p}
	if partialEvent && c.Lenenc()&1 != 0 {
		n := 0
		for _, t := range types {
			if t == mysql.MYSQL_TYPE_JSON {
				n++
			}
		}
		img.Partial = c.Take((n + 7) / 8)
	}
	img.Nulls = c.Take((present + 7) / 8)
	img.Values = c.Rest
	if c.Short {
		return img, ErrTruncated
	}
	return img, nil
}

// Value returns the bytes of a column in the image at the start of p, and what follows the image. It is nil when the image does not have
// the column, or has NULL.
func (m *TableMap) Value(p, columns []byte, present int, partialEvent bool, column int) (value, rest []byte, err error) {
	img, err := OpenImage(p, m.Types, present, partialEvent)
	if err == nil {
		err = m.BadWidth
	}
	if err != nil {
		return nil, nil, err
	}
	rest, nth := img.Values, 0
	for i, w := range m.Widths {
		if !IsSet(columns, i) {
			continue
		}
		null := IsSet(img.Nulls, nth)
		nth++
		if null {
			continue
		}
		n, err := w.Size(rest)
		if err != nil {
			return nil, nil, fmt.Errorf("column %d: %w", i+1, err)
		}
		if i == column {
			value = rest[:n:n]
		}
		rest = rest[n:]
	}
	return value, rest, nil
}

// skipImage returns what follows the image at the start of p.
func (m *TableMap) skipImage(p, columns []byte, present int, partialEvent bool) ([]byte, error) {
	_, rest, err := m.Value(p, columns, present, partialEvent, -1)
	return rest, err
}

// SkipRow returns what follows the first row of p.
func (m *TableMap) SkipRow(e *Rows, p []byte) (rest []byte, err error) {
	rest = p
	if e.Before != nil {
		if rest, err = m.skipImage(rest, e.Before, e.NBefore, false); err != nil {
			return nil, err
		}
	}
	if e.After != nil {
		if rest, err = m.skipImage(rest, e.After, e.NAfter, e.Partial); err != nil {
			return nil, err
		}
	}
	if len(rest) == len(p) {
		return nil, fmt.Errorf("a row without bytes: %w", ErrTruncated)
	}
	return rest, nil
}

// CountRows counts the rows of an event without decoding them: the index of an event in its transaction counts the rows
// before it, those of tables that nobody captures included.
func (m *TableMap) CountRows(e *Rows) (n int, err error) {
	if e.Columns != len(m.Types) {
		return 0, fmt.Errorf("the rows event has %d columns, its table map has %d", e.Columns, len(m.Types))
	}
	if e.Blank() {
		return 1, nil
	}
	for p := e.Images; len(p) > 0; n++ {
		if p, err = m.SkipRow(e, p); err != nil {
			return 0, fmt.Errorf("row %d: %w", n+1, err)
		}
	}
	return n, nil
}

// IsBlob reports the types that binlog_row_image=NOBLOB leaves out.
func IsBlob(t byte) bool {
	switch t {
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, TypeMariaBlobCompressed:
		return true
	default:
		return false
	}
}

// Split cuts the rows at the front of images off, as many as size bytes hold and at least one.
func (m *TableMap) Split(e *Rows, images []byte, size int) (head, rest []byte, n int, err error) {
	for rest = images; len(rest) > 0; n++ {
		next, err := m.SkipRow(e, rest)
		if err != nil {
			return nil, nil, 0, err
		}
		if n > 0 && len(images)-len(next) > size {
			break
		}
		rest = next
	}
	return images[:len(images)-len(rest)], rest, n, nil
}
