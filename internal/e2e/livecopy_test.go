package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// The hashes in Redis are the rows of the table whenever the stream has caught up: rows from before the start, rows that change while they are
// loaded, and whatever is repeated after the process was killed.
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
			p := newProcess(t, loads+fmt.Sprintf("output:\n  deltaforge_redis: {url: '%s', prefix: %s, write: hash}\n", redis.URL(), prefix))
			for range 4 {
				p.start()
				time.Sleep(1500 * time.Millisecond)
				p.kill()
			}
			p.start()
			w.end()
			cl := redis.Client(t)
			read := func() map[string]map[string]string {
				out := map[string]map[string]string{}
				var cursor uint64
				for {
					keys, next, err := cl.Scan(t.Context(), cursor, prefix+":*.accounts:*", 1000).Result()
					require.NoError(t, err)
					for _, k := range keys {
						out[k[strings.LastIndex(k, ":")+1:]] = cl.HGetAll(t.Context(), k).Val()
					}
					if cursor = next; cursor == 0 {
						return out
					}
				}
			}
			want := map[string]map[string]string{}
			rows, err := src.db.QueryContext(t.Context(), "SELECT id, version, note, amount FROM "+src.table)
			require.NoError(t, err)
			defer func() { assert.NoError(t, rows.Close()) }()
			for rows.Next() {
				var id, version, amount string
				var note *string
				require.NoError(t, rows.Scan(&id, &version, &note, &amount))
				want[id] = map[string]string{"id": id, "version": version, "amount": amount}
				if note != nil {
					want[id]["note"] = *note
				}
			}
			require.NoError(t, rows.Err())
			require.NotEmpty(t, want)
			eventually(t, patience, "the table in Redis", func() bool { return assert.ObjectsAreEqual(want, read()) })
			p.stop()
			assert.Equal(t, want, read())
		})
	}
}
