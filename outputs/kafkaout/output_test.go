package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func TestRecordsCarryTheWholeChange(t *testing.T) {
	c := fake(t, kfake.SeedTopics(3, "df.shop.orders", "df.sales.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ntombstones: true\nheaders: { tenant: acme, tbl: '${! metadata(\"table\") }' }\nmetadata: { include_prefixes: [ commit ] }\n")
	pg := changed("orders", "c", `{"id":1}`, "0/16:1", `{"a":1}`)
	pg.MetaSetMut("schema_name", "sales")
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{
		changed("orders", "d", `{"id":1}`, "tx:1", `{"before":1}`),
		pg,
		changed("orders", "d", "", "tx:2", `{"before":2}`),
	}))

	recs := consume(t, c.ListenAddrs(), 4, "df.shop.orders", "df.sales.orders")
	require.Len(t, recs, 4, "a keyless delete has no tombstone")
	byValue := map[string]*kgo.Record{}
	for _, r := range recs {
		v := string(r.Value)
		if r.Value == nil {
			v = "tombstone"
		}
		byValue[v] = r
	}
	first := byValue[`{"before":1}`]
	require.NotNil(t, first)
	assert.Equal(t, "df.shop.orders", first.Topic)
	assert.Equal(t, `{"id":1}`, string(first.Key))
	assert.Equal(t, int64(1700000000123), first.Timestamp.UnixMilli())
	assert.Equal(t, []kgo.RecordHeader{
		{Key: "event_id", Value: []byte("tx:1")},
		{Key: "op", Value: []byte("d")},
		{Key: "tbl", Value: []byte("orders")},
		{Key: "tenant", Value: []byte("acme")},
		{Key: "commit_ts_ms", Value: []byte("1700000000123")},
	}, first.Headers)

	tomb := byValue["tombstone"]
	require.NotNil(t, tomb)
	assert.Equal(t, first.Topic, tomb.Topic)
	assert.Equal(t, first.Key, tomb.Key)
	assert.Equal(t, first.Partition, tomb.Partition)
	assert.Equal(t, first.Offset+1, tomb.Offset)

	assert.Equal(t, "df.sales.orders", byValue[`{"a":1}`].Topic)
	assert.Nil(t, byValue[`{"before":2}`].Key)
}

// shapeEvent is a message about a table's shape, as an input makes it.
func shapeEvent(name, id string) *service.Message {
	table := &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop"}, Database: "shop", Name: name,
		Columns: []change.Column{{Name: "id", Type: "int", Logical: change.LogicalInt32}}, Key: []int{0},
	}
	m := envelope.AppendMessages(nil, &change.Event{
		Op: change.Schema, Table: table, Origin: &change.Origin{Tx: &change.Tx{ID: id, Position: id}}, Index: 1,
		Change: &change.SchemaChange{DDL: "DROP TABLE " + name, Old: table},
	})[0]
	return m
}

// TestSchemaChangeIsARecordOfItsTable: a change of a table's shape goes where the table's rows go, with the table's name as its key, and
// leaves no tombstone.
func TestSchemaChangeIsARecordOfItsTable(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ntombstones: true\n")
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{
		changed("orders", "c", `{"id":1}`, "tx:0", "before"), shapeEvent("orders", "tx"), changed("orders", "c", `{"id":1}`, "tx:2", "after"),
	}))
	recs := consume(t, c.ListenAddrs(), 3, "df.shop.orders")
	require.Len(t, recs, 3)
	assert.Equal(t, `{"db":"shop","table":"orders"}`, string(recs[1].Key))
	assert.Contains(t, string(recs[1].Value), `"after":{"ddl":"DROP TABLE orders","old":{"db":"shop","table":"orders"`)
	assert.Equal(t, []kgo.RecordHeader{{Key: "event_id", Value: []byte("tx:1")}, {Key: "op", Value: []byte("s")}}, recs[1].Headers)
}

