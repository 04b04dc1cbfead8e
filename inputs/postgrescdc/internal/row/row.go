// Package row makes messages of undecoded rows: what runs on many goroutines.
package row

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// Rows are the undecoded row messages of a segment, all of one transaction.
type Rows struct {
	Tx     *change.Tx
	ReadAt time.Time
	Trust  value.Trust
	Msgs   []Change
	values int // values in all images
	size   int // estimate of all payloads
}

var _ coordinator.Rows = (*Rows)(nil)

// Change is one change: an Insert, Update, Delete or Message as it was read, or one table of a Truncate.
type Change struct {
	Rel   *shape.Relation
	Body  []byte
	LSN   lsn.LSN
	Index uint64
	// Silent says that it was delivered in an earlier session.
	Silent bool

	// A change of a shape, which has no body.
	Change *change.SchemaChange
	Sub    int
}

// envelopeSize is what the fields around the images take, about.
const envelopeSize = 520

// Add appends a change.
func (r *Rows) Add(m Change) {
	if m.Change != nil {
		r.size += 2 * envelopeSize
		r.Msgs = append(r.Msgs, m)
		return
	}
	images := 1
	if m.Body[0] == pgoutput.MsgUpdate {
		images = 2
	}
	r.values += images * len(m.Rel.Types)
	r.size += envelopeSize + images*m.Rel.Names + len(m.Body)
	r.Msgs = append(r.Msgs, m)
}

// How much, at most, is allocated at once: that many events, and that many bytes for payloads, or one. The allocator has pieces of up to 32 KB at
// hand.
const (
	chunkRows   = 64
	maxPayloads = 28 << 10
)

// Decode implements coordinator.Rows.
func (r *Rows) Decode(ctx context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	return r.decode(ctx, dst, true)
}

