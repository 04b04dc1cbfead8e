package change

import (
	"context"
	"strconv"

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

// eventContext is a context that carries an event. One small allocation and a direct comparison, where
// context.WithValue would box the key and walk.
type eventContext struct {
	context.Context //nolint:containedctx // this type is a context
	ev              *Event
}

// Value implements context.Context.
func (c *eventContext) Value(key any) any {
	if _, ok := key.(eventKey); ok {
		return c.ev
	}
	return c.Context.Value(key)
}

// NewMessage returns the message of an event: the payload as its content, the documented metadata, and the event itself,
// which FromMessage finds. The key is the JSON of the key columns, nil for none. Payload and key are kept, not copied;
// the event must not be changed afterwards.
func NewMessage(ev *Event, payload []byte, key string) *service.Message {
	m := ev.Table.message(ev.Op)
	// Every message copies the shared metadata once, on its first set.
	if key != "" {
		m.MetaSetMut(MetaKey, key)
	}
	m.MetaSetMut(MetaEventID, string(ev.AppendID(make([]byte, 0, len(ev.Tx.Position)+8))))
	m.MetaSetMut(MetaPosition, ev.Tx.Position)
	if ev.Tx.ID != "" {
		m.MetaSetMut(MetaTransactionID, ev.Tx.ID)
	}
	m.MetaSetMut(MetaCommitTsMs, strconv.FormatInt(ev.Tx.CommitTime.UnixMilli(), 10))
	if ev.Snapshot != "" && ev.Snapshot != SnapshotFalse {
		m.MetaSetMut(MetaSnapshot, string(ev.Snapshot))
	}
	m.SetBytes(payload)
	return m.WithContext(&eventContext{Context: m.Context(), ev: ev})
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
	return m
}
