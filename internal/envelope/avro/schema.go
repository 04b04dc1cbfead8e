package avro

import (
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// The schemas of what is the same for all tables.
const (
	optionalString = `"type":["null","string"],"default":null}`
	optionalLong   = `"type":["null","long"],"default":null}`
	sourceHead     = `"fields":[{"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},` +
		`{"name":"snapshot","type":"string"},{"name":"db","type":"string"},{"name":"sequence",` + optionalString + `,{"name":"ts_us",` + optionalLong + `,{"name":"ts_ns",` + optionalLong + `,`
	mysqlSource = `{"type":"record","name":"Source","namespace":"io.debezium.connector.mysql",` + sourceHead + `{"name":"table",` + optionalString +
		`,{"name":"server_id","type":"long"},{"name":"gtid",` + optionalString + `,{"name":"file","type":"string"},{"name":"pos","type":"long"},{"name":"row","type":"int"},` +
		`{"name":"thread",` + optionalLong + `,{"name":"query",` + optionalString + `]}`
	postgresSource = `{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql",` + sourceHead + `{"name":"schema","type":"string"},{"name":"table","type":"string"},` +
		`{"name":"txId",` + optionalLong + `,{"name":"lsn",` + optionalLong + `,{"name":"xmin",` + optionalLong + `,{"name":"origin",` + optionalString + `,{"name":"origin_lsn",` + optionalLong + `]}`
	envelopeTail = `,{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":[{"name":"id","type":"string"},` +
		`{"name":"total_order","type":"long"}]}],"default":null},{"name":"op","type":"string"},{"name":"ts_ms",` + optionalLong + `,{"name":"ts_us",` + optionalLong + `,{"name":"ts_ns",` + optionalLong +
		`,{"name":"event_id","type":"string"}]}`
	geometryRecord = `{"type":"record","name":"Geometry","namespace":"io.debezium.data.geometry","fields":[{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}]}`
	geometryName   = `"io.debezium.data.geometry.Geometry"`
)

// schemaText writes a schema. A record is defined where it is first used.
type schemaText struct {
	b       []byte
	defined bool // the record of geometries
}

// record appends a record of columns.
func (s *schemaText) record(name, space string, columns []*column, key bool) {
	s.b = append(append(s.b, `{"type":"record","name":"`...), name...)
	if space != "" {
		s.b = append(append(s.b, `","namespace":"`...), space...)
	}
	s.b = append(s.b, `","fields":[`...)
	for i, x := range columns {
		if i > 0 {
			s.b = append(s.b, ',')
		}
		s.b = append(append(append(s.b, `{"name":"`...), x.name...), `","type":`...)
		s.typ(x, x.nullable && !key)
		if x.nullable && !key {
			s.b = append(s.b, `,"default":null`...)
		} else if x.fallback != "" && !key {
			s.b = append(append(s.b, `,"default":`...), x.fallback...)
		}
		if x.name != x.original {
			s.b = envelope.AppendString(append(s.b, `,"deltaforge.name":`...), x.original)
		}
		s.b = append(s.b, '}')
	}
	s.b = append(s.b, `]}`...)
}

// typ appends the type of a column.
func (s *schemaText) typ(x *column, nullable bool) {
	if nullable {
		s.b = append(s.b, `["null",`...)
	}
	switch {
	case x.form == formArray:
		s.b = append(s.b, `{"type":"array","items":`...)
		s.typ(x.element, x.element.nullable)
		s.b = append(s.b, '}')
	case x.form == formGeometry && !s.defined:
		s.defined = true
		s.b = append(s.b, geometryRecord...)
	case x.form == formGeometry:
		s.b = append(s.b, geometryName...)
	default:
		s.b = append(s.b, x.typ...)
	}
	if nullable {
		s.b = append(s.b, ']')
	}
}

func (f *Format) valueSchema(x *tableText, t *change.Table, space string) string {
	var s schemaText
	if f.Shape == confluent.ShapeRow {
		s.record(recordValue, space, x.columns, false)
		return string(s.b)
	}
	s.b = append(s.b, `{"type":"record","name":"`+recordEnvelope+`","namespace":"`+space+`","fields":[{"name":"before","type":["null",`...)
	s.record(recordValue, "", x.columns, false)
	s.b = append(s.b, `],"default":null},{"name":"after","type":["null","`+space+`.`+recordValue+`"],"default":null},{"name":"source","type":`...)
	if t.Schema != "" {
		s.b = append(s.b, postgresSource...)
	} else {
		s.b = append(s.b, mysqlSource...)
	}
	s.b = append(append(s.b, '}'), envelopeTail...)
	return string(s.b)
}

func (f *Format) keySchema(x *tableText, space string) string {
	var s schemaText
	var columns []*column
	for _, c := range x.key {
		columns = append(columns, x.columns[c])
	}
	s.record(recordKey, space, columns, true)
	return string(s.b)
}

// list returns a JSON array of strings.
func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = string(envelope.AppendString(nil, t))
	}
	return "[" + strings.Join(quoted, ",") + "]"
}
