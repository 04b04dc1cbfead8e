package protobuf

import (
	"encoding/binary"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// encoder writes what neighbours have in common once, and copies it from then on.
type encoder struct {
	format *Format
	plan   *plan

	// What text was made for.
	table  *change.Table
	origin *change.Origin

	text []byte
	// source, tx and times are parts of text: the source up to the place of the row, the transaction up to the order, and the times.
	source, tx, times []byte

	scratch []byte
	err     error // the first value of the event that has no form
}

// The tags of the envelope: the number of the field, and how it is framed.
const (
	tagBefore      = 1<<3 | wireSized
	tagAfter       = 2<<3 | wireSized
	tagSource      = 3<<3 | wireSized
	tagTransaction = 4<<3 | wireSized
	tagOp          = 5<<3 | wireSized
	tagEventID     = 9<<3 | wireSized
)

// The numbers of the fields of Source.
const (
	sourceVersion = iota + 1
	sourceConnector
	sourceName
	sourceMs
	sourceUs
	sourceNs
	sourceSnapshot
	sourceDB
	sourceSchema
	sourceTable
	sourceServerID
	sourceGTID
	sourceFile
	sourcePos
	sourceRow
	sourceTxID
	sourceLSN
)

// Ready implements confluent.Writer.
func (e *encoder) Ready(ev *change.Event) bool {
	if e.table == ev.Table && e.origin == ev.Origin && e.plan != nil {
		return true
	}
	e.table, e.origin = ev.Table, ev.Origin
	if e.plan = e.format.textOf(ev.Table).plan.Load(); e.plan == nil {
		return false
	}
	if e.format.Shape == confluent.ShapeEnvelope {
		e.prepare(ev)
	}
	return true
}

// Err implements confluent.Writer.
func (e *encoder) Err() error {
	err := e.err
	e.err = nil
	return err
}

// prepare writes the parts that the event has in common with its neighbours.
func (e *encoder) prepare(ev *change.Event) {
	t, tx := ev.Table, ev.Tx
	snapshot := ev.Snapshot
	if snapshot == "" {
		snapshot = change.SnapshotFalse
	}
	b := appendText(e.text[:0], sourceVersion, t.Source.Version)
	b = appendText(b, sourceConnector, t.Source.Connector)
	b = appendText(b, sourceName, t.Source.Name)
	b = appendNumber(b, sourceMs, uint64(tx.CommitTime.UnixMilli())) //nolint:gosec // two's complement
	b = appendNumber(b, sourceUs, uint64(tx.CommitTime.UnixMicro())) //nolint:gosec // two's complement
	b = appendNumber(b, sourceNs, uint64(tx.CommitTime.UnixNano()))  //nolint:gosec // two's complement
	b = appendText(b, sourceSnapshot, string(snapshot))
	b = appendText(b, sourceDB, t.Database)
	if t.Schema != "" {
		b = appendText(b, sourceSchema, t.Schema)
	}
	b = appendText(b, sourceTable, t.Name)
	if t.Schema != "" {
		if tx.XID != 0 {
			b = appendNumber(b, sourceTxID, uint64(tx.XID))
		}
	} else {
		b = appendNumber(b, sourceServerID, uint64(tx.ServerID))
		if tx.GTID != "" {
			b = appendText(b, sourceGTID, tx.GTID)
		}
		if ev.File != "" {
			b = appendText(b, sourceFile, ev.File)
		}
	}
	source := len(b)
	if tx.ID != "" {
		b = appendText(b, 1, tx.ID)
	}
	end := len(b)
	b = appendNumber(b, 6, uint64(ev.ReadAt.UnixMilli())) //nolint:gosec // two's complement
	b = appendNumber(b, 7, uint64(ev.ReadAt.UnixMicro())) //nolint:gosec // two's complement
	b = appendNumber(b, 8, uint64(ev.ReadAt.UnixNano()))  //nolint:gosec // two's complement
	e.text, e.source, e.tx, e.times = b, b[:source], b[source:end], b[end:]
}

// AppendPayload implements confluent.Writer.
func (e *encoder) AppendPayload(dst []byte, ev *change.Event) []byte {
	dst = append(dst, e.plan.valueHead...)
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
	dst = append(dst, e.plan.keyHead...)
	for i, c := range ev.Table.Key {
		if row[c].IsNull() {
			dst = e.fail(dst, e.plan.key[i], "it is NULL, and a key cannot be")
			continue
		}
		dst = e.appendField(dst, e.plan.key[i], row[c])
	}
	return dst
}

func (e *encoder) appendEnvelope(dst []byte, ev *change.Event) []byte {
	if ev.Before() != nil {
		start := len(dst) + 2
		dst = end(e.appendRow(append(dst, tagBefore, 0), ev.Before(), true), start)
	}
	if ev.After() != nil {
		start := len(dst) + 2
		dst = end(e.appendRow(append(dst, tagAfter, 0), ev.After(), false), start)
	}
	start := len(dst) + 2
	dst = append(append(dst, tagSource, 0), e.source...)
	if ev.Table.Schema == "" {
		dst = appendNumber(appendNumber(dst, sourcePos, ev.Pos), sourceRow, uint64(ev.Row)) //nolint:gosec // it counts rows
	} else if ev.LSN != 0 {
		dst = appendNumber(dst, sourceLSN, ev.LSN)
	}
	dst = end(dst, start)
	if ev.Tx.ID != "" {
		start = len(dst) + 2
		dst = append(append(dst, tagTransaction, 0), e.tx...)
		dst = end(appendNumber(dst, 2, uint64(ev.Index)), start)
	}
	dst = append(dst, tagOp, 1, byte(ev.Op))
	dst = append(dst, e.times...)
	e.scratch = ev.AppendID(e.scratch[:0])
	return appendSized(append(dst, tagEventID), e.scratch)
}

// end writes the size of what was appended after start, into the byte before it, and makes room where one byte is not enough.
func end(dst []byte, start int) []byte {
	n := len(dst) - start
	if n < 0x80 {
		dst[start-1] = byte(n)
		return dst
	}
	var size [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(size[:], uint64(n)) //nolint:gosec // not negative
	dst = append(dst, size[:k-1]...)           // for the room
	copy(dst[start+k-1:], dst[start:start+n])
	copy(dst[start-1:], size[:k])
	return dst
}

func appendSized[S string | []byte](dst []byte, s S) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendText appends a field with a text.
func appendText(dst []byte, number uint64, s string) []byte {
	return appendSized(binary.AppendUvarint(dst, number<<3|wireSized), s)
}

// appendNumber appends a field with a number.
func appendNumber(dst []byte, number, n uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, number<<3|wireVarint), n)
}

func appendZigzag(dst []byte, n int) []byte { return binary.AppendVarint(dst, int64(n)) }

// appendRow appends the values of an image that are there and not NULL.
func (e *encoder) appendRow(dst []byte, row []change.Value, before bool) []byte {
	for i, x := range e.plan.columns {
		v := change.Value{} // absent
		if i < len(row) {
			v = row[i]
		}
		switch v.Kind() {
		case change.Null:
		case change.Absent, change.Unavailable:
			dst = e.appendMissing(dst, x, v, before)
		default:
			dst = e.appendField(dst, x, v)
		}
	}
	return dst
}

// appendMissing appends what stands for a value that the log does not carry.
func (e *encoder) appendMissing(dst []byte, x *column, v change.Value, before bool) []byte {
	text := x.form == formText || x.form == formBytes
	switch {
	case before && (v.Kind() == change.Absent || !text):
		return dst
	case text:
		return appendSized(append(dst, x.tag...), e.format.Placeholder)
	default:
		return e.fail(dst, x, "the log does not carry the value, and the type has no placeholder: "+confluent.WayOut)
	}
}
