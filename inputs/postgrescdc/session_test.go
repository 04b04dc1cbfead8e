package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestConfirmOnlyWhatIsSaved samples the slot: it never passes what was confirmed, and reaches it.
func TestConfirmOnlyWhatIsSaved(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("status_interval: 100ms")
	s := d.run(r, checkpoint.Token{})
	start := s.last.Commit.(Position).At
	for i := range 5 {
		d.exec(fmt.Sprintf("INSERT INTO item VALUES (%d)", i))
		s.events(1)
		for range 5 {
			require.LessOrEqual(t, d.confirmed(r), start, "nothing is saved since then")
			time.Sleep(50 * time.Millisecond)
		}
		r.Confirm(s.last)
		start = s.last.Commit.(Position).At
		require.Eventually(t, func() bool { return d.confirmed(r) == start }, waitFor, tick)
	}
	r.Confirm(checkpoint.Token{Commit: Position{At: 1}}) // a late confirmation of an old session
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, start, d.confirmed(r))
}

// TestIdleSlotAdvances writes to a table that is not captured: the position moves with the server's log, and the end of
// the log is announced.
func TestIdleSlotAdvances(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE noise (v text)")
	r, _ := d.source("tables: {include: [public.item]}\nstatus_interval: 200ms")
	s := d.run(r, checkpoint.Token{})
	// A transaction that stays open after the position must not be lost by it.
	long := d.connect()
	for _, sql := range []string{"BEGIN", "INSERT INTO item VALUES (1)"} {
		_, err := long.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	d.exec("INSERT INTO noise SELECT repeat('x', 100) FROM generate_series(1, 1000)")
	target, err := lsn.ParseServer(d.queryText("SELECT pg_current_wal_flush_lsn()::text"))
	require.NoError(t, err)
	follow := func() (caughtUp bool) {
		seg := s.next()
		require.Nil(t, seg.Rows)
		r.Confirm(s.last)
		return seg.CaughtUp
	}
	for caughtUp := false; !caughtUp || s.last.Commit.(Position).At < target; {
		caughtUp = follow()
	}
	require.Eventually(t, func() bool { return d.confirmed(r) >= target }, waitFor, tick)
	for deadline := time.Now().Add(waitFor); ; follow() { // others write to the server's log, too
		lag, ok := r.LagBytes()
		if ok && lag < 10_000 {
			break
		}
		require.True(t, time.Now().Before(deadline), "%d bytes behind (%v)", lag, ok)
	}
	s.close()
	s = d.run(r, s.last)
	_, err = long.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1}}`}, shorts(t, s.events(1)))
}

// TestBlockedSink keeps out blocked for longer than the server waits for a sign of life.
func TestBlockedSink(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true, Args: []string{"wal_sender_timeout=6s"}}))
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)")
	r, _ := d.source("status_interval: 1s\nread_timeout: 8s")
	s := d.run(r, checkpoint.Token{})
	// More than the socket buffers hold, so that the server is blocked too.
	const n = 60000
	d.exec(fmt.Sprintf("INSERT INTO item SELECT g, repeat('x', 500) FROM generate_series(1, %d) g", n))
	time.Sleep(10 * time.Second)
	require.Len(t, s.events(n), n)
	s.close()
	require.ErrorIs(t, s.err, context.Canceled)
}

// TestCloseFreesTheSlot ends a Run in the middle of a large transaction.
func TestCloseFreesTheSlot(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO item SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g")
	for seg := s.next(); seg.Rows == nil; seg = s.next() {
	}
	began := time.Now()
	s.close()
	require.Less(t, time.Since(began), catalog.CloseTimeout+waitFor)
	require.Eventually(t, func() bool {
		return d.queryText("SELECT active::text FROM pg_replication_slots WHERE slot_name = $1", r.cfg.slot) == "false"
	}, waitFor, tick)
	s = d.run(r, s.last) // at once again
	s.close()
	require.ErrorIs(t, s.err, context.Canceled)
}

func proxied(t *testing.T, d *database) (*testenv.Proxy, string) {
	t.Helper()
	u, err := url.Parse(d.dsn)
	require.NoError(t, err)
	p := testenv.NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// TestHalfOpen notices a connection that is silent without having ended.
func TestHalfOpen(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	proxy, dsn := proxied(t, d)
	r, _, err := makeSource(d.name, dsn, "status_interval: 200ms\nread_timeout: 5s")
	require.NoError(t, err)
	s := d.run(r, checkpoint.Token{})
	proxy.Blackhole()
	for {
		select {
		case seg := <-s.out:
			s.follow(seg)
			continue
		case <-s.done:
		case <-time.After(waitFor):
			require.Fail(t, "the silence was not noticed")
		}
		break
	}
	require.Equal(t, fault.KindTimeout, fault.KindOf(s.err), "%v", s.err)
	proxy.Pass()
	proxy.Cut()
	d.exec("INSERT INTO item VALUES (1)")
	require.Eventually(t, func() bool {
		return d.queryText("SELECT active::text FROM pg_replication_slots WHERE slot_name = $1", r.cfg.slot) == "false"
	}, waitFor, tick)
	s = d.run(r, s.last)
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1}}`}, shorts(t, s.events(1)))
	proxy.Cut()
	select {
	case <-s.done:
	case <-time.After(waitFor):
		require.Fail(t, "the end of the connection was not noticed")
	}
}

