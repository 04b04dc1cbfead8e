package snapshot

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// place is a place in a log.
type place int

func (p place) String() string { return strconv.Itoa(int(p)) }

// fakeSource has one table, whose rows have the keys from 1 on.
type fakeSource struct {
	table  *change.Table
	rows   int // that the statistics say there are
	filled int // that there are
	note   []byte
	seen   place // what chunks see of the log
	read   atomic.Int64
}

func newFakeSource(t testing.TB, rows int) *fakeSource {
	t.Helper()
	metadata, err := change.ParseMetadata(change.DefaultMetadata())
	require.NoError(t, err)
	return &fakeSource{rows: rows, filled: rows, note: []byte("order 1: c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862c"), seen: 1, table: &change.Table{
		Source: &change.Source{Version: "v", Connector: "postgresql", Name: "shop", Metadata: metadata}, Database: "shop", Schema: "public", Name: "orders",
		Columns: []change.Column{
			{Name: "id", Type: "bigint"},
			{Name: "customer_id", Type: "integer"},
			{Name: "status", Type: "text"},
			{Name: "amount", Type: "numeric"},
			{Name: "created_at", Type: "timestamp"},
			{Name: "note", Type: "text"},
			{Name: "version", Type: "integer"},
		},
		Key: []int{0},
	}}
}

func (s *fakeSource) Tables(context.Context) ([]Table, error) {
	return []Table{{Name: s.table.FullName(), Rows: int64(s.rows), Key: []string{"id"}}}, nil
}
func (s *fakeSource) Open(context.Context) (Reader, error) { return &fakeReader{s}, nil }
func (s *fakeSource) Notify(func(Appearance))              {}

type fakeReader struct{ s *fakeSource }

func (r *fakeReader) Split(_ context.Context, _ string, n int) (bounds []Bound, err error) {
	for i := 1; i < n; i++ {
		bounds = append(bounds, Bound(strconv.Itoa(r.s.rows/n*i)))
	}
	return bounds, nil
}

func (r *fakeReader) Begin(context.Context, string, checkpoint.Position) (View, error) {
	return fakeView(r.s.seen), nil
}
func (r *fakeReader) Close() {}

func (r *fakeReader) Read(_ context.Context, c Chunk, add Add) (end End, err error) {
	from, to := 0, r.s.rows
	for b, n := range map[*int]Bound{&from: c.From, &to: c.To} {
		if n == nil {
			continue
		}
		if *b, err = strconv.Atoi(string(n)); err != nil {
			return end, err
		}
	}
	if to-from > c.Limit {
		to = from + c.Limit
		end.Next = Bound(strconv.Itoa(to))
	}
	ids := make([]int, 0, c.Limit)
	for id := from + 1; id <= min(to, r.s.filled); id++ {
		ids = append(ids, id)
	}
	if len(c.Keys) > 0 {
		ids, end.Next = ids[:0], nil
		for _, key := range c.Keys {
			ids = append(ids, int(key[0].Int()))
		}
	}
	var values []change.Value
	for _, id := range ids {
		if len(values) < 7 {
			values = make([]change.Value, 1022)
		}
		row := values[:7:7]
		values = values[7:]
		row[0], row[1], row[2] = change.IntValue(int64(id)), change.IntValue(int64(id%100)), change.TextValue(r.s.note[:5])
		row[3], row[4], row[5] = change.DecimalValue([]byte("12.34")), change.TextValue([]byte("2024-02-29T13:51:30.000001")), change.TextValue(r.s.note)
		row[6] = change.IntValue(int64(id % 10))
		add(r.s.table, row, nil)
	}
	r.s.read.Add(int64(len(ids)))
	return end, nil
}

type fakeView place

func (fakeView) Sees(*change.Tx) bool                  { return true }
func (v fakeView) Reached(at checkpoint.Position) bool { return at.(place) >= place(v) }

// beginLoad begins the load of a source's table, in a session that stands at the place 1.
func beginLoad(t testing.TB, s *fakeSource, cfg Config) (l *Loader, j *Join, stop func()) {
	t.Helper()
	l = New(cfg, s, service.MockResources().Logger(), Numbers{Rows: func(string, int) {}, Ratio: func(string, float64) {}, Changed: func() {}})
	require.NoError(t, l.Begin(nil, true))
	tables, err := s.Tables(t.Context())
	require.NoError(t, err)
	l.Reconcile(tables)
	ctx, cancel := context.WithCancel(t.Context())
	j = l.Session(0, place(1), true)
	var working sync.WaitGroup
	for range cfg.Parallel {
		working.Go(func() { j.Work(ctx) })
	}
	return l, j, func() { cancel(); working.Wait() }
}

// TestChunksInMemory looks at how much is read while the stream does not come to the place of the chunks, or while nobody takes them.
func TestChunksInMemory(t *testing.T) {
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeSource(t, 100_000)
			s.seen = 2
			const chunk = 100
			most := int64(2 * parallel * chunk)
			l, j, stop := beginLoad(t, s, Config{Mode: Initial, ChunkRows: chunk, Parallel: parallel})
			defer stop()
			synctest.Wait()
			assert.Nil(t, j.Next(), "the stream is not there yet")
			assert.Equal(t, most, s.read.Load(), "twice as many as are read at a time")
			j.Segment(nil, place(2))
			taken := 0
			for synctest.Wait(); taken < s.rows; synctest.Wait() {
				assert.LessOrEqual(t, s.read.Load()-int64(taken), most)
				due := j.Next()
				require.NotNil(t, due)
				taken += len(due.Messages)
				_, _, err := l.Record(due.Mark)
				require.NoError(t, err)
			}
			assert.EqualValues(t, s.rows, s.read.Load(), "nothing is read twice")
		})
	}
}

// TestLastRow looks for the row that says that it is the last one, where the last chunks that are read have rows, and where they have none.
func TestLastRow(t *testing.T) {
	for name, filled := range map[string]int{"full": 1000, "half full": 430, "one row": 1, "empty": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeSource(t, 1000)
				s.filled = filled
				l, j, stop := beginLoad(t, s, Config{Mode: Initial, ChunkRows: 100, Parallel: 1})
				defer stop()
				var markers []change.Snapshot
				keys := map[string]bool{}
				for l.open.Load() {
					synctest.Wait()
					for due := j.Next(); due != nil; due = j.Next() {
						for _, m := range due.Messages {
							ev, ok := change.Own(m)
							require.True(t, ok)
							markers = append(markers, ev.Snapshot)
							keys[string(ev.Key())] = true
						}
						_, _, err := l.Record(due.Mark)
						require.NoError(t, err)
					}
				}
				assert.Len(t, keys, filled)
				if filled == 0 {
					assert.Empty(t, markers)
					return
				}
				assert.Len(t, markers, filled, "each row once")
				if at := slices.Index(markers, change.SnapshotLast); filled == 1000 || at >= 0 {
					assert.Equal(t, filled-1, at, "the last one, and no other")
				}
			})
		})
	}
}

// BenchmarkChunks reads a table, and makes messages of its rows: what a row costs beside the database, and beside what decodes it.
func BenchmarkChunks(b *testing.B) {
	b.ReportAllocs()
	s := newFakeSource(b, b.N)
	_, j, stop := beginLoad(b, s, Config{Mode: Initial, ChunkRows: 10_000, Parallel: 2})
	defer stop()
	for taken := 0; taken < b.N; {
		<-j.Ready()
		for due := j.Next(); due != nil; due = j.Next() {
			taken += len(due.Messages)
		}
	}
}
