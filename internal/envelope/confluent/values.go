package confluent

import (
	"encoding/base64"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

// Text returns the text of a value that is there. Scratch has room for one that is made.
func Text(v change.Value, scratch *[]byte) []byte {
	b := (*scratch)[:0]
	switch v.Kind() {
	case change.Text, change.JSON, change.Decimal:
		return v.Bytes()
	case change.Bytes: // text that could not be decoded, under undecodable_text: base64
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
	case change.Uint:
		b = strconv.AppendUint(b, v.Uint(), 10)
	case change.Bool:
		b = strconv.AppendBool(b, v.Bool())
	default:
		b = strconv.AppendInt(b, v.Int(), 10)
	}
	*scratch = b
	return b
}

// Bool returns the value of a boolean, or of a bit.
func Bool(v change.Value) bool {
	return v.Kind() == change.Bool && v.Bool() || v.Kind() == change.Text && string(v.Bytes()) == "1"
}

// Float returns a number; single says that it has 32 bits. An element of an array is read from its text, which may be no number.
func Float(v change.Value, single bool) (float64, bool) {
	switch v.Kind() {
	case change.Float32:
		return float64(v.Float32()), true
	case change.Float64:
		return v.Float64(), true
	default:
		bits := 64
		if single {
			bits = 32
		}
		f, err := strconv.ParseFloat(string(v.Bytes()), bits)
		return f, err == nil
	}
}

// Of is what the elements of an array are, as far as their JSON depends on it.
type Of int

// What elements are.
const (
	OfOthers Of = iota
	OfBytes
	OfBools
)

// Element returns the value of an element that is not null, from its JSON in the native form; false if it is none of its type.
func Element(of Of, token []byte) (change.Value, bool) {
	switch {
	case of == OfBytes:
		b, ok := parse.Base64(token)
		return change.BytesValue(b), ok
	case of == OfBools && token[0] != '"':
		return change.BoolValue(string(token) == "true"), true
	case token[0] != '"' || len(token) < 2:
		return change.JSONValue(token), true
	}
	text, ok := parse.Text(token)
	return change.TextValue(text), ok
}
