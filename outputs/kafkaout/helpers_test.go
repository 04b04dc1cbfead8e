package kafkaout

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithoutLeaks(m)) }

func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// newTestOutput parses conf as the engine would and closes the output at the end of the test.
func newTestOutput(t testing.TB, addrs []string, conf string) *output {
	t.Helper()
	p, err := spec().ParseYAML(fmt.Sprintf("seed_brokers: [ %q ]\n", strings.Join(addrs, ","))+conf, nil)
	require.NoError(t, err)
	c, err := parseConfig(p)
	require.NoError(t, err)
	o := newOutput(c, service.MockResources())
	t.Cleanup(func() { require.NoError(t, o.Close(context.Background())) })
	return o
}

func connected(t testing.TB, addrs []string, conf string) *output {
	t.Helper()
	o := newTestOutput(t, addrs, conf)
	require.NoError(t, o.Connect(t.Context()))
	return o
}

// connectedAtLast is connected where conf has less patience than a busy machine needs.
func connectedAtLast(t testing.TB, addrs []string, conf string) *output {
	t.Helper()
	o := newTestOutput(t, addrs, conf)
	require.Eventually(t, func() bool { return o.Connect(t.Context()) == nil }, 2*time.Minute, 50*time.Millisecond)
	return o
}

// changed makes a message as an input does; an empty key is left out.
func changed(table, op, key, id, payload string) *service.Message {
	m := service.NewMessage([]byte(payload))
	m.MetaSetMut("database", "shop")
	m.MetaSetMut("table", table)
	m.MetaSetMut("op", op)
	m.MetaSetMut("event_id", id)
	m.MetaSetMut("commit_ts_ms", "1700000000123")
	if key != "" {
		m.MetaSetMut("key", key)
	}
	return m
}

// numbered makes n changes over keys keys, whose payload is their number.
func numbered(table string, from, n, keys int) service.MessageBatch {
	b := make(service.MessageBatch, n)
	now := time.Now().UnixMilli() // an old time makes a restarted broker forget the producer, see the description
	for i := range b {
		k := from + i
		b[i] = changed(table, "u", fmt.Sprintf(`{"id":%d}`, k%keys), fmt.Sprintf("tx:%d", k), fmt.Sprint(k))
		b[i].MetaSetMut("commit_ts_ms", fmt.Sprint(now))
	}
	return b
}

// consume reads n records of a topic from its start.
func consume(t testing.TB, addrs []string, n int, topics ...string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		f := cl.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "have %d of %d records", len(out), n)
		out = append(out, f.Records()...)
	}
	// Anything beyond what was asked for is a duplicate or an invention.
	extra, cancelExtra := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancelExtra()
	return append(out, cl.PollFetches(extra).Records()...)
}

// values returns the values of one partition in offset order.
func values(recs []*kgo.Record, partition int32) []string {
	var out []string
	for _, r := range recs {
		if r.Partition == partition {
			out = append(out, string(r.Value))
		}
	}
	return out
}

// engine writes a batch the way the engine does: as long as the output is not connected, it connects and writes the
// same messages again, wrapped anew.
func engine(t testing.TB, o *output, b service.MessageBatch) (error, []error) { //nolint:staticcheck // the first is the result
	t.Helper()
	var causes []error
	for range 200 {
		err := o.WriteBatch(t.Context(), b.Copy())
		if err != service.ErrNotConnected { //nolint:errorlint // the engine compares too
			return err, causes
		}
		for {
			err := o.Connect(t.Context())
			if err == nil {
				break
			}
			causes = append(causes, err)
			time.Sleep(50 * time.Millisecond)
		}
	}
	t.Fatalf("never delivered; %d causes, last: %v", len(causes), causes[len(causes)-1])
	return nil, nil
}

// counts collects the engine's metrics.
type counts struct {
	mu sync.Mutex
	m  map[string]int64
}

func (c *counts) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[name]
}

type stat struct {
	c    *counts
	name string
}

func (s stat) Incr(n int64) { s.c.mu.Lock(); defer s.c.mu.Unlock(); s.c.m[s.name] += n }
func (s stat) Set(n int64)  { s.c.mu.Lock(); defer s.c.mu.Unlock(); s.c.m[s.name] = n }
func (s stat) Timing(int64) { s.Incr(1) }

// stat leaves out the labels that the engine adds.
func (c *counts) stat(name string, keys, values []string) stat {
	for i, k := range keys {
		if k == "kind" {
			name += "," + values[i]
		}
	}
	return stat{c, name}
}

func (c *counts) NewCounterCtor(n string, k ...string) service.MetricsExporterCounterCtor {
	return func(v ...string) service.MetricsExporterCounter { return c.stat(n, k, v) }
}

func (c *counts) NewTimerCtor(n string, k ...string) service.MetricsExporterTimerCtor {
	return func(v ...string) service.MetricsExporterTimer { return c.stat(n, k, v) }
}

func (c *counts) NewGaugeCtor(n string, k ...string) service.MetricsExporterGaugeCtor {
	return func(v ...string) service.MetricsExporterGauge { return c.stat(n, k, v) }
}

func (c *counts) Close(context.Context) error { return nil }
