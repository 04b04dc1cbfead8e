package kafkaout

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// Metadata keys that are read without a field naming them.
const (
	metaDatabase = "database"
	metaSchema   = "schema_name"
	metaTable    = "table"
	metaKey      = "key"
	metaOp       = "op"
	metaEventID  = "event_id"
	metaCommitTS = "commit_ts_ms"
)

const (
	maxTopicName   = 249 // Apache Kafka, org.apache.kafka.common.internals.Topic
	maxTopicsNamed = 20_000
)

type tableName struct{ schema, table string }

// builder turns messages into records. It is used by one goroutine at a time.
type builder struct {
	conf   *config
	topics map[tableName]string // default topic by table; emptied when it grows past maxTopicsNamed

	// What the last message had, which the next one probably has too.
	lastTable tableName
	lastTopic string
	lastTS    string
	lastTime  time.Time
}

// build fills a.recs from batch: one record a message, plus a tombstone where one is due, in batch order. A message
// that cannot become a record is noted in a.failed.
//
// Payloads, keys and header values are not copied: a record points into its message, which the caller keeps
// unchanged until the batch is acknowledged, and the client only reads them.
func (b *builder) build(a *attempt, batch service.MessageBatch) {
	a.reset(len(batch), b.conf.tombstones)
	for i, m := range batch {
		if err := b.one(a, i, m); err != nil {
			a.fail(i, err)
		}
	}
	for i := range a.ids {
		if len(batch) > 0 {
			a.ids[i], a.text, _ = change.Meta(batch[i*(len(batch)-1)], metaEventID, a.text)
		}
	}
}

func (b *builder) one(a *attempt, i int, m *service.Message) error {
	if err := m.GetError(); err != nil && b.conf.rejectErrored {
		return sink.Errorf(sink.Serialization, "message carries an error of an earlier step: %w; "+
			"route it with a switch on errored(), clear it with a catch processor, or set %s: false", err, fieldRejectErrored)
	}
	ev, err := change.Told(m)
	if err != nil {
		return sink.Errorf(sink.Routing, "%w", err)
	}
	value, err := m.AsBytes()
	if err != nil {
		return sink.Errorf(sink.Serialization, "reading the payload: %w", err)
	}
	tombstone := ev != nil && ev.Tombstone && len(value) == 0
	switch {
	case tombstone:
		value = nil
	case value == nil:
		value = []byte{} // nil would be a tombstone
	}
	topic, err := b.topic(a, m)
	if err != nil {
		return err
	}
	key, err := b.key(a, m)
	if err != nil {
		return err
	}
	var op []byte
	op, a.text, _ = change.Meta(m, metaOp, a.text)
	first := len(a.headers)
	if err := b.appendHeaders(a, m, ev, op); err != nil {
		a.headers = a.headers[:first]
		return err
	}
	headers := slices.Clip(a.headers[first:])
	size := len(key) + len(value)
	for _, h := range headers {
		size += len(h.Key) + len(h.Value) + 10
	}
	if size+recordOverhead > b.conf.maxMessageBytes {
		return sink.Errorf(sink.TooLarge, "record for topic %s has %d bytes and %s is %d", topic, size+recordOverhead,
			fieldMaxMessageBytes, b.conf.maxMessageBytes)
	}
	ts := b.commitTime(m)
	a.add(i, size, kgo.Record{Topic: topic, Key: key, Value: value, Headers: headers, Timestamp: ts})
	if b.conf.tombstones && string(op) == "d" && key != nil && !tombstone && (ev == nil || !ev.Followed) {
		a.add(i, len(key), kgo.Record{Topic: topic, Key: key, Headers: headers, Timestamp: ts})
	}
	return nil
}