// TestKeysThatChangeInTheFormatDebezium: one update is three records, in order. The output adds no tombstone where the format has one.
func TestKeysThatChangeInTheFormatDebezium(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ntombstones: true\nmetadata: { include_patterns: [ '.*' ] }\n")
	keys, err := change.ParseMetadata([]string{change.MetaEventID})
	require.NoError(t, err)
	table := &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop", Format: debezium.Default(), Metadata: keys}, Database: "shop", Name: "orders",
		Columns: []change.Column{{Name: "id", Type: "int", Logical: change.LogicalInt32}}, Key: []int{0},
	}
	ev := &change.Event{
		Op: change.Update, Table: table, Origin: &change.Origin{Tx: &change.Tx{ID: "tx", Position: "tx", CommitTime: time.UnixMilli(1700000000123)}}, Index: 1,
		Images: change.ImagesOf([]change.Value{change.IntValue(1)}, []change.Value{change.IntValue(2)}),
	}
	batch := envelope.AppendMessages(nil, ev)
	require.NoError(t, o.WriteBatch(t.Context(), batch))
	recs := consume(t, c.ListenAddrs(), 3, "df.shop.orders")
	require.Len(t, recs, 3)
	header := func(id, op, name, key string) []kgo.RecordHeader {
		return []kgo.RecordHeader{{Key: "event_id", Value: []byte(id)}, {Key: "op", Value: []byte(op)}, {Key: name, Value: []byte(key)}}
	}
	for i, want := range []struct {
		key, value string
		headers    []kgo.RecordHeader
	}{
		{`{"id":1}`, `{"before":{"id":1},"after":null,`, header("tx:1", "d", "__debezium.newkey", `{"id":2}`)},
		{`{"id":1}`, ``, header("tx:1-1", "d", "__debezium.newkey", `{"id":2}`)},
		{`{"id":2}`, `{"before":null,"after":{"id":2},`, header("tx:1-2", "c", "__debezium.oldkey", `{"id":1}`)},
	} {
		assert.Equal(t, want.key, string(recs[i].Key))
		assert.Equal(t, want.value, string(recs[i].Value[:min(len(recs[i].Value), len(want.value))]))
		assert.Equal(t, want.value == "", recs[i].Value == nil, "Kafka's null is a tombstone")
		assert.Equal(t, want.headers, recs[i].Headers)
		assert.Equal(t, int64(1700000000123), recs[i].Timestamp.UnixMilli())
	}
}

// TestSchemaChangesInATopicOfTheirOwn: the recipe of docs/events.md. In a topic of any number of partitions those of one table keep
// their order.
func TestSchemaChangesInATopicOfTheirOwn(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	require.NoError(t, err)
	_, recipe, found := strings.Cut(string(doc), "```yaml\noutput:\n  deltaforge_kafka:\n    seed_brokers: [ localhost:9092 ]\n")
	require.True(t, found)
	recipe, _, _ = strings.Cut(recipe, "```")
	c := fake(t, kfake.SeedTopics(3, "shop.orders", "shop.lines", "shop.schema"))
	o := connected(t, c.ListenAddrs(), strings.ReplaceAll("\n"+recipe, "\n    ", "\n"))
	var batch service.MessageBatch
	for i := range 5 {
		batch = append(batch, shapeEvent("orders", fmt.Sprintf("orders:%d", i)), changed("orders", "c", `{"id":1}`, fmt.Sprintf("row:%d", i), "row"),
			shapeEvent("lines", fmt.Sprintf("lines:%d", i)))
	}
	require.NoError(t, o.WriteBatch(t.Context(), batch))
	got := map[string][]string{}
	for _, r := range consume(t, c.ListenAddrs(), 10, "shop.schema") {
		key := fmt.Sprintf("%s of partition %d", r.Key, r.Partition)
		got[key] = append(got[key], string(r.Headers[0].Value))
	}
	require.Len(t, got, 2, "each table in one partition: %v", got)
	for key, ids := range got {
		table := "orders"
		if strings.Contains(key, "lines") {
			table = "lines"
		}
		assert.Equal(t, []string{table + ":0:1", table + ":1:1", table + ":2:1", table + ":3:1", table + ":4:1"}, ids, key)
	}
	require.Len(t, consume(t, c.ListenAddrs(), 5, "shop.orders"), 5)
}

