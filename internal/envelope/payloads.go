package envelope

import "github.com/deltaforge/deltaforge/internal/change"

// Payloads writes payloads in JSON for a format that has something around them. It is used by one goroutine.
type Payloads struct {
	// Row: the row alone, after the change, or before a delete. Else it is the native envelope.
	Row    bool
	native nativeEncoder
}

// Append appends the payload of an event.
func (p *Payloads) Append(dst []byte, ev *change.Event) []byte {
	p.native.prepare(ev)
	switch {
	case !p.Row:
		return p.native.appendNative(dst, ev)
	case ev.Change != nil:
		return appendSchemaChange(dst, ev.Change)
	case ev.Op == change.Delete:
		return appendRow(dst, p.native.names, ev.Before)
	default:
		return appendRow(dst, p.native.names, ev.After)
	}
}

// AppendKey appends the key of the event that Append was called with last, or nothing if it has none.
func (p *Payloads) AppendKey(dst []byte, ev *change.Event) []byte {
	return appendKey(dst, ev, p.native.names)
}
