package protobuf

import (
	"encoding/binary"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
)

// The types of fields.
const (
	typeBool      = "bool"
	typeInt32     = "int32"
	typeInt64     = "int64"
	typeUint32    = "uint32"
	typeUint64    = "uint64"
	typeFloat     = "float"
	typeDouble    = "double"
	typeString    = "string"
	typeBytes     = "bytes"
	typeTimestamp = "google.protobuf.Timestamp"
	typeDecimal   = "Decimal"
	typeGeometry  = "Geometry"
	typeFloats    = "Floats"

	importTimestamp = "google/protobuf/timestamp.proto"
)

// form is how the values of a column are written.
type form uint8

const (
	formText form = iota
	formBool
	formInt
	formUint
	formFloat
	formDouble
	formBytes
	formTimestamp
	formDecimal
	formGeometry
	formArray  // of elements that can be NULL
	formFloats // a vector
)

// How the values of fields are framed.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireSized   = 2
	wireFixed32 = 5
)

// column is how a column is written. It is immutable.
type column struct {
	original string
	table    *change.Table
	form     form
	typ      string
	bits     int    // of an integer
	scale    int    // of a decimal
	digits   int    // its precision
	tag      []byte // in front of a value
	element  *column
}

// column works out how a column is written.
func (f *Format) column(t *change.Table, i int) *column {
	x := &column{original: t.Columns[i].Name, table: t}
	f.shape(x, &t.Columns[i])
	return x
}

func (x *column) wire() uint64 {
	switch x.form {
	case formBool, formInt, formUint:
		return wireVarint
	case formFloat:
		return wireFixed32
	case formDouble:
		return wireFixed64
	default:
		return wireSized
	}
}

// number sets the number of the field.
func (x *column) number(n int) {
	x.tag = binary.AppendUvarint(nil, uint64(n)<<3|x.wire()) //nolint:gosec // at most maxNumber
}

// shape works out the type of a column.
func (f *Format) shape(x *column, c *change.Column) {
	x.form, x.typ = formText, typeString
	switch c.Logical {
	case change.LogicalBool:
		x.form, x.typ = formBool, typeBool
	case change.LogicalInt32:
		x.form, x.typ, x.bits = formInt, typeInt32, 32
	case change.LogicalInt64:
		x.form, x.typ, x.bits = formInt, typeInt64, 64
	case change.LogicalUint32:
		x.form, x.typ, x.bits = formUint, typeUint32, 32
	case change.LogicalUint64:
		x.form, x.typ, x.bits = formUint, typeUint64, 64
	case change.LogicalFloat32:
		x.form, x.typ = formFloat, typeFloat
	case change.LogicalFloat64:
		x.form, x.typ = formDouble, typeDouble
	case change.LogicalDecimal:
		if f.DecimalMessage && c.Precision > 0 {
			x.form, x.typ, x.digits, x.scale = formDecimal, typeDecimal, c.Precision, c.Scale
		}
	case change.LogicalBytes:
		x.form, x.typ = formBytes, typeBytes
	case change.LogicalTimestamp:
		if !f.TimeText {
			x.form, x.typ = formTimestamp, typeTimestamp
		}
	case change.LogicalGeometry:
		x.form, x.typ = formGeometry, typeGeometry
	case change.LogicalArray:
		f.array(x, c)
	default: // dates and times without a zone are texts, as are JSON, enumerations, UUIDs and all else
	}
}

// array works out arrays of a type that is known.
func (f *Format) array(x *column, c *change.Column) {
	if f.ArrayText || len(c.Parts) != 1 {
		return
	}
	if c.Parts[0].Type == "" { // of a vector, whose numbers are there
		x.form, x.typ = formFloats, typeFloats
		return
	}
	element := &column{original: x.original, table: x.table}
	f.shape(element, &c.Parts[0])
	if element.form == formArray || element.form == formFloats {
		return
	}
	element.number(1)
	x.form, x.element = formArray, element
	x.typ = "ArrayOf" + word(element.typ)
}

// word makes a part of a message's name of a type.
func word(typ string) string {
	typ = typ[strings.LastIndexByte(typ, '.')+1:]
	return strings.ToUpper(typ[:1]) + typ[1:]
}

// messages returns the messages that the type of a column needs beside it.
func (x *column) messages() []*message {
	switch x.form {
	case formDecimal:
		return []*message{{typeDecimal, []field{{typ: typeBytes, name: "value", number: 1}, {typ: typeUint32, name: "precision", number: 2}, {typ: typeInt32, name: "scale", number: 3}}}}
	case formGeometry:
		return []*message{{typeGeometry, []field{{typ: typeBytes, name: "wkb", number: 1}, {label: optional, typ: typeInt32, name: "srid", number: 2}}}}
	case formFloats:
		return []*message{{typeFloats, []field{{label: repeated, typ: typeFloat, name: "elements", number: 1}}}}
	case formArray:
		element := "Nullable" + word(x.element.typ)
		return append([]*message{
			{x.typ, []field{{label: repeated, typ: element, name: "elements", number: 1}}},
			{element, []field{{label: optional, typ: x.element.typ, name: "value", number: 1}}},
		}, x.element.messages()...)
	default:
		return nil
	}
}
