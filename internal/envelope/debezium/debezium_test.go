package debezium

import (
	"encoding/base64"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func mysqlTable() *change.Table {
	return &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop", Version: "v1"}, Database: "db", Name: "t", Key: []int{0},
		Columns: []change.Column{
			{Name: "id", Type: "int", Logical: change.LogicalInt32},
			{Name: "na\"me", Type: "varchar(9)", Nullable: true},
			{Name: "b", Type: "blob", Logical: change.LogicalBytes},
		},
	}
}

func mysqlEvent(op change.Op, before, after []change.Value) *change.Event {
	tx := &change.Tx{ID: "u:7", GTID: "u:7", Position: "u:7", ServerID: 3, CommitTime: time.UnixMicro(1700000000123456).UTC()}
	return &change.Event{
		Op: op, Table: mysqlTable(), Origin: &change.Origin{Tx: tx, ReadAt: time.Unix(0, 1700000000200300400), File: "bin.1"}, Index: 4, Pos: 99, Row: 1,
		Images: change.ImagesOf(before, after),
	}
}

func row(id int64, name change.Value) []change.Value {
	return []change.Value{change.IntValue(id), name, change.BytesValue([]byte{1, 2})}
}

const mysqlTail = `,"source":{"version":"v1","connector":"mysql","name":"shop","ts_ms":1700000000123,"snapshot":"false","db":"db","sequence":null,"ts_us":1700000000123456,` +
	`"ts_ns":1700000000123456000,"table":"t","server_id":3,"gtid":"u:7","file":"bin.1","pos":99,"row":1,"thread":null,"query":null},"transaction":null,"op":"X","ts_ms":1700000000200,` +
	`"ts_us":1700000000200300,"ts_ns":1700000000200300400}`

// told is what a test sees of a message.
type told struct {
	Payload, Key, Operation, ID string
	Null, Silent, Followed      bool
	Headers                     map[string]string
}

// tell makes the messages of an event, and makes each again as for another attempt.
func tell(t *testing.T, f change.Format, ev *change.Event) (out []told) {
	t.Helper()
	messages, _ := f.NewEncoder().AppendMessages(nil, []byte("before"), ev)
	for i, m := range messages {
		require.NoError(t, m.GetError())
		out = append(out, toldBy(t, m))
		require.Equal(t, out[i], toldBy(t, change.Renew(m)))
	}
	return out
}

func toldBy(t *testing.T, m *service.Message) (x told) {
	t.Helper()
	payload, err := m.AsBytes()
	require.NoError(t, err)
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	x = told{Payload: string(payload), Null: payload == nil, Silent: ev.Silent, Followed: ev.Followed}
	for _, h := range ev.Headers {
		if x.Headers == nil {
			x.Headers = map[string]string{}
		}
		x.Headers[h.Name], ok = m.MetaGet(h.Name)
		require.True(t, ok)
		require.Equal(t, string(h.Value), x.Headers[h.Name])
	}
	x.Key, _ = m.MetaGet(change.MetaKey)
	x.Operation, _ = m.MetaGet(change.MetaOperation)
	x.ID, _ = m.MetaGet(change.MetaEventID)
	return x
}

func payload(before, after string, op string) string {
	return `{"before":` + before + `,"after":` + after + strings.Replace(mysqlTail, "X", op, 1)
}

