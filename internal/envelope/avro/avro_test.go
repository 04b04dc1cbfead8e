package avro

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	hamba "github.com/hamba/avro/v2"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// fake is a registry that numbers what it is asked for.
type fake struct {
	subjects, schemas []string // the number of a schema is its index and 1
	err               error
}

func (r *fake) ID(_ context.Context, subject, schema string) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.subjects, r.schemas = append(r.subjects, subject), append(r.schemas, schema)
	return len(r.schemas), nil
}

func topicOf(t *change.Table) (string, error) { return t.Source.Name + "." + t.FullName(), nil }

func newFormat(options func(*Format)) (*Format, *fake) {
	r := &fake{}
	f := &Format{Naming: confluent.Naming{Registry: r, Topic: topicOf, Subject: confluent.SubjectTopic}, Shaping: confluent.Shaping{Shape: confluent.ShapeEnvelope, Deletes: confluent.DeleteKeep, Tombstones: true}, Placeholder: "__gone"}
	if options != nil {
		options(f)
	}
	return f, r
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func table(connector string, columns ...change.Column) *change.Table {
	t := &change.Table{
		Source: &change.Source{Connector: connector, Name: "shop", Version: "v1"}, Database: "db", Name: "t", Key: []int{0},
		Columns: append([]change.Column{{Name: "id", Type: "int", Logical: change.LogicalInt32}}, columns...),
	}
	if connector == "postgresql" {
		t.Schema = "public"
	}
	return t
}

func event(t *change.Table, op change.Op, before, after []change.Value) *change.Event {
	tx := &change.Tx{ID: "u:7", GTID: "u:7", Position: "u:7", ServerID: 3, CommitTime: time.UnixMicro(1700000000123456).UTC()}
	if t.Schema != "" {
		tx = &change.Tx{ID: "9", XID: 9, Position: "0/10", CommitTime: tx.CommitTime}
	}
	return &change.Event{
		Op: op, Table: t, Origin: &change.Origin{Tx: tx, ReadAt: time.Unix(0, 1700000000200300400), File: "bin.1"}, Index: 4, Pos: 99, Row: 1, LSN: 77,
		Images: change.ImagesOf(before, after),
	}
}

// decode reads a payload with the schema that its number stands for.
func (r *fake) decode(t *testing.T, payload []byte) any {
	t.Helper()
	if len(payload) == 0 {
		return nil
	}
	require.Greater(t, len(payload), 5)
	require.Zero(t, payload[0])
	schema, err := hamba.ParseWithCache(r.schemas[binary.BigEndian.Uint32(payload[1:])-1], "", &hamba.SchemaCache{})
	require.NoError(t, err)
	in := bytes.NewReader(payload[5:])
	reader := hamba.NewReader(in, 512)
	var v any
	reader.ReadVal(schema, &v)
	require.NoError(t, reader.Error)
	reader.Peek() // there is nothing left
	require.Error(t, reader.Error, "%v has bytes at its end", v)
	return bare(v)
}

// bare takes the names of records away that the reader has around those of a union.
func bare(v any) any {
	o, ok := v.(object)
	if !ok {
		return v
	}
	for k := range o {
		if len(o) == 1 && strings.Contains(k, ".") {
			return bare(o[k])
		}
		o[k] = bare(o[k])
	}
	return o
}

// told is what a test sees of a message.
type told struct {
	Payload, Key any
	Operation    string
	ID           string
	Silent, Null bool
	Err          string
}

func tell(t *testing.T, f *Format, r *fake, ev *change.Event) (out []told) {
	t.Helper()
	require.NoError(t, f.Prepare(t.Context(), ev.Table))
	messages, _ := f.NewEncoder().AppendMessages(nil, []byte("before"), ev)
	for _, m := range messages {
		own, ok := change.Own(m)
		require.True(t, ok)
		op, _ := m.MetaGet(change.MetaOperation)
		id, _ := m.MetaGet(change.MetaEventID)
		one := told{Payload: r.decode(t, own.Payload()), Key: r.decode(t, own.Key()), Operation: op, ID: id, Silent: own.Silent, Null: own.Tombstone}
		if err := m.GetError(); err != nil {
			one.Err = err.Error()
		}
		out = append(out, one)
	}
	return out
}

func rowFormat(f *Format) { f.Shape = confluent.ShapeRow }

type object = map[string]any

// Every type has the value that a reader with Avro's logical types sees.
func TestTypes(t *testing.T) {
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	at := time.Date(2024, 2, 29, 13, 51, 30, 123456000, time.UTC)
	floats := []change.Column{{Logical: change.LogicalFloat32}}
	for name, c := range map[string]struct {
		column  change.Column
		value   change.Value
		schema  string
		want    any
		options func(*Format)
	}{
		"bool":              {change.Column{Logical: change.LogicalBool}, change.BoolValue(true), `"boolean"`, true, nil},
		"bit varying(1)":    {change.Column{Logical: change.LogicalBool}, text("1"), `"boolean"`, true, nil},
		"int":               {change.Column{Logical: change.LogicalInt32}, change.IntValue(-2147483648), `"int"`, -2147483648, nil},
		"int unsigned":      {change.Column{Logical: change.LogicalUint32}, change.UintValue(4294967295), `"long"`, int64(4294967295), nil},
		"bigint":            {change.Column{Logical: change.LogicalInt64}, change.IntValue(-9223372036854775808), `"long"`, int64(-9223372036854775808), nil},
		"quoted":            {change.Column{Logical: change.LogicalInt64, Quoted: true}, change.DecimalValue([]byte("9223372036854775807")), `"long"`, int64(9223372036854775807), nil},
		"bigint unsigned":   {change.Column{Logical: change.LogicalUint64}, change.UintValue(18446744073709551615), `{"type":"bytes","logicalType":"decimal","precision":20,"scale":0}`, "18446744073709551615", nil},
		"float":             {change.Column{Logical: change.LogicalFloat32}, change.Float32Value(3.3), `"float"`, float32(3.3), nil},
		"double":            {change.Column{Logical: change.LogicalFloat64}, change.Float64Value(1e300), `"double"`, 1e300, nil},
		"decimal":           {change.Column{Logical: change.LogicalDecimal, Precision: 10, Scale: 2}, change.DecimalValue([]byte("-12.34")), `{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}`, "-12.34", nil},
		"decimal zero":      {change.Column{Logical: change.LogicalDecimal, Precision: 10, Scale: 2}, change.DecimalValue([]byte("0.00")), `{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}`, "0.00", nil},
		"decimal text":      {change.Column{Logical: change.LogicalDecimal, Precision: 10, Scale: 2}, change.DecimalValue([]byte("NaN")), `"string"`, "NaN", func(f *Format) { f.DecimalText = true }},
		"numeric":           {change.Column{Logical: change.LogicalDecimal}, change.DecimalValue([]byte("1e400")), `"string"`, "1e400", nil},
		"text":              {change.Column{}, text("ä\"\n"), `"string"`, "ä\"\n", nil},
		"json":              {change.Column{Logical: change.LogicalJSON}, change.JSONValue([]byte(`{"a":1}`)), `"string"`, `{"a":1}`, nil},
		"undecodable":       {change.Column{}, change.BytesValue([]byte{0xff}), `"string"`, "/w==", nil},
		"bytes":             {change.Column{Logical: change.LogicalBytes}, change.BytesValue([]byte{0, 255}), `"bytes"`, []byte{0, 255}, nil},
		"uuid":              {change.Column{Logical: change.LogicalUUID}, text("b01d0e8c-7f6e-4a9b-9a52-1f0b3c0d4e5f"), `{"type":"string","logicalType":"uuid"}`, "b01d0e8c-7f6e-4a9b-9a52-1f0b3c0d4e5f", nil},
		"date":              {change.Column{Logical: change.LogicalDate}, text("2024-02-29"), `{"type":"int","logicalType":"date"}`, day(2024, 2, 29), nil},
		"date BC":           {change.Column{Logical: change.LogicalDate}, text("0044-03-15 BC"), `{"type":"int","logicalType":"date"}`, day(-43, 3, 15), nil},
		"time(3)":           {change.Column{Logical: change.LogicalTime, Scale: 3}, text("13:51:30.123"), `{"type":"int","logicalType":"time-millis"}`, at.Sub(day(2024, 2, 29)).Truncate(time.Millisecond), nil},
		"time(6)":           {change.Column{Logical: change.LogicalTime, Scale: 6}, text("13:51:30.123456"), `{"type":"long","logicalType":"time-micros"}`, at.Sub(day(2024, 2, 29)), nil},
		"time text":         {change.Column{Logical: change.LogicalTime, Scale: 6}, text("-838:59:59.000000"), `"string"`, "-838:59:59.000000", func(f *Format) { f.TimeText = true }},
		"timetz":            {change.Column{Type: "time(6) with time zone", Logical: change.LogicalTime, Scale: 6}, text("13:51:30+02"), `"string"`, "13:51:30+02", nil},
		"datetime(3)":       {change.Column{Logical: change.LogicalDateTime, Scale: 3}, text("2024-02-29T13:51:30.123"), `{"type":"long","logicalType":"local-timestamp-millis"}`, at.Truncate(time.Millisecond), nil},
		"datetime(6)":       {change.Column{Logical: change.LogicalDateTime, Scale: 6}, text("2024-02-29T13:51:30.123456"), `{"type":"long","logicalType":"local-timestamp-micros"}`, at, nil},
		"timestamp(3)":      {change.Column{Logical: change.LogicalTimestamp, Scale: 3}, text("2024-02-29T13:51:30.123Z"), `{"type":"long","logicalType":"timestamp-millis"}`, at.Truncate(time.Millisecond), nil},
		"timestamp(6)":      {change.Column{Logical: change.LogicalTimestamp, Scale: 6}, text("2024-02-29T13:51:30.123456Z"), `{"type":"long","logicalType":"timestamp-micros"}`, at, nil},
		"enum string":       {change.Column{Type: "enum('in progress','it''s')"}, text("it's"), `{"type":"string","deltaforge.symbols":["in progress","it's"]}`, "it's", nil},
		"enum":              {change.Column{Type: "enum('in progress','in_progress','9')"}, text("in progress"), `{"type":"enum","name":"Enum_c","symbols":["in_progress_2","in_progress","_9"],"deltaforge.symbols":["in progress","in_progress","9"]}`, "in_progress_2", func(f *Format) { f.Enums = true }},
		"int[]":             {change.Column{Type: "integer[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "integer", Logical: change.LogicalInt32}}}, change.JSONValue([]byte(`[1,null,-3]`)), `{"type":"array","items":["null","int"]}`, []any{1, nil, -3}, nil},
		"empty[]":           {change.Column{Type: "integer[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "integer", Logical: change.LogicalInt32}}}, change.JSONValue([]byte(`[]`)), `{"type":"array","items":["null","int"]}`, []any{}, nil},
		"text[]":            {change.Column{Type: "text[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "text"}}}, change.JSONValue([]byte(`["a,]","b\"\u00e4",null]`)), `{"type":"array","items":["null","string"]}`, []any{"a,]", "b\"ä", nil}, nil},
		"bytea[]":           {change.Column{Type: "bytea[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "bytea", Logical: change.LogicalBytes}}}, change.JSONValue([]byte(`[{"_base64":"AP8="}]`)), `{"type":"array","items":["null","bytes"]}`, []any{[]byte{0, 255}}, nil},
		"bool[]":            {change.Column{Type: "boolean[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "boolean", Logical: change.LogicalBool}}}, change.JSONValue([]byte(`[true,false]`)), `{"type":"array","items":["null","boolean"]}`, []any{true, false}, nil},
		"numeric(4,1)[]":    {change.Column{Type: "numeric(4,1)[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "numeric(4,1)", Logical: change.LogicalDecimal, Precision: 4, Scale: 1}}}, change.JSONValue([]byte(`["1.5"]`)), `{"type":"array","items":["null",{"type":"bytes","logicalType":"decimal","precision":4,"scale":1}]}`, []any{"1.5"}, nil},
		"timestamptz[]":     {change.Column{Type: "timestamptz[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "timestamptz", Logical: change.LogicalTimestamp, Scale: 6}}}, change.JSONValue([]byte(`["2024-02-29T13:51:30.123456Z"]`)), `{"type":"array","items":["null",{"type":"long","logicalType":"timestamp-micros"}]}`, []any{at}, nil},
		"jsonb[]":           {change.Column{Type: "jsonb[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "jsonb", Logical: change.LogicalJSON}}}, change.JSONValue([]byte(`[{"a":[1,2]},[3]]`)), `{"type":"array","items":["null","string"]}`, []any{`{"a":[1,2]}`, `[3]`}, nil},
		"array text":        {change.Column{Type: "integer[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "integer", Logical: change.LogicalInt32}}}, change.JSONValue([]byte(`[[1],[2]]`)), `"string"`, `[[1],[2]]`, func(f *Format) { f.ArrayText = true }},
		"vector":            {change.Column{Type: "vector(2)", Logical: change.LogicalArray, Parts: floats}, change.JSONValue([]byte(`[1.5,"NaN"]`)), `{"type":"array","items":"float"}`, nil, nil},
		"unavailable text":  {change.Column{}, change.UnavailableValue(), `"string"`, "__gone", nil},
		"unavailable bytes": {change.Column{Logical: change.LogicalBytes}, change.UnavailableValue(), `"bytes"`, []byte("__gone"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFormat(func(f *Format) {
				f.Shape = confluent.ShapeRow
				if c.options != nil {
					c.options(f)
				}
			})
			c.column.Name = "c"
			required, optional := c.column, c.column
			optional.Name, optional.Nullable = "d", true
			if c.options != nil && f.Enums {
				optional = change.Column{Name: "d", Nullable: true}
			}
			values := []change.Value{change.IntValue(1), c.value, change.NullValue()}
			got := tell(t, f, r, event(table("mysql", required, optional), change.Create, nil, values))
			require.Len(t, got, 1)
			assert.Empty(t, got[0].Err)
			assert.Contains(t, r.schemas[0], `{"name":"c","type":`+c.schema+`}`)
			row, _ := got[0].Payload.(object)
			assert.Equal(t, 1, row["id"])
			assert.Nil(t, row["d"])
			if c.want != nil {
				assert.Equal(t, c.want, plain(row["c"]))
			}
		})
	}
}

// plain makes decimals texts, and instants UTC.
func plain(v any) any {
	switch v := v.(type) {
	case *big.Rat:
		n := 0
		for d := v.Denom(); new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil).Cmp(d) < 0; n++ {
		}
		if v.Sign() == 0 {
			return "0.00"
		}
		if v.Denom().Cmp(big.NewInt(50)) == 0 { // 12.34 is 617/50
			n = 2
		}
		return v.FloatString(n)
	case time.Time:
		return v.UTC()
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}

// A value that has no form marks its message, with the way out, and the rest of the row fits the schema.
func TestNoForm(t *testing.T) {
	ints := []change.Column{{Type: "integer", Logical: change.LogicalInt32}}
	for _, c := range []struct {
		column change.Column
		value  change.Value
		want   string
	}{
		{change.Column{Logical: change.LogicalDecimal, Precision: 4, Scale: 2}, change.DecimalValue([]byte("NaN")), "it is no decimal of the column's precision; avro.decimals: string has it"},
		{change.Column{Logical: change.LogicalDate}, text("0000-00-00"), "it is no date of a calendar; avro.times: string has it, and zero_date: null makes NULL of it"},
		{change.Column{Logical: change.LogicalDate}, text("infinity"), "it is no date or time of a calendar; avro.times: string has it"},
		{change.Column{Logical: change.LogicalTimestamp, Scale: 6}, text("-infinity"), "it is no date or time of a calendar; avro.times: string has it"},
		{change.Column{Logical: change.LogicalTime, Scale: 6}, text("-01:00:00"), "it is no time of a day; avro.times: string has it"},
		{change.Column{Logical: change.LogicalTime, Scale: 6}, text("24:00:00"), "it is no time of a day; avro.times: string has it"},
		{change.Column{Type: "enum('a')"}, text(""), "it is no label of the type; avro.enums: string has it"},
		{change.Column{Type: "integer[]", Logical: change.LogicalArray, Parts: ints}, change.JSONValue([]byte("[[1],[2]]")), "it has several dimensions; avro.arrays: string has it"},
		{change.Column{Logical: change.LogicalInt32}, change.UnavailableValue(), "the log does not carry the value, and the type has no placeholder: " + confluent.WayOut},
		{change.Column{}, change.NullValue(), "it is NULL, and the column cannot be"},
	} {
		f, r := newFormat(func(f *Format) { f.Shape, f.Enums = confluent.ShapeRow, true })
		c.column.Name = "c"
		got := tell(t, f, r, event(table("mysql", c.column, change.Column{Name: "z"}), change.Create, nil, []change.Value{change.IntValue(1), c.value, text("end")}))
		require.Len(t, got, 1)
		assert.Equal(t, "column c of db.t has a value with no form in the format avro: "+c.want, got[0].Err)
		assert.Equal(t, "end", got[0].Payload.(object)["z"])
	}
}

func mysqlSourceWant() object {
	return object{
		"version": "v1", "connector": "mysql", "name": "shop", "ts_ms": int64(1700000000123), "snapshot": "false", "db": "db", "sequence": nil, "ts_us": int64(1700000000123456),
		"ts_ns": int64(1700000000123456000), "table": "t", "server_id": int64(3), "gtid": "u:7", "file": "bin.1", "pos": int64(99), "row": 1, "thread": nil, "query": nil,
	}
}

// envelopeWant is what the reader sees of an envelope; it has a union with a record as a map of the record's name.
func envelopeWant(source object, op, id string, before, after any) object {
	tx := "u:7"
	if source["connector"] == "postgresql" {
		tx = "9"
	}
	return object{
		"before": before, "after": after, "source": source, "op": op, "ts_ms": int64(1700000000200), "ts_us": int64(1700000000200300), "ts_ns": int64(1700000000200300400),
		"transaction": object{"id": tx, "total_order": int64(4)}, "event_id": id,
	}
}

// The messages of every operation, in both shapes.
func TestOperations(t *testing.T) {
	name := change.Column{Name: "name", Nullable: true}
	mysql, postgres := table("mysql", name), table("postgresql", name)
	row := func(id int64, name string) []change.Value { return []change.Value{change.IntValue(id), text(name)} }
	want := func(id int, name string) object { return object{"id": id, "name": name} }
	key := func(id int) object { return object{"id": id} }
	my := func(op, id string, before, after any) object {
		return envelopeWant(mysqlSourceWant(), op, id, before, after)
	}
	pg := object{
		"version": "v1", "connector": "postgresql", "name": "shop", "ts_ms": int64(1700000000123), "snapshot": "false", "db": "db", "sequence": `[null,"77"]`,
		"ts_us": int64(1700000000123456), "ts_ns": int64(1700000000123456000), "schema": "public", "table": "t", "txId": int64(9), "lsn": int64(77), "xmin": nil, "origin": nil, "origin_lsn": nil,
	}
	keyOnly := []change.Value{change.IntValue(1), {}}
	null := func(f *Format) { f.Shape, f.Deletes = confluent.ShapeRow, confluent.DeleteNull }
	for name, c := range map[string]struct {
		options func(*Format)
		ev      *change.Event
		want    []told
	}{
		"insert":           {nil, event(mysql, change.Create, nil, row(1, "a")), []told{{Payload: my("c", "u:7:4", nil, want(1, "a")), Key: key(1), Operation: "insert", ID: "u:7:4"}}},
		"update":           {nil, event(mysql, change.Update, row(1, "a"), row(1, "b")), []told{{Payload: my("u", "u:7:4", want(1, "a"), want(1, "b")), Key: key(1), Operation: "update", ID: "u:7:4"}}},
		"delete":           {nil, event(mysql, change.Delete, row(1, "a"), nil), []told{{Payload: my("d", "u:7:4", want(1, "a"), nil), Key: key(1), Operation: "delete", ID: "u:7:4"}, {Key: key(1), Operation: "delete", ID: "u:7:4-1", Null: true}}},
		"delete alone":     {func(f *Format) { f.Tombstones = false }, event(mysql, change.Delete, row(1, "a"), nil), []told{{Payload: my("d", "u:7:4", want(1, "a"), nil), Key: key(1), Operation: "delete", ID: "u:7:4"}}},
		"moved":            {nil, event(mysql, change.Update, row(1, "a"), row(2, "b")), []told{{Payload: my("d", "u:7:4", want(1, "a"), nil), Key: key(1), Operation: "delete", ID: "u:7:4"}, {Key: key(1), Operation: "delete", ID: "u:7:4-1", Null: true}, {Payload: my("c", "u:7:4-2", nil, want(2, "b")), Key: key(2), Operation: "insert", ID: "u:7:4-2"}}},
		"truncate":         {nil, event(mysql, change.Truncate, nil, nil), []told{{Payload: my("t", "u:7:4", nil, nil), Operation: "truncate", ID: "u:7:4"}}},
		"postgres":         {nil, event(postgres, change.Delete, keyOnly, nil), []told{{Payload: envelopeWant(pg, "d", "0/10:4", object{"id": 1, "name": nil}, nil), Key: key(1), Operation: "delete", ID: "0/10:4"}, {Key: key(1), Operation: "delete", ID: "0/10:4-1", Null: true}}},
		"row":              {rowFormat, event(mysql, change.Update, row(1, "a"), row(2, "b")), []told{{Payload: want(2, "b"), Key: key(2), Operation: "update", ID: "u:7:4"}}},
		"row delete":       {rowFormat, event(postgres, change.Delete, keyOnly, nil), []told{{Payload: object{"id": 1, "name": nil}, Key: key(1), Operation: "delete", ID: "0/10:4"}}},
		"row delete null":  {null, event(mysql, change.Delete, row(1, "a"), nil), []told{{Key: key(1), Operation: "delete", ID: "u:7:4", Null: true}}},
		"row moved null":   {null, event(mysql, change.Update, row(1, "a"), row(2, "b")), []told{{Key: key(1), Operation: "delete", ID: "u:7:4", Null: true}, {Payload: want(2, "b"), Key: key(2), Operation: "insert", ID: "u:7:4-1"}}},
		"row delete drop":  {func(f *Format) { f.Shape, f.Deletes = confluent.ShapeRow, confluent.DeleteDrop }, event(mysql, change.Delete, row(1, "a"), nil), []told{{Operation: "delete", ID: "u:7:4", Silent: true}}},
		"row truncate":     {rowFormat, event(mysql, change.Truncate, nil, nil), []told{{Operation: "truncate", ID: "u:7:4", Silent: true}}},
		"change of shapes": {nil, event(mysql, change.Schema, nil, nil), []told{{Operation: "schema", ID: "u:7:4", Err: "a change of the shape of table db.t has no form in the format avro: leave schema_changes off, or read it by a source with another format"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFormat(c.options)
			assert.Equal(t, c.want, tell(t, f, r, c.ev))
		})
	}
}

// Schemas and subjects, by every strategy; names that Avro does not allow are made valid, and are in the schema.
func TestSchemas(t *testing.T) {
	odd := table("mysql", change.Column{Name: "my-col", Nullable: true}, change.Column{Name: "my_col"}, change.Column{Name: "1st"}, change.Column{Name: "my col"})
	odd.Name = "my-table"
	fields := `"fields":[{"name":"id","type":"int"},{"name":"my_col_2","type":["null","string"],"default":null,"deltaforge.name":"my-col"},{"name":"my_col","type":"string"},` +
		`{"name":"_1st","type":"string","deltaforge.name":"1st"},{"name":"my_col_3","type":"string","deltaforge.name":"my col"}]}`
	value := `{"type":"record","name":"Value","namespace":"shop.db.my_table",` + fields
	key := `{"type":"record","name":"Key","namespace":"shop.db.my_table","fields":[{"name":"id","type":"int"}]}`
	for subject, want := range map[confluent.Subject][]string{
		confluent.SubjectTopic:       {"shop.db.my-table-value", "shop.db.my-table-key"},
		confluent.SubjectRecord:      {"shop.db.my_table.Value", "shop.db.my_table.Key"},
		confluent.SubjectTopicRecord: {"shop.db.my-table-shop.db.my_table.Value", "shop.db.my-table-shop.db.my_table.Key"},
	} {
		f, r := newFormat(func(f *Format) { f.Shape, f.Subject = confluent.ShapeRow, subject })
		require.NoError(t, f.Prepare(t.Context(), odd))
		require.NoError(t, f.Prepare(t.Context(), odd), "and once only")
		assert.Equal(t, want, r.subjects)
		assert.Equal(t, []string{value, key}, r.schemas)
	}
	f, r := newFormat(func(f *Format) { f.Subject, f.Optional = confluent.SubjectRecord, true })
	point := change.Column{Name: "a", Logical: change.LogicalGeometry}
	two := table("postgresql", point, change.Column{Name: "b", Logical: change.LogicalGeometry, Nullable: true})
	require.NoError(t, f.Prepare(t.Context(), two))
	assert.Equal(t, []string{"shop.public.t.Envelope", "shop.public.t.Key"}, r.subjects)
	assert.Equal(t, `{"type":"record","name":"Envelope","namespace":"shop.public.t","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","fields":[`+
		`{"name":"id","type":["null","int"],"default":null},{"name":"a","type":["null",`+geometryRecord+`],"default":null},{"name":"b","type":["null",`+geometryName+`],"default":null}]}],"default":null},`+
		`{"name":"after","type":["null","shop.public.t.Value"],"default":null},{"name":"source","type":`+postgresSource+`}`+envelopeTail, r.schemas[0])
	for _, s := range r.schemas {
		_, err := hamba.ParseWithCache(s, "", &hamba.SchemaCache{})
		require.NoError(t, err)
	}
	wkb := change.JSONValue([]byte(`{"wkb":"AQI=","srid":4326}`))
	got := tell(t, f, r, event(two, change.Create, nil, []change.Value{change.IntValue(1), wkb, change.JSONValue([]byte(`{"wkb":"AQI=","srid":0}`))}))
	assert.Equal(t, object{"id": 1, "a": object{"wkb": []byte{1, 2}, "srid": 4326}, "b": object{"wkb": []byte{1, 2}, "srid": nil}}, got[0].Payload.(object)["after"])
}

// What a table is not prepared for, its messages say; none of their bytes is anything.
func TestNotPrepared(t *testing.T) {
	refused := errors.New("it answers 409: Schema being registered is incompatible")
	f, r := newFormat(rowFormat)
	r.err = refused
	tab := table("mysql")
	require.EqualError(t, f.Prepare(t.Context(), tab), "registering the schema of table db.t: it answers 409: Schema being registered is incompatible")
	messages, buf := f.NewEncoder().AppendMessages(nil, nil, event(tab, change.Create, nil, []change.Value{change.IntValue(1)}))
	require.Len(t, messages, 1)
	require.EqualError(t, messages[0].GetError(), "table db.t: its schema is not registered")
	assert.Empty(t, buf)
	r.err = nil
	require.NoError(t, f.Prepare(t.Context(), tab), "it is asked again")
	assert.Len(t, r.schemas, 2)

	f.Topic = func(*change.Table) (string, error) { return "", nil }
	require.EqualError(t, f.Prepare(t.Context(), table("mysql")), "the schema of table db.t: registry.topic is empty for it")
	require.NoError(t, f.Prepare(t.Context(), tab.With(nil, nil)), "rows that nobody may see have no schema")
}

// The bytes of any value fit the schema.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"2024-02-29T13:51:30.5", "-838:59:59", "-12.340", "[1,[2,\"a\\\"\"],null]", "{\"wkb\":\"AQ==\",\"srid\":1}", "true", "[\"1\"]", "[{\"_base64\":\"AA==\"}]", "["} {
		f.Add([]byte(s))
	}
	kinds := []change.Column{
		{Logical: change.LogicalInt32},
		{Logical: change.LogicalDecimal, Precision: 9, Scale: 3},
		{Logical: change.LogicalDate},
		{Logical: change.LogicalTime, Scale: 3},
		{Logical: change.LogicalDateTime, Scale: 6},
		{Logical: change.LogicalTimestamp},
		{Logical: change.LogicalGeometry},
		{Type: "enum('a','b')"},
		{Logical: change.LogicalBytes},
		{},
	}
	for _, k := range slices.Clip(kinds) {
		k.Type = "x"
		kinds = append(kinds, change.Column{Type: "x[]", Logical: change.LogicalArray, Parts: []change.Column{k}})
	}
	format, r := newFormat(func(f *Format) { f.Shape, f.Enums = confluent.ShapeRow, true })
	var columns []change.Column
	for i, k := range kinds {
		k.Name, k.Nullable = string(rune('a'+i)), i%2 == 0
		columns = append(columns, k)
	}
	tab := table("postgresql", columns...)
	if err := format.Prepare(f.Context(), tab); err != nil {
		f.Fatal(err)
	}
	schema, err := hamba.ParseWithCache(r.schemas[0], "", &hamba.SchemaCache{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		row := []change.Value{change.IntValue(1)}
		for range columns {
			row = append(row, change.TextValue(s))
		}
		messages, _ := format.NewEncoder().AppendMessages(nil, nil, event(tab, change.Create, nil, row))
		own, _ := change.Own(messages[0])
		reader := hamba.NewReader(bytes.NewReader(own.Payload()[5:]), 512)
		var v any
		reader.ReadVal(schema, &v)
		if reader.Error != nil {
			t.Fatalf("%q: %s: %v %v", s, hex.EncodeToString(own.Payload()), reader.Error, v)
		}
		if reader.Peek(); reader.Error == nil {
			t.Fatalf("%q: bytes are left", s)
		}
	})
}

// The messages of a row cost no more allocations than those of the native format.
func TestAllocations(t *testing.T) {
	f, _ := newFormat(nil)
	tab := benchTable()
	require.NoError(t, f.Prepare(t.Context(), tab))
	e, ev := f.NewEncoder(), event(tab, change.Update, benchRow(1), benchRow(2))
	buf, batch := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1)
	batch, _ = e.AppendMessages(batch[:0], buf, ev)
	require.Len(t, batch, 1)
	require.NoError(t, batch[0].GetError())
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { batch, _ = e.AppendMessages(batch[:0], buf, ev) }), 5.0)
}

func benchTable() *change.Table {
	return table("mysql", change.Column{Name: "name"}, change.Column{Name: "price", Logical: change.LogicalDecimal, Precision: 10, Scale: 2},
		change.Column{Name: "at", Logical: change.LogicalDateTime, Scale: 6}, change.Column{Name: "note", Nullable: true})
}

func benchRow(n int) []change.Value {
	return []change.Value{change.IntValue(1), text("a name of a customer"), change.DecimalValue([]byte("12345.67")), text("2024-02-29T13:51:30.123456"), text("note " + string(rune('0'+n)))}
}

// BenchmarkFormat is the format beside the native one, of rows that have much in common with their neighbours.
func BenchmarkFormat(b *testing.B) {
	envelopes, _ := newFormat(nil)
	rows, _ := newFormat(rowFormat)
	for name, f := range map[string]change.Format{"native": envelope.Native{}, "avro": envelopes, "avro-row": rows} {
		b.Run(name, func(b *testing.B) {
			tab := benchTable()
			tab.Source.Format = f
			if err := change.Prepare(b.Context(), tab); err != nil {
				b.Fatal(err)
			}
			ev := event(tab, change.Update, benchRow(1), benchRow(2))
			buf, batch, e := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1), f.NewEncoder()
			b.ReportAllocs()
			for b.Loop() {
				batch, _ = e.AppendMessages(batch[:0], buf, ev)
			}
		})
	}
}

// TestDefaults: a reader that has a schema with a new column takes for it, in older records, what the database has there.
func TestDefaults(t *testing.T) {
	column := func(typ string, logical change.Logical, precision, scale int, value string) change.Column {
		return change.Column{Name: "c", Type: typ, Logical: logical, Precision: precision, Scale: scale, Default: &value}
	}
	enums := func(f *Format) { f.Enums = true }
	for _, c := range []struct {
		column  change.Column
		options func(*Format)
		want    any // nil: there is no default
	}{
		{column("varchar(10)", change.LogicalText, 0, 0, "it's \"new\""), nil, "it's \"new\""},
		{column("character varying(10)", change.LogicalText, 0, 0, ""), nil, ""},
		{column("char(3)", change.LogicalText, 0, 0, "ab"), nil, "ab"},
		{column("char(3)", change.LogicalText, 0, 0, "a "), nil, nil},
		{column("interval", change.LogicalText, 0, 0, "1 day"), nil, nil},
		{column("enum('a','b c')", change.LogicalText, 0, 0, "b c"), nil, "b c"},
		{column("enum('a','b c')", change.LogicalText, 0, 0, "B C"), nil, nil},
		{column("enum('a','b c')", change.LogicalText, 0, 0, "b c"), enums, "b_c"},
		{column("enum('a','b c')", change.LogicalText, 0, 0, "z"), enums, nil},
		{column("boolean", change.LogicalBool, 0, 0, "t"), nil, true},
		{column("boolean", change.LogicalBool, 0, 0, "false"), nil, false},
		{column("boolean", change.LogicalBool, 0, 0, "2"), nil, nil},
		{column("int", change.LogicalInt32, 0, 0, "-7"), nil, -7},
		{column("int", change.LogicalInt32, 0, 0, "2147483648"), nil, nil},
		{column("int", change.LogicalInt32, 0, 0, "1.5"), nil, nil},
		{column("bigint", change.LogicalInt64, 0, 0, "2147483648"), nil, int64(2147483648)},
		{column("bigint unsigned", change.LogicalUint64, 0, 0, "18446744073709551615"), nil, rat("18446744073709551615")},
		{column("float", change.LogicalFloat32, 0, 0, "1.5"), nil, float32(1.5)},
		{column("double", change.LogicalFloat64, 0, 0, "-2e3"), nil, -2000.0},
		{column("double", change.LogicalFloat64, 0, 0, "NaN"), nil, nil},
		{column("decimal(10,2)", change.LogicalDecimal, 10, 2, "0"), nil, rat("0")},
		{column("decimal(10,2)", change.LogicalDecimal, 10, 2, "-12.3"), nil, rat("-12.3")},
		{column("decimal(10,2)", change.LogicalDecimal, 10, 2, "0.001"), nil, nil},
		{column("decimal(10,2)", change.LogicalDecimal, 10, 2, "1e1"), nil, nil},
		{column("date", change.LogicalDate, 0, 0, "2024-02-29"), nil, time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{column("date", change.LogicalDate, 0, 0, "0000-00-00"), nil, nil},
		{column("date", change.LogicalDate, 0, 0, "infinity"), nil, nil},
		{column("time(3)", change.LogicalTime, 0, 3, "13:51:30.5"), nil, 13*time.Hour + 51*time.Minute + 30500*time.Millisecond},
		{column("time", change.LogicalTime, 0, 0, "13:51:30.5"), nil, nil},
		{column("time", change.LogicalTime, 0, 0, "-01:00:00"), nil, nil},
		{column("datetime(6)", change.LogicalDateTime, 0, 6, "2024-02-29 13:51:30.123456"), nil, time.Date(2024, 2, 29, 13, 51, 30, 123456000, time.UTC)},
		{column("datetime", change.LogicalDateTime, 0, 0, "2024-02-29 13:51:30.6"), nil, nil},
		{column("datetime", change.LogicalDateTime, 0, 0, "CURRENT_TIMESTAMP"), nil, nil},
		{column("timestamp", change.LogicalTimestamp, 0, 0, "2024-02-29 13:51:30"), nil, nil},
		{column("blob", change.LogicalBytes, 0, 0, "x"), nil, nil},
		{column("uuid", change.LogicalUUID, 0, 0, "123e4567-e89b-12d3-a456-426614174000"), nil, "123e4567-e89b-12d3-a456-426614174000"},
	} {
		name := c.column.Type + " " + *c.column.Default
		f, r := newFormat(func(f *Format) {
			rowFormat(f)
			if c.options != nil {
				c.options(f)
			}
		})
		before, after := table("mysql"), table("mysql", c.column)
		require.NoError(t, f.Prepare(t.Context(), before))
		require.NoError(t, f.Prepare(t.Context(), after))
		old, err := hamba.ParseWithCache(r.schemas[0], "", &hamba.SchemaCache{})
		require.NoError(t, err, name)
		now, err := hamba.ParseWithCache(r.schemas[len(r.schemas)-2], "", &hamba.SchemaCache{})
		require.NoError(t, err, name)
		both, err := hamba.NewSchemaCompatibility().Resolve(now, old)
		if c.want == nil {
			require.ErrorContains(t, err, "default", name)
			continue
		}
		require.NoError(t, err, name)
		messages, _ := f.NewEncoder().AppendMessages(nil, nil, event(before, change.Create, nil, []change.Value{change.IntValue(5)}))
		own, _ := change.Own(messages[0])
		var got object
		require.NoError(t, hamba.Unmarshal(both, own.Payload()[5:], &got), name)
		if want, ok := c.want.(*big.Rat); ok {
			require.Zero(t, want.Cmp(got["c"].(*big.Rat)), name)
			continue
		}
		if at, ok := got["c"].(time.Time); ok && c.column.Logical == change.LogicalDateTime { // hamba gives it the zone of the process
			got["c"] = time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
		}
		require.Equal(t, c.want, got["c"], name)
	}
}

func rat(s string) *big.Rat {
	n, _ := new(big.Rat).SetString(s)
	return n
}
