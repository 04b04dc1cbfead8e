package avro

import "github.com/deltaforge/deltaforge/internal/envelope/confluent"

// The names of the records of a table, in the namespace of its topic.
const (
	recordEnvelope = confluent.RecordEnvelope
	recordValue    = confluent.RecordValue
	recordKey      = confluent.RecordKey
)
