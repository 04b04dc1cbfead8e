package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// An output that is not required does not hold back the one that is. What it has missed waits on the disk, over a SIGKILL, too, and it catches up by itself.
func TestOperatorFanout(t *testing.T) {
	d := newDeck(t, "")
	src := deckMySQL(t, d, "")
	redis := deckRedis(t, d)
	proxy := testenv.NewProxy(t, redis.Addr())
	main, late := testenv.Name(t)+"_main", testenv.Name(t)+"_late"
	w := src.workload(t)
	d.start()
	one := func(addr, stream string) string {
		return strings.TrimPrefix(strings.ReplaceAll(strings.TrimSpace(deckStream(addr, stream)), "\n  label: store\n", ""), "output:")
	}
	config := fmt.Sprintf("output:\n  label: both\n  deltaforge_fanout:\n    spool: {path: spool.db}\n    outputs:\n    - {name: main, output: {%s}}\n    - {name: late, required: false, output: {%s}}\n",
		strings.TrimSpace(one(redis.Addr(), main)), strings.TrimSpace(strings.Replace(one(proxy.Addr(), late), "stream:", "timeout: 2s, stream:", 1)))
	d.want(200, "POST", "/streams/shop", src.input+config)
	const in, lateOne = "pipeline=shop", "output=late"
	d.until(60*time.Second, atLeast(1), "checkpoint_success_total", in)
	w.run(2, 10*time.Millisecond)
	eventually(t, patience, "events in the late output", func() bool { return len(readStream(t, redis, late)) > 50 })
	proxy.Refuse()
	d.until(60*time.Second, atLeast(50), "spool_events", in, lateOne)
	d.until(60*time.Second, atLeast(1), "spool_bytes", in, lateOne)
	w.end()
	finish(t, w, redisOf(redis, main), 120*time.Second)
	missing := len(readStream(t, redis, main)) - len(readStream(t, redis, late))
	assert.Greater(t, missing, 50)
	d.want(200, "POST", "/streams/shop/stop", "")
	d.want(200, "POST", "/streams/shop/start", "")
	proxy.Pass()
	now := d.until(120*time.Second, atMost(0), "spool_events", in, lateOne)
	now.is(0, "spool_bytes", in, lateOne)
	now.is(0, "spool_dropped_total", in, lateOne)
	d.until(60*time.Second, atLeast(0), "spool_retries_total", in, lateOne)
	assert.Equal(t, idsOf(t, readStream(t, redis, main)), idsOf(t, readStream(t, redis, late)))
	d.covered()
}

// idsOf returns the event ids of a stream in the order of their first time.
func idsOf(t *testing.T, all []delivered) (ids []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range all {
		var e event
		require.NoError(t, json.Unmarshal(m.value, &e))
		if !seen[e.EventID] {
			seen[e.EventID] = true
			ids = append(ids, e.EventID)
		}
	}
	return ids
}
