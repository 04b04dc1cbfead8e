package mysqlcdc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/snapshot"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// openReader opens a reader of chunks that is closed with the test.
func openReader(t *testing.T, l *mysqlLog) snapshot.Reader {
	t.Helper()
	r, err := l.Snapshots().Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
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
func readChunk(t *testing.T, r snapshot.Reader, after checkpoint.Position, c snapshot.Chunk) chunkRows {
	t.Helper()
	_, err := r.Begin(t.Context(), c.Table, after)
	require.NoError(t, err)
	rows, err := readRows(r, c)
	require.NoError(t, err)
	return rows
}

// asReceived makes messages of the rows of a chunk.
func asReceived(t *testing.T, rows chunkRows) (got []received) {
	t.Helper()
	origin := &change.Origin{Tx: &change.Tx{}, Snapshot: change.SnapshotTrue}
	for i := range rows.Events {
		ev := rows.Events[i]
		ev.Op, ev.Origin = change.Read, origin
		msg := envelope.AppendMessages(nil, &ev)[0]
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

// TestSnapshotTables: what there is to load, what cannot be read, and what is not there.
func TestSnapshotTables(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "CREATE TABLE hollow (a INT)",
			"CREATE VIEW w AS SELECT * FROM t", "CREATE TABLE `dot.ted` (id INT PRIMARY KEY)", "INSERT INTO `dot.ted` VALUES (7)", "ANALYZE TABLE t")
		l := b.newLog(t, "")
		at := firstPosition(t, b, l)
		tables, err := l.Snapshots().Tables(t.Context())
		require.NoError(t, err)
		require.Equal(t, []snapshot.Table{
			{Name: b.db + ".dot.ted", Rows: tables[0].Rows, Key: []string{"id"}}, {Name: b.db + ".hollow", Rows: 0}, {Name: b.db + ".t", Rows: 3, Key: []string{"id"}},
		}, tables)
		r := openReader(t, l)
		require.Empty(t, readAll(t, r, at, snapshot.Chunk{Table: b.db + ".hollow", Limit: 2}))
		rows := readChunk(t, r, at, snapshot.Chunk{Table: b.db + ".dot.ted", Limit: 2})
		require.Equal(t, []int64{7}, numbers(rows.Events))

		// The shape is the one that the rows are read under; its table stays the same while nothing has changed.
		table := b.db + ".t"
		c := snapshot.Chunk{Table: table, Limit: 2, Where: "v <> 'a' -- not the first"}
		b.exec(t, "INSERT INTO t VALUES (4, 'd')")
		first := readChunk(t, r, at, c)
		require.Len(t, first.Events, 2)
		require.Same(t, first.Events[0].Table, readChunk(t, r, at, c).Events[0].Table)
		b.exec(t, "ALTER TABLE t ADD w INT DEFAULT 5")
		changed := readChunk(t, r, at, c).Events[0]
		require.NotSame(t, first.Events[0].Table, changed.Table)
		require.Equal(t, int64(5), changed.After()[2].Int())

		fails := func(c snapshot.Chunk) error {
			r, err := l.Snapshots().Open(t.Context())
			require.NoError(t, err)
			defer r.Close() // or its transaction would keep the table
			_, err = r.Begin(t.Context(), c.Table, at)
			require.NoError(t, err)
			_, err = readRows(r, c)
			return err
		}
		require.ErrorIs(t, fails(snapshot.Chunk{Table: b.db + ".gone", Limit: 2}), snapshot.ErrGone)
		for _, where := range []string{"nothing = 1", "v = ", "1) OR (1", "no_function(v)"} {
			err := fails(snapshot.Chunk{Table: table, Limit: 2, Where: where})
			require.ErrorContains(t, err, "snapshot.where: the condition", where)
			require.ErrorContains(t, err, table)
		}
		// A table that a statement has locked is not waited for.
		b.exec(t, "LOCK TABLES t WRITE")
		tables, err = l.Snapshots().Tables(t.Context())
		require.NoError(t, err)
		require.Len(t, tables, 3)
		require.ErrorContains(t, fails(snapshot.Chunk{Table: table, Limit: 2}), "Lock wait timeout")
		b.exec(t, "UNLOCK TABLES")
		bound := string(first.Next)
		for _, from := range []string{strings.Replace(bound, ",3]", ",\"2' OR 1\"]", 1), strings.Replace(bound, ",3]", ",2,3]", 1), strings.Replace(bound, ",3]", "]", 1), `["a' OR 1"]`, `["1"`, `[1,3]`, `[]`, `[null]`, `["zz"]`} {
			require.ErrorIs(t, fails(snapshot.Chunk{Table: table, Limit: 2, From: snapshot.Bound(from)}), snapshot.ErrAnew, from)
		}
		require.NoError(t, fails(snapshot.Chunk{Table: table, Limit: 2, From: first.Next}))
		b.exec(t, "ALTER TABLE t DROP PRIMARY KEY, RENAME COLUMN id TO old, RENAME COLUMN w TO id")
		b.exec(t, "UPDATE t SET id = old", "ALTER TABLE t ADD PRIMARY KEY (id)", "ALTER TABLE t MODIFY v VARCHAR(9) NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (id, old)")
		require.ErrorIs(t, fails(snapshot.Chunk{Table: table, Limit: 2, From: first.Next}), snapshot.ErrAnew)
	})
}

