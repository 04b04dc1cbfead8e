package avro

import (
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// encoder writes what neighbours have in common once, and copies it from then on.
type encoder struct {
	format *Format

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
	if e.format.Shape == confluent.ShapeRow {
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

// Ready implements confluent.Writer.
func (e *encoder) Ready(ev *change.Event) bool {
	e.prepare(ev)
	return e.heads != nil
}

// Err implements confluent.Writer.
func (e *encoder) Err() error {
	err := e.err
	e.err = nil
	return err
}

// AppendPayload implements confluent.Writer.
func (e *encoder) AppendPayload(dst []byte, ev *change.Event) []byte {
	dst = append(dst, e.heads.Value[:]...)
	switch {
	case e.format.Shape == confluent.ShapeEnvelope:
		return e.appendEnvelope(dst, ev)
	case ev.Op == change.Delete:
		return e.appendRow(dst, ev.Before(), true)
	default:
		return e.appendRow(dst, ev.After(), false)
	}
}

// AppendKey implements confluent.Writer.
func (e *encoder) AppendKey(dst []byte, ev *change.Event) []byte {
	row := confluent.KeyRow(ev)
	if row == nil {
		return dst
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
	dst = e.appendImage(dst, ev.Before(), true)
	dst = e.appendImage(dst, ev.After(), false)
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
