package chunk

import (
	"context"
	"fmt"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// rowReader reads the rows of a query.
type rowReader struct {
	table   *table
	result  *wire.Result
	decoder *row.Result
	// paged says that the rows come in the order of the key, as many as the limit; whole that they are all there are.
	paged, whole bool
	// slab and arena are what is left of the memory for values and their texts.
	slab  []change.Value
	arena []byte
	// raw, if it is set, takes rows as they were read; scratch is for what does not stay.
	raw     snapshot.Raw
	scratch []byte
}

var _ snapshot.Form = (*rowReader)(nil)

// How much memory is taken at once: so many values, and so many bytes of texts. The allocator has pieces of this size at hand.
const (
	slabValues = 1 << 10
	slabArena  = 28 << 10
)

// rows reads the rows of a chunk; of a table that is read whole, as many as the limit.
func (in *rowReader) rows(ctx context.Context, limit int, add snapshot.Add) (end snapshot.End, err error) {
	var last []byte
	for n := 0; limit <= 0 || n < limit || !in.whole; n++ {
		p, err := in.result.Next(ctx)
		if err != nil {
			return end, err
		}
		if p == nil {
			return end, nil
		}
		if in.paged && limit > 0 && n == limit {
			if end.Next, err = in.bound(last); err != nil {
				return end, err
			}
			continue
		}
		last = p
		if in.raw != nil {
			if err := in.raw(in.table.layout.Table, p, in); err != nil {
				return end, err
			}
			continue
		}
		values, inexact, err := in.values(p)
		if err != nil {
			return end, err
		}
		add(in.table.layout.Table, values, inexact)
	}
	return snapshot.End{Held: true, Next: snapshot.Bound("[]")}, nil
}

// bound returns the key of a row.
func (in *rowReader) bound(p []byte) (snapshot.Bound, error) {
	raw, err := in.decoder.Raw(p)
	if err != nil {
		return nil, err
	}
	return in.table.bound(raw)
}

// values decodes a row.
func (in *rowReader) values(p []byte) (values []change.Value, inexact, err error) {
	l := in.table.layout
	width := len(l.Table.Columns)
	if len(in.slab) < width {
		in.slab = make([]change.Value, max(width, slabValues))
	}
	values, in.slab = in.slab[:width:width], in.slab[width:]
	if room := 2*len(p) + 32*width; cap(in.arena)-len(in.arena) < room {
		in.arena = make([]byte, 0, max(slabArena, room))
	}
	if in.arena, inexact, err = in.decoder.Decode(p, values, in.arena); err != nil {
		return nil, nil, fault.WithKind(fault.KindProtocol, err)
	}
	if inexact != nil {
		inexact = fault.WithTable(l.Table.FullName(), fault.WithKind(fault.KindDecode,
			fmt.Errorf("decoding a row of %s in a snapshot: %w", l.Table.FullName(), inexact)))
	}
	return values, inexact, nil
}

// Decoder implements snapshot.Form.
func (in *rowReader) Decoder() func(p []byte) (values []change.Value, inexact, err error) {
	return (&rowReader{table: in.table, decoder: in.decoder}).values
}

// Value implements snapshot.Form.
func (in *rowReader) Value(p []byte, column int) (v change.Value, err error) {
	if v, in.scratch, err = in.decoder.Value(p, column, in.scratch[:0]); err != nil {
		err = fault.WithKind(fault.KindProtocol, err)
	}
	return v, err
}

// AppendRow implements snapshot.Form.
func (in *rowReader) AppendRow(dst, p []byte, names [][]byte, ends []int32) (_ []byte, ok bool) {
	dst, in.scratch, ok = in.decoder.AppendRow(dst, p, names, ends, in.scratch)
	return dst, ok
}
