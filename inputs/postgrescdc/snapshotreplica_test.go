package postgrescdc

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/dsn"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/snapshot"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// readFrom is a source whose chunks are read from another server.
func (d *database) readFrom(replica string) (*replication, *testLog) {
	d.t.Helper()
	r, log := d.source("")
	var err error
	r.cfg.replica, err = dsn.Parse(replica)
	require.NoError(d.t, err)
	r.chunks = r.newChunks(r.schemas.Settings)
	return r, log
}

// TestReplica reads chunks from a standby that is late, and has others refused that are none of the source.
func TestReplica(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartPostgres(t, servers.Options{NoSync: true}))
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)", "INSERT INTO item VALUES (1, 'old')", "ALTER ROLE postgres IN DATABASE "+d.name+" SET search_path = ''")
	standby := testenv.StartPostgresReplica(t, d.server, servers.Options{NoSync: true})
	r, log := d.readFrom(standby.DSN(d.name))
	replica := &database{t: t, name: d.name, dsn: standby.DSN(d.name), server: standby}
	replica.conn = replica.connect()
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO public.item VALUES (2, 'seen')")
	seen := s.events(1)
	reader := openReader(t, r)
	rows, v := readItem(t, reader, s.last.Commit)
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1,"v":"old"}}`, `c item {"before":null,"after":{"id":2,"v":"seen"}}`}, rows)
	require.True(t, v.Sees(txOf(t, seen[0])))
	for !v.Reached(s.last.Commit) {
		require.Nil(t, s.next().Rows)
	}
	sameRow(t, seen[0], messagesOf(func() []change.Event {
		e, _ := readTable(t, reader, snapshot.Chunk{Table: "public.item"})
		return e[1:]
	}())[0])

	// The standby is late: what it does not have is not seen, whatever the stream has.
	begun := s.last.Commit
	replica.exec("SELECT pg_wal_replay_pause()")
	require.Eventually(t, func() bool { return replica.queryText("SELECT pg_get_wal_replay_pause_state()") == "paused" }, waitFor, tick)
	d.exec("UPDATE public.item SET v = 'new' WHERE id = 1")
	late := s.events(1)
	rows, v = readItem(t, reader, begun)
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1,"v":"old"}}`, `c item {"before":null,"after":{"id":2,"v":"seen"}}`}, rows)
	require.False(t, v.Sees(txOf(t, late[0])))
	require.True(t, v.Sees(txOf(t, seen[0])))

	// A load that begins after it waits for it.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	other := openReader(t, r)
	_, err := other.Begin(ctx, "public.item", s.last.Commit)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, ": its replay is paused: SELECT pg_wal_replay_resume()")
	require.Contains(t, log.all(), "warn the standby that the snapshot is read from has replayed the log up to ")
	replica.exec("SELECT pg_wal_replay_resume()")
	rows, v = readItem(t, reader, s.last.Commit)
	require.Equal(t, `c item {"before":null,"after":{"id":1,"v":"new"}}`, rows[0])
	require.True(t, v.Sees(txOf(t, late[0])))

	refused := func(dsn, want string) {
		t.Helper()
		r, _ := d.readFrom(dsn)
		_, err := r.Snapshots().Open(t.Context())
		require.ErrorContains(t, err, "snapshot.dsn: "+want)
		require.ErrorContains(t, err, "name a physical standby of the server that dsn names")
	}
	refused(standby.DSN("postgres"), "the database is postgres, that of the source is "+d.name)
	other2 := testenv.StartPostgres(t, servers.Options{NoSync: true})
	_, err = other2.Pool(t, "").Exec(t.Context(), "CREATE DATABASE "+d.name)
	require.NoError(t, err)
	refused(other2.DSN(d.name), "the server has the system identifier ")
	// The primary itself may be named.
	same, _ := d.readFrom(d.dsn)
	openReader(t, same).Close()
	replica.exec("SELECT pg_promote()")
	_, err = reader.Begin(t.Context(), "public.item", s.last.Commit)
	require.Error(t, err)
	refused(standby.DSN(d.name), "the server takes writes of its own, so it is no replica any more")
}
