package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// With strict error handling, which is a setting of the process, an event on which a processor fails is sent back and comes again. It
// is counted each time, and delivered once the processor takes it.
func TestOperatorStrict(t *testing.T) {
	d := newDeckOf(t, binary(t), "error_handling: {strict: true}\n", "")
	src := deckPostgres(t, d, "")
	redis, stream := deckRedis(t, d), testenv.Name(t)
	src.workload(t)
	d.start()
	picky := "\npipeline:\n  processors: [{label: picky, mapping: 'root = if this.after.id == 2 { if counter() <= 3 { throw(\"no\") } }'}]\noutput:"
	d.want(200, "POST", "/streams/strict", src.input+strings.Replace("\n"+deckStream(redis.Addr(), stream), "\noutput:", picky, 1))
	d.until(60*time.Second, atLeast(1), "checkpoint_success_total")
	_, err := src.db.ExecContext(t.Context(), "INSERT INTO accounts (id, version, amount) VALUES (1, 1, 1), (2, 1, 1), (3, 1, 1)")
	require.NoError(t, err)
	// The other two events are delivered with the first attempt. Then each goes out alone, and only the one that is refused comes again.
	now := d.until(60*time.Second, atLeast(2+3), "sink_events_total", "sink=store")
	now.is(2+3, "sink_events_total", "sink=store")
	now.is(3, "sink_rejected_total", "sink=store")
	now.is(3, "processor_errors_total", "processor=picky")
	ids := map[string]bool{}
	for _, m := range readStream(t, redis, stream) {
		ids[string(m.key)] = true
	}
	assert.Equal(t, map[string]bool{`{"id":1}`: true, `{"id":2}`: true, `{"id":3}`: true}, ids)
	d.covered()
}

// A rate limit of somebody else, in a binary of somebody else that has DeltaForge by one import, has its numbers on our page.
func TestOperatorGuest(t *testing.T) {
	redis := deckSecretRedis(t)
	proxy := testenv.NewProxy(t, redis.Addr())
	address := strings.Replace(redis.URL(), redis.Addr(), proxy.Addr(), 1)
	p := newProcess(t, `
input: {label: gen, generate: {count: 20, interval: 500ms, mapping: 'root.id = counter()'}}
pipeline: {threads: 1, processors: [{rate_limit: {resource: fair}}]}
output: {label: store, broker: {pattern: fan_out, outputs: [{label: hole, drop: {}}]}}
rate_limit_resources: [{label: fair, guest_redis: {key: `+testenv.Name(t)+`, url: '`+address+`'}}]
shutdown_delay: 60s
`)
	p.bin = built(t, "github.com/deltaforge/deltaforge/internal/e2e/guest")
	p.start()
	const limit = `rate_limit="fair"`
	value := func(name string, labels ...string) float64 { v, _ := p.metric("deltaforge_"+name, labels...); return v }
	eventually(t, 60*time.Second, "an event through", func() bool { return value("sink_events_total", `sink="hole"`) >= 1 })
	assert.Zero(t, value("rate_limit_errors_total", limit))
	proxy.Refuse()
	eventually(t, 60*time.Second, "two errors", func() bool { return value("rate_limit_errors_total", limit) >= 2 })
	proxy.Pass()
	eventually(t, 60*time.Second, "every event through", func() bool { return value("sink_events_total", `sink="hole"`) == 20 })
	// Each time that it was asked it let an event through, or made it wait, or failed.
	assert.InDelta(t, 20, value("rate_limit_checked_total", limit)-value("rate_limit_triggered_total", limit)-value("rate_limit_errors_total", limit), 0)
}
