package postgrescdc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestPositionValidity takes sources through what can happen to a server and its log: each goes on exactly, or says that its position
// is lost, and how to go on. Each happens to a source that is stopped meanwhile, and to one that streams until its connection breaks.
func TestPositionValidity(t *testing.T) {
	for _, major := range []string{"14", "15", "16", "17", "18"} {
		t.Run(major, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, server: testenv.StartPostgresOf(t, major, servers.Options{NoSync: true})}
			t.Run("slot and publication", w.meddle)
			t.Run("put back", w.putBack)
		})
	}
}

// world is a server with several subjects.
type world struct {
	t      *testing.T
	server *testenv.PostgresServer
}

// subject is a source on a database of its own.
type subject struct {
	*database
	name  string
	r     *replication
	s     *stream // nil while it is stopped
	rows  int
	saved checkpoint.Token
}

// subjects makes two subjects of each name: one that will be stopped when it happens, and one that will stream.
func (w *world) subjects(t *testing.T, names ...string) map[string][]*subject {
	all := map[string][]*subject{}
	for _, name := range names {
		for range 2 {
			s := &subject{database: newDatabaseOn(t, w.server), name: name}
			s.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE noise (v text)")
			s.r, _ = s.source("tables: {include: [public.item]}")
			s.s = s.run(s.r, checkpoint.Token{})
			all[name] = append(all[name], s)
			s.deliver(1)
		}
	}
	return all
}

// deliver inserts n rows, and saves and confirms the position after them.
func (s *subject) deliver(n int) {
	s.t.Helper()
	for range n {
		s.insert()
	}
	s.s.events(n)
	s.r.Confirm(s.s.last)
	s.saved = s.s.last
	at := s.saved.Commit.(Position).At
	require.Eventually(s.t, func() bool { return s.confirmed(s.r) == at }, waitFor, tick)
}

func (s *subject) insert() {
	s.t.Helper()
	s.rows++
	s.exec(fmt.Sprintf("INSERT INTO item VALUES (%d)", s.rows))
}

// quiet writes what is not captured, and follows until the position is after it.
func (s *subject) quiet() {
	s.t.Helper()
	s.exec("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 100)")
	target, err := lsn.ParseServer(s.queryText("SELECT pg_current_wal_flush_lsn()::text"))
	require.NoError(s.t, err)
	for s.s.last.Commit.(Position).At < target {
		require.Nil(s.t, s.s.next().Rows)
	}
	s.saved = s.s.last
}

// halt ends the subjects' streams: the first one of each name is stopped, the other loses its connection.
func halt(all map[string][]*subject) {
	for _, pair := range all {
		pair[0].s.close()
		pair[0].r, _ = pair[0].source("tables: {include: [public.item]}") // another process
	}
}

// lost starts the subject, which must say that its position is lost, and what else.
func (s *subject) lost(parts ...string) {
	s.t.Helper()
	err := s.begin(s.r, s.saved).fails()
	require.ErrorIs(s.t, err, fault.ErrPositionLost, s.name)
	for _, p := range parts {
		require.ErrorContains(s.t, err, p, s.name)
	}
	require.ErrorContains(s.t, err, "`deltaforge checkpoint reset "+s.database.name+"`", s.name)
	s.rows++
	s.anew(s.r, fmt.Sprintf("INSERT INTO item VALUES (%d)", s.rows), fmt.Sprintf(`c item {"before":null,"after":{"id":%d}}`, s.rows))
}

// exactly starts the subject, which must deliver the rows that were inserted and not delivered, and nothing else.
func (s *subject) exactly(ids ...int) {
	s.t.Helper()
	s.s = s.run(s.r, s.saved)
	var want []string
	for _, id := range ids {
		want = append(want, `c item {"before":null,"after":{"id":`+strconv.Itoa(id)+`}}`)
	}
	require.Equal(s.t, want, shorts(s.t, s.s.events(len(ids))), s.name)
	s.s.close()
}

