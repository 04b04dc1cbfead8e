package mysqlcdc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// readAside returns the rows that a reader finds for the keys of events, as JSON of their values.
func readAside(t *testing.T, reader change.RowReader, events ...*change.Event) (got []string) {
	t.Helper()
	var keys [][]change.Value
	for _, ev := range events {
		var key []change.Value
		for _, c := range ev.Table.Key {
			key = append(key, ev.Before()[c])
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

// TestRowsAside reads rows that events lack values of: as they are, changed, gone, with another key, in another shape, and in no
// table. With GTIDs, and without.
func TestRowsAside(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) { rowsAside(t, b, "auto") })
	t.Run("use_gtid false", func(t *testing.T) { rowsAside(t, newBench(t, testenv.MySQL(t)), "false") })
}

func rowsAside(t *testing.T, b *bench, useGTID string) {
	b.exec(t, "DROP TABLE IF EXISTS docs", "CREATE TABLE docs (id INT PRIMARY KEY, n INT, doc LONGTEXT)")
	r := start(t, b.newLog(t, "use_gtid: "+useGTID), checkpoint.Token{}).connected(t)
	b.exec(t, "INSERT INTO docs VALUES (1, 0, 'a'), (2, 0, 'b'), (3, 0, 'c')", "SET SESSION binlog_row_image = MINIMAL", "UPDATE docs SET n = id * 10")
	var events []*change.Event
	for _, got := range r.take(t, 6)[3:] {
		require.Equal(t, change.Absent, got.event.After()[2].Kind())
		events = append(events, got.event)
	}
	reader := events[0].Table.Source.Rows.OpenRows()
	defer reader.Close()
	require.ElementsMatch(t, []string{`id=1 n=10 doc="a"`, `id=2 n=20 doc="b"`, `id=3 n=30 doc="c"`}, readAside(t, reader, events...))

	b.exec(t, "UPDATE docs SET doc = 'new' WHERE id = 1", "DELETE FROM docs WHERE id = 2", "UPDATE docs SET id = 4 WHERE id = 3")
	require.Equal(t, []string{`id=1 n=10 doc="new"`}, readAside(t, reader, events...))
	b.exec(t, "ALTER TABLE docs DROP n, ADD x TEXT")
	require.Equal(t, []string{`id=1 doc="new" x=null`}, readAside(t, reader, events...))
	b.exec(t, "DELETE FROM docs", "ALTER TABLE docs MODIFY id DATE")
	require.Empty(t, readAside(t, reader, events...))
	b.exec(t, "ALTER TABLE docs DROP PRIMARY KEY, ADD COLUMN m INT NOT NULL, ADD PRIMARY KEY (id, m)")
	require.Empty(t, readAside(t, reader, events...))
	b.exec(t, "DROP TABLE docs")
	require.Empty(t, readAside(t, reader, events...))
}