func TestPositionLost(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO item VALUES (1)")
	s.events(1)
	saved := s.last
	s.close()
	lost := func(from checkpoint.Token, parts ...string) {
		t.Helper()
		s := d.begin(r, from)
		err := s.fails()
		require.ErrorIs(t, err, fault.ErrPositionLost)
		require.Equal(t, fault.KindPositionLost, fault.KindOf(err))
		for _, p := range parts {
			assert.ErrorContains(t, err, p)
		}
	}
	other := saved
	id, _, _ := strings.Cut(saved.Source, "/")
	other.Source = "123/1"
	lost(other, "system identifier 123", id)
	other.Source = id + "/9"
	lost(other, "timeline 9")

	slot := r.cfg.slot
	d.exec("SELECT pg_drop_replication_slot('" + slot + "')")
	lost(saved, slot, "is gone", saved.Commit.(Position).At.String(), "`deltaforge checkpoint reset "+d.name+"`")
	require.Equal(t, "0", d.queryText("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1", slot),
		"a slot was made although a position is saved")
	d.exec("SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')", "INSERT INTO item VALUES (2)")
	lost(saved, slot, "re-created or advanced", saved.Commit.(Position).At.String())
}

// TestInvalidatedSlot lets the server throw the log away that the slot needs.
func TestInvalidatedSlot(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true, Args: []string{
		"max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB",
	}}))
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE noise (v text)")
	r, _ := d.source("tables: {include: [public.item]}")
	s := d.run(r, checkpoint.Token{})
	s.close()
	for range 4 {
		d.exec("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000)", "SELECT pg_switch_wal()", "CHECKPOINT")
	}
	require.Equal(t, "lost", d.queryText("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", r.cfg.slot))
	err := d.begin(r, s.last).fails()
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, "max_slot_wal_keep_size")
	d.anew(r, "INSERT INTO item VALUES (7)", `c item {"before":null,"after":{"id":7}}`)
}

