package snapshot

import (
	"github.com/deltaforge/deltaforge/internal/change"
)

// Form is how the rows of a chunk look that a Reader has read. It is used by the goroutine of the reader, except for what Decoder returns.
type Form interface {
	// AppendRow appends the JSON of a row, as change.RowWriter does it.
	AppendRow(dst, row []byte, names [][]byte, ends []int32) (_ []byte, ok bool)
	// Value returns one value of a row, valid until the next call.
	Value(row []byte, column int) (change.Value, error)
	// Decoder returns a function that makes values of rows, one for each column, for use by any one goroutine. Where one of the values cannot
	// be represented, inexact says why. An error means that the row is malformed.
	Decoder() func(row []byte) (values []change.Value, inexact, err error)
}

// Raw takes a row of a chunk as it was read. The row is kept. After an error, the chunk has failed.
type Raw func(t *change.Table, row []byte, f Form) error

// written is a row that an encoder writes straight from what was read. It is a change.RowWriter.
type written struct {
	form   Form
	row    []byte
	asked  bool
	failed bool
}

// AppendRow implements change.RowWriter.
func (w *written) AppendRow(dst []byte, after bool, names [][]byte, ends []int32) ([]byte, bool) {
	if !after {
		return append(dst, "null"...), true
	}
	w.asked = true
	out, ok := w.form.AppendRow(dst, w.row, names, ends)
	w.failed = w.failed || !ok
	return out, ok
}

// piece is the rows of some events, which are made values when somebody asks.
type piece struct {
	form Form
	rows [][]byte
}

func (p *piece) values() []change.Pair {
	decode := p.form.Decoder()
	pairs := make([]change.Pair, len(p.rows))
	for i, row := range p.rows {
		pairs[i].After, _, _ = decode(row) // it was read before, and had no error
	}
	return pairs
}

// addRaw makes the message of a row as it was read. It is a Raw.
func (r *rows) addRaw(t *change.Table, row []byte, f Form) error {
	if r.form != f {
		r.form, r.decode = f, f.Decoder()
	}
	if !r.ready(t) {
		return nil
	}
	if r.short != nil {
		ok, err := r.directly(t, row, f)
		if ok || err != nil {
			return err
		}
	}
	values, inexact, err := r.decode(row)
	if err != nil {
		return err
	}
	r.add(t, values, inexact)
	return nil
}

// directly makes the message of a row without values of it, or returns false.
func (r *rows) directly(t *change.Table, row []byte, f Form) (bool, error) {
	ev := r.event(t)
	if err := r.identify(ev, func(column int) (change.Value, error) { return f.Value(row, column) }); err != nil {
		return false, err
	}
	if p := r.piece; p == nil || p.form != f || len(p.rows) == cap(p.rows) {
		r.piece = &piece{form: f, rows: make([][]byte, 0, len(r.events)+1)}
		r.images = change.LazyImages(r.piece.values)
	}
	ev.Images = r.images.At(len(r.piece.rows))
	r.writer.form, r.writer.row, r.writer.asked, r.writer.failed = f, row, false, false
	r.short.Direct(&r.writer)
	messages, buf := r.short.AppendMessages(r.res.messages, r.room(), ev)
	r.short.Direct(nil)
	if r.writer.failed || !r.writer.asked {
		*ev = change.Event{}
		r.spare = ev
		return false, nil
	}
	r.piece.rows = append(r.piece.rows, row)
	r.took(messages, buf, ev)
	return true, nil
}
