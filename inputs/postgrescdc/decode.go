package postgrescdc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// rows are the undecoded row messages of a segment, all of one transaction.
type rows struct {
	tx     *change.Tx
	readAt time.Time
	trust  textTrust
	msgs   []rowMsg
	values int // values in all images
	size   int // estimate of all payloads
}

var _ coordinator.Rows = (*rows)(nil)

// rowMsg is one change: an Insert, Update, Delete or Message as it was read, or one table of a Truncate.
type rowMsg struct {
	rel   *relation
	body  []byte
	lsn   LSN
	index uint64

	// A change of a shape, which has no body.
	change *change.SchemaChange
	sub    int
}

// envelopeSize is what the fields around the images take, about.
const envelopeSize = 520

// add appends a change.
func (r *rows) add(m rowMsg) {
	if m.change != nil {
		r.size += 2 * envelopeSize
		r.msgs = append(r.msgs, m)
		return
	}
	images := 1
	if m.body[0] == msgUpdate {
		images = 2
	}
	r.values += images * len(m.rel.types)
	r.size += envelopeSize + images*m.rel.names + len(m.body)
	r.msgs = append(r.msgs, m)
}

// Decode implements coordinator.Rows.
func (r *rows) Decode(dst service.MessageBatch) (service.MessageBatch, error) {
	d := decoder{trust: r.trust, values: make([]change.Value, 0, r.values)}
	events := make([]change.Event, len(r.msgs))
	origin := &change.Origin{Tx: r.tx, ReadAt: r.readAt, Snapshot: change.SnapshotFalse}
	buf := make([]byte, 0, r.size)
	for i := range r.msgs {
		m, ev := &r.msgs[i], &events[i]
		ev.Table, ev.Origin, ev.Index, ev.LSN = m.rel.table, origin, m.index, uint64(m.lsn)
		d.invalid = nil
		if err := d.event(ev, m); err != nil {
			return dst, fault.WithTable(m.rel.table.FullName(),
				fmt.Errorf("decoding a change of %s at %s: %w", m.rel.table.FullName(), m.lsn, err))
		}
		var msg *service.Message
		msg, buf = d.encoder.AppendMessage(buf, ev)
		if d.invalid != nil {
			change.SetError(msg, fmt.Errorf("decoding a change of %s at %s: %w", m.rel.table.FullName(), m.lsn, d.invalid))
		}
		dst = append(dst, msg)
	}
	return dst, nil
}

// decoder turns row messages into values. Its slabs are shared by all values of a segment.
type decoder struct {
	encoder envelope.Encoder
	trust   textTrust
	values  []change.Value
	scratch []byte
	invalid error // what makes the current row inexact; its message carries it
}

// event fills in the operation and the images.
func (d *decoder) event(ev *change.Event, m *rowMsg) (err error) {
	if m.change != nil {
		ev.Op, ev.Change, ev.Sub = change.Schema, m.change, m.sub
		if ev.Table = m.change.New; ev.Table == nil {
			ev.Table = m.change.Old
		}
		return nil
	}
	c := cursor{b: m.body[1:]}
	switch m.body[0] {
	case msgTruncate:
		ev.Op = change.Truncate
		return nil
	case msgMessage:
		return d.message(ev, m.body)
	}
	c.u32() // the relation
	marker := c.u8()
	if marker == tupleOld || marker == tupleKey {
		if ev.Before, err = d.tuple(&c, m.rel, marker, nil); err != nil {
			return err
		}
		if m.body[0] == msgUpdate {
			marker = c.u8()
		}
	}
	if marker == tupleNew {
		if ev.After, err = d.tuple(&c, m.rel, marker, ev.Before); err != nil {
			return err
		}
	}
	wantOld := m.body[0] == msgDelete
	wantNew := m.body[0] != msgDelete
	switch m.body[0] {
	case msgInsert:
		ev.Op = change.Create
		if ev.Before != nil {
			return errors.New("an Insert message has an old row")
		}
	case msgUpdate:
		ev.Op = change.Update
	case msgDelete:
		ev.Op = change.Delete
	}
	if wantNew != (ev.After != nil) || wantOld && ev.Before == nil {
		return fmt.Errorf("row message has the wrong images, last marker %q", marker)
	}
	return c.done("row")
}

func (d *decoder) message(ev *change.Event, body []byte) error {
	m, err := parseLogicalMessage(body)
	if err != nil {
		return err
	}
	ev.Op = change.Message
	prefix := []byte(m.prefix)
	ev.After = []change.Value{d.text(prefix), change.BytesValue(m.content)}
	return nil
}

