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
	values []change.Value
	parts  value.Decoder
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
	return &Query{rel: rel, parts: value.Decoder{Trust: trust}}
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
		if len(body) < 4 {
			return nil, nil, cutShort(q.rel, i)
		}
		n := int(int32(binary.BigEndian.Uint32(body))) //nolint:gosec // -1 is NULL
		body = body[4:]
		if n < 0 {
			q.values = append(q.values, change.NullValue())
			continue
		}
		if n > len(body) {
			return nil, nil, cutShort(q.rel, i)
		}
		raw := body[:n:n]
		body = body[n:]
		v, err := q.parts.Value(t, raw)
		if err != nil {
			v = q.parts.Inexact(raw)
			q.parts.Invalid = errors.Join(q.parts.Invalid, fmt.Errorf("column %s: %w", q.rel.Table.Columns[i].Name, err))
		}
		q.values = append(q.values, v)
	}
	return q.values[start:len(q.values):len(q.values)], q.parts.Invalid, nil
}
