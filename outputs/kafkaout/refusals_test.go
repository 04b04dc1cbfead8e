package kafkaout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// reasons writes b and returns the error of every message that failed, and what the operator was told meanwhile.
func reasons(t *testing.T, o *output, b service.MessageBatch) (failed map[int]string, told []string) {
	t.Helper()
	index := b.Index()
	err, causes := engine(t, o, b)
	for _, c := range causes {
		told = append(told, unwrapBackOff(c).Error())
	}
	if err == nil {
		return nil, told
	}
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	failed = map[int]string{}
	be.WalkMessagesIndexedBy(index, func(i int, _ *service.Message, err error) bool {
		if err != nil {
			failed[i] = err.Error()
		}
		return true
	})
	return failed, told
}

// TestTopicThatCannotBeFailsAlone: its name collides with that of another. The records of other topics go on, and so does the
// next batch.
func TestTopicThatCannotBeFailsAlone(t *testing.T) {
	c := fake(t)
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ntombstones: true\ncreate_topics: { enabled: true, partitions: 1, replication_factor: 1 }\n")
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{changed("q_r", "c", "1", "tx:0", "first")}))
	const want = "creating topic df.shop.q.r: INVALID_TOPIC_EXCEPTION: The request attempted to perform an operation on an invalid topic; " +
		"the broker takes no topic of this name: rename the table or the topic that it collides with, or set topic (kind=routing)"
	asked := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Observe: true, Count: -1})
	for n := range 2 {
		failed, told := reasons(t, o, service.MessageBatch{
			changed("q.r", "d", "1", "tx:1", "refused"), changed("orders", "c", "1", "tx:2", fmt.Sprint("other ", n)), changed("q.r", "c", "1", "tx:3", "refused"),
			changed("q_r", "c", "1", "tx:4", fmt.Sprint("next ", n)),
		})
		assert.Equal(t, map[int]string{0: want, 2: want}, failed)
		assert.Empty(t, told, "nobody waits")
	}
	assert.EqualValues(t, 1, asked.Hits(), "the answer is believed for a while")
	assert.Equal(t, []string{"first", "next 0", "next 1"}, values(consume(t, c.ListenAddrs(), 3, "df.shop.q_r"), 0))
	assert.Equal(t, []string{"other 0", "other 1"}, values(consume(t, c.ListenAddrs(), 2, "df.shop.orders"), 0))
}

// TestEachRefusalHasItsReason: records that the broker refuses for good, where the user may not ask for the topic's settings.
func TestEachRefusalHasItsReason(t *testing.T) {
	for code, want := range map[*kerr.Error]string{
		kerr.InvalidRecord: "topic df.shop.orders: " + strings.TrimSuffix(kerr.InvalidRecord.Error(), ".") + "; a compacted topic takes no record without a key: give the table a key, or set key (kind=serialization)",
		kerr.InvalidTimestamp: "topic df.shop.orders: " + strings.TrimSuffix(kerr.InvalidTimestamp.Error(), ".") + "; the commit time is further from the broker's clock than the topic allows: raise its " +
			"message.timestamp.before.max.ms or message.timestamp.after.max.ms, or set message.timestamp.type=LogAppendTime (kind=serialization)",
		kerr.MessageTooLarge:             "topic df.shop.orders: " + strings.TrimSuffix(kerr.MessageTooLarge.Error(), ".") + " (uncompressed_bytes=35, compressed_bytes=35); raise max.message.bytes of the topic, or route large records elsewhere (kind=too_large)",
		kerr.UnsupportedForMessageFormat: "topic df.shop.orders: " + strings.TrimSuffix(kerr.UnsupportedForMessageFormat.Error(), ".") + "; the topic has a message format from before Kafka 0.11, which has no headers: raise its message.format.version (kind=serialization)",
	} {
		c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
		o := connected(t, c.ListenAddrs(), "topic_prefix: df\n")
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: code, Count: 3}) // the whole, its first half, the first of it
		failed, told := reasons(t, o, numbered("orders", 0, 4, 4))
		assert.Equal(t, map[int]string{0: want}, failed, code.Message)
		assert.Empty(t, told)
		assert.Equal(t, []string{"1", "2", "3"}, values(consume(t, c.ListenAddrs(), 3, "df.shop.orders"), 0))
		failed, _ = reasons(t, o, numbered("orders", 4, 4, 4))
		assert.Empty(t, failed, "the attempt is used again, and nothing of it is left")
	}
	assert.False(t, permanent(sink.Serialization, kerr.CorruptMessage))
}

