package mysqlcdc

import (
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// shape is how the rows of one version of a table are decoded. It is immutable.
type shape struct {
	table *change.Table
	// columns are those of the table and, behind them, those that the server keeps for itself and still writes to the log.
	columns []column
}

func (s *shape) name(i int) string {
	if i < len(s.table.Columns) {
		return s.table.Columns[i].Name
	}
	return fmt.Sprintf("%d, which is hidden", i+1)
}

// rowsSegment is a stretch of the rows of one rows event, undecoded.
type rowsSegment struct {
	shape *shape
	event *rowsEvent
	tm    *tableMap
	tx    *change.Tx
	// images are the rows of the segment; the first has this index in the transaction and this number in the event.
	images []byte
	index  uint64
	row    int
	// skip is how many rows at the start were delivered in an earlier session.
	skip   int
	file   string
	pos    uint64
	readAt time.Time
}

var _ coordinator.Rows = (*rowsSegment)(nil)

// envelopeSize is about what the envelope adds to the values of an event.
const envelopeSize = 512

// How much, at most, is allocated at once: events and values of that many rows, and that many bytes for payloads, or one.
const (
	chunkRows   = 128
	maxPayloads = 64 << 10
)

// Decode implements coordinator.Rows.
func (s *rowsSegment) Decode(dst service.MessageBatch) (service.MessageBatch, error) {
	d, err := newRowDecoder(s)
	if err != nil {
		return dst, s.wrap(s.row, err)
	}
	for n := 0; len(d.rest) > 0 || n == 0 && s.event.blank(); n++ {
		ev := d.event()
		if err := d.row(ev); err != nil {
			return dst, s.wrap(s.row+n, err)
		}
		if n < s.skip {
			continue
		}
		ev.Index, ev.Row = s.index+uint64(n), s.row+n
		var msg *service.Message
		msg, d.buf = d.encoder.AppendMessage(d.payload(), ev)
		if d.err != nil {
			change.SetError(msg, s.wrap(s.row+n, d.err))
		}
		dst = append(dst, msg)
	}
	return dst, nil
}

// wrap says where in the log an error lies.
func (s *rowsSegment) wrap(row int, err error) error {
	table := s.shape.table.FullName()
	return coordinator.WithTable(table, coordinator.WithKind(coordinator.KindDecode,
		fmt.Errorf("decoding row %d of %s at %s:%d: %w", row, table, s.file, s.pos, err)))
}

// rowDecoder holds what all rows of a segment share: the slabs that their values, texts and payloads are cut from.
type rowDecoder struct {
	seg     *rowsSegment
	rest    []byte
	op      change.Op
	origin  *change.Origin
	events  []change.Event
	values  []change.Value
	arena   []byte
	buf     []byte
	encoder envelope.Encoder
	images  int // of a row
	start   int // of the last payload in buf
	rowSize int // of a payload, about
	// missing is what a column is that an image does not have.
	missing change.Value
	err     error // the first value of the row that cannot be represented
}

func newRowDecoder(s *rowsSegment) (*rowDecoder, error) {
	if s.event.columns != len(s.tm.types) || s.event.columns != len(s.shape.columns) {
		return nil, fmt.Errorf("the rows event has %d columns, its table map has %d, the table %d",
			s.event.columns, len(s.tm.types), len(s.shape.columns))
	}
	if s.tm.badWidth != nil {
		return nil, s.tm.badWidth
	}
	d := &rowDecoder{
		seg: s, rest: s.images,
		origin: &change.Origin{Tx: s.tx, ReadAt: s.readAt, Snapshot: change.SnapshotFalse, File: s.file},
	}
	switch s.event.kind {
	case rowsInsert:
		d.op = change.Create
	case rowsUpdate:
		d.op = change.Update
	case rowsDelete:
		d.op = change.Delete
	}
	if s.event.before != nil {
		d.images++
	}
	if s.event.after != nil {
		d.images++
	}
	d.missing = s.missing()
	return d, nil
}

// event returns the next event of the slab. When there is none, it makes slabs for as many rows as are probably left.
func (d *rowDecoder) event() *change.Event {
	if len(d.events) == 0 {
		n, size := 1, len(d.rest)
		if next, err := d.seg.tm.skipRow(d.seg.event, d.rest); err == nil { // an error is row's to report
			size -= len(next)
			n = min(chunkRows, (len(d.rest)+size-1)/size)
		}
		if d.rowSize == 0 {
			d.rowSize = envelopeSize + 2*size + 24*len(d.seg.shape.columns)
		}
		d.events = make([]change.Event, n)
		d.values = make([]change.Value, n*d.images*len(d.seg.shape.columns))
		d.arena = make([]byte, 0, n*size) // texts of numbers and times are about as long as twice their bytes
	}
	ev := &d.events[0]
	d.events = d.events[1:]
	return ev
}

// payload returns a buffer that has room for the payload of the event that event returned last, or about so.
func (d *rowDecoder) payload() []byte {
	if d.buf == nil {
		d.buf = make([]byte, 0, d.rowSize)
		return d.buf
	}
	if d.rowSize = len(d.buf) - d.start; cap(d.buf)-len(d.buf) < d.rowSize+d.rowSize/8 {
		d.rowSize += d.rowSize/8 + 64
		d.buf = make([]byte, 0, max(d.rowSize, min((len(d.events)+1)*d.rowSize, maxPayloads)))
	}
	d.start = len(d.buf)
	return d.buf
}

// missing tells why the images lack columns. With binlog_row_image=NOBLOB an update or delete leaves out blobs, and only those:
// the row has a value that the log does not carry. With MINIMAL it leaves out all sorts of columns: they are no part of the image.
func (s *rowsSegment) missing() change.Value {
	if s.event.kind == rowsInsert {
		return change.Value{}
	}
	for i := range s.shape.table.Columns {
		lacks := s.event.before != nil && !isSet(s.event.before, i) || s.event.after != nil && !isSet(s.event.after, i)
		if lacks && !isBlob(s.shape.columns[i].typ) {
			return change.Value{}
		}
	}
	return change.UnavailableValue()
}

// row decodes the next row. An error means that the rest cannot be trusted; d.err that one value cannot be represented.
func (d *rowDecoder) row(ev *change.Event) (err error) {
	s := d.seg
	ev.Op, ev.Table, ev.Origin, ev.Pos = d.op, s.shape.table, d.origin, s.pos
	d.err = nil
	left := len(d.rest)
	if s.event.before != nil {
		if ev.Before, err = d.image(s.event.before, s.event.nBefore, nil, false); err != nil {
			return err
		}
	}
	if s.event.after != nil {
		if ev.After, err = d.image(s.event.after, s.event.nAfter, ev.Before, s.event.partial); err != nil {
			return err
		}
	}
	if len(d.rest) == left && !s.event.blank() {
		return fmt.Errorf("a row without bytes: %w", errTruncated)
	}
	return nil
}

// image decodes one row image into values from the slab. An after image of a partial update can refer to the before image.
func (d *rowDecoder) image(present []byte, count int, before []change.Value, partialEvent bool) ([]change.Value, error) {
	columns := d.seg.shape.columns
	img, err := openImage(d.rest, d.seg.tm.types, count, partialEvent)
	if err != nil {
		return nil, err
	}
	row := d.values[:len(columns):len(columns)]
	d.values = d.values[len(columns):]
	if count == len(columns) && img.partial == nil {
		err = d.whole(row, img)
	} else {
		err = d.some(row, img, present, before)
	}
	return row[:len(d.seg.shape.table.Columns)], err
}

// whole decodes an image that has every column, which almost all have.
func (d *rowDecoder) whole(row []change.Value, img image) (err error) {
	columns, widths, rest := d.seg.shape.columns, d.seg.tm.widths, img.values
	for i := range row {
		if isSet(img.nulls, i) {
			row[i] = change.NullValue()
			continue
		}
		n, err := widths[i].size(rest)
		if err != nil {
			return fmt.Errorf("column %s: %w", d.seg.shape.name(i), err)
		}
		if row[i], d.arena, err = columns[i].decode(rest[:n:n], d.arena); err != nil {
			d.inexact(i, err)
		}
		rest = rest[n:]
	}
	d.rest = rest
	return nil
}

// some decodes an image that lacks columns, or has differences in place of JSON documents.
func (d *rowDecoder) some(row []change.Value, img image, present []byte, before []change.Value) error {
	columns, widths, rest := d.seg.shape.columns, d.seg.tm.widths, img.values
	nth, nthJSON := 0, 0
	for i := range columns {
		c := &columns[i]
		partial := false
		if img.partial != nil && c.typ == mysql.MYSQL_TYPE_JSON {
			partial = isSet(img.partial, nthJSON)
			nthJSON++
		}
		if !isSet(present, i) {
			row[i] = d.missing
			if before != nil && d.missing.Kind() == change.Unavailable && before[i].Known() {
				row[i] = before[i] // what an after image leaves out has not changed
			}
			continue
		}
		null := isSet(img.nulls, nth)
		nth++
		if null {
			row[i] = change.NullValue()
			continue
		}
		n, err := widths[i].size(rest)
		if err != nil {
			return fmt.Errorf("column %s: %w", d.seg.shape.name(i), err)
		}
		switch {
		case partial && (before == nil || before[i].Kind() != change.JSON):
			row[i] = change.UnavailableValue()
		case partial:
			row[i], err = d.differs(before[i], rest[c.meta:n])
		default:
			row[i], d.arena, err = c.decode(rest[:n:n], d.arena)
		}
		if err != nil {
			d.inexact(i, err)
		}
		rest = rest[n:]
	}
	d.rest = rest
	return nil
}

// inexact notes that a value of the row cannot be represented.
func (d *rowDecoder) inexact(column int, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("column %s: %w", d.seg.shape.name(column), err)
	}
}

// differs returns what the differences make of a JSON document.
func (d *rowDecoder) differs(before change.Value, diff []byte) (change.Value, error) {
	if len(diff) == 0 {
		return before, nil
	}
	start := len(d.arena)
	out, err := appendJSONDiff(d.arena, before.Bytes(), diff)
	if err != nil {
		return change.UnavailableValue(), err
	}
	d.arena = out
	return change.JSONValue(out[start:len(out):len(out)]), nil
}

// tableSegment is an event about a table as a whole: TRUNCATE TABLE, or a change of its shape.
type tableSegment struct{ event change.Event }

var _ coordinator.Rows = (*tableSegment)(nil)

// Decode implements coordinator.Rows.
func (s *tableSegment) Decode(dst service.MessageBatch) (service.MessageBatch, error) {
	msg, _ := envelope.AppendMessage(nil, &s.event)
	return append(dst, msg), nil
}
