package postgrescdc

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// openReader opens a reader of a source's chunks.
func openReader(t testing.TB, r *replication) snapshot.Reader {
	t.Helper()
	reader, err := r.Snapshots().Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	return reader
}

// chunkRows are the rows of a chunk.
type chunkRows struct {
	Events []change.Event
	Errs   map[int]error
	snapshot.End
}

// readRows reads a chunk in the transaction that is open.
func readRows(r snapshot.Reader, c snapshot.Chunk) (rows chunkRows, err error) {
	rows.Errs = map[int]error{}
	rows.End, err = r.Read(context.Background(), c, func(t *change.Table, values []change.Value, inexact error) {
		if inexact != nil {
			rows.Errs[len(rows.Events)] = inexact
		}
		rows.Events = append(rows.Events, change.Event{Table: t, Images: change.ImagesOf(nil, values)})
	})
	return rows, err
}

// readChunk reads a chunk in a transaction of its own.
func readChunk(t testing.TB, r snapshot.Reader, c snapshot.Chunk) (chunkRows, snapshot.View) {
	t.Helper()
	v, err := r.Begin(context.Background(), c.Table, Position{})
	require.NoError(t, err)
	rows, err := readRows(r, c)
	require.NoError(t, err)
	return rows, v
}

// readTable reads a table in chunks.
func readTable(t testing.TB, r snapshot.Reader, c snapshot.Chunk) (all []change.Event, chunks int) {
	t.Helper()
	for {
		rows, _ := readChunk(t, r, c)
		require.Empty(t, rows.Errs)
		all = append(all, rows.Events...)
		for chunks++; rows.Held; chunks++ {
			var err error
			c.From = rows.Next
			rows, err = readRows(r, c)
			require.NoError(t, err)
			all = append(all, rows.Events...)
		}
		if rows.Next == nil {
			return all, chunks
		}
		c.From = rows.Next
		require.Less(t, chunks, 10_000)
	}
}

// messagesOf makes messages of a snapshot's rows.
func messagesOf(events []change.Event) (batch service.MessageBatch) {
	e := envelope.Native{}.NewEncoder()
	var buf []byte
	origin := &change.Origin{Tx: &change.Tx{Position: "s"}, Snapshot: change.SnapshotTrue}
	for i := range events {
		ev := &events[i]
		ev.Op, ev.Origin = change.Read, origin
		batch, buf = e.AppendMessages(batch, buf, ev)
	}
	return batch
}

// asInserts are rows of a snapshot as short has inserts of the stream.
func asInserts(t testing.TB, events []change.Event) []string {
	t.Helper()
	out := shorts(t, messagesOf(events))
	for i := range out {
		out[i] = strings.Replace(out[i], "r ", "c ", 1)
	}
	return out
}

// TestChunks reads tables in chunks: each row once, in the order of the key, as the stream has it.
func TestChunks(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE num (id bigint PRIMARY KEY, v text)", "CREATE TABLE word (k text PRIMARY KEY, v numeric(5,1))")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO num SELECT n, 'v' || n FROM generate_series(-12, 12) n",
		`INSERT INTO word SELECT * FROM (VALUES ('b', 1), ('a', 2), ('A', 3), ('ä', 4), (E'"\\', 5), ('', NULL)) v (k, v) ORDER BY k`)
	want := shorts(t, s.events(31))
	reader := openReader(t, r)
	num, chunks := readTable(t, reader, snapshot.Chunk{Table: "public.num", Limit: 4})
	require.Equal(t, 7, chunks)
	require.Equal(t, want[:25], asInserts(t, num))
	word, chunks := readTable(t, reader, snapshot.Chunk{Table: "public.word", Limit: 3})
	require.Equal(t, 2, chunks, "no empty one")
	require.Equal(t, want[25:], asInserts(t, word))
}

// sameRow makes sure that the row of an insert in the stream, and one of a snapshot, have the same values, key and shape.
func sameRow(t testing.TB, stream, read *service.Message) {
	t.Helper()
	parts := func(m *service.Message) (op string, after, key, version any) {
		b, err := m.AsBytes()
		require.NoError(t, err)
		var e struct {
			Op    string
			After json.RawMessage
		}
		require.NoError(t, json.Unmarshal(b, &e))
		require.NoError(t, m.GetError())
		ev, _ := change.FromMessage(m)
		k, _ := m.MetaGet(change.MetaKey)
		i := strings.Index(string(b), `"after":`)
		j := strings.Index(string(b), `,"source":`)
		return e.Op, string(b[i:j]), k, ev.Table.Fingerprint()
	}
	_, after, key, version := parts(stream)
	op, after2, key2, version2 := parts(read)
	require.Equal(t, "r", op)
	require.Equal(t, after, after2)
	require.Equal(t, key, key2)
	require.Equal(t, version, version2)
}
