package kafkaout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/kafkaconn"
	"github.com/deltaforge/deltaforge/internal/sink"
)

const (
	fieldTopic           = "topic"
	fieldTopicPrefix     = "topic_prefix"
	fieldKey             = "key"
	fieldPartitioner     = "partitioner"
	fieldHeaders         = "headers"
	fieldMetadata        = "metadata"
	fieldTombstones      = "tombstones"
	fieldEventHeaders    = "event_headers"
	fieldRejectErrored   = "reject_errored"
	fieldCompression     = "compression"
	fieldMaxMessageBytes = "max_message_bytes"
	fieldMaxBuffered     = "max_buffered_bytes"
	fieldTimeout         = "timeout"
	fieldCreateTopics    = "create_topics"
	fieldCTEnabled       = "enabled"
	fieldCTPartitions    = "partitions"
	fieldCTReplication   = "replication_factor"
	fieldCTConfig        = "config"
	fieldMaxInFlight     = "max_in_flight"
	fieldBatching        = "batching"
	fieldExactly         = "exactly_once"
	fieldCheckpointTopic = "checkpoint_topic"
	fieldTransactionalID = "transactional_id"
	fieldTxTimeout       = "transaction_timeout"
)

// recordOverhead is an upper bound of what the format adds to the key, value and headers of a record that is alone in
// its batch (Kafka protocol, record batch v2: 61 bytes of header, then varints).
const recordOverhead = 128

type topicCreation struct {
	enabled     bool
	partitions  int32
	replication int16
	config      map[string]*string
}

type config struct {
	kafkaconn.Conn
	topic           *service.InterpolatedString // nil: <topicPrefix>.<schema or database>.<table>
	topicPrefix     string
	key             *service.InterpolatedString // nil: metadata "key"
	headers         []header
	metadata        *service.MetadataFilter // nil: none
	tombstones      bool
	eventHeaders    bool
	rejectErrored   bool
	partitioner     kgo.Partitioner
	codec           kgo.CompressionCodec
	compressed      bool
	maxMessageBytes int
	maxBuffered     int
	timeout         time.Duration
	create          topicCreation
	maxInFlight     int
	dead            *deadletter.Config // nil: none
	batching        service.BatchPolicy
	exactly         bool
	checkpointTopic string
	transactionalID string // empty: one made of the topic and the key of the position
	txTimeout       time.Duration
}

// header is a user's header: a name and what its value is built from.
type header struct {
	name  string
	value *service.InterpolatedString
}