func TestMessagesThatCannotBeRecordsFailAlone(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_message_bytes: 2000\nkey: '${! metadata(\"key\").parse_json().id }'\n")
	noTable := service.NewMessage([]byte("no table"))
	badTable := changed("or/ders", "c", `{"id":1}`, "tx:1", "bad topic")
	errored := changed("orders", "c", `{"id":1}`, "tx:2", "errored")
	errored.SetError(errors.New("poison value"))
	b := service.MessageBatch{
		changed("orders", "c", `{"id":1}`, "tx:3", "one"),
		noTable,
		changed("orders", "c", `{"id":1}`, "tx:4", strings.Repeat("x", 2000)),
		changed("orders", "c", `no json`, "tx:5", "bad key"),
		badTable,
		errored,
		changed("orders", "c", `{"id":1}`, "tx:6", "two"),
	}
	kinds := failures(t, o, b)
	assert.Equal(t, map[int]sink.Kind{
		1: sink.Routing, 2: sink.TooLarge, 3: sink.Serialization, 4: sink.Routing, 5: sink.Serialization,
	}, kinds)
	recs := consume(t, c.ListenAddrs(), 2, "df.shop.orders")
	assert.Equal(t, []string{"one", "two"}, values(recs, 0))
}

// failures writes b and returns the kind of every message that failed.
func failures(t *testing.T, o *output, b service.MessageBatch) map[int]sink.Kind {
	t.Helper()
	index := b.Index()
	err, _ := engine(t, o, b)
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	out := map[int]sink.Kind{}
	be.WalkMessagesIndexedBy(index, func(i int, _ *service.Message, err error) bool {
		if err != nil {
			out[i] = sink.KindOf(err)
		}
		return true
	})
	return out
}

func TestUnknownTopicWaitsAndTheOthersGoOn(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\n")
	b := service.MessageBatch{
		changed("customers", "c", "1", "tx:1", "c1"),
		changed("orders", "c", "1", "tx:2", "o1"),
		changed("customers", "c", "1", "tx:3", "c2"),
	}
	require.ErrorIs(t, o.WriteBatch(t.Context(), b), service.ErrNotConnected)
	assert.Equal(t, []string{"o1"}, values(consume(t, c.ListenAddrs(), 1, "df.shop.orders"), 0))

	err := o.Connect(t.Context())
	var off *service.ErrBackOff
	require.ErrorAs(t, err, &off)
	assert.Equal(t, 500*time.Millisecond, off.Wait)
	assert.Equal(t, sink.UnknownTopic, sink.KindOf(off.Err), "%v", err)
	assert.ErrorContains(t, err, "df.shop.customers")
	assert.ErrorContains(t, err, "create_topics.enabled: true")
	require.NoError(t, o.Connect(t.Context()), "the next one lets the batch through")
	require.ErrorIs(t, o.WriteBatch(t.Context(), b), service.ErrNotConnected)

	require.NoError(t, c.CreateTopic("df.shop.customers", 1, nil))
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assert.Equal(t, []string{"c1", "c2"}, values(consume(t, c.ListenAddrs(), 2, "df.shop.customers"), 0))
	assert.Equal(t, []string{"o1"}, values(consume(t, c.ListenAddrs(), 1, "df.shop.orders"), 0), "not written again")
}

func TestTopicsAreCreatedOnRequest(t *testing.T) {
	c := fake(t)
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\ncreate_topics: { enabled: true, partitions: 4, replication_factor: 1, config: { cleanup.policy: compact } }\n")
	require.NoError(t, o.WriteBatch(t.Context(), numbered("orders", 0, 10, 10)))
	ti := c.TopicInfo("df.shop.orders")
	require.NotNil(t, ti)
	assert.Equal(t, "compact", *ti.Configs["cleanup.policy"])
	assert.Len(t, consume(t, c.ListenAddrs(), 10, "df.shop.orders"), 10)
}

func TestLargeBatchGoesInSegments(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_buffered_bytes: 65536\n")
	b := make(service.MessageBatch, 500)
	want := make([]string, len(b))
	for i := range b {
		want[i] = fmt.Sprint(i) + strings.Repeat(".", 1000)
		b[i] = changed("orders", "u", "k", "tx", want[i])
	}
	require.NoError(t, o.WriteBatch(t.Context(), b))
	assert.Equal(t, want, values(consume(t, c.ListenAddrs(), len(b), "df.shop.orders"), 0))
}

