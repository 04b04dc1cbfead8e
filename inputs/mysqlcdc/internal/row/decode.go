// Package row turns the row images of the log into values, and those into messages. Decoding runs on several goroutines beside the one
// that reads: what it is given is immutable.
package row

import (
	"context"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// Layout is how the rows of one version of a table are decoded. It is immutable.
type Layout struct {
	Table *change.Table
	// Columns are those of the table and, after them, those that the server keeps for itself and still writes to the log.
	Columns []Column
	// RowEnd is the number, from 1, of the column with the end of a row's life in a MariaDB table with system versioning; 0 for none. Rows
	// that have ended are no rows of the table.
	RowEnd int
}

func (s *Layout) name(i int) string {
	if i < len(s.Table.Columns) {
		return s.Table.Columns[i].Name
	}
	return fmt.Sprintf("%d, which is hidden", i+1)
}

// Segment is a stretch of the rows of one rows event, undecoded.
type Segment struct {
	Layout   *Layout
	Event    *binlog.Rows
	TableMap *binlog.TableMap
	Tx       *change.Tx
	// Images are the rows of the segment; the first has this index in the transaction and this number in the event.
	Images []byte
	Index  uint64
	Row    int
	// Skip is how many rows at the start were delivered in an earlier session. They are left out, or, with Silent, are silent events.
	Skip   int
	Silent bool
	File   string
	Pos    uint64
	ReadAt time.Time
}

var _ coordinator.Rows = (*Segment)(nil)

// envelopeSize is about what the envelope adds to the values of an event.
const envelopeSize = 512

// How much, at most, is allocated at once: events and values of that many rows, and that many bytes for payloads, or one.
const (
	chunkRows   = 128
	maxPayloads = 64 << 10
)

// Decode implements coordinator.Rows.
func (s *Segment) Decode(ctx context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	if err := change.Prepare(ctx, s.Layout.Table); err != nil {
		return dst, fault.WithTable(s.Layout.Table.FullName(), err)
	}
	d, err := newRowDecoder(s)
	if err != nil {
		return dst, s.wrap(s.Row, err)
	}
	for n := 0; len(d.rest) > 0 || n == 0 && s.Event.Blank(); n++ {
		ev, images := d.event(), d.rest
		if err := d.row(ev); err != nil {
			return dst, s.wrap(s.Row+n, err)
		}
		if n < s.Skip && !s.Silent {
			continue
		}
		if s.Layout.RowEnd > 0 {
			op, counts, err := s.now(ev.Op, images)
			if err != nil {
				return dst, s.wrap(s.Row+n, err)
			}
			if !counts {
				continue
			}
			if ev.Op = op; op == change.Delete {
				ev.After = nil
			}
		}
		ev.Index, ev.Row, ev.Silent = s.Index+uint64(n), s.Row+n, n < s.Skip
		first := len(dst)
		dst, d.buf = d.encoder.AppendMessages(dst, d.payload(), ev)
		if d.err != nil {
			change.SetErrors(dst[first:], s.wrap(s.Row+n, d.err))
		}
	}
	return dst, nil
}

// wrap says where in the log an error lies.
func (s *Segment) wrap(row int, err error) error {
	table := s.Layout.Table.FullName()
	return fault.WithTable(table, fault.WithKind(fault.KindDecode,
		fmt.Errorf("decoding row %d of %s at %s:%d: %w", row, table, s.File, s.Pos, err)))
}

// rowDecoder holds what all rows of a segment share: the slabs that their values, texts and payloads are cut from.
type rowDecoder struct {
	seg     *Segment
	rest    []byte
	op      change.Op
	origin  *change.Origin
	events  []change.Event
	values  []change.Value
	arena   []byte
	buf     []byte
	encoder change.Encoder
	images  int // of a row
	start   int // of the last payload in buf
	rowSize int // of a payload, about
	// missing is what a column is that an image does not have.
	missing change.Value
	err     error // the first value of the row that cannot be represented
}

func newRowDecoder(s *Segment) (*rowDecoder, error) {
	if s.Event.Columns != len(s.TableMap.Types) || s.Event.Columns != len(s.Layout.Columns) {
		return nil, fmt.Errorf("the rows event has %d columns, its table map has %d, the table %d",
			s.Event.Columns, len(s.TableMap.Types), len(s.Layout.Columns))
	}
	if s.TableMap.BadWidth != nil {
		return nil, s.TableMap.BadWidth
	}
	d := &rowDecoder{
		seg: s, rest: s.Images,
		origin:  &change.Origin{Tx: s.Tx, ReadAt: s.ReadAt, Snapshot: change.SnapshotFalse, File: s.File},
		encoder: envelope.NewEncoder(s.Layout.Table.Source),
	}
	switch s.Event.Kind {
	case binlog.Insert:
		d.op = change.Create
	case binlog.Update:
		d.op = change.Update
	case binlog.Delete:
		d.op = change.Delete
	}
	if s.Event.Before != nil {
		d.images++
	}
	if s.Event.After != nil {
		d.images++
	}
	d.missing = s.missing()
	return d, nil
}

// Event returns the next event of the slab. When there is none, it makes slabs for as many rows as are probably left.
func (d *rowDecoder) event() *change.Event {
	if len(d.events) == 0 {
		n, size := 1, len(d.rest)
		if next, err := d.seg.TableMap.SkipRow(d.seg.Event, d.rest); err == nil { // an error is row's to report
			size -= len(next)
			n = min(chunkRows, (len(d.rest)+size-1)/size)
		}
		if d.rowSize == 0 {
			d.rowSize = envelopeSize + 2*size + 24*len(d.seg.Layout.Columns)
		}
		d.events = make([]change.Event, n)
		d.values = make([]change.Value, n*d.images*len(d.seg.Layout.Columns))
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
func (s *Segment) missing() change.Value {
	if s.Event.Kind == binlog.Insert {
		return change.Value{}
	}
	for i := range s.Layout.Table.Columns {
		lacks := s.Event.Before != nil && !binlog.IsSet(s.Event.Before, i) || s.Event.After != nil && !binlog.IsSet(s.Event.After, i)
		if lacks && !binlog.IsBlob(s.Layout.Columns[i].Type) {
			return change.Value{}
		}
	}
	return change.UnavailableValue()
}

// row decodes the next row. An error means that the rest cannot be trusted; d.err that one value cannot be represented.
func (d *rowDecoder) row(ev *change.Event) (err error) {
	s := d.seg
	ev.Op, ev.Table, ev.Origin, ev.Pos = d.op, s.Layout.Table, d.origin, s.Pos
	d.err = nil
	left := len(d.rest)
	if s.Event.Before != nil {
		if ev.Before, err = d.image(s.Event.Before, s.Event.NBefore, nil, false); err != nil {
			return err
		}
	}
	if s.Event.After != nil {
		if ev.After, err = d.image(s.Event.After, s.Event.NAfter, ev.Before, s.Event.Partial); err != nil {
			return err
		}
	}
	if len(d.rest) == left && !s.Event.Blank() {
		return fmt.Errorf("a row without bytes: %w", binlog.ErrTruncated)
	}
	return nil
}

// image decodes one row image into values from the slab. An after image of a partial update can refer to the before image.
func (d *rowDecoder) image(present []byte, count int, before []change.Value, partialEvent bool) ([]change.Value, error) {
	columns := d.seg.Layout.Columns
	img, err := binlog.OpenImage(d.rest, d.seg.TableMap.Types, count, partialEvent)
	if err != nil {
		return nil, err
	}
	row := d.values[:len(columns):len(columns)]
	d.values = d.values[len(columns):]
	if count == len(columns) && img.Partial == nil {
		err = d.whole(row, img)
	} else {
		err = d.some(row, img, present, before)
	}
	return row[:len(d.seg.Layout.Table.Columns)], err
}

// whole decodes an image that has every column, which almost all have.
func (d *rowDecoder) whole(row []change.Value, img binlog.Image) (err error) {
	columns, widths, rest := d.seg.Layout.Columns, d.seg.TableMap.Widths, img.Values
	for i := range row {
		if binlog.IsSet(img.Nulls, i) {
			row[i] = change.NullValue()
			continue
		}
		n, err := widths[i].Size(rest)
		if err != nil {
			return fmt.Errorf("column %s: %w", d.seg.Layout.name(i), err)
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
func (d *rowDecoder) some(row []change.Value, img binlog.Image, present []byte, before []change.Value) error {
	columns, widths, rest := d.seg.Layout.Columns, d.seg.TableMap.Widths, img.Values
	nth, nthJSON := 0, 0
	for i := range columns {
		c := &columns[i]
		partial := false
		if img.Partial != nil && c.Type == mysql.MYSQL_TYPE_JSON {
			partial = binlog.IsSet(img.Partial, nthJSON)
			nthJSON++
		}
		if !binlog.IsSet(present, i) {
			row[i] = d.missing
			if before != nil && d.missing.Kind() == change.Unavailable && before[i].Known() {
				row[i] = before[i] // what an after image leaves out has not changed
			}
			continue
		}
		null := binlog.IsSet(img.Nulls, nth)
		nth++
		if null {
			row[i] = change.NullValue()
			continue
		}
		n, err := widths[i].Size(rest)
		if err != nil {
			return fmt.Errorf("column %s: %w", d.seg.Layout.name(i), err)
		}
		switch {
		case partial && (before == nil || before[i].Kind() != change.JSON):
			row[i] = change.UnavailableValue()
		case partial:
			row[i], err = d.differs(before[i], rest[c.Meta:n])
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
		d.err = fmt.Errorf("column %s: %w", d.seg.Layout.name(column), err)
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

// TableSegment is an event about a table as a whole: TRUNCATE TABLE, or a change of its shape.
type TableSegment struct{ Event change.Event }

var _ coordinator.Rows = (*TableSegment)(nil)

// Decode implements coordinator.Rows.
func (s *TableSegment) Decode(ctx context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	if err := change.Prepare(ctx, s.Event.Table); err != nil {
		return dst, fault.WithTable(s.Event.Table.FullName(), err)
	}
	return envelope.AppendMessages(dst, &s.Event), nil
}
