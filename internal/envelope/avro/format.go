// Package avro is the format of Avro with a schema registry: Confluent's wire format. The bytes are written from the typed values of the
// event, without a library on the way.
package avro

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Shape is what a message holds.
type Shape string

// The shapes: the row before and after with where it comes from, or the row alone.
const (
	ShapeEnvelope Shape = "envelope"
	ShapeRow      Shape = "row"
)

// Deletes is what becomes of deletes in the shape row: the row that was there, a tombstone, or no message.
type Deletes string

// The values of Deletes.
const (
	DeleteKeep Deletes = "keep"
	DeleteNull Deletes = "null"
	DeleteDrop Deletes = "drop"
)

// Subject is how the subject of a schema is named, as Confluent's serializers name it.
type Subject string

// The strategies: <topic>-value, <record>, <topic>-<record>.
const (
	SubjectTopic       Subject = "topic"
	SubjectRecord      Subject = "record"
	SubjectTopicRecord Subject = "topic_record"
)

// Registry gives schemas their numbers.
type Registry interface {
	// ID returns the number of the Avro schema in a subject, and waits for a registry that is away.
	ID(ctx context.Context, subject, schema string) (int, error)
}

// Format is the format. It is immutable; its address is the key of what it keeps at tables.
type Format struct {
	Registry Registry
	// Topic returns the topic of a table's messages, of which subjects and namespaces are made.
	Topic   func(t *change.Table) (string, error)
	Subject Subject
	Shape   Shape
	Deletes Deletes
	// Tombstones sends a message without payload after each delete, in the shape envelope.
	Tombstones bool
	// Optional makes all columns of the row nullable, so that columns can come and go whatever compatibility the registry asks for.
	Optional bool
	// DecimalText, TimeText and ArrayText: these types are strings.
	DecimalText, TimeText, ArrayText bool
	// Enums: the enumerations of MySQL are Avro's. Else they are strings.
	Enums bool
	// Placeholder stands for a text or bytes that the log does not carry.
	Placeholder string
}

var (
	_ change.Format   = (*Format)(nil)
	_ change.Preparer = (*Format)(nil)
)

// NewEncoder implements change.Format.
func (f *Format) NewEncoder() change.Encoder { return &encoder{format: f} }

// tableText is what the format says about a table. All but the numbers is immutable.
type tableText struct {
	columns []*column
	key     []int
	names   []byte // of the source: version, connector, name
	db      []byte
	table   []byte // what follows the times of the source
	err     error  // why the table has no messages

	valueSubject, keySubject string
	valueSchema, keySchema   string

	ids atomic.Pointer[heads]
}

// heads are what payloads and keys begin with: a zero byte and the number of the schema.
type heads struct{ value, key [5]byte }

// Prepare implements change.Preparer: it registers the schemas of the table.
func (f *Format) Prepare(ctx context.Context, t *change.Table) error {
	x := f.textOf(t)
	if len(t.Columns) == 0 || x.ids.Load() != nil { // a table without columns stands for rows that nobody may see
		return nil
	}
	if x.err != nil {
		return fmt.Errorf("the Avro schema of table %s: %w", t.FullName(), x.err)
	}
	var h heads
	if err := f.register(ctx, h.value[:], x.valueSubject, x.valueSchema); err != nil {
		return fmt.Errorf("registering the schema of table %s: %w", t.FullName(), err)
	}
	if len(t.Key) > 0 {
		if err := f.register(ctx, h.key[:], x.keySubject, x.keySchema); err != nil {
			return fmt.Errorf("registering the schema of the key of table %s: %w", t.FullName(), err)
		}
	}
	x.ids.Store(&h)
	return nil
}

func (f *Format) register(ctx context.Context, head []byte, subject, schema string) error {
	id, err := f.Registry.ID(ctx, subject, schema)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(head[1:], uint32(id)) //nolint:gosec // a registry has numbers of 32 bits
	return nil
}

func (f *Format) textOf(t *change.Table) *tableText {
	x, _ := t.Text(f, f.makeText).(*tableText)
	return x
}

func (f *Format) makeText(t *change.Table) any {
	x := &tableText{key: t.Key}
	topic, err := f.Topic(t)
	if err == nil && topic == "" {
		err = fmt.Errorf("registry.topic is empty for it")
	}
	if err != nil {
		x.err = err
		return x
	}
	names := namesOf(t)
	for i := range t.Columns {
		x.columns = append(x.columns, f.column(t, i, names[i]))
	}
	space := namespace(topic)
	x.valueSchema, x.keySchema = f.valueSchema(x, t, space), f.keySchema(x, space)
	record := space + "." + recordValue
	if f.Shape == ShapeEnvelope {
		record = space + "." + recordEnvelope
	}
	x.valueSubject, x.keySubject = f.subject(topic, "value", record), f.subject(topic, "key", space+"."+recordKey)
	x.addSource(t)
	return x
}

func (f *Format) subject(topic, part, record string) string {
	switch f.Subject {
	case SubjectRecord:
		return record
	case SubjectTopicRecord:
		return topic + "-" + record
	default:
		return topic + "-" + part
	}
}
