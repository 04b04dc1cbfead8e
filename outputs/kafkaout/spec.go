package kafkaout

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/kafkaconn"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func spec() *service.ConfigSpec {
	s := service.NewConfigSpec().
		Categories("Services").
		Version("0.1.0").
		Summary("Writes change events to Apache Kafka, in order, with an idempotent producer and `acks=all`.").
		Description(description).
		Fields(targetFields()...).
		Fields(connectionFields()...).
		Fields(
			service.NewOutputMaxInFlightField().Default(1).
				Description("How many batches may be on their way at once. Above 1, a batch can be written before an earlier one that had to be repeated: order is then kept inside a batch only."),
			sink.BatchingField(fieldBatching),
			deadletter.Field(),
			sink.ExactlyField(fieldExactly, "The rows and the position are one Kafka transaction; consumers read with `isolation.level=read_committed`. "+
				"The position is a record of the topic `checkpoint_topic`."),
			service.NewStringField(fieldCheckpointTopic).Default("deltaforge-checkpoints").Advanced().
				Description("The topic of the positions, with `exactly_once`. It is made where it is missing, with one partition and `cleanup.policy=compact`. Pipelines may share it."),
			service.NewStringField(fieldTransactionalID).Default("").Advanced().
				Description("The transactional id, with `exactly_once`. Two instances of a pipeline must have the same, and no other pipeline may. Empty: `deltaforge-<checkpoint_topic>-<key of the source>`."),
			service.NewDurationField(fieldTxTimeout).Default("60s").Advanced().
				Description("After what time the brokers give up a transaction of a process that is gone, with `exactly_once`. Its successor ends it at once; until then consumers with `read_committed` wait. At least twice `timeout`, at most the brokers' `transaction.max.timeout.ms`."),
		).
		LintRule(sink.ExactlyRule)
	for _, e := range examples() {
		s = s.Example(e.title, e.summary, e.yaml)
	}
	return s
}

// examples are shown on the reference page, and linted by a test.
func examples() []example {
	return []example{
		{
			"Changes of a database, one topic a table",
			"Every table gets the topic `shop.<schema or database>.<table>`, made with three partitions where it is missing. Deletes are followed by a tombstone, so that the topics can be compacted.",
			`
output:
  deltaforge_kafka:
    seed_brokers: [ kafka-1:9092, kafka-2:9092 ]
    topic_prefix: shop
    tombstones: true
    create_topics:
      enabled: true
      partitions: 3
      config:
        cleanup.policy: compact
`,
		},
		{
			"A secured cluster and one topic for everything",
			"The topic, the key and a header are built from each message. Messages that can never be written go to a topic of their own.",
			`
output:
  fallback:
    - deltaforge_kafka:
        seed_brokers: [ broker.example.com:9093 ]
        topic: changes-${! metadata("database") }
        key: ${! json("after.customer_id").or(json("before.customer_id")).string() }
        headers:
          tenant: acme
        tls:
          enabled: true
        sasl:
          mechanism: SCRAM-SHA-512
          username: deltaforge
          password: ${KAFKA_PASSWORD}
    - deltaforge_kafka:
        seed_brokers: [ broker.example.com:9093 ]
        topic: changes-rejected
        reject_errored: false
        headers:
          error: ${! metadata("fallback_error").or("") }
        tls:
          enabled: true
        sasl:
          mechanism: SCRAM-SHA-512
          username: deltaforge
          password: ${KAFKA_PASSWORD}
`,
		},
	}
}

type example struct{ title, summary, yaml string }

const description = `
The value of a record is the payload of the message. Key, topic, headers and timestamp come from its metadata: ` +
	"`key`, `database`, `schema_name`, `table`, `op`, `event_id` and `commit_ts_ms`" + `, which the DeltaForge inputs set and any other input can.

== Delivery

A batch is acknowledged when the brokers have acknowledged every record of it (at-least-once). With ` + "`exactly_once`" + ` it is
acknowledged when the transaction with its rows and their position is committed. The producer is idempotent, so
repeated requests leave no duplicates, with one exception: a broker that restarts forgets a producer whose records have timestamps older
than its ` + "`producer.id.expiration.ms`" + ` (one day), and the timestamp of a record is the commit time of the change. So old changes that were on
their way when a broker restarted can be there twice, as can changes that were on their way when this process restarted.
Duplicates have the same ` + "`event_id`" + `, in the payload and in a header.

While no broker can be reached the output waits and tries again without end. Nothing is dropped. After ` + "`timeout`" + ` without an
acknowledgement the output shows as not connected, with the cause where it is known: a lost connection, the quota of the brokers, a
topic that is gone. It goes on with the same batch once it can. Records on their way to a topic that is gone are written to the next topic
of that name. With ` + "`create_topics`" + ` the output creates it.

A record that can never be written fails alone, and the others of its batch are delivered: one that is larger than
` + "`max_message_bytes`" + ` or than what the topic takes, one whose topic, key or header cannot be built, one whose topic cannot be created since its
name collides with another (` + "`q.r` and `q_r`" + `), one that the broker refuses (no key in a compacted topic, a commit time outside of
` + "`message.timestamp.before.max.ms`" + `), and a message that carries the error of an earlier step. Use a ` + "`fallback`" + ` output to keep such messages; without one the input
delivers them again, for ever.

== Order

With ` + "`max_in_flight: 1`" + ` (the default) the records of a partition are written in the order of the messages, through retries, broker
restarts and partial failures. A failed record is never overtaken by a later one of its partition. The exception is a record that
can never be written: it does not stop those after it. The partition of a record is murmur2 of its key, the same as the Java client's, so all
changes of one row are in one partition. Records without a key are spread.

== Errors

Each error ends with its kind, which is also the label of ` + "`sink_failures_total`" + `: auth, permission, connect, timeout, serialization,
routing, too_large, backpressure, unknown_topic, fenced, other.
`

