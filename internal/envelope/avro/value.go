package avro

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

// fail notes that a value has no form. What is appended in its place fits the schema.
func (e *encoder) fail(dst []byte, x *column, why string) []byte {
	if e.err == nil {
		e.err = fmt.Errorf("column %s of %s has a value with %w avro: %s", x.original, x.table.FullName(), confluent.ErrForm, why)
	}
	return x.appendZero(dst)
}

func appendLong(dst []byte, n int64) []byte {
	return binary.AppendUvarint(dst, uint64(n)<<1^uint64(n>>63)) //nolint:gosec // zigzag
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	return append(appendLong(dst, int64(len(s))), s...)
}

// The branches of a union with null.
const (
	isNull  = 0
	isValue = 2 // 1, as a number is written
)

// appendNullable appends a value of a column that may be null in the schema.
func (e *encoder) appendNullable(dst []byte, x *column, v change.Value, before bool) []byte {
	missing := before && v.Kind() == change.Absent || before && v.Kind() == change.Unavailable && x.form != formText && x.form != formBytes
	if !x.nullable {
		if missing {
			return x.appendZero(dst)
		}
		return e.appendValue(dst, x, v)
	}
	if missing || v.IsNull() {
		return append(dst, isNull)
	}
	return e.appendValue(append(dst, isValue), x, v)
}

// appendZero appends what stands for a value that there is none of, in a column that cannot be null: as few bytes as the type has.
func (x *column) appendZero(dst []byte) []byte {
	switch x.form {
	case formFloat:
		return append(dst, 0, 0, 0, 0)
	case formDouble:
		return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	case formDecimal:
		return append(dst, 2, 0)
	case formGeometry:
		return append(dst, 0, isNull)
	default:
		return append(dst, 0)
	}
}

// appendValue appends a value that is not null.
func (e *encoder) appendValue(dst []byte, x *column, v change.Value) []byte {
	switch v.Kind() {
	case change.Unavailable, change.Absent:
		if x.form != formText && x.form != formBytes {
			return e.fail(dst, x, "the log does not carry the value, and the type has no placeholder: "+confluent.WayOut)
		}
		return appendString(dst, e.format.Placeholder)
	case change.Null:
		return e.fail(dst, x, "it is NULL, and the column cannot be")
	default:
	}
	switch x.form {
	case formBool:
		if confluent.Bool(v) {
			return append(dst, 1)
		}
		return append(dst, 0)
	case formInt:
		return e.appendInt(dst, x, v)
	case formFloat:
		return e.appendFloat(dst, x, v)
	case formDouble:
		return e.appendFloat(dst, x, v)
	case formBytes:
		return appendString(dst, v.Bytes())
	case formDecimal:
		return e.appendDecimal(dst, x, v)
	case formDate, formTimestamp:
		return e.appendMoment(dst, x, v.Bytes())
	case formTime:
		micros, ok := parse.Clock(v.Bytes())
		if !ok || micros < 0 || micros >= parse.Day {
			return e.fail(dst, x, "it is no time of a day; avro.times: string has it")
		}
		return appendLong(dst, micros/x.unit)
	case formEnum:
		n, ok := x.symbols[string(v.Bytes())]
		if !ok {
			return e.fail(dst, x, "it is no label of the type; avro.enums: string has it")
		}
		return appendLong(dst, int64(n))
	case formGeometry:
		return e.appendGeometry(dst, x, v.Bytes())
	case formArray:
		return e.appendArray(dst, x, v.Bytes())
	default:
		return appendString(dst, confluent.Text(v, &e.scratch))
	}
}

func (e *encoder) appendInt(dst []byte, x *column, v change.Value) []byte {
	switch v.Kind() {
	case change.Decimal, change.Text, change.JSON: // digits
		n, err := strconv.ParseInt(string(v.Bytes()), 10, x.bits)
		if err != nil {
			return e.fail(dst, x, "it is no integer of "+strconv.Itoa(x.bits)+" bits")
		}
		return appendLong(dst, n)
	default: // an unsigned one has at most 32 bits
		return appendLong(dst, v.Int())
	}
}