func TestLifecycle(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	t.Run("close before connect, twice", func(t *testing.T) {
		o := newTestOutput(t, c.ListenAddrs(), "topic_prefix: df\n")
		require.NoError(t, o.Close(t.Context()))
		require.NoError(t, o.Close(t.Context()))
		require.ErrorIs(t, o.Connect(t.Context()), service.ErrEndOfInput)
	})
	t.Run("write before connect", func(t *testing.T) {
		o := newTestOutput(t, c.ListenAddrs(), "topic_prefix: df\n")
		require.ErrorIs(t, o.WriteBatch(t.Context(), numbered("orders", 0, 1, 1)), service.ErrNotConnected)
	})
	t.Run("connect twice", func(t *testing.T) {
		o := connected(t, c.ListenAddrs(), "topic_prefix: df\n")
		first := o.cl
		require.NoError(t, o.Connect(t.Context()))
		assert.Same(t, first, o.cl)
	})
	t.Run("nobody there", func(t *testing.T) {
		o := newTestOutput(t, []string{"127.0.0.1:1"}, "topic_prefix: df\n")
		err := o.Connect(t.Context())
		assert.Equal(t, sink.Connect, sink.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, "127.0.0.1:1")
	})
	t.Run("connection test", func(t *testing.T) {
		o := newTestOutput(t, c.ListenAddrs(), "topic_prefix: df\n")
		require.NoError(t, o.ConnectionTest(t.Context())[0].Err)
		o = newTestOutput(t, []string{"127.0.0.1:1"}, "topic_prefix: df\n")
		require.Error(t, o.ConnectionTest(t.Context())[0].Err)
	})
}

func TestWriteEndsWithItsContextWhileTheBrokerIsSilent(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	defer silence(c)()
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\n")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	require.ErrorIs(t, o.WriteBatch(ctx, numbered("orders", 0, 10, 2)), context.DeadlineExceeded)
	assert.Less(t, time.Since(start), time.Minute)
	require.NoError(t, o.Close(t.Context()))
}

func TestThroughTheEngine(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	got := &counts{m: map[string]int64{}}
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterMetricsExporter("counts", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return got, nil }))
	sb := env.NewStreamBuilder()
	require.NoError(t, sb.SetYAML(fmt.Sprintf(`
logger: { level: OFF }
metrics: { counts: {} }
output:
  deltaforge_kafka:
    seed_brokers: [ %q ]
    topic_prefix: df
    max_message_bytes: 2000
`, strings.Join(c.ListenAddrs(), ","))))
	send, err := sb.AddBatchProducerFunc()
	require.NoError(t, err)
	stream, err := sb.Build()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(t.Context()) }()
	require.NoError(t, send(t.Context(), numbered("orders", 0, 100, 5)))
	require.Error(t, send(t.Context(), service.MessageBatch{changed("orders", "c", "1", "tx", strings.Repeat("x", 3000))}))
	require.NoError(t, stream.Stop(t.Context()))
	require.NoError(t, <-done)

	assert.Equal(t, int64(100), got.get("sink_events_total"))
	assert.Equal(t, int64(2), got.get("sink_batch_total"))
	assert.Equal(t, int64(2), got.get("sink_latency_ns"))
	assert.Equal(t, int64(1), got.get("sink_failures_total,too_large"))
	assert.Equal(t, int64(32<<20), got.get("sink_buffer_limit_bytes"))
	recs := consume(t, c.ListenAddrs(), 100, "df.shop.orders")
	var size int64
	for _, r := range recs {
		size += int64(len(r.Key) + len(r.Value))
		for _, h := range r.Headers {
			size += int64(len(h.Key) + len(h.Value))
		}
	}
	assert.GreaterOrEqual(t, got.get("sink_bytes_total"), size)
}

// Headers that repeat the payload are a choice.
func TestEventHeaders(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "usual", "none", "own"))
	for topic, of := range map[string]struct {
		conf string
		want []kgo.RecordHeader
	}{
		"usual": {"", []kgo.RecordHeader{{Key: "event_id", Value: []byte("tx:1")}, {Key: "op", Value: []byte("c")}}},
		"none":  {"event_headers: false\n", nil},
		"own": {
			"event_headers: false\nheaders: {op: mine}\nmetadata: {include_patterns: [event_id, table]}\n",
			[]kgo.RecordHeader{{Key: "op", Value: []byte("mine")}, {Key: "event_id", Value: []byte("tx:1")}, {Key: "table", Value: []byte("orders")}},
		},
	} {
		o := connected(t, c.ListenAddrs(), "topic: "+topic+"\n"+of.conf)
		require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{changed("orders", "c", `{"id":1}`, "tx:1", "{}")}))
		assert.Equal(t, of.want, consume(t, c.ListenAddrs(), 1, topic)[0].Headers, topic)
	}
}
