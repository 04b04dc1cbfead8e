package change

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Which event a message carries. The source puts it into the context of the message. The engine does not keep contexts with their
// messages: what comes out of a processor of batches has the contexts of what went in, by place. After a processor that has dropped the
// first message, each one has the context of its predecessor. So outputs and processors ask FromMessage, which looks at what does
// go along with a message: its payload, and its metadata.

// ErrUntold means that a message cannot be told from the others of its batch: a processor has replaced the payload, and the source gives no
// metadata that is the event's own.
var ErrUntold = errors.New("cannot tell which event this message is: a processor has changed its payload, and it has no metadata event_id; " +
	"add event_id to `metadata` of the source, and leave it as it is in the pipeline")

// Own returns the event of a message that the source has made and that no processor has had in its hands, or whose context is the one that
// the source gave it. It returns false for a message that no DeltaForge input made.
func Own(m *service.Message) (*Event, bool) {
	ev, ok := m.Context().Value(eventKey{}).(*Event)
	return ev, ok
}

// FromMessage returns the event that a message carries, wherever in a pipeline that is. It returns false for a message that no DeltaForge
// input made (or that a processor replaced), and for one of which Untold says why.
func FromMessage(m *service.Message) (*Event, bool) {
	own, ok := Own(m)
	if ok && own.payloadOf(m) {
		return own, true
	}
	if ev := carried(m); ev != nil {
		return ev, true
	}
	if !ok {
		return nil, false
	}
	return own.batch.Value().find(m)
}

// Untold returns ErrUntold for a message of a source whose event is not known any more, else nil. Where the source gives the metadata that
// would tell, a message without it is one that a processor has made: it has no event.
func Untold(m *service.Message) error {
	_, err := Told(m)
	return err
}

// Told is FromMessage and Untold in one: the event, nil for a message that has none, or ErrUntold.
func Told(m *service.Message) (*Event, error) {
	if ev, ok := FromMessage(m); ok {
		return ev, nil
	}
	if own, ours := Own(m); ours && !own.Table.Source.Metadata.Has(MetaEventID) {
		return nil, ErrUntold
	}
	return nil, nil
}

// payloadOf reports whether the payload of the message is the event's, in the same memory.
func (e *Event) payloadOf(m *service.Message) bool {
	p := payload(m)
	return p != nil && len(e.payload) > 0 && p == unsafe.SliceData(e.payload)
}

// payload returns where the bytes of the message are; nil for a message without any.
func payload(m *service.Message) *byte {
	if !m.HasBytes() {
		return nil
	}
	b, err := m.AsBytes()
	if err != nil || len(b) == 0 {
		return nil
	}
	return unsafe.SliceData(b)
}

// carried returns the event that the metadata of a message leads to, or nil.
func carried(m *service.Message) *Event {
	if v, ok := m.MetaGetImmut(MetaEventID); ok {
		switch v := v.(type) {
		case *lazyID:
			return (*Event)(v)
		case *heldID:
			return v.ev
		}
	}
	if v, ok := m.MetaGetImmut(MetaKey); ok {
		if v, ok := v.(*lazyKey); ok {
			return (*Event)(v)
		}
	}
	return nil
}

// heldID is the metadata event_id with a value that a processor of the user has set, and the event.
type heldID struct {
	ev    *Event
	value any
}

// Copy implements service.ImmutableValue.
func (h *heldID) Copy() any { return h.value }

// ErrReplaced means that the payload of a message is not the one that its event has.
var ErrReplaced = errors.New("the payload was changed by a processor before this one, which makes it anew from the event: put this one first")

// Replaced returns ErrReplaced for a message with such a payload, else nil.
func Replaced(m *service.Message, ev *Event) error {
	if ev.payloadOf(m) || len(ev.payload) == 0 && payload(m) == nil {
		return nil
	}
	return ErrReplaced
}

// Replace returns a message with the metadata of m and the event, payload and key of made, which NewMessage or a Maker made of a derived
// event. Metadata that a processor has set stays. What the source has set says the same of the other event: the id, the key, the schema,
// the headers.
func Replace(m, made *service.Message) *service.Message {
	ev, _ := Own(made)
	old, _ := FromMessage(m)
	m = m.Copy()
	m.SetBytes(ev.payload)
	id, ok := m.MetaGetImmut(MetaEventID)
	switch v := id.(type) {
	case *heldID:
		m.MetaSetImmut(MetaEventID, &heldID{ev, v.value})
	case *lazyID:
		m.MetaSetImmut(MetaEventID, (*lazyID)(ev))
	default:
		if ok {
			m.MetaSetImmut(MetaEventID, &heldID{ev, id})
		} else {
			m.MetaSetImmut(MetaEventID, (*lazyID)(ev))
		}
	}
	if old == nil {
		return m
	}
	ev.replaceKey(m, old)
	if v, _ := m.MetaGetImmut(MetaSchema); v != nil {
		if s, ours := v.(immutableSchema); ours && s.t != ev.Table {
			m.MetaSetImmut(MetaSchema, immutableSchema{ev.Table})
		}
	}
	for _, h := range old.Headers {
		m.MetaDelete(h.Name)
	}
	for _, h := range ev.Headers {
		m.MetaSetMut(h.Name, string(h.Value))
	}
	return m
}

// replaceKey puts the key of the event where that of old was, or would have been.
func (e *Event) replaceKey(m *service.Message, old *Event) {
	v, has := m.MetaGetImmut(MetaKey)
	_, ours := v.(*lazyKey)
	switch {
	case !ours && (has || len(old.key) > 0): // a processor has set or deleted it
	case len(e.key) == 0:
		m.MetaDelete(MetaKey)
	case e.Table.Source.Metadata.Has(MetaKey):
		m.MetaSetImmut(MetaKey, (*lazyKey)(e))
	}
}

// Siblings are the events of the messages that were handed out together. Contexts change places among them only.
type Siblings struct {
	events []*Event
	last   atomic.Int64 // where one was found

	once  sync.Once
	index map[*byte]*Event
}

// NewSiblings notes that messages of the source are about to be handed out together. The caller keeps what it returns for as long as they are on
// their way: without it, a message whose context has changed places cannot be told.
func NewSiblings(messages service.MessageBatch) *Siblings {
	s := &Siblings{events: make([]*Event, 0, len(messages))}
	w := weak.Make(s)
	for _, m := range messages {
		if ev, ok := Own(m); ok {
			ev.batch, ev.at = w, len(s.events)
			s.events = append(s.events, ev)
		}
	}
	return s
}

// near is how far find looks before it makes an index: what was not dropped stays in order.
const near = 64

// find returns the event that has the payload of the message.
func (s *Siblings) find(m *service.Message) (*Event, bool) {
	if s == nil || !m.HasBytes() {
		return nil, false
	}
	from := int(s.last.Load())
	for i := from; i < min(from+near, len(s.events)); i++ {
		if s.events[i].payloadOf(m) {
			s.last.Store(int64(i))
			return s.events[i], true
		}
	}
	s.once.Do(func() {
		s.index = make(map[*byte]*Event, len(s.events))
		for _, ev := range s.events {
			if len(ev.payload) > 0 {
				s.index[unsafe.SliceData(ev.payload)] = ev
			}
		}
	})
	p := payload(m)
	if p == nil {
		return nil, false
	}
	ev, ok := s.index[p]
	if ok {
		s.last.Store(int64(ev.at))
	}
	return ev, ok
}