// TestLimitsOfATopicAreNamed: where the settings can be asked for, the culprits are known at once, with the number.
func TestLimitsOfATopicAreNamed(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) *kgo.Record {
		return &kgo.Record{Topic: "t", Key: []byte("k"), Timestamp: now.Add(d)}
	}
	for _, tc := range []struct {
		settings string
		r        *kgo.Record
		size     int
		want     string
	}{
		{"cleanup.policy=compact", &kgo.Record{Topic: "t"}, 1, "topic t is compacted, and the record has no key; give the table a key, or set key (kind=serialization)"},
		{"cleanup.policy=compact", at(0), 1, ""},
		{"cleanup.policy=compact,delete", &kgo.Record{Topic: "t"}, 1, "topic t is compacted, and the record has no key; give the table a key, or set key (kind=serialization)"},
		{"cleanup.policy=delete", &kgo.Record{Topic: "t"}, 1, ""},
		{"max.message.bytes=1000", at(0), 872, ""},
		{"max.message.bytes=1000", at(0), 873, "topic t: the record has 1001 bytes and the topic's max.message.bytes is 1000; raise it, or route large records elsewhere (kind=too_large)"},
		{"message.timestamp.before.max.ms=4000", at(-3 * time.Second), 1, ""},
		{"message.timestamp.before.max.ms=4000", at(-time.Hour), 1, "topic t: the change was committed 1h0m0s ago and the topic's message.timestamp.before.max.ms is 4000; raise it, or set message.timestamp.type=LogAppendTime (kind=serialization)"},
		{"message.timestamp.after.max.ms=4000", at(time.Hour), 1, "topic t: the change's commit time is 1h0m0s in the future and the topic's message.timestamp.after.max.ms is 4000; look at the clocks of the database and of the broker (kind=serialization)"},
		{"message.timestamp.difference.max.ms=4000", at(-time.Hour), 1, "topic t: the change was committed 1h0m0s ago and the topic's message.timestamp.difference.max.ms is 4000; raise it, or set message.timestamp.type=LogAppendTime (kind=serialization)"},
		{"message.timestamp.before.max.ms=7200000 message.timestamp.difference.max.ms=4000", at(-time.Hour), 1, ""},
		{"message.timestamp.difference.max.ms=4000 message.timestamp.before.max.ms=7200000", at(-time.Hour), 1, ""},
		{"message.timestamp.before.max.ms=9223372036854775807", at(-100 * 365 * 24 * time.Hour), 1, ""},
		{"message.timestamp.before.max.ms=x", at(-time.Hour), 1, ""},
		{"message.timestamp.before.max.ms=4000", &kgo.Record{Topic: "t"}, 1, ""},
		{"message.timestamp.before.max.ms=4000 message.timestamp.type=LogAppendTime", at(-time.Hour), 1, ""},
	} {
		var l limits
		for _, s := range strings.Fields(tc.settings) {
			key, value, _ := strings.Cut(s, "=")
			l.set(key, value)
		}
		got := ""
		if err := l.broken(tc.r, tc.size, false, now); err != nil {
			got = err.Error()
		}
		assert.Equal(t, tc.want, got, tc.settings)
	}
	l := limits{size: 1000}
	assert.Nil(t, l.broken(at(0), 5000, true, now), "compressed it may be smaller")

	c := fake(t)
	require.NoError(t, c.CreateTopic("df.shop.orders", 1, map[string]string{"max.message.bytes": "1000"}))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ncompression: none\n")
	sent := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
	b := numbered("orders", 0, 30, 1)
	for _, i := range []int{7, 20} {
		b[i].SetBytes([]byte(strings.Repeat("x", 2000)))
	}
	failed, told := reasons(t, o, b)
	assert.Equal(t, []int{7, 20}, slices.Sorted(func(yield func(int) bool) {
		for i, text := range failed {
			assert.Contains(t, text, " bytes and the topic's max.message.bytes is 1000; raise it, or route large records elsewhere (kind=too_large)")
			if !yield(i) {
				return
			}
		}
	}))
	assert.Empty(t, told)
	assert.EqualValues(t, 4, sent.Hits(), "the whole; the rest of it, which together is larger than 1000; its halves")
}

