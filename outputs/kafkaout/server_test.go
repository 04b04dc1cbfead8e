package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestBrokerStoppedAndStartedUnderLoad(t *testing.T) {
	s := testenv.StartKafka(t, servers.Options{})
	s.CreateTopic(t, "df.shop.orders", 3)
	o := connectedAtLast(t, s.Brokers(), "topic_prefix: df\ntimeout: 500ms\nconnect_timeout: 1s\nmax_message_bytes: 4096\n")

	faults := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(faults)
		for _, stop := range []func() error{s.Kill, func() error { return s.Stop(context.WithoutCancel(t.Context())) }, s.Kill} {
			time.Sleep(700 * time.Millisecond)
			if !assert.NoError(t, stop()) {
				return
			}
			time.Sleep(1500 * time.Millisecond)
			if !assert.NoError(t, s.Start(context.WithoutCancel(t.Context()))) {
				return
			}
		}
	})
	seen := map[sink.Kind]int{}
	texts := map[string]int{}
	n := 0
	for over := false; !over; n += 500 {
		select {
		case <-faults:
			over = true
		default:
		}
		err, causes := engine(t, o, numbered("orders", n, 500, 97))
		require.NoError(t, err)
		for _, c := range causes {
			seen[sink.KindOf(unwrapBackOff(c))]++
			texts[c.Error()]++
		}
	}
	t.Log(texts)
	wg.Wait()
	t.Logf("%d records, causes %v", n, seen)
	assert.Positive(t, seen[sink.Connect], "an outage has to show")
	assertWrittenOnceInOrder(t, s.Brokers(), n, 3)
}

func TestSilentBrokerGoesOnWithoutDuplicates(t *testing.T) {
	s := testenv.StartKafka(t, servers.Options{})
	s.CreateTopic(t, "df.shop.orders", 2)
	o := connectedAtLast(t, s.Brokers(), "topic_prefix: df\ntimeout: 500ms\nconnect_timeout: 500ms\n")
	err, _ := engine(t, o, numbered("orders", 0, 100, 7)) // a busy machine may need more than one try
	require.NoError(t, err)
	require.NoError(t, s.Pause())
	b := numbered("orders", 100, 100, 7)
	require.ErrorIs(t, o.WriteBatch(t.Context(), b.Copy()), service.ErrNotConnected)
	err = o.Connect(t.Context())
	assert.Equal(t, sink.Timeout, sink.KindOf(unwrapBackOff(err)), "%v", err)
	require.NoError(t, s.Resume())
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assertWrittenOnceInOrder(t, s.Brokers(), 200, 2)
}

func TestRealBrokerRefusesLargeRecordsOnly(t *testing.T) {
	s := testenv.Kafka(t)
	prefix := testenv.Name(t)
	topic := prefix + ".shop.orders"
	limit := "1000" // from the start: the broker takes up a changed one when it likes
	_, err := kadm.NewClient(s.Client(t)).CreateTopic(t.Context(), 2, 1, map[string]*string{"max.message.bytes": &limit}, topic)
	require.NoError(t, err)
	o := connected(t, s.Brokers(), "compression: none\ntopic_prefix: "+prefix+"\n")

	b := numbered("orders", 0, 200, 11)
	want := map[int]bool{}
	bad := map[int]sink.Kind{}
	for i, m := range b {
		if i%40 == 13 {
			m.SetBytes([]byte(strings.Repeat("x", 2000)))
			bad[i] = sink.TooLarge
		} else {
			want[i] = true
		}
	}
	assert.Equal(t, bad, failures(t, o, b))
	recs := s.ConsumeAll(t, topic)
	require.Len(t, recs, len(want), "each once")
	last := map[int32]int{0: -1, 1: -1}
	for _, r := range recs {
		var k int
		_, err := fmt.Sscan(string(r.Value), &k)
		require.NoError(t, err)
		require.True(t, want[k])
		require.Greater(t, k, last[r.Partition])
		last[r.Partition] = k
	}
}

func TestCompactedTopicRefusesKeylessRecordsOnly(t *testing.T) {
	s := testenv.Kafka(t)
	prefix := testenv.Name(t)
	o := connected(t, s.Brokers(), "tombstones: true\ntopic_prefix: "+prefix+
		"\ncreate_topics: { enabled: true, partitions: 1, config: { cleanup.policy: compact } }\n")
	b := service.MessageBatch{
		changed("orders", "c", "1", "tx:1", "one"),
		changed("orders", "c", "", "tx:2", "keyless"),
		changed("orders", "d", "1", "tx:3", "gone"),
	}
	assert.Equal(t, map[int]sink.Kind{1: sink.Serialization}, failures(t, o, b))
	recs := s.ConsumeAll(t, prefix+".shop.orders")
	require.Len(t, recs, 3)
	assert.Equal(t, []string{"one", "gone", ""}, values(recs, 0))
	assert.Nil(t, recs[2].Value)
	assert.Equal(t, "1", string(recs[2].Key))
}

