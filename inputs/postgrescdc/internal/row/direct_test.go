package row

import (
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
)

// needsValues is a format whose encoder cannot do without values.
type needsValues struct{ change.Format }

func (f needsValues) NewEncoder() change.Encoder {
	return struct{ change.Encoder }{f.Format.NewEncoder()}
}

// made is all that is to be seen of a message.
type made struct {
	op           change.Op
	index        uint64
	payload, key string
	err          string
	images       [2][]change.Value
}

func decodeAs(t *testing.T, rows *Rows, f change.Format, long bool) (all []made, failed string) {
	t.Helper()
	r := &Rows{Tx: rows.Tx, ReadAt: rows.ReadAt, Trust: rows.Trust}
	for _, m := range rows.Msgs {
		src, rel := *m.Rel.Table.Source, *m.Rel
		src.Format = f
		rel.Table = &change.Table{Source: &src, Database: "shop", Schema: "public", Name: m.Rel.Table.Name, Columns: m.Rel.Table.Columns, Key: m.Rel.Table.Key}
		m.Rel = &rel
		r.Add(m)
	}
	batch, err := r.decode(t.Context(), nil, !long)
	if err != nil {
		failed = err.Error()
	}
	for _, m := range batch {
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		x := made{op: ev.Op, index: ev.Index, payload: string(ev.Payload()), key: string(ev.Key()), images: [2][]change.Value{ev.Before(), ev.After()}}
		if err := m.GetError(); err != nil {
			x.err = err.Error()
		}
		all = append(all, x)
	}
	return all, failed
}

// checkBothWays compares what becomes of rows in the short way of their format with what becomes of them through values that stay.
func checkBothWays(t *testing.T, rows *Rows, formats ...change.Format) {
	t.Helper()
	for _, f := range formats {
		short, failed := decodeAs(t, rows, f, false)
		long, alsoFailed := decodeAs(t, rows, f, true)
		require.Equal(t, alsoFailed, failed)
		require.Len(t, short, len(long))
		for i := range long {
			for n, row := range long[i].images {
				other := short[i].images[n]
				require.Equal(t, row == nil, other == nil, "row %d", i)
				require.Len(t, other, len(row), "row %d", i)
				for c := range row {
					require.True(t, row[c].Equal(other[c]), "row %d, column %d", i, c)
				}
			}
			long[i].images, short[i].images = [2][]change.Value{}, [2][]change.Value{}
			require.Equal(t, long[i], short[i], "row %d", i)
		}
	}
}

// texts are values of many types, and some of none.
var texts = []string{ //nolint:gochecknoglobals // constants
	"", "0", "1", "-1", "-0", "007", "+5", "12345678901234567890", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "999999999999999999",
	"t", "f", "1.50", "NaN", "-Infinity", "1e-7", "3.4028235e+38", "plain text", "a \"quoted\" one", "line\nbreak", "\x7f", "日本語", "\xff\xfe",
	"2024-02-29 11:51:30.12+00", "2024-02-29 11:51:30", "0044-03-15 12:00:00 BC", "infinity", "12:30:00.5", "12:30:00+02", "2024-02-29 ab:cd:ef\"",
	`{"a": 1}`, "{\n\t\"a\": [1, 2]}", `\x00ff`, `\xzz`, "{1,2,NULL}", `{{"a","b c"},{NULL,d}}`, `(1,"x ""y""")`, `"a"=>"b", "c"=>NULL`, "(1.5,-2)", "1 2 3", "101",
	"0101000020E6100000000000000000F03F0000000000000040",
}

func anyRows(r *rand.Rand) *Rows {
	codecs := []value.Codec{
		value.CodecText, value.CodecText, value.CodecBool, value.CodecInt, value.CodecInt, value.CodecUint, value.CodecFloat32, value.CodecFloat64, value.CodecNumeric,
		value.CodecBytea, value.CodecJSON, value.CodecTime, value.CodecTimestamp, value.CodecTimestampTZ, value.CodecBit1, value.CodecVector, value.CodecArray,
		value.CodecComposite, value.CodecHstore, value.CodecPoint, value.CodecGeometry, value.CodecDigits, value.CodecGone,
	}
	n := r.IntN(1 + r.IntN(9))
	rel := &shape.Relation{Captured: true, Table: &change.Table{Source: &change.Source{Connector: "postgresql", Name: "s", Version: "v"}, Name: "c"}}
	text := &value.Type{Codec: value.CodecText}
	for i := range n {
		typ := &value.Type{Codec: codecs[r.IntN(len(codecs))], Digits: r.IntN(7), Elem: text, Delimiter: ',', Fields: []value.Field{{Name: "x", Typ: text}, {Name: "y", Typ: text}}}
		rel.Types = append(rel.Types, typ)
		rel.Identity = append(rel.Identity, r.IntN(2) == 0)
		rel.Table.Columns = append(rel.Table.Columns, change.Column{Name: "c" + strconv.Itoa(i)})
		if r.IntN(3) == 0 {
			rel.Table.Key = append(rel.Table.Key, i)
		}
	}
	rows := &Rows{Tx: benchTx(), ReadAt: time.UnixMilli(1), Trust: value.Trust(r.IntN(3))}
	for i := range 1 + r.IntN(90) {
		body := anyBody(r, rel)
		rows.Add(Change{Rel: rel, Body: body, LSN: 0x2A, Index: uint64(i + 1)})
	}
	return rows
}