//nolint:gocyclo,cyclop // one field after the other
func parseConfig(p *service.ParsedConfig) (*config, error) {
	c := &config{}
	var err error
	if c.Conn, err = kafkaconn.Parse(p); err != nil {
		return nil, err
	}
	read := func(name string, get func() error) {
		if err == nil {
			if e := get(); e != nil {
				err = fmt.Errorf("field %s: %w", name, e)
			}
		}
	}
	read(fieldTopic, func() error { return c.parseTopic(p) })
	read(fieldKey, func() (e error) { c.key, e = optionalInterpolated(p, fieldKey); return e })
	read(fieldPartitioner, func() error { return c.parsePartitioner(p) })
	read(fieldEventHeaders, func() (e error) { c.eventHeaders, e = p.FieldBool(fieldEventHeaders); return e })
	read(fieldHeaders, func() error { return c.parseHeaders(p) }) // after event_headers, which reserves two names
	read(fieldTombstones, func() (e error) { c.tombstones, e = p.FieldBool(fieldTombstones); return e })
	read(fieldRejectErrored, func() (e error) { c.rejectErrored, e = p.FieldBool(fieldRejectErrored); return e })
	read(fieldCompression, func() error { return c.parseCompression(p) })
	read(fieldMaxMessageBytes, func() (e error) {
		c.maxMessageBytes, e = sink.IntBetween(p, 1024, 1<<29, fieldMaxMessageBytes)
		return e
	})
	read(fieldMaxBuffered, func() (e error) {
		c.maxBuffered, e = sink.IntBetween(p, 64<<10, 1<<30, fieldMaxBuffered)
		return e
	})
	read(fieldTimeout, func() (e error) { c.timeout, e = sink.DurationAtLeast(p, fieldTimeout, 100*time.Millisecond); return e })
	read(fieldCreateTopics, func() error { return c.parseCreate(p.Namespace(fieldCreateTopics)) })
	read(deadletter.FieldDeadLetter, func() (e error) { c.dead, e = deadletter.Of(p); return e })
	read(fieldMaxInFlight, func() (e error) { c.maxInFlight, e = sink.IntBetween(p, 1, 1<<20, fieldMaxInFlight); return e })
	read(fieldBatching, func() (e error) { c.batching, e = sink.Batching(p, fieldBatching); return e })
	if err == nil {
		err = c.parseExactly(p)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *config) parseTopic(p *service.ParsedConfig) (err error) {
	if c.topic, err = optionalInterpolated(p, fieldTopic); err != nil {
		return err
	}
	if c.topicPrefix, err = p.FieldString(fieldTopicPrefix); err != nil {
		return err
	}
	switch {
	case c.topic == nil && c.topicPrefix == "":
		return fmt.Errorf("give either %s or %s", fieldTopic, fieldTopicPrefix)
	case c.topic != nil && c.topicPrefix != "":
		return fmt.Errorf("%s is only used to build the default topic; remove it, or remove %s", fieldTopicPrefix, fieldTopic)
	case c.topic == nil:
		return checkTopicName(c.topicPrefix)
	}
	if name, static := c.topic.Static(); static {
		return checkTopicName(name)
	}
	return nil
}

// parseExactly is called last.
func (c *config) parseExactly(p *service.ParsedConfig) (err error) {
	if c.exactly, err = p.FieldBool(fieldExactly); err == nil && c.exactly {
		err = sink.CheckExactly(c.maxInFlight, c.batching)
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", fieldExactly, err)
	}
	if c.checkpointTopic, err = p.FieldString(fieldCheckpointTopic); err == nil {
		err = checkTopicName(c.checkpointTopic)
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", fieldCheckpointTopic, err)
	}
	if c.transactionalID, err = p.FieldString(fieldTransactionalID); err != nil {
		return fmt.Errorf("field %s: %w", fieldTransactionalID, err)
	}
	c.txTimeout, err = sink.DurationAtLeast(p, fieldTxTimeout, time.Second)
	if err == nil && c.exactly && c.txTimeout < 2*c.timeout {
		err = fmt.Errorf("%s is shorter than twice the %s of %s, in which a transaction is written and committed", c.txTimeout, fieldTimeout, c.timeout)
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", fieldTxTimeout, err)
	}
	return nil
}

func (c *config) parseHeaders(p *service.ParsedConfig) error {
	m, err := p.FieldInterpolatedStringMap(fieldHeaders)
	if err != nil {
		return err
	}
	for name, value := range m {
		if name == "" || c.eventHeaders && (name == metaEventID || name == metaOp) {
			return fmt.Errorf("%q cannot be set: event_id and op are there by %s, and a header needs a name", name, fieldEventHeaders)
		}
		c.headers = append(c.headers, header{name, value})
	}
	slices.SortFunc(c.headers, func(a, b header) int { return strings.Compare(a.name, b.name) })
	f, err := p.FieldMetadataFilter(fieldMetadata)
	if err != nil {
		return err
	}
	if !f.IsEmpty() {
		c.metadata = f
	}
	return nil
}

func (c *config) parsePartitioner(p *service.ParsedConfig) error {
	name, err := p.FieldString(fieldPartitioner)
	if err != nil {
		return err
	}
	switch name {
	case "murmur2":
		c.partitioner = kgo.StickyKeyPartitioner(nil)
	case "round_robin":
		c.partitioner = kgo.RoundRobinPartitioner()
	default:
		return fmt.Errorf("%q is not one of murmur2, round_robin", name)
	}
	return nil
}

func (c *config) parseCompression(p *service.ParsedConfig) error {
	name, err := p.FieldString(fieldCompression)
	if err != nil {
		return err
	}
	c.compressed = true
	switch name {
	case "none":
		c.codec, c.compressed = kgo.NoCompression(), false
	case "gzip":
		c.codec = kgo.GzipCompression()
	case "snappy":
		c.codec = kgo.SnappyCompression()
	case "lz4":
		c.codec = kgo.Lz4Compression()
	case "zstd":
		c.codec = kgo.ZstdCompression()
	default:
		return fmt.Errorf("%q is not one of none, gzip, snappy, lz4, zstd", name)
	}
	return nil
}

func (c *config) parseCreate(p *service.ParsedConfig) (err error) {
	if c.create.enabled, err = p.FieldBool(fieldCTEnabled); err != nil {
		return err
	}
	partitions, err := p.FieldInt(fieldCTPartitions)
	if err != nil {
		return err
	}
	replication, err := p.FieldInt(fieldCTReplication)
	if err != nil {
		return err
	}
	if partitions != -1 && (partitions < 1 || partitions > 100000) {
		return fmt.Errorf("%s: %d is neither -1 (the broker's default) nor between 1 and 100000", fieldCTPartitions, partitions)
	}
	if replication != -1 && (replication < 1 || replication > 1000) {
		return fmt.Errorf("%s: %d is neither -1 (the broker's default) nor between 1 and 1000", fieldCTReplication, replication)
	}
	c.create.partitions, c.create.replication = int32(partitions), int16(replication)
	m, err := p.FieldStringMap(fieldCTConfig)
	if err != nil {
		return err
	}
	if len(m) > 0 {
		c.create.config = make(map[string]*string, len(m))
		for k, v := range m {
			c.create.config[k] = &v
		}
	}
	return nil
}

func optionalInterpolated(p *service.ParsedConfig, name string) (*service.InterpolatedString, error) {
	if !p.Contains(name) {
		return nil, nil
	}
	if s, err := p.FieldString(name); err == nil && s == "" {
		return nil, nil
	}
	return p.FieldInterpolatedString(name)
}
