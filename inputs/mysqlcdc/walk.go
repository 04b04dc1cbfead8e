package mysqlcdc

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// decimalBytes is how many bytes that many decimal digits take (MySQL source, dig2bytes).
func decimalBytes(digits int) int {
	return digits/9*4 + [...]int{0, 1, 1, 2, 2, 3, 3, 4, 4}[digits%9]
}

// valueSize returns the size of the value at the start of p, its length prefix included. The type and meta are realType's.
// It is the one place that knows how long values are; what it returns is at most len(p).
func valueSize(p []byte, t byte, meta uint16) (int, error) {
	n, prefix := 0, 0
	switch t {
	case mysql.MYSQL_TYPE_NULL:
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_YEAR:
		n = 1
	case mysql.MYSQL_TYPE_SHORT:
		n = 2
	case mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE, mysql.MYSQL_TYPE_TIME:
		n = 3
	case mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_TIMESTAMP:
		n = 4
	case mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_DATETIME:
		n = 8
	case mysql.MYSQL_TYPE_TIME2:
		n = 3 + int(meta+1)/2
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		n = 4 + int(meta+1)/2
	case mysql.MYSQL_TYPE_DATETIME2:
		n = 5 + int(meta+1)/2
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		precision, scale := int(meta>>8), int(meta&0xff)
		if precision < scale {
			return 0, fmt.Errorf("decimal(%d,%d) is not a type", precision, scale)
		}
		n = decimalBytes(precision-scale) + decimalBytes(scale)
	case mysql.MYSQL_TYPE_BIT:
		n = bitBytes(meta)
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		n = int(meta & 0xff)
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_STRING, typeMariaVarcharCompressed:
		prefix = 1
		if meta > 255 {
			prefix = 2
		}
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB, mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB,
		mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_VECTOR, typeMariaBlobCompressed:
		prefix = int(meta)
		if prefix < 1 || prefix > 4 {
			return 0, fmt.Errorf("a length of %d bytes before a blob", prefix)
		}
	default:
		return 0, fmt.Errorf("column type %d is not one of MySQL's or MariaDB's", t)
	}
	if prefix > 0 {
		if prefix > len(p) {
			return 0, errTruncated
		}
		n = prefix + int(uintLE(p[:prefix]))
	}
	if n > len(p) {
		return 0, errTruncated
	}
	return n, nil
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
	rest := img.values
	nth := 0
	for i, t := range m.types {
		if !isSet(columns, i) {
			continue
		}
		null := isSet(img.nulls, nth)
		nth++
		if null {
			continue
		}
		t, meta := realType(t, m.metas[i])
		n, err := valueSize(rest, t, meta)
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
		if rest, err = m.skipImage(rest, e.before, countSet(e.before, e.columns), false); err != nil {
			return nil, err
		}
	}
	if e.after != nil {
		if rest, err = m.skipImage(rest, e.after, countSet(e.after, e.columns), e.partial); err != nil {
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
