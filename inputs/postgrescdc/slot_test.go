package postgrescdc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestSlotWaits has transactions open when the slot is to be made: an ordinary one and a prepared one. The log and the reason say which.
func TestSlotWaits(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true, Args: []string{"max_prepared_transactions=5"}}))
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "BEGIN; INSERT INTO item VALUES (1); PREPARE TRANSACTION 'it''s'")
	open := d.connect()
	_, err := open.Exec(t.Context(), "SET application_name = 'batch job'; BEGIN; INSERT INTO item VALUES (2)")
	require.NoError(t, err)
	r, log := d.source("")
	what, _ := r.Waiting()
	require.Empty(t, what)
	s := d.begin(r, checkpoint.Token{})
	waits := func(text string) {
		t.Helper()
		require.Eventually(t, func() bool {
			what, since := r.Waiting()
			return strings.Contains(what, text) && !since.IsZero() && strings.Contains(log.all(), "warn "+what)
		}, waitFor, tick, "%s\n%s", text, log.all())
	}
	pid := open.PgConn().PID()
	// The server waits for one after the other, in an order of its own.
	require.Eventually(t, func() bool { what, _ := r.Waiting(); return what != "" }, waitFor, tick)
	what, _ = r.Waiting()
	ends := []func(){
		func() {
			waits(fmt.Sprintf("waiting for the transaction of the server process %d (user \"postgres\", application \"batch job\", idle in transaction), open since ", pid))
			waits(fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
			_, err = open.Exec(t.Context(), "COMMIT")
			require.NoError(t, err)
		},
		func() {
			waits(`waiting for the prepared transaction "it's": COMMIT PREPARED 'it''s' or ROLLBACK PREPARED 'it''s'`)
			d.exec("COMMIT PREPARED 'it''s'")
		},
	}
	if strings.Contains(what, "prepared") {
		ends[0], ends[1] = ends[1], ends[0]
	}
	for _, end := range ends {
		end()
	}
	require.NotNil(t, s.next().Commit)
	what, _ = r.Waiting()
	require.Empty(t, what)
}

// TestLeftovers drops what a source has made, and nothing else.
func TestLeftovers(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE PUBLICATION other FOR TABLE item")
	r, _ := d.source("")
	made := func() string {
		return d.queryText(`SELECT concat_ws(' ', (SELECT string_agg(slot_name, ' ') FROM pg_replication_slots WHERE database = current_database()),
			(SELECT string_agg(pubname, ' ' ORDER BY pubname) FROM pg_publication))`)
	}
	slot := plane.Leftover{
		What: "the replication slot " + r.cfg.slot + " in the database " + d.name + ", for which the server keeps its log",
		How:  "SELECT pg_drop_replication_slot('" + r.cfg.slot + "')",
	}
	left, err := r.Leftovers(t.Context(), true)
	require.NoError(t, err)
	require.Empty(t, left, "nothing was made")
	s := d.run(r, checkpoint.Token{})
	require.Equal(t, r.cfg.slot+" "+r.cfg.slot+" "+r.cfg.slot+"_inserts other", made())
	left, err = r.Leftovers(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, []plane.Leftover{slot}, left)
	left, err = r.Leftovers(t.Context(), true)
	require.ErrorContains(t, err, "dropping the replication slot "+r.cfg.slot)
	require.Equal(t, fault.KindConnect, fault.KindOf(err), "it is in use")
	require.Equal(t, []plane.Leftover{slot}, left)
	s.close()
	require.Eventually(t, func() bool { left, err = r.Leftovers(t.Context(), true); return err == nil }, waitFor, tick)
	slot.Dropped = true
	require.Equal(t, []plane.Leftover{
		slot,
		{What: "the publication " + r.cfg.slot, How: `DROP PUBLICATION "` + r.cfg.slot + `"`, Dropped: true},
		{What: "the publication " + r.cfg.slot + "_inserts", How: `DROP PUBLICATION "` + r.cfg.slot + `_inserts"`, Dropped: true},
	}, left)
	require.Equal(t, "other", made())
	r, _, err = makeSource(d.name, "postgres://u@127.0.0.1:1/db", "")
	require.NoError(t, err)
	left, err = r.Leftovers(t.Context(), true)
	require.Equal(t, fault.KindConnect, fault.KindOf(err))
	require.Len(t, left, 1)
	require.False(t, left[0].Dropped)
}

// TestMemory is what a slot says of an earlier run, to a source that has no position.
func TestMemory(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, log := d.source("")
	memory, err := r.Remember(t.Context())
	require.NoError(t, err)
	require.Zero(t, memory)
	s := d.run(r, checkpoint.Token{})
	start := s.last.Commit.(Position).At
	require.Contains(t, log.all(), "info created the replication slot "+r.cfg.slot+", which starts at "+start.String()+": the rows that the tables hold already are not read")
	d.exec("INSERT INTO item VALUES (1)")
	s.events(1)
	s.close()
	r, log = d.source("") // whose store has lost everything
	memory, err = r.Remember(t.Context())
	require.NoError(t, err)
	require.Equal(t, coordinator.Memory{
		Trace: fmt.Sprintf("the replication slot %q is there, and has confirmed %s", r.cfg.slot, start), Resume: Position{At: start},
	}, memory)
	s = d.run(r, checkpoint.Token{Commit: memory.Resume})
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1}}`}, shorts(t, s.events(1)))
	s.close()
	require.NotContains(t, log.all(), "not read")
	lost := r.memoryOf(&slotRow{Type: "logical", Confirmed: "0/1", WALStatus: "lost"})
	require.Equal(t, coordinator.Memory{
		Trace: fmt.Sprintf("the replication slot %q is there, and the server has invalidated it", r.cfg.slot),
		Way:   "SELECT pg_drop_replication_slot('" + r.cfg.slot + "')",
	}, lost)
	require.Zero(t, r.memoryOf(&slotRow{Type: "physical"}))
}

// TestProbeLag asks a server for its end while nothing is read.
func TestProbeLag(t *testing.T) {
	d := newDatabase(t)
	r, _ := d.source("")
	r.Confirm(checkpoint.Token{Commit: Position{At: 1}})
	_, ok := r.LagBytes()
	require.False(t, ok)
	require.NoError(t, r.ProbeLag(t.Context()))
	before, ok := r.LagBytes()
	require.True(t, ok)
	require.Positive(t, before)
	d.exec("SELECT pg_logical_emit_message(true, 'x', repeat('x', 10000))")
	require.Eventually(t, func() bool {
		require.NoError(t, r.ProbeLag(t.Context()))
		now, _ := r.LagBytes()
		return now >= before+10000
	}, waitFor, tick)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	require.Error(t, r.ProbeLag(ctx))
}
