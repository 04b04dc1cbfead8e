package protobuf

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// fake is a registry that numbers what it is asked for, each text once.
type fake struct {
	schemas  []string // the number of a schema is its index and 1
	subjects map[string][]int
	err      error
}

func (r *fake) ID(_ context.Context, subject, schema string) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	id := slices.Index(r.schemas, schema) + 1
	if id == 0 {
		r.schemas = append(r.schemas, schema)
		id = len(r.schemas)
	}
	r.subjects[subject] = append(r.subjects[subject], id)
	return id, nil
}

func (r *fake) Latest(_ context.Context, subject string) (int, string, error) {
	if ids := r.subjects[subject]; len(ids) > 0 {
		id := ids[len(ids)-1]
		return id, r.schemas[id-1], nil
	}
	return 0, "", r.err
}

func topicOf(t *change.Table) (string, error) { return t.Source.Name + "." + t.FullName(), nil }

func newFormat(options func(*Format)) (*Format, *fake) {
	r := &fake{subjects: map[string][]int{}}
	return with(r, options), r
}

// with returns a format as another process with the same registry has it.
func with(r *fake, options func(*Format)) *Format {
	f := New(confluent.Naming{Topic: topicOf, Subject: confluent.SubjectTopic}, r)
	f.Shaping = confluent.Shaping{Shape: confluent.ShapeEnvelope, Deletes: confluent.DeleteKeep, Tombstones: true}
	f.Placeholder = "__gone"
	if options != nil {
		options(f)
	}
	return f
}

func rowFormat(f *Format) { f.Shape = confluent.ShapeRow }

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

// compiled returns the messages of a .proto file as Google's compiler sees them.
func compiled(t testing.TB, text string) protoreflect.MessageDescriptors {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"t.proto": text})})}
	files, err := c.Compile(t.Context(), "t.proto")
	require.NoError(t, err, text)
	return files[0].Messages()
}

// decode reads a message in the wire format with the schema that its number stands for. Nothing of it may be unknown.
func (r *fake) decode(t testing.TB, b []byte) string {
	t.Helper()
	if len(b) == 0 {
		return ""
	}
	require.Greater(t, len(b), 5)
	require.Zero(t, b[0])
	messages := compiled(t, r.schemas[binary.BigEndian.Uint32(b[1:])-1])
	at, b := 0, b[5:]
	if count, n := binary.Varint(b); count == 0 {
		b = b[n:]
	} else {
		require.EqualValues(t, 1, count)
		index, k := binary.Varint(b[n:])
		at, b = int(index), b[n+k:]
	}
	m := dynamicpb.NewMessage(messages.Get(at))
	return show(t, m, b)
}

func show(t testing.TB, m *dynamicpb.Message, b []byte) string {
	t.Helper()
	require.NoError(t, proto.Unmarshal(b, m))
	known(t, m)
	return normal(prototext.MarshalOptions{EmitASCII: true}.Format(m))
}

// normal makes one space of several: the library puts one or two, so that nobody relies on it.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }

// known checks that no message has bytes that its schema does not know.
func known(t testing.TB, m protoreflect.Message) {
	t.Helper()
	assert.Empty(t, m.GetUnknown())
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				known(t, v.List().Get(i).Message())
			}
		default:
			known(t, v.Message())
		}
		return true
	})
}

type told struct {
	Payload, Key, Operation, ID string
	Silent, Null                bool
	Err                         string
}

