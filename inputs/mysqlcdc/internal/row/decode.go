// Package row turns the row images of the log into values, and those into messages. Decoding runs on several goroutines beside the one
// that reads: what it is given is immutable.
package row

import (
	"context"
	"fmt"
	"time"

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

// How much, at most, is allocated at once: events and values of that many rows, and that many bytes for payloads, or one. The allocator
// has pieces of up to 32 KB at hand.
const (
	chunkRows   = 64
	maxPayloads = 28 << 10
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
	return d.all(dst)
}

// all appends the messages of the segment.
func (d *rowDecoder) all(dst service.MessageBatch) (_ service.MessageBatch, err error) {
	s := d.seg
	for n := 0; len(d.rest) > 0 || n == 0 && s.Event.Blank(); n++ {
		ev := d.event()
		ev.Op, ev.Table, ev.Origin, ev.Pos = d.op, s.Layout.Table, d.origin, s.Pos
		ev.Index, ev.Row, ev.Silent = s.Index+uint64(n), s.Row+n, n < s.Skip
		if d.short != nil && n >= s.Skip {
			var ok bool
			if dst, ok = d.shortWay(dst, ev); ok {
				continue
			}
		}
		if dst, err = d.longWay(dst, ev, n); err != nil {
			return dst, s.wrap(s.Row+n, err)
		}
	}
	return dst, nil
}

// longWay appends the messages of the next row, made of its values.
func (d *rowDecoder) longWay(dst service.MessageBatch, ev *change.Event, n int) (service.MessageBatch, error) {
	s, images := d.seg, d.rest
	if err := d.row(); err != nil || n < s.Skip && !s.Silent {
		return dst, err
	}
	if s.Layout.RowEnd > 0 {
		op, counts, err := s.now(ev.Op, images)
		if err != nil || !counts {
			return dst, err
		}
		if ev.Op = op; op == change.Delete {
			d.pair.After = nil
		}
	}
	if d.short == nil {
		d.pairs[d.at] = d.pair
		ev.Images = d.rows.At(d.at)
	} else {
		ev.Images = change.ImagesOf(d.pair.Before, d.pair.After)
	}
	first := len(dst)
	dst, d.buf = d.encoder.AppendMessages(dst, d.payload(), ev)
	if d.err != nil {
		change.SetErrors(dst[first:], s.wrap(s.Row+n, d.err))
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
	rows    *change.ImageSet // the images of the chunk of events, the next of which has this number in it
	at      int
	pairs   []change.Pair // what they are, unless they are made when somebody asks
	pair    change.Pair   // the values of the last row
	values  []change.Value
	arena   []byte
	buf     []byte
	encoder change.Encoder
	short   shortWay // nil: rows become values that stay
	images  int      // of a row
	start   int      // of the last payload in buf
	rowSize int      // of a payload, about
	size    int      // of the images of a row, about
	chunk   int      // how many rows there is memory made for at once
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
	d.images, d.missing = s.images(), s.missing()
	d.findShortWay()
	return d, nil
}

// event returns the next event of the slab. When there is none, it makes a slab for as many rows as are probably left.
func (d *rowDecoder) event() *change.Event {
	if len(d.events) == 0 {
		n, size := 1, len(d.rest)
		if next, err := d.seg.TableMap.SkipRow(d.seg.Event, d.rest); err == nil { // an error is row's to report
			size -= len(next)
			n = min(chunkRows, (len(d.rest)+size-1)/size)
		}
		d.size, d.chunk = size, n
		if d.rowSize == 0 {
			d.rowSize = envelopeSize + 2*size + 24*len(d.seg.Layout.Columns)
		}
		d.events, d.at = make([]change.Event, n), -1
		if d.short != nil {
			d.rows = d.seg.lazy(d.rest, n)
		} else {
			d.pairs = make([]change.Pair, n)
			d.rows = change.ImageSetOf(d.pairs)
		}
	}
	ev := &d.events[0]
	d.events = d.events[1:]
	d.at++
	return ev
}

// payload returns a buffer that has room for the payload of the event that event returned last, or about so.
func (d *rowDecoder) payload() []byte {
	if n := len(d.buf) - d.start; n > 0 {
		d.rowSize = n
	}
	if room := d.rowSize + d.rowSize/8; cap(d.buf)-len(d.buf) < room {
		d.buf = make([]byte, 0, max(room+64, min((len(d.events)+1)*(room+64), maxPayloads)))
	}
	d.start = len(d.buf)
	return d.buf
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
