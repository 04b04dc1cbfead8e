package postgrescdc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// readAside returns the rows that a reader finds for the keys of events, as JSON of their values.
func readAside(t *testing.T, reader change.RowReader, events ...*change.Event) (got []string) {
	t.Helper()
	var keys [][]change.Value
	for _, ev := range events {
		var key []change.Value
		for _, c := range ev.Table.Key {
			key = append(key, ev.After()[c])
		}
		keys = append(keys, key)
	}
	require.NoError(t, reader.ReadRows(t.Context(), events[0].Table, events, keys, func(now *change.Table, row []change.Value, inexact error) {
		require.NoError(t, inexact)
		require.Equal(t, events[0].Table.FullName(), now.FullName())
		var b []byte
		for i, v := range row {
			b = append(b, ' ')
			b = append(append(b, now.Columns[i].Name...), '=')
			b = envelope.AppendValue(b, v)
		}
		got = append(got, string(b[1:]))
	}))
	return got
}

// TestRowsAside reads rows that events lack values of: as they are, changed, gone, with another key, in another shape, in no table, and
// after the connection was lost.
func TestRowsAside(t *testing.T) {
	d := newDatabase(t)
	long := strings.Repeat("0123456789", 1000)
	d.exec("CREATE TABLE docs (id int PRIMARY KEY, n int, doc text)", "ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL",
		"CREATE TABLE other (id int PRIMARY KEY, doc text)", "ALTER TABLE other ALTER doc SET STORAGE EXTERNAL")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO docs SELECT i, 0, '"+long+"' FROM generate_series(1, 3) i", "UPDATE docs SET n = id * 10")
	var events []*change.Event
	for _, m := range s.events(6)[3:] {
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		require.Equal(t, change.Unavailable, ev.After()[2].Kind())
		events = append(events, ev)
	}
	reader := events[0].Table.Source.Rows.OpenRows()
	defer reader.Close()
	require.ElementsMatch(t, []string{`id=1 n=10 doc="` + long + `"`, `id=2 n=20 doc="` + long + `"`, `id=3 n=30 doc="` + long + `"`}, readAside(t, reader, events...))

	d.exec("UPDATE docs SET doc = 'new' WHERE id = 1", "DELETE FROM docs WHERE id = 2", "UPDATE docs SET id = 4 WHERE id = 3")
	require.Equal(t, []string{`id=1 n=10 doc="new"`}, readAside(t, reader, events...))
	d.exec("ALTER TABLE docs DROP n, ADD x text DEFAULT 'x'")
	require.Equal(t, []string{`id=1 doc="new" x="x"`}, readAside(t, reader, events...))
	d.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
	require.Equal(t, []string{`id=1 doc="new" x="x"`}, readAside(t, reader, events...))
	d.exec("DELETE FROM docs", "ALTER TABLE docs ALTER id TYPE uuid USING NULL")
	require.Empty(t, readAside(t, reader, events...))
	d.exec("ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (id, doc)")
	require.Empty(t, readAside(t, reader, events...))
	d.exec("DROP TABLE docs")
	require.Empty(t, readAside(t, reader, events...))
}
