package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
)

var update = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // a flag

func mysqlTable(key ...int) *change.Table {
	return &change.Table{
		Source:   &change.Source{Connector: "mysql", Name: "orders", Tenant: "acme", Version: "1.0.0"},
		Database: "shop", Name: "customers", Key: key,
		Columns: []change.Column{
			{Name: "id", Type: "bigint unsigned", Logical: change.LogicalUint64},
			{Name: "em\"ail", Type: "varchar(99)", Nullable: true},
			{Name: "f", Type: "float", Logical: change.LogicalFloat32},
			{Name: "data", Type: "blob", Logical: change.LogicalBytes},
		},
	}
}

func postgresTable() *change.Table {
	t := mysqlTable(0, 1)
	t.Source = &change.Source{Connector: "postgresql", Name: "orders", Version: "1.0.0"}
	t.Schema = "public"
	return t
}

var (
	mysqlTx = &change.Tx{ //nolint:gochecknoglobals // immutable
		ID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:23", Position: "3e11fa47-71ca-11e1-9e33-c80aa9429562:23",
		GTID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:23", ServerID: 1, CommitTime: time.UnixMicro(1700000000123456).UTC(),
	}
	postgresTx = &change.Tx{ID: "739", XID: 739, Position: "0/1A2B3C8", CommitTime: time.UnixMilli(1700000000123).UTC()} //nolint:gochecknoglobals // immutable
	readAt     = time.UnixMilli(1700000000200)                                                                           //nolint:gochecknoglobals // immutable
)

func text(s string) change.Value { return change.TextValue([]byte(s)) }

// events is every shape that an event may have, by the name of its golden file.
func events() map[string]*change.Event {
	row := func(id uint64, email change.Value) []change.Value {
		return []change.Value{change.UintValue(id), email, change.Float32Value(3.3), change.BytesValue([]byte{0, 255})}
	}
	my := func(op change.Op, t *change.Table, before, after []change.Value) *change.Event {
		return &change.Event{
			Op: op, Table: t, Origin: &change.Origin{Tx: mysqlTx, ReadAt: readAt, File: "binlog.000003"}, Index: 1, Images: change.ImagesOf(before, after),
			Pos: 12345, Row: 2,
		}
	}
	pg := func(op change.Op, before, after []change.Value) *change.Event {
		return &change.Event{
			Op: op, Table: postgresTable(), Origin: &change.Origin{Tx: postgresTx, ReadAt: readAt}, Index: 7, Images: change.ImagesOf(before, after), LSN: 27440072,
		}
	}
	all := map[string]*change.Event{
		"mysql_insert":     my(change.Create, mysqlTable(0), nil, row(math.MaxUint64, text("a\"b\\c\n\r\t\x01é\u2028😀"))),
		"mysql_update":     my(change.Update, mysqlTable(0), row(1, change.NullValue()), row(1, text(""))),
		"mysql_key_change": my(change.Update, mysqlTable(0), row(1, text("a")), row(2, text("a"))),
		"mysql_delete":     my(change.Delete, mysqlTable(0), row(1, text("a")), nil),
		"mysql_keyless":    my(change.Create, mysqlTable(), nil, row(1, text("a"))),
		"mysql_truncate":   my(change.Truncate, mysqlTable(0), nil, nil),
		"mysql_minimal":    my(change.Update, mysqlTable(0), []change.Value{change.UintValue(5), {}, {}, {}}, []change.Value{{}, text("b"), {}, {}}),
		"mysql_snapshot":   my(change.Read, mysqlTable(0), nil, row(1, text("a"))),
		"postgres_insert":  pg(change.Create, nil, row(1, text("a"))),
		"postgres_update":  pg(change.Update, nil, []change.Value{change.UintValue(1), text("a"), change.Float32Value(float32(math.Inf(-1))), change.UnavailableValue()}),
		"postgres_delete":  pg(change.Delete, row(1, text("a")), nil),
		"postgres_no_key":  pg(change.Update, nil, []change.Value{change.UintValue(1), change.UnavailableValue(), {}, {}}),
	}
	all["mysql_snapshot"].Snapshot, all["mysql_snapshot"].Tx = change.SnapshotLast, &change.Tx{Position: "binlog.000003:4", CommitTime: mysqlTx.CommitTime}
	msg := pg(change.Message, nil, []change.Value{text("audit"), change.BytesValue([]byte("hello"))})
	msg.Table = change.MessageTable(postgresTable().Source, "shop")
	all["postgres_message"] = msg
	all["mysql_schema"] = my(change.Schema, mysqlTable(0), nil, nil)
	all["mysql_schema"].Change = &change.SchemaChange{DDL: "ALTER TABLE customers\n ADD PRIMARY KEY (id)", Old: mysqlTable(), New: mysqlTable(0)}
	all["mysql_schema_dropped"] = my(change.Schema, mysqlTable(0), nil, nil)
	all["mysql_schema_dropped"].Change = &change.SchemaChange{DDL: "DROP TABLE `customers`", Old: mysqlTable(0)}
	all["postgres_schema"] = pg(change.Schema, nil, nil)
	all["postgres_schema"].Sub = 1
	all["postgres_schema"].Change = &change.SchemaChange{New: postgresTable()}
	return all
}