func targetFields() []*service.ConfigField {
	return []*service.ConfigField{
		kafkaconn.SeedsField(),
		service.NewInterpolatedStringField(fieldTopic).Optional().
			Description("The topic of each record. Where it is not set, the topic is `<topic_prefix>.<schema_name or database>.<table>`. Either this field or `topic_prefix` has to be set.").
			Example("changes").Example(`${! metadata("table") }`),
		service.NewStringField(fieldTopicPrefix).Default("").
			Description("The first part of the default topic.").
			Example("shop"),
		service.NewInterpolatedStringField(fieldKey).Optional().
			Description("The key of each record. Where it is not set, the metadata `key`, the JSON of the row's key columns. A message for which it is absent or empty gets Kafka's null key.").
			Example(`${! json("after.id") }`),
		service.NewStringAnnotatedEnumField(fieldPartitioner, map[string]string{
			"murmur2":     "The partition is murmur2 of the key, exactly as the Java client's; records without a key stay on one partition for a batch and then move on.",
			"round_robin": "Records go to the partitions in turn, whatever their key. Changes of one row are then not in order.",
		}).Default("murmur2").Advanced().
			Description("How the partition of a record is chosen."),
		service.NewInterpolatedStringMapField(fieldHeaders).Default(map[string]any{}).
			Description("Headers besides those of `event_headers`.").
			Example(map[string]any{"tenant": "acme", "table": `${! metadata("table") }`}),
		service.NewBoolField(fieldEventHeaders).Default(true).Advanced().
			Description("Give each record the headers `event_id` and `op`, where its message has this metadata. A payload of the format `native` has both itself: without the headers a record is some fifty bytes shorter, and takes less time to make."),
		service.NewMetadataFilterField(fieldMetadata).Optional().Advanced().
			Description("Metadata to send as headers too. None by default."),
		service.NewBoolField(fieldTombstones).Default(false).
			Description("Follow each delete (`op` is `d`) that has a key by a record with the same key and a null value, which lets a compacted topic forget the row."),
		service.NewBoolField(fieldRejectErrored).Default(true).Advanced().
			Description("Refuse messages that carry the error of an earlier step, each alone. Turn it off for an output that collects such messages."),
		service.NewStringEnumField(fieldCompression, "none", "gzip", "snappy", "lz4", "zstd").Default("snappy").
			Description("How batches are compressed. `snappy` costs the least CPU; `lz4` and `zstd` make fewer bytes. The page on performance has the price of each."),
		service.NewIntField(fieldMaxMessageBytes).Default(1_000_000).Advanced().
			Description("The most bytes that a record, and a batch of records for one partition, may have before compression, with about 128 bytes of framing. Larger records fail with kind `too_large`. Keep it at or below `max.message.bytes` of the topics."),
		service.NewIntField(fieldMaxBuffered).Default(32 << 20).Advanced().
			Description("How many bytes of a batch are handed to the client at once. A larger batch is written in parts, one after the other. Times `max_in_flight`, it is the value of `sink_buffer_limit_bytes`."),
	}
}

func connectionFields() []*service.ConfigField {
	return append(kafkaconn.Fields(), []*service.ConfigField{
		service.NewDurationField(fieldTimeout).Default("10s").Advanced().
			Description("How long a batch may go without an acknowledgement before the output shows as not connected. The batch is neither dropped nor sent twice."),
		service.NewObjectField(fieldCreateTopics,
			service.NewBoolField(fieldCTEnabled).Default(false).
				Description("Create a topic that does not exist when the first record for it is written. The user needs the right to create topics."),
			service.NewIntField(fieldCTPartitions).Default(-1).
				Description("How many partitions. -1 takes the broker's default."),
			service.NewIntField(fieldCTReplication).Default(-1).
				Description("How many replicas of each partition. -1 takes the broker's default."),
			service.NewStringMapField(fieldCTConfig).Default(map[string]any{}).
				Description("Settings of the topic.").
				Example(map[string]any{"cleanup.policy": "compact", "max.message.bytes": "10485760"}),
		).Description("What to do about a topic that does not exist. Where it is not created, its records wait, the output reports `unknown_topic`, and the records of other topics in the batch are delivered."),
	}...)
}
