package debezium

import (
	"crypto/md5" //nolint:gosec // what names a UUID of version 3
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// form is how the values of a column are written.
type form uint8

const (
	formText form = iota // a string
	formNumber
	formWrapped // an unsigned integer as a signed one
	formFloat
	formDouble // a single-precision number with the digits that it has as a double
	formBool
	formBits // base64, the lowest byte first
	formBytes
	formDecimal
	formVariable // a decimal and its scale
	formMoney
	formDate
	formTime
	formTimestamp
	formZoned     // a timestamp with a zone, in UTC
	formZonedTime // a time with a zone, in UTC
	formInterval
	formJSON // a string with JSON in it
	formRaw  // JSON as it is
	formPoint
	formGeometry
	formArray
)

// column is how a column is written. It is immutable.
type column struct {
	name     []byte // `,"name":`
	col      *change.Column
	form     form
	nullable bool
	scale    int   // of a decimal; digits of a fraction
	unit     int64 // of a time, in microseconds; 0: nanoseconds; -1: text
	size     int   // bytes of a bit string; 0: as few as it needs
	element  *column
	// missing stands for a value that the log does not carry; nil: there is nothing that can.
	missing []byte
	// filler is what a column that cannot be NULL has in an image without it.
	filler string
}

// typeOf splits a type as the database writes it: "numeric(10,2)" has the name numeric and the arguments 10 and 2. What follows the
// arguments belongs to the name: "timestamp(3) with time zone".
func typeOf(text string) (name string, args []string) {
	name = strings.ToLower(text)
	from, to := strings.IndexByte(name, '('), strings.IndexByte(name, ')')
	if from >= 0 && to > from {
		args = strings.Split(name[from+1:to], ",")
		name = name[:from] + name[to+1:]
	}
	return strings.TrimSpace(name), args
}

// column works out how a column is written.
func (f *Format) column(postgres bool, c *change.Column) *column {
	x := &column{col: c, nullable: c.Nullable, scale: c.Scale, filler: `""`}
	x.name = append(envelope.AppendString([]byte{','}, c.Name), ':')
	text := c.Type
	if c.Base != "" {
		text = c.Base
	}
	f.shape(x, postgres, text)
	f.precision(x, postgres)
	x.missing = f.missing(x)
	return x
}

// shape works out the form of a column by its type, as the database writes it.
func (f *Format) shape(x *column, postgres bool, text string) {
	c := x.col
	name, args := typeOf(text)
	switch c.Logical {
	case change.LogicalBool:
		x.form, x.filler = formBool, "false"
	case change.LogicalInt32, change.LogicalInt64, change.LogicalUint32:
		x.form, x.filler = formNumber, "0"
	case change.LogicalUint64:
		f.unsigned(x, postgres)
	case change.LogicalFloat32, change.LogicalFloat64:
		x.form, x.filler = formFloat, "0"
		if !postgres && c.Logical == change.LogicalFloat32 && len(args) == 2 {
			x.form = formDouble
		}
	case change.LogicalDecimal:
		x.form = formDecimal
		if postgres && c.Precision == 0 && f.Decimal == DecimalPrecise {
			x.form = formVariable
		}
	case change.LogicalBytes:
		x.form = formBytes
	case change.LogicalJSON, change.LogicalObject:
		x.form = formJSON
	case change.LogicalMap:
		x.form, x.filler = formJSON, `"{}"`
		if f.HstoreMap {
			x.form, x.filler = formRaw, "{}"
		}
	case change.LogicalDate:
		x.form = formDate
	case change.LogicalTime:
		x.form = formTime
		if strings.HasSuffix(name, "with time zone") {
			x.form = formZonedTime
		}
	case change.LogicalDateTime:
		x.form = formTimestamp
	case change.LogicalTimestamp:
		x.form, x.filler = formZoned, `"1970-01-01T00:00:00Z"`
	case change.LogicalGeometry:
		x.form, x.filler = formGeometry, "null"
		if name == "point" {
			x.form = formPoint
		}
	case change.LogicalArray:
		f.array(x, postgres, name)
	default:
		f.text(x, postgres, name, args)
	}
}

// unsigned works out unsigned integers of 64 bits. PostgreSQL's xid8 has no type in Debezium: it is text, so that no number is changed.
func (f *Format) unsigned(x *column, postgres bool) {
	switch {
	case postgres:
		x.form = formText
	case f.PreciseUnsigned:
		x.form, x.scale = formDecimal, 0
	default:
		x.form, x.filler = formWrapped, "0"
	}
}

// text works out what the inputs deliver as text: strings, and the types of which the database's own text is all there is.
func (f *Format) text(x *column, postgres bool, name string, args []string) {
	switch name {
	case "bit": // of one bit it is a boolean already
		x.form = formBits
		if n, err := strconv.Atoi(strings.Join(args, "")); err == nil && !postgres {
			x.size = (n + 7) / 8
		}
	case "bit varying":
		x.form = formBits
		if len(args) == 1 && args[0] == "1" {
			x.form, x.filler = formBool, "false"
		}
	case "money":
		x.form, x.scale = formMoney, 2
	default:
		if name == "interval" || strings.HasPrefix(name, "interval ") {
			x.form = formInterval
		}
	}
}

// array works out arrays, and vectors, whose elements are numbers.
func (f *Format) array(x *column, postgres bool, name string) {
	x.form, x.filler = formRaw, "[]"
	if parts := x.col.Parts; len(parts) == 1 && parts[0].Type != "" && (postgres || name != "vector") {
		x.form = formArray
		x.element = f.column(postgres, &parts[0])
	}
}

// precision works out what numbers stand for in decimals, dates and times.
func (f *Format) precision(x *column, postgres bool) {
	switch x.form {
	case formDecimal, formMoney:
		switch f.Decimal {
		case DecimalPrecise:
			x.filler = `"AA=="`
		case DecimalString:
			x.filler = `"0"`
		case DecimalDouble:
			x.filler = "0"
		}
	case formVariable:
		x.filler = `{"scale":0,"value":"AA=="}`
	case formDate:
		x.filler = "0"
		if f.Time == TimeISO {
			x.unit, x.filler = -1, `"1970-01-01Z"`
		}
	case formTime, formTimestamp:
		x.filler = "0"
		switch f.Time {
		case TimeAdaptive:
			if x.unit = 1; x.scale <= 3 && (postgres || x.form == formTimestamp) {
				x.unit = 1000
			}
		case TimeConnect:
			x.unit = 1000
		case TimeMicroseconds:
			x.unit = 1
		case TimeNanoseconds:
			x.unit = 0
		case TimeISO:
			x.unit, x.filler = -1, `"1970-01-01T00:00:00Z"`
			if x.form == formTime {
				x.filler = `"00:00:00Z"`
			}
		}
	case formInterval:
		x.filler = "0"
		if f.IntervalText {
			x.filler = `"P0Y0M0DT0H0M0S"`
		}
	default:
	}
}

// missing returns what stands for a value of the column that the log does not carry, by its type.
func (f *Format) missing(x *column) []byte {
	text := envelope.AppendString(nil, f.Placeholder)
	switch {
	case x.col.Logical == change.LogicalMap:
		object := append(append(append(append([]byte{'{'}, text...), ':'), text...), '}')
		if x.form == formRaw {
			return object
		}
		return envelope.AppendString(nil, object)
	case x.form == formText, x.form == formJSON, x.form == formDecimal && f.Decimal == DecimalString:
		return text
	case x.form == formBytes:
		return f.appendBytes(nil, []byte(f.Placeholder))
	case x.form != formArray:
		return nil
	}
	switch x.element.col.Logical {
	case change.LogicalUUID:
		return append(append([]byte(`["`), uuidOf(f.Placeholder)...), `"]`...)
	case change.LogicalInt32, change.LogicalInt64:
		var list []byte
		for _, c := range []byte(f.Placeholder) {
			list = strconv.AppendUint(append(list, ','), uint64(c), 10)
		}
		if len(list) == 0 {
			return []byte("[]")
		}
		list[0] = '['
		return append(list, ']')
	default:
		if x.element.missing == nil {
			return nil
		}
		return append(append([]byte{'['}, x.element.missing...), ']')
	}
}

// uuidOf returns the UUID that a name has (RFC 9562, version 3, as Java's nameUUIDFromBytes makes it).
func uuidOf(name string) string {
	sum := md5.Sum([]byte(name)) //nolint:gosec // not for security
	sum[6] = sum[6]&0x0f | 0x30
	sum[8] = sum[8]&0x3f | 0x80
	s := hex.EncodeToString(sum[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// appendBytes appends bytes as a JSON string.
func (f *Format) appendBytes(dst, b []byte) []byte {
	dst = append(dst, '"')
	switch f.Binary {
	case BinaryHex:
		dst = hex.AppendEncode(dst, b)
	case BinaryBase64URL:
		dst = base64.URLEncoding.AppendEncode(dst, b)
	default:
		dst = base64.StdEncoding.AppendEncode(dst, b)
	}
	return append(dst, '"')
}