// message returns the message that an encoder makes of an event, and the grown buffer.
func message(e change.Encoder, buf []byte, ev *change.Event) (*service.Message, []byte) {
	messages, buf := e.AppendMessages(nil, buf, ev)
	return messages[0], buf
}

func appendMessage(buf []byte, ev *change.Event) (*service.Message, []byte) {
	return message(Native{}.NewEncoder(), buf, ev)
}

// metadata returns what a message has, the schema left out.
func metadata(t *testing.T, m *service.Message) map[string]string {
	got := map[string]string{}
	require.NoError(t, m.MetaWalkMut(func(k string, v any) error {
		if k == change.MetaSchema {
			assert.IsType(t, map[string]any{}, v)
			return nil
		}
		got[k] = v.(string)
		return nil
	}))
	return got
}

func TestGolden(t *testing.T) {
	for name, ev := range events() {
		t.Run(name, func(t *testing.T) {
			m, buf := appendMessage([]byte("before"), ev)
			payload, err := m.AsBytes()
			require.NoError(t, err)
			key, _ := m.MetaGet(change.MetaKey)
			require.Equal(t, "before"+string(payload)+key, string(buf))
			require.True(t, json.Valid(payload), "%s", payload)
			meta, err := json.MarshalIndent(metadata(t, m), "", " ")
			require.NoError(t, err)
			got := string(payload) + "\n" + string(meta) + "\n"
			file := filepath.Join("testdata", name+".txt")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

func TestAppendValue(t *testing.T) {
	for _, c := range []struct {
		v    change.Value
		want string
	}{
		{change.NullValue(), "null"},
		{change.Value{}, "null"},
		{change.UnavailableValue(), `{"_unchanged":true}`},
		{change.BoolValue(true), "true"},
		{change.BoolValue(false), "false"},
		{change.IntValue(math.MinInt64), "-9223372036854775808"},
		{change.UintValue(math.MaxUint64), "18446744073709551615"},
		{change.Float32Value(3.3), "3.3"},
		{change.Float32Value(math.MaxFloat32), "3.4028235e+38"},
		{change.Float64Value(0.1), "0.1"},
		{change.Float64Value(1e21), "1e+21"},
		{change.Float64Value(1e20), "100000000000000000000"},
		{change.Float64Value(5e-324), "5e-324"},
		{change.Float64Value(math.Copysign(0, -1)), "-0"},
		{change.Float64Value(math.NaN()), `"NaN"`},
		{change.Float64Value(math.Inf(1)), `"Infinity"`},
		{change.Float64Value(math.Inf(-1)), `"-Infinity"`},
		{change.DecimalValue([]byte("10.00")), `"10.00"`},
		{change.BytesValue(nil), `{"_base64":""}`},
		{change.BytesValue([]byte{1, 2}), `{"_base64":"AQI="}`},
		{change.JSONValue([]byte(`[1]`)), `[1]`},
		{text("\xff\xe2\x28"), "\"\ufffd\ufffd(\""},
	} {
		assert.Equal(t, c.want, string(AppendValue(nil, c.v)))
	}
}

// The event is found on whatever the engine makes out of its message, and only there.
func TestFromMessage(t *testing.T) {
	ev := events()["mysql_insert"]
	m, _ := appendMessage(nil, ev)
	type key struct{}
	ctx := m.Context()
	for name, m := range map[string]*service.Message{
		"itself": m, "copy": m.Copy(), "deep copy": m.DeepCopy(), "context": m.WithContext(ctx),
		"collapsed": m.WithCollapsedCount(2),
	} {
		got, ok := change.FromMessage(m)
		assert.True(t, ok, name)
		assert.Same(t, ev, got, name)
	}
	assert.Nil(t, ctx.Value(key{}))
	assert.NoError(t, ctx.Err())
	assert.Nil(t, ctx.Done())
	_, ok := change.FromMessage(service.NewMessage(nil))
	assert.False(t, ok)
}

// withMetadata makes the messages of an event have the keys.
func withMetadata(ev *change.Event, keys ...string) *change.Event {
	set, err := change.ParseMetadata(keys)
	if err != nil {
		panic(err)
	}
	src := *ev.Table.Source
	src.Metadata = set
	ev.Table = &change.Table{
		Source: &src, Database: ev.Table.Database, Schema: ev.Table.Schema, Name: ev.Table.Name, Columns: ev.Table.Columns, Key: ev.Table.Key,
	}
	return ev
}

// What messages have is what is asked for; what they do not have our outputs read from the event, unless a processor has deleted it.
func TestMetadata(t *testing.T) {
	all := map[string]string{
		"source": "orders", "database": "shop", "schema_name": "public", "table": "customers", "op": "c", "operation": "insert", "key": `{"id":1,"em\"ail":null}`,
		"event_id": "0/1A2B3C8:7", "transaction_id": "739", "position": "0/1A2B3C8", "commit_ts_ms": "1700000000123", "snapshot": "false",
	}
	insert := func(keys ...string) *service.Message {
		ev := events()["postgres_insert"]
		ev.Index, ev.Images = 7, change.ImagesOf(nil, []change.Value{change.IntValue(1), change.NullValue()})
		m, _ := appendMessage(nil, withMetadata(ev, keys...))
		return m
	}
	assert.Equal(t, all, metadata(t, insert(change.MetadataKeys()...)))
	seven := map[string]string{}
	for _, key := range change.DefaultMetadata() {
		seven[key] = all[key]
	}
	assert.Len(t, seven, 7)
	assert.Equal(t, seven, metadata(t, insert(change.DefaultMetadata()...)))
	assert.Empty(t, metadata(t, insert()))
	for key, want := range all {
		assert.Equal(t, map[string]string{key: want}, metadata(t, insert(key)))
		m := insert() // without any
		text, _, ok := change.Meta(m, key, nil)
		assert.True(t, ok, key)
		assert.Equal(t, want, string(text), key)
		m.MetaSetMut(key, "set by a processor")
		text, _, _ = change.Meta(m, key, nil)
		assert.Equal(t, "set by a processor", string(text), key)
		m = insert(change.MetadataKeys()...)
		m.MetaDelete(key)
		_, _, ok = change.Meta(m, key, nil)
		assert.False(t, ok, "%s: what a processor has deleted is gone", key)
		m = insert(key)
		m.MetaSetMut(key, 7) // a number is text to an output
		text, _, _ = change.Meta(m, key, nil)
		assert.Equal(t, "7", string(text), key)
	}
	_, _, ok := change.Meta(insert(), "nonsense", nil)
	assert.False(t, ok)
	_, _, ok = change.Meta(service.NewMessage(nil), "key", nil)
	assert.False(t, ok, "a message that is not ours")
	_, err := change.ParseMetadata([]string{"table", "nonsense"})
	assert.ErrorContains(t, err, `"nonsense" is not a metadata key`)
}

// Messages of one table are made and changed by many goroutines at once; none sees another's changes.
func TestMessagesShareNothing(t *testing.T) {
	ev := withMetadata(events()["mysql_insert"], change.MetadataKeys()...)
	still, _ := appendMessage(nil, ev)
	want := metadata(t, still)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				own := *withMetadata(events()["mysql_insert"], change.MetadataKeys()...)
				own.Table, own.Origin = ev.Table, ev.Origin
				m, _ := appendMessage(nil, &own)
				m.MetaSetMut(change.MetaTable, "changed")
				m.MetaDelete(change.MetaSource)
				s, _ := m.MetaGetMut(change.MetaSchema)
				s.(map[string]any)["name"] = "changed"
				m.SetError(errors.New("changed"))
				m.SetBytes([]byte("changed"))
			}
		})
	}
	wg.Wait()
	fresh, _ := appendMessage(nil, ev)
	for _, m := range []*service.Message{still, fresh} {
		assert.Equal(t, want, metadata(t, m))
		assert.NoError(t, m.GetError())
		s, _ := m.MetaGetMut(change.MetaSchema)
		assert.Equal(t, "customers", s.(map[string]any)["name"])
		assert.Equal(t, ev.Table.CommonSchema(), s)
	}
}

