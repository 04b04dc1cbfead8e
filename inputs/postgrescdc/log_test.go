package postgrescdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // what a stream is made of
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestInsertUpdateDeleteTruncate(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10,2))", "CREATE TABLE other (id int PRIMARY KEY)")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec(
		"INSERT INTO item VALUES (1, 'a', 10), (2, 'b', NULL)",
		"UPDATE item SET price = 12.5 WHERE id = 1",
		"UPDATE item SET id = 3 WHERE id = 2",
		"BEGIN; INSERT INTO item VALUES (9); ROLLBACK",
		"DELETE FROM item WHERE id = 1",
		"TRUNCATE item, other",
	)
	batch := s.events(7)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1,"name":"a","price":"10.00"}}`,
		`c item {"before":null,"after":{"id":2,"name":"b","price":null}}`,
		`u item {"before":null,"after":{"id":1,"name":"a","price":"12.50"}}`,
		`u item {"before":{"id":2},"after":{"id":3,"name":"b","price":null}}`,
		`d item {"before":{"id":1},"after":null}`,
		`t item {"before":null,"after":null}`,
		`t other {"before":null,"after":null}`,
	}, shorts(t, batch))
	keys := make([]string, len(batch))
	for i, m := range batch {
		keys[i], _ = m.MetaGet(change.MetaKey)
	}
	require.Equal(t, []string{`{"id":1}`, `{"id":2}`, `{"id":1}`, `{"id":3}`, `{"id":1}`, ``, ``}, keys)
	assert.Contains(t, log.all(), "created the publication")
	assert.Contains(t, log.all(), "created the replication slot")
}

// TestWholeEvent compares one event to its last byte; what the server chose is put in from the server.
func TestWholeEvent(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("BEGIN; INSERT INTO item VALUES (1, 'a'); INSERT INTO item VALUES (2, 'b'); COMMIT")
	m := s.events(2)[1]
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	xid := d.queryText("SELECT xmin::text FROM item WHERE id = 2")
	got, err := m.AsBytes()
	require.NoError(t, err)
	us := ev.Tx.CommitTime.UnixMicro()
	micros := ""
	if us%1000 != 0 {
		micros = fmt.Sprintf(`,"ts_us":%d`, us)
	}
	require.Equal(t, fmt.Sprintf(`{"before":null,"after":{"id":2,"name":"b"},"source":{"version":"test","connector":"postgresql",`+
		`"name":%q,"ts_ms":%d%s,"snapshot":"false","db":%q,"schema":"public","table":"item","txId":%s,"lsn":%d},"op":"c",`+
		`"ts_ms":%d,"transaction":{"id":"%s","total_order":2},"event_id":"%s:2","tenant_id":null,"schema_version":"%s"}`,
		d.name, ev.Tx.CommitTime.UnixMilli(), micros, d.name, xid, ev.LSN, ev.ReadAt.UnixMilli(), xid, ev.Tx.Position,
		ev.Table.Fingerprint()), string(got))
	require.Less(t, ev.LSN, uint64(s.last.Commit.(Position).At))
	tracked := d.queryText("SELECT (now() - to_timestamp($1::float8 / 1e6) BETWEEN '0' AND '1 minute')::text", us)
	require.Equal(t, "true", tracked)
}

func TestReplicaIdentities(t *testing.T) {
	d := newDatabase(t)
	d.exec(
		"CREATE TABLE full_ (id int PRIMARY KEY, a text, b text)", "ALTER TABLE full_ REPLICA IDENTITY FULL",
		"CREATE TABLE using_ (id int PRIMARY KEY, a text NOT NULL, b text)", "CREATE UNIQUE INDEX using_a ON using_ (a)",
		"ALTER TABLE using_ REPLICA IDENTITY USING INDEX using_a",
		"CREATE TABLE nothing (id int PRIMARY KEY, a text)", "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
		"CREATE TABLE keyless (a text, b int)", "ALTER TABLE keyless REPLICA IDENTITY FULL",
		"CREATE TABLE uniq (b int, a int NOT NULL UNIQUE)",
		"CREATE PUBLICATION mine FOR ALL TABLES", // we would not make one that forbids updates of nothing and uniq
	)
	r, log := d.source("publication: mine")
	s := d.run(r, checkpoint.Token{})
	d.exec(
		"INSERT INTO full_ VALUES (1, 'x', NULL)", "UPDATE full_ SET b = 'y'", "DELETE FROM full_",
		"INSERT INTO using_ VALUES (1, 'x', 'y')", "UPDATE using_ SET a = 'z'", "UPDATE using_ SET id = 2", "DELETE FROM using_",
		"INSERT INTO nothing VALUES (1, 'x')",
		"INSERT INTO keyless VALUES ('k', 1)", "DELETE FROM keyless",
		"INSERT INTO uniq VALUES (1, 2)",
	)
	batch := s.events(11)
	require.Equal(t, []string{
		`c full_ {"before":null,"after":{"id":1,"a":"x","b":null}}`,
		`u full_ {"before":{"id":1,"a":"x","b":null},"after":{"id":1,"a":"x","b":"y"}}`,
		`d full_ {"before":{"id":1,"a":"x","b":"y"},"after":null}`,
		`c using_ {"before":null,"after":{"id":1,"a":"x","b":"y"}}`,
		`u using_ {"before":{"a":"x"},"after":{"id":1,"a":"z","b":"y"}}`,
		`u using_ {"before":null,"after":{"id":2,"a":"z","b":"y"}}`,
		`d using_ {"before":{"a":"z"},"after":null}`,
		`c nothing {"before":null,"after":{"id":1,"a":"x"}}`,
		`c keyless {"before":null,"after":{"a":"k","b":1}}`,
		`d keyless {"before":{"a":"k","b":1},"after":null}`,
		`c uniq {"before":null,"after":{"b":1,"a":2}}`,
	}, shorts(t, batch))
	for i, want := range map[int]string{0: `{"id":1}`, 3: `{"id":1}`, 5: `{"id":2}`, 6: ``, 7: `{"id":1}`, 8: ``, 10: `{"a":2}`} {
		key, _ := batch[i].MetaGet(change.MetaKey)
		assert.Equal(t, want, key, "key of event %d", i)
	}
	assert.Contains(t, log.all(), `ALTER TABLE "public"."nothing" REPLICA IDENTITY FULL`)
	assert.NotContains(t, log.all(), `ALTER TABLE "public"."keyless"`)
}

func TestUnchangedToast(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE part (id int PRIMARY KEY, n int, big text)", "ALTER TABLE part ALTER big SET STORAGE EXTERNAL",
		"CREATE TABLE whole (id int PRIMARY KEY, n int, big text)", "ALTER TABLE whole ALTER big SET STORAGE EXTERNAL",
		"ALTER TABLE whole REPLICA IDENTITY FULL")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO part VALUES (1, 1, repeat('x', 10000))", "UPDATE part SET n = 2",
		"INSERT INTO whole VALUES (1, 1, repeat('x', 10000))", "UPDATE whole SET n = 2")
	big := strings.Repeat("x", 10000)
	require.Equal(t, []string{
		`c part {"before":null,"after":{"id":1,"n":1,"big":"` + big + `"}}`,
		`u part {"before":null,"after":{"id":1,"n":2,"big":{"_unchanged":true}}}`,
		`c whole {"before":null,"after":{"id":1,"n":1,"big":"` + big + `"}}`,
		`u whole {"before":{"id":1,"n":1,"big":"` + big + `"},"after":{"id":1,"n":2,"big":"` + big + `"}}`,
	}, shorts(t, s.events(4)))
}

func TestPartitionedTable(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE ev (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
		"CREATE TABLE ev_2024 PARTITION OF ev FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
		"CREATE TABLE ev_2025 PARTITION OF ev FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')")
	r, _ := d.source(`tables: {include: ["public.ev"]}`)
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO ev VALUES (1, '2024-05-01')", "UPDATE ev SET day = '2025-05-01'", "DELETE FROM ev")
	batch := s.events(4)
	require.Equal(t, []string{
		`c ev {"before":null,"after":{"id":1,"day":"2024-05-01"}}`,
		`d ev {"before":{"id":1,"day":"2024-05-01"},"after":null}`, // a row that moves is a delete and an insert
		`c ev {"before":null,"after":{"id":1,"day":"2025-05-01"}}`,
		`d ev {"before":{"id":1,"day":"2025-05-01"},"after":null}`,
	}, shorts(t, batch))
	key, _ := batch[0].MetaGet(change.MetaKey)
	require.Equal(t, `{"id":1,"day":"2024-05-01"}`, key)
}

func TestLogicalMessages(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("BEGIN; INSERT INTO item VALUES (1); SELECT pg_logical_emit_message(true, 'in', 'a\\x'); COMMIT",
		"SELECT pg_logical_emit_message(false, 'out', 'b')", "INSERT INTO item VALUES (2)")
	batch := s.events(4)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1}}`,
		`m message {"before":null,"after":{"prefix":"in","content":{"_base64":"YVx4"}}}`,
		`m message {"before":null,"after":{"prefix":"out","content":{"_base64":"Yg=="}}}`,
		`c item {"before":null,"after":{"id":2}}`,
	}, shorts(t, batch))
	// Each event id is unique, and the message outside of transactions is on its own.
	ids := map[string]bool{}
	for _, m := range batch {
		id, _ := m.MetaGet(change.MetaEventID)
		ids[id] = true
	}
	require.Len(t, ids, 4)
	require.True(t, strings.HasSuffix(must(batch[2].MetaGet(change.MetaEventID)), ":1"))

	off, _ := d.source("messages: false")
	s.close()
	s2 := d.run(off, s.last)
	d.exec("BEGIN; SELECT pg_logical_emit_message(true, 'in', 'a'); INSERT INTO item VALUES (3); COMMIT",
		"SELECT pg_logical_emit_message(false, 'out', 'b')", "INSERT INTO item VALUES (4)")
	batch = s2.events(2)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":3}}`, `c item {"before":null,"after":{"id":4}}`,
	}, shorts(t, batch))
	require.True(t, strings.HasSuffix(must(batch[0].MetaGet(change.MetaEventID)), ":2"), "filtered messages count in the transaction")
}

