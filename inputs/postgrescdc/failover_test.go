package postgrescdc

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestFailOver takes sources from a primary to its standby. Until the standby is promoted they wait. Then one whose slot the standby has goes on exactly, one that has
// read more than the standby has says that its position is lost, and so does one whose slot stayed on the primary. A source that has read from the standby itself
// goes on there.
func TestFailOver(t *testing.T) {
	for _, version := range []string{"17", "18"} {
		t.Run(version, func(t *testing.T) { failOver(t, version) })
	}
}

func failOver(t *testing.T, version string) {
	primary := testenv.StartPostgresOf(t, version, servers.Options{NoSync: true})
	d := newDatabaseOn(t, primary)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE noise (v text)", "SELECT pg_create_physical_replication_slot('standby')")
	exactly, ahead, left := newSubject(d, "exactly", true), newSubject(d, "ahead", true), newSubject(d, "left", false)
	// This one is not made anew: its address is given to the standby.
	address, dsn := proxied(t, d)
	through := *d
	through.dsn = dsn
	streaming := newSubject(&through, "streaming", true)
	subjects := []*subject{exactly, ahead, left, streaming}
	standby := testenv.StartPostgresReplica(t, primary, servers.Options{NoSync: true, Args: []string{
		"primary_slot_name=standby", "sync_replication_slots=on", "hot_standby_feedback=on",
	}})
	now := &database{t: t, name: d.name, dsn: standby.DSN(d.name), server: standby}
	now.conn = now.connect()

	exactly.deliver(2)
	for _, s := range subjects[1:] {
		s.s.events(2)
	}
	// A standby keeps a slot when the primary's has moved to after what the standby can read.
	require.Eventually(t, func() bool {
		d.exec("SELECT pg_log_standby_snapshot()")
		for _, s := range subjects {
			s.quiet()
			s.r.Confirm(s.saved)
		}
		return now.queryText("SELECT count(*)::text FROM pg_replication_slots WHERE synced AND NOT temporary") == "3"
	}, waitFor, tick, "the slots on the standby")
	reader := readFromStandby(t, d, now)

	for _, s := range subjects {
		s.s.events(2)
		s.saved = s.s.last
	}
	exactly.s.close()
	exactly.insert() // the standby has it, and the source has not
	require.Eventually(t, func() bool { return now.queryText("SELECT max(id)::text FROM item WHERE id < 50") == "3" }, waitFor, tick)
	for _, s := range subjects[1:] {
		s.s.events(1)
		s.saved = s.s.last
	}
	now.exec("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()") // it gets no more
	require.Eventually(t, func() bool { return now.queryText("SELECT count(*)::text FROM pg_stat_wal_receiver") == "0" }, waitFor, tick)
	at, err := url.Parse(now.dsn)
	require.NoError(t, err)
	address.Redirect(at.Host)
	require.Error(t, streaming.s.fails())
	exactly.insert()
	ahead.s.events(1)
	ahead.saved = ahead.s.last
	require.NoError(t, primary.Kill())

	for _, s := range subjects[:3] {
		s.s.close()
		s.database = now
		s.r, _ = s.source("slot: " + s.r.cfg.slot + "\npublication: " + s.r.cfg.publication + "\ntables: {include: [public.item]}")
	}
	for _, s := range []*subject{exactly, streaming} {
		err := s.begin(s.r, s.saved).fails()
		require.NotErrorIs(t, err, fault.ErrPositionLost)
		require.ErrorContains(t, err, "the server is a standby, and has the replication slot "+s.name+" from its primary: waiting until it is promoted")
		require.Equal(t, fault.KindConnect, fault.KindOf(err))
	}
	now.exec("SELECT pg_promote()", "INSERT INTO item VALUES (100)")
	exactly.exactly(3, 100)
	streaming.exactly(100)
	reader.exactly(3, 100)
	err = ahead.begin(ahead.r, ahead.saved).fails()
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, "where the server left that timeline when it was promoted: changes were delivered that this server does not have")
	err = left.begin(left.r, left.saved).fails()
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, "the replication slot left is gone")
}

// newSubject is a source with a slot of its own name, which the server gives to its standbys or not.
func newSubject(d *database, name string, failover bool) *subject {
	s := &subject{database: d, name: name}
	if !failover {
		d.exec("SELECT pg_create_logical_replication_slot('" + name + "', 'pgoutput')")
	}
	s.r, _ = d.source("slot: " + name + "\npublication: " + name + "\ntables: {include: [public.item]}")
	s.s = d.run(s.r, checkpoint.Token{})
	return s
}

// readFromStandby has a source that reads the log of the standby. What it would have to write is said, with the place where to write it.
func readFromStandby(t *testing.T, primary, standby *database) *subject {
	t.Helper()
	const yaml = "slot: reader\npublication: reader\ntables: {include: [public.item]}"
	r, _ := standby.source(yaml)
	err := standby.begin(r, checkpoint.Token{}).fails()
	require.ErrorContains(t, err, `the server is a standby, which takes no statements that write: run on its primary: CREATE PUBLICATION "reader" FOR TABLE`)
	primary.exec("CREATE PUBLICATION reader FOR TABLE ONLY item WITH (publish_via_partition_root = true)")
	require.Eventually(t, func() bool {
		return standby.queryText("SELECT count(*)::text FROM pg_publication WHERE pubname = 'reader'") == "1"
	}, waitFor, tick)
	r, _ = standby.source(yaml)
	what, err := r.blocker(t.Context(), standby.conn.PgConn().PID())
	require.NoError(t, err)
	assert.Equal(t, "the server is a standby: the replication slot reader can only be made when the transactions that are open on its primary have ended, and the primary has "+
		"written that to its log; an idle primary does that when it is told to: SELECT pg_log_standby_snapshot()", what)
	s := standby.begin(r, checkpoint.Token{})
	stop := make(chan struct{})
	told := make(chan error, 1)
	conn := primary.connect()
	go func() { told <- tell(conn, stop) }()
	require.NotNil(t, s.next().Commit)
	close(stop)
	require.NoError(t, <-told)
	primary.exec("INSERT INTO item VALUES (50)")
	require.Equal(t, []string{`c item {"before":null,"after":{"id":50}}`}, shorts(t, s.events(1)))
	s.close()
	// And after a restart.
	primary.exec("INSERT INTO item VALUES (51)")
	r, _ = standby.source(yaml)
	again := standby.run(r, s.last)
	require.Equal(t, []string{`c item {"before":null,"after":{"id":51}}`}, shorts(t, again.events(1)))
	again.close()
	r, _ = standby.source(yaml)
	return &subject{database: standby, name: "reader", r: r, saved: again.last}
}

// tell has a primary say again and again which transactions are open.
func tell(conn *pgx.Conn, stop chan struct{}) error {
	for {
		if _, err := conn.Exec(context.Background(), "SELECT pg_log_standby_snapshot()"); err != nil {
			return fmt.Errorf("telling the primary: %w", err)
		}
		select {
		case <-stop:
			return nil
		case <-time.After(tick):
		}
	}
}
