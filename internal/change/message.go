package change

import (
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The metadata keys of every message.
const (
	MetaSource        = "source"
	MetaDatabase      = "database"
	MetaSchemaName    = "schema_name"
	MetaTable         = "table"
	MetaOp            = "op"
	MetaOperation     = "operation"
	MetaKey           = "key"
	MetaEventID       = "event_id"
	MetaTransactionID = "transaction_id"
	MetaPosition      = "position"
	MetaCommitTsMs    = "commit_ts_ms"
	MetaSnapshot      = "snapshot"
	MetaSchema        = "schema"
)

// templateOps are the operations for which a table keeps a message with the shared metadata.
const templateOps = "cudrtm"

// eventKey is the context key under which a message carries its event.
type eventKey struct{}

// eventContext is an event as the context of its message: the background, with the event in it. It costs nothing, where
// context.WithValue would take two allocations a row.
type eventContext Event

// Deadline, Done and Err implement context.Context as context.Background does.
func (*eventContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }
func (*eventContext) Done() <-chan struct{}                   { return nil }
func (*eventContext) Err() error                              { return nil }

// Value implements context.Context.
func (c *eventContext) Value(key any) any {
	if _, ok := key.(eventKey); ok {
		return (*Event)(c)
	}
	return nil
}

// NewMessage returns the message of an event: the payload as its content, the documented metadata, and the event itself,
// which FromMessage finds. The key is the JSON of the key columns, empty for none. Payload and key are kept, not copied;
// neither the event nor its transaction may be changed afterwards.
func NewMessage(ev *Event, payload []byte, key string) *service.Message {
	m := ev.Table.message(ev.Op)
	// Every message copies the shared metadata once, on its first set. The template has every key, so that the copy is
	// made in its final size.
	m.MetaSetMut(MetaEventID, string(ev.AppendID(make([]byte, 0, 128))))
	tx := ev.Tx.shared()
	m.MetaSetMut(MetaPosition, tx.position)
	m.MetaSetMut(MetaCommitTsMs, tx.commitTsMs)
	if key != "" {
		m.MetaSetMut(MetaKey, key)
	} else {
		m.MetaDelete(MetaKey)
	}
	if ev.Tx.ID != "" {
		m.MetaSetMut(MetaTransactionID, tx.id)
	} else {
		m.MetaDelete(MetaTransactionID)
	}
	if ev.Snapshot != "" && ev.Snapshot != SnapshotFalse {
		m.MetaSetMut(MetaSnapshot, string(ev.Snapshot))
	}
	m.SetBytes(payload)
	return m.WithContext((*eventContext)(ev))
}

// FromMessage returns the event that a message carries, or false for a message that no DeltaForge input made (or that
// a processor replaced).
func FromMessage(m *service.Message) (*Event, bool) {
	ev, ok := m.Context().Value(eventKey{}).(*Event)
	return ev, ok
}

// message returns a copy of the table's template for the operation; it is safe for concurrent use.
func (t *Table) message(op Op) *service.Message {
	t.once.Do(t.derive)
	for i := range templateOps {
		if Op(templateOps[i]) == op {
			return t.templates[i].Copy()
		}
	}
	return t.newTemplate(op)
}

func (t *Table) newTemplate(op Op) *service.Message {
	m := service.NewMessage(nil)
	m.MetaSetMut(MetaSource, t.Source.Name)
	m.MetaSetMut(MetaDatabase, t.Database)
	if t.Schema != "" {
		m.MetaSetMut(MetaSchemaName, t.Schema)
	}
	m.MetaSetMut(MetaTable, t.Name)
	m.MetaSetMut(MetaOp, string(rune(op)))
	m.MetaSetMut(MetaOperation, op.Name())
	m.MetaSetMut(MetaSnapshot, string(SnapshotFalse))
	m.MetaSetImmut(MetaSchema, t.common)
	for _, own := range []string{MetaEventID, MetaPosition, MetaCommitTsMs, MetaKey, MetaTransactionID} {
		m.MetaSetMut(own, "") // NewMessage sets or removes it
	}
	return m
}
