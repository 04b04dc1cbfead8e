package row

import (
	"encoding/binary"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Most rows become messages without values that stay: they are written into their payloads straight from the log, or, where the format
// cannot do that, by way of values that are overwritten by those of the next row. Values that stay are made of them when somebody asks.
// Whatever is not as usual goes the long way, through values that stay: a value that cannot be represented, a row that is malformed or makes
// more than one message, an unchanged value that the old row has.

// shortWay makes messages of rows without values that stay.
type shortWay interface {
	// messages appends the message of an event, whose operation and images it sets, or returns false: then nothing was made.
	messages(dst service.MessageBatch, buf []byte, m *Change, ev *change.Event) (service.MessageBatch, []byte, bool)
}

func newShortWay(e change.Encoder, trust value.Trust) shortWay {
	if encoder, ok := e.(change.DirectEncoder); ok {
		return &direct{encoder: encoder, parts: value.Decoder{Trust: trust}}
	}
	return &brief{Brief: change.NewBrief(e), decoder: decoder{parts: value.Decoder{Trust: trust}}}
}

// brief makes messages of values that are overwritten by those of the next row.
type brief struct {
	*change.Brief
	decoder decoder
}

// messages implements shortWay.
func (b *brief) messages(dst service.MessageBatch, buf []byte, m *Change, ev *change.Event) (_ service.MessageBatch, _ []byte, ok bool) {
	d := &b.decoder
	if m.Body[0] == pgoutput.MsgDelete { // which makes two messages in most of these formats
		return dst, buf, false
	}
	d.values, d.room, d.parts.Invalid = d.values[:0], 2*len(m.Rel.Types), nil
	d.parts.Reset()
	op, p, err := d.row(m)
	if err != nil || d.parts.Invalid != nil {
		return dst, buf, false
	}
	ev.Op = op
	return b.AppendMessage(dst, buf, ev, p)
}

// pairs returns the rows as values.
func (r *Rows) pairs() []change.Pair {
	d := decoder{values: make([]change.Value, 0, r.values), parts: value.Decoder{Trust: r.Trust}}
	pairs := make([]change.Pair, len(r.Msgs))
	for i := range r.Msgs {
		if isRow(&r.Msgs[i]) {
			_, pairs[i], _ = d.row(&r.Msgs[i]) // one with an error has no message
		}
	}
	return pairs
}

func isRow(m *Change) bool {
	return m.Change == nil && (m.Body[0] == pgoutput.MsgInsert || m.Body[0] == pgoutput.MsgUpdate || m.Body[0] == pgoutput.MsgDelete)
}

// direct writes row images of changes. It is a change.RowWriter.
type direct struct {
	encoder change.DirectEncoder
	rel     *shape.Relation
	rest    []byte // what follows the marker of the image that is next
	marker  byte   // of the image before the change, if there is one that was not asked for
	after   bool   // there is an image after the change that was not asked for
	had     bool   // there is an image before the change
	failed  bool
	parts   value.Decoder
	// unasked are images that nobody asks for.
	unasked []byte
}

// bodyHead is the kind of the message and the relation.
const bodyHead = 5

// messages implements shortWay.
func (w *direct) messages(dst service.MessageBatch, buf []byte, m *Change, ev *change.Event) (service.MessageBatch, []byte, bool) {
	op, ok := w.begin(m)
	if !ok {
		return dst, buf, false
	}
	ev.Op = op
	w.encoder.Direct(w)
	made, buf := w.encoder.AppendMessages(dst, buf, ev)
	w.encoder.Direct(nil)
	return made, buf, w.end()
}

func (w *direct) begin(m *Change) (op change.Op, ok bool) {
	if len(m.Body) <= bodyHead {
		return 0, false
	}
	marker := m.Body[bodyHead]
	w.rel, w.rest, w.failed, w.marker, w.after, w.had = m.Rel, m.Body[bodyHead+1:], false, 0, marker == pgoutput.TupleNew, false
	if marker == pgoutput.TupleOld || marker == pgoutput.TupleKey {
		w.marker, w.had = marker, true
	}
	switch m.Body[0] {
	case pgoutput.MsgInsert:
		return change.Create, w.after
	case pgoutput.MsgDelete:
		return change.Delete, w.had
	default:
		w.after = true
		return change.Update, w.had || marker == pgoutput.TupleNew
	}
}

// end reports whether the row was written, to the end of its message.
func (w *direct) end() bool {
	w.skip(w.marker != 0)
	w.skip(w.after)
	return !w.failed && len(w.rest) == 0
}

// skip goes to the image after the next one. A value that cannot be represented counts in an image that nobody asks for, too.
func (w *direct) skip(present bool) {
	if present && !w.failed {
		out, ok := w.next(w.unasked[:0], nil, nil)
		w.unasked, w.failed = out, !ok
	}
}

// AppendRow implements change.RowWriter.
func (w *direct) AppendRow(dst []byte, after bool, names [][]byte, ends []int32) ([]byte, bool) {
	if after {
		w.skip(w.marker != 0)
	}
	switch {
	case w.failed:
		return dst, false
	case after && !w.after, !after && w.marker == 0:
		return append(dst, "null"...), true
	}
	out, ok := w.next(dst, names, ends)
	w.failed = !ok
	return out, ok
}

// next appends the next image and goes to the one after it.
func (w *direct) next(dst []byte, names [][]byte, ends []int32) ([]byte, bool) {
	marker := w.marker
	if marker == 0 {
		w.after, marker = false, pgoutput.TupleNew
	}
	w.marker = 0
	dst, ok := w.image(dst, marker, names, ends)
	if ok && marker != pgoutput.TupleNew && w.after {
		if len(w.rest) == 0 || w.rest[0] != pgoutput.TupleNew {
			return dst, false
		}
		w.rest = w.rest[1:]
	}
	return dst, ok
}

// image appends the object of an image; without names, only the values, one after the other.
func (w *direct) image(dst []byte, marker byte, names [][]byte, ends []int32) ([]byte, bool) {
	rest, start := w.rest, len(dst)
	if len(rest) < 2 || int(binary.BigEndian.Uint16(rest)) != len(w.rel.Types) {
		return dst, false
	}
	rest = rest[2:]
	for i, t := range w.rel.Types {
		if len(rest) == 0 {
			return dst, false
		}
		kind := rest[0]
		rest = rest[1:]
		if kind == pgoutput.TupleNull && marker == pgoutput.TupleKey && !w.rel.Identity[i] { // the column is not there
			if slices.Contains(w.rel.Table.Key, i) {
				return dst, false
			}
			if names != nil {
				ends[i] = int32(len(dst) - start) //nolint:gosec // a message has at most 1 GB
			}
			continue
		}
		if names != nil {
			dst = append(dst, names[i]...)
		}
		switch kind {
		case pgoutput.TupleNull:
			dst = append(dst, "null"...)
		case pgoutput.TupleUnchanged:
			if w.had || slices.Contains(w.rel.Table.Key, i) {
				return dst, false
			}
			dst = append(dst, unchanged...)
		case pgoutput.TupleText:
			raw, after, ok := cut(rest)
			if !ok {
				return dst, false
			}
			rest = after
			if dst, ok = w.parts.AppendJSON(dst, t, raw); !ok {
				return dst, false
			}
		default:
			return dst, false
		}
		if names != nil {
			ends[i] = int32(len(dst) - start) //nolint:gosec // a message has at most 1 GB
		}
	}
	w.rest = rest
	return object(dst, start), true
}

// unchanged is what envelope.AppendValue makes of a value that the log does not carry.
const unchanged = `{"_unchanged":true}`

// cut cuts a length and so many bytes off.
func cut(p []byte) (raw, rest []byte, ok bool) {
	if len(p) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(p)
	p = p[4:]
	if uint64(n) > uint64(len(p)) {
		return nil, nil, false
	}
	return p[:n:n], p[n:], true
}

// object makes an object of the fields that were appended since start.
func object(dst []byte, start int) []byte {
	if len(dst) == start {
		return append(dst, "{}"...)
	}
	dst[start] = '{' // in place of the comma before the first column
	return append(dst, '}')
}
