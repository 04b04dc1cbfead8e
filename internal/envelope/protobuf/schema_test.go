package protobuf

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

const around = `message Envelope {
  Value before = 1;
  Value after = 2;
  Source source = 3;
  Transaction transaction = 4;
  string op = 5;
  int64 ts_ms = 6 [json_name = "ts_ms"];
  int64 ts_us = 7 [json_name = "ts_us"];
  int64 ts_ns = 8 [json_name = "ts_ns"];
  string event_id = 9 [json_name = "event_id"];
}
`

const source = `
message Source {
  string version = 1;
  string connector = 2;
  string name = 3;
  int64 ts_ms = 4 [json_name = "ts_ms"];
  int64 ts_us = 5 [json_name = "ts_us"];
  int64 ts_ns = 6 [json_name = "ts_ns"];
  string snapshot = 7;
  string db = 8;
  optional string schema = 9;
  string table = 10;
  optional int64 server_id = 11 [json_name = "server_id"];
  optional string gtid = 12;
  optional string file = 13;
  optional uint64 pos = 14;
  optional int32 row = 15;
  optional int64 tx_id = 16 [json_name = "tx_id"];
  optional uint64 lsn = 17;
}

message Transaction {
  string id = 1;
  int64 total_order = 2 [json_name = "total_order"];
}
`

func head(space string) string { return "syntax = \"proto3\";\npackage " + space + ";\n" }

func value(fields string) string {
	return head("shop.db.t") + "\nmessage Value {\n  optional int32 id = 1;\n" + fields + "}\n"
}

// Schemas and subjects, by every strategy.
func TestSchemas(t *testing.T) {
	tab := table("mysql", change.Column{Name: "at", Logical: change.LogicalTimestamp}, change.Column{Name: "g", Logical: change.LogicalGeometry})
	tab.Name = "my-table"
	row := "  optional int32 id = 1;\n  optional google.protobuf.Timestamp at = 2;\n  optional Geometry g = 3;\n}\n"
	want := head("shop.db.my_table") + "import \"google/protobuf/timestamp.proto\";\n\n" + around + "\nmessage Value {\n" + row +
		"\nmessage Geometry {\n  bytes wkb = 1;\n  optional int32 srid = 2;\n}\n" + source
	key := head("shop.db.my_table") + "\nmessage Key {\n  int32 id = 1;\n}\n"
	for subject, names := range map[confluent.Subject][]string{
		confluent.SubjectTopic:       {"shop.db.my-table-value", "shop.db.my-table-key"},
		confluent.SubjectRecord:      {"shop.db.my_table.Envelope", "shop.db.my_table.Key"},
		confluent.SubjectTopicRecord: {"shop.db.my-table-shop.db.my_table.Envelope", "shop.db.my-table-shop.db.my_table.Key"},
	} {
		f, r := newFormat(func(f *Format) { f.Subject = subject })
		require.NoError(t, f.Prepare(t.Context(), tab))
		require.NoError(t, f.Prepare(t.Context(), tab), "and once only")
		assert.Equal(t, map[string][]int{names[0]: {1}, names[1]: {2}}, r.subjects)
		assert.Equal(t, []string{want, key}, r.schemas)
		for _, s := range r.schemas {
			compiled(t, s)
		}
	}
}

