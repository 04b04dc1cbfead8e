package row

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// MySQL's binary JSON (MySQL source, json_binary.h): a type, then a scalar or a container. A container has its entries in front
// and refers to what does not fit into them by offsets from its own start; small containers count in two bytes, large in four.
const (
	jsonSmallObject = iota
	jsonLargeObject
	jsonSmallArray
	jsonLargeArray
	jsonLiteral
	jsonInt16
	jsonUint16
	jsonInt32
	jsonUint32
	jsonInt64
	jsonUint64
	jsonDouble
	jsonString
	jsonOpaque = 15
)

// maxJSONDepth is MySQL's own limit.
const maxJSONDepth = 100

var errBadJSON = errors.New("binary JSON that is not well formed")

// jsonWriter renders one document. Entries may refer to anything, so that a small malformed document could stand for an
// endless one: left counts down from the size of the document, of which each value, and each byte of a text, takes one.
type jsonWriter struct {
	dst  []byte
	left int
}

// spend reports whether the document has room for that much more.
func (w *jsonWriter) spend(n int) bool {
	w.left -= n
	return w.left >= 0
}

// appendBinaryJSON appends the JSON text of a document: integers and decimals exact, keys in the order stored, dates and other
// opaque values as the server prints them.
func appendBinaryJSON(dst, doc []byte) ([]byte, error) {
	w := jsonWriter{dst: dst, left: len(doc)}
	if len(doc) == 0 {
		return dst, errBadJSON
	}
	if err := w.value(doc[0], doc[1:], 0); err != nil {
		return dst, err
	}
	return w.dst, nil
}

func (w *jsonWriter) value(kind byte, p []byte, depth int) error {
	if !w.spend(1) || depth > maxJSONDepth {
		return errBadJSON
	}
	switch kind {
	case jsonSmallObject, jsonLargeObject:
		return w.container(p, kind == jsonLargeObject, true, depth)
	case jsonSmallArray, jsonLargeArray:
		return w.container(p, kind == jsonLargeArray, false, depth)
	case jsonString:
		s, ok := varString(p)
		if !ok || !w.spend(len(s)) || !utf8.Valid(s) {
			return errBadJSON
		}
		w.dst = envelope.AppendString(w.dst, s)
		return nil
	case jsonOpaque:
		return w.opaque(p)
	default:
		return w.scalar(kind, p)
	}
}

// scalarSize is the size of the scalars of a fixed size, 0 for other types.
func scalarSize(kind byte) int {
	switch kind {
	case jsonLiteral:
		return 1
	case jsonInt16, jsonUint16:
		return 2
	case jsonInt32, jsonUint32:
		return 4
	case jsonInt64, jsonUint64, jsonDouble:
		return 8
	default:
		return 0
	}
}

func (w *jsonWriter) scalar(kind byte, p []byte) error {
	size := scalarSize(kind)
	if size == 0 {
		return fmt.Errorf("%w: type %d", errBadJSON, kind)
	}
	if len(p) < size {
		return errBadJSON
	}
	n := binlog.UintLE(p[:size])
	switch kind {
	case jsonLiteral:
		if n > 2 {
			return errBadJSON
		}
		w.dst = append(w.dst, [...]string{"null", "true", "false"}[n]...)
	case jsonInt16:
		w.dst = strconv.AppendInt(w.dst, int64(int16(n)), 10)
	case jsonInt32:
		w.dst = strconv.AppendInt(w.dst, int64(int32(n)), 10)
	case jsonInt64:
		w.dst = strconv.AppendInt(w.dst, int64(n), 10)
	case jsonDouble:
		return w.double(math.Float64frombits(n))
	default:
		w.dst = strconv.AppendUint(w.dst, n, 10)
	}
	return nil
}

// double writes a double.
func (w *jsonWriter) double(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errBadJSON
	}
	w.dst = appendJSONDouble(w.dst, f)
	return nil
}

// appendJSONDouble writes a double so that it stays one: 1.0, not 1.
func appendJSONDouble(dst []byte, f float64) []byte {
	start := len(dst)
	dst = appendJSONFloat(dst, f, 64)
	if !bytes.ContainsAny(dst[start:], ".e") {
		dst = append(dst, ".0"...)
	}
	return dst
}

