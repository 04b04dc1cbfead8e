// Package confluent is what the formats with a schema registry share: the names of subjects, and the numbers of schemas in front of payloads
// and keys.
package confluent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/deltaforge/deltaforge/internal/change"
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
	// ID returns the number of the schema in a subject, and waits for a registry that is away.
	ID(ctx context.Context, subject, schema string) (int, error)
}

// Naming says where schemas are registered.
type Naming struct {
	Registry Registry
	// Topic returns the topic of a table's messages, of which subjects and namespaces are made.
	Topic   func(t *change.Table) (string, error)
	Subject Subject
}

// Schemas are those of a table: of payloads, and of keys. All but the numbers is immutable.
type Schemas struct {
	// Topic is the table's, Space the namespace of its records.
	Topic, Space string
	Value, Key   string
	// Record is the name of the payload's record in the namespace.
	Record string
	// Err is why there is no topic.
	Err   error
	heads atomic.Pointer[Heads]
}

// Heads are what payloads and keys begin with: a zero byte and the number of the schema.
type Heads struct{ Value, Key [5]byte }

// The names of the records of a table, in the namespace of its topic.
const (
	RecordEnvelope = "Envelope"
	RecordValue    = "Value"
	RecordKey      = "Key"
)

// NewSchemas returns the schemas of a table, without texts. If it returns false, there is no topic, and Prepare says why.
func (n *Naming) NewSchemas(t *change.Table, space func(topic string) string) (*Schemas, bool) {
	topic, err := n.Topic(t)
	if err == nil && topic == "" {
		err = errors.New("registry.topic is empty for it")
	}
	if err != nil {
		return &Schemas{Err: err}, false
	}
	return &Schemas{Topic: topic, Space: space(topic)}, true
}

// Heads returns nil before the schemas are registered.
func (s *Schemas) Heads() *Heads { return s.heads.Load() }

// Prepare registers the schemas of a table, once.
func (n *Naming) Prepare(ctx context.Context, t *change.Table, s *Schemas) error {
	if len(t.Columns) == 0 || s.heads.Load() != nil { // a table without columns stands for rows that nobody may see
		return nil
	}
	if s.Err != nil {
		return fmt.Errorf("the schema of table %s: %w", t.FullName(), s.Err)
	}
	var h Heads
	if err := n.register(ctx, h.Value[:], n.SubjectOf(s, PartValue, s.Record), s.Value); err != nil {
		return fmt.Errorf("registering the schema of table %s: %w", t.FullName(), err)
	}
	if len(t.Key) > 0 {
		if err := n.register(ctx, h.Key[:], n.SubjectOf(s, PartKey, RecordKey), s.Key); err != nil {
			return fmt.Errorf("registering the schema of the key of table %s: %w", t.FullName(), err)
		}
	}
	s.heads.Store(&h)
	return nil
}

func (n *Naming) register(ctx context.Context, head []byte, subject, schema string) error {
	id, err := n.Registry.ID(ctx, subject, schema)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(head[1:], uint32(id)) //nolint:gosec // a registry has numbers of 32 bits
	return nil
}

// What a schema is of.
const (
	PartValue = "value"
	PartKey   = "key"
)

// SubjectOf returns the subject of a schema of a table.
func (n *Naming) SubjectOf(s *Schemas, part, record string) string {
	switch n.Subject {
	case SubjectRecord:
		return s.Space + "." + record
	case SubjectTopicRecord:
		return s.Topic + "-" + s.Space + "." + record
	default:
		return s.Topic + "-" + part
	}
}

// Head returns what a message begins with: a zero byte, the number of its schema, and what more the language has.
func Head(id int, more []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), more...) //nolint:gosec // a registry has numbers of 32 bits
}