// Names are made valid, and such as generated code and JSON can tell apart; the original is the name in JSON.
func TestNames(t *testing.T) {
	f, r := newFormat(rowFormat)
	tab := table("postgresql", change.Column{Name: "my-col"}, change.Column{Name: "my_col"}, change.Column{Name: "myCol"}, change.Column{Name: "1st"}, change.Column{Name: "say \"ä\"\n\\"},
		change.Column{Name: "google"}, change.Column{Name: "geometry", Logical: change.LogicalGeometry}, change.Column{Name: "message"}, change.Column{Name: "_"}, change.Column{Name: "__"})
	tab.Schema = "google"
	tab.Columns[0].Name = "ID"
	require.NoError(t, f.Prepare(t.Context(), tab))
	assert.Equal(t, head("shop.google_.t")+`
message Value {
  optional int32 ID = 1;
  optional string my_col_3 = 2 [json_name = "my-col"];
  optional string my_col = 3 [json_name = "my_col"];
  optional string myCol_2 = 4 [json_name = "myCol"];
  optional string _1st = 5 [json_name = "1st"];
  optional string say______ = 6 [json_name = "say \"ä\"\012\\"];
  optional string google_2 = 7 [json_name = "google"];
  optional Geometry geometry = 8;
  optional string message = 9;
  optional string _ = 10 [json_name = "_"];
  optional string ___2 = 11 [json_name = "__"];
}

message Geometry {
  bytes wkb = 1;
  optional int32 srid = 2;
}
`, r.schemas[0])
	messages := compiled(t, r.schemas[0])
	for i, c := range tab.Columns {
		x := messages.Get(0).Fields().Get(i)
		assert.Equal(t, c.Name, x.JSONName())
	}
	read, err := parseFile(r.schemas[0])
	require.NoError(t, err)
	assert.Equal(t, r.schemas[0], read.text())
}

// A column keeps its number whatever else comes and goes, in this process and in others, and no other column ever gets it.
func TestNumbers(t *testing.T) {
	a, b, c := change.Column{Name: "a"}, change.Column{Name: "b"}, change.Column{Name: "c-c"}
	f, r := newFormat(rowFormat)
	subject := "shop.db.t-value"
	prepare := func(f *Format, columns ...change.Column) string {
		t.Helper()
		require.NoError(t, f.Prepare(t.Context(), table("mysql", columns...)))
		id := r.subjects[subject][len(r.subjects[subject])-1]
		return r.schemas[id-1]
	}
	const fieldA, fieldB, fieldC = "  optional string a = 2;\n", "  optional string b = 3;\n", "  optional string c_c = 4 [json_name = \"c-c\"];\n"
	assert.Equal(t, value(fieldA+fieldB), prepare(f, a, b))
	assert.Equal(t, value(fieldA+fieldB+fieldC), prepare(f, c, a), "one is added in front of the others, one is dropped")
	other := with(r, rowFormat) // another process begins anew, and reads the log from before the change
	assert.Equal(t, value(fieldA+fieldB+fieldC), prepare(other, a, b))
	assert.Equal(t, value(fieldA+fieldB+fieldC), prepare(other, b, c), "a column that is there again has its number")
	assert.Equal(t, value(fieldA+fieldB+fieldC+"  optional int64 d = 5;\n"), prepare(other, change.Column{Name: "d", Logical: change.LogicalInt64}))
	assert.Equal(t, value(fieldA+fieldB+fieldC+"  optional int64 d = 5;\n"), prepare(f, change.Column{Name: "d", Logical: change.LogicalInt32}), "a number of 64 bits has those of 32")
	assert.Len(t, r.subjects[subject], 3, "nothing is registered that is there")
	assert.Equal(t, value(fieldA+fieldB+fieldC+"  optional double d = 5;\n"), prepare(f, change.Column{Name: "d", Logical: change.LogicalFloat64}), "the registry is asked about another type")

	got := tell(t, with(r, rowFormat), r, event(table("mysql", c, a), change.Create, nil, []change.Value{change.IntValue(1), text("x"), text("y")}))
	assert.Equal(t, []told{{Payload: normal(`id:1 c_c:"x" a:"y"`), Key: "id:1", Operation: "insert", ID: "u:7:4"}}, sorted(got))
}

// sorted puts the fields as the row has them: the reader has its own order.
func sorted(in []told) []told {
	if in[0].Payload == normal(`id:1 a:"y" c_c:"x"`) {
		in[0].Payload = normal(`id:1 c_c:"x" a:"y"`)
	}
	return in
}

