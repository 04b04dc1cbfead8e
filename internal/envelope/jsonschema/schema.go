package jsonschema

import (
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// No property is required: an image can lack columns, and a registry refuses a new property that is. Objects have no other properties, so that
// a new one is compatible.

const (
	schemaHead = `{"$schema":"http://json-schema.org/draft-07/schema#","title":`
	unchanged  = `{"type":"object","properties":{"_unchanged":{"const":true}},"required":["_unchanged"],"additionalProperties":false}`
	inBase64   = `{"type":"object","properties":{"_base64":{"type":"string","contentEncoding":"base64"}},"required":["_base64"],"additionalProperties":false}`
	// The envelope around the row.
	envelopeTail = `,"source":{"type":"object"},"op":{"type":"string"},"ts_ms":{"type":"integer"},"transaction":{"oneOf":[{"type":"null"},{"type":"object","properties":` +
		`{"id":{"type":"string"},"total_order":{"type":"integer"}},"additionalProperties":false}]},"event_id":{"type":"string"},"tenant_id":{"type":["string","null"]},` +
		`"schema_version":{"type":"string"}},"required":["before","after","source","op","ts_ms","transaction","event_id"],"additionalProperties":false,"definitions":{"row":{`
)

func valueSchema(t *change.Table, space string, row bool) string {
	all := make([]int, len(t.Columns))
	for i := range all {
		all[i] = i
	}
	if row {
		b := envelope.AppendString([]byte(schemaHead), space+"."+confluent.RecordValue)
		return string(append(appendObject(append(b, ','), t, all, false), '}'))
	}
	b := envelope.AppendString([]byte(schemaHead), space+"."+confluent.RecordEnvelope)
	const image = `{"oneOf":[{"type":"null"},{"$ref":"#/definitions/row"}]}`
	b = append(b, `,"type":"object","properties":{"before":`+image+`,"after":`+image+envelopeTail...)
	return string(append(appendObject(b, t, all, false), `}}}`...))
}

func keySchema(t *change.Table, space string) string {
	b := envelope.AppendString([]byte(schemaHead), space+"."+confluent.RecordKey)
	return string(append(appendObject(append(b, ','), t, t.Key, true), '}'))
}

// appendObject appends what says that a value is an object of columns.
func appendObject(dst []byte, t *change.Table, columns []int, key bool) []byte {
	dst = append(dst, `"type":"object","properties":{`...)
	for i, n := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		c := &t.Columns[n]
		dst = append(envelope.AppendString(dst, c.Name), `:{"anyOf":[`...)
		dst = appendType(dst, c)
		if c.Nullable && !key {
			dst = append(dst, `,{"type":"null"}`...)
		}
		if !key {
			dst = append(dst, `,`+unchanged...)
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, `},"additionalProperties":false`...)
}

// appendType appends the type of a value in the native form.
func appendType(dst []byte, c *change.Column) []byte {
	switch c.Logical {
	case change.LogicalBool:
		return append(dst, `{"type":"boolean"}`...)
	case change.LogicalInt32, change.LogicalUint32:
		return append(dst, `{"type":"integer"}`...)
	case change.LogicalInt64, change.LogicalUint64:
		if c.Quoted {
			return append(dst, `{"type":"string","pattern":"^-?[0-9]+$"}`...)
		}
		return append(dst, `{"type":"integer"}`...)
	case change.LogicalFloat32, change.LogicalFloat64:
		return append(dst, `{"type":"number"},{"enum":["NaN","Infinity","-Infinity"]}`...)
	case change.LogicalBytes:
		return append(dst, inBase64...)
	case change.LogicalJSON:
		return append(dst, `{}`...)
	case change.LogicalArray:
		return append(dst, `{"type":"array"}`...)
	case change.LogicalObject, change.LogicalMap:
		return append(dst, `{"type":"object"}`...)
	case change.LogicalGeometry:
		return append(dst, `{"type":"object","properties":{"wkb":{"type":"string","contentEncoding":"base64"},"srid":{"type":"integer"}},"required":["wkb","srid"],"additionalProperties":false}`...)
	case change.LogicalUUID:
		return append(dst, `{"type":"string","format":"uuid"}`...)
	case change.LogicalText: // or the bytes of one that could not be decoded
		return append(dst, `{"type":"string"},`+inBase64...)
	default: // decimals, dates and times are texts
		return append(dst, `{"type":"string"}`...)
	}
}
