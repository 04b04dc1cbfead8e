package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A source that cannot hear its database falls behind by a second each second, whether rows flowed or the database was idle
// before; once it hears it again, the lag goes. A sink that takes half a second shows in the end-to-end latency. The databases are its
// own: what others write would be lag, too.
func TestOperatorLag(t *testing.T) {
	binary(t)
	for name, open := range map[string]func(t *testing.T, d *deck) (source, *testenv.Proxy){
		"mysql": func(t *testing.T, d *deck) (source, *testenv.Proxy) {
			srv := testenv.StartMySQL(t, servers.Options{NoSync: true})
			p := testenv.NewProxy(t, srv.Addr())
			return deckBinlog(t, d, srv, "shop", p.Addr()), p
		},
		"postgres": func(t *testing.T, d *deck) (source, *testenv.Proxy) {
			srv := testenv.StartPostgres(t, servers.Options{NoSync: true})
			p := testenv.NewProxy(t, srv.Addr())
			return deckPostgresOn(t, d, srv, p.Addr()), p
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeck(t, "")
			src, toSource := open(t, d)
			redis, stream := deckRedis(t, d), testenv.Name(t)
			toSink := testenv.NewProxy(t, redis.Addr())
			w := src.workload(t)
			d.start()
			d.want(200, "POST", "/streams/lag", src.input+deckStream(toSink.Addr(), stream))
			d.until(60*time.Second, atLeast(1), "checkpoint_success_total")
			w.run(2, 20*time.Millisecond)
			d.until(60*time.Second, atLeast(50), "sink_events_total")
			d.until(15*time.Second, atMost(3), "source_lag_seconds")

			toSource.Blackhole()
			growsWithTheClock(t, d)
			toSource.Pass()
			d.until(60*time.Second, atMost(3), "source_lag_seconds")

			slowSink(t, d, toSink)

			// While the sink is away, the delivery is late, and the reading is not.
			toSink.Blackhole()
			growsWithTheClock(t, d)
			d.until(15*time.Second, atMost(3), "source_read_lag_seconds")
			toSink.Pass()
			d.until(90*time.Second, atMost(3), "source_lag_seconds")

			w.end()
			d.until(15*time.Second, atMost(0), "source_lag_seconds")
			// The same from an idle database.
			toSource.Blackhole()
			growsWithTheClock(t, d)
			toSource.Pass()
			finish(t, w, redisOf(redis, stream), 90*time.Second)
			d.until(15*time.Second, atMost(0), "source_lag_seconds")

			// A pipeline that is stopped keeps its lag: what is committed meanwhile waits, and the database keeps its log.
			d.want(200, "POST", "/streams/lag/stop", "")
			growsWithTheClock(t, d)
			d.until(15*time.Second, atLeast(0), "source_lag_bytes")
			d.want(200, "POST", "/streams/lag/start", "")
			d.until(60*time.Second, atMost(0), "source_lag_seconds")
		})
	}
}

// growsWithTheClock compares the lag with the clock over eight seconds. The gauge moves once a second.
func growsWithTheClock(t *testing.T, d *deck) {
	t.Helper()
	d.until(30*time.Second, atLeast(4), "source_lag_seconds")
	d.follows(8, "source_lag_seconds")
}

// slowSink: what is delivered while each answer takes half a second has taken half a second.
func slowSink(t *testing.T, d *deck, toSink *testenv.Proxy) {
	t.Helper()
	toSink.Slow(250*time.Millisecond, 0) // there and back
	defer toSink.Pass()
	// What is under way is none of it.
	began := d.scrape().get("e2e_latency_seconds_count")
	first := d.until(60*time.Second, atLeast(began+3), "e2e_latency_seconds_count")
	const n = 5
	second := d.until(60*time.Second, atLeast(first.get("e2e_latency_seconds_count")+n), "e2e_latency_seconds_count")
	for _, series := range []string{"e2e_latency_seconds", "sink_latency_seconds"} {
		more := func(suffix string, labels ...string) float64 {
			return second.get(series+suffix, labels...) - first.get(series+suffix, labels...)
		}
		assert.GreaterOrEqual(t, more("_count"), float64(n)-1, series)
		assert.Zero(t, more("_bucket", "le=0.5"), "%s under half a second", series)
		assert.GreaterOrEqual(t, more("_sum")/more("_count"), 0.5, series)
	}
}
