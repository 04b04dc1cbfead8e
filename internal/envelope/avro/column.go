package avro

import (
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// form is how the values of a column are written.
type form uint8

const (
	formText form = iota
	formUUID
	formBool
	formInt // int and long
	formFloat
	formDouble
	formBytes
	formDecimal
	formDate
	formTime
	formTimestamp
	formEnum
	formGeometry
	formArray
)

// column is how a column is written. It is immutable.
type column struct {
	name     string // in the schema
	original string
	table    *change.Table
	form     form
	typ      string // of the schema, without null: what a "type" may be
	nullable bool   // in the row; a key has no null
	bits     int    // of an integer
	scale    int    // of a decimal
	unit     int64  // of a time, in microseconds
	zoned    bool   // of a timestamp: a point in time
	symbols  map[string]int
	labels   []string // of an enumeration, as the database has them
	element  *column
	fallback string // the default in the schema of a column that is not nullable; empty: none
}

// typeOf splits a type as the database writes it: "numeric(10,2)" has the name numeric and the arguments "10,2".
func typeOf(c *change.Column) (name, args string) {
	text := c.Type
	if c.Base != "" {
		text = c.Base
	}
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return strings.ToLower(text), ""
	}
	return strings.ToLower(strings.TrimSpace(text[:from] + text[to+1:])), text[from+1 : to]
}

// column works out how a column is written.
func (f *Format) column(t *change.Table, i int, name string) *column {
	c := &t.Columns[i]
	x := &column{name: name, original: c.Name, table: t, nullable: c.Nullable || f.Optional}
	f.shape(x, c)
	if c.Default != nil && !x.nullable {
		if text, ok := x.fallbackOf(c, []byte(*c.Default)); ok {
			x.fallback = text
		}
	}
	return x
}

const typeString = `"string"`

// shape works out the type of a column.
func (f *Format) shape(x *column, c *change.Column) {
	x.form, x.typ = formText, typeString
	switch c.Logical {
	case change.LogicalBool:
		x.form, x.typ = formBool, `"boolean"`
	case change.LogicalInt32:
		x.form, x.typ, x.bits = formInt, `"int"`, 32
	case change.LogicalInt64, change.LogicalUint32:
		x.form, x.typ, x.bits = formInt, `"long"`, 64
	case change.LogicalUint64:
		f.decimal(x, uint64Digits, 0)
	case change.LogicalFloat32:
		x.form, x.typ = formFloat, `"float"`
	case change.LogicalFloat64:
		x.form, x.typ = formDouble, `"double"`
	case change.LogicalDecimal:
		f.decimal(x, c.Precision, c.Scale)
	case change.LogicalBytes:
		x.form, x.typ = formBytes, `"bytes"`
	case change.LogicalDate, change.LogicalTime, change.LogicalDateTime, change.LogicalTimestamp:
		f.time(x, c)
	case change.LogicalUUID:
		x.form, x.typ = formUUID, logical("string", "uuid")
	case change.LogicalGeometry:
		x.form, x.typ = formGeometry, geometry
	case change.LogicalArray:
		f.array(x, c)
	default:
		f.text(x, c)
	}
}

// uint64Digits are those of the largest integer.
const uint64Digits = 20

// geometry is the type of geometries. It is defined where it is first used, see schema.go.
const geometry = "geometry"

func logical(typ, name string) string { return `{"type":"` + typ + `","logicalType":"` + name + `"}` }

// decimal works out decimals. One without a precision, or with a scale that Avro has not, is the text.
func (f *Format) decimal(x *column, precision, scale int) {
	if f.DecimalText || precision <= 0 || scale < 0 || scale > precision {
		return
	}
	x.form, x.scale = formDecimal, scale
	x.typ = `{"type":"bytes","logicalType":"decimal","precision":` + strconv.Itoa(precision) + `,"scale":` + strconv.Itoa(scale) + `}`
}

func (f *Format) time(x *column, c *change.Column) {
	name, _ := typeOf(c)
	if f.TimeText || c.Logical == change.LogicalTime && strings.HasSuffix(name, "with time zone") {
		return
	}
	unit, word := int64(1), "micros"
	if c.Scale <= 3 {
		unit, word = 1000, "millis"
	}
	x.unit = unit
	switch c.Logical {
	case change.LogicalDate:
		x.form, x.typ = formDate, logical("int", "date")
	case change.LogicalTime:
		typ := "long"
		if unit == 1000 {
			typ = "int"
		}
		x.form, x.typ = formTime, logical(typ, "time-"+word)
	case change.LogicalDateTime:
		x.form, x.typ = formTimestamp, logical("long", "local-timestamp-"+word)
	default:
		x.form, x.typ = formTimestamp, logical("long", "timestamp-"+word)
	}
}

// array works out arrays of a type that is known.
func (f *Format) array(x *column, c *change.Column) {
	if f.ArrayText || len(c.Parts) != 1 {
		return
	}
	element := &column{name: x.name, original: x.original, table: x.table, nullable: true}
	f.shape(element, &c.Parts[0])
	if c.Parts[0].Type == "" { // of a vector, whose numbers are there
		element.nullable = false
	}
	if element.form == formArray || element.form == formEnum {
		return
	}
	x.form, x.element = formArray, element
}

// text works out what the inputs deliver as text.
func (f *Format) text(x *column, c *change.Column) {
	name, args := typeOf(c)
	if name != "enum" || args == "" {
		return
	}
	labels := strings.Split(strings.TrimSuffix(strings.TrimPrefix(args, "'"), "'"), "','")
	for i, l := range labels {
		labels[i] = strings.ReplaceAll(l, "''", "'")
	}
	x.labels = labels
	if !f.Enums {
		x.typ = `{"type":"string","deltaforge.symbols":` + list(labels) + `}`
		return
	}
	x.form, x.symbols = formEnum, map[string]int{}
	for i, l := range labels {
		x.symbols[l] = i
	}
	x.typ = `{"type":"enum","name":"Enum_` + x.name + `","symbols":` + list(confluent.Unique(labels)) + `,"deltaforge.symbols":` + list(labels) + `}`
}