func TestOperations(t *testing.T) {
	one, two := `{"id":1,"na\"me":"a","b":"AQI="}`, `{"id":2,"na\"me":null,"b":"AQI="}`
	tombstone := told{Key: `{"id":1}`, Operation: "delete", ID: "u:7:4-1", Null: true}
	newKey, oldKey := map[string]string{"__debezium.newkey": `{"id":2}`}, map[string]string{"__debezium.oldkey": `{"id":1}`}
	moved := tombstone
	moved.Headers = newKey
	for _, c := range []struct {
		what string
		ev   *change.Event
		want []told
	}{
		{"insert", mysqlEvent(change.Create, nil, row(1, text("a"))), []told{{Payload: payload("null", one, "c"), Key: `{"id":1}`, Operation: "insert", ID: "u:7:4"}}},
		{"update", mysqlEvent(change.Update, row(2, change.NullValue()), row(2, change.NullValue())), []told{{Payload: payload(two, two, "u"), Key: `{"id":2}`, Operation: "update", ID: "u:7:4"}}},
		{"delete", mysqlEvent(change.Delete, row(1, text("a")), nil), []told{
			{Payload: payload(one, "null", "d"), Key: `{"id":1}`, Operation: "delete", ID: "u:7:4", Followed: true}, tombstone,
		}},
		{"key", mysqlEvent(change.Update, row(1, text("a")), row(2, change.NullValue())), []told{
			{Payload: payload(one, "null", "d"), Key: `{"id":1}`, Operation: "delete", ID: "u:7:4", Followed: true, Headers: newKey},
			moved,
			{Payload: payload("null", two, "c"), Key: `{"id":2}`, Operation: "insert", ID: "u:7:4-2", Headers: oldKey},
		}},
		{"truncate", mysqlEvent(change.Truncate, nil, nil), []told{{Operation: "truncate", ID: "u:7:4", Null: true, Silent: true}}},
		{"key only", mysqlEvent(change.Update, []change.Value{change.IntValue(1), {}, {}}, row(1, text("a"))), []told{
			{Payload: payload(`{"id":1,"na\"me":null,"b":""}`, one, "u"), Key: `{"id":1}`, Operation: "update", ID: "u:7:4"},
		}},
		{"unavailable", mysqlEvent(change.Update, nil, []change.Value{change.IntValue(1), text("a"), change.UnavailableValue()}), []told{
			{Payload: payload("null", `{"id":1,"na\"me":"a","b":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="}`, "u"), Key: `{"id":1}`, Operation: "update", ID: "u:7:4"},
		}},
	} {
		assert.Equal(t, c.want, tell(t, Default(), c.ev), c.what)
	}
	f := Default()
	f.Tombstones, f.Truncates = false, true
	assert.Equal(t, []told{{Payload: payload(one, "null", "d"), Key: `{"id":1}`, Operation: "delete", ID: "u:7:4"}}, tell(t, f, mysqlEvent(change.Delete, row(1, text("a")), nil)))
	assert.Equal(t, []told{{Payload: payload("null", "null", "t"), Operation: "truncate", ID: "u:7:4"}}, tell(t, f, mysqlEvent(change.Truncate, nil, nil)))
	assert.Equal(t, []string{"u:7:4", "u:7:4-2"}, ids(tell(t, f, mysqlEvent(change.Update, row(1, text("a")), row(2, text("a"))))))
}

func ids(all []told) (out []string) {
	for _, x := range all {
		out = append(out, x.ID)
	}
	return out
}

func TestSchemas(t *testing.T) {
	f := Default()
	f.Schemas = true
	got := tell(t, f, mysqlEvent(change.Create, nil, row(1, text("a"))))
	require.Len(t, got, 1)
	fields := `{"type":"int32","optional":false,"field":"id"},{"type":"string","optional":true,"field":"na\"me"},{"type":"bytes","optional":false,"field":"b"}`
	image := func(name string) string {
		return `{"type":"struct","fields":[` + fields + `],"optional":true,"name":"shop.db.t.Value","field":"` + name + `"},`
	}
	assert.Equal(t, told{
		Payload: `{"schema":{"type":"struct","fields":[` + image("before") + image("after") + mysqlSource + "," + transaction + "," + envelopeTail +
			`"shop.db.t.Envelope","version":2},"payload":` + payload("null", `{"id":1,"na\"me":"a","b":"AQI="}`, "c") + "}",
		Key:       `{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":false,"name":"shop.db.t.Key"},"payload":{"id":1}}`,
		Operation: "insert", ID: "u:7:4",
	}, got[0])
	assert.True(t, json.Valid([]byte(got[0].Payload)))
	for _, x := range tell(t, f, mysqlEvent(change.Update, row(1, text("a")), row(2, text("a")))) {
		assert.True(t, x.Null || json.Valid([]byte(x.Payload)))
		assert.True(t, json.Valid([]byte(x.Key)))
		for _, h := range x.Headers {
			assert.True(t, json.Valid([]byte(h)))
		}
	}
	ev := mysqlEvent(change.Schema, nil, nil)
	ev.Change = &change.SchemaChange{New: mysqlTable()}
	shape := tell(t, f, ev)
	assert.Equal(t, `{"schema":null,"payload":{"databaseName":"db"}}`, shape[0].Key)
	assert.True(t, json.Valid([]byte(shape[0].Payload)))
}