// meddle has what somebody may do to slot and publication.
func (w *world) meddle(t *testing.T) {
	all := w.subjects(t, "slot dropped", "slot dropped and made again", "slot advanced", "publication dropped and made again", "nothing")
	halt(all)
	for name, pair := range all {
		for i, s := range pair {
			if i == 1 {
				s.exec("SELECT pg_terminate_backend(active_pid, 60000) FROM pg_replication_slots WHERE slot_name = '" + s.r.cfg.slot + "'")
				require.Error(t, s.s.fails())
			}
			slot, publication := publication.Literal(s.r.cfg.slot), publication.Ident(s.r.cfg.publication)
			switch name {
			case "slot dropped":
				s.exec("SELECT pg_drop_replication_slot(" + slot + ")")
				s.insert()
				s.lost("the replication slot "+s.r.cfg.slot+" is gone", "pg_drop_replication_slot(")
			case "slot dropped and made again":
				s.exec("SELECT pg_drop_replication_slot(" + slot + ")")
				s.insert()
				s.exec("SELECT pg_create_logical_replication_slot(" + slot + ", 'pgoutput')")
				s.lost("ahead of the saved position", "was re-created or advanced by someone else")
			case "slot advanced":
				s.insert()
				s.exec("SELECT pg_replication_slot_advance(" + slot + ", pg_current_wal_lsn())")
				s.lost("ahead of the saved position", "was re-created or advanced by someone else")
			case "publication dropped and made again":
				s.exec("DROP PUBLICATION " + publication)
				s.insert()
				s.lost("the publication "+s.r.cfg.publication+" did not exist when the changes after ", "dropped and made again")
			default:
				s.insert()
				s.exactly(2)
			}
		}
	}
}

// putBack gives the server an older state of its disk, then the same by a recovery that ends on another timeline. Its identity stays,
// and its slots.
func (w *world) putBack(t *testing.T) {
	all := w.subjects(t, "ahead", "overtaken", "quiet")
	each := func(f func(s *subject)) {
		for _, pair := range all {
			for _, s := range pair {
				f(s)
			}
		}
	}
	data := filepath.Join(w.server.Dir(), "data")
	each(func(s *subject) { s.s.close() })
	w.swap(all, func() {
		for _, old := range []string{".old", ".recovered"} {
			out, err := exec.Command("cp", "-a", data, data+old).CombinedOutput()
			require.NoError(t, err, string(out))
		}
	})
	each(func(s *subject) {
		s.s = s.run(s.r, s.saved)
		if s.name == "quiet" {
			s.quiet()
		} else {
			s.deliver(20)
		}
	})
	halt(all)

	w.swap(all, func() {
		require.NoError(t, os.Rename(data, data+".new"))
		require.NoError(t, os.Rename(data+".old", data))
	})
	for i, s := range all["quiet"] {
		if i == 1 {
			require.Error(t, s.s.fails())
		}
		s.insert() // where the position says that there is nothing
		s.exactly(2)
	}
	for i, s := range all["ahead"] {
		if i == 1 {
			require.Error(t, s.s.fails())
		}
		s.lost("the server's log ends at ", "put back to an older state", "goes on where the slot "+s.r.cfg.slot+" is on this server")
	}
	all["quiet"][0].exec("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
	for _, name := range []string{"ahead", "overtaken"} {
		for i, s := range all[name] {
			if name == "overtaken" && i == 1 {
				require.Error(t, s.s.fails())
			}
			s.insert()
			s.lost("the server's log does not have the transaction "+strconv.Itoa(int(s.saved.Commit.(Position).XID)),
				"goes on where the slot "+s.r.cfg.slot+" is on this server")
			s.exec("DELETE FROM item WHERE id > 1")
		}
	}

	w.swap(all, func() {
		require.NoError(t, os.Rename(data, data+".old"))
		require.NoError(t, os.Rename(data+".recovered", data))
		out, err := exec.Command("sh", "-c", fmt.Sprintf(`cp -p %[1]s/PG_VERSION %[1]s/recovery.signal && echo "restore_command = 'false'" >> %[1]s/postgresql.auto.conf`, data)).CombinedOutput()
		require.NoError(t, err, string(out))
	})
	for _, s := range all["ahead"] {
		require.Eventually(t, func() bool { return s.queryText("SELECT pg_is_in_recovery()::text") == "false" }, waitFor, tick)
		s.lost("on timeline 1 is after ", "changes were delivered that this server does not have")
	}
	for _, s := range all["quiet"] {
		s.rows = 1
		s.insert()
		s.exactly(2)
	}
}

// swap kills the server, does something to its directory, and starts it again. Killed, it has forgotten confirmations, so that the
// sources have their logs proved.
func (w *world) swap(all map[string][]*subject, between func()) {
	for _, pair := range all {
		for _, s := range pair {
			_ = s.conn.Close(s.t.Context())
		}
	}
	require.NoError(w.t, w.server.Kill())
	between()
	require.NoError(w.t, w.server.Start(w.t.Context()))
	for _, pair := range all {
		for _, s := range pair {
			s.conn = s.connect()
		}
	}
}