// TestAdoptedSlot starts where somebody else's slot is.
func TestAdoptedSlot(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE item",
		"SELECT pg_create_logical_replication_slot('"+d.name+"', 'pgoutput')", "INSERT INTO item VALUES (1)")
	r, log := d.source("slot: " + d.name + "\npublication: p\ncreate_slot: false\ncreate_publication: false")
	s := d.run(r, checkpoint.Token{})
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1}}`}, shorts(t, s.events(1)))
	require.Empty(t, log.all())
}

// TestYoungPublication has changes in the slot that are older than the publication.
func TestYoungPublication(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "SELECT pg_create_logical_replication_slot('"+d.name+"', 'pgoutput')",
		"INSERT INTO item VALUES (1)", "CREATE PUBLICATION p FOR TABLE item")
	r, _ := d.source("slot: " + d.name + "\npublication: p")
	s := d.run(r, checkpoint.Token{})
	err := s.fails()
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, "the publication p did not exist when the changes after ")
	d.anew(r, "INSERT INTO item VALUES (2)", `c item {"before":null,"after":{"id":2}}`)
}

// anew has a source begin anew after a lost position: at the end of the log, and with all that comes after it. What was saved of the old log is not taken for a place in
// the new one, and until something of that is saved the slot stays where it is.
func (d *database) anew(r *replication, statement, want string) {
	d.t.Helper()
	// A server without synchronous commits moves a slot no further than what is on its disk.
	committed := d.queryText("SELECT pg_current_wal_insert_lsn()::text")
	require.Eventually(d.t, func() bool {
		return d.queryText("SELECT (pg_current_wal_flush_lsn() >= '"+committed+"')::text") == "true"
	}, waitFor, tick)
	end := d.queryText("SELECT pg_current_wal_flush_lsn()::text")
	for range 2 { // the process may end after the first
		require.NoError(d.t, r.Renew(d.t.Context()))
	}
	require.Zero(d.t, r.confirmed.Load())
	s := d.run(r, checkpoint.Token{})
	first := s.last.Commit.(Position)
	require.Equal(d.t, "true", d.queryText("SELECT ($1::pg_lsn >= $2::pg_lsn)::text", first.At.String(), end), "not what was lost")
	d.exec(statement)
	require.Equal(d.t, []string{want}, shorts(d.t, s.events(1)))
	require.Equal(d.t, uint64(0), r.confirmed.Load())
	r.Confirm(checkpoint.Token{Commit: first})
	require.Equal(d.t, uint64(first.At), r.confirmed.Load())
	s.close()
}

func TestPreflight(t *testing.T) {
	d := newDatabase(t)
	user, err := url.Parse(d.server.UserDSN(d.name))
	require.NoError(t, err)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE second (id int PRIMARY KEY)",
		"CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE part_1 PARTITION OF part DEFAULT",
		"CREATE TABLE loose (a text)", "CREATE PUBLICATION lacking FOR TABLE item", "CREATE PUBLICATION leaves FOR TABLE part",
		"SELECT pg_create_physical_replication_slot('"+d.name+"_phys')",
		"SELECT pg_create_logical_replication_slot('"+d.name+"_test', 'test_decoding')",
		"SELECT pg_create_logical_replication_slot('"+d.name+"_busy', 'pgoutput')")
	elsewhere := newDatabase(t)
	elsewhere.exec("SELECT pg_create_logical_replication_slot('" + d.name + "_db', 'pgoutput')")
	plain := d.name + "_plain"
	d.exec("CREATE ROLE "+plain+" LOGIN PASSWORD '"+servers.Password+"'", "REVOKE CREATE ON DATABASE "+d.name+" FROM PUBLIC")
	t.Cleanup(func() { d.exec("DROP ROLE " + plain) })
	t.Cleanup(func() { d.exec("SELECT pg_drop_replication_slot('" + d.name + "_phys')") })
	busy, _ := d.source("slot: " + d.name + "_busy\npublication: lacking\ntables: {include: [public.item]}")
	d.run(busy, checkpoint.Token{})
	plainDSN := *user
	plainDSN.User = url.UserPassword(plain, servers.Password)
	wrong := *user
	wrong.User = url.UserPassword(user.User.Username(), "s3cret-wrong")

	for _, c := range []struct {
		name, dsn, yaml string
		kind            fault.Kind
		want            []string
	}{
		{"password", wrong.String(), "", fault.KindAuth, []string{"password authentication failed"}},
		{"role", plainDSN.String(), "tables: {include: [public.item]}", fault.KindPermission, []string{
			"role " + plain + " may not replicate: ALTER ROLE \"" + plain + "\" REPLICATION",
			"may not create the publication", "GRANT CREATE ON DATABASE", `FOR TABLE ONLY "public"."item"`,
		}},
		{"owner", user.String(), "tables: {include: [public.item]}", fault.KindPermission, []string{
			`does not own "public"."item"`, `CREATE PUBLICATION "deltaforge_` + d.name + `" FOR TABLE ONLY "public"."item"`,
		}},
		{"identity", d.dsn, "tables: {include: [public.loose]}", fault.KindSchema, []string{
			"no replica identity", "refuse the application's updates", `ALTER TABLE "public"."loose" REPLICA IDENTITY FULL`, "tables.exclude",
			`CREATE PUBLICATION "deltaforge_` + d.name + `" FOR TABLE ONLY "public"."loose"`,
		}},
		{"owner of all", user.String(), "", fault.KindPermission, []string{
			`ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; CREATE PUBLICATION "deltaforge_` + d.name + `" FOR TABLE ONLY "public"."item", ONLY "public"."loose"`,
		}},
		{"table", d.dsn, "publication: lacking\ntables: {include: [public.item, public.second]}", fault.KindSchema, []string{
			`publication lacking lacks "public"."second": ALTER PUBLICATION "lacking" ADD TABLE ONLY "public"."second"`,
		}},
		{"leaves", d.dsn, "publication: leaves\ntables: {include: [public.part]}", fault.KindSchema, []string{
			`ALTER PUBLICATION "leaves" SET (publish_via_partition_root = true)`,
		}},
		{"physical", d.dsn, "slot: " + d.name + "_phys", fault.KindOther, []string{"is physical", "want logical with pgoutput"}},
		{"plugin", d.dsn, "slot: " + d.name + "_test", fault.KindOther, []string{`the plugin "test_decoding", want logical with pgoutput`}},
		{"database", d.dsn, "slot: " + d.name + "_db", fault.KindOther, []string{"belongs to the database " + elsewhere.name}},
		{"busy", d.dsn, "slot: " + d.name + "_busy", fault.KindConnect, []string{"is in use by the server process ", "pg_terminate_backend("}},
		{"no slot", d.dsn, "create_slot: false", fault.KindOther, []string{"create_slot is off: SELECT pg_create_logical_replication_slot("}},
		{"no publication", d.dsn, "create_publication: false", fault.KindOther, []string{"create_publication is off: ALTER TABLE \"public\".\"loose\" REPLICA IDENTITY FULL; CREATE PUBLICATION"}},
		{"all at once", d.dsn, "create_slot: false\ncreate_publication: false", fault.KindOther, []string{"create_slot", "create_publication"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, err := makeSource(d.name, c.dsn, c.yaml)
			require.NoError(t, err)
			err = r.Run(t.Context(), checkpoint.Token{}, make(chan coordinator.Segment))
			require.Error(t, err)
			assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
			for _, want := range c.want {
				assert.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "s3cret-wrong")
			require.NotErrorIs(t, err, fault.ErrPositionLost)
		})
	}
	require.Equal(t, "0", d.queryText("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1", "deltaforge_"+d.name),
		"a slot was made although a check failed")
}

// TestServerSettings needs a server with settings that no source can work with.
func TestServerSettings(t *testing.T) {
	server := testenv.StartPostgres(t, servers.Options{NoSync: true, Args: []string{"wal_level=replica", "max_replication_slots=0", "max_wal_senders=0"}})
	r, _, err := makeSource("x", server.DSN("postgres"), "")
	require.NoError(t, err)
	err = r.Run(t.Context(), checkpoint.Token{}, nil)
	for _, want := range []string{
		"ALTER SYSTEM SET wal_level = 'logical'", "ALTER SYSTEM SET max_replication_slots = 10", "ALTER SYSTEM SET max_wal_senders = 10",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestConnectRefused(t *testing.T) {
	r, _, err := makeSource("x", "postgres://u:s3cret@127.0.0.1:1/db", "")
	require.NoError(t, err)
	err = r.Run(t.Context(), checkpoint.Token{}, nil)
	require.Equal(t, fault.KindConnect, fault.KindOf(err))
	require.NotContains(t, err.Error(), "s3cret")
}

func TestTLS(t *testing.T) {
	server := testenv.StartPostgres(t, servers.Options{NoSync: true, TLS: true})
	d := newDatabaseOn(t, server)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("tls: {enabled: true, skip_cert_verify: true}")
	s := d.run(r, checkpoint.Token{})
	require.Eventually(t, func() bool { // those of the checks before may be on their way out
		return d.queryText(`SELECT string_agg(s.ssl::text, ' ') FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
			WHERE a.application_name = 'deltaforge'`) == "true true true"
	}, waitFor, tick)
	d.exec("INSERT INTO item SELECT g FROM generate_series(1, 5000) g")
	require.Len(t, s.events(5000), 5000)
	s.close()

	strict, _ := d.source("tls: {enabled: true}")
	err := strict.Run(t.Context(), checkpoint.Token{}, nil)
	require.ErrorContains(t, err, "certificate")
	require.Equal(t, fault.KindConnect, fault.KindOf(err))
}

// TestRunEnds cancels at every stage.
func TestRunEnds(t *testing.T) {
	d := newDatabase(t)
	r, _ := d.source("")
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), after, errors.New("enough"))
		began := time.Now()
		err := r.Run(ctx, checkpoint.Token{}, make(chan coordinator.Segment))
		cancel()
		require.Error(t, err)
		require.Less(t, time.Since(began), after+waitFor)
	}
	var conns string
	require.Eventually(t, func() bool {
		err := d.conn.QueryRow(context.Background(), "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'deltaforge' "+
			"AND datname = $1", pgx.QueryExecModeExec, d.name).Scan(&conns)
		return err == nil && conns == "0"
	}, waitFor, tick, "connections are left: %s", conns)
}
