package avro

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

// fallbackOf returns the default of a column as a schema has it (Avro 1.11, "Complex Types": JSON, bytes as the characters of their codes), or
// false for a text that is not for certain what the database makes of it.
func (x *column) fallbackOf(c *change.Column, text []byte) (string, bool) {
	switch x.form {
	case formText, formUUID:
		return string(envelope.AppendText(nil, text)), x.form == formUUID && len(text) == uuidLength || x.isPlainText(c, text)
	case formBool:
		switch string(text) {
		case "t", "true", "1":
			return "true", true
		case "f", "false", "0":
			return "false", true
		}
	case formInt:
		n, err := strconv.ParseInt(string(text), 10, x.bits)
		return strconv.FormatInt(n, 10), err == nil
	case formFloat, formDouble:
		bits := 64
		if x.form == formFloat {
			bits = 32
		}
		n, err := strconv.ParseFloat(string(text), bits)
		return string(envelope.AppendFloat(nil, n, bits)), err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
	case formDecimal:
		b, ok := parse.AppendUnscaled(nil, text, x.scale)
		if len(b) == 0 {
			b = []byte{0}
		}
		return codes(b), ok && len(bytes.Trim(text, "-.0123456789")) == 0
	case formDate, formTimestamp, formTime:
		return x.momentOf(c, text)
	case formEnum:
		i, ok := x.symbols[string(text)]
		if ok {
			return string(envelope.AppendString(nil, confluent.Unique(x.labels)[i])), true
		}
	default:
	}
	return "", false
}

const uuidLength = 36

// isPlainText reports a text that the database keeps as it is: there are many other types whose values are delivered as text.
func (x *column) isPlainText(c *change.Column, text []byte) bool {
	switch name, _ := typeOf(c); name {
	case "char": // without spaces at its end
		return !bytes.HasSuffix(text, []byte{' '})
	case "varchar", "tinytext", "text", "mediumtext", "longtext", "character varying":
		return true
	case "enum":
		return slices.Contains(x.labels, string(text))
	default:
		return false
	}
}

// momentOf is fallbackOf for dates and times. The text of a point in time depends on a time zone.
func (x *column) momentOf(c *change.Column, text []byte) (string, bool) {
	exact := int64(1) // microseconds of the last digit
	for range 6 - c.Scale {
		exact *= 10
	}
	if x.form == formTime {
		micros, ok := parse.Clock(text)
		return strconv.FormatInt(micros/x.unit, 10), ok && micros >= 0 && micros < parse.Day && micros%exact == 0
	}
	m, ok := parse.Moment(text)
	if !ok || m.Zero || c.Logical == change.LogicalTimestamp {
		return "", false
	}
	if x.form == formDate {
		return strconv.FormatInt(m.Days, 10), m.Micros == 0 && m.Days <= math.MaxInt32 && m.Days >= math.MinInt32
	}
	n, ok := m.In(x.unit)
	return strconv.FormatInt(n, 10), ok && m.Micros%exact == 0
}

// codes returns bytes as a JSON string in which each character has the code of a byte.
func codes(b []byte) string {
	const hex = "0123456789abcdef"
	var s strings.Builder
	s.WriteByte('"')
	for _, c := range b {
		s.WriteString(`\u00`)
		s.WriteByte(hex[c>>4])
		s.WriteByte(hex[c&15])
	}
	s.WriteByte('"')
	return s.String()
}
