package envelope

import "github.com/deltaforge/deltaforge/internal/change"

// Payloads writes payloads in JSON for a format that has something around them. It is used by one goroutine.
type Payloads struct {
	// Row: the row alone, after the change, or before a delete. Else it is the native envelope.
	Row    bool
	native nativeEncoder
}

// Direct makes it take the rows of the events that follow from a writer, see change.DirectEncoder.
func (p *Payloads) Direct(w change.RowWriter) { p.native.Direct(w) }

// Append appends the payload of an event.
func (p *Payloads) Append(dst []byte, ev *change.Event) []byte {
	p.native.prepare(ev)
	switch {
	case !p.Row:
		return p.native.appendNative(dst, ev)
	case ev.Change != nil:
		return appendSchemaChange(dst, ev.Change)
	case ev.Op == change.Delete:
		return p.native.rows.appendBefore(dst, ev, p.native.names)
	default:
		return p.native.rows.appendAfter(dst, ev, p.native.names)
	}
}

// AppendKey appends the key of the event that Append was called with last, or nothing if it has none.
func (p *Payloads) AppendKey(dst []byte, ev *change.Event) []byte {
	return p.native.rows.appendKey(dst, ev, p.native.names)
}