func tell(t testing.TB, f *Format, r *fake, ev *change.Event) (out []told) {
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

// Every type has the value that a generic reader sees.
func TestTypes(t *testing.T) {
	array := func(typ string, part change.Column) change.Column {
		part.Type = typ
		return change.Column{Type: typ + "[]", Logical: change.LogicalArray, Parts: []change.Column{part}}
	}
	json := func(s string) change.Value { return change.JSONValue([]byte(s)) }
	message := func(f *Format) { f.DecimalMessage = true }
	for name, c := range map[string]struct {
		column    change.Column
		value     change.Value
		typ, want string
		options   func(*Format)
	}{
		"bool":              {change.Column{Logical: change.LogicalBool}, change.BoolValue(false), "bool", `c:false`, nil},
		"bit varying(1)":    {change.Column{Logical: change.LogicalBool}, text("1"), "bool", `c:true`, nil},
		"int":               {change.Column{Logical: change.LogicalInt32}, change.IntValue(-2147483648), "int32", `c:-2147483648`, nil},
		"zero":              {change.Column{Logical: change.LogicalInt32}, change.IntValue(0), "int32", `c:0`, nil},
		"int unsigned":      {change.Column{Logical: change.LogicalUint32}, change.UintValue(4294967295), "uint32", `c:4294967295`, nil},
		"bigint":            {change.Column{Logical: change.LogicalInt64}, change.IntValue(-9223372036854775808), "int64", `c:-9223372036854775808`, nil},
		"quoted":            {change.Column{Logical: change.LogicalInt64, Quoted: true}, change.DecimalValue([]byte("9223372036854775807")), "int64", `c:9223372036854775807`, nil},
		"bigint unsigned":   {change.Column{Logical: change.LogicalUint64}, change.UintValue(18446744073709551615), "uint64", `c:18446744073709551615`, nil},
		"quoted unsigned":   {change.Column{Logical: change.LogicalUint64, Quoted: true}, change.DecimalValue([]byte("18446744073709551615")), "uint64", `c:18446744073709551615`, nil},
		"float":             {change.Column{Logical: change.LogicalFloat32}, change.Float32Value(3.3), "float", `c:3.3`, nil},
		"double":            {change.Column{Logical: change.LogicalFloat64}, change.Float64Value(1e300), "double", `c:1e+300`, nil},
		"decimal":           {change.Column{Logical: change.LogicalDecimal, Precision: 10, Scale: 2}, change.DecimalValue([]byte("-12.30")), "string", `c:"-12.30"`, nil},
		"decimal message":   {change.Column{Logical: change.LogicalDecimal, Precision: 10, Scale: 2}, change.DecimalValue([]byte("-12.34")), "Decimal", `c:{value:"\xfb."  precision:10  scale:2}`, message},
		"decimal zero":      {change.Column{Logical: change.LogicalDecimal, Precision: 10}, change.DecimalValue([]byte("0")), "Decimal", `c:{value:"\x00"  precision:10}`, message},
		"numeric":           {change.Column{Logical: change.LogicalDecimal}, change.DecimalValue([]byte("1e400")), "string", `c:"1e400"`, message},
		"text":              {change.Column{}, text("ä\"\n"), "string", `c:"\u00e4\"\n"`, nil},
		"empty":             {change.Column{}, text(""), "string", `c:""`, nil},
		"json":              {change.Column{Logical: change.LogicalJSON}, json(`{"a":1}`), "string", `c:"{\"a\":1}"`, nil},
		"undecodable":       {change.Column{}, change.BytesValue([]byte{0xff}), "string", `c:"/w=="`, nil},
		"bytes":             {change.Column{Logical: change.LogicalBytes}, change.BytesValue([]byte{0, 255}), "bytes", `c:"\x00\xff"`, nil},
		"uuid":              {change.Column{Logical: change.LogicalUUID}, text("b01d0e8c-7f6e-4a9b-9a52-1f0b3c0d4e5f"), "string", `c:"b01d0e8c-7f6e-4a9b-9a52-1f0b3c0d4e5f"`, nil},
		"date":              {change.Column{Logical: change.LogicalDate}, text("0044-03-15 BC"), "string", `c:"0044-03-15 BC"`, nil},
		"time":              {change.Column{Logical: change.LogicalTime, Scale: 6}, text("-838:59:59.000000"), "string", `c:"-838:59:59.000000"`, nil},
		"datetime(6)":       {change.Column{Logical: change.LogicalDateTime, Scale: 6}, text("2024-02-29T13:51:30.123456"), "string", `c:"2024-02-29T13:51:30.123456"`, nil},
		"timestamp(6)":      {change.Column{Logical: change.LogicalTimestamp, Scale: 6}, text("2024-02-29T13:51:30.123456Z"), "google.protobuf.Timestamp", `c:{seconds:1709214690  nanos:123456000}`, nil},
		"timestamp 1970":    {change.Column{Logical: change.LogicalTimestamp}, text("1970-01-01T00:00:00Z"), "google.protobuf.Timestamp", `c:{}`, nil},
		"timestamp before":  {change.Column{Logical: change.LogicalTimestamp, Scale: 6}, text("1969-12-31T23:59:59.999999Z"), "google.protobuf.Timestamp", `c:{seconds:-1  nanos:999999000}`, nil},
		"timestamp text":    {change.Column{Logical: change.LogicalTimestamp, Scale: 6}, text("infinity"), "string", `c:"infinity"`, func(f *Format) { f.TimeText = true }},
		"int[]":             {array("integer", change.Column{Logical: change.LogicalInt32}), json(`[1,null,-3,0]`), "ArrayOfInt32", `c:{elements:{value:1}  elements:{}  elements:{value:-3}  elements:{value:0}}`, nil},
		"empty[]":           {array("integer", change.Column{Logical: change.LogicalInt32}), json(`[]`), "ArrayOfInt32", `c:{}`, nil},
		"text[]":            {array("text", change.Column{}), json(`["a,]","b\"\u00e4",null,""]`), "ArrayOfString", `c:{elements:{value:"a,]"}  elements:{value:"b\"\u00e4"}  elements:{}  elements:{value:""}}`, nil},
		"bytea[]":           {array("bytea", change.Column{Logical: change.LogicalBytes}), json(`[{"_base64":"AP8="}]`), "ArrayOfBytes", `c:{elements:{value:"\x00\xff"}}`, nil},
		"bool[]":            {array("boolean", change.Column{Logical: change.LogicalBool}), json(`[true,false]`), "ArrayOfBool", `c:{elements:{value:true}  elements:{value:false}}`, nil},
		"numeric[]":         {array("numeric(4,1)", change.Column{Logical: change.LogicalDecimal, Precision: 4, Scale: 1}), json(`["1.5"]`), "ArrayOfDecimal", `c:{elements:{value:{value:"\x0f"  precision:4  scale:1}}}`, message},
		"float8[]":          {array("float8", change.Column{Logical: change.LogicalFloat64}), json(`[1.5,"NaN","-Infinity"]`), "ArrayOfDouble", `c:{elements:{value:1.5}  elements:{value:nan}  elements:{value:-inf}}`, nil},
		"timestamptz[]":     {array("timestamptz", change.Column{Logical: change.LogicalTimestamp, Scale: 6}), json(`["2024-02-29T13:51:30Z"]`), "ArrayOfTimestamp", `c:{elements:{value:{seconds:1709214690}}}`, nil},
		"jsonb[]":           {array("jsonb", change.Column{Logical: change.LogicalJSON}), json(`[{"a":[1,2]},[3]]`), "ArrayOfString", `c:{elements:{value:"{\"a\":[1,2]}"}  elements:{value:"[3]"}}`, nil},
		"array text":        {array("integer", change.Column{Logical: change.LogicalInt32}), json(`[[1],[2]]`), "string", `c:"[[1],[2]]"`, func(f *Format) { f.ArrayText = true }},
		"vector":            {change.Column{Type: "vector(3)", Logical: change.LogicalArray, Parts: []change.Column{{Logical: change.LogicalFloat32}}}, json(`[1.5,"NaN",0]`), "Floats", `c:{elements:1.5  elements:nan  elements:0}`, nil},
		"geometry":          {change.Column{Logical: change.LogicalGeometry}, json(`{"wkb":"AQI=","srid":4326}`), "Geometry", `c:{wkb:"\x01\x02"  srid:4326}`, nil},
		"geometry, no srid": {change.Column{Logical: change.LogicalGeometry}, json(`{"wkb":"AQI=","srid":0}`), "Geometry", `c:{wkb:"\x01\x02"}`, nil},
		"unavailable text":  {change.Column{}, change.UnavailableValue(), "string", `c:"__gone"`, nil},
		"unavailable bytes": {change.Column{Logical: change.LogicalBytes}, change.UnavailableValue(), "bytes", `c:"__gone"`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFormat(func(f *Format) {
				f.Shape = confluent.ShapeRow
				if c.options != nil {
					c.options(f)
				}
			})
			other := c.column
			c.column.Name, other.Name = "c", "d"
			got := tell(t, f, r, event(table("mysql", c.column, other), change.Create, nil, []change.Value{change.IntValue(1), c.value, change.NullValue()}))
			assert.Equal(t, []told{{Payload: normal(`id:1  ` + c.want), Key: "id:1", Operation: "insert", ID: "u:7:4"}}, got)
			assert.Contains(t, r.schemas[0], "  optional "+c.typ+" c = 2;\n  optional "+c.typ+" d = 3;\n}\n")
		})
	}
}

