package postgrescdc

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// TestChunksAreWhatIsPublished has tables of which the stream does not have all columns, rows or names.
func TestChunksAreWhatIsPublished(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE partly (secret text, id int PRIMARY KEY, gone int, v text, twice int GENERATED ALWAYS AS (id * 2) STORED)", "ALTER TABLE partly DROP COLUMN gone",
		"CREATE TABLE root (id int, day date, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day)",
		"CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
		"CREATE TABLE root_2 (v text, day date NOT NULL, dropped int, id int NOT NULL)", "ALTER TABLE root_2 DROP COLUMN dropped",
		"ALTER TABLE root ATTACH PARTITION root_2 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
		"CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child (v text, PRIMARY KEY (id)) INHERITS (parent)",
		"CREATE TABLE plain (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
		"CREATE PUBLICATION mine FOR TABLE partly (id, v) WHERE (id % 2 = 1 AND v <> 'x'), root, ONLY parent, child, plain WITH (publish_via_partition_root)",
		"ALTER TABLE partly REPLICA IDENTITY DEFAULT")
	r, _ := d.source("publication: mine")
	// The server refuses updates for such a filter, which is not what this is about.
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO partly SELECT 's', n, CASE WHEN n = 5 THEN 'x' ELSE 'v' END FROM generate_series(1, 9) n",
		"INSERT INTO root SELECT n, date '2024-11-01' + 10 * n, 'v' FROM generate_series(1, 9) n",
		"INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (2, 'v')", "INSERT INTO plain VALUES (1), (2)")
	want := shorts(t, s.events(4+9+4))
	reader := openReader(t, r)
	var got []string
	for _, table := range []string{"partly", "root", "parent", "child", "plain"} {
		events, _ := readTable(t, reader, snapshot.Chunk{Table: "public." + table, Limit: 2})
		got = append(got, asInserts(t, events)...)
	}
	require.Equal(t, want, got)
	events, _ := readTable(t, reader, snapshot.Chunk{Table: "public.root", Limit: 2, Where: "day > '2025-01-01' -- a comment"})
	require.Equal(t, want[4+6:4+9], asInserts(t, events))

	tables, err := r.Snapshots().Tables(t.Context())
	require.NoError(t, err)
	for i := range tables {
		require.Greater(t, tables[i].Rows, int64(100), "the planner's guess")
		tables[i].Rows = 0
	}
	require.Equal(t, []snapshot.Table{
		{Name: "public.child", Key: []string{"id"}},
		{Name: "public.parent", Key: []string{"id"}},
		{Name: "public.partly", Key: []string{"id"}},
		{Name: "public.plain", Key: []string{"id"}},
		{Name: "public.root", Key: []string{"day", "id"}},
	}, tables)
	d.exec("VACUUM ANALYZE")
	tables, err = r.Snapshots().Tables(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int64{1, 1, 9, 2, 9}, []int64{tables[0].Rows, tables[1].Rows, tables[2].Rows, tables[3].Rows, tables[4].Rows})
}

// TestUnreadable has tables that the role may not read, conditions that are none, and a table that goes.
func TestUnreadable(t *testing.T) {
	d := newDatabase(t)
	role := d.name + "_role"
	d.exec("CREATE ROLE " + role + " LOGIN REPLICATION PASSWORD '" + servers.Password + "'")
	t.Cleanup(func() { d.exec("DROP OWNED BY "+role, "DROP ROLE "+role) })
	d.exec("CREATE SCHEMA shop", `CREATE TABLE shop."It's" (id int PRIMARY KEY)`, "CREATE TABLE item (id int PRIMARY KEY, v text)", "CREATE TABLE secured (id int PRIMARY KEY)",
		"ALTER TABLE secured ENABLE ROW LEVEL SECURITY", "CREATE POLICY few ON secured USING (id > 1)", "GRANT SELECT ON secured TO "+role,
		"CREATE TABLE hidden (id int PRIMARY KEY)", "CREATE TABLE heap (v text)", "INSERT INTO item VALUES (1, 'a')", "INSERT INTO secured VALUES (1)",
		"CREATE PUBLICATION mine FOR TABLE item, secured, hidden, shop.\"It's\"")
	dsn := strings.Replace(d.server.UserDSN(d.name), "//"+servers.User+":", "//"+role+":", 1)
	r, _, err := makeSource(d.name, dsn, "publication: mine\ntables: {exclude: [public.heap]}")
	require.NoError(t, err)
	d.run(r, checkpoint.Token{})
	r.cfg.filter.Exclude = nil
	tables, err := r.Snapshots().Tables(t.Context())
	require.NoError(t, err)
	refused := map[string]string{}
	for _, table := range tables {
		if table.Refused != nil {
			refused[table.Name] = table.Refused.Error()
		}
	}
	require.Equal(t, map[string]string{
		"public.heap":    "the table public.heap is not loaded: its changes are not captured, as the log says: it is loaded once they are",
		"public.hidden":  `the role ` + role + ` may not read the table public.hidden: GRANT SELECT ON "public"."hidden" TO "` + role + `"`,
		"public.item":    `the role ` + role + ` may not read the table public.item: GRANT SELECT ON "public"."item" TO "` + role + `"`,
		"public.secured": `row-level security of the table public.secured hides rows from the role ` + role + `: as a superuser, ALTER ROLE "` + role + `" BYPASSRLS`,
		"shop.It's": `the role ` + role + ` may not read the table shop.It's: GRANT USAGE ON SCHEMA "shop" TO "` + role + `"; ` +
			`GRANT SELECT ON "shop"."It's" TO "` + role + `"`,
	}, refused)

	fails := func(c snapshot.Chunk) error {
		t.Helper()
		reader := openReader(t, r)
		defer reader.Close()
		_, err := reader.Begin(t.Context(), c.Table, Position{})
		if err == nil {
			_, err = readRows(reader, c)
		}
		require.Error(t, err)
		require.Equal(t, c.Table, fault.TableOf(err))
		return err
	}
	err = fails(snapshot.Chunk{Table: "public.item"})
	require.Equal(t, fault.KindPermission, fault.KindOf(err))
	require.ErrorContains(t, err, `public.item: `)
	require.ErrorContains(t, err, `permission denied for table item`)
	require.ErrorContains(t, err, `GRANT SELECT ON "public"."item" TO "`+role+`"`)
	err = fails(snapshot.Chunk{Table: "public.secured"})
	require.ErrorContains(t, err, `row-level security`)
	d.exec("GRANT SELECT ON item TO " + role)
	for where, want := range map[string]string{
		"id >":                      `snapshot.where: "id >" is no condition for the rows of the table: `,
		"price > 1":                 `column "price" does not exist`,
		"id = 'x'":                  `invalid input syntax for type integer: "x"`,
		"id":                        `argument of WHERE must be type boolean`,
		"1 / (id - 1) = 1":          `division by zero`,
		"true; DELETE FROM item":    `syntax error`,
		"id IN (SELECT id FROM no)": `relation "no" does not exist`,
	} {
		err := fails(snapshot.Chunk{Table: "public.item", Where: where})
		require.ErrorContains(t, err, "public.item: snapshot.where: ", where)
		require.ErrorContains(t, err, want, where)
	}
	for _, bound := range []string{`{"id text":"x"}`, `{"v integer":"1"}`, `{"id integer":"1","v text":"1"}`, `{}`, `[1]`, `x`, `{"id integer":null}`, `{"files":"x","page":1}`} {
		err := fails(snapshot.Chunk{Table: "public.item", From: snapshot.Bound(bound)})
		require.ErrorIs(t, err, snapshot.ErrAnew, bound)
		require.ErrorContains(t, err, "public.item: the place up to which the table was read is not one of its key", bound)
	}
	require.ErrorIs(t, fails(snapshot.Chunk{Table: "public.no"}), snapshot.ErrGone)
	reader := openReader(t, r)
	readChunk(t, reader, snapshot.Chunk{Table: "public.item"})
	d.exec("DROP TABLE item")
	_, err = reader.Begin(t.Context(), "public.item", Position{})
	require.ErrorIs(t, err, snapshot.ErrGone)
}