// A registry has its own way to write a schema, and people add to them what is for their code.
func TestRewritten(t *testing.T) {
	f, r := newFormat(rowFormat)
	id, err := r.ID(t.Context(), "shop.db.t-value", "// Proto schema formatted by Wire, do not edit.\n\nsyntax = \"proto3\";\n\npackage shop.db.t;\noption java_package = \"com.shop\";\n"+
		"message Other {\n  int32 x = 1;\n}\n\n/* the row\n*/\nmessage Value {\n  optional string a_2 = 7 [\n    json_name = \"a\"\n  ]; // a\n\n  optional int32 id = 9;\n}\n")
	require.NoError(t, err)
	got := tell(t, f, r, event(table("mysql", change.Column{Name: "a"}), change.Create, nil, []change.Value{change.IntValue(1), text("x")}))
	assert.Equal(t, []told{{Payload: normal(`a_2:"x" id:1`), Key: "id:1", Operation: "insert", ID: "u:7:4"}}, got)
	assert.Equal(t, []int{id}, r.subjects["shop.db.t-value"], "it has all that the table needs, as its second message")

	got = tell(t, f, r, event(table("mysql", change.Column{Name: "a"}, change.Column{Name: "b"}), change.Create, nil, []change.Value{change.IntValue(1), text("x"), text("y")}))
	assert.Equal(t, []told{{Payload: normal(`a_2:"x" id:1 b:"y"`), Key: "id:1", Operation: "insert", ID: "u:7:4"}}, got)
	assert.Equal(t, head("shop.db.t")+"option java_package = \"com.shop\";\n\nmessage Value {\n  optional string a_2 = 7 [json_name = \"a\"];\n  optional int32 id = 9;\n  optional string b = 10;\n}\n"+
		"\nmessage Other {\n  int32 x = 1;\n}\n", r.schemas[2])
}

// A schema that the format would not write is not gone on with: what is in it would be lost.
func TestForeign(t *testing.T) {
	for text, want := range map[string]string{
		`syntax = "proto2";`:                                         `the syntax "proto2"`,
		head("a") + "message Value { enum X { A = 0; } }":            `"enum" in a message`,
		head("a") + "message Value { reserved 2; }":                  `"reserved" in a message`,
		head("a") + "message Value { oneof x { int32 a = 1; } }":     `"oneof" in a message`,
		head("a") + "message Value { int32 a = 1 [packed = true]; }": `the option "packed"`,
		head("a") + "message Value { int32 a = 0; }":                 `the number "0"`,
		head("a") + "message Value { int32 a 1; }":                   `"1"`,
		head("a") + "message Value { int32 a = 1;":                   "no end",
		head("a") + "service S {}":                                   `"service"`,
	} {
		f, r := newFormat(rowFormat)
		_, err := r.ID(t.Context(), "shop.db.t-value", text)
		require.NoError(t, err)
		assert.EqualError(t, f.Prepare(t.Context(), table("mysql")), "registering the schema of table db.t: subject shop.db.t-value: it has "+want+": the newest schema of the subject was not made by "+
			"DeltaForge, which cannot tell the numbers of its columns: take another subject, or delete this one", text)
	}
}

// What is written is read as it was.
func FuzzFile(f *testing.F) {
	f.Add("a", "my-col", 3)
	f.Add("x", "say \"ä\"\n\\", 18999)
	f.Fuzz(func(t *testing.T, first, second string, number int) {
		if number < 1 || number >= maxNumber || first == second || first == "" || second == "" {
			t.Skip()
		}
		old := &file{messages: []*message{{confluent.RecordValue, []field{{label: optional, typ: typeString, name: "old", number: number}}}}}
		columns := []*column{{original: first, typ: typeString}, {original: second, typ: typeString}}
		want := newFile("a", confluent.RecordValue, columns, optional, old)
		want.merge(old)
		got, err := parseFile(want.text())
		require.NoError(t, err, want.text())
		assert.Equal(t, want.text(), got.text())
		for _, c := range columns {
			_, ok := got.message(confluent.RecordValue).column(c.original)
			assert.True(t, ok, "%q in %s", c.original, want.text())
		}
		if number < reservedFrom-3 {
			compiled(t, want.text())
		}
	})
}