// Neighbours of another origin, table or operation take nothing from each other.
func TestNeighbours(t *testing.T) {
	first, second := mysqlEvent(change.Create, nil, row(1, text("a"))), mysqlEvent(change.Read, nil, row(1, text("a")))
	second.Tx, second.Snapshot, second.ReadAt = &change.Tx{Position: "snapshot-1", CommitTime: time.Unix(5, 0)}, change.SnapshotLast, time.Unix(6, 0)
	second.File, second.Pos, second.Row, second.Ident = "", 0, 0, []byte("1")
	third := *first
	third.Table = &change.Table{Source: first.Table.Source, Database: "db", Name: "other", Columns: first.Table.Columns}
	e, f := Default().NewEncoder(), Default()
	var batch service.MessageBatch
	var buf []byte
	for _, ev := range []*change.Event{first, second, &third} {
		alone := *ev
		batch, buf = e.AppendMessages(batch, buf, ev)
		want := tell(t, f, &alone)
		require.Len(t, want, 1)
		assert.Equal(t, want[0], toldBy(t, batch[len(batch)-1]))
	}
	assert.Contains(t, toldBy(t, batch[1]).Payload, `"ts_ms":5000,"snapshot":"last","db":"db","sequence":null,"ts_us":5000000,"ts_ns":5000000000,"table":"t","server_id":0,"gtid":null,"file":"","pos":0,"row":0,`)
}

func TestPostgresMessage(t *testing.T) {
	src := &change.Source{Connector: "postgresql", Name: "shop", Version: "v1"}
	ev := &change.Event{
		Op: change.Message, Table: change.MessageTable(src, "db"), Index: 1, LSN: 42, Images: change.ImagesOf(nil, []change.Value{text("foo"), change.BytesValue([]byte("bar"))}),
		Origin: &change.Origin{Tx: &change.Tx{XID: 5, Position: "0/1", CommitTime: time.UnixMilli(7)}, ReadAt: time.UnixMilli(8)},
	}
	assert.Equal(t, []told{{
		Payload: `{"op":"m","ts_ms":8,"source":{"version":"v1","connector":"postgresql","name":"shop","ts_ms":7,"snapshot":"false","db":"db","sequence":"[null,\"42\"]",` +
			`"ts_us":7000,"ts_ns":7000000,"schema":"","table":"","txId":5,"lsn":42,"xmin":null,"origin":null,"origin_lsn":null},"transaction":null,"message":{"prefix":"foo","content":"YmFy"}}`,
		Key: `{"prefix":"foo"}`, Operation: "message", ID: "0/1:1",
	}}, tell(t, Default(), ev))
}

func TestSchemaChange(t *testing.T) {
	ev := mysqlEvent(change.Schema, nil, nil)
	ev.Change = &change.SchemaChange{DDL: "CREATE TABLE t (…)", New: mysqlTable()}
	got := tell(t, Default(), ev)
	require.Len(t, got, 1)
	assert.Equal(t, `{"databaseName":"db"}`, got[0].Key)
	_, after, ok := strings.Cut(got[0].Payload, `},"ts_ms":`)
	require.True(t, ok)
	const unknown = `"charsetName":null,"length":null,"scale":null,`
	const rest = `,"autoIncremented":null,"generated":null,"comment":null,"defaultValueExpression":null,"enumValues":null}`
	assert.Equal(t, `1700000000200,"databaseName":"db","schemaName":null,"ddl":"CREATE TABLE t (…)","tableChanges":[{"type":"CREATE","id":"\"db\".\"t\"","table":{"defaultCharsetName":null,`+
		`"primaryKeyColumnNames":["id"],"columns":[{"name":"id","jdbcType":null,"nativeType":null,"typeName":"int","typeExpression":"int",`+unknown+`"position":1,"optional":false`+rest+
		`,{"name":"na\"me","jdbcType":null,"nativeType":null,"typeName":"varchar","typeExpression":"varchar(9)",`+unknown+`"position":2,"optional":true`+rest+
		`,{"name":"b","jdbcType":null,"nativeType":null,"typeName":"blob","typeExpression":"blob",`+unknown+`"position":3,"optional":false`+rest+`],"comment":null}}]}`, after)
	assert.True(t, json.Valid([]byte(got[0].Payload)))
}

