package protobuf

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

// fail notes that a value has no form. Its field is left out.
func (e *encoder) fail(dst []byte, x *column, why string) []byte {
	if e.err == nil {
		e.err = fmt.Errorf("column %s of %s has a value with %w protobuf: %s", x.original, x.table.FullName(), confluent.ErrForm, why)
	}
	return dst
}

// appendField appends the field of a value that is there.
func (e *encoder) appendField(dst []byte, x *column, v change.Value) []byte {
	switch x.form {
	case formBool:
		yes := byte(0)
		if confluent.Bool(v) {
			yes = 1
		}
		return append(append(dst, x.tag...), yes)
	case formInt, formUint:
		return e.appendInteger(dst, x, v)
	case formFloat, formDouble:
		return e.appendFloat(dst, x, v)
	case formBytes:
		return appendSized(append(dst, x.tag...), v.Bytes())
	case formTimestamp:
		return e.appendTimestamp(dst, x, v.Bytes())
	case formDecimal:
		return e.appendDecimal(dst, x, v.Bytes())
	case formGeometry:
		return e.appendGeometry(dst, x, v.Bytes())
	case formArray, formFloats:
		return e.appendArray(dst, x, v.Bytes())
	default:
		return appendSized(append(dst, x.tag...), confluent.Text(v, &e.scratch))
	}
}

func (e *encoder) appendInteger(dst []byte, x *column, v change.Value) []byte {
	n, err := v.Uint(), error(nil)
	switch v.Kind() {
	case change.Decimal, change.Text, change.JSON: // digits
		if x.form == formUint {
			n, err = strconv.ParseUint(string(v.Bytes()), 10, x.bits)
		} else {
			var signed int64
			signed, err = strconv.ParseInt(string(v.Bytes()), 10, x.bits)
			n = uint64(signed) //nolint:gosec // two's complement
		}
	default:
	}
	if err != nil {
		return e.fail(dst, x, "it is no integer of "+strconv.Itoa(x.bits)+" bits")
	}
	return binary.AppendUvarint(append(dst, x.tag...), n)
}

func (e *encoder) appendFloat(dst []byte, x *column, v change.Value) []byte {
	f, ok := confluent.Float(v, x.form == formFloat)
	if !ok {
		return e.fail(dst, x, "it is no number")
	}
	dst = append(dst, x.tag...)
	if x.form == formFloat {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f)))
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

// The years that a Timestamp may be in.
const (
	firstYear = 1
	lastYear  = 9999
)

func (e *encoder) appendTimestamp(dst []byte, x *column, text []byte) []byte {
	m, ok := parse.Moment(text)
	switch {
	case !ok:
		return e.fail(dst, x, "it is no date or time of a calendar; protobuf.times: string has it")
	case m.Zero:
		return e.fail(dst, x, "it is no date of a calendar; protobuf.times: string has it, and zero_date: null makes NULL of it")
	case m.Year < firstYear || m.Year > lastYear:
		return e.fail(dst, x, "a Timestamp has the years from 1 to 9999; protobuf.times: string has it")
	}
	dst = append(append(dst, x.tag...), 0)
	start := len(dst)
	if seconds := m.Days*(parse.Day/parse.Second) + m.Micros/parse.Second; seconds != 0 {
		dst = appendNumber(dst, 1, uint64(seconds)) //nolint:gosec // two's complement
	}
	if nanos := m.Micros % parse.Second * 1000; nanos != 0 {
		dst = appendNumber(dst, 2, uint64(nanos)) //nolint:gosec // not negative
	}
	return end(dst, start)
}

func (e *encoder) appendDecimal(dst []byte, x *column, text []byte) []byte {
	var room [40]byte
	b, ok := parse.AppendUnscaled(room[:0], text, x.scale)
	if !ok {
		return e.fail(dst, x, "it is no decimal of the column's precision; protobuf.decimals: string has it")
	}
	if len(b) == 0 {
		b = append(b, 0)
	}
	dst = append(append(dst, x.tag...), 0)
	start := len(dst)
	dst = appendSized(append(dst, 1<<3|wireSized), b)
	dst = appendNumber(dst, 2, uint64(x.digits)) //nolint:gosec // a precision
	if x.scale != 0 {
		dst = appendNumber(dst, 3, uint64(x.scale)) //nolint:gosec // two's complement
	}
	return end(dst, start)
}

// appendGeometry appends a geometry, {"wkb":…,"srid":…} in the native form. 0 is MySQL's way to say that there is no reference system.
func (e *encoder) appendGeometry(dst []byte, x *column, raw []byte) []byte {
	var srid int64
	var ok bool
	if e.scratch, srid, ok = parse.Geometry(e.scratch[:0], raw); !ok {
		return e.fail(dst, x, "it is no geometry")
	}
	dst = append(append(dst, x.tag...), 0)
	start := len(dst)
	dst = appendSized(append(dst, 1<<3|wireSized), e.scratch)
	if srid != 0 {
		dst = appendNumber(dst, 2, uint64(srid)) //nolint:gosec // two's complement
	}
	return end(dst, start)
}

// appendArray appends an array: JSON in the native form.
func (e *encoder) appendArray(dst []byte, x *column, raw []byte) []byte {
	before := len(dst)
	if len(raw) == 0 || raw[0] != '[' {
		return e.fail(dst, x, "it is no array")
	}
	dst = append(append(dst, x.tag...), 0)
	start := len(dst)
	var why string
	if x.form == formFloats {
		dst, why = appendFloats(dst, raw[1:])
	} else {
		dst, why = e.appendElements(dst, x.element, raw[1:])
	}
	if why != "" {
		return e.fail(dst[:before], x, why)
	}
	return end(dst, start)
}

// appendFloats appends the numbers of a vector as one field.
func appendFloats(dst, raw []byte) ([]byte, string) {
	dst = append(dst, 1<<3|wireSized, 0)
	start := len(dst)
	for token, rest := parse.Next(raw); token != nil; token, rest = parse.Next(rest) {
		text, ok := parse.Unquoted(token)
		var f float64
		if ok {
			f, ok = confluent.Float(change.TextValue(text), true)
		}
		if !ok {
			return dst, "an element is no number"
		}
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f)))
	}
	return end(dst, start), ""
}

// appendElements appends the elements of an array, each a message that is empty for NULL.
func (e *encoder) appendElements(dst []byte, x *column, raw []byte) ([]byte, string) {
	for token, rest := parse.Next(raw); token != nil; token, rest = parse.Next(rest) {
		if token[0] == '[' && x.form != formText {
			return dst, "it has several dimensions; protobuf.arrays: string has it"
		}
		dst = append(dst, 1<<3|wireSized, 0)
		start := len(dst)
		if string(token) != "null" {
			v, ok := element(x.form, token)
			if !ok {
				return dst, "an element is no value of its type"
			}
			dst = e.appendField(dst, x, v)
		}
		dst = end(dst, start)
	}
	return dst, ""
}

// element returns the value of an element.
func element(f form, token []byte) (change.Value, bool) {
	of := confluent.OfOthers
	switch f {
	case formBytes:
		of = confluent.OfBytes
	case formBool:
		of = confluent.OfBools
	default:
	}
	return confluent.Element(of, token)
}