// Events of one run share metadata, and nothing that tells them apart: not the key, not an error, not what happens to one of
// the messages later.
func TestEncoderRun(t *testing.T) {
	evs := make([]change.Event, 4)
	e := Native{}.NewEncoder()
	var buf []byte
	msgs := make([]*service.Message, len(evs))
	want := make([]map[string]string, len(evs))
	base := events()["mysql_insert"]
	for i := range evs {
		evs[i] = *base
		evs[i].Index, evs[i].Row = uint64(i+1), i
		after := slices.Clone(base.After())
		after[0] = change.IntValue(int64(i))
		if i == 2 {
			after[0] = change.Value{} // no key
		}
		evs[i].Images = change.ImagesOf(nil, after)
		alone := evs[i]
		m, _ := appendMessage(nil, &alone)
		want[i] = metadata(t, m)
		payload, err := m.AsBytes()
		require.NoError(t, err)
		msgs[i], buf = message(e, buf, &evs[i])
		if i == 0 {
			change.SetError(msgs[0], errors.New("inexact"))
		}
		got, err := msgs[i].AsBytes()
		require.NoError(t, err)
		assert.Equal(t, string(payload), string(got))
	}
	for i, m := range msgs {
		assert.Equal(t, want[i], metadata(t, m))
		assert.Equal(t, i == 0, m.GetError() != nil)
		m.MetaSetMut(change.MetaTable, "changed")
		m.MetaDelete(change.MetaKey)
		m.SetBytes([]byte("changed"))
		m.SetError(errors.New("changed"))
	}
	for i, m := range msgs {
		again := change.Renew(m)
		assert.Equal(t, want[i], metadata(t, again))
		assert.Equal(t, i == 0, again.GetError() != nil)
		b, err := again.AsBytes()
		require.NoError(t, err)
		assert.Contains(t, string(b), want[i][change.MetaEventID])
		ev, ok := change.FromMessage(again)
		require.True(t, ok)
		assert.Same(t, &evs[i], ev)
	}
}

