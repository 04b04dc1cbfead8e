package change

import (
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
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

// NewMessage returns the message of an event: the payload as its content, the configured metadata, and the event itself,
// which Own and FromMessage find. The key is the JSON of the key columns, or empty if there are none. Payload and key are kept,
// not copied. The event must not be changed afterwards, and must not be used for another message.
func NewMessage(ev *Event, payload, key []byte) *service.Message {
	var k Maker
	return k.Message(ev, payload, key)
}

// Maker makes the messages of events, like NewMessage. Consecutive messages with the same table, origin and operation share the
// metadata of the first one: a copy of a message shares its metadata until somebody writes to either. A Maker is used by one
// goroutine, and no longer once its messages are handed on. The zero Maker is ready.
type Maker struct {
	like   *service.Message // what the messages of the run are copies of
	table  *Table
	origin *Origin
	op     Op
	key    bool // messages have the metadata key
	id     bool // and event_id
}

// Message returns the message of an event, see NewMessage.
func (k *Maker) Message(ev *Event, payload, key []byte) *service.Message {
	ev.payload, ev.key = payload, key
	return k.message(ev)
}

// message makes the message of an event that has its payload and key.
func (k *Maker) message(ev *Event) *service.Message {
	if k.like == nil || k.table != ev.Table || k.origin != ev.Origin || k.op != ev.Op {
		k.table, k.origin, k.op = ev.Table, ev.Origin, ev.Op
		k.like = ev.Table.template(ev.Op).Copy()
		ev.setShared(k.like)
		k.key, k.id = ev.Table.Source.Metadata.Has(MetaKey), ev.Table.Source.Metadata.Has(MetaEventID)
	}
	m := k.like.Copy()
	if k.id || len(ev.payload) == 0 { // rendered when somebody asks; the copy gets a map of its own here
		m.MetaSetImmut(MetaEventID, (*lazyID)(ev)) // without a payload, nothing else tells whose message it is: see FromMessage
	}
	if k.key && len(ev.key) > 0 {
		m.MetaSetImmut(MetaKey, (*lazyKey)(ev))
	}
	for _, h := range ev.Headers {
		m.MetaSetMut(h.Name, string(h.Value))
	}
	m.SetBytes(ev.payload)
	return m.WithContext((*eventContext)(ev))
}

// Payload returns the payload that the event's message was made with, nil before there is one. It must not be changed.
func (e *Event) Payload() []byte { return e.payload }

// Key returns the key that the event's message was made with, empty if there is none. It must not be changed.
func (e *Event) Key() []byte { return e.key }

// SetErrors marks the messages of an event, see SetError.
func SetErrors(messages service.MessageBatch, err error) {
	for _, m := range messages {
		SetError(m, err)
	}
}

// SetError marks the message of an event as one that cannot be represented exactly, for good: Renew keeps the error.
func SetError(m *service.Message, err error) {
	if ev, ok := Own(m); ok {
		ev.err = err
	}
	m.SetError(err)
}

// Renew makes the message of an event again, whatever the pipeline has done to it since. A message that neither NewMessage
// nor a Maker made is copied. Like Own, it is for the source's messages.
func Renew(m *service.Message) *service.Message {
	ev, ok := Own(m)
	if !ok {
		return m.Copy()
	}
	var k Maker
	m = k.message(ev)
	if ev.err != nil {
		m.SetError(ev.err)
	}
	return m
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
