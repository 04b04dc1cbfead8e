// Package jsonschema is the format of JSON with a schema registry: Confluent's wire format, with the native envelope or the row as its JSON.
package jsonschema

import (
	"context"
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// Format is the format. It is immutable; its address is the key of what it keeps at tables.
type Format struct {
	confluent.Naming
	// Row: the row alone, after the change, or before a delete. Else it is the native envelope.
	Row bool
}

var (
	_ change.Format   = (*Format)(nil)
	_ change.Preparer = (*Format)(nil)
)

// NewEncoder implements change.Format.
func (f *Format) NewEncoder() change.Encoder {
	return &encoder{format: f, payloads: envelope.Payloads{Row: f.Row}}
}

// Prepare implements change.Preparer: it registers the schemas of the table.
func (f *Format) Prepare(ctx context.Context, t *change.Table) error {
	return f.Naming.Prepare(ctx, t, f.schemasOf(t))
}

func (f *Format) schemasOf(t *change.Table) *confluent.Schemas {
	x, _ := t.Text(f, f.makeSchemas).(*confluent.Schemas)
	return x
}

func (f *Format) makeSchemas(t *change.Table) any {
	s, ok := f.NewSchemas(t, func(topic string) string { return topic })
	if !ok {
		return s
	}
	s.Record = confluent.RecordEnvelope
	if f.Row {
		s.Record = confluent.RecordValue
	}
	s.Value, s.Key = valueSchema(t, s.Space, f.Row), keySchema(t, s.Space)
	return s
}

type encoder struct {
	format   *Format
	maker    change.Maker
	parts    change.Parts
	payloads envelope.Payloads
	table    *change.Table
	heads    *confluent.Heads
}

var (
	errNotReady = errors.New("its schema is not registered")
	errShape    = errors.New("it has no form in the format json_schema: leave schema_changes off, or read it by a source with another format")
)

// AppendMessages implements change.Encoder.
func (e *encoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	if e.table != ev.Table {
		e.table, e.heads = ev.Table, e.format.schemasOf(ev.Table).Heads()
	}
	switch {
	case e.heads == nil:
		return e.failed(dst, ev, fmt.Errorf("table %s: %w", ev.Table.FullName(), errNotReady)), buf
	case ev.Op == change.Schema:
		return e.failed(dst, ev, fmt.Errorf("a change of the shape of table %s: %w", ev.Table.FullName(), errShape)), buf
	case ev.Op == change.Truncate && e.format.Row:
		silent := e.parts.Next(ev, 0)
		silent.Silent = true
		return append(dst, e.maker.Message(silent, nil, nil)), buf
	}
	start := len(buf)
	buf = e.payloads.Append(append(buf, e.heads.Value[:]...), ev)
	end := len(buf)
	buf = append(buf, e.heads.Key[:]...)
	head := len(buf)
	if buf = e.payloads.AppendKey(buf, ev); len(buf) == head {
		buf = buf[:end] // there is no key
	}
	return append(dst, e.maker.Message(ev, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}

// failed appends an empty message with an error.
func (e *encoder) failed(dst service.MessageBatch, ev *change.Event, err error) service.MessageBatch {
	dst = append(dst, e.maker.Message(ev, nil, nil))
	change.SetErrors(dst[len(dst)-1:], err)
	return dst
}