// Events of several tables, operations and transactions in turn have what each has alone.
func TestEncoderMixed(t *testing.T) {
	e := Native{}.NewEncoder()
	var buf []byte
	for round := range 3 {
		for _, name := range slices.Sorted(maps.Keys(events())) {
			ev := events()[name]
			ev.Index = uint64(round + 1)
			alone := *ev
			want, _ := appendMessage(nil, &alone)
			var got *service.Message
			got, buf = message(e, buf, ev)
			assert.Equal(t, metadata(t, want), metadata(t, got), name)
			a, err := want.AsBytes()
			require.NoError(t, err)
			b, err := got.AsBytes()
			require.NoError(t, err)
			assert.Equal(t, string(a), string(b), name)
		}
	}
	// Neighbours that differ in one thing only.
	base := events()["mysql_insert"]
	next := &change.Table{Source: base.Table.Source, Database: base.Table.Database, Name: "others", Columns: base.Table.Columns, Key: base.Table.Key}
	origin := *base.Origin
	origin.Tx = &change.Tx{Position: "binlog.000003:9", CommitTime: base.Tx.CommitTime.Add(time.Second)}
	for what, differ := range map[string]func(ev *change.Event){
		"table":     func(ev *change.Event) { ev.Table = next },
		"operation": func(ev *change.Event) { ev.Op = change.Read },
		"origin":    func(ev *change.Event) { ev.Origin = &origin },
	} {
		first, second := *base, *base
		differ(&second)
		alone := second
		want, _ := appendMessage(nil, &alone)
		e := Native{}.NewEncoder()
		_, buf := message(e, nil, &first)
		got, _ := message(e, buf, &second)
		assert.Equal(t, metadata(t, want), metadata(t, got), what)
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\x00\u2028\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendString(nil, s)
		if !bytes.Equal(got, AppendString(nil, []byte(s))) {
			t.Fatal("string and bytes differ")
		}
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Fatalf("%q became %q", want, back)
		}
		if fast := AppendValue(nil, text(s)); !bytes.Equal(got, fast) {
			t.Fatalf("%q: %s, as a value %s", s, got, fast)
		}
		for _, v := range []change.Value{text(s), change.BytesValue([]byte(s))} {
			if got := AppendValue(nil, v); !json.Valid(got) {
				t.Fatalf("%s", got)
			}
		}
	})
}

