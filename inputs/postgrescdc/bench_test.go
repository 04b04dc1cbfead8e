package postgrescdc

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// benchRelation is a table of seven columns of the types that are usual.
func benchRelation() *relation {
	cols := []struct {
		name string
		typ  typeInfo
	}{
		{"id", typeInfo{codec: codecInt, logical: change.LogicalInt64, text: "bigint"}},
		{"customer", typeInfo{codec: codecInt, logical: change.LogicalInt32, text: "integer"}},
		{"email", typeInfo{codec: codecText, text: "text"}},
		{"total", typeInfo{codec: codecNumeric, logical: change.LogicalDecimal, text: "numeric(10,2)"}},
		{"paid", typeInfo{codec: codecBool, logical: change.LogicalBool, text: "boolean"}},
		{"created", typeInfo{codec: codecTimestampTZ, logical: change.LogicalTimestamp, text: "timestamptz", digits: 6}},
		{"note", typeInfo{codec: codecText, text: "text"}},
	}
	table := &change.Table{
		Source:   &change.Source{Connector: connector, Name: "bench", Version: "test"},
		Database: "shop", Schema: "public", Name: "orders", Key: []int{0},
	}
	rel := &relation{table: table, captured: true, identity: make([]bool, len(cols))}
	for i, c := range cols {
		table.Columns = append(table.Columns, change.Column{Name: c.name, Type: c.typ.text, Logical: c.typ.logical})
		rel.types = append(rel.types, &cols[i].typ)
		rel.names += len(c.name) + 4
	}
	return rel
}

func insertMessage(values ...string) []byte {
	b := []byte{msgInsert, 0, 0, 0, 1, tupleNew}
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		b = append(b, tupleText)
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

func benchRows(n int) *rows {
	rel := benchRelation()
	tx := &change.Tx{ID: "123", Position: "0/16B3748", CommitTime: time.UnixMicro(1700000000123456), XID: 123}
	r := &rows{tx: tx, readAt: time.UnixMilli(1700000000200)}
	for i := range n {
		r.add(rowMsg{rel: rel, lsn: 0x16B3700, index: uint64(i + 1), body: insertMessage(fmt.Sprint(i), "4711", "someone@example.com",
			"12.50", "t", "2024-02-29 11:51:30.123456+00", "a note of an ordinary length, about eighty bytes, as it is found in tables")})
	}
	return r
}

func BenchmarkDecode(b *testing.B) {
	r := benchRows(maxSegmentRows)
	var batch service.MessageBatch
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		var err error
		if batch, err = r.Decode(batch[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(r.msgs)), "ns/row")
}

// Allocations are what a row costs most. Three are its message, and two the map of its metadata, unless all rows share that;
// everything else is shared by the rows of a segment.
func TestAllocationsPerRow(t *testing.T) {
	for most, keys := range map[float64][]string{5.1: change.DefaultMetadata(), 3.1: {change.MetaDatabase, change.MetaTable, change.MetaOperation}} {
		metadata, err := change.ParseMetadata(keys)
		require.NoError(t, err)
		allocations := func(n int) float64 {
			r := benchRows(n)
			r.msgs[0].rel.table.Source.Metadata = metadata
			batch := make(service.MessageBatch, 0, n)
			return testing.AllocsPerRun(20, func() {
				if _, err := r.Decode(batch); err != nil {
					t.Fatal(err)
				}
			})
		}
		few, many := allocations(100), allocations(500)
		require.LessOrEqual(t, (many-few)/400, most, "a row")
		require.LessOrEqual(t, few-most*100, 40.0, "a segment")
	}
}

// BenchmarkStream reads one transaction of a real server, decoding included.
func BenchmarkStream(b *testing.B) {
	d := newDatabase(b)
	d.exec("CREATE TABLE orders (id bigint PRIMARY KEY, customer int, email text, total numeric(10,2), paid bool, created timestamptz, note text)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	const n = 200_000
	b.ReportAllocs()
	for i := range b.N {
		b.StopTimer()
		d.exec(fmt.Sprintf("INSERT INTO orders SELECT g + %d, 4711, 'someone@example.com', 12.5, true, now(), repeat('note ', 16) "+
			"FROM generate_series(1, %d) g", i*n, n))
		b.StartTimer()
		segments, rows, began, cpu := 0, 0, time.Time{}, time.Duration(0)
		for rows < n {
			seg := s.next()
			if seg.Rows == nil {
				continue
			}
			if rows == 0 {
				began, cpu = time.Now(), cpuTime(b)
			}
			batch, err := seg.Rows.Decode(nil)
			require.NoError(b, err)
			rows += len(batch)
			segments++
		}
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/n, "cpu-ns/row")
		b.ReportMetric(float64(n)/float64(segments), "rows/segment")
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
