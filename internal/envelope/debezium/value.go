package debezium

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

const null = "null"

// appendValue appends a value of a row. What has no form is null there, and e.err says why.
func (e *encoder) appendValue(dst []byte, x *column, v change.Value) []byte {
	switch v.Kind() {
	case change.Null:
		return append(dst, null...)
	case change.Unavailable, change.Absent:
		if x.missing == nil {
			return e.fail(dst, x, "the log does not carry the value, and the type has no placeholder: "+wayOut)
		}
		return append(dst, x.missing...)
	default:
	}
	switch x.form {
	case formNumber:
		return appendNumber(dst, v)
	case formWrapped:
		return e.appendWrapped(dst, x, v)
	case formFloat:
		return appendFloat(dst, v)
	case formDouble:
		return envelope.AppendFloat(dst, float64(v.Float32()), 64)
	case formBool:
		if v.Kind() == change.Text {
			return strconv.AppendBool(dst, string(v.Bytes()) == "1")
		}
		return strconv.AppendBool(dst, v.Bool())
	case formBits:
		return appendBits(dst, v.Bytes(), x.size)
	case formBytes:
		return e.format.appendBytes(dst, v.Bytes())
	case formDecimal, formVariable, formMoney:
		return e.appendDecimal(dst, x, v)
	case formDate, formTimestamp:
		return e.appendMoment(dst, x, v.Bytes())
	case formTime:
		return e.appendTime(dst, x, v.Bytes())
	case formZoned:
		return e.appendZoned(dst, x, v.Bytes())
	case formZonedTime:
		micros, ok := zoned(v.Bytes())
		if !ok {
			return e.fail(dst, x, "it is no time with a zone")
		}
		return append(appendClock(append(dst, '"'), micros, -1), `Z"`...)
	case formInterval:
		return e.appendInterval(dst, x, v.Bytes())
	case formJSON:
		return envelope.AppendText(dst, v.Bytes())
	case formRaw:
		return append(dst, v.Bytes()...)
	case formPoint, formGeometry:
		return e.appendGeometry(dst, x, v.Bytes())
	case formArray:
		dst, _ = e.appendArray(dst, x.element, v.Bytes())
		return dst
	default:
		return appendText(dst, v)
	}
}

const wayOut = "set REPLICA IDENTITY FULL for the table (PostgreSQL), or binlog_row_image=FULL (MySQL)"

// errForm is why a message has an error: a value has no form in the format, and a null would be another value.
var errForm = errors.New("no form in the format debezium")

// fail notes that a value has no form, and appends null.
func (e *encoder) fail(dst []byte, x *column, why string) []byte {
	if e.err == nil {
		e.err = fmt.Errorf("column %s of %s has a value with %w: %s", x.col.Name, e.table.FullName(), errForm, why)
	}
	return append(dst, null...)
}

func appendNumber(dst []byte, v change.Value) []byte {
	switch v.Kind() {
	case change.Uint:
		return strconv.AppendUint(dst, v.Uint(), 10)
	case change.Bool:
		if v.Bool() {
			return append(dst, '1')
		}
		return append(dst, '0')
	case change.Decimal, change.Text: // digits
		return append(dst, v.Bytes()...)
	default:
		return strconv.AppendInt(dst, v.Int(), 10)
	}
}

func (e *encoder) appendWrapped(dst []byte, x *column, v change.Value) []byte {
	n := v.Uint()
	if v.Kind() == change.Decimal {
		var err error
		if n, err = strconv.ParseUint(string(v.Bytes()), 10, 64); err != nil {
			return e.fail(dst, x, "it is no integer of 64 bits")
		}
	}
	return strconv.AppendInt(dst, int64(n), 10) //nolint:gosec // it is meant to wrap
}

func appendFloat(dst []byte, v change.Value) []byte {
	if v.Kind() == change.Float32 {
		return envelope.AppendFloat(dst, float64(v.Float32()), 32)
	}
	return envelope.AppendFloat(dst, v.Float64(), 64)
}

func appendText(dst []byte, v change.Value) []byte {
	switch v.Kind() {
	case change.Text, change.JSON, change.Decimal:
		return envelope.AppendText(dst, v.Bytes())
	case change.Bytes: // text that could not be decoded, under undecodable_text: base64
		return base64.StdEncoding.AppendEncode(append(dst, '"'), v.Bytes())
	default:
		return append(appendNumber(append(dst, '"'), v), '"')
	}
}

