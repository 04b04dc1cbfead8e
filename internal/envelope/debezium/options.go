// Package debezium is the format of Debezium's messages, so that a consumer written for Debezium reads ours unchanged. It is compared
// with a Debezium that reads the same servers, by the tests of the inputs.
package debezium

import "github.com/deltaforge/deltaforge/internal/change"

// Decimal is how decimals look.
type Decimal string

// The forms of decimals: Kafka Connect's bytes, text, or a floating-point number, which can lose digits.
const (
	DecimalPrecise Decimal = "precise"
	DecimalString  Decimal = "string"
	DecimalDouble  Decimal = "double"
)

// TimePrecision is how dates and times without a zone look.
type TimePrecision string

// The forms of dates and times.
const (
	TimeAdaptive     TimePrecision = "adaptive" // as precise as the column
	TimeConnect      TimePrecision = "connect"  // Kafka Connect's types: milliseconds
	TimeMicroseconds TimePrecision = "microseconds"
	TimeNanoseconds  TimePrecision = "nanoseconds"
	TimeISO          TimePrecision = "isostring"
)

// Binary is how bytes look.
type Binary string

// The forms of bytes. Bytes and base64 differ in the schema only.
const (
	BinaryBytes     Binary = "bytes"
	BinaryBase64    Binary = "base64"
	BinaryBase64URL Binary = "base64-url-safe"
	BinaryHex       Binary = "hex"
)

// Format is the format. It is immutable; its address is the key of what it keeps at tables.
type Format struct {
	// Schemas puts the schema beside each payload and key.
	Schemas bool
	// Tombstones sends a message without payload after each delete.
	Tombstones bool
	// Truncates delivers truncates.
	Truncates bool
	Decimal   Decimal
	Time      TimePrecision
	Binary    Binary
	// PreciseUnsigned: BIGINT UNSIGNED is a decimal without fraction. Else it is a signed integer of 64 bits, negative from 2^63 on.
	PreciseUnsigned bool
	// IntervalText: intervals are ISO 8601. Else they are microseconds.
	IntervalText bool
	// HstoreMap: an hstore is an object. Else it is the text of one.
	HstoreMap bool
	// Placeholder stands for a value that the log does not carry.
	Placeholder string
}

var _ change.Format = (*Format)(nil)

// DefaultPlaceholder is Debezium's.
const DefaultPlaceholder = "__debezium_unavailable_value"

// Default returns the format with Debezium's defaults.
func Default() *Format {
	return &Format{Tombstones: true, Decimal: DecimalPrecise, Time: TimeAdaptive, Binary: BinaryBytes, Placeholder: DefaultPlaceholder}
}

// NewEncoder implements change.Format.
func (f *Format) NewEncoder() change.Encoder { return &encoder{format: f} }
