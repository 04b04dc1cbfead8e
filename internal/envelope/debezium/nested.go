package debezium

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

// appendArray appends the elements of an array in their form, and returns what follows the array. Raw is what the inputs deliver: JSON in
// the native form. Arrays of several dimensions are arrays of arrays.
func (e *encoder) appendArray(dst []byte, x *column, raw []byte) (out, rest []byte) {
	dst = append(dst, '[')
	raw = raw[1:]
	for len(raw) > 0 && raw[0] != ']' {
		switch {
		case raw[0] == ',':
			dst, raw = append(dst, ','), raw[1:]
		case raw[0] == ' ':
			raw = raw[1:]
		case raw[0] == '[' && x.form != formJSON && x.form != formRaw && x.form != formArray:
			dst, raw = e.appendArray(dst, x, raw)
		default:
			n := parse.TokenSize(raw)
			dst = e.appendElement(dst, x, raw[:n])
			raw = raw[n:]
		}
	}
	if len(raw) > 0 {
		raw = raw[1:]
	}
	return append(dst, ']'), raw
}

// appendElement appends one element, a JSON value in the native form.
func (e *encoder) appendElement(dst []byte, x *column, token []byte) []byte {
	if string(token) == null {
		return append(dst, null...)
	}
	switch x.form {
	case formJSON:
		return envelope.AppendText(dst, token)
	case formNumber:
		return append(dst, bytes.Trim(token, `"`)...) // a string under bigint: string
	case formRaw, formFloat:
		return append(dst, token...)
	case formText:
		if token[0] == '"' {
			return append(dst, token...)
		}
		return envelope.AppendText(dst, token)
	case formBytes:
		b, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSuffix(bytes.TrimPrefix(token, []byte(`{"_base64":"`)), []byte(`"}`)))
		if err != nil {
			return e.fail(dst, x, "it is not base64")
		}
		return e.format.appendBytes(dst, b)
	case formArray:
		dst, _ = e.appendArray(dst, x.element, token)
		return dst
	default:
	}
	if token[0] != '"' {
		if x.form == formBool {
			return append(dst, token...)
		}
		return e.appendValue(dst, x, change.JSONValue(token))
	}
	text, ok := parse.Text(token)
	if !ok {
		return e.fail(dst, x, "it is no text")
	}
	return e.appendValue(dst, x, change.TextValue(text))
}

// appendGeometry appends a geometry, {"wkb":…,"srid":…} in the native form. 0 is MySQL's way to say that there is no reference system.
func (e *encoder) appendGeometry(dst []byte, x *column, raw []byte) []byte {
	wkb, srid, ok := bytes.Cut(bytes.TrimSuffix(bytes.TrimPrefix(raw, []byte(`{"wkb":"`)), []byte{'}'}), []byte(`","srid":`))
	if !ok {
		return e.fail(dst, x, "it is no geometry")
	}
	dst = append(dst, '{')
	if x.form == formPoint {
		var err error
		if e.scratch, err = base64.StdEncoding.AppendDecode(e.scratch[:0], wkb); err != nil || len(e.scratch) < 21 {
			return e.fail(dst[:len(dst)-1], x, "it is no point")
		}
		b := e.scratch[5:]
		dst = envelope.AppendFloat(append(dst, `"x":`...), math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
		dst = append(envelope.AppendFloat(append(dst, `,"y":`...), math.Float64frombits(binary.LittleEndian.Uint64(b[8:])), 64), ',')
	}
	dst = append(append(append(dst, `"wkb":"`...), wkb...), `","srid":`...)
	if n, err := strconv.Atoi(string(srid)); err == nil && n == 0 {
		return append(dst, `null}`...)
	}
	return append(append(dst, srid...), '}')
}
