package change

import (
	"context"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Format is what the messages of a source look like. It is immutable and used by many goroutines.
type Format interface {
	// NewEncoder returns an encoder. Decoders take one for each stretch of the log.
	NewEncoder() Encoder
}

// Encoder makes the messages of events. It writes what neighbours have in common once, and copies it from then on. An Encoder is used
// by one goroutine, and not any more once its messages are handed on.
type Encoder interface {
	// AppendMessages appends the messages of an event to dst, in their order, and their payloads and keys to buf. The messages keep
	// their parts of buf. Callers use one buf for many events, which costs one allocation, and not one a row.
	//
	// Most events have one message, which carries the event itself. One that has several (Event.Part), or none (Event.Silent), is not
	// changed either: its messages carry copies. A row of a snapshot always has exactly one.
	AppendMessages(dst service.MessageBatch, buf []byte, ev *Event) (service.MessageBatch, []byte)
}

// Header is what a message says beside its payload and key. Outputs that have headers write it, and it is in the metadata.
type Header struct {
	Name  string
	Value []byte
}

// part returns a copy of an event for a message that is only a part of what the event says.
func (e *Event) part(n int) Event {
	p := *e
	p.Of, p.Part, p.payload, p.key, p.err = e, n, nil, nil, nil
	return p
}

// Parts makes the events of messages that are only a part of what an event says. It is used by one goroutine. The zero Parts is ready.
type Parts struct {
	slab []Event
	size int
}

// Next returns a copy of an event, for its message with that number, from 0.
func (p *Parts) Next(ev *Event, n int) *Event {
	if len(p.slab) == 0 {
		p.size = min(2*p.size+2, 64)
		p.slab = make([]Event, p.size)
	}
	part := &p.slab[0]
	p.slab = p.slab[1:]
	*part = ev.part(n)
	return part
}

// Whole returns the change that an event is a part of, or the event itself if it is all of it.
func (e *Event) Whole() *Event {
	if e.Of != nil {
		return e.Of
	}
	return e
}

// Preparer is implemented by a format that has to do something before the first message of a table, such as to register its schema.
type Preparer interface {
	// Prepare returns once the messages of a table can be made. It may wait for a server. It is called from any goroutine, and soon returns
	// for a table that it was called for before. After an error, the messages of the table have that error.
	Prepare(ctx context.Context, t *Table) error
}

// Prepare is called before messages of a table are made, see Preparer.
func Prepare(ctx context.Context, t *Table) error {
	if p, ok := t.Source.Format.(Preparer); ok {
		return p.Prepare(ctx, t)
	}
	return nil
}
