package confluent

import (
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Shape is what a message holds.
type Shape string

// The shapes: the row before and after with where it comes from, or the row alone.
const (
	ShapeEnvelope Shape = "envelope"
	ShapeRow      Shape = "row"
)

// Deletes is what becomes of deletes in the shape row: the row that was there, a tombstone, or no message.
type Deletes string

// The values of Deletes.
const (
	DeleteKeep Deletes = "keep"
	DeleteNull Deletes = "null"
	DeleteDrop Deletes = "drop"
)

// Shaping says which messages an event has.
type Shaping struct {
	Shape   Shape
	Deletes Deletes
	// Tombstones sends a message without payload after each delete, in the shape envelope.
	Tombstones bool
}

// Writer writes payloads and keys. It is used by one goroutine.
type Writer interface {
	// Ready is called first for each event. It reports whether the schemas of the event's table are registered.
	Ready(ev *change.Event) bool
	AppendPayload(dst []byte, ev *change.Event) []byte
	// AppendKey appends the key, or nothing where there is none, see KeyRow.
	AppendKey(dst []byte, ev *change.Event) []byte
	// Err returns the first value without a form since it was last asked.
	Err() error
}

var (
	errNotReady = errors.New("its schema is not registered")
	// ErrForm is why a message has an error: a value has no form in the format, and another one would be wrong.
	ErrForm = errors.New("no form in the format")
)

// WayOut says what a log has to carry.
const WayOut = "set REPLICA IDENTITY FULL for the table (PostgreSQL), or binlog_row_image=FULL (MySQL)"

// encoder makes the messages that an event has.
type encoder struct {
	Writer
	*Shaping
	name  string
	maker change.Maker
	parts change.Parts
}

// NewEncoder returns an encoder for the format with that name.
func NewEncoder(name string, s *Shaping, w Writer) change.Encoder {
	return &encoder{Writer: w, Shaping: s, name: name}
}

// KeyRow returns the image that the key of an event is made of: the newest one that has a key; nil if none has.
func KeyRow(ev *change.Event) []change.Value {
	switch {
	case ev.Table.HasKey(ev.After()):
		return ev.After()
	case ev.Table.HasKey(ev.Before()):
		return ev.Before()
	default:
		return nil
	}
}

// AppendMessages implements change.Encoder.
func (e *encoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	first := len(dst)
	switch {
	case !e.Ready(ev):
		return e.failed(dst, ev, fmt.Errorf("table %s: %w", ev.Table.FullName(), errNotReady)), buf
	case ev.Op == change.Schema:
		return e.failed(dst, ev, fmt.Errorf("a change of the shape of table %s has %w %s: leave schema_changes off, or read it by a source with another format",
			ev.Table.FullName(), ErrForm, e.name)), buf
	case ev.Op == change.Update && ev.Table.KeyChanged(ev.Before(), ev.After()) && (e.Shape == ShapeEnvelope || e.Deletes == DeleteNull):
		dst, buf = e.moved(dst, buf, ev)
	case e.Shape == ShapeRow && ev.Op == change.Delete && e.Deletes == DeleteNull:
		dst, buf = e.tombstone(dst, buf, ev, 0, false)
	case e.Shape == ShapeRow && (ev.Op == change.Truncate || ev.Op == change.Delete && e.Deletes == DeleteDrop):
		silent := e.parts.Next(ev, 0)
		silent.Silent = true
		dst = append(dst, e.maker.Message(silent, nil, nil))
	case ev.Op == change.Delete && e.Shape == ShapeEnvelope && e.Tombstones && ev.Table.HasKey(ev.Before()):
		dst, buf = e.deleted(dst, buf, ev)
	default:
		dst, buf = e.one(dst, buf, ev)
	}
	if err := e.Err(); err != nil {
		change.SetErrors(dst[first:], err)
	}
	return dst, buf
}

// failed appends an empty message with an error.
func (e *encoder) failed(dst service.MessageBatch, ev *change.Event, err error) service.MessageBatch {
	dst = append(dst, e.maker.Message(ev, nil, nil))
	change.SetErrors(dst[len(dst)-1:], err)
	return dst
}

// one appends a message of an event, or of a part of one.
func (e *encoder) one(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	start := len(buf)
	buf = e.AppendPayload(buf, ev)
	end := len(buf)
	buf = e.AppendKey(buf, ev)
	return append(dst, e.maker.Message(ev, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}

// moved appends the messages of an update that has changed the key: the row is gone under its old key, and there under its new one.
func (e *encoder) moved(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	first := len(dst)
	if e.Shape == ShapeEnvelope {
		dst, buf = e.deleted(dst, buf, ev)
	} else {
		dst, buf = e.tombstone(dst, buf, ev, 0, true)
	}
	created := e.parts.Next(ev, len(dst)-first)
	created.Op, created.Images = change.Create, change.ImagesOf(nil, ev.After())
	return e.one(dst, buf, created)
}

// deleted appends the messages of a row that is gone.
func (e *encoder) deleted(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	gone := e.parts.Next(ev, 0)
	gone.Op, gone.Images, gone.Followed = change.Delete, change.ImagesOf(ev.Before(), nil), e.Tombstones
	dst, buf = e.one(dst, buf, gone)
	if !e.Tombstones {
		return dst, buf
	}
	return e.tombstone(dst, buf, ev, 1, true)
}

// tombstone appends a message without payload.
func (e *encoder) tombstone(dst service.MessageBatch, buf []byte, ev *change.Event, part int, old bool) (service.MessageBatch, []byte) {
	t := e.parts.Next(ev, part)
	t.Op, t.Images, t.Tombstone = change.Delete, change.ImagesOf(ev.Before(), nil), true
	if old && !ev.Table.HasKey(ev.Before()) {
		t.Images = change.Images{}
	}
	start := len(buf)
	buf = e.AppendKey(buf, t)
	return append(dst, e.maker.Message(t, nil, buf[start:len(buf):len(buf)])), buf
}