func (e *encoder) appendFloat(dst []byte, x *column, v change.Value) []byte {
	f, ok := confluent.Float(v, x.form == formFloat)
	if !ok {
		return e.fail(dst, x, "it is no number")
	}
	if x.form == formFloat {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f)))
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

func (e *encoder) appendDecimal(dst []byte, x *column, v change.Value) []byte {
	text := v.Bytes()
	switch v.Kind() {
	case change.Uint:
		e.scratch = strconv.AppendUint(e.scratch[:0], v.Uint(), 10)
		text = e.scratch
	case change.Int:
		e.scratch = strconv.AppendInt(e.scratch[:0], v.Int(), 10)
		text = e.scratch
	default:
	}
	var room [40]byte
	b, ok := parse.AppendUnscaled(room[:0], text, x.scale)
	if !ok {
		return e.fail(dst, x, "it is no decimal of the column's precision; avro.decimals: string has it")
	}
	if len(b) == 0 {
		b = append(b, 0)
	}
	return appendString(dst, b)
}

func (e *encoder) appendMoment(dst []byte, x *column, text []byte) []byte {
	m, ok := parse.Moment(text)
	switch {
	case !ok:
		return e.fail(dst, x, "it is no date or time of a calendar; avro.times: string has it")
	case m.Zero:
		return e.fail(dst, x, "it is no date of a calendar; avro.times: string has it, and zero_date: null makes NULL of it")
	case x.form == formDate:
		if m.Days > math.MaxInt32 || m.Days < math.MinInt32 {
			return e.fail(dst, x, "it is no date of 32 bits; avro.times: string has it")
		}
		return appendLong(dst, m.Days)
	}
	n, ok := m.In(x.unit)
	if !ok {
		return e.fail(dst, x, "it is no timestamp of 64 bits; avro.times: string has it")
	}
	return appendLong(dst, n)
}

// appendGeometry appends a geometry, {"wkb":…,"srid":…} in the native form. 0 is MySQL's way to say that there is no reference system.
func (e *encoder) appendGeometry(dst []byte, x *column, raw []byte) []byte {
	var srid int64
	var ok bool
	if e.scratch, srid, ok = parse.Geometry(e.scratch[:0], raw); !ok {
		return e.fail(dst, x, "it is no geometry")
	}
	dst = appendString(dst, e.scratch)
	if srid == 0 {
		return append(dst, isNull)
	}
	return appendLong(append(dst, isValue), srid)
}

// appendArray appends an array: JSON in the native form.
func (e *encoder) appendArray(dst []byte, x *column, raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '[' {
		return e.fail(dst, x, "it is no array")
	}
	raw = raw[1:]
	count := int64(0)
	for token, rest := parse.Next(raw); token != nil; token, rest = parse.Next(rest) {
		if token[0] == '[' && x.element.form != formText {
			return e.fail(dst, x, "it has several dimensions; avro.arrays: string has it")
		}
		count++
	}
	if count == 0 {
		return append(dst, 0)
	}
	dst = appendLong(dst, count)
	for token, rest := parse.Next(raw); token != nil; token, rest = parse.Next(rest) {
		dst = e.appendElement(dst, x.element, token)
	}
	return append(dst, 0)
}

// appendElement appends one element, a JSON value in the native form.
func (e *encoder) appendElement(dst []byte, x *column, token []byte) []byte {
	if string(token) == "null" {
		if !x.nullable {
			return e.fail(dst, x, "an element is NULL")
		}
		return append(dst, isNull)
	}
	if x.nullable {
		dst = append(dst, isValue)
	}
	of, why := confluent.OfOthers, "it is no text"
	switch x.form {
	case formBytes:
		of, why = confluent.OfBytes, "it is not base64"
	case formBool:
		of = confluent.OfBools
	default:
	}
	v, ok := confluent.Element(of, token)
	if !ok {
		return e.fail(dst, x, why)
	}
	return e.appendValue(dst, x, v)
}