// How long tests wait for the server to have done something, and how often they look.
const (
	waitFor = time.Minute
	tick    = 20 * time.Millisecond
)

func must(s string, _ bool) string { return s }

func TestFilters(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE SCHEMA shop", "CREATE TABLE shop.orders (id int PRIMARY KEY)", "CREATE TABLE shop.tmp_x (id int PRIMARY KEY)",
		"CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE event_a (id int PRIMARY KEY)")
	r, _ := d.source(`tables: {include: ["shop.*", "public.event_%"], exclude: ["%.tmp_%"]}`)
	s := d.run(r, checkpoint.Token{})
	require.Equal(t, "event_a orders", d.queryText("SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables"))
	d.exec("CREATE TABLE shop.later (id int PRIMARY KEY)")
	d.exec("INSERT INTO item VALUES (1)", "INSERT INTO shop.tmp_x VALUES (1)", "INSERT INTO event_a VALUES (1)",
		"INSERT INTO shop.orders VALUES (1)")
	require.Equal(t, []string{`c event_a {"before":null,"after":{"id":1}}`, `c orders {"before":null,"after":{"id":1}}`}, shorts(t, s.events(2)))
	s.close()
	s = d.run(r, s.last)
	d.exec("INSERT INTO shop.later VALUES (1)")
	require.Equal(t, []string{`c later {"before":null,"after":{"id":1}}`}, shorts(t, s.events(1)))
}