// A value that has no form marks its message, with the way out. The rest of the row is there.
func TestNoForm(t *testing.T) {
	ints := []change.Column{{Type: "integer", Logical: change.LogicalInt32}}
	for _, c := range []struct {
		column change.Column
		value  change.Value
		want   string
	}{
		{change.Column{Logical: change.LogicalDecimal, Precision: 4, Scale: 2}, change.DecimalValue([]byte("NaN")), "it is no decimal of the column's precision; protobuf.decimals: string has it"},
		{change.Column{Logical: change.LogicalTimestamp}, text("0000-00-00T00:00:00Z"), "it is no date of a calendar; protobuf.times: string has it, and zero_date: null makes NULL of it"},
		{change.Column{Logical: change.LogicalTimestamp}, text("infinity"), "it is no date or time of a calendar; protobuf.times: string has it"},
		{change.Column{Logical: change.LogicalTimestamp}, text("10000-01-01T00:00:00Z"), "a Timestamp has the years from 1 to 9999; protobuf.times: string has it"},
		{change.Column{Logical: change.LogicalTimestamp}, text("0044-03-15T00:00:00Z BC"), "a Timestamp has the years from 1 to 9999; protobuf.times: string has it"},
		{change.Column{Type: "integer[]", Logical: change.LogicalArray, Parts: ints}, change.JSONValue([]byte("[[1],[2]]")), "it has several dimensions; protobuf.arrays: string has it"},
		{change.Column{Logical: change.LogicalInt32}, change.UnavailableValue(), "the log does not carry the value, and the type has no placeholder: " + confluent.WayOut},
		{change.Column{Logical: change.LogicalInt32}, text("2147483648"), "it is no integer of 32 bits"},
	} {
		f, r := newFormat(func(f *Format) { f.Shape, f.DecimalMessage = confluent.ShapeRow, true })
		c.column.Name = "c"
		got := tell(t, f, r, event(table("mysql", c.column, change.Column{Name: "z"}), change.Create, nil, []change.Value{change.IntValue(1), c.value, text("end")}))
		assert.Equal(t, []told{{Payload: normal(`id:1  z:"end"`), Key: "id:1", Operation: "insert", ID: "u:7:4", Err: "column c of db.t has a value with no form in the format protobuf: " + c.want}}, got)
	}
}

