package postgrescdc

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// appearances gathers what a source tells of.
type appearances struct {
	mu   sync.Mutex
	list []snapshot.Appearance // guarded by mu
}

func (a *appearances) hear(one snapshot.Appearance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, one)
}

// next waits for exactly one more.
func (a *appearances) next(t testing.TB) snapshot.Appearance {
	t.Helper()
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.list) > 0
	}, waitFor, tick)
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.list[0]
	a.list = a.list[1:]
	return one
}

// TestAppearances has tables that come under a captured name, of which rows are not in the stream.
func TestAppearances(t *testing.T) {
	d := newDatabase(t)
	user := d.server.UserDSN(d.name)
	d.exec("GRANT CREATE ON SCHEMA public TO deltaforge", "CREATE TABLE order_z (id int PRIMARY KEY, v text)", "ALTER TABLE order_z RENAME TO later",
		"SET ROLE deltaforge", "CREATE TABLE order_a (id int PRIMARY KEY)",
		"CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM (1) TO (100)")
	r, log, err := makeSource(d.name, user, `tables: {include: ["public.order_%", "public.root"]}`+"\nsnapshot: {mode: initial}")
	require.NoError(t, err)
	var heard appearances
	r.Snapshots().Notify(heard.hear)
	s := d.run(r, checkpoint.Token{})

	d.exec("CREATE TABLE order_b (id int PRIMARY KEY)")
	require.Equal(t, snapshot.Appearance{Table: "public.order_b", Why: "made since the last look"}, heard.next(t))
	d.exec("CREATE TABLE copy (id int PRIMARY KEY)", "BEGIN; ALTER TABLE order_a RENAME TO old_a; ALTER TABLE copy RENAME TO order_a; COMMIT")
	require.Contains(t, []string{"another table has the name now", "renamed from public.copy"}, heard.next(t).Why)
	d.exec("ALTER TABLE old_a RENAME TO order_c")
	require.Equal(t, snapshot.Appearance{Table: "public.order_c", Why: "renamed from public.old_a"}, heard.next(t))

	// Partitions that are made are empty; one that is attached may have rows.
	d.exec("CREATE TABLE root_2 PARTITION OF root FOR VALUES FROM (100) TO (200)", "INSERT INTO root VALUES (1), (100)",
		"CREATE TABLE root_3 (id int PRIMARY KEY)", "ALTER TABLE root ATTACH PARTITION root_3 FOR VALUES FROM (200) TO (300)", "INSERT INTO root VALUES (200)",
		"CREATE TABLE root_4 (id int PRIMARY KEY)", "INSERT INTO root_4 VALUES (300)", "ALTER TABLE root ATTACH PARTITION root_4 FOR VALUES FROM (300) TO (400)")
	require.Equal(t, snapshot.Appearance{Table: "public.root", Why: "the partition public.root_4 was attached with rows"}, heard.next(t))
	require.Equal(t, []string{`c root {"before":null,"after":{"id":1}}`, `c root {"before":null,"after":{"id":100}}`, `c root {"before":null,"after":{"id":200}}`}, shorts(t, s.events(3)))
	s.close()

	// While nobody looked.
	d.exec("CREATE TABLE order_d (id int PRIMARY KEY)")
	s = d.run(r, s.last)
	require.Equal(t, snapshot.Appearance{Table: "public.order_d", Why: "made since the last look"}, heard.next(t))

	// The transaction writes before the table is published, and after, and ends after the load has begun.
	d.exec("RESET ROLE", "ALTER TABLE later RENAME TO order_z", "GRANT SELECT ON order_z TO deltaforge")
	open := d.connect()
	_, err = open.Exec(t.Context(), "SET application_name = 'batch job'; BEGIN; INSERT INTO order_z VALUES (1, 'before')")
	require.NoError(t, err)
	d.exec("ALTER PUBLICATION " + r.cfg.publication + " ADD TABLE order_z")
	require.Contains(t, []snapshot.Appearance{ // whether or not a look came between the two
		{Table: "public.order_z", Why: "renamed from public.later"}, {Table: "public.order_z", Why: "added to the publication"},
	}, heard.next(t))
	_, err = open.Exec(t.Context(), "INSERT INTO order_z VALUES (2, 'after')")
	require.NoError(t, err)
	reader := openReader(t, r)
	begun := make(chan error, 1)
	go func() {
		_, err := reader.Begin(t.Context(), "public.order_z", s.last.Commit)
		begun <- err
	}()
	require.Eventually(t, func() bool {
		return containsAll(log.all(), "the table public.order_z can be loaded when the transactions have ended that wrote to it before it was published: waiting for",
			`(user "postgres", application "batch job", state not shown to this role: GRANT pg_read_all_stats), open since ?`)
	}, waitFor, tick)
	select {
	case err := <-begun:
		require.Fail(t, "it did not wait", "%v", err)
	case <-time.After(10 * tick):
	}
	_, err = open.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, <-begun)
	rows, err := readRows(reader, snapshot.Chunk{Table: "public.order_z"})
	require.NoError(t, err)
	require.Equal(t, []string{`c order_z {"before":null,"after":{"id":1,"v":"before"}}`, `c order_z {"before":null,"after":{"id":2,"v":"after"}}`}, asInserts(t, rows.Events))
	require.Equal(t, []string{`c order_z {"before":null,"after":{"id":2,"v":"after"}}`}, shorts(t, s.events(1)), "what was written before is in no stream")
	heard.mu.Lock()
	defer heard.mu.Unlock()
	require.Empty(t, heard.list)
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
