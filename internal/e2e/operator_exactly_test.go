package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Exactly-once delivery counts its transactions. Once another value is under the key of the position, the next one is aborted, and the pipeline fails.
func TestOperatorExactlyOnce(t *testing.T) {
	d := newDeck(t, "")
	src := deckMySQL(t, d, "")
	redis := deckRedis(t, d)
	stream := testenv.Name(t)
	output := strings.Replace(deckStream(redis.Addr(), stream), "stream:", "exactly_once: true, stream:", 1)
	w := src.workload(t)
	d.start()
	d.want(200, "POST", "/streams/shop", strings.Replace(src.input, "snapshot:", "checkpoint: {exactly_once: true}\n    snapshot:", 1)+output)
	const in, out = "pipeline=shop", "sink=store"
	d.until(60*time.Second, atLeast(1), "sink_txn_commits_total", in, out).is(0, "sink_txn_aborts_total", in, out)

	keys, err := redis.Client(t).Keys(t.Context(), "*:checkpoint:*").Result()
	require.NoError(t, err)
	keys = slices.DeleteFunc(keys, func(key string) bool { return checkpoint.IsSchemaKey(key) || checkpoint.IsSnapshotKey(key) })
	require.Len(t, keys, 1)
	require.NoError(t, redis.Client(t).Set(t.Context(), keys[0], "another instance's", 0).Err())
	w.run(1, 10*time.Millisecond)
	d.until(60*time.Second, exactly(1), "sink_txn_aborts_total", in, out)
	d.until(60*time.Second, exactly(-1), "pipeline_status", in)
	w.end()
	d.covered()
}