// appendBits appends a bit string, a text of 0 and 1, as bytes, the lowest first.
func appendBits(dst, text []byte, size int) []byte {
	var room [64]byte
	b := room[:0]
	for end := len(text); end > 0; end -= 8 {
		var octet byte
		for _, c := range text[max(end-8, 0):end] {
			octet = octet<<1 | c&1
		}
		b = append(b, octet)
	}
	if size == 0 {
		b = bytes.TrimRight(b, "\x00")
	}
	for len(b) < size {
		b = append(b, 0)
	}
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

func (e *encoder) appendDecimal(dst []byte, x *column, v change.Value) []byte {
	text := v.Bytes()
	if v.Kind() == change.Uint {
		e.scratch = strconv.AppendUint(e.scratch[:0], v.Uint(), 10)
		text = e.scratch
	}
	if x.form == formMoney {
		e.scratch = appendMoney(e.scratch[:0], text)
		text = e.scratch
	}
	special := ""
	switch string(text) {
	case "NaN":
		special = "NAN"
	case "Infinity":
		special = "POSITIVE_INFINITY"
	case "-Infinity":
		special = "NEGATIVE_INFINITY"
	}
	switch {
	case special != "" && e.format.Decimal == DecimalString:
		return append(append(append(dst, '"'), special...), '"')
	case e.format.Decimal == DecimalString && x.col.Logical != change.LogicalUint64:
		return append(append(append(dst, '"'), text...), '"')
	case e.format.Decimal == DecimalDouble && x.col.Logical != change.LogicalUint64:
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return e.fail(dst, x, "it is no number")
		}
		return envelope.AppendFloat(dst, f, 64)
	case special != "":
		return e.fail(dst, x, string(text)+" is no decimal; decimal: string or double have it")
	}
	scale := x.scale
	if x.form == formVariable {
		text, scale = strip(text)
		dst = append(strconv.AppendInt(append(dst, `{"scale":`...), int64(scale), 10), `,"value":`...)
	}
	dst, ok := appendUnscaled(append(dst, '"'), text, scale)
	if !ok {
		return e.fail(dst[:len(dst)-1], x, "it is no decimal of the column's scale")
	}
	dst = append(dst, '"')
	if x.form == formVariable {
		dst = append(dst, '}')
	}
	return dst
}

func (e *encoder) appendMoment(dst []byte, x *column, text []byte) []byte {
	if infinity := bytes.HasSuffix(text, []byte("infinity")); infinity {
		return e.appendInfinity(dst, x, text[0] == '-')
	}
	m, ok := parse.Moment(text)
	if !ok {
		return e.fail(dst, x, "it is no date or time")
	}
	if m.Zero {
		return x.appendZero(dst)
	}
	switch {
	case x.unit < 0:
		dst = appendDate(append(dst, '"'), m.Days)
		if x.form == formTimestamp {
			dst = appendClock(append(dst, 'T'), m.Micros, -1)
		}
		return append(dst, `Z"`...)
	case x.form == formDate:
		return strconv.AppendInt(dst, m.Days, 10)
	}
	n, ok := m.In(x.unit)
	if !ok {
		return e.fail(dst, x, "it is no number of 64 bits; time_precision: connect or isostring have it")
	}
	return strconv.AppendInt(dst, n, 10)
}

// appendInfinity appends an infinity of PostgreSQL: of a timestamp as its JDBC driver has it, of a date the last and the first number, as the
// server itself has it.
func (e *encoder) appendInfinity(dst []byte, x *column, negative bool) []byte {
	n := int64(plusInfinity)
	if negative {
		n = minusInfinity
	}
	switch {
	case x.unit < 0 || x.unit == 0 && x.form == formTimestamp:
		return e.fail(dst, x, "an infinity is no date; time_precision: adaptive has it")
	case x.form == formDate && negative:
		n = -1 << 31
	case x.form == formDate:
		n = 1<<31 - 1
	default:
		n /= x.unit
	}
	return strconv.AppendInt(dst, n, 10)
}

// appendZero appends what stands for a date that no calendar has.
func (x *column) appendZero(dst []byte) []byte {
	if x.nullable {
		return append(dst, null...)
	}
	return append(dst, x.filler...)
}

func (e *encoder) appendTime(dst []byte, x *column, text []byte) []byte {
	micros, ok := parse.Clock(text)
	switch {
	case !ok:
		return e.fail(dst, x, "it is no time")
	case x.unit == 0:
		return strconv.AppendInt(dst, micros*1000, 10)
	case x.unit > 0 && e.format.Time != TimeConnect || micros >= 0 && micros < day || micros == day && x.unit > 0:
		if x.unit > 0 {
			return strconv.AppendInt(dst, micros/x.unit, 10)
		}
		return append(appendClock(append(dst, '"'), micros, -1), `Z"`...)
	default:
		return e.fail(dst, x, "it is no time of a day; time_precision: adaptive has it")
	}
}

func (e *encoder) appendZoned(dst []byte, x *column, text []byte) []byte {
	const dateT = len("2024-02-29T")
	if len(text) > dateT && text[dateT-1] == 'T' || bytes.HasSuffix(text, []byte("infinity")) {
		return append(append(append(dst, '"'), text...), '"')
	}
	m, ok := parse.Moment(text)
	if !ok {
		return e.fail(dst, x, "it is no timestamp")
	}
	if m.Zero {
		return x.appendZero(dst)
	}
	dst = append(appendDate(append(dst, '"'), m.Days), 'T')
	return append(appendClock(dst, m.Micros, x.scale), `Z"`...)
}

func (e *encoder) appendInterval(dst []byte, x *column, text []byte) []byte {
	v, ok := parseInterval(text)
	if !ok {
		return e.fail(dst, x, "it is no interval")
	}
	if e.format.IntervalText {
		return append(v.append(append(dst, '"')), '"')
	}
	n, ok := v.total()
	if !ok {
		return e.fail(dst, x, "it is no number of 64 bits; interval: string has it")
	}
	return strconv.AppendInt(dst, n, 10)
}
