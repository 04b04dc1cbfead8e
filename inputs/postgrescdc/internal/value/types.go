// Package value makes values of the text forms of types.
package value

import (
	"time"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Codec says how the text form of a type becomes a value.
type Codec uint8

// The codecs.
const (
	CodecText Codec = iota
	CodecBool
	CodecInt
	CodecUint
	CodecFloat32
	CodecFloat64
	CodecNumeric
	CodecBytea
	CodecJSON
	CodecTime
	CodecTimestamp
	CodecTimestampTZ
	CodecBit1
	CodecVector // int2vector, oidvector: "1 2 3"
	CodecArray
	CodecComposite
	CodecHstore
	CodecPoint
	CodecGeometry
	CodecDigits  // an integer that is delivered as a string
	CodecAltered // a composite of which it is in doubt what fields it had
	CodecGone    // a type that the catalogue no longer has
)

// Key identifies a type with its modifier.
type Key struct {
	OID    uint32
	Typmod int32
}

// Type is a type as decoding needs it. It is immutable once built.
type Type struct {
	Codec Codec
	Text  string // as the database writes the type
	Base  string // the text of the type below a domain
	// Unlisted types are delivered as the database prints them, with a warning.
	Unlisted bool
	Logical  change.Logical
	// Digits is the declared number of fractional digits of a time; -1 where it has no meaning.
	Digits           int
	precision, scale int
	Elem             *Type          // of an array
	Delimiter        byte           // between the elements of an array
	Fields           []Field        // of a composite
	Maybe            []*Type        // what an altered composite may be, each with another number of fields
	parts            change.Logical // of a list that has no elem
	// Quiet is how long an altered composite must not be used before and after an ALTER TYPE that is not to leave values in doubt.
	Quiet time.Duration
}

// Column describes a column, a field or an element of the type. Without a constraint any of them can be NULL.
func (t *Type) Column(name string, nullable bool) change.Column {
	c := change.Column{
		Name: name, Type: t.Text, Base: t.Base, Logical: t.Logical, Nullable: nullable, Precision: t.precision, Scale: t.scale,
		Quoted: t.Codec == CodecDigits,
	}
	switch {
	case t.Codec == CodecArray:
		c.Parts = []change.Column{t.Elem.Column("", true)}
	case t.Codec == CodecComposite, t.Codec == CodecAltered:
		for _, f := range t.Fields {
			c.Parts = append(c.Parts, f.Typ.Column(f.Name, true))
		}
	case t.Codec == CodecHstore:
		c.Parts = []change.Column{{Type: "text", Nullable: true}}
	case t.Logical == change.LogicalArray:
		c.Parts = []change.Column{{Logical: t.parts}}
	}
	return c
}

// Field is one field of a composite.
type Field struct {
	Name string
	Typ  *Type
}

// The OIDs of the built-in types (pg_type.dat); they never change.
const (
	oidBool        = 16
	oidBytea       = 17
	oidChar        = 18
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt2Vector  = 22
	oidInt4        = 23
	oidText        = 25
	oidOID         = 26
	oidXID         = 28
	oidCID         = 29
	oidOIDVector   = 30
	oidJSON        = 114
	oidXML         = 142
	oidPoint       = 600
	oidCIDR        = 650
	oidFloat4      = 700
	oidFloat8      = 701
	oidMacaddr8    = 774
	oidMoney       = 790
	oidMacaddr     = 829
	oidInet        = 869
	oidBPChar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidInterval    = 1186
	oidTimeTZ      = 1266
	oidBit         = 1560
	oidVarbit      = 1562
	oidNumeric     = 1700
	oidUUID        = 2950
	oidLSN         = 3220
	oidTSVector    = 3614
	oidTSQuery     = 3615
	oidJSONB       = 3802
	oidXID8        = 5069
)

// defaultDigits is the precision of a time that was declared without one.
const defaultDigits = 6

// Scalar fills in a base type that is neither array nor composite, by its OID or, for the types of extensions, by its
// name. It reports whether the type is listed.
func (t *Type) Scalar(key Key, name string) bool {
	if !t.builtin(key) && (key.OID < FirstCustomOID || !t.extension(name)) {
		return false
	}
	t.Unlisted = false
	return true
}

func (t *Type) builtin(key Key) bool {
	switch key.OID {
	case oidBool:
		t.Codec, t.Logical = CodecBool, change.LogicalBool
	case oidInt2, oidInt4:
		t.Codec, t.Logical = CodecInt, change.LogicalInt32
	case oidInt8:
		t.Codec, t.Logical = CodecInt, change.LogicalInt64
	case oidOID, oidXID, oidCID:
		t.Codec, t.Logical = CodecUint, change.LogicalUint32
	case oidXID8:
		t.Codec, t.Logical = CodecUint, change.LogicalUint64
	case oidFloat4:
		t.Codec, t.Logical = CodecFloat32, change.LogicalFloat32
	case oidFloat8:
		t.Codec, t.Logical = CodecFloat64, change.LogicalFloat64
	case oidNumeric:
		t.Codec, t.Logical = CodecNumeric, change.LogicalDecimal
		if key.Typmod >= 4 {
			mod := key.Typmod - 4
			t.precision = int(mod >> 16 & 0xffff)
			t.scale = int((mod&0x7ff)^0x400) - 0x400 // eleven bits, signed
		}
	case oidUUID:
		t.Logical = change.LogicalUUID
	case oidMoney, oidText, oidVarchar, oidBPChar, oidName, oidChar, oidInet, oidCIDR, oidMacaddr, oidMacaddr8,
		oidXML, oidTSVector, oidTSQuery, oidLSN, oidInterval, oidVarbit:
	case oidBytea:
		t.Codec, t.Logical = CodecBytea, change.LogicalBytes
	case oidJSON, oidJSONB:
		t.Codec, t.Logical = CodecJSON, change.LogicalJSON
	case oidDate:
		t.Logical = change.LogicalDate
	case oidTime, oidTimeTZ:
		t.Codec, t.Logical = CodecTime, change.LogicalTime
		t.fraction(key.Typmod)
	case oidTimestamp:
		t.Codec, t.Logical = CodecTimestamp, change.LogicalDateTime
		t.fraction(key.Typmod)
	case oidTimestampTZ:
		t.Codec, t.Logical = CodecTimestampTZ, change.LogicalTimestamp
		t.fraction(key.Typmod)
	case oidBit:
		if key.Typmod == 1 {
			t.Codec, t.Logical = CodecBit1, change.LogicalBool
		}
	case oidInt2Vector:
		t.Codec, t.Logical, t.parts = CodecVector, change.LogicalArray, change.LogicalInt32
	case oidOIDVector:
		t.Codec, t.Logical, t.parts = CodecVector, change.LogicalArray, change.LogicalUint32
	case oidPoint:
		t.Codec, t.Logical = CodecPoint, change.LogicalGeometry
	default:
		return false
	}
	return true
}

func (t *Type) fraction(typmod int32) {
	t.Digits = defaultDigits
	if typmod >= 0 && typmod <= defaultDigits {
		t.Digits = int(typmod)
	}
	t.scale = t.Digits
}

// extension knows the types of common extensions, whose OIDs differ between databases.
func (t *Type) extension(name string) bool {
	switch name {
	case "citext", "ltree", "lquery", "ltxtquery":
	case "hstore":
		t.Codec, t.Logical = CodecHstore, change.LogicalMap
	case "vector", "halfvec": // prints itself as a JSON array of numbers
		t.Codec, t.Logical, t.parts = CodecJSON, change.LogicalArray, change.LogicalFloat32
	case "geometry", "geography":
		t.Codec, t.Logical = CodecGeometry, change.LogicalGeometry
	default:
		return false
	}
	return true
}

// FirstCustomOID is the first OID that is not the server's own (FirstNormalObjectId).
const FirstCustomOID = 16384
