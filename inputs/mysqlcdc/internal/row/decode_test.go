package row

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/recorded"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
)

// sampleTableMap is the table map of shop.c (id INT, v VARCHAR(40), d DECIMAL(10,2), t DATETIME(6), j JSON, e ENUM, b BIT(12)).
func sampleTableMap() []byte {
	b := []byte{9, 0, 0, 0, 0, 0, 1, 0, 4}
	b = append(b, "shop\x00\x01c\x00\x07"...)
	b = append(b, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_JSON,
		mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_BIT)
	b = append(b, 10, 160, 0, 10, 2, 6, 4, mysql.MYSQL_TYPE_ENUM, 1, 4, 1)
	b = append(b, 0x7e)
	return append(b, 1, 1, 0) // signedness
}

// sampleRow is one row image of that table.
func sampleRow() []byte {
	b := []byte{0}
	b = append(b, 0xff, 0xff, 0xff, 0x7f)
	b = append(b, 5, 'h', 'e', 'l', 'l', 'o')
	b = append(b, 0x80, 0, 0, 10, 5)
	b = append(b, 0x99, 0xb2, 0xba, 0xdc, 0xde, 0x01, 0xe2, 0x40)
	doc, _ := hex.DecodeString("000100" + "0c00" + "0b00" + "0100" + "050100" + "61")
	b = binary.LittleEndian.AppendUint32(b, uint32(len(doc)))
	b = append(b, doc...)
	return append(b, 2, 0x08, 0x01)
}

func sampleRows(n int) []byte {
	b := []byte{9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 7, 0xff}
	return append(b, bytes.Repeat(sampleRow(), n)...)
}

func sampleShape(tm *binlog.TableMap) *Layout {
	s := &Layout{Table: &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "s", Version: "v"}, Database: "shop", Name: "c", Key: []int{0},
	}}
	for i, t := range tm.Types {
		c := Column{}
		c.Type, c.Meta = binlog.RealType(t, tm.Metas[i])
		if i == 1 {
			c.Text = charset.New("utf8mb4")
		}
		if i == 5 {
			c.Labels = [][]byte{[]byte("x"), []byte("y")}
		}
		s.Columns = append(s.Columns, c)
		s.Table.Columns = append(s.Table.Columns, change.Column{Name: string(rune('a' + i))})
	}
	return s
}

func sampleSegment(t testing.TB, rows []byte) (*Segment, error) {
	tm, err := binlog.ParseTableMap(sampleTableMap())
	require.NoError(t, err)
	ev, err := binlog.ParseRows(replication.WRITE_ROWS_EVENTv2, rows)
	if err != nil {
		return nil, err
	}
	return &Segment{
		Layout: sampleShape(tm), Event: ev, TableMap: tm, Images: ev.Images, Index: 1, File: "b.000001", Pos: 4, ReadAt: time.UnixMilli(5),
		Tx: &change.Tx{ID: "x:1", Position: "x:1", GTID: "x:1", CommitTime: time.UnixMilli(3).UTC(), ServerID: 1},
	}, nil
}

func TestDecodeGolden(t *testing.T) {
	seg, err := sampleSegment(t, sampleRows(2))
	require.NoError(t, err)
	seg.Skip = 1
	batch, err := seg.Decode(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, batch, 1)
	raw, err := batch[0].AsBytes()
	require.NoError(t, err)
	require.Equal(t, `{"before":null,"after":{"a":2147483647,"b":"hello","c":"10.05","d":"2024-02-29T13:51:30.123456","e":{"a":1},"f":"y",`+
		`"g":"100000000001"},"source":{"version":"v","connector":"mysql","name":"s","ts_ms":3,"snapshot":"false","db":"shop","table":"c",`+
		`"server_id":1,"gtid":"x:1","file":"b.000001","pos":4,"row":1},"op":"c","ts_ms":5,"transaction":{"id":"x:1","total_order":2},`+
		`"event_id":"x:1:2","tenant_id":null,"schema_version":"`+seg.Layout.Table.Fingerprint()+`"}`, string(raw))
}

