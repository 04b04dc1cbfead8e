package postgrescdc

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestConnectionTest(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	const tables = "tables: {include: [public.item, public.it%]}"
	made := func() string {
		return d.queryText("SELECT (SELECT count(*) FROM pg_publication)::text || (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())::text")
	}
	r, log := d.source(tables)
	require.NoError(t, r.Test(t.Context()))
	require.Equal(t, "00", made(), "a test has made something")
	require.Empty(t, log.all())

	// Beside a session that runs.
	s := d.run(r, checkpoint.Token{})
	require.NoError(t, r.Test(t.Context()))
	d.exec("INSERT INTO item VALUES (1)")
	s.events(1)
	s.close()

	r, _ = d.source("tables: {include: [public.item, public.gone, no.where, public.order_*, public.pre%]}")
	err := r.Test(t.Context())
	require.Equal(t, fault.KindSchema, fault.KindOf(err))
	require.EqualError(t, err, "tables.include: there is no table public.gone: correct its name, or make it\n"+
		"tables.include: there is no table no.where: correct its name, or make it\n"+
		"tables.include: public.order_*: no table matches: inside of a name, % stands for any characters, and * for itself: write public.order_%\n"+
		"tables.include: public.pre%: no table matches: correct the pattern, or make a table")

	r, _, err = makeSource(d.name, "postgres://nobody:hunter2-sesame@"+host(t, d.dsn)+"/"+d.name, tables)
	require.NoError(t, err)
	err = r.Test(t.Context())
	require.Equal(t, fault.KindAuth, fault.KindOf(err), err)
	require.NotContains(t, err.Error(), "hunter2-sesame")
}

func TestConnectionTestOfUnfitServer(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true, Args: []string{"wal_level=replica"}}))
	r, _ := d.source("tables: {include: [public.item]}")
	err := r.Test(t.Context())
	require.ErrorContains(t, err, "ALTER SYSTEM SET wal_level = 'logical'")
	require.ErrorContains(t, err, "there is no table public.item")
}

func host(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	return u.Host
}