// TestClientSideFilter adopts a publication that has more than is wanted: the rest is dropped and still counts.
func TestClientSideFilter(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)", "CREATE PUBLICATION mine FOR ALL TABLES")
	r, log := d.source("publication: mine\ntables: {include: [public.item]}")
	s := d.run(r, checkpoint.Token{})
	d.exec("BEGIN; INSERT INTO other VALUES (1); INSERT INTO item VALUES (1); COMMIT")
	batch := s.events(1)
	require.Equal(t, []string{`c item {"before":null,"after":{"id":1}}`}, shorts(t, batch))
	require.True(t, strings.HasSuffix(must(batch[0].MetaGet(change.MetaEventID)), ":2"))
	require.NotContains(t, log.all(), "publication")
}

func TestSchemaChange(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, a text)")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO item VALUES (1, 'x')", "ANALYZE item", "INSERT INTO item VALUES (2, 'y')")
	s.events(2)
	require.NotContains(t, log.all(), "changed")
	s.close()
	d.exec("INSERT INTO item VALUES (3, 'old')", "ALTER TABLE item DROP a", "ALTER TABLE item ADD b int", "INSERT INTO item VALUES (4, 5)")
	s = d.run(r, s.last)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":3,"a":"old"}}`, `c item {"before":null,"after":{"id":4,"b":5}}`,
	}, shorts(t, s.events(2)))
	require.Contains(t, log.all(), "changed public.item")
}

