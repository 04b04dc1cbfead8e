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

// Decode implements coordinator.Rows.
func (r *Rows) Decode(ctx context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	d := decoder{values: make([]change.Value, 0, r.values), parts: value.Decoder{Trust: r.Trust}}
	events := make([]change.Event, len(r.Msgs))
	origin := &change.Origin{Tx: r.Tx, ReadAt: r.ReadAt, Snapshot: change.SnapshotFalse}
	buf := make([]byte, 0, r.size)
	for i := range r.Msgs {
		m, ev := &r.Msgs[i], &events[i]
		ev.Table, ev.Origin, ev.Index, ev.LSN, ev.Silent = m.Rel.Table, origin, m.Index, uint64(m.LSN), m.Silent
		d.parts.Invalid = nil
		if d.encoder == nil {
			d.encoder = envelope.NewEncoder(ev.Table.Source)
		}
		if err := d.event(ev, m); err != nil {
			return dst, fault.WithTable(m.Rel.Table.FullName(),
				fmt.Errorf("decoding a change of %s at %s: %w", m.Rel.Table.FullName(), m.LSN, err))
		}
		if ev.Table != d.prepared {
			if err := change.Prepare(ctx, ev.Table); err != nil {
				return dst, fault.WithTable(ev.Table.FullName(), err)
			}
			d.prepared = ev.Table
		}
		first := len(dst)
		dst, buf = d.encoder.AppendMessages(dst, buf, ev)
		if d.parts.Invalid != nil {
			change.SetErrors(dst[first:], fmt.Errorf("decoding a change of %s at %s: %w", m.Rel.Table.FullName(), m.LSN, d.parts.Invalid))
		}
	}
	return dst, nil
}

// decoder turns row messages into events. Its slabs are shared by all values of a segment.
type decoder struct {
	encoder  change.Encoder
	prepared *change.Table // the last one whose messages can be made
	values   []change.Value
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
	c := pgoutput.Cursor{B: m.Body[1:]}
	switch m.Body[0] {
	case pgoutput.MsgTruncate:
		ev.Op = change.Truncate
		return nil
	case pgoutput.MsgMessage:
		return d.message(ev, m.Body)
	}
	c.U32() // the relation
	marker := c.U8()
	if marker == pgoutput.TupleOld || marker == pgoutput.TupleKey {
		if ev.Before, err = d.tuple(&c, m.Rel, marker, nil); err != nil {
			return err
		}
		if m.Body[0] == pgoutput.MsgUpdate {
			marker = c.U8()
		}
	}
	if marker == pgoutput.TupleNew {
		if ev.After, err = d.tuple(&c, m.Rel, marker, ev.Before); err != nil {
			return err
		}
	}
	wantOld := m.Body[0] == pgoutput.MsgDelete
	wantNew := m.Body[0] != pgoutput.MsgDelete
	switch m.Body[0] {
	case pgoutput.MsgInsert:
		ev.Op = change.Create
		if ev.Before != nil {
			return errors.New("an Insert message has an old row")
		}
	case pgoutput.MsgUpdate:
		ev.Op = change.Update
	case pgoutput.MsgDelete:
		ev.Op = change.Delete
	}
	if wantNew != (ev.After != nil) || wantOld && ev.Before == nil {
		return fmt.Errorf("row message has the wrong images, last marker %q", marker)
	}
	return c.Done("row")
}

func (d *decoder) message(ev *change.Event, body []byte) error {
	m, err := pgoutput.ParseMessage(body)
	if err != nil {
		return err
	}
	ev.Op = change.Message
	prefix := []byte(m.Prefix)
	ev.After = []change.Value{d.parts.Text(prefix), change.BytesValue(m.Content)}
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