// one writes a value of a column, with the error that its message gets.
func one(f *Format, postgres bool, c change.Column, v change.Value) (string, error) {
	e := &encoder{format: f, table: mysqlTable()}
	return string(e.appendValue(nil, f.column(postgres, &c), v)), e.err
}

func TestModes(t *testing.T) {
	numeric := change.Column{Type: "numeric(10,2)", Logical: change.LogicalDecimal, Precision: 10, Scale: 2}
	free := change.Column{Type: "numeric", Logical: change.LogicalDecimal}
	unsigned := change.Column{Type: "bigint unsigned", Logical: change.LogicalUint64}
	stamp := change.Column{Type: "timestamp(6) without time zone", Logical: change.LogicalDateTime, Scale: 6}
	clock := change.Column{Type: "time(6) without time zone", Logical: change.LogicalTime, Scale: 6}
	date := change.Column{Type: "date", Logical: change.LogicalDate}
	raw := change.Column{Type: "bytea", Logical: change.LogicalBytes}
	span := change.Column{Type: "interval"}
	pairs := change.Column{Type: "hstore", Logical: change.LogicalMap}
	money := change.Column{Type: "cash", Base: "money"}
	decimal := func(s string) change.Value { return change.DecimalValue([]byte(s)) }
	set := func(change func(*Format)) *Format { f := Default(); change(f); return f }
	for _, c := range []struct {
		f    *Format
		col  change.Column
		v    change.Value
		want string
	}{
		{Default(), numeric, decimal("-12.34"), `"+y4="`},
		{set(func(f *Format) { f.Decimal = DecimalString }), numeric, decimal("-12.34"), `"-12.34"`},
		{set(func(f *Format) { f.Decimal = DecimalDouble }), numeric, decimal("-12.34"), `-12.34`},
		{Default(), free, decimal("10.1000"), `{"scale":1,"value":"ZQ=="}`},
		{set(func(f *Format) { f.Decimal = DecimalString }), free, decimal("NaN"), `"NAN"`},
		{set(func(f *Format) { f.Decimal = DecimalString }), free, decimal("-Infinity"), `"NEGATIVE_INFINITY"`},
		{set(func(f *Format) { f.Decimal = DecimalDouble }), free, decimal("Infinity"), `"Infinity"`},
		{Default(), unsigned, change.UintValue(14446744073709551615), `-4000000000000000001`},
		{set(func(f *Format) { f.PreciseUnsigned = true }), unsigned, change.UintValue(18446744073709551615), `"AP//////////"`},
		{set(func(f *Format) { f.PreciseUnsigned, f.Decimal = true, DecimalString }), unsigned, change.UintValue(0), `"AA=="`},
		{Default(), stamp, text("2016-11-04T13:51:30.123456"), `1478267490123456`},
		{Default(), stamp, text("4713-12-31 23:59:59.999999 BC"), `-210831897600000001`},
		{Default(), stamp, text("infinity"), `9223372036825200000`},
		{Default(), stamp, text("-infinity"), `-9223372036832400000`},
		{set(func(f *Format) { f.Time = TimeConnect }), stamp, text("2016-11-04T13:51:30.123456"), `1478267490123`},
		{set(func(f *Format) { f.Time = TimeConnect }), stamp, text("1969-12-31T23:59:59.999999"), `-1`},
		{set(func(f *Format) { f.Time = TimeConnect }), stamp, text("294276-12-31T23:59:59.999999"), `9224318015999999`},
		{set(func(f *Format) { f.Time = TimeNanoseconds }), stamp, text("2016-11-04T13:51:30.123456"), `1478267490123456000`},
		{set(func(f *Format) { f.Time = TimeISO }), stamp, text("12024-02-29T13:51:30.120000"), `"+12024-02-29T13:51:30.12Z"`},
		{set(func(f *Format) { f.Time = TimeISO }), date, text("0044-03-15 BC"), `"-0043-03-15Z"`},
		{Default(), date, text("1936-10-25"), `-12121`},
		{set(func(f *Format) { f.Time = TimeISO }), clock, text("13:51:30.000000"), `"13:51:30Z"`},
		{set(func(f *Format) { f.Time = TimeNanoseconds }), clock, text("24:00:00.000000"), `86400000000000`},
		{set(func(f *Format) { f.Binary = BinaryHex }), raw, change.BytesValue([]byte{0, 255, 16}), `"00ff10"`},
		{set(func(f *Format) { f.Binary = BinaryBase64URL }), raw, change.BytesValue([]byte{251, 255}), `"-_8="`},
		{Default(), span, text("P-1Y-2M3DT-4H-5M-6.789S"), `-36572706789000`},
		{set(func(f *Format) { f.IntervalText = true }), span, text("P1DT2H3M4.568S"), `"P0Y0M1DT2H3M4.568S"`},
		{set(func(f *Format) { f.HstoreMap = true }), pairs, change.JSONValue([]byte(`{"a":null}`)), `{"a":null}`},
		{Default(), pairs, change.UnavailableValue(), `"{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}"`},
		{Default(), money, text("($1,234.50)"), `"/h3G"`},
		{set(func(f *Format) { f.Decimal = DecimalString }), money, text("-1.234,50 €"), `"-1234.50"`},
	} {
		got, err := one(c.f, c.col.Type != "bigint unsigned", c.col, c.v)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%+v %s", c.f, c.v.Bytes())
	}
}