// What a table is not prepared for, its messages say; none of their bytes is anything.
func TestNotPrepared(t *testing.T) {
	f, r := newFormat(rowFormat)
	r.err = errors.New("it answers 409")
	tab := table("mysql")
	require.EqualError(t, f.Prepare(t.Context(), tab), "registering the schema of table db.t: it answers 409")
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
	for _, s := range []string{"2024-02-29T13:51:30.5", "-12.340", "[1,[2,\"a\\\"\"],null]", "{\"wkb\":\"AQ==\",\"srid\":1}", "true", "[\"1\"]", "[{\"_base64\":\"AA==\"}]", "["} {
		f.Add(s)
	}
	kinds := []change.Column{
		{Logical: change.LogicalInt32},
		{Logical: change.LogicalUint64},
		{Logical: change.LogicalFloat32},
		{Logical: change.LogicalDecimal, Precision: 9, Scale: 3},
		{Logical: change.LogicalTimestamp},
		{Logical: change.LogicalGeometry},
		{Logical: change.LogicalBytes},
		{},
	}
	for _, k := range slices.Clip(kinds) {
		k.Type = "x"
		kinds = append(kinds, change.Column{Type: "x[]", Logical: change.LogicalArray, Parts: []change.Column{k}})
	}
	kinds = append(kinds, change.Column{Type: "vector", Logical: change.LogicalArray, Parts: []change.Column{{Logical: change.LogicalFloat32}}})
	format, r := newFormat(func(f *Format) { f.Shape, f.DecimalMessage = confluent.ShapeRow, true })
	var columns []change.Column
	for i, k := range kinds {
		k.Name = string(rune('a' + i))
		columns = append(columns, k)
	}
	tab := table("postgresql", columns...)
	require.NoError(f, format.Prepare(f.Context(), tab))
	value := compiled(f, r.schemas[0]).Get(0)
	f.Fuzz(func(t *testing.T, s string) {
		row := []change.Value{change.IntValue(1)}
		for _, c := range columns {
			v := change.TextValue([]byte(s))
			if c.Logical == change.LogicalArray {
				v = change.JSONValue([]byte(s))
			}
			row = append(row, v)
		}
		messages, _ := format.NewEncoder().AppendMessages(nil, nil, event(tab, change.Create, nil, row))
		own, _ := change.Own(messages[0])
		m := dynamicpb.NewMessage(value)
		require.NoError(t, proto.Unmarshal(own.Payload()[6:], m), "%x", own.Payload())
		known(t, m)
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
		change.Column{Name: "at", Logical: change.LogicalTimestamp, Scale: 6}, change.Column{Name: "note", Nullable: true})
}

func benchRow(n int) []change.Value {
	return []change.Value{change.IntValue(1), text("a name of a customer"), change.DecimalValue([]byte("12345.67")), text("2024-02-29T13:51:30.123456Z"), text("note " + string(rune('0'+n)))}
}

// BenchmarkFormat is the format beside the native one, of rows that have much in common with their neighbours.
func BenchmarkFormat(b *testing.B) {
	envelopes, _ := newFormat(nil)
	rows, _ := newFormat(rowFormat)
	for name, f := range map[string]change.Format{"native": envelope.Native{}, "protobuf": envelopes, "protobuf-row": rows} {
		b.Run(name, func(b *testing.B) {
			tab := benchTable()
			tab.Source.Format = f
			require.NoError(b, change.Prepare(b.Context(), tab))
			ev := event(tab, change.Update, benchRow(1), benchRow(2))
			buf, batch, e := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1), f.NewEncoder()
			b.ReportAllocs()
			for b.Loop() {
				batch, _ = e.AppendMessages(batch[:0], buf, ev)
			}
		})
	}
}

