package change

import (
	"strings"
	"time"
	"unsafe"

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

// Maker makes the messages of events, like NewMessage. Those that follow each other and have table, origin and operation in
// common have most of their metadata from the first. A Maker is used by one goroutine, and not any more once the messages that it has made are
// handed on. The zero Maker is ready.
type Maker struct {
	public bool // use the engine's public functions, see engine.go

	like     *service.Message       // the first message of the run
	metadata map[string]engineValue // that of like; nil when the engine is not known
	table    *Table
	origin   *Origin
	op       Op
	cells    cells
}

// Message returns the message of an event, see NewMessage.
func (k *Maker) Message(ev *Event, payload, key []byte) *service.Message {
	ev.payload, ev.key = payload, key
	fresh := k.like == nil || k.table != ev.Table || k.origin != ev.Origin || k.op != ev.Op
	var m *service.Message
	if k.public || !engineKnown() {
		m = k.publicMessage(ev, fresh)
	} else {
		m = k.engineMessage(ev, fresh)
	}
	if fresh {
		k.like, k.table, k.origin, k.op = m, ev.Table, ev.Origin, ev.Op
	}
	return m
}

// engineMessage makes a message as the engine lays it out.
func (k *Maker) engineMessage(ev *Event, fresh bool) *service.Message {
	var metadata map[string]engineValue
	if fresh {
		metadata = cloneMetadata(engineMetadata(ev.Table.template(ev.Op)))
		k.metadata = metadata
		tx := ev.Tx.shared()
		metadata[MetaPosition] = engineValue{v: tx.position}
		metadata[MetaCommitTsMs] = engineValue{v: tx.commitTsMs}
		if ev.Tx.ID != "" {
			metadata[MetaTransactionID] = engineValue{v: tx.id}
		}
		if ev.Snapshot != "" && ev.Snapshot != SnapshotFalse {
			metadata[MetaSnapshot] = engineValue{v: string(ev.Snapshot)}
		}
	} else {
		metadata = cloneMetadata(k.metadata)
	}
	metadata[MetaEventID] = engineValue{v: (*lazyID)(ev), immutable: true}
	switch {
	case len(ev.key) > 0:
		metadata[MetaKey] = engineValue{v: (*lazyKey)(ev), immutable: true}
	case len(ev.Table.Key) > 0:
		delete(metadata, MetaKey)
	}
	return k.cells.message((*eventContext)(ev), ev.payload, metadata)
}

// publicMessage makes a message through the engine's public functions.
func (k *Maker) publicMessage(ev *Event, fresh bool) *service.Message {
	var m *service.Message
	if fresh {
		m = first(ev)
	} else {
		m = k.like.Copy()
		if m.GetError() != nil { // that of the first event's value
			m.SetError(nil)
		}
	}
	// Rendered when somebody asks. The copy gets a map of its own here, which has room for every key.
	m.MetaSetImmut(MetaEventID, (*lazyID)(ev))
	switch {
	case len(ev.key) > 0:
		m.MetaSetImmut(MetaKey, (*lazyKey)(ev))
	case len(ev.Table.Key) > 0:
		m.MetaDelete(MetaKey)
	}
	m.SetBytes(ev.payload)
	return m.WithContext((*eventContext)(ev))
}

// first returns a message that has the metadata that is equal in a run of events.
func first(ev *Event) *service.Message {
	m := ev.Table.template(ev.Op).Copy()
	tx := ev.Tx.shared()
	m.MetaSetMut(MetaPosition, tx.position)
	m.MetaSetMut(MetaCommitTsMs, tx.commitTsMs)
	if ev.Tx.ID != "" {
		m.MetaSetMut(MetaTransactionID, tx.id)
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
	var room [96]byte
	return string((*Event)(l).AppendID(room[:0]))
}

// lazyKey is the metadata key.
type lazyKey Event

// Copy implements service.ImmutableValue.
func (l *lazyKey) Copy() any { return string(l.key) }

// Meta returns metadata of any message as text, or false where there is none, like MetaGet. Text that is not there yet is appended
// to buf, which the caller goes on with: for outputs, that would else make a string a message. The text must not be changed.
func Meta(m *service.Message, key string, buf []byte) (text, grown []byte, ok bool) {
	v, ok := m.MetaGetImmut(key)
	if !ok {
		return nil, buf, false
	}
	start := len(buf)
	switch v := v.(type) {
	case *lazyKey:
		return v.key, buf, true
	case *lazyID:
		buf = (*Event)(v).AppendID(buf)
	case string:
		return unsafe.Slice(unsafe.StringData(v), len(v)), buf, true
	default:
		s, _ := m.MetaGet(key)
		buf = append(buf, s...)
	}
	return buf[start:len(buf):len(buf)], buf, true
}

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

// template returns the table's message for the operation, which nobody may change; copying it is safe for concurrent use.
func (t *Table) template(op Op) *service.Message {
	t.once.Do(t.derive)
	i := strings.IndexByte(templateOps, byte(op))
	if i < 0 {
		return t.newTemplate(op)
	}
	template := t.templates[i].Load()
	if template == nil {
		template = t.newTemplate(op)
		t.templates[i].Store(template) // another goroutine may have stored an equal one
	}
	return template
}

// newTemplate makes a message with the metadata that is equal for all rows of the table.
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
	m.MetaSetImmut(MetaSchema, immutableSchema{t})
	return m
}
