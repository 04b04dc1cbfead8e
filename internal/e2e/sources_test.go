package e2e

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// source is a database that a test streams from.
type source struct {
	name  string
	input string // YAML of the input
	db    *sql.DB
	table string // as SQL writes it
	full  string // as metrics name it
	slug  string // the database
	slot  string // PostgreSQL only

	// For tables that are loaded.
	before  []string // said in each transaction of the workload
	prepare string   // said once of the table
	note    string   // of each row
}

func (s source) workload(t *testing.T) *workload {
	t.Helper()
	return newWorkload(t, s.db, s.table, s.slot != "")
}

// sources returns one of each database.
func sources(t *testing.T) map[string]func(t *testing.T) source {
	t.Helper()
	return map[string]func(t *testing.T) source{
		"mysql":    func(t *testing.T) source { return mysqlSource(t, testenv.MySQL(t)) },
		"mariadb":  func(t *testing.T) source { return mysqlSource(t, testenv.MariaDB(t)) },
		"postgres": func(t *testing.T) source { return postgresSource(t, testenv.Postgres(t)) },
	}
}

func mysqlSource(t *testing.T, srv *testenv.MySQLServer) source {
	t.Helper()
	db := srv.Database(t)
	return source{
		name: "mysql", db: srv.DB(t, db), table: "accounts", full: db + ".accounts", slug: db,
		input: fmt.Sprintf(`
input:
  deltaforge_mysql:
    name: %s
    dsn: %q
    tables: {include: ["%s.*"]}
    snapshot: {mode: never}
`, db, srv.UserDSN(""), db),
	}
}

func postgresSource(t *testing.T, srv *testenv.PostgresServer) source {
	t.Helper()
	db := srv.Database(t)
	slot := "slot_" + db
	// The shared pool of a test closes before the database is dropped.
	conn, err := sql.Open("pgx", srv.DSN(db))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return source{
		name: "postgres", db: conn, table: "accounts", full: "public.accounts", slot: slot, slug: db,
		input: fmt.Sprintf(`
input:
  deltaforge_postgres:
    name: %s
    dsn: %q
    slot: %s
    tables: {include: ["public.*"]}
    snapshot: {mode: never}
`, db, srv.UserDSN(db), slot),
	}
}

func toKafka(srv *testenv.KafkaServer, topic string) string {
	return fmt.Sprintf(`
output:
  deltaforge_kafka:
    seed_brokers: [%s]
    topic: %s
`, strings.Join(srv.Brokers(), ", "), topic)
}

func toRedis(srv *testenv.RedisServer, stream string) string {
	return fmt.Sprintf(`
output:
  deltaforge_redis:
    url: %s
    stream: %s
`, srv.URL(), stream)
}

// sink is where a test reads what was delivered.
type sink struct {
	output string
	// all returns everything that is there now.
	all func(t *testing.T) []delivered
	// count is how much that is; for topics only.
	count func(t *testing.T) int
}

func kafkaSink(t *testing.T, srv *testenv.KafkaServer, partitions int) sink {
	t.Helper()
	topic := srv.Topic(t, partitions)
	admin := kadm.NewClient(srv.Client(t))
	return sink{
		output: toKafka(srv, topic),
		all: func(t *testing.T) []delivered {
			t.Helper()
			var out []delivered
			for _, r := range srv.ConsumeAll(t, topic) {
				out = append(out, delivered{key: r.Key, value: r.Value})
			}
			return out
		},
		count: func(t *testing.T) (n int) {
			t.Helper()
			eventually(t, patience, "the ends of the topic", func() bool {
				ends, err := admin.ListEndOffsets(t.Context(), topic)
				n = 0
				ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
				return err == nil && ends.Error() == nil
			})
			return n
		},
	}
}

func redisSink(t *testing.T, srv *testenv.RedisServer) sink {
	t.Helper()
	stream := testenv.Name(t)
	return sink{output: toRedis(srv, stream), all: func(t *testing.T) []delivered {
		t.Helper()
		return readStream(t, srv, stream)
	}}
}

func readStream(t *testing.T, srv *testenv.RedisServer, stream string) []delivered {
	t.Helper()
	entries, err := srv.Client(t).XRange(t.Context(), stream, "-", "+").Result()
	require.NoError(t, err)
	var out []delivered
	for _, e := range entries {
		out = append(out, delivered{key: []byte(e.Values["key"].(string)), value: []byte(e.Values["event"].(string))})
	}
	return out
}

// patience is the least that a test waits for what has to come.
const patience = 3 * time.Minute

// finish waits until the last row has arrived, and every change, and audits everything. The last row alone does not say that the other
// partitions of its batch are written.
func finish(t *testing.T, w *workload, s sink, timeout time.Duration) *audit {
	t.Helper()
	w.sentinel()
	changes := 0
	for _, steps := range w.committed() {
		changes += len(steps)
	}
	timeout = max(timeout, patience)
	for deadline := time.Now().Add(timeout); ; time.Sleep(500 * time.Millisecond) {
		messages := s.all(t)
		late := time.Now().After(deadline)
		if !late && !complete(messages) {
			continue
		}
		a := newAudit(t)
		a.add(messages)
		if late || len(a.seen) >= changes {
			a.check(w)
			require.True(t, complete(messages), "the last row did not arrive within %s", timeout)
			return a
		}
	}
}

// eventually waits for a condition of the outside world.
func eventually(t *testing.T, timeout time.Duration, what string, f func() bool) {
	t.Helper()
	timeout = max(timeout, patience)
	deadline := time.Now().Add(timeout)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: not %s", timeout, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
