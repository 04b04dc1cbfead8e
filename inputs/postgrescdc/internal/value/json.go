package value

import (
	"strconv"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// AppendJSON appends the JSON of the text form of a type: what envelope.AppendValue makes of what Value does. It returns false where Value has an
// error, or makes the row invalid, or gives bytes for text. What it makes of a value does not stay: a Decoder that makes values is not for this.
func (d *Decoder) AppendJSON(dst []byte, t *Type, raw []byte) ([]byte, bool) {
	switch t.Codec {
	case CodecText:
		if d.Trust != IsUTF8 && !utf8.Valid(raw) {
			return dst, false
		}
		return envelope.AppendText(dst, raw), true
	case CodecInt:
		if plainInteger(raw) {
			return append(dst, raw...), true
		}
		n, err := parseInt(raw)
		return strconv.AppendInt(dst, n, 10), err == nil
	case CodecNumeric:
		if checkNumeric(raw) != nil {
			return dst, false
		}
		return append(append(append(dst, '"'), raw...), '"'), true
	case CodecBool:
		if len(raw) != 1 || raw[0] != 't' && raw[0] != 'f' {
			return dst, false
		}
		return strconv.AppendBool(dst, raw[0] == 't'), true
	}
	v, err := d.Scratch(t, raw)
	if err != nil || d.Invalid != nil {
		return dst, false
	}
	return envelope.AppendValue(dst, v), true
}

// Scratch is Value, whose result is good until the next call.
func (d *Decoder) Scratch(t *Type, raw []byte) (change.Value, error) {
	d.scratch, d.Invalid = d.scratch[:0], nil
	return d.Value(t, raw)
}

// plainInteger reports an integer of fewer digits than the largest one has, as it is written in JSON.
func plainInteger(raw []byte) bool {
	const digits = 18
	if len(raw) > 1 && raw[0] == '-' {
		raw = raw[1:]
		if raw[0] == '0' {
			return false
		}
	}
	if len(raw) == 0 || len(raw) > digits || raw[0] == '0' && len(raw) > 1 {
		return false
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
