package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Events that Redis can never take are kept, and the pipeline goes on. When there is no room for more it waits, and says so, until a person has made room. The
// kept events are delivered later, in their order.
func TestOperatorDeadLetters(t *testing.T) {
	d := newDeck(t, "")
	src := deckMySQL(t, d, "")
	redis, stream := deckRedis(t, d), testenv.Name(t)
	src.workload(t)
	d.start()
	// Every event whose id can be divided by five is too large.
	inflate := "\npipeline:\n  processors: [{mapping: 'root = this.assign({\"pad\": if this.after.id % 5 == 0 { \"x\".repeat(9000) }})'}]\noutput:"
	config := strings.Replace("\n"+deckStream(redis.Addr(), stream), "\noutput:", inflate, 1)
	bounded := strings.Replace(config, "stream:", "max_message_bytes: 8000, dead_letter: {path: dlq.db, max_count: 3}, stream:", 1)
	d.want(200, "POST", "/streams/shop", src.input+bounded)
	const in = "pipeline=shop"
	d.until(60*time.Second, atLeast(1), "checkpoint_success_total", in)
	insert := func(from, to int) {
		t.Helper()
		var rows []string
		for id := from; id <= to; id++ {
			rows = append(rows, fmt.Sprintf("(%d, 1, 1)", id))
		}
		_, err := src.db.ExecContext(t.Context(), "INSERT INTO accounts (id, version, amount) VALUES "+strings.Join(rows, ", "))
		require.NoError(t, err)
	}
	insert(1, 12)
	now := d.until(60*time.Second, atLeast(2), "dead_letter_entries", in)
	now.is(2, "dead_letter_events_total", in)
	now.is(2, "sink_failures_total", in, "kind=too_large")
	d.until(60*time.Second, atLeast(10), "sink_events_total", in).is(10, "sink_events_total", in)
	d.until(60*time.Second, atMost(0), "source_lag_seconds", in)
	d.until(60*time.Second, atLeast(18000), "dead_letter_bytes", in)
	d.until(60*time.Second, atLeast(1), "dead_letter_oldest_seconds", in)
	d.scrape().is(0, "dead_letter_evicted_total", in, "reason=full")

	for want, query := range map[string]string{"too_large": "", "no such": "?kind=routing"} {
		status, list := d.call("GET", "/streams/shop/dlq"+query, "")
		assert.Equal(t, 200, status, list)
		assert.Equal(t, query == "", strings.Contains(list, want), list)
	}
	_, one := d.call("GET", "/streams/shop/dlq?entry=1", "")
	assert.Contains(t, one, `"payload"`)
	for _, bad := range []string{"?entry=x", "?limit=0", "?after=x", "?path=elsewhere.db"} {
		d.want(400, "GET", "/streams/shop/dlq"+bad, "")
	}
	d.want(400, "DELETE", "/streams/shop/dlq", "")
	d.want(404, "GET", "/streams/nothing/dlq", "")
	status, answer := d.call("POST", "/streams/shop/dlq/replay", `{"entries": [1]}`)
	assert.Equal(t, 200, status)
	assert.JSONEq(t, `{"delivered": 0, "failed": 1}`, answer, "the running configuration still refuses it")
	d.want(400, "POST", "/streams/shop/dlq/replay", `{"entries": "all"}`)

	insert(13, 21)
	eventually(t, time.Minute, "not ready, because there is no room", func() bool {
		status, ready := d.call("GET", "/ready", "")
		return status == 503 && strings.Contains(ready, "the dead letters are full")
	})
	dlq := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"dlq"}, args...)...)
		cmd.Dir, cmd.Env = d.dir, environment(t, d.dir, d.env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	assert.Contains(t, dlq("list", "-p", "dlq.db", "--pipeline", "shop"), "too_large")
	mended := filepath.Join(d.dir, "mended.yaml")
	require.NoError(t, os.WriteFile(mended, []byte(src.input+config), 0o600))
	assert.Contains(t, dlq("replay", "-p", "dlq.db", "-c", "mended.yaml"), "2 delivered, 0 failed again")
	d.until(60*time.Second, atMost(2), "dead_letter_entries", in)
	d.until(60*time.Second, atLeast(17), "sink_events_total", in).is(17, "sink_events_total", in)
	d.until(60*time.Second, atLeast(2), "dead_letter_entries", in)
	assert.Contains(t, dlq("replay", "-p", "dlq.db", "-c", "mended.yaml"), "2 delivered, 0 failed again")
	d.until(60*time.Second, atMost(0), "dead_letter_entries", in).is(0, "dead_letter_oldest_seconds", in)

	var large []string
	all := map[string]int{}
	for _, m := range readStream(t, redis, stream) {
		all[string(m.key)]++
		if len(m.value) > 8000 {
			large = append(large, string(m.key))
		}
	}
	assert.Equal(t, []string{`{"id":5}`, `{"id":10}`, `{"id":15}`, `{"id":20}`}, large)
	assert.Len(t, all, 21)
	for key, n := range all {
		assert.Equal(t, 1, n, key)
	}

	insert(25, 25)
	d.until(60*time.Second, atLeast(1), "dead_letter_entries", in)
	status, answer = d.call("DELETE", "/streams/shop/dlq?all=true", "")
	assert.Equal(t, 200, status)
	assert.JSONEq(t, `{"removed": 1}`, answer)
	d.want(200, "POST", "/streams/shop/stop", "")
	d.want(409, "GET", "/streams/shop/dlq", "")
	d.covered()
}
