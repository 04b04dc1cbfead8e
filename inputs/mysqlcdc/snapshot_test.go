package mysqlcdc

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// openReader opens a reader of chunks that is closed with the test.
func openReader(t *testing.T, l *mysqlLog) snapshot.Reader {
	t.Helper()
	r, err := l.Snapshots().Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(r.Close)
	t.Cleanup(l.snapshots.Close)
	return r
}

// readChunk reads a chunk in a transaction of its own.
func readChunk(t *testing.T, r snapshot.Reader, after checkpoint.Position, c snapshot.Chunk) snapshot.Rows {
	t.Helper()
	_, err := r.Begin(t.Context(), c.Table, after)
	require.NoError(t, err)
	rows, err := r.Read(t.Context(), c)
	require.NoError(t, err)
	return rows
}

// asReceived makes messages of the rows of a chunk.
func asReceived(t *testing.T, rows snapshot.Rows) (got []received) {
	t.Helper()
	origin := &change.Origin{Tx: &change.Tx{}, Snapshot: change.SnapshotTrue}
	for i := range rows.Events {
		ev := rows.Events[i]
		ev.Op, ev.Origin = change.Read, origin
		msg, _ := envelope.AppendMessage(nil, &ev)
		if err := rows.Errs[i]; err != nil {
			change.SetError(msg, err)
		}
		got = append(got, receive(t, msg))
	}
	return got
}

// sameAsStream compares rows of a chunk with what the stream has delivered of them.
func sameAsStream(t *testing.T, streamed, read []received) {
	t.Helper()
	require.Len(t, read, len(streamed))
	for i, want := range streamed {
		got := read[i]
		if !slices.ContainsFunc(got.event.Table.Columns, func(c change.Column) bool { return strings.Contains(c.Type, "?") }) {
			require.Equal(t, want.event.Table.Columns, got.event.Table.Columns)
			require.Equal(t, want.event.Table.Fingerprint(), got.event.Table.Fingerprint())
		} // else the log alone knows the labels, and what it says of the other columns is taken with them
		require.Equal(t, want.key, got.key)
		require.Equal(t, part(want.raw, "after"), part(got.raw, "after"))
		if want.err != nil {
			require.Error(t, got.err)
		} else {
			require.NoError(t, got.err)
		}
	}
}
