package postgrescdc

import "github.com/deltaforge/deltaforge/internal/change"

// codec says how the text form of a type becomes a value.
type codec uint8

const (
	codecText codec = iota
	codecBool
	codecInt
	codecUint
	codecFloat32
	codecFloat64
	codecNumeric
	codecBytea
	codecJSON
	codecTime
	codecTimestamp
	codecTimestampTZ
	codecBit1
	codecVector // int2vector, oidvector: "1 2 3"
	codecArray
	codecComposite
	codecHstore
	codecPoint
	codecGeometry
	codecDigits  // an integer that is delivered as a string
	codecAltered // a composite of which it is in doubt what fields it had
	codecGone    // a type that the catalogue no longer has
)

// typeKey identifies a type with its modifier.
type typeKey struct {
	oid    uint32
	typmod int32
}

// typeInfo is a type as decoding needs it. It is immutable once built.
type typeInfo struct {
	codec codec
	text  string // as the database writes the type
	// unlisted types are delivered as the database prints them, with a warning.
	unlisted bool
	logical  change.Logical
	// digits is the declared number of fractional digits of a time; -1 where it has no meaning.
	digits           int
	precision, scale int
	elem             *typeInfo      // of an array
	delimiter        byte           // between the elements of an array
	fields           []field        // of a composite
	maybe            []*typeInfo    // what an altered composite may be, each with another number of fields
	parts            change.Logical // of a list that has no elem
}

// column describes a column, a field or an element of the type. Without a constraint any of them can be NULL.
func (t *typeInfo) column(name string, nullable bool) change.Column {
	c := change.Column{
		Name: name, Type: t.text, Logical: t.logical, Nullable: nullable, Precision: t.precision, Scale: t.scale,
		Quoted: t.codec == codecDigits,
	}
	switch {
	case t.codec == codecArray:
		c.Parts = []change.Column{t.elem.column("", true)}
	case t.codec == codecComposite, t.codec == codecAltered:
		for _, f := range t.fields {
			c.Parts = append(c.Parts, f.typ.column(f.name, true))
		}
	case t.codec == codecHstore:
		c.Parts = []change.Column{{Type: "text", Nullable: true}}
	case t.logical == change.LogicalArray:
		c.Parts = []change.Column{{Logical: t.parts}}
	}
	return c
}

type field struct {
	name string
	typ  *typeInfo
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

// scalar fills in a base type that is neither array nor composite, by its OID or, for the types of extensions, by its
// name. It reports whether the type is listed.
func (t *typeInfo) scalar(key typeKey, name string) bool {
	if !t.builtin(key) && (key.oid < firstCustomOID || !t.extension(name)) {
		return false
	}
	t.unlisted = false
	return true
}

func (t *typeInfo) builtin(key typeKey) bool {
	switch key.oid {
	case oidBool:
		t.codec, t.logical = codecBool, change.LogicalBool
	case oidInt2, oidInt4:
		t.codec, t.logical = codecInt, change.LogicalInt32
	case oidInt8:
		t.codec, t.logical = codecInt, change.LogicalInt64
	case oidOID, oidXID, oidCID:
		t.codec, t.logical = codecUint, change.LogicalUint32
	case oidXID8:
		t.codec, t.logical = codecUint, change.LogicalUint64
	case oidFloat4:
		t.codec, t.logical = codecFloat32, change.LogicalFloat32
	case oidFloat8:
		t.codec, t.logical = codecFloat64, change.LogicalFloat64
	case oidNumeric:
		t.codec, t.logical = codecNumeric, change.LogicalDecimal
		if key.typmod >= 4 {
			mod := key.typmod - 4
			t.precision = int(mod >> 16 & 0xffff)
			t.scale = int((mod&0x7ff)^0x400) - 0x400 // eleven bits, signed
		}
	case oidUUID:
		t.logical = change.LogicalUUID
	case oidMoney, oidText, oidVarchar, oidBPChar, oidName, oidChar, oidInet, oidCIDR, oidMacaddr, oidMacaddr8,
		oidXML, oidTSVector, oidTSQuery, oidLSN, oidInterval, oidVarbit:
	case oidBytea:
		t.codec, t.logical = codecBytea, change.LogicalBytes
	case oidJSON, oidJSONB:
		t.codec, t.logical = codecJSON, change.LogicalJSON
	case oidDate:
		t.logical = change.LogicalDate
	case oidTime, oidTimeTZ:
		t.codec, t.logical = codecTime, change.LogicalTime
		t.fraction(key.typmod)
	case oidTimestamp:
		t.codec, t.logical = codecTimestamp, change.LogicalDateTime
		t.fraction(key.typmod)
	case oidTimestampTZ:
		t.codec, t.logical = codecTimestampTZ, change.LogicalTimestamp
		t.fraction(key.typmod)
	case oidBit:
		if key.typmod == 1 {
			t.codec, t.logical = codecBit1, change.LogicalBool
		}
	case oidInt2Vector:
		t.codec, t.logical, t.parts = codecVector, change.LogicalArray, change.LogicalInt32
	case oidOIDVector:
		t.codec, t.logical, t.parts = codecVector, change.LogicalArray, change.LogicalUint32
	case oidPoint:
		t.codec, t.logical = codecPoint, change.LogicalGeometry
	default:
		return false
	}
	return true
}

func (t *typeInfo) fraction(typmod int32) {
	t.digits = defaultDigits
	if typmod >= 0 && typmod <= defaultDigits {
		t.digits = int(typmod)
	}
	t.scale = t.digits
}

// extension knows the types of common extensions, whose OIDs differ between databases.
func (t *typeInfo) extension(name string) bool {
	switch name {
	case "citext", "ltree", "lquery", "ltxtquery":
	case "hstore":
		t.codec, t.logical = codecHstore, change.LogicalMap
	case "vector", "halfvec": // prints itself as a JSON array of numbers
		t.codec, t.logical, t.parts = codecJSON, change.LogicalArray, change.LogicalFloat32
	case "geometry", "geography":
		t.codec, t.logical = codecGeometry, change.LogicalGeometry
	default:
		return false
	}
	return true
}