func FuzzAppendFloat(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, bits uint64) {
		v := math.Float64frombits(bits)
		got := AppendValue(nil, change.Float64Value(v))
		var back float64
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return
		}
		if err := json.Unmarshal(got, &back); err != nil || back != v {
			t.Fatalf("%v: %s, %v", v, got, err)
		}
	})
}

func BenchmarkAppendMessage(b *testing.B) {
	ev := events()["mysql_update"]
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = appendMessage(buf, ev)
	}
}

// BenchmarkFormats compares the formats, of rows that have much in common with their neighbours.
func BenchmarkFormats(b *testing.B) {
	for name, format := range map[string]change.Format{"native": Native{}, "row": Row{}} {
		b.Run(name, func(b *testing.B) {
			ev := events()["mysql_update"]
			buf, batch, e := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1), format.NewEncoder()
			b.ReportAllocs()
			for b.Loop() {
				batch, _ = e.AppendMessages(batch[:0], buf, ev)
			}
		})
	}
}

// TestJSONIsOneLine: a message is one line whatever the line breaks between the tokens of a json column, and says the same.
func TestJSONIsOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"{\n\t\"a\": 1.000,\r\n\t\"b\": \"x\\ny\u2028\"\n}": "{  \"a\": 1.000,   \"b\": \"x\\ny\u2028\" }",
		"\n":                       " ",
		"12345678901234567890.1e5": "12345678901234567890.1e5",
		"[1,2]":                    "[1,2]",
		"[1,2,3,4,5,6,7,8]\n":      "[1,2,3,4,5,6,7,8] ",
		"[1,\n2,3,4,5,\n6,7,8]":    "[1, 2,3,4,5, 6,7,8]",
		`"é` + "\x7f" + `"`:        `"é` + "\x7f" + `"`,
	} {
		text := []byte(in)
		assert.Equal(t, "x"+want, string(AppendValue([]byte("x"), change.JSONValue(text))))
		assert.Equal(t, in, string(text), "the row stays as it is")
	}
	for n := range 40 { // at each place of a word
		in := []byte(strings.Repeat("1", n) + "\n" + strings.Repeat("2", 40-n))
		want := strings.Replace(string(in), "\n", " ", 1)
		assert.Equal(t, want, string(AppendValue(nil, change.JSONValue(in))))
	}
}
