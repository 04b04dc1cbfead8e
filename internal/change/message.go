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
// the event must not be changed afterwards, and is the event of this message only.
func NewMessage(ev *Event, payload, key []byte) *service.Message {
	var k Maker
	return k.Message(ev, payload, key)
}

// Maker makes the messages of events, like NewMessage. Those that follow each other in one transaction and table share
// their metadata until somebody changes it. A Maker is used by one goroutine, and not any more once the messages that it
// has made are handed on. The zero Maker is ready.
type Maker struct {
	like     *service.Message // the first message of the run
	table    *Table
	tx       *Tx
	op       Op
	snapshot Snapshot
}

// Message returns the message of an event, see NewMessage.
func (k *Maker) Message(ev *Event, payload, key []byte) *service.Message {
	ev.payload, ev.key = payload, key
	fresh := k.like == nil || k.table != ev.Table || k.tx != ev.Tx || k.op != ev.Op || k.snapshot != ev.Snapshot
	var m *service.Message
	if fresh {
		m = first(ev)
		k.like, k.table, k.tx, k.op, k.snapshot = m, ev.Table, ev.Tx, ev.Op, ev.Snapshot
	} else {
		m = k.like.Copy()
		if m.GetError() != nil { // that of the first event's value
			m.SetError(nil)
		}
	}
	// Rendered when somebody asks. The copy gets a map of its own here, which has room for every key.
	m.MetaSetImmut(MetaEventID, (*lazyID)(ev))
	switch {
	case len(key) > 0:
		m.MetaSetImmut(MetaKey, (*lazyKey)(ev))
	case len(ev.Table.Key) > 0:
		m.MetaDelete(MetaKey)
	}
	m.SetBytes(payload)
	return m.WithContext((*eventContext)(ev))
}

// first returns a message that has the metadata that is equal in a run of events.
func first(ev *Event) *service.Message {
	m := ev.Table.message(ev.Op)
	tx := ev.Tx.shared()
	m.MetaSetMut(MetaPosition, tx.position)
	m.MetaSetMut(MetaCommitTsMs, tx.commitTsMs)
	if ev.Tx.ID != "" {
		m.MetaSetMut(MetaTransactionID, tx.id)
	} else {
		m.MetaDelete(MetaTransactionID)
	}
	if ev.Snapshot != "" && ev.Snapshot != SnapshotFalse {
		m.MetaSetMut(MetaSnapshot, string(ev.Snapshot))
	}
	return m
}

// lazyID is the metadata event_id.
type lazyID Event

// Copy implements service.ImmutableValue.
func (l *lazyID) Copy() any {
	ev := (*Event)(l)
	return string(ev.AppendID(make([]byte, 0, len(ev.Tx.Position)+8)))
}

// lazyKey is the metadata key.
type lazyKey Event

// Copy implements service.ImmutableValue.
func (l *lazyKey) Copy() any { return string(l.key) }

// SetError marks the message of an event as one that cannot be represented exactly, for good: Renew keeps the error.
func SetError(m *service.Message, err error) {
	if ev, ok := FromMessage(m); ok {
		ev.err = err
	}
	m.SetError(err)
}

// Renew makes the message of an event again, whatever the pipeline has done to it since. It is for messages that NewMessage
// or a Maker made, and copies others.
func Renew(m *service.Message) *service.Message {
	ev, ok := FromMessage(m)
	if !ok {
		return m.Copy()
	}
	m = NewMessage(ev, ev.payload, ev.key)
	if ev.err != nil {
		m.SetError(ev.err)
	}
	return m
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
		if Op(templateOps[i]) != op {
			continue
		}
		template := t.templates[i].Load()
		if template == nil {
			template = t.newTemplate(op)
			t.templates[i].Store(template) // another goroutine may have stored an equal one
		}
		return template.Copy()
	}
	return t.newTemplate(op)
}

// newTemplate makes a message with the metadata that is equal for all rows of the table, and a place for every other key,
// so that copies have room for them.
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