func (b *builder) topic(a *attempt, m *service.Message) (string, error) {
	if b.conf.topic != nil {
		name, err := b.conf.topic.TryString(m)
		if err != nil {
			return "", sink.Errorf(sink.Routing, "interpolating %s: %w", fieldTopic, err)
		}
		if name == "" {
			return "", sink.Errorf(sink.Routing, "%s is empty for this message", fieldTopic)
		}
		if err := checkTopicName(name); err != nil {
			return "", sink.Errorf(sink.Routing, "%s: %w", fieldTopic, err)
		}
		return name, nil
	}
	var table, schema []byte
	table, a.text, _ = change.Meta(m, metaTable, a.text)
	if schema, a.text, _ = change.Meta(m, metaSchema, a.text); len(schema) == 0 {
		schema, a.text, _ = change.Meta(m, metaDatabase, a.text)
	}
	if b.lastTopic != "" && string(table) == b.lastTable.table && string(schema) == b.lastTable.schema {
		return b.lastTopic, nil
	}
	n := tableName{schema: string(schema), table: string(table)}
	if name, ok := b.topics[n]; ok {
		b.lastTable, b.lastTopic = n, name
		return name, nil
	}
	if n.table == "" || n.schema == "" {
		return "", sink.Errorf(sink.Routing, "the default topic needs the metadata table and schema_name or database, "+
			"and this message has table=%q, schema or database=%q; set %s", n.table, n.schema, fieldTopic)
	}
	name := b.conf.topicPrefix + "." + n.schema + "." + n.table
	if err := checkTopicName(name); err != nil {
		return "", sink.Errorf(sink.Routing, "default topic: %w; set %s", err, fieldTopic)
	}
	if len(b.topics) >= maxTopicsNamed {
		clear(b.topics)
	}
	b.topics[n] = name
	return name, nil
}

// key returns nil, Kafka's null key, when there is none.
func (b *builder) key(a *attempt, m *service.Message) (k []byte, err error) {
	if b.conf.key == nil {
		k, a.text, _ = change.Meta(m, metaKey, a.text)
	} else if k, err = b.conf.key.TryBytes(m); err != nil {
		return nil, sink.Errorf(sink.Serialization, "interpolating %s: %w", fieldKey, err)
	}
	if len(k) == 0 {
		return nil, nil
	}
	return k, nil
}

func (b *builder) appendHeaders(a *attempt, m *service.Message, ev *change.Event, op []byte) error {
	if b.conf.eventHeaders {
		var id []byte
		var ok bool
		if id, a.text, ok = change.Meta(m, metaEventID, a.text); ok {
			a.headers = append(a.headers, kgo.RecordHeader{Key: metaEventID, Value: id})
		}
		if len(op) > 0 {
			a.headers = append(a.headers, kgo.RecordHeader{Key: metaOp, Value: op})
		}
	}
	var own []change.Header
	if ev != nil {
		own = ev.Headers
	}
	for _, h := range own {
		a.headers = append(a.headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	for _, h := range b.conf.headers {
		v, err := h.value.TryBytes(m)
		if err != nil {
			return sink.Errorf(sink.Serialization, "interpolating header %s: %w", h.name, err)
		}
		a.headers = append(a.headers, kgo.RecordHeader{Key: h.name, Value: v})
	}
	if b.conf.metadata == nil {
		return nil
	}
	first := len(a.headers)
	err := b.conf.metadata.Walk(m, func(k, v string) error {
		there := b.conf.eventHeaders && (k == metaEventID || k == metaOp)
		if !there && !slices.ContainsFunc(own, func(h change.Header) bool { return h.Name == k }) {
			a.headers = append(a.headers, kgo.RecordHeader{Key: k, Value: bytesOf(v)})
		}
		return nil
	})
	slices.SortFunc(a.headers[first:], func(x, y kgo.RecordHeader) int { return cmp.Compare(x.Key, y.Key) })
	return err
}

// commitTime returns the zero time, for which the client takes its clock, when there is no usable commit time.
func (b *builder) commitTime(m *service.Message) time.Time {
	v, ok := m.MetaGetMut(metaCommitTS)
	if !ok {
		if ev, ours := change.FromMessage(m); ours && !ev.Table.Source.Metadata.Has(metaCommitTS) {
			return ev.Tx.CommitTime.Truncate(time.Millisecond)
		}
		return time.Time{}
	}
	switch t := v.(type) {
	case int64:
		return time.UnixMilli(t)
	case string:
		if t == b.lastTS {
			return b.lastTime
		}
		if ms, err := strconv.ParseInt(t, 10, 64); err == nil {
			b.lastTS, b.lastTime = t, time.UnixMilli(ms)
			return b.lastTime
		}
	case float64:
		return time.UnixMilli(int64(t))
	case int:
		return time.UnixMilli(int64(t))
	}
	return time.Time{}
}

// bytesOf views s as bytes. The client never writes to what it sends.
func bytesOf(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// checkTopicName holds a name against Kafka's rules.
func checkTopicName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxTopicName {
		return fmt.Errorf("%q is not a topic name: 1 to %d characters, not . or .., are allowed", name, maxTopicName)
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("%q is not a topic name: only letters, digits, and . _ - are allowed", name)
		}
	}
	return nil
}