// TestSharedLSN cuts a transaction whose rows partly share one LSN at every place.
func TestSharedLSN(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	start := s.last
	_, err := d.conn.PgConn().CopyFrom(context.Background(), strings.NewReader("1\n2\n3\n4\n5\n"), "COPY item FROM STDIN")
	require.NoError(t, err)
	d.exec("INSERT INTO item VALUES (6)")
	all := s.events(6)
	lsns := map[uint64]int{}
	for _, m := range all {
		ev, _ := change.FromMessage(m)
		lsns[ev.LSN]++
	}
	require.Less(t, len(lsns), 6, "rows that share an LSN")
	s.close()
	quick, _ := d.source("status_interval: 1ms")
	for sent := uint64(0); sent <= 5; sent++ {
		start.Sent = sent
		s := d.run(quick, start)
		if sent > 0 && sent < 5 {
			s.noCommit = true // until there are rows: the position would lose the count
		}
		batch := s.events(6 - int(sent))
		require.Equal(t, shorts(t, all[sent:]), shorts(t, batch), "after %d", sent)
		for i, m := range batch {
			require.Equal(t, must(all[int(sent)+i].MetaGet(change.MetaEventID)), must(m.MetaGet(change.MetaEventID)))
		}
		s.close()
	}
}

// TestInterleaved has a long transaction open while a short one commits, and a restart between them.
func TestInterleaved(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	long := d.connect()
	_, err := long.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	_, err = long.Exec(t.Context(), "INSERT INTO item VALUES (1)")
	require.NoError(t, err)
	d.exec("INSERT INTO item VALUES (2)")
	require.Equal(t, []string{`c item {"before":null,"after":{"id":2}}`}, shorts(t, s.events(1)))
	r.Confirm(s.last)
	require.Eventually(t, func() bool { return d.confirmed(r) == s.last.Commit.(Position).At }, waitFor, tick)
	s.close()
	s = d.run(r, s.last)
	_, err = long.Exec(t.Context(), "INSERT INTO item VALUES (3)")
	require.NoError(t, err)
	_, err = long.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	d.exec("INSERT INTO item VALUES (4)")
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1}}`, `c item {"before":null,"after":{"id":3}}`, `c item {"before":null,"after":{"id":4}}`,
	}, shorts(t, s.events(3)))
}

// TestLargeTransaction checks order, completeness and the bounds of segments.
func TestLargeTransaction(t *testing.T) {
	const n = 20000
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec(fmt.Sprintf("INSERT INTO item SELECT g, 'value ' || g FROM generate_series(1, %d) g", n))
	next, bytes := 1, 0
	for {
		seg := s.next()
		bytes += seg.Bytes
		if seg.Rows != nil {
			batch, err := seg.Rows.Decode(t.Context(), nil)
			require.NoError(t, err)
			require.LessOrEqual(t, len(batch), maxSegmentRows)
			for _, m := range batch {
				ev, _ := change.FromMessage(m)
				require.Equal(t, uint64(next), ev.Index)
				require.Equal(t, int64(next), ev.After()[0].Int())
				next++
			}
		}
		if next > n {
			require.NotNil(t, seg.Commit)
			break
		}
		require.True(t, seg.Commit == nil || next == 1, "a position inside the transaction")
	}
	require.Greater(t, bytes, n*20)
}

func (d *database) confirmed(r *replication) lsn.LSN {
	d.t.Helper()
	lsn, err := lsn.ParseServer(d.queryText("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", r.cfg.slot))
	require.NoError(d.t, err)
	return lsn
}

func TestEnvelopeIsJSON(t *testing.T) {
	d := newDatabase(t)
	d.exec(`CREATE TABLE "we""ird\n" ("a""b" int PRIMARY KEY, "Ünï" text)`)
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec(`INSERT INTO "we""ird\n" VALUES (1, E'\u0001')`)
	b, err := s.events(1)[0].AsBytes()
	require.NoError(t, err)
	require.True(t, json.Valid(b), string(b))
	require.Contains(t, string(b), `"after":{"a\"b":1,"Ünï":"\u0001"}`)
}

// TestThroughPipeline runs the registered component in a Benthos stream, stops it in the middle and starts it again.
func TestThroughPipeline(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, v text)")
	path := filepath.Join(testenv.TempDir(t), "checkpoints.db")
	var mu sync.Mutex
	var got []int64 // guarded by mu
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	const n = 5000
	for round := range 3 {
		b := service.NewStreamBuilder()
		require.NoError(t, b.SetLoggerYAML("level: error"))
		require.NoError(t, b.AddInputYAML(fmt.Sprintf("deltaforge_postgres:\n  name: %s\n  dsn: %q\n  checkpoint: {path: %q}\n"+
			"  batch: {max_events: 100}\n  snapshot: {mode: never}\n", d.name, d.dsn, path)))
		require.NoError(t, b.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range batch {
				ev, ok := change.FromMessage(m)
				if !ok {
					return errors.New("a message without an event")
				}
				got = append(got, ev.After()[0].Int())
			}
			return nil
		}))
		stream, err := b.Build()
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- stream.Run(context.Background()) }()
		if round == 0 {
			require.Eventually(t, func() bool {
				return d.queryText("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1 AND active", "deltaforge_"+d.name) == "1"
			}, waitFor, tick)
		}
		for i := range 10 {
			first := round*n + i*n/10
			d.exec(fmt.Sprintf("INSERT INTO item SELECT g, 'x' FROM generate_series(%d, %d) g", first, first+n/10-1))
		}
		if round == 2 {
			require.Eventually(t, func() bool { return count() >= 3*n }, waitFor, tick)
		} else {
			require.Eventually(t, func() bool { return count() > round*n+n/3 }, waitFor, tick)
		}
		require.NoError(t, stream.StopWithin(waitFor))
		_ = <-ended
	}
	require.Equal(t, 3*n, count(), "nothing lost and, after an orderly stop, nothing repeated")
	for i, id := range got {
		require.Equal(t, int64(i), id)
	}
}

// TestResumeInsideLargeTransaction counts tens of thousands of delivered events.
func TestResumeInsideLargeTransaction(t *testing.T) {
	const n, sent = 100_000, 70_001
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	from := s.last
	s.close()
	d.exec(fmt.Sprintf("INSERT INTO item SELECT g FROM generate_series(1, %d) g", n))
	from.Sent = sent
	s = d.run(r, from)
	batch := s.events(n - sent)
	for i, m := range batch {
		ev, _ := change.FromMessage(m)
		require.Equal(t, uint64(sent+i+1), ev.Index)
		require.Equal(t, int64(sent+i+1), ev.After()[0].Int())
	}
}