func TestPartitionsAreTheJavaClients(t *testing.T) {
	s := testenv.Kafka(t)
	prefix := testenv.Name(t)
	s.CreateTopic(t, prefix+".shop.orders", 7)
	o := connected(t, s.Brokers(), "topic_prefix: "+prefix+"\n")
	require.NoError(t, o.WriteBatch(t.Context(), numbered("orders", 0, 500, 500)))
	recs := s.ConsumeAll(t, prefix+".shop.orders")
	require.Len(t, recs, 500)
	for _, r := range recs {
		assert.Equal(t, int32(uint32(javaMurmur2(r.Key))&0x7fffffff)%7, r.Partition, "%s", r.Key)
	}
}

func TestRealUnknownTopicWaits(t *testing.T) {
	s := testenv.Kafka(t)
	prefix := testenv.Name(t)
	topic := prefix + ".shop.orders"
	o := connected(t, s.Brokers(), "topic_prefix: "+prefix+"\n")
	b := numbered("orders", 0, 10, 1)
	require.ErrorIs(t, o.WriteBatch(t.Context(), b), service.ErrNotConnected)
	err := o.Connect(t.Context())
	require.Error(t, err)
	assert.Equal(t, sink.UnknownTopic, sink.KindOf(unwrapBackOff(err)))
	assert.ErrorContains(t, err, topic+" does not exist; create the topic, or set create_topics.enabled: true")
	s.CreateTopic(t, topic, 1)
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assert.Len(t, s.ConsumeAll(t, topic), 10)

	// Deleted while in use, and created again.
	adm := kadm.NewClient(s.Client(t))
	_, err = adm.DeleteTopic(t.Context(), topic)
	require.NoError(t, err)
	// Until the broker has heard of it, it takes records, which go with the topic.
	require.Eventually(t, func() bool {
		topics, err := adm.ListTopics(t.Context(), topic)
		return err == nil && errors.Is(topics[topic].Err, kerr.UnknownTopicOrPartition)
	}, time.Minute, 20*time.Millisecond)
	made := make(chan error, 1)
	go func() {
		time.Sleep(2 * time.Second)
		_, err := adm.CreateTopic(context.WithoutCancel(t.Context()), 1, 1, nil, topic)
		made <- err
	}()
	err, causes := engine(t, o, numbered("orders", 10, 10, 1))
	require.NoError(t, err)
	require.NoError(t, <-made)
	t.Logf("causes: %v", causes)
	assert.Equal(t, []string{"10", "11", "12", "13", "14", "15", "16", "17", "18", "19"}, values(s.ConsumeAll(t, topic), 0))
}

func TestAuthentication(t *testing.T) {
	s := testenv.StartKafka(t, servers.Options{SASL: true, TLS: true})
	s.CreateTopic(t, "df.shop.orders", 1)
	conf := func(mechanism, user, password, ca string) string {
		return fmt.Sprintf("topic_prefix: df\nsasl: { mechanism: %s, username: %q, password: %q }\ntls: { enabled: true, root_cas_file: %q }\n",
			mechanism, user, password, ca)
	}
	addrs := []string{s.SecureAddr()}
	for i, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		o := connected(t, addrs, conf(mechanism, servers.User, servers.Password, s.TLSCA()))
		require.NoError(t, o.WriteBatch(t.Context(), numbered("orders", i, 1, 1)), mechanism)

		err := newTestOutput(t, addrs, conf(mechanism, servers.User, "not-the-pass", s.TLSCA())).Connect(t.Context())
		assert.Equal(t, sink.Auth, sink.KindOf(err), "%v", err)
		assert.NotContains(t, err.Error(), "not-the-pass")
	}
	assert.Len(t, s.ConsumeAll(t, "df.shop.orders"), 3)

	err := newTestOutput(t, addrs, conf("PLAIN", servers.User, servers.Password, "")+"connect_timeout: 3s\n").Connect(t.Context())
	assert.Equal(t, sink.Connect, sink.KindOf(err), "unknown certificate: %v", err)
	err = newTestOutput(t, addrs, "topic_prefix: df\nconnect_timeout: 3s\n").Connect(t.Context())
	assert.Equal(t, sink.Connect, sink.KindOf(err), "no TLS: %v", err)
	t.Log(err)
}