func anyBody(r *rand.Rand, rel *shape.Relation) []byte {
	kind := []byte{pgoutput.MsgInsert, pgoutput.MsgUpdate, pgoutput.MsgUpdate, pgoutput.MsgDelete}[r.IntN(4)]
	b := []byte{kind, 0, 0, 0, 1}
	image := func(marker byte) {
		b = binary.BigEndian.AppendUint16(append(b, marker), uint16(len(rel.Types)))
		for _, typ := range rel.Types {
			switch x := r.IntN(12); {
			case x == 0:
				b = append(b, pgoutput.TupleNull)
				continue
			case x == 1 && r.IntN(4) == 0:
				b = append(b, pgoutput.TupleUnchanged)
				continue
			}
			text := texts[r.IntN(len(texts))]
			if r.IntN(4) > 0 {
				text = map[value.Codec]string{
					value.CodecBool: "t", value.CodecInt: "-15", value.CodecUint: "7", value.CodecFloat32: "0.1", value.CodecFloat64: "1e+30", value.CodecNumeric: "1.50",
					value.CodecBytea: `\x00ff`, value.CodecJSON: "{\n\"a\": 1}", value.CodecTime: "12:30:00.5", value.CodecTimestamp: "2024-02-29 11:51:30.12",
					value.CodecTimestampTZ: "2024-02-29 11:51:30+00", value.CodecBit1: "1", value.CodecVector: "1 2", value.CodecArray: `{a,"b \"c"}`,
					value.CodecComposite: "(1,x)", value.CodecHstore: `"a"=>"b"`, value.CodecPoint: "(1.5,-2)", value.CodecDigits: "12", value.CodecText: "some \"text\"",
				}[typ.Codec]
			}
			b = append(binary.BigEndian.AppendUint32(append(b, pgoutput.TupleText), uint32(len(text))), text...)
		}
	}
	if kind == pgoutput.MsgDelete || kind == pgoutput.MsgUpdate && r.IntN(2) == 0 {
		image([]byte{pgoutput.TupleOld, pgoutput.TupleKey}[r.IntN(2)])
	}
	if kind != pgoutput.MsgDelete {
		image(pgoutput.TupleNew)
	}
	switch r.IntN(400) {
	case 0:
		b = b[:6+r.IntN(len(b)-5)]
	case 1:
		b[5+r.IntN(len(b)-5)] ^= byte(1 << r.IntN(8))
	case 2:
		b = append(b, 'x')
	}
	return b
}

// TestBothWays makes rows of random types and values straight from the log, and through values.
func TestBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		checkBothWays(t, anyRows(r), envelope.Native{})
	}
	for range 60 {
		checkBothWays(t, anyRows(r), needsValues{envelope.Native{}}, &debezium.Format{Tombstones: true}, envelope.Row{Deletes: envelope.DeleteKeep}, envelope.Row{Deletes: envelope.DeleteNull},
			&envelope.CloudEvents{Row: true}, &envelope.CloudEvents{Binary: true})
	}
}

// TestQueryBothWays: rows of queries, straight and through values.
func TestQueryBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	straight := 0
	for range 300 {
		rows := anyRows(r)
		rel := rows.Msgs[0].Rel
		q := NewQuery(rel, rows.Trust)
		decode := q.Decoder()
		names := make([][]byte, len(rel.Types))
		for i := range names {
			names[i] = []byte(`,"` + rel.Table.Columns[i].Name + `":`)
		}
		ends := make([]int32, len(names))
		for _, m := range rows.Msgs {
			if m.Body[0] != pgoutput.MsgInsert || len(m.Body) < 8 {
				continue
			}
			body := resultOf(m.Body[6:])
			values, inexact, err := decode(body)
			out, ok := q.AppendRow([]byte("before"), body, names, ends)
			require.Equal(t, err == nil && inexact == nil && !hasBytes(rel, values), ok)
			if err != nil {
				continue
			}
			for c, v := range values {
				one, err := q.Value(body, c)
				require.NoError(t, err)
				require.True(t, v.Equal(one), "column %d", c)
			}
			if !ok {
				continue
			}
			straight++
			want, start := []byte("before"), 0
			for c, v := range values {
				want = envelope.AppendValue(append(want, names[c]...), v)
				start = int(ends[c]) + len("before")
				require.Len(t, want, start)
			}
			require.Equal(t, string(object(want, len("before"))), string(out))
		}
	}
	require.Greater(t, straight, 1000)
}

// hasBytes reports text that became bytes: AppendRow leaves it to values.
func hasBytes(rel *shape.Relation, values []change.Value) bool {
	for i, v := range values {
		if v.Kind() == change.Bytes && rel.Types[i].Codec == value.CodecText {
			return true
		}
	}
	return false
}

// resultOf makes the body of a DataRow of an image.
func resultOf(image []byte) []byte {
	body := append([]byte(nil), image[:2]...)
	for rest := image[2:]; len(rest) > 0; {
		kind := rest[0]
		rest = rest[1:]
		raw, after, ok := cut(rest)
		if kind != pgoutput.TupleText {
			body = binary.BigEndian.AppendUint32(body, 1<<32-1)
			continue
		}
		if !ok {
			return append(body, rest...)
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(raw))), raw...)
		rest = after
	}
	return body
}
