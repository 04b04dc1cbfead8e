package debezium

import (
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// The schemas that Kafka Connect's JsonConverter puts beside a payload. They are made once per table.

// kind is a type of Kafka Connect.
type kind struct {
	typ        string
	name       string // of a logical type; empty: it is none
	doc        string
	parameters [][2]string
	fields     string // of a struct
	items      string // of an array
}

// append appends the schema of a type, of a field if there is one.
func (k kind) append(dst []byte, optional bool, field string) []byte {
	dst = append(append(dst, `{"type":"`...), k.typ...)
	dst = append(dst, '"')
	if k.fields != "" {
		dst = append(append(append(dst, `,"fields":[`...), k.fields...), ']')
	}
	dst = append(dst, k.items...)
	dst = strconv.AppendBool(append(dst, `,"optional":`...), optional)
	if k.name != "" {
		dst = envelope.AppendString(append(dst, `,"name":`...), k.name)
		dst = append(dst, `,"version":1`...)
	}
	if k.doc != "" {
		dst = envelope.AppendString(append(dst, `,"doc":`...), k.doc)
	}
	for i, p := range k.parameters {
		if i == 0 {
			dst = append(dst, `,"parameters":{`...)
		} else {
			dst = append(dst, ',')
		}
		dst = envelope.AppendString(append(envelope.AppendString(dst, p[0]), ':'), p[1])
		if i == len(k.parameters)-1 {
			dst = append(dst, '}')
		}
	}
	if field != "" {
		dst = envelope.AppendString(append(dst, `,"field":`...), field)
	}
	return append(dst, '}')
}

// appendSchema appends the schema of a column; of an element of an array if it has no name.
func (f *Format) appendSchema(dst []byte, x *column) []byte {
	return f.kind(x).append(dst, x.nullable, x.col.Name)
}

func (f *Format) kind(x *column) kind {
	base := x.col.Type
	if x.col.Base != "" {
		base = x.col.Base
	}
	name, args := typeOf(base)
	switch x.form {
	case formNumber:
		return integer(x, name)
	case formWrapped:
		return kind{typ: "int64"}
	case formFloat:
		if x.col.Logical == change.LogicalFloat32 {
			return kind{typ: "float"}
		}
		return kind{typ: "double"}
	case formDouble:
		return kind{typ: "double"}
	case formBool:
		return kind{typ: "boolean"}
	case formBits:
		length := "2147483647"
		if len(args) == 1 {
			length = args[0]
		}
		return kind{typ: "bytes", name: "io.debezium.data.Bits", parameters: [][2]string{{"length", length}}}
	case formBytes:
		if f.Binary == BinaryBytes {
			return kind{typ: "bytes"}
		}
		return kind{typ: "string"}
	case formDecimal, formVariable, formMoney:
		return f.decimalKind(x)
	case formDate, formTime, formTimestamp, formZoned, formZonedTime, formInterval:
		return f.timeKind(x)
	case formJSON:
		if x.col.Logical == change.LogicalObject {
			return kind{typ: "string"}
		}
		return kind{typ: "string", name: "io.debezium.data.Json"}
	case formPoint:
		return kind{typ: "struct", name: "io.debezium.data.geometry.Point", doc: "Geometry (POINT)", fields: pointFields}
	case formGeometry:
		return kind{typ: "struct", name: "io.debezium.data.geometry.Geometry", doc: "Geometry", fields: geometryFields}
	case formArray:
		return kind{typ: "array", items: `,"items":` + string(f.appendSchema(nil, x.element))}
	case formRaw:
		return rawKind(x, name)
	default:
		return textKind(x, name)
	}
}

func integer(x *column, name string) kind {
	switch {
	case name == "year":
		return kind{typ: "int32", name: "io.debezium.time.Year"}
	case strings.HasPrefix(name, "tinyint"), strings.HasPrefix(name, "smallint") && !strings.Contains(name, "unsigned"):
		return kind{typ: "int16"}
	case x.col.Logical == change.LogicalInt64, x.col.Logical == change.LogicalUint32:
		return kind{typ: "int64"}
	default:
		return kind{typ: "int32"}
	}
}

func (f *Format) decimalKind(x *column) kind {
	precise := kind{typ: "bytes", name: "org.apache.kafka.connect.data.Decimal", parameters: [][2]string{{"scale", strconv.Itoa(x.scale)}}}
	switch {
	case x.col.Logical == change.LogicalUint64:
		precise.parameters = append(precise.parameters, [2]string{"connect.decimal.precision", "20"})
		return precise
	case f.Decimal == DecimalString:
		return kind{typ: "string"}
	case f.Decimal == DecimalDouble:
		return kind{typ: "double"}
	case x.form == formVariable:
		return kind{
			typ: "struct", name: "io.debezium.data.VariableScaleDecimal", doc: "Variable scaled decimal",
			fields: `{"type":"int32","optional":false,"field":"scale"},{"type":"bytes","optional":false,"field":"value"}`,
		}
	case x.col.Precision > 0:
		precise.parameters = append(precise.parameters, [2]string{"connect.decimal.precision", strconv.Itoa(x.col.Precision)})
	}
	return precise
}

func (f *Format) timeKind(x *column) kind {
	switch {
	case x.form == formZoned:
		return kind{typ: "string", name: "io.debezium.time.ZonedTimestamp"}
	case x.form == formZonedTime:
		return kind{typ: "string", name: "io.debezium.time.ZonedTime"}
	case x.form == formInterval && f.IntervalText:
		return kind{typ: "string", name: "io.debezium.time.Interval"}
	case x.form == formInterval:
		return kind{typ: "int64", name: "io.debezium.time.MicroDuration"}
	}
	what := map[form]string{formDate: "Date", formTime: "Time", formTimestamp: "Timestamp"}[x.form]
	switch {
	case x.unit < 0:
		return kind{typ: "string", name: "io.debezium.time.Iso" + what}
	case f.Time == TimeConnect && x.form == formTimestamp:
		return kind{typ: "int64", name: "org.apache.kafka.connect.data." + what}
	case f.Time == TimeConnect:
		return kind{typ: "int32", name: "org.apache.kafka.connect.data." + what}
	case x.form == formDate, x.form == formTime && x.unit == 1000:
		return kind{typ: "int32", name: "io.debezium.time." + what}
	default:
		prefix := map[int64]string{0: "Nano", 1: "Micro", 1000: ""}[x.unit]
		return kind{typ: "int64", name: "io.debezium.time." + prefix + what}
	}
}

// rawKind is the type of vectors, and of an hstore that is an object.
func rawKind(x *column, name string) kind {
	items := func(typ string) string { return `,"items":{"type":"` + typ + `","optional":false}` }
	switch {
	case x.col.Logical == change.LogicalMap:
		return kind{typ: "map", items: `,"keys":{"type":"string","optional":false},"values":{"type":"string","optional":true}`}
	case name == "int2vector":
		return kind{typ: "array", items: items("int16")}
	case name == "oidvector":
		return kind{typ: "array", items: items("int64")}
	default:
		return kind{typ: "array", name: "io.debezium.data.FloatVector", items: items("float")}
	}
}

func textKind(x *column, name string) kind {
	k := kind{typ: "string"}
	switch {
	case strings.HasPrefix(name, "enum"):
		k.name, k.parameters = "io.debezium.data.Enum", [][2]string{{"allowed", allowed(x.col.Type)}}
	case strings.HasPrefix(name, "set"):
		k.name, k.parameters = "io.debezium.data.EnumSet", [][2]string{{"allowed", allowed(x.col.Type)}}
	case x.col.Logical == change.LogicalUUID:
		k.name = "io.debezium.data.Uuid"
	case name == "xml":
		k.name = "io.debezium.data.Xml"
	case name == "ltree" || strings.HasSuffix(name, ".ltree"):
		k.name = "io.debezium.data.Ltree"
	case name == "tsvector":
		k.name = "io.debezium.data.Tsvector"
	}
	return k
}

// allowed returns the labels of a type of MySQL, enum('a','it”s'), with commas between them. A comma in a label has a backslash before it.
func allowed(typ string) string {
	_, list, _ := strings.Cut(typ, "('")
	list = strings.TrimSuffix(list, "')")
	labels := strings.Split(list, "','")
	for i, l := range labels {
		labels[i] = strings.ReplaceAll(strings.ReplaceAll(l, "''", "'"), ",", `\,`)
	}
	return strings.Join(labels, ",")
}

// The fields of geometries.
const (
	pointFields = `{"type":"double","optional":false,"field":"x"},{"type":"double","optional":false,"field":"y"},` +
		`{"type":"bytes","optional":true,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}`
	geometryFields = `{"type":"bytes","optional":false,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}`
)

// The schemas of what is the same for all tables.
const (
	sourceHead = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},{"type":"string","optional":false,"field":"connector"},` +
		`{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},{"type":"string","optional":true,"name":"io.debezium.data.Enum",` +
		`"version":1,"parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"default":"false","field":"snapshot"},` +
		`{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},{"type":"int64","optional":true,"field":"ts_us"},` +
		`{"type":"int64","optional":true,"field":"ts_ns"},`
	mysqlSource = sourceHead + `{"type":"string","optional":true,"field":"table"},{"type":"int64","optional":false,"field":"server_id"},{"type":"string","optional":true,"field":"gtid"},` +
		`{"type":"string","optional":false,"field":"file"},{"type":"int64","optional":false,"field":"pos"},{"type":"int32","optional":false,"field":"row"},` +
		`{"type":"int64","optional":true,"field":"thread"},{"type":"string","optional":true,"field":"query"}],"optional":false,"name":"io.debezium.connector.mysql.Source","version":1,"field":"source"}`
	postgresSource = sourceHead + `{"type":"string","optional":false,"field":"schema"},{"type":"string","optional":false,"field":"table"},{"type":"int64","optional":true,"field":"txId"},` +
		`{"type":"int64","optional":true,"field":"lsn"},{"type":"int64","optional":true,"field":"xmin"},{"type":"string","optional":true,"field":"origin"},` +
		`{"type":"int64","optional":true,"field":"origin_lsn"}],"optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"}`
	transaction = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":false,"field":"total_order"},` +
		`{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block","version":1,"field":"transaction"}`
	envelopeTail = `{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},` +
		`{"type":"int64","optional":true,"field":"ts_ns"}],"optional":false,"name":`
	messageKey   = `{"type":"struct","fields":[{"type":"string","optional":true,"field":"prefix"}],"optional":false,"name":"io.debezium.connector.postgresql.MessageKey","version":1}`
	messageValue = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},` + postgresSource + `,` + transaction +
		`,{"type":"struct","fields":[{"type":"string","optional":true,"field":"prefix"},{"type":"bytes","optional":true,"field":"content"}],"optional":false,` +
		`"name":"io.debezium.connector.postgresql.Message","version":1,"field":"message"}],"optional":false,"name":"io.debezium.connector.postgresql.MessageValue","version":1}`
	transactionKey = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,` +
		`"name":"io.debezium.connector.common.TransactionMetadataKey","version":1}`
	transactionValue = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"status"},{"type":"string","optional":false,"field":"id"},` +
		`{"type":"int64","optional":true,"field":"event_count"},{"type":"array","items":{"type":"struct","fields":[{"type":"string","optional":false,"field":"data_collection"},` +
		`{"type":"int64","optional":false,"field":"event_count"}],"optional":true,"name":"event.collection","version":1},"optional":true,"field":"data_collections"},` +
		`{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,"name":"io.debezium.connector.common.TransactionMetadataValue","version":1}`
	schemaHead  = `{"schema":`
	payloadHead = `,"payload":`
	// noSchema is the head of a payload without a schema, which the converter takes for what it is.
	noSchema = schemaHead + null + payloadHead
)

// addSchemas makes what stands around payloads and keys.
func (f *Format) addSchemas(x *tableText, t *change.Table) {
	x.tail = []byte("}")
	if isTransactions(t) {
		x.valueHead = []byte(schemaHead + transactionValue + payloadHead)
		x.keyHead = []byte(schemaHead + transactionKey + payloadHead)
		return
	}
	if isMessages(t) {
		x.valueHead = []byte(schemaHead + messageValue + payloadHead)
		x.keyHead = []byte(schemaHead + messageKey + payloadHead)
		return
	}
	source := mysqlSource
	if x.postgres {
		source = postgresSource
	}
	name := t.Source.Name + "." + t.FullName()
	var fields []byte
	for i, c := range x.columns {
		if i > 0 {
			fields = append(fields, ',')
		}
		fields = f.appendSchema(fields, c)
	}
	image := func(dst []byte, field string) []byte {
		dst = append(append(dst, `{"type":"struct","fields":[`...), fields...)
		dst = envelope.AppendString(append(dst, `],"optional":true,"name":`...), name+".Value")
		return append(append(append(dst, `,"field":"`...), field...), `"},`...)
	}
	head := append([]byte(schemaHead), `{"type":"struct","fields":[`...)
	head = image(image(head, "before"), "after")
	head = append(append(append(head, source...), ","+transaction+","...), envelopeTail...)
	head = append(envelope.AppendString(head, name+".Envelope"), `,"version":2}`...)
	x.valueHead = append(head, payloadHead...)
	key := append([]byte(schemaHead), `{"type":"struct","fields":[`...)
	for i, c := range t.Key {
		if i > 0 {
			key = append(key, ',')
		}
		key = f.appendSchema(key, x.columns[c])
	}
	key = envelope.AppendString(append(key, `],"optional":false,"name":`...), name+".Key")
	x.keyHead = append(append(key, '}'), payloadHead...)
}