func (w *jsonWriter) container(p []byte, large, object bool, depth int) error {
	width := 2
	if large {
		width = 4
	}
	c := binlog.Cursor{Rest: p}
	count, size := c.Uint(width), c.Uint(width)
	if c.Short || size > uint64(len(p)) {
		return errBadJSON
	}
	p = p[:size]
	keyEntry := 0
	if object {
		keyEntry = width + 2
	}
	if count*uint64(keyEntry+1+width) > uint64(len(p)) {
		return errBadJSON
	}
	keys := binlog.Cursor{Rest: c.Take(int(count) * keyEntry)}
	values := binlog.Cursor{Rest: c.Take(int(count) * (1 + width))}
	if c.Short {
		return errBadJSON
	}
	brackets := "[]"
	if object {
		brackets = "{}"
	}
	w.dst = append(w.dst, brackets[0])
	for i := range count {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if object {
			at, n := keys.Uint(width), keys.Uint(2)
			if at > uint64(len(p)) || n > uint64(len(p))-at || !w.spend(int(n)) || !utf8.Valid(p[at:at+n]) {
				return errBadJSON
			}
			w.dst = append(envelope.AppendString(w.dst, p[at:at+n]), ':')
		}
		kind := byte(values.Uint(1))
		entry := values.Take(width)
		if err := w.element(kind, entry, p, depth); err != nil {
			return err
		}
	}
	w.dst = append(w.dst, brackets[1])
	return nil
}

// element writes one value of the container p: in its entry when it fits there, else where the entry says.
func (w *jsonWriter) element(kind byte, entry, p []byte, depth int) error {
	if n := scalarSize(kind); n > 0 && n <= len(entry) {
		return w.value(kind, entry, depth+1)
	}
	at := binlog.UintLE(entry)
	if at >= uint64(len(p)) {
		return errBadJSON
	}
	return w.value(kind, p[at:], depth+1)
}

// varString reads a string after its length, seven bits a byte, least significant first.
func varString(p []byte) ([]byte, bool) {
	var n uint64
	for i := 0; i < len(p) && i < 5; i++ {
		n |= uint64(p[i]&0x7f) << (7 * i)
		if p[i]&0x80 == 0 {
			p = p[i+1:]
			if n > uint64(len(p)) {
				return nil, false
			}
			return p[:n], true
		}
	}
	return nil, false
}

// opaque writes a value that JSON has no type for.
func (w *jsonWriter) opaque(p []byte) error {
	if len(p) == 0 {
		return errBadJSON
	}
	kind := p[0]
	data, ok := varString(p[1:])
	if !ok || !w.spend(len(data)) {
		return errBadJSON
	}
	var err error
	switch kind {
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		if len(data) < 2 || data[0] < data[1] || binlog.DecimalBytes(int(data[0]-data[1]))+binlog.DecimalBytes(int(data[1])) != len(data)-2 {
			return errBadJSON
		}
		w.dst, err = appendDecimal(w.dst, data[2:], int(data[0]), int(data[1]))
		return err
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIME:
		if len(data) != 8 {
			return errBadJSON
		}
		w.dst = append(w.dst, '"')
		w.dst, err = appendJSONTime(w.dst, kind, int64(binlog.UintLE(data)))
		w.dst = append(w.dst, '"')
		return err
	default:
		w.dst = append(w.dst, `"base64:type`...)
		w.dst = append(strconv.AppendUint(w.dst, uint64(kind), 10), ':')
		w.dst = append(base64.StdEncoding.AppendEncode(w.dst, data), '"')
		return nil
	}
}

// appendJSONTime renders a packed date or time as the server prints it inside JSON: always six digits, a space in between.
func appendJSONTime(dst []byte, kind byte, packed int64) ([]byte, error) {
	if kind == mysql.MYSQL_TYPE_TIME {
		return appendPackedTime(dst, packed, 6)
	}
	v := uint64(packed)
	if packed < 0 {
		return dst, errBadTime
	}
	micros, v := v&0xffffff, v>>24
	ym, day, hms := v>>22, v>>17&31, v&(1<<17-1)
	if ym/13 > 9999 || micros > 999999 {
		return dst, errBadTime
	}
	dst = appendDate(dst, ym/13, ym%13, day)
	if kind == mysql.MYSQL_TYPE_DATE {
		return dst, nil
	}
	dst = appendClock(append(dst, ' '), hms>>12, hms>>6&63, hms&63)
	return appendFraction(dst, micros, 6), nil
}
