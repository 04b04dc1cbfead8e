package row

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Query makes values of the rows of a query that asks for the columns of a relation, as text. It is used by one goroutine.
type Query struct {
	rel    *shape.Relation
	trust  value.Trust
	values []change.Value
	parts  value.Decoder
	text   value.Decoder // for what does not stay
}

// The sizes of what values are made in, of which the allocator has pieces at hand. It is not moved when it is full: the values in it stay
// where they are. The first piece is small, since most tables are.
const (
	firstRows   = 8
	slabValues  = 1 << 10
	slabScratch = 28 << 10
	scratchLeft = 1 << 10
)

// NewQuery returns a decoder.
func NewQuery(rel *shape.Relation, trust value.Trust) *Query {
	return &Query{rel: rel, trust: trust, parts: value.Decoder{Trust: trust}, text: value.Decoder{Trust: trust}}
}

// Row decodes the body of a DataRow message, into which the values point. One that cannot be represented is there as the server has
// printed it, and inexact says why.
func (q *Query) Row(body []byte) (values []change.Value, inexact, err error) {
	if len(body) < 2 || int(binary.BigEndian.Uint16(body)) != len(q.rel.Types) {
		return nil, nil, fmt.Errorf("a row of a query does not have the %d columns of its table: %s", len(q.rel.Types), readAgain)
	}
	body = body[2:]
	if width := len(q.rel.Types); cap(q.values)-len(q.values) < width {
		q.values = make([]change.Value, 0, max(width, min(max(firstRows*width, 2*cap(q.values)), slabValues)))
	}
	q.parts.Room(scratchLeft, slabScratch)
	q.parts.Invalid = nil
	start := len(q.values)
	for i, t := range q.rel.Types {
		raw, rest, null, err := nextField(body)
		if err != nil {
			return nil, nil, cutShort(q.rel, i)
		}
		body = rest
		if null {
			q.values = append(q.values, change.NullValue())
			continue
		}
		v, err := q.parts.Value(t, raw)
		if err != nil {
			v = q.parts.Inexact(raw)
			q.parts.Invalid = errors.Join(q.parts.Invalid, fmt.Errorf("column %s: %w", q.rel.Table.Columns[i].Name, err))
		}
		q.values = append(q.values, v)
	}
	return q.values[start:len(q.values):len(q.values)], q.parts.Invalid, nil
}

// Decoder implements snapshot.Form.
func (q *Query) Decoder() func(body []byte) (values []change.Value, inexact, err error) {
	return NewQuery(q.rel, q.trust).Row
}

// Value implements snapshot.Form.
func (q *Query) Value(body []byte, column int) (change.Value, error) {
	raw, null, err := q.field(body, column)
	if err != nil || null {
		return change.NullValue(), err
	}
	v, err := q.text.Scratch(q.rel.Types[column], raw)
	if err != nil {
		v = q.text.Inexact(raw)
	}
	return v, nil
}

// field returns the text of a column.
func (q *Query) field(body []byte, column int) (raw []byte, null bool, err error) {
	body = body[min(2, len(body)):]
	for i := range q.rel.Types {
		raw, body, null, err = nextField(body)
		if err != nil {
			return nil, false, cutShort(q.rel, i)
		}
		if i == column {
			break
		}
	}
	return raw, null, nil
}

var errShort = errors.New("cut short")

// nextField cuts the first field off.
func nextField(body []byte) (raw, rest []byte, null bool, err error) {
	if len(body) < 4 {
		return nil, nil, false, errShort
	}
	n := int(int32(binary.BigEndian.Uint32(body))) //nolint:gosec // -1 is NULL
	body = body[4:]
	switch {
	case n < 0:
		return nil, body, true, nil
	case n > len(body):
		return nil, nil, false, errShort
	}
	return body[:n:n], body[n:], false, nil
}

// AppendRow implements snapshot.Form.
func (q *Query) AppendRow(dst, body []byte, names [][]byte, ends []int32) ([]byte, bool) {
	if len(body) < 2 || int(binary.BigEndian.Uint16(body)) != len(q.rel.Types) {
		return dst, false
	}
	body = body[2:]
	start := len(dst)
	for i, t := range q.rel.Types {
		raw, rest, null, err := nextField(body)
		if err != nil {
			return dst, false
		}
		body = rest
		dst = append(dst, names[i]...)
		if null {
			dst = append(dst, "null"...)
		} else {
			var ok bool
			if dst, ok = q.text.AppendJSON(dst, t, raw); !ok {
				return dst, false
			}
		}
		ends[i] = int32(len(dst) - start) //nolint:gosec // a message has at most 1 GB
	}
	return object(dst, start), true
}
