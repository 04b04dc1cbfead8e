package mysqlcdc

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// decimalBytes is how many bytes that many decimal digits take (MySQL source, dig2bytes).
func decimalBytes(digits int) int {
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
	case mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE, mysql.MYSQL_TYPE_TIME:
		return fixed(3)
	case mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_TIMESTAMP:
		return fixed(4)
	case mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_DATETIME:
		return fixed(8)
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
		return fixed(decimalBytes(precision-scale) + decimalBytes(scale))
	case mysql.MYSQL_TYPE_BIT:
		return fixed(bitBytes(meta))
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return fixed(int(meta & 0xff))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_STRING, typeMariaVarcharCompressed:
		if meta > 255 {
			return width{prefix: 2}, nil
		}
		return width{prefix: 1}, nil
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, typeMariaBlobCompressed:
		if meta < 1 || meta > 4 {
			return width{}, fmt.Errorf("a length of %d bytes before a blob", meta)
		}
		return width{prefix: int(meta)}, nil
	default:
		return width{}, fmt.Errorf("column type %d is not one of MySQL's or MariaDB's", t)
	}
}

// size returns the size of the value at the start of p, its length prefix included; it is at most len(p).
func (w width) size(p []byte) (int, error) {
	n := w.fixed
	switch w.prefix {
	case 0:
	case 1:
		if len(p) < 1 {
			return 0, errTruncated
		}
		n = 1 + int(p[0])
	default:
		if len(p) < w.prefix {
			return 0, errTruncated
		}
		n = w.prefix + int(uintLE(p[:w.prefix]))
	}
	if n > len(p) {
		return 0, errTruncated
	}
	return n, nil
}

// setWidths works out the width of each column.
func (m *tableMap) setWidths() {
	m.widths = make([]width, len(m.types))
	for i, t := range m.types {
		t, meta := realType(t, m.metas[i])
		if m.widths[i], m.badWidth = widthOf(t, meta); m.badWidth != nil {
			m.badWidth = fmt.Errorf("column %d: %w", i+1, m.badWidth)
			return
		}
	}
}

// bitBytes returns the size of a BIT column: its metadata has the whole bytes in the high byte, the other bits in the low.
func bitBytes(meta uint16) int { return int(meta>>8) + int(meta&0xff+7)/8 }

// image walks over one row image: it skips the value options of a partial update, and gives the null bitmap and the values.
type image struct {
	nulls []byte
	// partial marks JSON columns whose value is a list of differences, one bit for each JSON column of the table, in the
	// image or not; nil for none.
	partial []byte
	values  []byte
}

// openImage reads the head of the image at the start of p.
func openImage(p []byte, types []byte, present int, partialEvent bool) (img image, err error) {
	c := cursor{b: p}
	if partialEvent && c.lenenc()&1 != 0 {
		n := 0
		for _, t := range types {
			if t == mysql.MYSQL_TYPE_JSON {
				n++
			}
		}
		img.partial = c.take((n + 7) / 8)
	}
	img.nulls = c.take((present + 7) / 8)
	img.values = c.b
	if c.short {
		return img, errTruncated
	}
	return img, nil
}

// skipImage returns what follows the image at the start of p.
func (m *tableMap) skipImage(p, columns []byte, present int, partialEvent bool) ([]byte, error) {
	img, err := openImage(p, m.types, present, partialEvent)
	if err != nil {
		return nil, err
	}
	if m.badWidth != nil {
		return nil, m.badWidth
	}
	rest := img.values
	nth := 0
	for i, w := range m.widths {
		if !isSet(columns, i) {
			continue
		}
		null := isSet(img.nulls, nth)
		nth++
		if null {
			continue
		}
		n, err := w.size(rest)
		if err != nil {
			return nil, fmt.Errorf("column %d: %w", i+1, err)
		}
		rest = rest[n:]
	}
	return rest, nil
}

// skipRow returns what follows the first row of p.
func (m *tableMap) skipRow(e *rowsEvent, p []byte) (rest []byte, err error) {
	rest = p
	if e.before != nil {
		if rest, err = m.skipImage(rest, e.before, e.nBefore, false); err != nil {
			return nil, err
		}
	}
	if e.after != nil {
		if rest, err = m.skipImage(rest, e.after, e.nAfter, e.partial); err != nil {
			return nil, err
		}
	}
	if len(rest) == len(p) {
		return nil, fmt.Errorf("a row without bytes: %w", errTruncated)
	}
	return rest, nil
}

// countRows counts the rows of an event without decoding them: the index of an event in its transaction counts the rows
// before it, those of tables that nobody captures included.
func (m *tableMap) countRows(e *rowsEvent) (n int, err error) {
	if e.columns != len(m.types) {
		return 0, fmt.Errorf("the rows event has %d columns, its table map has %d", e.columns, len(m.types))
	}
	if e.blank() {
		return 1, nil
	}
	for p := e.images; len(p) > 0; n++ {
		if p, err = m.skipRow(e, p); err != nil {
			return 0, fmt.Errorf("row %d: %w", n+1, err)
		}
	}
	return n, nil
}

// isBlob reports the types that binlog_row_image=NOBLOB leaves out.
func isBlob(t byte) bool {
	switch t {
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, typeMariaBlobCompressed:
		return true
	default:
		return false
	}
}

// split cuts the rows at the front of images off, as many as size bytes hold and at least one.
func (m *tableMap) split(e *rowsEvent, images []byte, size int) (head, rest []byte, n int, err error) {
	for rest = images; len(rest) > 0; n++ {
		next, err := m.skipRow(e, rest)
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