// TestSnapshotRefused: a table that the account may not read says which grant is missing.
func TestSnapshotRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY, secret INT)")
		user := "poor_" + b.db[len(b.db)-8:]
		b.exec(t, "CREATE USER "+user+"@'%' IDENTIFIED BY 'poor-password'", "GRANT SELECT ON `"+b.db+"`.t TO "+user+"@'%'",
			"GRANT SELECT (id) ON `"+b.db+"`.u TO "+user+"@'%'")
		t.Cleanup(func() { _, _ = b.sql.ExecContext(context.WithoutCancel(t.Context()), "DROP USER "+user+"@'%'") })
		l := newTestLog(t, user+":poor-password@tcp("+b.srv.Addr()+")/", b.db, "")
		tables, err := l.Snapshots().Tables(t.Context())
		require.NoError(t, err)
		require.Len(t, tables, 2)
		require.NoError(t, tables[0].Refused)
		require.ErrorContains(t, tables[1].Refused, "GRANT SELECT ON `"+b.db+"`.`u` TO '"+user+"'@'%'")
	})
}

// TestSnapshotAppears: a table that comes under a captured name by a rename, or takes rows from elsewhere, is told of; one that is made is
// not: its rows are in the log.
func TestSnapshotAppears(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE orders (id INT PRIMARY KEY)")
		l := b.newLog(t, fmt.Sprintf("tables: {include: [%q, %q]}", b.db+".orders", b.db+".parts"))
		var got []snapshot.Appearance
		l.Snapshots().Notify(func(a snapshot.Appearance) { got = append(got, a) })
		r := start(t, l, checkpoint.Token{}).connected(t)
		b.exec(t, "CREATE TABLE orders_new LIKE orders", "INSERT INTO orders_new VALUES (1)", "RENAME TABLE orders TO orders_old, orders_new TO orders",
			"CREATE TABLE parts (id INT) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (10))", "CREATE TABLE one (id INT)",
			"ALTER TABLE parts EXCHANGE PARTITION p WITH TABLE one", "INSERT INTO orders VALUES (2)")
		r.take(t, 1)
		require.Equal(t, []snapshot.Appearance{
			{Table: b.db + ".orders", Why: "renamed from " + b.db + ".orders_new"}, {Table: b.db + ".parts", Why: "a partition was exchanged for " + b.db + ".one"},
		}, got)
	})
}

// TestSnapshotJSON: MySQL gives documents as text in a query, and in its binary form in the log.
func TestSnapshotJSON(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	b.lax(t)
	docs := []string{
		`JSON_ARRAY(CAST(REPEAT('x', 200) AS BINARY), x'00ff', b'101', ST_GeomFromText('POINT(1 2)'))`,
		`JSON_ARRAY(1e-7, 1e-6, 1.5e-300, 123456789012345678e0, 1e15, 1e16, 1e17, 1e21, 1e22, 0.1e0, 1/3e0, -0e0, 5e-324, 1.7976931348623157e308)`,
		`JSON_ARRAY(CAST(0.10 AS DECIMAL(10,2)), CAST(-12345678901234567890123.5 AS DECIMAL(40,3)), CAST(7 AS DECIMAL(5,0)), 18446744073709551615, -9223372036854775808)`,
		`JSON_OBJECT('k"\\\n', 'ä😀\t/\\', '', JSON_OBJECT('b', NULL, 'aa', TRUE), 'z', JSON_ARRAY())`,
		`JSON_ARRAY(CAST('2024-02-29' AS DATE), CAST('2024-02-29 01:02:03.4' AS DATETIME(1)), CAST('-838:59:59' AS TIME), TIMESTAMP'2024-02-29 00:00:00')`,
		`'"text"'`, `'[[[[]]], {"a": [{"b": [1, {}]}]}]'`, `'7'`, `'null'`, `'{"\\u0001\\u001f\\u007f\\u2028": "\\u0000"}'`, `NULL`,
	}
	b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, j JSON)")
	l := b.newLog(t, "")
	r := start(t, l, checkpoint.Token{}).connected(t)
	for i, d := range docs {
		b.exec(t, fmt.Sprintf("INSERT INTO c VALUES (%d, %s)", i, d))
	}
	streamed := r.take(t, len(docs))
	sameAsStream(t, streamed, asReceived(t, readChunk(t, openReader(t, l), r.tok.Commit, snapshot.Chunk{Table: b.db + ".c", Limit: 100})))
}