// tuple reads one row image. Columns that an old key does not have are absent; a value that the log left out because it
// did not change is taken from before where that has it.
func (d *decoder) tuple(c *cursor, rel *relation, marker byte, before []change.Value) ([]change.Value, error) {
	n := int(c.u16())
	if n != len(rel.types) {
		return nil, fmt.Errorf("row has %d columns, its table %d: %s", n, len(rel.types), readAgain)
	}
	start := len(d.values)
	for i := range n {
		var v change.Value
		switch kind := c.u8(); kind {
		case tupleNull:
			if marker != tupleKey || rel.identity[i] {
				v = change.NullValue()
			}
		case tupleUnchanged:
			v = change.UnavailableValue()
			if before != nil && before[i].Known() {
				v = before[i]
			}
		case tupleText:
			raw := c.take(int(c.u32()))
			if c.bad {
				return nil, cutShort(rel, i)
			}
			var err error
			if v, err = d.value(rel.types[i], raw); err != nil {
				v = d.inexact(raw)
				d.invalid = errors.Join(d.invalid, fmt.Errorf("column %s: %w", rel.table.Columns[i].Name, err))
			}
		default:
			if c.bad {
				return nil, cutShort(rel, i)
			}
			return nil, fmt.Errorf("column %s has the unknown format %q: %s", rel.table.Columns[i].Name, kind, readAgain)
		}
		d.values = append(d.values, v)
	}
	return d.values[start:len(d.values):len(d.values)], nil
}

// readAgain is the way out where a message is not what the protocol promises.
const readAgain = "the source reads it again when it reconnects; where it stays like that, tables.exclude leaves the table out"

func cutShort(rel *relation, column int) error {
	return fmt.Errorf("row is cut short in column %s: %s", rel.table.Columns[column].Name, readAgain)
}

// inexact keeps what could not be decoded where a person can see it.
func (d *decoder) inexact(raw []byte) change.Value {
	if utf8.Valid(raw) {
		return change.TextValue(raw)
	}
	return change.BytesValue(raw)
}

func (d *decoder) text(raw []byte) change.Value {
	if d.isText(raw) {
		return change.TextValue(raw)
	}
	return change.BytesValue(raw)
}

// isText reports whether raw is UTF-8. Where it is not, it makes the row invalid unless the options let such text be bytes.
func (d *decoder) isText(raw []byte) bool {
	if d.trust == textIsUTF8 || utf8.Valid(raw) {
		return true
	}
	if d.trust == textOrError {
		d.invalid = errors.Join(d.invalid, errNotUTF8)
	}
	return false
}

// textTrust says whether the text that the server sends is known to be UTF-8, and what other text becomes. A database whose encoding is
// SQL_ASCII sends the bytes that it was given.
type textTrust uint8

const (
	textIsUTF8 textTrust = iota
	textOrError
	textOrBase64
)

var errNotUTF8 = errors.New("text is not UTF-8; the database's encoding, SQL_ASCII, does not say what it is")

// value decodes the text form of a type.
func (d *decoder) value(t *typeInfo, raw []byte) (change.Value, error) {
	switch t.codec {
	case codecText:
		return d.text(raw), nil
	case codecBool:
		return parseBool(raw)
	case codecDigits:
		return change.DecimalValue(raw), checkInteger(raw)
	case codecInt:
		n, err := parseInt(raw)
		return change.IntValue(n), err
	case codecUint:
		n, err := parseUint(raw)
		return change.UintValue(n), err
	case codecFloat32:
		f, err := parseFloat(raw, 32)
		return change.Float32Value(float32(f)), err
	case codecFloat64:
		f, err := parseFloat(raw, 64)
		return change.Float64Value(f), err
	case codecNumeric:
		return change.DecimalValue(raw), checkNumeric(raw)
	case codecBytea:
		return d.bytea(raw)
	case codecJSON:
		if !d.isText(raw) {
			return change.BytesValue(raw), nil
		}
		return change.JSONValue(raw), nil
	case codecTime:
		return d.scratchText(appendTime(d.scratch, raw, t.digits))
	case codecTimestamp:
		return d.scratchText(appendTimestamp(d.scratch, raw, t.digits, false))
	case codecTimestampTZ:
		return d.scratchText(appendTimestamp(d.scratch, raw, t.digits, true))
	case codecBit1:
		return parseBit(raw)
	case codecGone:
		return change.Value{}, fmt.Errorf("the type with the %s is gone from the catalogue, so it is unknown what the value is made of: "+
			"take it from this message, as the database printed it, and drop a type only when the rows that have it are read", t.text)
	case codecVector, codecArray, codecComposite, codecAltered, codecHstore, codecPoint, codecGeometry:
		if t.codec == codecHstore && !d.isText(raw) {
			return change.BytesValue(raw), nil
		}
		start := len(d.scratch)
		out, err := d.appendNested(d.scratch, t, raw, 0)
		if err != nil {
			return change.Value{}, err
		}
		d.scratch = out
		return change.JSONValue(out[start:len(out):len(out)]), nil
	default:
		return d.text(raw), nil
	}
}

// scratchText makes a value of what was appended to scratch.
func (d *decoder) scratchText(out []byte, err error) (change.Value, error) {
	if err != nil {
		return change.Value{}, err
	}
	start := len(d.scratch)
	d.scratch = out
	return change.TextValue(out[start:len(out):len(out)]), nil
}

func (d *decoder) bytea(raw []byte) (change.Value, error) {
	if len(raw) < 2 || raw[0] != '\\' || raw[1] != 'x' {
		return change.Value{}, errors.New("bytea is not in hex form")
	}
	start := len(d.scratch)
	out, err := hex.AppendDecode(d.scratch, raw[2:])
	if err != nil {
		return change.Value{}, fmt.Errorf("bytea: %w", err)
	}
	d.scratch = out
	return change.BytesValue(out[start:len(out):len(out)]), nil
}
