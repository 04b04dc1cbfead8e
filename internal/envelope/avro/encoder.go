package avro

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// encoder writes what neighbours have in common once, and copies it from then on.
type encoder struct {
	format *Format
	maker  change.Maker
	parts  change.Parts

	// What text was made for.
	table  *change.Table
	origin *change.Origin

	names *tableText
	heads *confluent.Heads
	text  []byte
	// source, middle, tx and times are parts of text: the source up to the sequence, from there to the place of the row, the transaction up to
	// the order, and the times.
	source, middle, tx, times []byte

	scratch []byte
	err     error // the first value of the event that has no form
}

var errNotReady = errors.New("its schema is not registered")

// addSource makes what the source says of a table.
func (x *tableText) addSource(t *change.Table) {
	x.names = appendString(appendString(appendString(nil, t.Source.Version), t.Source.Connector), t.Source.Name)
	x.db = appendString(nil, t.Database)
	if t.Schema != "" {
		x.table = appendString(appendString(nil, t.Schema), t.Name)
	} else {
		x.table = appendString([]byte{isValue}, t.Name)
	}
}

// prepare writes the parts that the event has in common with its neighbours, unless they are written.
func (e *encoder) prepare(ev *change.Event) {
	if e.table == ev.Table && e.origin == ev.Origin {
		return
	}
	e.table, e.origin = ev.Table, ev.Origin
	e.names = e.format.textOf(ev.Table)
	e.heads = e.names.Heads()
	if e.format.Shape == ShapeRow {
		return
	}
	b := append(e.text[:0], e.names.names...)
	b = appendLong(b, ev.Tx.CommitTime.UnixMilli())
	snapshot := ev.Snapshot
	if snapshot == "" {
		snapshot = change.SnapshotFalse
	}
	b = append(appendString(b, string(snapshot)), e.names.db...)
	source := len(b)
	b = appendLong(append(b, isValue), ev.Tx.CommitTime.UnixMicro())
	b = appendLong(append(b, isValue), ev.Tx.CommitTime.UnixNano())
	b = append(b, e.names.table...)
	if ev.Table.Schema != "" {
		b = appendOptional(b, uint64(ev.Tx.XID))
	} else {
		b = appendLong(b, int64(ev.Tx.ServerID))
		b = appendOptionalText(b, ev.Tx.GTID)
		b = appendString(b, ev.File)
	}
	middle := len(b)
	if ev.Tx.ID == "" {
		b = append(b, isNull)
	} else {
		b = appendString(append(b, isValue), ev.Tx.ID)
	}
	tx := len(b)
	b = appendLong(append(b, isValue), ev.ReadAt.UnixMilli())
	b = appendLong(append(b, isValue), ev.ReadAt.UnixMicro())
	b = appendLong(append(b, isValue), ev.ReadAt.UnixNano())
	e.text, e.source, e.middle, e.tx, e.times = b, b[:source], b[source:middle], b[middle:tx], b[tx:]
}

func appendOptional(dst []byte, n uint64) []byte {
	if n == 0 {
		return append(dst, isNull)
	}
	return appendLong(append(dst, isValue), int64(n)) //nolint:gosec // a place in a log
}

func appendOptionalText(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, isNull)
	}
	return appendString(append(dst, isValue), s)
}

// AppendMessages implements change.Encoder.
func (e *encoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	e.prepare(ev)
	first := len(dst)
	switch {
	case e.heads == nil:
		e.err = fmt.Errorf("table %s: %w", ev.Table.FullName(), errNotReady)
		return e.failed(dst, ev), buf
	case ev.Op == change.Schema:
		e.err = fmt.Errorf("a change of the shape of table %s has %w: leave schema_changes off, or read it by a source with another format", ev.Table.FullName(), errForm)
		return e.failed(dst, ev), buf
	case ev.Op == change.Update && ev.Table.KeyChanged(ev.Before, ev.After) && (e.format.Shape == ShapeEnvelope || e.format.Deletes == DeleteNull):
		dst, buf = e.moved(dst, buf, ev)
	case e.format.Shape == ShapeRow && ev.Op == change.Delete && e.format.Deletes == DeleteNull:
		dst, buf = e.tombstone(dst, buf, ev, 0, false)
	case e.format.Shape == ShapeRow && (ev.Op == change.Truncate || ev.Op == change.Delete && e.format.Deletes == DeleteDrop):
		silent := e.parts.Next(ev, 0)
		silent.Silent = true
		dst = append(dst, e.maker.Message(silent, nil, nil))
	case ev.Op == change.Delete && e.format.Shape == ShapeEnvelope && e.format.Tombstones && ev.Table.HasKey(ev.Before):
		dst, buf = e.deleted(dst, buf, ev)
	default:
		dst, buf = e.one(dst, buf, ev)
	}
	if e.err != nil {
		change.SetErrors(dst[first:], e.err)
		e.err = nil
	}
	return dst, buf
}

