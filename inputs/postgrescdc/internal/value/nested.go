package value

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// maxNesting bounds arrays in composites in arrays. An array itself has at most six dimensions.
const maxNesting = 64

var errNesting = errors.New("nested too deeply")

// appendNested appends the JSON of a type that has parts.
func (d *Decoder) appendNested(dst []byte, t *Type, raw []byte, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, errNesting
	}
	switch t.Codec {
	case CodecArray:
		return d.appendArray(dst, t, raw, depth)
	case CodecComposite:
		return d.appendComposite(dst, t, raw, depth)
	case CodecAltered:
		return d.appendAltered(dst, t, raw, depth)
	case CodecHstore:
		if depth > 0 && !d.isText(raw) {
			return envelope.AppendValue(dst, change.BytesValue(raw)), nil
		}
		return appendHstore(dst, raw)
	case CodecVector:
		return appendVector(dst, raw)
	case CodecPoint:
		return appendPoint(dst, raw)
	case CodecGeometry:
		return appendGeometry(dst, raw)
	default:
		// A part of its own: the value's own text must not land in dst, which is d.scratch at the outermost level.
		part := Decoder{Trust: d.Trust}
		v, err := part.Value(t, raw)
		if err != nil {
			return nil, err
		}
		if part.Invalid != nil {
			return nil, part.Invalid
		}
		return envelope.AppendValue(dst, v), nil
	}
}

// appendArray appends an array's text form, "{1,NULL,{2,3}}", with bounds before it where they do not start at one.
func (d *Decoder) appendArray(dst []byte, t *Type, raw []byte, depth int) ([]byte, error) {
	text := raw
	if len(text) > 0 && text[0] == '[' {
		i := bytes.IndexByte(text, '=')
		if i < 0 {
			return nil, fmt.Errorf("array %.40q has bounds and no elements", raw)
		}
		text = text[i+1:]
	}
	dst, rest, err := d.appendDimension(dst, t, text, depth)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("array %.40q goes on after its end", raw)
	}
	return dst, nil
}

// appendDimension appends one "{...}" and returns the text after it.
func (d *Decoder) appendDimension(dst []byte, t *Type, text []byte, depth int) (out, rest []byte, err error) {
	if depth > maxNesting {
		return nil, nil, errNesting
	}
	if len(text) < 2 || text[0] != '{' {
		return nil, nil, errors.New("array has no opening brace")
	}
	dst = append(dst, '[')
	text = text[1:]
	if text[0] == '}' {
		return append(dst, ']'), text[1:], nil
	}
	for {
		if len(text) > 0 && text[0] == '{' {
			dst, text, err = d.appendDimension(dst, t, text, depth+1)
		} else {
			var elem []byte
			var quoted bool
			if elem, quoted, text, err = arrayElement(text, t.Delimiter); err == nil {
				if !quoted && bytes.EqualFold(elem, []byte("NULL")) {
					dst = append(dst, "null"...)
				} else {
					dst, err = d.appendNested(dst, t.Elem, elem, depth+1)
				}
			}
		}
		if err != nil {
			return nil, nil, err
		}
		if len(text) == 0 {
			return nil, nil, errors.New("array has no closing brace")
		}
		switch text[0] {
		case '}':
			return append(dst, ']'), text[1:], nil
		case t.Delimiter:
			dst = append(dst, ',')
			text = text[1:]
		default:
			return nil, nil, fmt.Errorf("array has %q where a delimiter belongs", text[0])
		}
	}
}

// arrayElement returns the next element, unquoted, and the text after it.
func arrayElement(text []byte, delimiter byte) (elem []byte, quoted bool, rest []byte, err error) {
	if len(text) > 0 && text[0] == '"' {
		elem, rest, err = quotedText(text)
		return elem, true, rest, err
	}
	for i, c := range text {
		if c == delimiter || c == '}' {
			if i == 0 {
				return nil, false, nil, errors.New("array has an empty element without quotes")
			}
			return text[:i], false, text[i:], nil
		}
	}
	return nil, false, nil, errors.New("array has no closing brace")
}

// quotedText reads a string in double quotes, in which a backslash takes the next character as it is and a doubled
// quote is a quote.
func quotedText(text []byte) (s, rest []byte, err error) {
	var out []byte
	start := 1
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			out = append(out, text[start:i]...)
			i++
			start = i
		case '"':
			if i+1 < len(text) && text[i+1] == '"' {
				out = append(out, text[start:i]...)
				i++
				start = i
				continue
			}
			if out == nil {
				return text[start:i], text[i+1:], nil
			}
			return append(out, text[start:i]...), text[i+1:], nil
		}
	}
	return nil, nil, errors.New("quotes are not closed")
}

// appendAltered appends a composite that was written about when its type was altered, if the number of its fields tells what they are.
func (d *Decoder) appendAltered(dst []byte, t *Type, raw []byte, depth int) ([]byte, error) {
	n, err := countFields(raw)
	if err != nil {
		return nil, err
	}
	for _, m := range t.Maybe {
		if len(m.Fields) == n {
			return d.appendComposite(dst, m, raw, depth)
		}
	}
	return nil, fmt.Errorf("the composite type %s was altered about then, and the log does not tell which fields this value of %d has: "+
		"read the row from the database; while the source runs, an ALTER TYPE is followed exactly when no such values are written for %v before and after it",
		t.Text, n, t.Quiet)
}

func countFields(raw []byte) (n int, err error) {
	if len(raw) < 2 || raw[0] != '(' || raw[len(raw)-1] != ')' {
		return 0, errParentheses
	}
	for text := raw[1 : len(raw)-1]; ; text = text[1:] {
		if _, _, text, err = compositeField(text); err != nil {
			return 0, err
		}
		if n++; len(text) == 0 {
			return n, nil
		}
		if text[0] != ',' {
			return 0, fmt.Errorf("composite value has %q where a comma belongs", text[0])
		}
	}
}

