package postgrescdc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestRefusedByServer publishes tables of every kind, writes to them and to everything below, and compares what the server refuses with
// what publication.Refused says. Then it does what that advises, after which nothing may be refused.
func TestRefusedByServer(t *testing.T) {
	t.Run("installed", func(t *testing.T) { refusedByServer(t, newDatabase(t)) })
	t.Run("18", func(t *testing.T) {
		refusedByServer(t, newDatabaseOn(t, testenv.StartPostgresOf(t, "18", servers.Options{NoSync: true})))
	})
}

func refusedByServer(t *testing.T, d *database) {
	var version int
	require.NoError(t, d.conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version))
	type kind struct {
		name, setup string
		write       []string // the tables that a write may go to; what comes later last
		later       string
	}
	kinds := []kind{
		{"key", "CREATE TABLE t (a int PRIMARY KEY, b int)", []string{"t"}, ""},
		{"deferrable key", "CREATE TABLE t (a int PRIMARY KEY DEFERRABLE, b int)", []string{"t"}, ""},
		{"none", "CREATE TABLE t (a int, b int)", []string{"t"}, ""},
		{"unique", "CREATE TABLE t (a int UNIQUE NOT NULL, b int)", []string{"t"}, ""},
		{"nothing", "CREATE TABLE t (a int PRIMARY KEY, b int); ALTER TABLE t REPLICA IDENTITY NOTHING", []string{"t"}, ""},
		{"full", "CREATE TABLE t (a int, b int); ALTER TABLE t REPLICA IDENTITY FULL", []string{"t"}, ""},
		{"index", "CREATE TABLE t (a int NOT NULL, b int); CREATE UNIQUE INDEX x ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX x", []string{"t"}, ""},
		{
			"index that is gone", "CREATE TABLE t (a int NOT NULL, b int); CREATE UNIQUE INDEX x ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX x; DROP INDEX x",
			[]string{"t"},
			"",
		},
		{
			"index that is gone, with a key",
			"CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL); CREATE UNIQUE INDEX x ON t (b); ALTER TABLE t REPLICA IDENTITY USING INDEX x; DROP INDEX x",
			[]string{"t"},
			"",
		},
		{"unlogged", "CREATE UNLOGGED TABLE t (a int, b int)", []string{"t"}, ""},
		{"inherited", "CREATE TABLE t (a int PRIMARY KEY, b int); CREATE TABLE t_child () INHERITS (t)", []string{"t", "t_child"}, ""},
		{
			"partitions", "CREATE TABLE t (a int PRIMARY KEY, b int) PARTITION BY RANGE (a); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (2)",
			[]string{"t_1", "t_2"},
			"CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (2) TO (3)",
		},
		{
			"partitions without a key", "CREATE TABLE t (a int, b int) PARTITION BY RANGE (a); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (2); " +
				"ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t_1 REPLICA IDENTITY FULL",
			[]string{"t_1", "t_2"},
			"CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (2) TO (3)",
		},
		{
			"a partition of another identity", "CREATE TABLE t (a int PRIMARY KEY, b int) PARTITION BY RANGE (a); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (2); " +
				"ALTER TABLE t_1 REPLICA IDENTITY NOTHING", []string{"t_1"}, "",
		},
		{
			"partitions of partitions", "CREATE TABLE t (a int, b int) PARTITION BY RANGE (a); CREATE TABLE t_m PARTITION OF t FOR VALUES FROM (1) TO (5) PARTITION BY RANGE (a); " +
				"CREATE TABLE t_1 PARTITION OF t_m FOR VALUES FROM (1) TO (2)", []string{"t_1"}, "",
		},
		{"generated", "CREATE TABLE t (a int PRIMARY KEY, b int, c int GENERATED ALWAYS AS (a + 1) STORED)", []string{"t"}, ""},
		{
			"full with a generated column", "CREATE TABLE t (a int PRIMARY KEY, b int, c int GENERATED ALWAYS AS (a + 1) STORED); ALTER TABLE t REPLICA IDENTITY FULL",
			[]string{"t"},
			"",
		},
		{"none with a generated column", "CREATE TABLE t (a int, b int, c int GENERATED ALWAYS AS (a + 1) STORED)", []string{"t"}, ""},
		{"generated key", "CREATE TABLE t (a int, b int, c int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)", []string{"t"}, ""},
	}
	if version >= 180000 {
		kinds = append(kinds, kind{"virtual", "CREATE TABLE t (a int, b int, c int GENERATED ALWAYS AS (a + 1)); ALTER TABLE t REPLICA IDENTITY FULL", []string{"t"}, ""})
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d.exec("BEGIN; DROP SCHEMA IF EXISTS k CASCADE; CREATE SCHEMA k; DROP PUBLICATION IF EXISTS p; COMMIT", "SET search_path = k", k.setup)
			c := &publication.Config{Name: "p", Create: true, Filter: &publication.Filter{}}
			st, err := c.Look(t.Context(), d.conn, version)
			require.NoError(t, err)
			wanted := c.Filter.Choose(st.Tables)
			refused := publication.Refused(version, st.Tables, wanted, false)
			var published, mends []string
			later := false
			said := map[string]bool{}
			for _, w := range wanted {
				published = append(published, "ONLY "+w.SQL())
			}
			for _, r := range refused {
				said[r.Table.Table] = true
				later = later || r.Why == publication.Later
				if r.Mend != "" {
					mends = append(mends, r.Mend)
				}
			}
			create := "CREATE PUBLICATION p"
			if len(published) > 0 {
				create += " FOR TABLE " + strings.Join(published, ", ")
			}
			d.exec(create + " WITH (publish_via_partition_root = true)")
			if k.later != "" {
				d.exec(k.later)
				said[k.write[len(k.write)-1]] = later
			}
			for _, table := range k.write {
				assert.Equal(t, said[table], d.refuses(table), "%s: %v", table, refused)
			}
			for _, m := range mends {
				d.exec(m)
			}
			for _, table := range k.write {
				hopeless := false
				for _, r := range refused {
					hopeless = hopeless || r.Mend == ""
				}
				assert.False(t, d.refuses(table) && !hopeless, "%s after %v", table, mends)
			}
		})
	}
}