// TestRecordOnItsWayToATopicThatIsGone: the client does not give up on it by itself. Its cause is told; it is written to the topic
// that takes the place, which is created where that is asked for.
func TestRecordOnItsWayToATopicThatIsGone(t *testing.T) {
	for _, create := range []bool{false, true} {
		t.Run(fmt.Sprintf("create %v", create), func(t *testing.T) {
			c := fake(t)
			require.NoError(t, c.CreateTopic("df.shop.orders", 2, nil))
			o := connectedAtLast(t, c.ListenAddrs(), fmt.Sprintf("topic_prefix: df\ntimeout: 500ms\ncreate_topics: { enabled: %v, partitions: 1 }\n", create))
			err, _ := engine(t, o, numbered("orders", 0, 10, 5))
			require.NoError(t, err)
			speak := silence(c)
			b := numbered("orders", 10, 10, 5)
			require.ErrorIs(t, o.WriteBatch(t.Context(), b.Copy()), service.ErrNotConnected)
			require.NoError(t, c.DeleteTopic("df.shop.orders"))
			speak()
			told := ""
			for end := time.Now().Add(2 * time.Minute); !strings.Contains(told, "topic df.shop.orders "); {
				require.True(t, time.Now().Before(end), told)
				if err := o.Connect(t.Context()); err != nil {
					told = unwrapBackOff(err).Error()
					continue
				}
				require.ErrorIs(t, o.WriteBatch(t.Context(), b.Copy()), service.ErrNotConnected)
			}
			assert.EqualValues(t, 10, o.cl.BufferedProduceRecords(), "a broker that has just started may not know its topics yet: they are taken back the second time")
			if create {
				assert.Equal(t, "10 records unacknowledged after 500ms: topic df.shop.orders is gone; it is created again (kind=unknown_topic)", told)
			} else {
				assert.Equal(t, "10 records unacknowledged after 500ms: topic df.shop.orders is gone; create the topic, or set create_topics.enabled: true (kind=unknown_topic)", told)
				go func() {
					time.Sleep(time.Second)
					_ = c.CreateTopic("df.shop.orders", 1, nil)
				}()
			}
			err, causes := engine(t, o, b)
			require.NoError(t, err, "%v", causes)
			assert.Equal(t, []string{"10", "11", "12", "13", "14", "15", "16", "17", "18", "19"}, values(consume(t, c.ListenAddrs(), 10, "df.shop.orders"), 0), "%v", causes)
		})
	}
}

func TestThrottlingIsNamed(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connectedAtLast(t, c.ListenAddrs(), "topic_prefix: df\ntimeout: 300ms\n")
	defer silence(c)()
	o.hooks.OnBrokerThrottle(kgo.BrokerMetadata{Host: "kafka-1", Port: 9092}, time.Hour, true)
	require.ErrorIs(t, o.WriteBatch(t.Context(), numbered("orders", 0, 3, 1)), service.ErrNotConnected)
	assert.EqualError(t, unwrapBackOff(o.Connect(t.Context())), "3 records unacknowledged after 300ms: the broker at kafka-1:9092 lets this client wait: the quota "+
		"of its user or client_id is used up; raise producer_byte_rate or request_percentage, or send less (kind=backpressure)")
	o.hooks.OnBrokerThrottle(kgo.BrokerMetadata{}, 0, true)
	assert.Nil(t, o.hooks.why(time.Now().Add(time.Hour)))
}

