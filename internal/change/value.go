// Package change says what a row change is: an Event on a Table, made of Values. It also owns the way between an Event
// and a Benthos message; every other package calls NewMessage and FromMessage.
package change

import (
	"bytes"
	"math"
	"unsafe"
)

// Kind says what a Value holds and how its bits and bytes are to be read.
type Kind uint8

// The kinds of values. The zero Kind is Absent, so that a Value that nobody set is never taken for a NULL.
const (
	// Absent: the column is not part of this row image (row image MINIMAL).
	Absent Kind = iota
	// Null: SQL NULL.
	Null
	// Unavailable: the row has a value and the log does not carry it (unchanged TOAST, NOBLOB).
	Unavailable
	// Bool holds 0 or 1.
	Bool
	// Int holds a signed integer of up to 64 bits.
	Int
	// Uint holds an unsigned integer of up to 64 bits.
	Uint
	// Float32 and Float64 hold a binary floating-point number, NaN and the infinities included.
	Float32
	Float64
	// Decimal holds the exact decimal text as the database prints it.
	Decimal
	// Text holds UTF-8: strings, and everything that is delivered as the database prints it.
	Text
	// Bytes holds binary data.
	Bytes
	// JSON holds one valid JSON value (json columns, arrays, composites).
	JSON
)

// Value is one column's value in one row. Its only pointer is to its bytes. Nobody may change them: they may be part of
// the buffer that the row was read into.
type Value struct {
	p    *byte  // the first of the bytes; nil for none
	n    uint64 // the bits, or how many bytes
	kind Kind
}

func bytesOf(kind Kind, b []byte) Value {
	return Value{kind: kind, p: unsafe.SliceData(b), n: uint64(len(b))}
}

// The constructors. Those that take bytes keep them.

// NullValue returns SQL NULL.
func NullValue() Value { return Value{kind: Null} }

// UnavailableValue returns a value that the log does not carry.
func UnavailableValue() Value { return Value{kind: Unavailable} }

// BoolValue returns a truth value.
func BoolValue(v bool) Value {
	if v {
		return Value{kind: Bool, n: 1}
	}
	return Value{kind: Bool}
}

// IntValue returns a signed integer.
func IntValue(v int64) Value { return Value{kind: Int, n: uint64(v)} }

// UintValue returns an unsigned integer.
func UintValue(v uint64) Value { return Value{kind: Uint, n: v} }

// Float32Value returns a single-precision number.
func Float32Value(v float32) Value { return Value{kind: Float32, n: uint64(math.Float32bits(v))} }

// Float64Value returns a double-precision number.
func Float64Value(v float64) Value { return Value{kind: Float64, n: math.Float64bits(v)} }

// DecimalValue returns an exact decimal, text as the database prints it.
func DecimalValue(text []byte) Value { return bytesOf(Decimal, text) }

// TextValue returns UTF-8 text.
func TextValue(text []byte) Value { return bytesOf(Text, text) }

// BytesValue returns binary data.
func BytesValue(data []byte) Value { return bytesOf(Bytes, data) }

// JSONValue returns a JSON value; raw must be valid JSON.
func JSONValue(raw []byte) Value { return bytesOf(JSON, raw) }

// Kind returns what the value holds.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports SQL NULL.
func (v Value) IsNull() bool { return v.kind == Null }

// Equal reports whether two values are the same: of one kind, with the same bits and bytes.
func (v Value) Equal(o Value) bool {
	return v.kind == o.kind && v.n == o.n && (v.kind < Decimal || v.p == o.p || bytes.Equal(v.Bytes(), o.Bytes()))
}

// Known reports whether the value is there: neither absent nor unavailable. NULL is known.
func (v Value) Known() bool { return v.kind != Absent && v.kind != Unavailable }

// Bool returns the value of a Bool.
func (v Value) Bool() bool { return v.n != 0 }

// Int returns the value of an Int.
func (v Value) Int() int64 { return int64(v.n) }

// Uint returns the value of a Uint.
func (v Value) Uint() uint64 { return v.n }

// Float32 returns the value of a Float32.
func (v Value) Float32() float32 { return math.Float32frombits(uint32(v.n)) }

// Float64 returns the value of a Float64.
func (v Value) Float64() float64 { return math.Float64frombits(v.n) }

// Bytes returns the bytes of a Decimal, Text, Bytes or JSON value, nil for any other. They must not be changed.
func (v Value) Bytes() []byte {
	if v.kind < Decimal {
		return nil
	}
	return unsafe.Slice(v.p, v.n)
}