// What has no form marks its message, with the table, the column and the way out. Null would be another value.
func TestNoForm(t *testing.T) {
	set := func(change func(*Format)) *Format { f := Default(); change(f); return f }
	for _, c := range []struct {
		f    *Format
		col  change.Column
		v    change.Value
		want string
	}{
		{Default(), change.Column{Name: "n", Type: "numeric", Logical: change.LogicalDecimal}, change.DecimalValue([]byte("NaN")), "NaN is no decimal; decimal: string or double have it"},
		{Default(), change.Column{Name: "n", Type: "int", Logical: change.LogicalInt32}, change.UnavailableValue(), "the log does not carry the value, and the type has no placeholder: " + wayOut},
		{Default(), change.Column{Name: "n", Type: "timestamp without time zone", Logical: change.LogicalDateTime, Scale: 6}, text("294276-12-31T23:59:59.999999"), "it is no number of 64 bits; time_precision: connect or isostring have it"},
		{Default(), change.Column{Name: "n", Type: "interval"}, text("P178000000Y"), "it is no number of 64 bits; interval: string has it"},
		{set(func(f *Format) { f.Time = TimeConnect }), change.Column{Name: "n", Type: "time(6)", Logical: change.LogicalTime}, text("-00:00:01"), "it is no time of a day; time_precision: adaptive has it"},
		{set(func(f *Format) { f.Time = TimeISO }), change.Column{Name: "n", Type: "date", Logical: change.LogicalDate}, text("infinity"), "an infinity is no date; time_precision: adaptive has it"},
	} {
		got, err := one(c.f, true, c.col, c.v)
		assert.Equal(t, "null", got)
		assert.EqualError(t, err, "column n of db.t has a value with no form in the format debezium: "+c.want)
		assert.ErrorIs(t, err, errForm)
	}
	ev := mysqlEvent(change.Update, row(1, text("a")), []change.Value{change.UnavailableValue(), text("a"), change.NullValue()})
	e := Default().NewEncoder()
	batch, buf := e.AppendMessages(nil, nil, ev)
	require.Len(t, batch, 1)
	require.ErrorIs(t, batch[0].GetError(), errForm)
	batch, _ = e.AppendMessages(nil, buf, mysqlEvent(change.Create, nil, row(1, text("a"))))
	require.NoError(t, batch[0].GetError(), "the error is the message's own")
}