// TestRealRefusalsHaveTheirReason: each for good, each alone, each with the setting that it comes from.
func TestRealRefusalsHaveTheirReason(t *testing.T) {
	s := testenv.Kafka(t)
	prefix := testenv.Name(t)
	limit := "4000"
	_, err := kadm.NewClient(s.Client(t)).CreateTopic(t.Context(), 1, 1, map[string]*string{"message.timestamp.before.max.ms": &limit}, prefix+".shop.late")
	require.NoError(t, err)
	o := connected(t, s.Brokers(), "topic_prefix: "+prefix+
		"\ncreate_topics: { enabled: true, partitions: 1, replication_factor: 1, config: { cleanup.policy: compact } }\n")
	fresh := changed("late", "c", "1", "tx:1", "fresh")
	fresh.MetaSetMut("commit_ts_ms", fmt.Sprint(time.Now().UnixMilli()+3_600_000/2)) // a loaded machine may take its time
	b := service.MessageBatch{
		changed("late", "c", "1", "tx:2", "old"), fresh, changed("q_r", "c", "1", "tx:3", "first"), changed("orders", "c", "", "tx:4", "no key"),
		changed("orders", "c", "1", "tx:5", "a key"),
	}
	failed, _ := reasons(t, o, b)
	require.Len(t, failed, 2, "%v", failed)
	assert.Regexp(t, `^topic \S+\.shop\.late: the change was committed \S+ ago and the topic's message\.timestamp\.before\.max\.ms is 4000; raise it, `+
		`or set message\.timestamp\.type=LogAppendTime \(kind=serialization\)$`, failed[0])
	assert.Equal(t, "topic "+prefix+".shop.orders is compacted, and the record has no key; give the table a key, or set key (kind=serialization)", failed[3])
	failed, told := reasons(t, o, service.MessageBatch{changed("q.r", "c", "1", "tx:6", "collides"), changed("orders", "c", "2", "tx:7", "goes on")})
	assert.Equal(t, map[int]string{0: "creating topic " + prefix + ".shop.q.r: Topic '" + prefix + ".shop.q.r' collides with existing topic: " + prefix +
		".shop.q_r; the broker takes no topic of this name: rename the table or the topic that it collides with, or set topic (kind=routing)"}, failed)
	assert.Empty(t, told)
	assert.Equal(t, []string{"fresh"}, values(s.ConsumeAll(t, prefix+".shop.late"), 0))
	assert.Equal(t, []string{"a key", "goes on"}, values(s.ConsumeAll(t, prefix+".shop.orders"), 0))
	assert.Equal(t, []string{"first"}, values(s.ConsumeAll(t, prefix+".shop.q_r"), 0))
}

// TestPartitionWithoutLeader: while the broker of one partition is down, the records of the others are delivered, the error names the partition, and the
// rest follows when the broker is back.
func TestPartitionWithoutLeader(t *testing.T) {
	const topic = "df.shop.orders"
	s := testenv.StartKafka(t, servers.Options{})
	second := s.StartSecondBroker(t)
	admin := kadm.NewClient(s.Client(t))
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, -1, -1
	for p, broker := range []int32{1, 2, 1} {
		ra := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		ra.Partition, ra.Replicas = int32(p), []int32{broker}
		rt.ReplicaAssignment = append(rt.ReplicaAssignment, ra)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), s.Client(t))
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	written := func() (n [3]int64) {
		ends, _ := admin.ListEndOffsets(t.Context(), topic) // of the partitions that have a leader
		ends.Each(func(o kadm.ListedOffset) { n[o.Partition] = o.Offset })
		return n
	}

	o := connectedAtLast(t, s.Brokers(), "topic_prefix: df\ntimeout: 500ms\nconnect_timeout: 1s\n")
	err, _ = engine(t, o, numbered("orders", 0, 300, 97))
	require.NoError(t, err)
	before := written()
	require.NoError(t, second.Kill())
	b := numbered("orders", 300, 300, 97)
	told := ""
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(told, "partition 1 of topic "+topic); {
		require.True(t, time.Now().Before(end), told)
		require.ErrorIs(t, o.WriteBatch(t.Context(), b.Copy()), service.ErrNotConnected)
		if err := o.Connect(t.Context()); err != nil {
			told = err.Error()
		}
	}
	t.Log(told)
	for _, p := range []int{0, 2} {
		assert.Greater(t, written()[p], before[p], "partition %d", p)
	}
	require.NoError(t, second.Start(context.WithoutCancel(t.Context())))
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assertWrittenOnceInOrder(t, s.Brokers(), 600, 3)
}
