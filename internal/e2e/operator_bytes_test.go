package e2e

import (
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logBytes compares what a source says it has read since a moment with what its database says there was to read.
type logBytes struct {
	pipeline string
	before   float64
	check    func(t *testing.T, now page)
}

func newLogBytes(d *deck, p *deckPipeline) *logBytes {
	in := "pipeline=" + p.id
	return &logBytes{pipeline: in, before: d.scrape().get("source_bytes_total", in)}
}

func (l *logBytes) read(now page) float64 {
	return now.get("source_bytes_total", l.pipeline) - l.before
}

// binlogBytes is by the events of the server's files. MariaDB sends the text of statements, which it writes beside the rows, only
// on request. Events that are in no file, such as heartbeats, are few.
func binlogBytes(t *testing.T, d *deck, p *deckPipeline) *logBytes {
	t.Helper()
	file, end := binlogEnd(t, p.src)
	l := newLogBytes(d, p)
	l.check = func(t *testing.T, now page) {
		t.Helper()
		last, _ := binlogEnd(t, p.src)
		require.Equal(t, file, last, "the log was rotated")
		written := 0.0
		rows, err := p.src.db.QueryContext(t.Context(), "SHOW BINLOG EVENTS IN '"+file+"' FROM "+strconv.Itoa(end))
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var name, kind, server, info string
			var from, to int
			require.NoError(t, rows.Scan(&name, &from, &kind, &server, &to, &info))
			if kind != "Annotate_rows" {
				written += float64(to - from)
			}
		}
		require.NoError(t, rows.Err())
		require.Greater(t, written, 100_000.0)
		assert.InDelta(t, written, l.read(now), 10_000, "bytes of the binlog, %s", l.pipeline)
	}
	return l
}

// binlogEnd returns the newest file of the server's log and its size.
func binlogEnd(t *testing.T, src source) (file string, size int) {
	t.Helper()
	rows, err := src.db.QueryContext(t.Context(), "SHOW BINARY LOGS")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		var encrypted string
		into := []any{&file, &size, &encrypted}
		require.NoError(t, rows.Scan(into[:len(columns)]...)) // MariaDB has two columns
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, file)
	return file, size
}

// Sizes of the PostgreSQL protocol: kind and length of a message, the header of XLogData, a whole keepalive.
const (
	messageHeader = 5
	walHeader     = 25
	keepalive     = messageHeader + 18
)

// pgoutputBytes is by a second slot, whose output is that of the source's to the byte. Between the messages there are keepalives,
// all of one size.
func pgoutputBytes(t *testing.T, d *deck, p *deckPipeline) *logBytes {
	t.Helper()
	var publication string
	require.NoError(t, p.src.db.QueryRowContext(t.Context(), "SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication").Scan(&publication))
	twin := "twin_" + p.src.slug[len(p.src.slug)-10:]
	_, err := p.src.db.ExecContext(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", twin)
	require.NoError(t, err)
	l := newLogBytes(d, p)
	l.check = func(t *testing.T, now page) {
		t.Helper()
		var messages, size float64
		require.NoError(t, p.src.db.QueryRowContext(t.Context(), `SELECT count(*), sum(length(data))
			FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'messages', 'true', 'publication_names', $2)`,
			twin, publication).Scan(&messages, &size))
		require.Greater(t, size, 100_000.0)
		rest := l.read(now) - size - messages*(messageHeader+walHeader)
		assert.GreaterOrEqual(t, rest, 0.0, "less was counted than there was to read")
		assert.Zero(t, math.Mod(rest, keepalive), "%v bytes more than messages and keepalives", rest)
		assert.LessOrEqual(t, rest, 0.05*size+200*keepalive)
	}
	return l
}
