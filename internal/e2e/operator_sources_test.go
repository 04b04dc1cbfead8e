package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// deckMySQL makes a database, an account with a password of its own, and the input that reads with it through addr, which may
// be a proxy ("" is the server). The input has the label "shop".
func deckMySQL(t *testing.T, d *deck, addr string) source {
	t.Helper()
	return deckBinlog(t, d, testenv.MySQL(t), "shop", addr)
}

// deckMariaDB is deckMySQL for MariaDB; the label is "ledger".
func deckMariaDB(t *testing.T, d *deck) source {
	t.Helper()
	return deckBinlog(t, d, testenv.MariaDB(t), "ledger", "")
}

func deckBinlog(t *testing.T, d *deck, srv *testenv.MySQLServer, label, addr string) source {
	t.Helper()
	src := mysqlSource(t, srv)
	user, variable := "u"+src.slug[len(src.slug)-10:], strings.ToUpper(label)+"_PASSWORD"
	password := d.secret(variable)
	for _, q := range []string{
		"CREATE USER " + user + "@'%' IDENTIFIED BY '" + password + "'",
		"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO " + user + "@'%'",
	} {
		_, err := src.db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	if addr == "" {
		addr = srv.Addr()
	}
	src.input = fmt.Sprintf(`
input:
  label: %s
  deltaforge_mysql:
    name: %s
    dsn: %s:${%s}@tcp(%s)/
    tables: {include: ["%s.*"]}
    snapshot: {mode: never}
`, label, src.slug, user, variable, addr, src.slug)
	return src
}

// deckPostgres is deckMySQL for PostgreSQL; the label is "books".
func deckPostgres(t *testing.T, d *deck, addr string) source {
	t.Helper()
	return deckPostgresOn(t, d, testenv.Postgres(t), addr)
}

func deckPostgresOn(t *testing.T, d *deck, srv *testenv.PostgresServer, addr string) source {
	t.Helper()
	user, password := "u"+testenv.Name(t), d.secret("POSTGRES_PASSWORD")
	pool := srv.Pool(t, "")
	for _, q := range []string{
		"CREATE ROLE " + user + " LOGIN REPLICATION PASSWORD '" + password + "'",
		"GRANT " + servers.User + " TO " + user,
	} {
		_, err := pool.Exec(t.Context(), q)
		require.NoError(t, err)
	}
	src := postgresSource(t, srv)
	if addr == "" {
		addr = srv.Addr()
	}
	src.input = fmt.Sprintf(`
input:
  label: books
  deltaforge_postgres:
    name: %[1]s
    dsn: postgres://%[2]s:${POSTGRES_PASSWORD}@%[3]s/%[1]s?sslmode=disable
    slot: %[4]s
    tables: {include: ["public.*"]}
    snapshot: {mode: never}
`, src.slug, user, addr, src.slot)
	return src
}

// deckRedis starts a Redis that wants a password.
func deckRedis(t *testing.T, d *deck) *testenv.RedisServer {
	t.Helper()
	return testenv.StartRedis(t, servers.Options{Password: d.secret("REDIS_PASSWORD")})
}

// deckSecretRedis is deckRedis without a deck.
func deckSecretRedis(t *testing.T) *testenv.RedisServer {
	t.Helper()
	word := newPassword("guest")
	hide(t, "the Redis password of "+t.Name(), word)
	return testenv.StartRedis(t, servers.Options{Password: word})
}

// deckStream is the output to a stream of such a Redis, which is reached at addr.
func deckStream(addr, stream string) string {
	return fmt.Sprintf("output:\n  label: store\n  deltaforge_redis: {url: 'redis://:${REDIS_PASSWORD}@%s', stream: %s}\n", addr, stream)
}

// deckKafka starts a Kafka with an account, and returns the output to a topic of it.
func deckKafka(t *testing.T, d *deck) (srv *testenv.KafkaServer, topic, output string) {
	t.Helper()
	srv = testenv.StartKafka(t, servers.Options{SASL: true})
	password := d.secret("KAFKA_PASSWORD")
	answers, err := kadm.NewClient(srv.Client(t)).AlterUserSCRAMs(t.Context(), nil,
		[]kadm.UpsertSCRAM{{User: "deck", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: password}})
	require.NoError(t, err)
	require.NoError(t, answers.Error())
	topic = srv.Topic(t, 3)
	return srv, topic, fmt.Sprintf(`
output:
  label: broker
  deltaforge_kafka:
    seed_brokers: [%s]
    topic: %s
    sasl: {mechanism: SCRAM-SHA-256, username: deck, password: "${KAFKA_PASSWORD}"}
`, srv.SecureAddr(), topic)
}

// through puts a processor that changes nothing before the output.
func through(stream string) string {
	return strings.Replace(stream, "\noutput:", "\npipeline:\n  processors: [{label: same, mapping: 'root = content()'}]\noutput:", 1)
}

// committedOps counts the changes of a workload by operation.
func (w *workload) committedOps() map[string]int {
	ops := map[string]int{}
	for _, steps := range w.committed() {
		for _, s := range steps {
			ops[s.op]++
		}
	}
	return ops
}
