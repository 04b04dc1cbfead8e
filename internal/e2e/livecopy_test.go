package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	client "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// The hashes in Redis are the rows of the table whenever the stream has caught up: rows from before the start, rows that change while they are
// loaded, and whatever is repeated after the process was killed. Rows that were in Redis before, and are not in the table, are gone, and those of another table stay.
func TestLiveCopy(t *testing.T) {
	binary(t)
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src, redis, prefix := open(t), testenv.Redis(t), testenv.Name(t)
			w := src.workload(t)
			w.run(4, 5*time.Millisecond)
			eventually(t, patience, "rows from before the start", func() bool { return w.changes() > 500 })
			loads := strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {mode: initial, chunk_rows: 20}", 1)
			require.NotEqual(t, src.input, loads)
			cl := redis.Client(t)
			for id := range 3000 {
				require.NoError(t, cl.HSet(t.Context(), fmt.Sprintf("%s:%s:%d", prefix, src.full, 50_000_000+id), "id", id).Err())
			}
			another := prefix + ":" + src.full + "_too:1"
			require.NoError(t, cl.HSet(t.Context(), another, "id", "1").Err())
			p := newProcess(t, loads+fmt.Sprintf("output:\n  deltaforge_redis: {url: '%s', prefix: %s, write: hash, prune: true}\n", redis.URL(), prefix))
			for range 4 {
				p.start()
				time.Sleep(1500 * time.Millisecond)
				p.kill()
			}
			p.start()
			w.end()
			read := func() map[string]map[string]string { return hashes(t, redis, prefix) }
			want := selected(t, src)
			require.NotEmpty(t, want)
			eventually(t, patience, "the table in Redis", func() bool { return assert.ObjectsAreEqual(want, read()) })
			p.stop()
			assert.Equal(t, want, read())
			assert.Equal(t, map[string]string{"id": "1"}, cl.HGetAll(t.Context(), another).Val())
		})
	}
}

// hashes returns the copies of the rows in Redis, by their key.
func hashes(t *testing.T, redis *testenv.RedisServer, prefix string) map[string]map[string]string {
	t.Helper()
	cl, out := redis.Client(t), map[string]map[string]string{}
	var cursor uint64
	for {
		keys, next, err := cl.Scan(t.Context(), cursor, prefix+":*.accounts:*", 1000).Result()
		require.NoError(t, err)
		pipe := cl.Pipeline()
		for _, k := range keys {
			pipe.HGetAll(t.Context(), k)
		}
		answers, err := pipe.Exec(t.Context())
		require.NoError(t, err)
		for n, k := range keys {
			if row := answers[n].(*client.MapStringStringCmd).Val(); len(row) > 0 { // it can be gone since
				out[k[strings.LastIndex(k, ":")+1:]] = row
			}
		}
		if cursor = next; cursor == 0 {
			return out
		}
	}
}

// selected returns the rows of the source's table as hashes, by their id.
func selected(t *testing.T, src source) map[string]map[string]string {
	t.Helper()
	// Not twice the same text: the driver keeps its plan, and the table can be altered in between.
	rows, err := src.db.QueryContext(t.Context(), fmt.Sprintf("SELECT * FROM %s /* %d */", src.table, time.Now().UnixNano()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	out := map[string]map[string]string{}
	for rows.Next() {
		row, values := map[string]string{}, make([]any, len(columns))
		for n := range values {
			values[n] = new(*string)
		}
		require.NoError(t, rows.Scan(values...))
		for n, column := range columns {
			if v := *values[n].(**string); v != nil {
				row[column] = *v
			}
		}
		out[row["id"]] = row
	}
	require.NoError(t, rows.Err())
	return out
}

// The hashes are the rows of the table after whatever a transaction can do, beside other writers: savepoints and rollbacks, XA, a statement of very many rows, keys
// that change, and a table that is altered. What an alteration has left of its old columns is gone when the table is loaded again.
func TestLiveCopyFollowsEverything(t *testing.T) {
	binary(t)
	many := 20_000
	if os.Getenv(longEnv) != "" {
		many = 100_000
	}
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src, redis, prefix := open(t), testenv.Redis(t), testenv.Name(t)
			w := src.workload(t)
			sink := fmt.Sprintf("output:\n  deltaforge_redis: {url: '%s', prefix: %s, write: hash}\n", redis.URL(), prefix)
			loads := strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {mode: initial}", 1)
			s := session(t, src)
			s("CREATE TABLE digits (d INT NOT NULL PRIMARY KEY)", "INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)")
			if src.slot != "" { // only the owner of a table may publish it
				s("ALTER TABLE digits OWNER TO " + servers.User)
			}
			p := newProcess(t, loads+sink)
			p.start()
			w.run(3, 5*time.Millisecond)
			s(fmt.Sprintf(`INSERT INTO accounts (id, version, note, amount)
				SELECT 1000000 + a.d + 10*b.d + 100*c.d + 1000*d.d + 10000*e.d, 1, 'many', 2.50 FROM digits a, digits b, digits c, digits d, digits e
				WHERE 10000*e.d + 1000*d.d < %d`, many))
			s("BEGIN", "UPDATE accounts SET version = 2 WHERE id BETWEEN 1000000 AND 1000999", "SAVEPOINT one", "DELETE FROM accounts WHERE id BETWEEN 1000000 AND 1000499",
				"SAVEPOINT two", "UPDATE accounts SET note = 'undone' WHERE id >= 1000500 AND id < 1001500", "ROLLBACK TO SAVEPOINT two", "UPDATE accounts SET note = NULL WHERE id = 1000500",
				"RELEASE SAVEPOINT one", "COMMIT")
			s("BEGIN", "DELETE FROM accounts WHERE id >= 1001000 AND id < 1002000", "ROLLBACK")
			s("UPDATE accounts SET id = id + 1000000 WHERE id >= 1002000 AND id < 1002500")
			if src.slot == "" {
				for n, end := range []string{"COMMIT", "ROLLBACK"} {
					xid := fmt.Sprintf("'%s%d'", src.slug, n)
					s("XA START "+xid, fmt.Sprintf("UPDATE accounts SET note = 'xa' WHERE id >= %d AND id < %d", 1003000+500*n, 1003400+500*n), "XA END "+xid, "XA PREPARE "+xid)
					s("XA " + end + " " + xid)
				}
			}
			s("ALTER TABLE accounts ADD COLUMN extra INT", "UPDATE accounts SET extra = id WHERE id >= 1004000 AND id < 1005000")
			w.end()
			caughtUp := func(what string) {
				t.Helper()
				want := selected(t, src)
				require.Greater(t, len(want), many-1000)
				eventually(t, patience, what, func() bool { return assert.ObjectsAreEqual(want, hashes(t, redis, prefix)) })
			}
			caughtUp("the table in Redis")
			s("ALTER TABLE accounts DROP COLUMN extra", "UPDATE accounts SET version = 3 WHERE id >= 1004000 AND id < 1004500")
			p.stop()
			p = newProcess(t, strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {mode: always}", 1)+sink)
			p.start()
			caughtUp("the table in Redis, loaded again")
			p.stop()
		})
	}
}

// session returns a function that runs statements on one connection.
func session(t *testing.T, src source) func(statements ...string) {
	t.Helper()
	conn, err := src.db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return func(statements ...string) {
		t.Helper()
		for _, q := range statements {
			_, err := conn.ExecContext(t.Context(), q)
			require.NoError(t, err, q)
		}
	}
}
