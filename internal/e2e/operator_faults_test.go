package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A pipeline whose connections break has each fault on the page under its name; another pipeline in the process has none of
// them. Everything arrives all the same.
func TestOperatorFaults(t *testing.T) {
	positions := filepath.Join(wroteDir(t), "positions")
	require.NoError(t, os.Mkdir(positions, 0o700))
	d := newDeck(t, "cache_resources: [{label: positions, file: {directory: '"+positions+"'}}]\n")
	redis := deckRedis(t, d)
	toSource, toSink := testenv.NewProxy(t, testenv.MySQL(t).Addr()), testenv.NewProxy(t, redis.Addr())
	hit, calm := deckMySQL(t, d, toSource.Addr()), deckPostgres(t, d, "")
	hitStream, calmStream := testenv.Name(t)+"_hit", testenv.Name(t)+"_calm"
	hitWork, calmWork := hit.workload(t), calm.workload(t)
	d.start()
	d.want(200, "POST", "/streams/hit", hit.input+strings.Replace(deckStream(toSink.Addr(), hitStream), "stream:", "timeout: 2s, stream:", 1))
	d.want(200, "POST", "/streams/calm", calm.input+"    checkpoint: {cache: positions}\n"+deckStream(redis.Addr(), calmStream))
	for _, id := range []string{"hit", "calm"} {
		d.until(60*time.Second, atLeast(1), "checkpoint_success_total", "pipeline="+id)
	}
	hitWork.run(2, 20*time.Millisecond)
	calmWork.run(2, 20*time.Millisecond)
	const in = "pipeline=hit"
	d.until(60*time.Second, atLeast(100), "sink_events_total", in)
	d.scrape().is(0, "source_reconnects_total", in)

	toSource.Cut()
	d.until(60*time.Second, atLeast(1), "source_reconnects_total", in).is(1, "source_errors_total", in)

	toSink.Refuse()
	d.until(60*time.Second, atLeast(1), "sink_failures_total", in, "kind=connect")
	d.until(60*time.Second, atLeast(1), "batches_in_flight", in)
	d.until(60*time.Second, atLeast(1), "pipeline_channel_depth", in)
	eventually(t, time.Minute, "not ready, because of the store", func() bool {
		status, ready := d.call("GET", "/ready", "")
		return status == 503 && strings.Contains(ready, "store is not connected")
	})
	toSink.Pass()
	d.until(60*time.Second, atLeast(1), "sink_reconnects_total", in)
	d.until(60*time.Second, atLeast(1), "sink_retries_total", in)

	toSink.Blackhole()
	eventually(t, time.Minute, "events in the sink's buffer, with at least a byte each", func() bool {
		now := d.scrape()
		events := now.get("sink_buffer_events", in)
		return events >= 1 && now.get("sink_buffer_bytes", in) >= events
	})
	d.until(60*time.Second, atLeast(1), "sink_failures_total", in, "kind=timeout")
	toSink.Pass()

	hitWork.end()
	finish(t, hitWork, redisOf(redis, hitStream), 120*time.Second)
	d.until(60*time.Second, atMost(0), "batches_in_flight", in)
	now := d.until(60*time.Second, atMost(0), "pipeline_channel_depth", in)
	now.is(0, "sink_buffer_events", in)
	now.is(0, "sink_buffer_bytes", in)
	for _, series := range []string{
		"source_reconnects_total", "source_errors_total", "sink_failures_total", "sink_retries_total", "sink_reconnects_total",
		"checkpoint_failure_total",
	} {
		now.is(0, series, "pipeline=calm")
	}

	// The store of positions of the other one refuses: a file is where its folder was.
	require.NoError(t, os.Rename(positions, positions+".away"))
	require.NoError(t, os.WriteFile(positions, nil, 0o600))
	d.until(60*time.Second, atLeast(1), "checkpoint_failure_total", "pipeline=calm")
	require.NoError(t, os.Remove(positions))
	require.NoError(t, os.Rename(positions+".away", positions))
	saves := d.scrape().get("checkpoint_success_total", "pipeline=calm")
	d.until(60*time.Second, atLeast(saves+1), "checkpoint_success_total", "pipeline=calm")
	calmWork.end()
	a := finish(t, calmWork, redisOf(redis, calmStream), 120*time.Second)
	assert.Zero(t, a.again, "a pipeline without faults delivers nothing twice")
	d.covered()
}

func redisOf(srv *testenv.RedisServer, stream string) sink {
	return sink{all: func(t *testing.T) []delivered { return readStream(t, srv, stream) }}
}