func TestMorePartitionsAreNoticed(t *testing.T) {
	o := connected(t, fake(t).ListenAddrs(), "topic_prefix: df\n")
	assert.Equal(t, 30*time.Second, o.cl.OptValue(kgo.MetadataMaxAge))
}

// TestGoodBatchAfterABadOne: attempts are used again.
func TestGoodBatchAfterABadOne(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_message_bytes: 1024\n")
	for range 20 { // sync.Pool gives no promise
		b := numbered("orders", 0, 3, 1)
		b[1].SetBytes([]byte(strings.Repeat("x", 2000)))
		assert.Equal(t, map[int]sink.Kind{1: sink.TooLarge}, failures(t, o, b))
		require.NoError(t, o.WriteBatch(t.Context(), numbered("orders", 0, 3, 1)))
	}
}

// TestTablesOfOneNameInTwoDatabases: the shortcut for the topic of the last message compares the whole name.
func TestTablesOfOneNameInTwoDatabases(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders", "df.sales.orders", "df.public.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\n")
	in := func(database, schema, payload string) *service.Message {
		m := changed("orders", "c", "1", "", payload)
		m.MetaSetMut("database", database)
		if schema != "" {
			m.MetaSetMut("schema_name", schema)
		}
		return m
	}
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{
		in("shop", "", "1"), in("shop", "", "2"), in("sales", "", "3"), in("shop", "public", "4"), in("shop", "", "5"),
	}))
	assert.Equal(t, []string{"1", "2", "5"}, values(consume(t, c.ListenAddrs(), 3, "df.shop.orders"), 0))
	assert.Equal(t, []string{"3"}, values(consume(t, c.ListenAddrs(), 1, "df.sales.orders"), 0))
	assert.Equal(t, []string{"4"}, values(consume(t, c.ListenAddrs(), 1, "df.public.orders"), 0))
}

// TestAnotherBatchIsNotTakenForTheParkedOne although it has the same keys and no event ids.
func TestAnotherBatchIsNotTakenForTheParkedOne(t *testing.T) {
	for _, headers := range []bool{true, false} {
		record := func(m *service.Message) *attempt {
			a := newAttempt()
			b := builder{
				conf:   &config{topicPrefix: "df", maxMessageBytes: 1000, tombstones: true, eventHeaders: headers},
				topics: map[tableName]string{},
			}
			b.build(a, service.MessageBatch{m})
			require.Empty(t, a.failed)
			return a
		}
		one := record(changed("orders", "u", "1", "", "one"))
		assert.True(t, one.same(record(changed("orders", "u", "1", "", "one"))))
		others := map[string]*service.Message{
			"payload": changed("orders", "u", "1", "", "two"), "length": changed("orders", "u", "1", "", "one "),
			"key": changed("orders", "u", "2", "", "one"), "no key": changed("orders", "u", "", "", "one"),
			"topic": changed("items", "u", "1", "", "one"), "event id": changed("orders", "u", "1", "7", "one"),
			"tombstone": changed("orders", "d", "1", "", "one"),
		}
		if headers { // without them, and without an id, two such records are one
			others["op"] = changed("orders", "c", "1", "", "one")
		}
		for name, other := range others {
			assert.False(t, one.same(record(other)), "%s, %t", name, headers)
			assert.False(t, record(other).same(one), "%s, %t", name, headers)
		}
	}
}

