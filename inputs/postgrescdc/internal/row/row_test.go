package row

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// TestInexactRow has one value that cannot be decoded: its message carries the error, the others do not.
func TestInexactRow(t *testing.T) {
	rel := benchRelation()
	r := &Rows{Tx: benchTx(), ReadAt: time.UnixMilli(1)}
	good := insertMessage("1", "2", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	bad := insertMessage("1", "two", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	for i, body := range [][]byte{good, bad, good} {
		r.Add(Change{Rel: rel, Body: body, LSN: 0x2A, Index: uint64(i + 1)})
	}
	batch, err := r.Decode(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, batch, 3)
	require.NoError(t, batch[0].GetError())
	require.ErrorContains(t, batch[1].GetError(), `public.orders at 0/2A: column customer: integer "two"`)
	require.NoError(t, batch[2].GetError())

	r.Add(Change{Rel: rel, Body: good[:len(good)-1], LSN: 0x2B, Index: 4})
	_, err = r.Decode(t.Context(), nil)
	require.ErrorContains(t, err, "decoding a change of public.orders at 0/2B: row is cut short")
}

// TestTruncatedRow: wherever a row message ends, it is an error that says where and what to do.
func TestTruncatedRow(t *testing.T) {
	rel := benchRelation()
	good := insertMessage("1", "2", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	for n := 8; n < len(good); n++ { // after the number of columns
		r := &Rows{Tx: benchTx(), ReadAt: time.UnixMilli(1)}
		r.Add(Change{Rel: rel, Body: good[:n], LSN: 0x2A, Index: 1})
		_, err := r.Decode(t.Context(), nil)
		require.ErrorContains(t, err, "decoding a change of public.orders at 0/2A: row is cut short in column ")
		require.ErrorContains(t, err, "the source reads it again when it reconnects")
	}
	few := insertMessage("1")
	r := &Rows{Tx: benchTx(), ReadAt: time.UnixMilli(1)}
	r.Add(Change{Rel: rel, Body: few, LSN: 0x2A, Index: 1})
	_, err := r.Decode(t.Context(), nil)
	require.ErrorContains(t, err, "public.orders at 0/2A: row has 1 columns, its table 7: ")
}

func benchTx() *change.Tx {
	return &change.Tx{ID: "1", Position: "0/2A", CommitTime: time.UnixMicro(1).UTC(), XID: 1}
}

// FuzzRow gives any bytes to the decoder of rows. What it accepts is valid JSON.
func FuzzRow(f *testing.F) {
	good := insertMessage("1", "2", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	f.Add(good)
	update := append([]byte("U\x00\x00\x00\x01O"), good[6:]...)
	f.Add(append(append(update, 'N'), good[6:]...))
	f.Add(append([]byte("D\x00\x00\x00\x01K"), good[6:]...))
	f.Add([]byte("U\x00\x00\x00\x01N\x00\x07nnnnnuu"))
	f.Add([]byte("M\x00\x00\x00\x00\x00\x01\x6b\x37\x48prefix\x00\x00\x00\x00\x02ab"))
	for _, m := range recorded(f) {
		f.Add(m)
	}
	rel := benchRelation()
	messages := shape.MessageRelation(change.MessageTable(rel.Table.Source, "shop"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		r := &Rows{Tx: benchTx(), ReadAt: time.UnixMilli(1), Trust: value.OrError}
		m := Change{Rel: rel, Body: body, Index: 1}
		switch body[0] {
		case pgoutput.MsgInsert, pgoutput.MsgUpdate, pgoutput.MsgDelete:
		case pgoutput.MsgMessage:
			m.Rel = messages
		default:
			return
		}
		r.Add(m)
		checkBothWays(t, r, envelope.Native{})
		batch, err := r.Decode(t.Context(), nil)
		if err != nil {
			return
		}
		require.Len(t, batch, 1)
		b, err := batch[0].AsBytes()
		require.NoError(t, err)
		if batch[0].GetError() == nil {
			require.True(t, json.Valid(b), "%s", b)
		}
	})
}

// benchRelation is a table of seven columns of the types that are usual.
func benchRelation() *shape.Relation {
	cols := []struct {
		name string
		typ  value.Type
	}{
		{"id", value.Type{Codec: value.CodecInt, Logical: change.LogicalInt64, Text: "bigint"}},
		{"customer", value.Type{Codec: value.CodecInt, Logical: change.LogicalInt32, Text: "integer"}},
		{"email", value.Type{Codec: value.CodecText, Text: "text"}},
		{"total", value.Type{Codec: value.CodecNumeric, Logical: change.LogicalDecimal, Text: "numeric(10,2)"}},
		{"paid", value.Type{Codec: value.CodecBool, Logical: change.LogicalBool, Text: "boolean"}},
		{"created", value.Type{Codec: value.CodecTimestampTZ, Logical: change.LogicalTimestamp, Text: "timestamptz", Digits: 6}},
		{"note", value.Type{Codec: value.CodecText, Text: "text"}},
	}
	table := &change.Table{
		Source:   &change.Source{Connector: "postgresql", Name: "bench", Version: "test"},
		Database: "shop", Schema: "public", Name: "orders", Key: []int{0},
	}
	rel := &shape.Relation{Table: table, Captured: true, Identity: make([]bool, len(cols))}
	for i, c := range cols {
		table.Columns = append(table.Columns, change.Column{Name: c.name, Type: c.typ.Text, Logical: c.typ.Logical})
		rel.Types = append(rel.Types, &cols[i].typ)
		rel.Names += len(c.name) + 4
	}
	return rel
}

func insertMessage(values ...string) []byte {
	b := []byte{pgoutput.MsgInsert, 0, 0, 0, 1, pgoutput.TupleNew}
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		b = append(b, pgoutput.TupleText)
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

func benchRows(n int) *Rows {
	rel := benchRelation()
	tx := &change.Tx{ID: "123", Position: "0/16B3748", CommitTime: time.UnixMicro(1700000000123456), XID: 123}
	r := &Rows{Tx: tx, ReadAt: time.UnixMilli(1700000000200)}
	for i := range n {
		r.Add(Change{Rel: rel, LSN: 0x16B3700, Index: uint64(i + 1), Body: insertMessage(fmt.Sprint(i), "4711", "someone@example.com",
			"12.50", "t", "2024-02-29 11:51:30.123456+00", "a note of an ordinary length, about eighty bytes, as it is found in tables")})
	}
	return r
}

func BenchmarkDecode(b *testing.B) {
	r := benchRows(512)
	var batch service.MessageBatch
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		var err error
		if batch, err = r.Decode(b.Context(), batch[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(r.Msgs)), "ns/row")
}

// Memory is what a row costs most. Of its objects three are its message, and two the map of its metadata, unless all rows share that;
// everything else is shared by the rows of a segment.
func TestMemoryPerRow(t *testing.T) {
	for _, c := range []struct {
		keys           []string
		objects, bytes float64
	}{
		{change.DefaultMetadata(), 5.1, 1520},
		{[]string{change.MetaDatabase, change.MetaTable, change.MetaOperation}, 3.1, 1100},
	} {
		metadata, err := change.ParseMetadata(c.keys)
		require.NoError(t, err)
		cost := func(n int) (objects, bytes float64) {
			r := benchRows(n)
			r.Msgs[0].Rel.Table.Source.Metadata = metadata
			batch := make(service.MessageBatch, 0, n)
			decode := func() {
				if _, err := r.Decode(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			objects = testing.AllocsPerRun(20, decode)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 20 {
				decode()
			}
			runtime.ReadMemStats(&after)
			return objects, float64(after.TotalAlloc-before.TotalAlloc) / 20
		}
		few, fewBytes := cost(100)
		many, manyBytes := cost(500)
		t.Logf("%v: %.2f objects, %.0f bytes a row; %.0f objects a segment", c.keys, (many-few)/400, (manyBytes-fewBytes)/400, few-c.objects*100)
		require.LessOrEqual(t, (many-few)/400, c.objects, "a row")
		require.LessOrEqual(t, (manyBytes-fewBytes)/400, c.bytes, "a row")
		require.LessOrEqual(t, few-c.objects*100, 40.0, "a segment")
	}
}

// recorded returns messages of a server, which the tests of package pgoutput describe.
func recorded(t testing.TB) (messages [][]byte) {
	t.Helper()
	data, err := os.ReadFile("../pgoutput/testdata/pgoutput.bin")
	require.NoError(t, err)
	for len(data) > 0 {
		n := binary.BigEndian.Uint32(data)
		messages, data = append(messages, data[4:4+n]), data[4+n:]
	}
	return messages
}
