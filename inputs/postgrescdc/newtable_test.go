package postgrescdc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// TestNewTables has tables that come under a captured name while the source streams: made, swapped, dropped and made again, attached and
// detached. Each is in the stream within seconds, and the log names it and the position from which on it is.
func TestNewTables(t *testing.T) {
	d := newDatabase(t)
	user := d.server.UserDSN(d.name)
	d.exec("GRANT CREATE ON SCHEMA public TO deltaforge", "SET ROLE deltaforge")
	d.exec("CREATE TABLE order_a (id int PRIMARY KEY)", "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)",
		"CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM (1) TO (100)")
	r, log, err := makeSource(d.name, user, `tables: {include: ["public.order_%", "public.root", "public.part_%"]}`)
	require.NoError(t, err)
	s := d.run(r, checkpoint.Token{})
	require.Contains(t, log.all(), "warn tables.include: public.part_%: no table matches")

	news := func(table string, n int) {
		t.Helper()
		text := "the table public." + table + " is new under its name: its changes are captured from "
		require.Eventually(t, func() bool { return strings.Count(log.all(), text) == n }, waitFor, tick, "%s\n%s", text, log.all())
	}
	is := func(want ...string) {
		t.Helper()
		require.Equal(t, want, shorts(t, s.events(len(want))))
	}
	d.exec("CREATE TABLE order_b (id int PRIMARY KEY)", "INSERT INTO order_b VALUES (1)") // too early, as the warning says
	news("order_b", 1)
	d.exec("INSERT INTO order_b VALUES (2)")
	is(`c order_b {"before":null,"after":{"id":2}}`)

	d.exec("CREATE TABLE copy (id int PRIMARY KEY)", "BEGIN; ALTER TABLE order_a RENAME TO old_a; ALTER TABLE copy RENAME TO order_a; COMMIT")
	news("order_a", 1)
	d.exec("INSERT INTO old_a VALUES (1)", "INSERT INTO order_a VALUES (3)", "UPDATE order_a SET id = 4")
	is(`c order_a {"before":null,"after":{"id":3}}`, `u order_a {"before":{"id":3},"after":{"id":4}}`)

	d.exec("BEGIN; DROP TABLE order_a; CREATE TABLE order_a (id int PRIMARY KEY); COMMIT")
	news("order_a", 2)
	d.exec("INSERT INTO order_a VALUES (5)")
	is(`c order_a {"before":null,"after":{"id":5}}`)

	d.exec("CREATE TABLE part_x (id int PRIMARY KEY)")
	news("part_x", 1)
	d.exec("INSERT INTO part_x VALUES (150)", "ALTER TABLE root ATTACH PARTITION part_x FOR VALUES FROM (100) TO (200)", "INSERT INTO root VALUES (151)")
	is(`c part_x {"before":null,"after":{"id":150}}`, `c root {"before":null,"after":{"id":151}}`)
	d.exec("ALTER TABLE root DETACH PARTITION part_x", "INSERT INTO part_x VALUES (152)")
	is(`c part_x {"before":null,"after":{"id":152}}`)
	d.exec("ALTER TABLE root DETACH PARTITION root_1", "ALTER TABLE root_1 RENAME TO part_y")
	news("part_y", 1)
	d.exec("INSERT INTO part_y VALUES (1)")
	is(`c part_y {"before":null,"after":{"id":1}}`)

	d.exec("ALTER PUBLICATION "+r.cfg.publication+" DROP TABLE order_b", "INSERT INTO order_b VALUES (3)")
	require.Eventually(t, func() bool {
		return strings.Contains(log.all(), "somebody has taken the table public.order_b out of the publication")
	}, waitFor, tick)
	news("order_b", 2)
	d.exec("INSERT INTO order_b VALUES (4)")
	is(`c order_b {"before":null,"after":{"id":4}}`)
	s.close()

	// While nobody was there to notice.
	d.exec("CREATE TABLE order_c (id int PRIMARY KEY)", "INSERT INTO order_c VALUES (1)")
	s = d.run(r, s.last)
	news("order_c", 1)
	d.exec("INSERT INTO order_c VALUES (2)", "DROP PUBLICATION "+r.cfg.publication)
	assert.Equal(t, []string{`c order_c {"before":null,"after":{"id":2}}`}, shorts(t, s.events(1)))
	require.ErrorIs(t, s.fails(), errPublicationChanged)
}

// TestNewTablesFromTheBeginning needs a role that may publish what does not exist yet: nothing of a new table is missing.
func TestNewTablesFromTheBeginning(t *testing.T) {
	for include, target := range map[string]string{"": "FOR ALL TABLES", "tables: {include: [public.*]}": `FOR TABLES IN SCHEMA "public"`} {
		d := newDatabase(t)
		d.exec("CREATE TABLE a (id int PRIMARY KEY)")
		r, log := d.source(include)
		s := d.run(r, checkpoint.Token{})
		require.Contains(t, log.all(), "_inserts "+target)
		d.exec("INSERT INTO a VALUES (1)", "CREATE TABLE nw (id int PRIMARY KEY)", "INSERT INTO nw VALUES (1)", "TRUNCATE nw", "INSERT INTO a VALUES (2)")
		require.Equal(t, []string{
			`c a {"before":null,"after":{"id":1}}`, `c nw {"before":null,"after":{"id":1}}`, `t nw {"before":null,"after":null}`,
			`c a {"before":null,"after":{"id":2}}`,
		}, shorts(t, s.events(4)))
		require.Eventually(t, func() bool {
			return strings.Contains(log.all(), "the table public.nw is new under its name: its updates and deletes are captured from ")
		}, waitFor, tick)
		d.exec("INSERT INTO nw VALUES (2)", "UPDATE nw SET id = 3")
		require.Equal(t, []string{`c nw {"before":null,"after":{"id":2}}`, `u nw {"before":{"id":2},"after":{"id":3}}`}, shorts(t, s.events(2)))
		s.close()
		s = d.run(r, s.last)
		d.exec("CREATE TABLE nw2 (id int PRIMARY KEY)", "INSERT INTO nw2 VALUES (1)")
		require.Equal(t, []string{`c nw2 {"before":null,"after":{"id":1}}`}, shorts(t, s.events(1)))
		s.close()
	}
}