// failed appends an empty message with the error.
func (e *encoder) failed(dst service.MessageBatch, ev *change.Event) service.MessageBatch {
	dst = append(dst, e.maker.Message(ev, nil, nil))
	change.SetErrors(dst[len(dst)-1:], e.err)
	e.err = nil
	return dst
}

// one appends a message of an event, or of a part of one.
func (e *encoder) one(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	start := len(buf)
	buf = append(buf, e.heads.Value[:]...)
	switch {
	case e.format.Shape == ShapeEnvelope:
		buf = e.appendEnvelope(buf, ev)
	case ev.Op == change.Delete:
		buf = e.appendRow(buf, ev.Before, true)
	default:
		buf = e.appendRow(buf, ev.After, false)
	}
	end := len(buf)
	buf = e.appendKey(buf, ev)
	return append(dst, e.maker.Message(ev, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}

// moved appends the messages of an update that has changed the key: the row is gone under its old key, and there under its new one.
func (e *encoder) moved(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	first := len(dst)
	if e.format.Shape == ShapeEnvelope {
		dst, buf = e.deleted(dst, buf, ev)
	} else {
		dst, buf = e.tombstone(dst, buf, ev, 0, true)
	}
	created := e.parts.Next(ev, len(dst)-first)
	created.Op, created.Before = change.Create, nil
	return e.one(dst, buf, created)
}

// deleted appends the messages of a row that is gone.
func (e *encoder) deleted(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	gone := e.parts.Next(ev, 0)
	gone.Op, gone.After, gone.Followed = change.Delete, nil, e.format.Tombstones
	dst, buf = e.one(dst, buf, gone)
	if !e.format.Tombstones {
		return dst, buf
	}
	return e.tombstone(dst, buf, ev, 1, true)
}

// tombstone appends a message without payload.
func (e *encoder) tombstone(dst service.MessageBatch, buf []byte, ev *change.Event, part int, old bool) (service.MessageBatch, []byte) {
	t := e.parts.Next(ev, part)
	t.Op, t.After, t.Tombstone = change.Delete, nil, true
	if old && !ev.Table.HasKey(ev.Before) {
		t.Before = nil
	}
	start := len(buf)
	buf = e.appendKey(buf, t)
	return append(dst, e.maker.Message(t, nil, buf[start:len(buf):len(buf)])), buf
}

// appendKey appends the key of an event: that of its newest image; nothing where there is none.
func (e *encoder) appendKey(dst []byte, ev *change.Event) []byte {
	row := ev.After
	if !ev.Table.HasKey(row) {
		if row = ev.Before; !ev.Table.HasKey(row) {
			return dst
		}
	}
	dst = append(dst, e.heads.Key[:]...)
	for _, c := range e.names.key {
		dst = e.appendValue(dst, e.names.columns[c], row[c])
	}
	return dst
}

// appendRow appends an image that there is.
func (e *encoder) appendRow(dst []byte, row []change.Value, before bool) []byte {
	for i, x := range e.names.columns {
		v := change.Value{} // absent
		if i < len(row) {
			v = row[i]
		}
		dst = e.appendNullable(dst, x, v, before)
	}
	return dst
}

func (e *encoder) appendImage(dst []byte, row []change.Value, before bool) []byte {
	if row == nil {
		return append(dst, isNull)
	}
	return e.appendRow(append(dst, isValue), row, before)
}

// appendEnvelope appends the payload of the shape envelope.
func (e *encoder) appendEnvelope(dst []byte, ev *change.Event) []byte {
	dst = e.appendImage(dst, ev.Before, true)
	dst = e.appendImage(dst, ev.After, false)
	dst = append(dst, e.source...)
	if ev.Table.Schema != "" && ev.LSN != 0 {
		e.scratch = append(strconv.AppendUint(append(e.scratch[:0], `[null,"`...), ev.LSN, 10), `"]`...)
		dst = appendString(append(dst, isValue), e.scratch)
	} else {
		dst = append(dst, isNull)
	}
	dst = append(dst, e.middle...)
	if ev.Table.Schema != "" {
		dst = appendOptional(dst, ev.LSN)
		dst = append(dst, isNull, isNull, isNull) // xmin, origin, origin_lsn
	} else {
		dst = appendLong(dst, int64(ev.Pos)) //nolint:gosec // a place in a file
		dst = appendLong(dst, int64(ev.Row))
		dst = append(dst, isNull, isNull) // thread, query
	}
	dst = append(dst, e.tx...)
	if ev.Tx.ID != "" {
		dst = appendLong(dst, int64(ev.Index)) //nolint:gosec // it counts rows
	}
	dst = append(dst, 2, byte(ev.Op))
	dst = append(dst, e.times...)
	e.scratch = ev.AppendID(e.scratch[:0])
	return appendString(dst, e.scratch)
}
