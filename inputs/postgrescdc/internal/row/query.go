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
	rows   int
	values []change.Value
	parts  value.Decoder
}

// The sizes of what values are made in. It is not moved when it is full: the values in it stay where they are.
const (
	slabRows    = 512
	slabScratch = 32 << 10
	scratchLeft = 1 << 10
)

// NewQuery returns a decoder of about so many rows.
func NewQuery(rel *shape.Relation, trust value.Trust, rows int) *Query {
	return &Query{rel: rel, rows: rows, parts: value.Decoder{Trust: trust}}
}

// Row decodes the body of a DataRow message, into which the values point. One that cannot be represented is there as the server has
// printed it, and inexact says why.
func (q *Query) Row(body []byte) (values []change.Value, inexact, err error) {
	if len(body) < 2 || int(binary.BigEndian.Uint16(body)) != len(q.rel.Types) {
		return nil, nil, fmt.Errorf("a row of a query does not have the %d columns of its table: %s", len(q.rel.Types), readAgain)
	}
	body = body[2:]
	if cap(q.values)-len(q.values) < len(q.rel.Types) {
		q.values = make([]change.Value, 0, max(1, min(q.rows, slabRows))*len(q.rel.Types))
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
