package value

import (
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Decoder turns the text forms of types into values. What it makes of them is in one slab, so one decoder is for all values of a segment.
type Decoder struct {
	Trust   Trust
	scratch []byte
	Invalid error // what makes the values inexact that were decoded since it was nil
}

// Room makes sure that there is room for some bytes without moving those that values point to.
func (d *Decoder) Room(least, size int) {
	if cap(d.scratch)-len(d.scratch) < least {
		d.scratch = make([]byte, 0, size)
	}
}

// Reset forgets the values that were decoded: their memory is used again.
func (d *Decoder) Reset() { d.scratch = d.scratch[:0] }

// Inexact keeps what could not be decoded where a person can see it.
func (d *Decoder) Inexact(raw []byte) change.Value {
	if utf8.Valid(raw) {
		return change.TextValue(raw)
	}
	return change.BytesValue(raw)
}

// Text makes a value of text.
func (d *Decoder) Text(raw []byte) change.Value {
	if d.isText(raw) {
		return change.TextValue(raw)
	}
	return change.BytesValue(raw)
}

// isText reports whether raw is UTF-8. Where it is not, it makes the row invalid unless the options let such text be bytes.
func (d *Decoder) isText(raw []byte) bool {
	if d.Trust == IsUTF8 || utf8.Valid(raw) {
		return true
	}
	if d.Trust == OrError {
		d.Invalid = errors.Join(d.Invalid, ErrNotUTF8)
	}
	return false
}

// Trust says whether the text that the server sends is known to be UTF-8, and what other text becomes. A database whose encoding is
// SQL_ASCII sends the bytes that it was given.
type Trust uint8

// What text is taken for.
const (
	IsUTF8 Trust = iota
	OrError
	OrBase64
)

// ErrNotUTF8 makes a value inexact.
var ErrNotUTF8 = errors.New("text is not UTF-8; the database's encoding, SQL_ASCII, does not say what it is")

// Value decodes the text form of a type.
func (d *Decoder) Value(t *Type, raw []byte) (change.Value, error) {
	switch t.Codec {
	case CodecText:
		return d.Text(raw), nil
	case CodecBool:
		return parseBool(raw)
	case CodecDigits:
		return change.DecimalValue(raw), checkInteger(raw)
	case CodecInt:
		n, err := parseInt(raw)
		return change.IntValue(n), err
	case CodecUint:
		n, err := parseUint(raw)
		return change.UintValue(n), err
	case CodecFloat32:
		f, err := parseFloat(raw, 32)
		return change.Float32Value(float32(f)), err
	case CodecFloat64:
		f, err := parseFloat(raw, 64)
		return change.Float64Value(f), err
	case CodecNumeric:
		return change.DecimalValue(raw), checkNumeric(raw)
	case CodecBytea:
		return d.bytea(raw)
	case CodecJSON:
		if !d.isText(raw) {
			return change.BytesValue(raw), nil
		}
		return change.JSONValue(raw), nil
	case CodecTime:
		return d.scratchText(appendTime(d.scratch, raw, t.Digits))
	case CodecTimestamp:
		return d.scratchText(appendTimestamp(d.scratch, raw, t.Digits, false))
	case CodecTimestampTZ:
		return d.scratchText(appendTimestamp(d.scratch, raw, t.Digits, true))
	case CodecBit1:
		return parseBit(raw)
	case CodecGone:
		return change.Value{}, fmt.Errorf("the type with the %s is gone from the catalogue, so it is unknown what the value is made of: "+
			"take it from this message, as the database printed it, and drop a type only when the rows that have it are read", t.Text)
	case CodecVector, CodecArray, CodecComposite, CodecAltered, CodecHstore, CodecPoint, CodecGeometry:
		if t.Codec == CodecHstore && !d.isText(raw) {
			return change.BytesValue(raw), nil
		}
		start := len(d.scratch)
		out, err := d.appendNested(d.scratch, t, raw, 0)
		if err != nil {
			return change.Value{}, err
		}
		d.scratch = out
		return change.JSONValue(out[start:len(out):len(out)]), nil
	default:
		return d.Text(raw), nil
	}
}

// scratchText makes a value of what was appended to scratch.
func (d *Decoder) scratchText(out []byte, err error) (change.Value, error) {
	if err != nil {
		return change.Value{}, err
	}
	start := len(d.scratch)
	d.scratch = out
	return change.TextValue(out[start:len(out):len(out)]), nil
}

func (d *Decoder) bytea(raw []byte) (change.Value, error) {
	if len(raw) < 2 || raw[0] != '\\' || raw[1] != 'x' {
		return change.Value{}, errors.New("bytea is not in hex form")
	}
	start := len(d.scratch)
	out, err := hex.AppendDecode(d.scratch, raw[2:])
	if err != nil {
		return change.Value{}, fmt.Errorf("bytea: %w", err)
	}
	d.scratch = out
	return change.BytesValue(out[start:len(out):len(out)]), nil
}