// TestUndecodableValue: a value that cannot be represented marks its message, and no other.
func TestUndecodableValue(t *testing.T) {
	rows := sampleRows(3)
	bad := bytes.Index(rows, []byte("hello"))
	rows[bad] = 0xff
	seg, err := sampleSegment(t, rows)
	require.NoError(t, err)
	batch, err := seg.Decode(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, batch, 3)
	require.ErrorIs(t, batch[0].GetError(), charset.ErrNotText)
	require.ErrorContains(t, batch[0].GetError(), "decoding row 0 of shop.c at b.000001:4: column b: ")
	require.NoError(t, batch[1].GetError())
	require.NoError(t, batch[2].GetError())
}

// TestTruncatedRows cuts a rows event at every byte: it is an error with table and place, or ends between two rows.
func TestTruncatedRows(t *testing.T) {
	whole := sampleRows(3)
	head, row := 12, len(sampleRow())
	for n := range whole {
		seg, err := sampleSegment(t, whole[:n:n])
		if n < head {
			require.ErrorIs(t, err, binlog.ErrTruncated, n)
			continue
		}
		require.NoError(t, err)
		batch, err := seg.Decode(t.Context(), nil)
		if (n-head)%row == 0 {
			require.NoError(t, err)
			require.Len(t, batch, (n-head)/row)
			continue
		}
		require.ErrorIs(t, err, binlog.ErrTruncated, n)
		require.ErrorContains(t, err, "of shop.c at b.000001:4")
	}
	tm := sampleTableMap()
	for n := range len(tm) - 3 {
		_, err := binlog.ParseTableMap(tm[:n:n])
		require.ErrorIs(t, err, binlog.ErrTruncated, n)
	}
}

// TestMangled changes bytes at random: nothing may panic, and what is still decoded is valid JSON.
func TestMangled(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		rows, tmap := sampleRows(2), sampleTableMap()
		for range 1 + r.IntN(4) {
			rows[r.IntN(len(rows))] = byte(r.Uint32())
			tmap[r.IntN(len(tmap))] = byte(r.Uint32())
		}
		checkRows(t, rows)
		checkTableMap(t, tmap)
		doc := rows[len(rows)-20:]
		checkJSON(t, doc)
	}
}

func checkRows(t *testing.T, rows []byte) {
	seg, err := sampleSegment(t, rows)
	if err != nil || seg.Event.Columns != len(seg.TableMap.Types) {
		return
	}
	checkBothWays(t, seg, envelope.Native{})
	batch, err := seg.Decode(t.Context(), nil)
	if err != nil {
		return
	}
	for _, m := range batch {
		if m.GetError() != nil {
			continue
		}
		if raw, err := m.AsBytes(); err != nil || !json.Valid(raw) {
			t.Fatalf("%x becomes %s: %v", rows, raw, err)
		}
	}
}

func checkTableMap(t *testing.T, body []byte) {
	m, err := binlog.ParseTableMap(body)
	if err != nil {
		return
	}
	for _, flavor := range []string{product.MySQL, product.MariaDB} {
		meta, err := m.ParseMetadata(flavor)
		if err != nil {
			continue
		}
		size := len(meta.Key)
		for _, c := range meta.Columns {
			size += len(c.Name) + len(c.Labels)
		}
		if len(meta.Columns) != len(m.Types) || size > len(body) {
			t.Fatalf("%x of %d columns: metadata of %d columns, %d names, labels and keys", body, len(m.Types), len(meta.Columns), size)
		}
	}
	for i := range m.Types {
		c := Column{}
		c.Type, c.Meta = binlog.RealType(m.Types[i], m.Metas[i])
		_ = c.TypeText(4)
		if m.BadWidth != nil {
			continue
		}
		if n, err := m.Widths[i].Size(body); err == nil {
			_, _, _ = c.decode(body[:n], nil)
		}
	}
}

func checkJSON(t *testing.T, doc []byte) {
	out, err := appendBinaryJSON(nil, doc)
	if err == nil && !json.Valid(out) {
		t.Fatalf("%x becomes %s", doc, out)
	}
	checkGrowth(t, doc, out)
}

// checkGrowth makes sure that a document is not a small text for a large one: it has each byte once, and no byte takes more than nine.
func checkGrowth(t *testing.T, doc, out []byte) {
	if len(out) > 9*len(doc)+32 {
		t.Fatalf("%d bytes become %d: %x", len(doc), len(out), doc)
	}
}

