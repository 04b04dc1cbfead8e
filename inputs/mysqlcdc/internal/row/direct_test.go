package row

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
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
	op            change.Op
	index         uint64
	payload, key  string
	err           string
	before, after []change.Value
}

func decodeAs(t *testing.T, seg *Segment, f change.Format, long bool) (all []made, failed string) {
	t.Helper()
	s, l := *seg, *seg.Layout
	src := *l.Table.Source
	src.Format = f
	l.Table = &change.Table{Source: &src, Database: l.Table.Database, Name: l.Table.Name, Columns: l.Table.Columns, Key: l.Table.Key}
	s.Layout = &l
	d, err := newRowDecoder(&s)
	require.NoError(t, err)
	if long {
		d.short = nil
	}
	batch, err := d.all(nil)
	if err != nil {
		failed = err.Error()
	}
	for _, m := range batch {
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		all = append(all, madeOf(ev, m))
	}
	return all, failed
}

func madeOf(ev *change.Event, m *service.Message) made {
	out := made{op: ev.Op, index: ev.Index, payload: string(ev.Payload()), key: string(ev.Key()), before: ev.Before(), after: ev.After()}
	if err := m.GetError(); err != nil {
		out.err = err.Error()
	}
	return out
}

// checkBothWays compares what becomes of a segment in the short way of its format with what becomes of it through values that stay.
func checkBothWays(t *testing.T, seg *Segment, formats ...change.Format) {
	t.Helper()
	for _, f := range formats {
		short, failed := decodeAs(t, seg, f, false)
		long, alsoFailed := decodeAs(t, seg, f, true)
		require.Equal(t, alsoFailed, failed)
		require.Len(t, short, len(long))
		for i := range long {
			require.True(t, sameRow(long[i].before, short[i].before), "row %d", i)
			require.True(t, sameRow(long[i].after, short[i].after), "row %d", i)
			long[i].before, long[i].after, short[i].before, short[i].after = nil, nil, nil, nil
			require.Equal(t, long[i], short[i], "row %d", i)
		}
	}
}

