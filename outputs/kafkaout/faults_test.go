package kafkaout

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// silence cuts the connection of every produce request, unanswered, until the returned function is called.
func silence(c *kfake.Cluster) (speak func()) {
	var over atomic.Bool
	c.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		if over.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		return nil, errors.New("no answer"), true
	})
	return func() { over.Store(true) }
}

func TestBrokerRefusesLargeRecordsOnly(t *testing.T) {
	// The topic takes less than the output thinks: whole batches are refused, and only the large records may fail.
	c := fake(t)
	require.NoError(t, c.CreateTopic("df.shop.orders", 1, map[string]string{"max.message.bytes": "1000"}))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ncompression: none\ntombstones: true\n")
	b := numbered("orders", 0, 100, 3)
	var want []string
	bad := map[int]sink.Kind{}
	for i, m := range b {
		if i%25 == 7 {
			m.SetBytes([]byte(strings.Repeat("x", 2000)))
			m.MetaSetMut("op", "d") // whose tombstone must not go out alone
			bad[i] = sink.TooLarge
		} else {
			want = append(want, fmt.Sprint(i))
		}
	}
	assert.Equal(t, bad, failures(t, o, b))
	assert.Equal(t, want, values(consume(t, c.ListenAddrs(), len(want), "df.shop.orders"), 0), "order, completeness, nothing twice")
}

// slowly partitions like the partitioner it holds, and takes its time with one record of a topic that the client has just
// loaded: long enough for what lies in the queues before it to be sent, if it may.
type slowly struct{ kgo.Partitioner }

func (s slowly) ForTopic(topic string) kgo.TopicPartitioner {
	return slowTopic{s.Partitioner.ForTopic(topic)}
}

type slowTopic struct{ kgo.TopicPartitioner }

func (s slowTopic) Partition(r *kgo.Record, n int) int {
	if string(r.Value) == "50" {
		time.Sleep(200 * time.Millisecond)
	}
	return s.TopicPartitioner.Partition(r, n)
}

func TestFirstRecordsOfATopicKeepOrder(t *testing.T) {
	// The broker refuses the record 7, and with it all that is sent with it. 50 and those after it are small enough.
	c := fake(t)
	require.NoError(t, c.CreateTopic("df.shop.orders", 1, map[string]string{"max.message.bytes": "1000"}))
	o := newTestOutput(t, c.ListenAddrs(), "topic_prefix: df\ncompression: none\n")
	o.conf.partitioner = slowly{o.conf.partitioner}
	require.NoError(t, o.Connect(t.Context()))
	b := numbered("orders", 0, 55, 3)
	b[7].SetBytes([]byte(strings.Repeat("x", 2000)))
	assert.Equal(t, map[int]sink.Kind{7: sink.TooLarge}, failures(t, o, b))
	var want []string
	for i := range b {
		if i != 7 {
			want = append(want, fmt.Sprint(i))
		}
	}
	assert.Equal(t, want, values(consume(t, c.ListenAddrs(), len(want), "df.shop.orders"), 0))
}

func TestPassingFailuresKeepOrder(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  *kerr.Error
		kind sink.Kind // what the operator is told; empty where the client deals with it alone
	}{
		{"topic authorization", kerr.TopicAuthorizationFailed, sink.Permission},
		{"cluster authorization", kerr.ClusterAuthorizationFailed, sink.Permission},
		{"policy violation", kerr.PolicyViolation, sink.Other},
		{"damaged on the way", kerr.CorruptMessage, sink.Serialization},
		{"not leader", kerr.NotLeaderForPartition, ""},
		{"not enough replicas", kerr.NotEnoughReplicas, ""},
		{"out of order sequence", kerr.OutOfOrderSequenceNumber, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := fake(t, kfake.SeedTopics(2, "df.shop.orders"))
			o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_message_bytes: 1024\ncompression: none\ntimeout: 5m\n")
			f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Partitions: []int32{0}, Err: tc.err, Count: 3})
			var got []sink.Kind
			for from := 0; from < 400; from += 100 {
				err, causes := engine(t, o, numbered("orders", from, 100, 50))
				require.NoError(t, err)
				for _, e := range causes {
					got = append(got, sink.KindOf(unwrapBackOff(e)))
				}
			}
			assert.EqualValues(t, 3, f.Hits())
			if tc.kind == "" {
				assert.Empty(t, got)
			} else {
				assert.Contains(t, got, tc.kind)
			}
			assertWrittenOnceInOrder(t, c.ListenAddrs(), 400, 2)
		})
	}
}

func unwrapBackOff(err error) error {
	if b, ok := err.(*service.ErrBackOff); ok { //nolint:errorlint // as Connect returns it
		return b.Err
	}
	return err
}

// assertWrittenOnceInOrder reads payloads 0..n-1 back: each exactly once, rising in every partition.
func assertWrittenOnceInOrder(t *testing.T, addrs []string, n, partitions int) {
	t.Helper()
	recs := consume(t, addrs, n, "df.shop.orders")
	seen := make([]bool, n)
	for p := range partitions {
		last := -1
		for _, v := range values(recs, int32(p)) {
			var k int
			_, err := fmt.Sscan(v, &k)
			require.NoError(t, err)
			require.Greater(t, k, last, "partition %d", p)
			require.False(t, seen[k], "%d twice", k)
			seen[k], last = true, k
		}
	}
	assert.NotContains(t, seen, false)
	assert.Len(t, recs, n)
}

func TestOutageShowsAndLeavesNoDuplicates(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ntimeout: 300ms\n")
	err, _ := engine(t, o, numbered("orders", 0, 100, 50)) // a busy machine may need more than one try
	require.NoError(t, err)

	speak := silence(c)
	b := numbered("orders", 100, 100, 50)
	told := ""
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(told, c.ListenAddrs()[0]); { // a busy machine has not lost a connection yet
		require.True(t, time.Now().Before(end), told)
		require.ErrorIs(t, o.WriteBatch(t.Context(), b.Copy()), service.ErrNotConnected)
		told = unwrapBackOff(o.Connect(t.Context())).Error()
		require.NoError(t, o.Connect(t.Context()))
	}
	assert.Regexp(t, "^100 records unacknowledged after 300ms: waiting for the broker at "+c.ListenAddrs()[0]+
		": (the server closed the connection|connection reset by peer|the connection is lost) \\(kind=connect\\)$", told)
	assert.Equal(t, 1, o.parked.Len())
	speak()
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assert.Zero(t, o.parked.Len())
	err, _ = engine(t, o, numbered("orders", 200, 100, 50))
	require.NoError(t, err)
	assertWrittenOnceInOrder(t, c.ListenAddrs(), 300, 2)
}

func TestLostAcknowledgementsLeaveNoDuplicates(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_message_bytes: 1024\ncompression: none\n")
	f := c.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 10},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 10},
	)
	for from := 0; from < 1000; from += 100 {
		err, _ := engine(t, o, numbered("orders", from, 100, 50))
		require.NoError(t, err)
	}
	assert.EqualValues(t, 20, f.Hits())
	assertWrittenOnceInOrder(t, c.ListenAddrs(), 1000, 2)
}

func TestManyBatchesAtOnce(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_in_flight: 4\ntombstones: true\n")
	f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: 5})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				err, _ := engine(t, o, numbered("orders", (w*20+i)*50, 50, 10))
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 5, f.Hits())
	seen := map[string]int{}
	for _, r := range consume(t, c.ListenAddrs(), 4000, "df.shop.orders") {
		seen[string(r.Value)]++
	}
	assert.Len(t, seen, 4000)
	for v, n := range seen {
		assert.Equal(t, 1, n, v)
	}
}
