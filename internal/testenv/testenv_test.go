package testenv

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/servers"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestPostgres(t *testing.T) {
	s := Postgres(t)
	db := s.Database(t)
	pool := s.Pool(t, db)
	_, err := pool.Exec(t.Context(), "CREATE TABLE t (id int PRIMARY KEY)")
	require.NoError(t, err)
	var level string
	require.NoError(t, pool.QueryRow(t.Context(), "SHOW wal_level").Scan(&level))
	require.Equal(t, "logical", level)
	// A slot in the database must not keep it from being dropped.
	_, err = pool.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", Name(t))
	require.NoError(t, err)
}

func TestMySQL(t *testing.T)   { testMySQL(t, MySQL(t)) }
func TestMariaDB(t *testing.T) { testMySQL(t, MariaDB(t)) }

func testMySQL(t *testing.T, s *MySQLServer) {
	name := s.Database(t)
	db := s.DB(t, name)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE t (id int PRIMARY KEY)")
	require.NoError(t, err)
	var format, image string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT @@binlog_format, @@binlog_row_image").Scan(&format, &image))
	require.Equal(t, "ROW FULL", format+" "+image)
}

func TestKafka(t *testing.T) {
	s := Kafka(t)
	topic := s.Topic(t, 2)
	client := s.Client(t, kgo.TransactionalID(Name(t)), kgo.DefaultProduceTopic(topic))
	produce := func(value string, how kgo.TransactionEndTry) {
		require.NoError(t, client.BeginTransaction())
		require.NoError(t, client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr())
		require.NoError(t, client.EndTransaction(t.Context(), how))
	}
	produce("aborted", kgo.TryAbort)
	produce("committed", kgo.TryCommit)
	values := func(records []*kgo.Record) (all []string) {
		for _, r := range records {
			all = append(all, string(r.Value))
		}
		return all
	}
	require.Equal(t, []string{"committed"}, values(s.Consume(t, 1, topic)))
	require.Equal(t, []string{"committed"}, values(s.ConsumeAll(t, topic)))
}

func TestRedis(t *testing.T) {
	s := Redis(t)
	key := Name(t)
	client := s.Client(t)
	for i := range 3 {
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: []string{"n", fmt.Sprint(i)}}).Err())
	}
	var got []any
	for _, entry := range s.Stream(t, key, 3) {
		got = append(got, entry.Values["n"])
	}
	require.Equal(t, []any{"0", "1", "2"}, got)
}

func TestName(t *testing.T) {
	t.Run("With spaces, UPPER case and a very very very very very long end", func(t *testing.T) {
		require.Regexp(t, `^testname_with_spaces__upper_case_and__[0-9a-f]{10}$`, Name(t))
		require.NotEqual(t, Name(t), Name(t))
	})
}

// recorder is a test that only notes how it ended.
type recorder struct {
	testing.TB
	outcome string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return context.Background() }
func (r *recorder) Skipf(string, ...any)     { r.end("skip") }
func (r *recorder) Fatalf(string, ...any)    { r.end("fatal") }
func (r *recorder) end(how string)           { r.outcome = how; panic(r) }

func TestUnavailable(t *testing.T) {
	if testing.Short() {
		t.Skip("under -short every server is unavailable, which is another outcome")
	}
	for _, test := range []struct{ ci, require, want string }{
		{"", "", "skip"},
		{"true", "", "fatal"},
		{"", "1", "fatal"},
	} {
		t.Run(test.ci+test.require, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			t.Setenv("DELTAFORGE_REQUIRE_SERVERS", test.require)
			r := &recorder{}
			require.PanicsWithValue(t, r, func() {
				privateServer(r, servers.Options{}, func(context.Context, servers.Options) (*servers.Redis, error) {
					return nil, fmt.Errorf("no such server")
				})
			})
			require.Equal(t, test.want, r.outcome)
		})
	}
}