func sameRow(a, b []change.Value) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// anyColumn returns a column of a random type, as the log has it, and how it is decoded.
func anyColumn(r *rand.Rand) (typ byte, meta uint16, c Column) {
	digits := uint16(r.IntN(7))
	types := []struct {
		typ  byte
		meta uint16
	}{
		{mysql.MYSQL_TYPE_TINY, 0},
		{mysql.MYSQL_TYPE_SHORT, 0},
		{mysql.MYSQL_TYPE_INT24, 0},
		{mysql.MYSQL_TYPE_LONG, 0},
		{mysql.MYSQL_TYPE_LONGLONG, 0},
		{mysql.MYSQL_TYPE_FLOAT, 4},
		{mysql.MYSQL_TYPE_DOUBLE, 8},
		{mysql.MYSQL_TYPE_NEWDECIMAL, 10<<8 | 2},
		{mysql.MYSQL_TYPE_NEWDECIMAL, 20<<8 | 0},
		{mysql.MYSQL_TYPE_YEAR, 0},
		{mysql.MYSQL_TYPE_DATE, 0},
		{mysql.MYSQL_TYPE_NEWDATE, 0},
		{mysql.MYSQL_TYPE_DATETIME2, digits},
		{mysql.MYSQL_TYPE_TIMESTAMP2, digits},
		{mysql.MYSQL_TYPE_TIME2, digits},
		{mysql.MYSQL_TYPE_TIME, 0},
		{mysql.MYSQL_TYPE_DATETIME, 0},
		{mysql.MYSQL_TYPE_TIMESTAMP, 0},
		{mysql.MYSQL_TYPE_BIT, 1},
		{mysql.MYSQL_TYPE_BIT, 1<<8 | 4},
		{mysql.MYSQL_TYPE_ENUM, 1},
		{mysql.MYSQL_TYPE_SET, 1},
		{mysql.MYSQL_TYPE_STRING, 12},
		{mysql.MYSQL_TYPE_STRING, 300},
		{mysql.MYSQL_TYPE_VARCHAR, 40},
		{mysql.MYSQL_TYPE_VARCHAR, 400},
		{mysql.MYSQL_TYPE_BLOB, uint16(1 + r.IntN(4))},
		{mysql.MYSQL_TYPE_JSON, 4},
		{mysql.MYSQL_TYPE_GEOMETRY, 4},
		{mysql.MYSQL_TYPE_VECTOR, 4},
		{binlog.TypeMariaVarcharCompressed, 40},
		{binlog.TypeMariaBlobCompressed, 2},
	}
	x := types[r.IntN(len(types))]
	c = Column{Type: x.typ, Meta: x.meta, Unsigned: r.IntN(2) == 0, Unsure: r.IntN(4) == 0}
	if r.IntN(3) > 0 {
		latin := [256]string{}
		for b := range latin {
			latin[b] = string(rune(b))
		}
		c.Text = []*charset.Charset{charset.New("utf8mb4"), charset.New("ascii"), charset.New("utf16"), charset.NewSingleByte("latin1", latin), charset.New("none")}[r.IntN(5)]
	} else if r.IntN(2) == 0 {
		c.Pad = 8
		if x.typ == mysql.MYSQL_TYPE_STRING {
			c.Packed = packed(r.IntN(4))
		}
	}
	c.Labels = [][]byte{[]byte("x"), []byte(`y"\`), []byte("ä?")}
	c.values = columnValues{integerForm(r.IntN(6) % 3), zeroForm(r.IntN(6) % 3), r.IntN(3) == 0}
	switch x.typ { // what the table map has
	case mysql.MYSQL_TYPE_STRING:
		return mysql.MYSQL_TYPE_VARCHAR, x.meta, c
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return mysql.MYSQL_TYPE_STRING, uint16(x.typ)<<8 | x.meta, c
	}
	return x.typ, x.meta, c
}

// anyValue returns bytes that the log can have for a column, or nearly.
func anyValue(r *rand.Rand, c *Column, size, prefix int) []byte {
	random := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		return p
	}
	if prefix == 0 {
		p := random(size)
		switch r.IntN(4) {
		case 0:
			clear(p)
		case 1:
			for i := range p {
				p[i] &= 0x81
			}
		}
		if c.Type == mysql.MYSQL_TYPE_DATETIME2 && len(p) > 0 && r.IntN(4) > 0 {
			binary.BigEndian.PutUint32(p, 0x99b2badc)
		}
		return p
	}
	texts := []string{
		"", "plain", "a \"quoted\" one", "back\\slash", "line\nbreak", "ünï", "\x00\x01\x7f", "日本語", "just as long as this", "sixteen bytes ab", "\xff\xfe", "{\"a\":1}",
		"some text that is longer than a register, and than another one, all in ASCII", "\x0c\x01a", "\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x01\x00a",
	}
	text := []byte(texts[r.IntN(len(texts))])
	if r.IntN(4) == 0 {
		text = random(r.IntN(20))
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(text)))[:prefix:prefix], text...)
}

func anySegment(t *testing.T, r *rand.Rand) *Segment {
	n := 1 + r.IntN(1+r.IntN(12))
	tm := &binlog.TableMap{DB: "shop", Table: "c"}
	l := &Layout{Table: &change.Table{Source: &change.Source{Connector: "mysql", Name: "s", Version: "v"}, Database: "shop", Name: "c"}}
	var prefixes []int
	for i := range n {
		typ, meta, c := anyColumn(r)
		tm.Types, tm.Metas, l.Columns = append(tm.Types, typ), append(tm.Metas, meta), append(l.Columns, c)
		if i < 10 || r.IntN(2) == 0 && len(l.Table.Columns) == i {
			l.Table.Columns = append(l.Table.Columns, change.Column{Name: string(rune('a' + i))})
		}
		prefix := 0
		switch typ {
		case mysql.MYSQL_TYPE_VARCHAR, binlog.TypeMariaVarcharCompressed:
			prefix = 1
			if meta > 255 {
				prefix = 2
			}
		case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_VECTOR, binlog.TypeMariaBlobCompressed:
			prefix = int(meta)
		}
		prefixes = append(prefixes, prefix)
	}
	for i := range l.Table.Columns {
		if r.IntN(4) == 0 {
			l.Table.Key = append(l.Table.Key, i)
		}
	}
	tm.SetWidths()
	require.NoError(t, tm.BadWidth)
	mask := make([]byte, (n+7)/8)
	for i := range n {
		mask[i/8] |= 1 << (i % 8)
	}
	ev := &binlog.Rows{Kind: binlog.Insert, Columns: n}
	if r.IntN(3) > 0 {
		ev.Kind = binlog.Update
	} else if r.IntN(2) == 0 {
		ev.Kind = binlog.Delete
	}
	if ev.Kind != binlog.Insert {
		ev.Before, ev.NBefore = mask, n
	}
	if ev.Kind != binlog.Delete {
		ev.After, ev.NAfter = mask, n
	}
	zero := make([]byte, 1<<10)
	for range (1 + r.IntN(100)) * (1 + r.IntN(2)) {
		nulls := make([]byte, len(mask))
		var values []byte
		for i := range n {
			if r.IntN(6) == 0 {
				nulls[i/8] |= 1 << (i % 8)
				continue
			}
			size := 0
			if prefixes[i] == 0 {
				var err error
				size, err = tm.Widths[i].Size(zero)
				require.NoError(t, err)
			}
			values = append(values, anyValue(r, &l.Columns[i], size, prefixes[i])...)
		}
		ev.Images = append(append(ev.Images, nulls...), values...)
	}
	if r.IntN(8) == 0 {
		ev.Images = ev.Images[:r.IntN(len(ev.Images)+1)]
	}
	return &Segment{
		Layout: l, Event: ev, TableMap: tm, Images: ev.Images, Index: 1, Skip: r.IntN(3), File: "b.000001", Pos: 4, ReadAt: time.UnixMilli(5),
		Tx: &change.Tx{ID: "x:1", Position: "x:1", CommitTime: time.UnixMilli(3).UTC()},
	}
}

// TestBothWays makes rows of random types and values straight from the log, and through values.
func TestBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		checkBothWays(t, anySegment(t, r), envelope.Native{})
	}
	for range 60 {
		checkBothWays(t, anySegment(t, r), needsValues{envelope.Native{}}, &debezium.Format{Tombstones: true}, envelope.Row{Deletes: envelope.DeleteKeep}, envelope.Row{Deletes: envelope.DeleteNull},
			&envelope.CloudEvents{Row: true}, &envelope.CloudEvents{Binary: true})
	}
}

// TestLazyValues: many ask for the values of events that were decoded together, and get the same.
func TestLazyValues(t *testing.T) {
	const n = 200
	seg, err := sampleSegment(t, sampleRows(n))
	require.NoError(t, err)
	batch, err := seg.Decode(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, batch, n)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, m := range batch {
				ev, _ := change.FromMessage(m)
				if v := ev.After(); len(v) != 7 || v[0].Int() != 1<<31-1 || string(v[1].Bytes()) != "hello" || ev.Before() != nil {
					t.Errorf("row %d: %v", ev.Row, v)
				}
			}
		})
	}
	wg.Wait()
}

// TestResultBothWays: rows of queries, straight and through values.
func TestResultBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	straight := 0
	for range 2000 {
		l := &Layout{Table: &change.Table{}}
		var types []byte
		row := []byte{0}
		n := 1 + r.IntN(6)
		nulls := make([]byte, (n+nullSkip+7)/8)
		var values []byte
		for i := range n {
			_, _, c := anyColumn(r)
			typ := c.Type
			switch typ {
			case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET, binlog.TypeMariaVarcharCompressed, binlog.TypeMariaBlobCompressed:
				typ = mysql.MYSQL_TYPE_STRING
			}
			l.Columns, types = append(l.Columns, c), append(types, typ)
			l.Table.Columns = append(l.Table.Columns, change.Column{Name: string(rune('a' + i))})
			if r.IntN(6) == 0 {
				nulls[(i+nullSkip)/8] |= 1 << ((i + nullSkip) % 8)
				continue
			}
			values = append(values, anyFetched(r, &c, widthOf(typ))...)
		}
		row = append(append(row, nulls...), values...)
		if r.IntN(20) == 0 {
			row = row[:r.IntN(len(row))]
		}
		res, err := NewResult(l, types)
		require.NoError(t, err)
		names := make([][]byte, n)
		for i := range names {
			names[i] = []byte(`,"` + l.Table.Columns[i].Name + `":`)
		}
		ends, made := make([]int32, n), make([]change.Value, n)
		_, inexact, err := res.Decode(row, made, nil)
		out, _, ok := res.AppendRow([]byte("before"), row, names, ends, nil)
		require.Equal(t, err == nil && inexact == nil, ok)
		if err != nil {
			continue
		}
		for i, v := range made {
			one, _, err := res.Value(row, i, nil)
			require.NoError(t, err)
			require.True(t, v.Equal(one), "column %d of type %d", i, l.Columns[i].Type)
		}
		if !ok {
			continue
		}
		straight++
		want := []byte("before")
		for i, v := range made {
			want = envelope.AppendValue(append(want, names[i]...), v)
			require.Equal(t, len(want)-len("before"), int(ends[i]))
		}
		want[len("before")] = '{'
		require.Equal(t, string(append(want, '}')), string(out))
	}
	require.Greater(t, straight, 300)
}

// anyFetched returns bytes that a query can have for a column, or nearly.
func anyFetched(r *rand.Rand, c *Column, w width) []byte {
	random := func(n int) []byte { return anyValue(r, &Column{}, n, 0) }
	switch w {
	case width1:
		return random(1)
	case width2:
		return random(2)
	case width4:
		return random(4)
	case width8:
		return random(8)
	case widthTime:
		date := [][]byte{{}, {0xe8, 7, 2, 29}, {0xe8, 7, 2, 29, 11, 51, 30}, {0xe8, 7, 0, 0, 11, 51, 30, 0x40, 0xe2, 1, 0}, {0xe8, 7, 2, 29, 11, 51, 99}}
		if isTime(c.Type) {
			date = [][]byte{{}, {1, 34, 0, 0, 0, 22, 59, 59}, {0, 0, 0, 0, 0, 1, 2, 3, 0x40, 0xe2, 1, 0}, {0, 0, 0, 0, 0, 1, 60, 3}}
		}
		p := date[r.IntN(len(date))]
		return append([]byte{byte(len(p))}, p...)
	}
	if c.Type == mysql.MYSQL_TYPE_BIT {
		return append([]byte{2}, random(2)...)
	}
	return anyValue(r, &Column{}, 0, 1)
}