func (r *Rows) decode(ctx context.Context, dst service.MessageBatch, short bool) (service.MessageBatch, error) {
	d := decoder{parts: value.Decoder{Trust: r.Trust}, room: r.values}
	lazy := change.LazyImages(r.pairs)
	origin := &change.Origin{Tx: r.Tx, ReadAt: r.ReadAt, Snapshot: change.SnapshotFalse}
	var events []change.Event
	for i := range r.Msgs {
		if len(events) == 0 {
			events = make([]change.Event, min(chunkRows, len(r.Msgs)-i))
		}
		m, ev := &r.Msgs[i], &events[0]
		events = events[1:]
		ev.Table, ev.Origin, ev.Index, ev.LSN, ev.Silent = m.Rel.Table, origin, m.Index, uint64(m.LSN), m.Silent
		if d.encoder == nil {
			d.encoder = envelope.NewEncoder(ev.Table.Source)
			if short {
				d.short = newShortWay(d.encoder, r.Trust)
			}
		}
		var err error
		if dst, err = d.messages(ctx, dst, ev, m, lazy.At(i), r.size/len(r.Msgs)*(len(r.Msgs)-i)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// messages appends the messages of a change; left is about how many bytes the payloads of this one and the following take.
func (d *decoder) messages(ctx context.Context, dst service.MessageBatch, ev *change.Event, m *Change, lazy change.Images, left int) (service.MessageBatch, error) {
	if room := 2*envelopeSize + 2*len(m.Body) + 2*m.Rel.Names; cap(d.buf)-len(d.buf) < room {
		d.buf = make([]byte, 0, max(room, min(left+room, maxPayloads)))
	}
	if d.short != nil && isRow(m) {
		if err := d.prepare(ctx, ev.Table); err != nil {
			return dst, err
		}
		ev.Images = lazy
		if out, buf, ok := d.short.messages(dst, d.buf, m, ev); ok {
			ev.Images, d.buf = lazy, buf
			return out, nil
		}
	}
	d.parts.Invalid = nil
	if err := d.event(ev, m); err != nil {
		return dst, fault.WithTable(m.Rel.Table.FullName(), fmt.Errorf("decoding a change of %s at %s: %w", m.Rel.Table.FullName(), m.LSN, err))
	}
	if err := d.prepare(ctx, ev.Table); err != nil {
		return dst, err
	}
	first := len(dst)
	dst, d.buf = d.encoder.AppendMessages(dst, d.buf, ev)
	if d.parts.Invalid != nil {
		change.SetErrors(dst[first:], fmt.Errorf("decoding a change of %s at %s: %w", m.Rel.Table.FullName(), m.LSN, d.parts.Invalid))
	}
	return dst, nil
}

// prepare waits until messages of a table can be made.
func (d *decoder) prepare(ctx context.Context, t *change.Table) error {
	if t == d.prepared {
		return nil
	}
	if err := change.Prepare(ctx, t); err != nil {
		return fault.WithTable(t.FullName(), err)
	}
	d.prepared = t
	return nil
}

// decoder turns row messages into events. Its slabs are shared by all values of a segment.
type decoder struct {
	encoder  change.Encoder
	short    shortWay      // nil: rows become values that stay
	prepared *change.Table // the last one whose messages can be made
	buf      []byte
	values   []change.Value
	room     int // for how many values there is to be room when the first is made
	parts    value.Decoder
}

// event fills in the operation and the images.
func (d *decoder) event(ev *change.Event, m *Change) (err error) {
	if m.Change != nil {
		ev.Op, ev.Change, ev.Sub = change.Schema, m.Change, m.Sub
		if ev.Table = m.Change.New; ev.Table == nil {
			ev.Table = m.Change.Old
		}
		return nil
	}
	switch m.Body[0] {
	case pgoutput.MsgTruncate:
		ev.Op = change.Truncate
		return nil
	case pgoutput.MsgMessage:
		return d.message(ev, m.Body)
	}
	op, p, err := d.row(m)
	ev.Op, ev.Images = op, change.ImagesOf(p.Before, p.After)
	return err
}

// row makes values of a change of a row.
func (d *decoder) row(m *Change) (op change.Op, p change.Pair, err error) {
	if d.values == nil {
		d.values = make([]change.Value, 0, d.room)
	}
	c := pgoutput.Cursor{B: m.Body[1:]}
	c.U32() // the relation
	marker := c.U8()
	if marker == pgoutput.TupleOld || marker == pgoutput.TupleKey {
		if p.Before, err = d.tuple(&c, m.Rel, marker, nil); err != nil {
			return 0, p, err
		}
		if m.Body[0] == pgoutput.MsgUpdate {
			marker = c.U8()
		}
	}
	if marker == pgoutput.TupleNew {
		if p.After, err = d.tuple(&c, m.Rel, marker, p.Before); err != nil {
			return 0, p, err
		}
	}
	wantOld := m.Body[0] == pgoutput.MsgDelete
	wantNew := m.Body[0] != pgoutput.MsgDelete
	switch m.Body[0] {
	case pgoutput.MsgInsert:
		op = change.Create
		if p.Before != nil {
			return op, p, errors.New("an Insert message has an old row")
		}
	case pgoutput.MsgUpdate:
		op = change.Update
	case pgoutput.MsgDelete:
		op = change.Delete
	}
	if wantNew != (p.After != nil) || wantOld && p.Before == nil {
		return op, p, fmt.Errorf("row message has the wrong images, last marker %q", marker)
	}
	return op, p, c.Done("row")
}

func (d *decoder) message(ev *change.Event, body []byte) error {
	m, err := pgoutput.ParseMessage(body)
	if err != nil {
		return err
	}
	ev.Op = change.Message
	prefix := []byte(m.Prefix)
	ev.Images = change.ImagesOf(nil, []change.Value{d.parts.Text(prefix), change.BytesValue(m.Content)})
	return nil
}

// tuple reads one row image. Columns that an old key does not have are absent; a value that the log left out because it
// did not change is taken from before where that has it.
func (d *decoder) tuple(c *pgoutput.Cursor, rel *shape.Relation, marker byte, before []change.Value) ([]change.Value, error) {
	n := int(c.U16())
	if n != len(rel.Types) {
		return nil, fmt.Errorf("row has %d columns, its table %d: %s", n, len(rel.Types), readAgain)
	}
	start := len(d.values)
	for i := range n {
		var v change.Value
		switch kind := c.U8(); kind {
		case pgoutput.TupleNull:
			if marker != pgoutput.TupleKey || rel.Identity[i] {
				v = change.NullValue()
			}
		case pgoutput.TupleUnchanged:
			v = change.UnavailableValue()
			if before != nil && before[i].Known() {
				v = before[i]
			}
		case pgoutput.TupleText:
			raw := c.Take(int(c.U32()))
			if c.Bad {
				return nil, cutShort(rel, i)
			}
			var err error
			if v, err = d.parts.Value(rel.Types[i], raw); err != nil {
				v = d.parts.Inexact(raw)
				d.parts.Invalid = errors.Join(d.parts.Invalid, fmt.Errorf("column %s: %w", rel.Table.Columns[i].Name, err))
			}
		default:
			if c.Bad {
				return nil, cutShort(rel, i)
			}
			return nil, fmt.Errorf("column %s has the unknown format %q: %s", rel.Table.Columns[i].Name, kind, readAgain)
		}
		d.values = append(d.values, v)
	}
	return d.values[start:len(d.values):len(d.values)], nil
}

// readAgain is the way out where a message is not what the protocol promises.
const readAgain = "the source reads it again when it reconnects; where it stays like that, tables.exclude leaves the table out"

func cutShort(rel *shape.Relation, column int) error {
	return fmt.Errorf("row is cut short in column %s: %s", rel.Table.Columns[column].Name, readAgain)
}