// TestAlteredMeanwhile alters a table between the chunks of a load, and while one begins.
func TestAlteredMeanwhile(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TYPE pair AS (a int, b text)", "CREATE TABLE item (id int PRIMARY KEY, p pair)", "INSERT INTO item SELECT n, ROW(n, 'b'::text)::pair FROM generate_series(1, 4) n")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	reader := openReader(t, r)
	first, _ := readChunk(t, reader, snapshot.Chunk{Table: "public.item", Limit: 1})
	second, _ := readChunk(t, reader, snapshot.Chunk{Table: "public.item", Limit: 1, From: first.Next})
	require.Same(t, first.Events[0].Table, second.Events[0].Table, "a shape that is the same is the same")
	d.exec("ALTER TABLE item ADD COLUMN v int DEFAULT 7")
	third, _ := readChunk(t, reader, snapshot.Chunk{Table: "public.item", Limit: 1, From: second.Next})
	require.Equal(t, []string{`c item {"before":null,"after":{"id":3,"p":{"a":3,"b":"b"},"v":7}}`}, asInserts(t, third.Events))
	d.exec("ALTER TYPE pair ADD ATTRIBUTE c int")
	fourth, _ := readChunk(t, reader, snapshot.Chunk{Table: "public.item", Limit: 1, From: third.Next})
	require.Equal(t, []string{`c item {"before":null,"after":{"id":4,"p":{"a":4,"b":"b","c":null},"v":7}}`}, asInserts(t, fourth.Events))
	d.exec("INSERT INTO item VALUES (5, ROW(5, 'b', 6))")
	sameRow(t, s.events(1)[0], messagesOf(func() []change.Event {
		e, _ := readTable(t, reader, snapshot.Chunk{Table: "public.item", Where: "id = 5"})
		return e
	}())[0])

	// The table is written anew by a transaction that ends after the chunk has come. It is not empty then.
	open := d.connect()
	tx, err := open.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "ALTER TABLE item ALTER COLUMN v TYPE text USING v::text")
	require.NoError(t, err)
	begun := make(chan error, 1)
	go func() {
		_, err := reader.Begin(t.Context(), "public.item", Position{})
		begun <- err
	}()
	require.Eventually(t, func() bool {
		return d.queryText("SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 'item'::regclass") == "1"
	}, waitFor, tick)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-begun)
	rows, err := readRows(reader, snapshot.Chunk{Table: "public.item", Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1,"p":{"a":1,"b":"b","c":null},"v":"7"}}`,
		`c item {"before":null,"after":{"id":2,"p":{"a":2,"b":"b","c":null},"v":"7"}}`,
	}, asInserts(t, rows.Events))

	// One that takes longer is not waited for.
	tx, err = open.BeginTx(t.Context(), pgx.TxOptions{})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE item")
	require.NoError(t, err)
	_, err = reader.Begin(t.Context(), "public.item", Position{})
	require.ErrorContains(t, err, "public.item: the table is being altered, or somebody waits to alter it")
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = reader.Begin(t.Context(), "public.item", Position{})
	require.ErrorContains(t, err, "it has failed", "a reader that has failed is not used again")
}