// The bytes of decimals are those that big integers have.
func TestUnscaled(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		digits := 1 + r.IntN(90)
		scale := r.IntN(digits + 1)
		b := make([]byte, digits)
		for i := range b {
			b[i] = byte('0' + r.IntN(10))
		}
		if r.IntN(4) == 0 {
			copy(b, strings.Repeat("9", r.IntN(digits)))
		}
		s := string(b[:digits-scale]) + "." + string(b[digits-scale:])
		n, _ := new(big.Int).SetString(string(b), 10)
		if r.IntN(2) == 0 {
			s = "-" + s
			n.Neg(n)
		}
		got, ok := appendUnscaled(nil, []byte(s), scale)
		require.True(t, ok, s)
		raw, err := base64.StdEncoding.DecodeString(string(got))
		require.NoError(t, err)
		back := new(big.Int).SetBytes(raw)
		if raw[0] >= 0x80 {
			back.Sub(back, new(big.Int).Lsh(big.NewInt(1), uint(len(raw))*8))
		}
		require.Zero(t, n.Cmp(back), "%s: %s", s, back)
		require.True(t, len(raw) == 1 || (raw[0] != 0 || raw[1] >= 0x80) && (raw[0] != 0xff || raw[1] < 0x80), "%s: %x is not the shortest", s, raw)
	}
	for _, s := range []string{"NaN", "", "1.234", "1e5"} {
		_, ok := appendUnscaled(nil, []byte(s), 2)
		assert.False(t, ok, s)
	}
	got, ok := appendUnscaled(nil, []byte("123500"), -2)
	assert.True(t, ok)
	assert.Equal(t, base64.StdEncoding.EncodeToString([]byte{0x04, 0xd3}), string(got))
}

// Dates are those that the standard library has.
func TestMoments(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		at := time.UnixMicro(r.Int64N(2*250_000_000_000_000_000) - 60_000_000_000_000_000).UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			continue
		}
		s := at.Format("2006-01-02T15:04:05.000000")
		m, ok := parse.Moment([]byte(s))
		require.True(t, ok, s)
		n, ok := m.In(1)
		require.True(t, ok)
		require.Equal(t, at.UnixMicro(), n, s)
		require.Equal(t, s, string(appendClock(append(appendDate(nil, m.Days), 'T'), m.Micros, 6)))
	}
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{"2024-02-29T13:51:30.5", "0044-03-15 00:00:00+00 BC", "-838:59:59", "13:51:30+02", "P1Y2M3DT4H5M6.78S", "$1,234.50", "-12.340", "[1,[2,\"a\\\"\"],null]", "{\"wkb\":\"AQ==\",\"srid\":1}"} {
		f.Add([]byte(s), uint8(3))
	}
	columns := []change.Column{
		{Logical: change.LogicalDate},
		{Logical: change.LogicalDateTime, Scale: 6},
		{Logical: change.LogicalTimestamp, Scale: 3},
		{Logical: change.LogicalTime, Scale: 3},
		{Type: "time with time zone", Logical: change.LogicalTime},
		{Type: "interval"},
		{Type: "money"},
		{Type: "bit(9)"},
		{Logical: change.LogicalDecimal, Precision: 9, Scale: 2},
		{Logical: change.LogicalDecimal},
	}
	formats := []*Format{Default(), {Decimal: DecimalString, Time: TimeISO, IntervalText: true}, {Decimal: DecimalDouble, Time: TimeConnect}, {Decimal: DecimalPrecise, Time: TimeNanoseconds}}
	f.Fuzz(func(t *testing.T, s []byte, n uint8) {
		c := columns[int(n)%len(columns)]
		out, err := one(formats[int(n/16)%len(formats)], n&1 == 0, c, change.TextValue(s))
		if err == nil && !json.Valid([]byte(out)) && c.Logical != change.LogicalTimestamp && c.Logical != change.LogicalDecimal {
			t.Fatalf("%q: %s", s, out)
		}
	})
}

// The messages of a row cost no more allocations than those of the native format.
func TestAllocations(t *testing.T) {
	e, ev := Default().NewEncoder(), mysqlEvent(change.Update, row(1, text("a")), row(1, text("b")))
	buf, batch := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1)
	batch, _ = e.AppendMessages(batch[:0], buf, ev)
	require.Len(t, batch, 1)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { batch, _ = e.AppendMessages(batch[:0], buf, ev) }), 5.0)
}

// BenchmarkFormat is the format beside the native one, of rows that have much in common with their neighbours.
func BenchmarkFormat(b *testing.B) {
	for name, f := range map[string]change.Format{"native": envelope.Native{}, "debezium": Default()} {
		b.Run(name, func(b *testing.B) {
			ev := mysqlEvent(change.Update, row(1, text("a")), row(1, text("b")))
			buf, batch, e := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1), f.NewEncoder()
			b.ReportAllocs()
			for b.Loop() {
				batch, _ = e.AppendMessages(batch[:0], buf, ev)
			}
		})
	}
}
