package postgrescdc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// TestChunksByAnyKey reads tables with keys of all kinds in the smallest chunks, and each row again by the key of its event.
func TestChunksByAnyKey(t *testing.T) {
	d := newDatabase(t)
	d.exec(`CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, "CREATE SCHEMA ext", "CREATE EXTENSION citext SCHEMA ext",
		"CREATE TYPE mood AS ENUM ('z', 'b', 'a')", "CREATE DOMAIN code AS varchar(5) CHECK (VALUE <> '')", "CREATE TYPE pair AS (a int, b text)")
	tables := []struct{ name, columns, rows string }{
		{"ints", "id bigint PRIMARY KEY", "(-9223372036854775808), (-1), (0), (7), (9223372036854775807)"},
		{"decimals", "id numeric PRIMARY KEY", "(-1.50), (0), (0.1), (12345678901234567890.5), ('NaN')"},
		{"doubles", "id float8 PRIMARY KEY", "('-Infinity'), (-0.1), (1e300), ('Infinity'), ('NaN')"},
		{"reals", "id real PRIMARY KEY", "(0.1), (3.4028235e38), (16777216)"},
		{"texts", "id text PRIMARY KEY", `(''), ('a'), ('A'), ('ä'), ('a '), (E'"\\{},\n''')`},
		{"folded", "id text COLLATE nocase PRIMARY KEY", "('a'), ('B'), ('c'), ('D')"},
		{"byte_order", `id text COLLATE "C" PRIMARY KEY`, "('a'), ('B'), ('c'), ('D'), ('ä')"},
		{"other_order", `id text NOT NULL`, "('a'), ('B'), ('c'), ('D'), ('ä')"},
		{"citexts", "id ext.citext PRIMARY KEY", "('a'), ('B'), ('c'), ('D')"},
		{"mixed", "id ext.citext, b text, n int, PRIMARY KEY (id, n, b)", "('a', 'x', 1), ('A', 'y', 1), ('A', 'X', 1), ('B', 'x', -1), ('b', 'x', 2), ('C', '', 0)"},
		{"patterns", "id text NOT NULL, n int", "('a', 1), ('B', 2), ('c', 3), ('D', 4), ('ä', 5)"},
		{"padded", "id char(4) PRIMARY KEY", "('a'), ('b'), ('B'), ('abcd'), ('')"},
		{"codes", "id code PRIMARY KEY", "('a'), ('b'), ('B')"},
		{"names", `id name PRIMARY KEY`, "('a'), ('B')"},
		{"letters", `id "char" PRIMARY KEY`, "('a'), ('B'), ('')"},
		{"uuids", "id uuid PRIMARY KEY", "('3e11fa47-71ca-11e1-9e33-c80aa9429562'), ('00000000-0000-0000-0000-000000000000')"},
		{"blobs", "id bytea PRIMARY KEY", `('\x'), ('\x00'), ('\xff00')`},
		{"days", "id date PRIMARY KEY", "('-infinity'), ('0044-03-15 BC'), ('2024-02-29'), ('infinity')"},
		{"stamps", "id timestamptz PRIMARY KEY", "('-infinity'), ('0044-03-15 BC'), ('2024-02-29 13:51:30.123456+02'), ('infinity')"},
		{"locals", "id timestamp(3) PRIMARY KEY", "('-infinity'), ('2024-02-29 13:51:30.12'), ('294276-12-31')"},
		{"times", "id timetz PRIMARY KEY", "('13:51:30.5+05:30'), ('24:00:00+00')"},
		{"spans", "id interval PRIMARY KEY", "('-1 year +3 days -4:05:06.789'), ('0'), ('1 month')"},
		{"moods", "id mood PRIMARY KEY", "('z'), ('b'), ('a')"},
		{"bools", "id bool PRIMARY KEY", "(false), (true)"},
		{"bits", "id bit(1) PRIMARY KEY", "(B'0'), (B'1')"},
		{"bitstrings", "id varbit PRIMARY KEY", "(B''), (B'0'), (B'101')"},
		{"nets", "id inet PRIMARY KEY", "('10.0.0.1/8'), ('::1')"},
		{"ranges", "id int4range PRIMARY KEY", "('empty'), ('[1,5)'), ('(,)')"},
		{"docs", "id jsonb PRIMARY KEY", `('{"a": [1]}'), ('"x"'), ('null')`},
		{"money_", "id money PRIMARY KEY", "(-1.5), (1234.5)"},
		{"oids", "id oid PRIMARY KEY", "(0), (4294967295)"},
		{"pairs", "a int, b text, v text, PRIMARY KEY (b, a)", "(2, 'a', 'x'), (1, 'b', 'y'), (1, 'a', NULL), (-1, 'A', 'z')"},
		{"uniques", "n int, a int NOT NULL, b timestamptz NOT NULL, UNIQUE (a, b)", "(1, 1, '2024-02-29'), (NULL, 1, 'infinity'), (3, -1, 'infinity')"},
		{`"Odd ""name"".x"`, `"k ""1" int, "from" text, PRIMARY KEY ("k ""1", "from")`, "(1, 'a'), (1, 'b'), (2, 'a')"},
		{"arrays", "id int[] PRIMARY KEY", "('{}'), ('{1,NULL}'), ('{1,2}'), ('{{1},{2}}')"},
		{"composites", "id pair PRIMARY KEY", `('(1,a)'), ('(1,"b""")'), ('(2,)')`},
		{"points", "id int PRIMARY KEY, p point", "(1, '(1,2)'), (2, NULL)"},
	}
	for _, c := range tables {
		d.exec("CREATE TABLE " + c.name + " (" + c.columns + ")")
	}
	d.exec(`CREATE UNIQUE INDEX ON other_order (id COLLATE "C")`, `ALTER TABLE uniques REPLICA IDENTITY FULL`, "ALTER TABLE other_order REPLICA IDENTITY FULL",
		"CREATE UNIQUE INDEX ON patterns (id text_pattern_ops)", "ALTER TABLE patterns REPLICA IDENTITY FULL")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	reader := openReader(t, r)
	for _, c := range tables {
		t.Run(c.name, func(t *testing.T) {
			d.exec("INSERT INTO " + c.name + " VALUES " + c.rows)
			n := len(strings.Split(strings.Trim(c.rows, "()"), "), ("))
			want := shorts(t, s.events(n))
			slices.Sort(want)
			table := "public." + strings.ReplaceAll(strings.Trim(c.name, `"`), `""`, `"`)
			for _, limit := range []int{1, 2, 100} {
				events, chunks := readTable(t, reader, snapshot.Chunk{Table: table, Limit: limit})
				got := asInserts(t, events)
				slices.Sort(got)
				require.Equal(t, want, got)
				require.Equal(t, max((n+limit-1)/limit, 1), chunks, "no empty one")
			}
			events, _ := readTable(t, reader, snapshot.Chunk{Table: table, Limit: 100})
			key := func(i int) (values []change.Value) {
				for _, column := range events[i].Table.Key {
					values = append(values, events[i].After()[column])
				}
				return values
			}
			var keys [][]change.Value
			for i := range events {
				keys = append(keys, key(i))
				rows, _ := readChunk(t, reader, snapshot.Chunk{Table: table, Keys: [][]change.Value{key(i)}})
				require.Equal(t, asInserts(t, events[i:i+1]), asInserts(t, rows.Events))
			}
			rows, _ := readChunk(t, reader, snapshot.Chunk{Table: table, Keys: keys})
			got := asInserts(t, rows.Events)
			slices.Sort(got)
			require.Equal(t, want, got)
		})
	}
}

// TestSplit cuts tables into parts that together have all rows, about as many each.
func TestSplit(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE big (a int, b text, PRIMARY KEY (b, a))", "CREATE TABLE small (id int PRIMARY KEY)",
		"CREATE TABLE heap (id int, v text)", "ALTER TABLE heap REPLICA IDENTITY FULL",
		"INSERT INTO big SELECT n % 97, lpad(n::text, 40, 'x') FROM generate_series(1, 60000) n", "INSERT INTO small SELECT generate_series(1, 1000)",
		"INSERT INTO heap SELECT n, repeat('v', 60) FROM generate_series(1, 60000) n", "VACUUM ANALYZE heap")
	r, _ := d.source("")
	d.run(r, checkpoint.Token{})
	reader := openReader(t, r)
	bounds, err := reader.Split(t.Context(), "public.small", 4)
	require.NoError(t, err)
	require.Empty(t, bounds)
	for _, table := range []string{"public.big", "public.heap"} {
		bounds, err := reader.Split(t.Context(), table, 4)
		require.NoError(t, err)
		require.Len(t, bounds, 3)
		seen := map[string]bool{}
		from := snapshot.Bound(nil)
		for i, to := range append(bounds, nil) {
			events, chunks := readTable(t, reader, snapshot.Chunk{Table: table, From: from, To: to, Limit: 5000})
			require.Greater(t, len(events), 3000, "%s: part %d to %s", table, i, to)
			require.Less(t, len(events), 40_000, "%s: part %d to %s", table, i, to)
			require.Greater(t, chunks, len(events)/20_000)
			for _, ev := range events {
				row := string(ev.After()[1].Bytes()) + fmt.Sprint(ev.After()[0].Int())
				require.False(t, seen[row], row)
				seen[row] = true
			}
			from = to
		}
		require.Len(t, seen, 60_000)
	}
}

// TestChunksWithoutKey reads tables that have no order: by pages, or in one transaction where updates are not in the stream.
func TestChunksWithoutKey(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE heap (id int, v text)", "ALTER TABLE heap REPLICA IDENTITY FULL", "CREATE TABLE notes (id int, v text)",
		"CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id)", "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (3000)",
		"CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (3000) TO (9000)", "ALTER TABLE parts REPLICA IDENTITY FULL",
		"ALTER TABLE parts_1 REPLICA IDENTITY FULL", "ALTER TABLE parts_2 REPLICA IDENTITY FULL",
		"CREATE PUBLICATION mine FOR TABLE heap, parts WITH (publish_via_partition_root)", "CREATE PUBLICATION mine_inserts FOR TABLE notes WITH (publish = 'insert, truncate')",
		"COMMENT ON PUBLICATION mine_inserts IS 'made by deltaforge for x'")
	fill := "INSERT INTO %s SELECT n, repeat('v', 100) || n FROM generate_series(1, 5000) n"
	tables := []string{"heap", "notes", "parts"}
	for _, table := range tables {
		d.exec(fmt.Sprintf(fill, table))
	}
	r, _ := d.source("publication: mine\ntables: {include: [public.heap, public.parts]}")
	d.run(r, checkpoint.Token{})
	r.cfg.filter.Include = nil
	reader := openReader(t, r)
	ids := func(events []change.Event) (list []int) {
		for _, ev := range events {
			list = append(list, int(ev.After()[0].Int()))
		}
		slices.Sort(list)
		return list
	}
	var want []int
	for i := range 5000 {
		want = append(want, i+1)
	}
	for _, table := range tables {
		events, chunks := readTable(t, reader, snapshot.Chunk{Table: "public." + table, Limit: 700})
		require.Equal(t, want, ids(events), table)
		require.Greater(t, chunks, 2, table)
	}

	// In one transaction, whatever is changed meanwhile.
	_, err := reader.Begin(t.Context(), "public.notes", Position{})
	require.NoError(t, err)
	rows, err := readRows(reader, snapshot.Chunk{Table: "public.notes", Limit: 1000})
	require.NoError(t, err)
	require.True(t, rows.Held)
	d.exec("UPDATE notes SET id = -id", "INSERT INTO notes VALUES (0, '')")
	all := rows.Events
	for rows.Held {
		rows, err = readRows(reader, snapshot.Chunk{Table: "public.notes", Limit: 1000, From: rows.Next})
		require.NoError(t, err)
		all = append(all, rows.Events...)
	}
	require.Equal(t, want, ids(all))

	// A table that was written anew is read from its beginning.
	rows, _ = readChunk(t, reader, snapshot.Chunk{Table: "public.heap", Limit: 700})
	require.NotNil(t, rows.Next)
	d.exec("DELETE FROM heap WHERE id % 2 = 0", "VACUUM FULL heap")
	rest, _ := readTable(t, reader, snapshot.Chunk{Table: "public.heap", Limit: 700, From: rows.Next})
	require.Len(t, rest, 2500)
	_, err = reader.Begin(context.Background(), "public.gone", Position{})
	require.ErrorIs(t, err, snapshot.ErrGone)
}