// The messages of every operation, in both shapes.
func TestOperations(t *testing.T) {
	name, n := change.Column{Name: "name"}, change.Column{Name: "n", Logical: change.LogicalInt64}
	mysql, postgres := table("mysql", name, n), table("postgresql", name, n)
	row := func(id int64, name string) []change.Value {
		return []change.Value{change.IntValue(id), text(name), change.IntValue(0)}
	}
	const after = ` op:"%op" ts_ms:1700000000200 ts_us:1700000000200300 ts_ns:1700000000200300400 event_id:"`
	const common = `ts_ms:1700000000123 ts_us:1700000000123456 ts_ns:1700000000123456000 snapshot:"false" db:"db" `
	my := func(op, id, images string) string {
		return images + `source:{version:"v1" connector:"mysql" name:"shop" ` + common + `table:"t" server_id:3 gtid:"u:7" file:"bin.1" pos:99 row:1} transaction:{id:"u:7" total_order:4}` +
			strings.Replace(after, "%op", op, 1) + id + `"`
	}
	pg := func(op, id, images string) string {
		return images + `source:{version:"v1" connector:"postgresql" name:"shop" ` + common + `schema:"public" table:"t" tx_id:9 lsn:77} transaction:{id:"9" total_order:4}` +
			strings.Replace(after, "%op", op, 1) + id + `"`
	}
	const one, two, moved = `id:1 name:"a" n:0`, `id:1 name:"b" n:0`, `id:2 name:"b" n:0`
	keyOnly := []change.Value{change.IntValue(1), {}, change.UnavailableValue()}
	long := row(1, strings.Repeat("x", 20000))
	null := func(f *Format) { f.Shape, f.Deletes = confluent.ShapeRow, confluent.DeleteNull }
	for name, c := range map[string]struct {
		options func(*Format)
		ev      *change.Event
		want    []told
	}{
		"insert":           {nil, event(mysql, change.Create, nil, row(1, "a")), []told{{Payload: my("c", "u:7:4", `after:{`+one+`} `), Key: "id:1", Operation: "insert", ID: "u:7:4"}}},
		"long":             {nil, event(mysql, change.Create, nil, long), []told{{Payload: my("c", "u:7:4", `after:{id:1 name:"`+strings.Repeat("x", 20000)+`" n:0} `), Key: "id:1", Operation: "insert", ID: "u:7:4"}}},
		"update":           {nil, event(mysql, change.Update, row(1, "a"), row(1, "b")), []told{{Payload: my("u", "u:7:4", `before:{`+one+`} after:{`+two+`} `), Key: "id:1", Operation: "update", ID: "u:7:4"}}},
		"delete":           {nil, event(mysql, change.Delete, row(1, "a"), nil), []told{{Payload: my("d", "u:7:4", `before:{`+one+`} `), Key: "id:1", Operation: "delete", ID: "u:7:4"}, {Key: "id:1", Operation: "delete", ID: "u:7:4-1", Null: true}}},
		"moved":            {nil, event(mysql, change.Update, row(1, "a"), row(2, "b")), []told{{Payload: my("d", "u:7:4", `before:{`+one+`} `), Key: "id:1", Operation: "delete", ID: "u:7:4"}, {Key: "id:1", Operation: "delete", ID: "u:7:4-1", Null: true}, {Payload: my("c", "u:7:4-2", `after:{`+moved+`} `), Key: "id:2", Operation: "insert", ID: "u:7:4-2"}}},
		"truncate":         {nil, event(mysql, change.Truncate, nil, nil), []told{{Payload: my("t", "u:7:4", ""), Operation: "truncate", ID: "u:7:4"}}},
		"postgres":         {nil, event(postgres, change.Delete, keyOnly, nil), []told{{Payload: pg("d", "0/10:4", `before:{id:1} `), Key: "id:1", Operation: "delete", ID: "0/10:4"}, {Key: "id:1", Operation: "delete", ID: "0/10:4-1", Null: true}}},
		"row":              {rowFormat, event(mysql, change.Update, row(1, "a"), row(2, "b")), []told{{Payload: moved, Key: "id:2", Operation: "update", ID: "u:7:4"}}},
		"row delete":       {rowFormat, event(postgres, change.Delete, keyOnly, nil), []told{{Payload: "id:1", Key: "id:1", Operation: "delete", ID: "0/10:4"}}},
		"row delete null":  {null, event(mysql, change.Delete, row(1, "a"), nil), []told{{Key: "id:1", Operation: "delete", ID: "u:7:4", Null: true}}},
		"row truncate":     {rowFormat, event(mysql, change.Truncate, nil, nil), []told{{Operation: "truncate", ID: "u:7:4", Silent: true}}},
		"change of shapes": {nil, event(mysql, change.Schema, nil, nil), []told{{Operation: "schema", ID: "u:7:4", Err: "a change of the shape of table db.t has no form in the format protobuf: leave schema_changes off, or read it by a source with another format"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newFormat(c.options)
			assert.Equal(t, c.want, tell(t, f, r, c.ev))
		})
	}
}