// refuses reports whether the server refuses to update or delete rows of a table.
func (d *database) refuses(table string) bool {
	d.t.Helper()
	refused := 0
	for _, sql := range []string{"UPDATE ONLY " + table + " SET b = 1", "DELETE FROM ONLY " + table} {
		if _, err := d.conn.Exec(d.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			pg, ok := asPgError(err)
			require.True(d.t, ok && (pg.Code == "55000" || pg.Code == "42P10"), "%v", err)
			refused++
		}
	}
	require.Contains(d.t, []int{0, 2}, refused)
	return refused == 2
}

// TestNoWriteIsRefused has applications that write to tables of every kind, made before the source starts and while it runs, and does what
// the source's own errors say.
func TestNoWriteIsRefused(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (a int PRIMARY KEY, b int)")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("CREATE TABLE work AS SELECT 1 AS a, 1 AS b", "UPDATE work SET b = 2", "DELETE FROM work", "ALTER TABLE item ADD c int")
	d.exec("CREATE TABLE child () INHERITS (item)", "INSERT INTO child VALUES (1, 1)", "UPDATE item SET b = 2")
	require.Eventually(t, func() bool {
		return strings.Contains(log.all(), "of public.work only inserts and truncates are captured")
	}, waitFor, tick)
	require.Equal(t, []string{`c work {"before":null,"after":{"a":1,"b":1}}`, `c child {"before":null,"after":{"a":1,"b":1,"c":null}}`}, shorts(t, s.events(2)))
	d.exec("UPDATE work SET b = 2", "UPDATE child SET b = 2", "DROP TABLE child")
	d.exec(`ALTER TABLE "public"."work" REPLICA IDENTITY FULL`) // as the warning says
	require.Eventually(t, func() bool {
		return strings.Contains(log.all(), "the table public.work is new under its name: its updates and deletes are captured from ")
	}, waitFor, tick)
	d.exec("INSERT INTO work VALUES (2, 2)", "UPDATE work SET b = 3 WHERE a = 2")
	require.Equal(t, []string{`c work {"before":null,"after":{"a":2,"b":2}}`, `u work {"before":{"a":2,"b":2},"after":{"a":2,"b":3}}`}, shorts(t, s.events(2)))
	s.close()

	// The three ways to hand out statements: each is run as it stands, and no write is refused.
	d.exec("CREATE TABLE ev (a int, b int) PARTITION BY RANGE (a)", "CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (1) TO (2)",
		"CREATE TABLE di (a int NOT NULL, b int)", "CREATE UNIQUE INDEX diu ON di (a)", "ALTER TABLE di REPLICA IDENTITY USING INDEX diu", "DROP INDEX diu")
	for i, c := range []struct{ dsn, yaml string }{
		{d.dsn, "create_publication: false"}, {d.server.UserDSN(d.name), "tables: {include: [public.*]}"}, {d.dsn, "tables: {include: [public.di, public.ev]}"},
	} {
		name := fmt.Sprintf("%s_%d", d.name, i)
		r, _, err := makeSource(name, c.dsn, c.yaml)
		require.NoError(t, err)
		err = r.Run(t.Context(), checkpoint.Token{}, make(chan coordinator.Segment))
		require.Error(t, err)
		text := err.Error()
		n := 0
		for statement := range strings.SplitSeq(text[strings.Index(text, "ALTER TABLE"):], "; ") {
			_, create, found := strings.Cut(statement, "CREATE PUBLICATION")
			switch {
			case strings.HasPrefix(statement, "ALTER TABLE"):
				d.exec(statement)
			case found:
				d.exec("CREATE PUBLICATION" + create)
				n++
			}
		}
		require.Equal(t, 1, n, text)
		for _, table := range []string{"ev_1", "di", "work", "item"} {
			require.False(t, d.refuses(table), "%s after %s", table, text)
		}
		d.exec("CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (2) TO (3)")
		require.False(t, d.refuses("ev_2"), text)
		d.exec("DROP TABLE ev_2", "DROP PUBLICATION "+publication.Ident("deltaforge_"+name), "ALTER TABLE di REPLICA IDENTITY DEFAULT", "ALTER TABLE ev_1 REPLICA IDENTITY DEFAULT")
	}
}