var errParentheses = errors.New("composite value has no parentheses")

// appendComposite appends the text form of a composite, "(1,,\"a b\")", as an object.
func (d *Decoder) appendComposite(dst []byte, t *Type, raw []byte, depth int) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '(' || raw[len(raw)-1] != ')' {
		return nil, errParentheses
	}
	text := raw[1 : len(raw)-1]
	dst = append(dst, '{')
	for i, f := range t.Fields {
		if i > 0 {
			if len(text) == 0 || text[0] != ',' {
				return nil, fmt.Errorf("composite value has %d fields, its type %d", i, len(t.Fields))
			}
			text = text[1:]
			dst = append(dst, ',')
		}
		dst = envelope.AppendString(dst, f.Name)
		dst = append(dst, ':')
		value, null, rest, err := compositeField(text)
		if err != nil {
			return nil, err
		}
		text = rest
		if null {
			dst = append(dst, "null"...)
			continue
		}
		if dst, err = d.appendNested(dst, f.Typ, value, depth+1); err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
	}
	if len(text) != 0 {
		return nil, fmt.Errorf("composite value has more fields than its type, %d", len(t.Fields))
	}
	return append(dst, '}'), nil
}

// compositeField returns the next field and the text after it. An empty field is NULL.
func compositeField(text []byte) (value []byte, null bool, rest []byte, err error) {
	if len(text) > 0 && text[0] == '"' {
		value, rest, err = quotedText(text)
		return value, false, rest, err
	}
	i := bytes.IndexByte(text, ',')
	if i < 0 {
		i = len(text)
	}
	return text[:i], i == 0, text[i:], nil
}

// appendHstore appends the text form of an hstore, `"a"=>"1", "b"=>NULL`, as an object.
func appendHstore(dst, raw []byte) ([]byte, error) {
	dst = append(dst, '{')
	for text := raw; len(text) > 0; {
		if len(text) != len(raw) {
			var ok bool
			if text, ok = bytes.CutPrefix(text, []byte(", ")); !ok {
				return nil, errors.New("hstore has no comma between its pairs")
			}
			dst = append(dst, ',')
		}
		if len(text) == 0 || text[0] != '"' {
			return nil, errors.New("hstore has a key without quotes")
		}
		key, rest, err := quotedText(text)
		if err != nil {
			return nil, err
		}
		dst = envelope.AppendString(dst, key)
		dst = append(dst, ':')
		rest, ok := bytes.CutPrefix(rest, []byte("=>"))
		if !ok || len(rest) == 0 {
			return nil, errors.New("hstore has a key without a value")
		}
		if text, ok = bytes.CutPrefix(rest, []byte("NULL")); ok {
			dst = append(dst, "null"...)
			continue
		}
		if rest[0] != '"' {
			return nil, errors.New("hstore has a value without quotes")
		}
		value, rest, err := quotedText(rest)
		if err != nil {
			return nil, err
		}
		dst = envelope.AppendString(dst, value)
		text = rest
	}
	return append(dst, '}'), nil
}

// appendVector appends an int2vector or oidvector, "1 2 3", as an array.
func appendVector(dst, raw []byte) ([]byte, error) {
	dst = append(dst, '[')
	for i, f := range bytes.Fields(raw) {
		n, err := parseInt(f)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, n, 10)
	}
	return append(dst, ']'), nil
}

// appendPoint appends a point, "(x,y)", as well-known binary without a reference system.
func appendPoint(dst, raw []byte) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '(' || raw[len(raw)-1] != ')' {
		return nil, fmt.Errorf("point %.40q", raw)
	}
	xs, ys, _ := bytes.Cut(raw[1:len(raw)-1], []byte{','})
	x, err1 := parseFloat(xs, 64)
	y, err2 := parseFloat(ys, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("point %.40q: %w", raw, err)
	}
	wkb := []byte{1, 1, 0, 0, 0} // little-endian, Point
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(x))
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(y))
	return appendWKB(dst, wkb, 0), nil
}

// ewkbSRID is PostGIS's flag in the type of an extended WKB: a reference system follows.
const ewkbSRID = 0x20000000

// appendGeometry appends a PostGIS value, the hex of its extended well-known binary.
func appendGeometry(dst, raw []byte) ([]byte, error) {
	wkb, err := hex.AppendDecode(nil, raw)
	if err != nil || len(wkb) < 5 {
		return nil, errors.New("geometry is not in hex form")
	}
	var order binary.AppendByteOrder = binary.BigEndian
	typ := binary.BigEndian.Uint32(wkb[1:])
	if wkb[0] == 1 {
		order = binary.LittleEndian
		typ = binary.LittleEndian.Uint32(wkb[1:])
	}
	if typ&ewkbSRID == 0 {
		return appendWKB(dst, wkb, 0), nil
	}
	if len(wkb) < 9 {
		return nil, errors.New("geometry is cut short")
	}
	srid := binary.BigEndian.Uint32(wkb[5:])
	if wkb[0] == 1 {
		srid = binary.LittleEndian.Uint32(wkb[5:])
	}
	plain := order.AppendUint32([]byte{wkb[0]}, typ&^ewkbSRID)
	return appendWKB(dst, append(plain, wkb[9:]...), srid), nil
}

func appendWKB(dst, wkb []byte, srid uint32) []byte {
	dst = append(dst, `{"wkb":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, wkb)
	return fmt.Appendf(dst, `","srid":%d}`, srid)
}