func FuzzRows(f *testing.F) {
	f.Add(sampleRows(2))
	f.Fuzz(func(t *testing.T, rows []byte) { checkRows(t, rows) })
}

func FuzzTableMap(f *testing.F) {
	f.Add(sampleTableMap())
	for _, flavor := range []string{product.MySQL, product.MariaDB} {
		f.Add(recorded.Bodies(f, flavor, replication.TABLE_MAP_EVENT)[0])
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkTableMap(t, body) })
}

// TestSharedJSON: a document whose entries all refer to the same long string is one that no server makes.
func TestSharedJSON(t *testing.T) {
	const entries, text = 1000, 2000
	doc := []byte{jsonLargeArray}
	doc = binary.LittleEndian.AppendUint32(doc, entries)
	doc = binary.LittleEndian.AppendUint32(doc, 8+5*entries+2+text)
	for range entries {
		doc = binary.LittleEndian.AppendUint32(append(doc, jsonString), 8+5*entries)
	}
	doc = append(doc, 0x80|text&0x7f, text>>7)
	doc = append(doc, bytes.Repeat([]byte("x"), text)...)
	_, err := appendBinaryJSON(nil, doc)
	require.ErrorIs(t, err, errBadJSON)
}

func FuzzBinaryJSON(f *testing.F) {
	for _, s := range []string{"0400", "0501ff", "0b000000000000f03f", "0c0161", "000100" + "0c00" + "0b00" + "0100" + "050100" + "61", "02010008000f0700f604050180016e"} {
		doc, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) { checkJSON(t, doc) })
}

// Memory is what a row costs most. Of its objects three are its message, and two the map of its metadata, unless all rows share that;
// everything else is shared by the rows of a segment.
func TestMemoryPerRow(t *testing.T) {
	for _, c := range []struct {
		keys           []string
		objects, bytes float64
	}{
		{change.DefaultMetadata(), 5.1, 1350},
		{[]string{change.MetaDatabase, change.MetaTable, change.MetaOperation}, 3.1, 930},
	} {
		metadata, err := change.ParseMetadata(c.keys)
		require.NoError(t, err)
		cost := func(n int) (objects, bytes float64) {
			seg, err := sampleSegment(t, sampleRows(n))
			require.NoError(t, err)
			seg.Layout.Table.Source.Metadata = metadata
			batch := make(service.MessageBatch, 0, n)
			decode := func() {
				if _, err := seg.Decode(t.Context(), batch); err != nil {
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

func BenchmarkDecode(b *testing.B) {
	const n = 100
	rows := sampleRows(n)
	seg, err := sampleSegment(b, rows)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(rows)))
	for b.Loop() {
		batch, err := seg.Decode(b.Context(), nil)
		if err != nil || len(batch) != n {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
}

// BenchmarkFormats compares the formats.
func BenchmarkFormats(b *testing.B) {
	const n = 100
	for name, f := range map[string]change.Format{
		"native": envelope.Native{}, "row": envelope.Row{Deletes: envelope.DeleteKeep}, "debezium": &debezium.Format{Decimal: debezium.DecimalPrecise},
		"values": needsValues{envelope.Native{}},
	} {
		b.Run(name, func(b *testing.B) {
			seg, err := sampleSegment(b, sampleRows(n))
			if err != nil {
				b.Fatal(err)
			}
			seg.Layout.Table.Source.Format = f
			b.ReportAllocs()
			for b.Loop() {
				if batch, err := seg.Decode(b.Context(), nil); err != nil || len(batch) != n {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
		})
	}
}

func BenchmarkCountRows(b *testing.B) {
	seg, err := sampleSegment(b, sampleRows(100))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n, err := seg.TableMap.CountRows(seg.Event); n != 100 {
			b.Fatal(fmt.Sprint(n, err))
		}
	}
}

// TestRowsOfAnotherWidth: rows that have other columns than their table map says are an error, not values.
func TestRowsOfAnotherWidth(t *testing.T) {
	rows := sampleRows(1)
	rows[10] = 6 // columns
	seg, err := sampleSegment(t, rows)
	require.NoError(t, err)
	_, err = seg.Decode(t.Context(), nil)
	require.ErrorContains(t, err, "shop.c at b.000001:4")
	require.ErrorContains(t, err, "has 6 columns, its table map has 7")
}