// TestRecordOfAMessage: every part of a record at its edges.
func TestRecordOfAMessage(t *testing.T) {
	build := func(conf string, m *service.Message) (*attempt, error) {
		o := newTestOutput(t, []string{"h:1"}, conf)
		a := newAttempt()
		o.build.build(a, service.MessageBatch{m})
		return a, a.failed[0]
	}
	headers := func(a *attempt) (names []string) {
		for _, h := range a.recs[0].Headers {
			names = append(names, h.Key+"="+string(h.Value))
		}
		return names
	}
	empty := changed("orders", "c", "", "", "")
	a, err := build("topic_prefix: df\n", empty)
	require.NoError(t, err)
	assert.NotNil(t, a.recs[0].Value, "nothing but a tombstone has a null value")
	none := service.NewMessage(nil)
	none.MetaSetMut("table", "orders")
	none.MetaSetMut("database", "shop")
	a, err = build("topic_prefix: df\n", none)
	require.NoError(t, err)
	assert.NotNil(t, a.recs[0].Value)
	assert.Empty(t, headers(a))

	for _, conf := range []string{"topic_prefix: df\ntombstones: true\n", "topic_prefix: df\ntombstones: true\nkey: '${! metadata(\"key\") }'\n"} {
		m := changed("orders", "d", "k", "", "x")
		m.MetaSetMut("key", "")
		a, err = build(conf, m)
		require.NoError(t, err)
		require.Len(t, a.recs, 1, "a null key has no tombstone")
		assert.Nil(t, a.recs[0].Key, "an empty key is Kafka's null key")
		m.MetaSetMut("key", 7)
		a, err = build(conf, m)
		require.NoError(t, err)
		require.Len(t, a.recs, 2)
		assert.Equal(t, "7", string(a.recs[0].Key))
	}

	m := changed("orders", "c", "1", "tx:1", "x")
	m.MetaSetMut("zone", "b")
	m.MetaSetMut("area", "a")
	a, err = build("topic_prefix: df\nmetadata: { include_patterns: [ '.*' ] }\n", m)
	require.NoError(t, err)
	assert.Equal(t, []string{"event_id=tx:1", "op=c", "area=a", "commit_ts_ms=1700000000123", "database=shop", "key=1", "table=orders", "zone=b"}, headers(a),
		"event_id and op once, and first")

	for _, tc := range []struct {
		ts   any
		want int64
	}{{"1700000000123", 1700000000123}, {int64(5), 5}, {float64(6), 6}, {7, 7}} {
		m.MetaSetMut("commit_ts_ms", tc.ts)
		a, err = build("topic_prefix: df\n", m)
		require.NoError(t, err)
		assert.Equal(t, tc.want, a.recs[0].Timestamp.UnixMilli())
	}
	m.MetaSetMut("commit_ts_ms", "soon")
	a, err = build("topic_prefix: df\n", m)
	require.NoError(t, err)
	assert.True(t, a.recs[0].Timestamp.IsZero())

	// Exactly the limit is allowed.
	m = changed("orders", "", "", "", strings.Repeat("x", 2000))
	m.MetaDelete("op")
	m.MetaDelete("event_id")
	_, err = build(fmt.Sprintf("topic_prefix: df\nmax_message_bytes: %d\n", 2000+recordOverhead), m)
	require.NoError(t, err)
	_, err = build(fmt.Sprintf("topic_prefix: df\nmax_message_bytes: %d\n", 2000+recordOverhead-1), m)
	require.EqualError(t, err, "record for topic df.shop.orders has 2128 bytes and max_message_bytes is 2127 (kind=too_large)")
}

// TestNumbersOfABatch: what failed is not delivered; a delete with its tombstone is one message.
func TestNumbersOfABatch(t *testing.T) {
	o := newTestOutput(t, []string{"h:1"}, "topic_prefix: df\ntombstones: true\n")
	a := newAttempt()
	o.build.build(a, service.MessageBatch{
		changed("orders", "d", "1", "", "12345"), changed("orders", "c", "1", "", "12345"), service.NewMessage([]byte("nowhere")),
	})
	events, size := a.delivered()
	assert.Equal(t, 2, events)
	assert.Equal(t, int64(2*(1+5+len("op")+1+len("event_id")+20)+1), size)
	a.fail(1, errors.New("refused"))
	events, _ = a.delivered()
	assert.Equal(t, 1, events)
}
