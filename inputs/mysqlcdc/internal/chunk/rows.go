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
	// values and arena are what is left of the memory for values and their texts.
	values []change.Value
	arena  []byte
}

// How much memory is taken at once: values of that many rows, that many bytes of texts, and that many events.
const (
	slabRows  = 512
	slabArena = 64 << 10
	maxEvents = 64 << 10
)

// fill reads the rows of a chunk; of a table that is read whole, as many as the limit.
func (in *rowReader) fill(ctx context.Context, rows *snapshot.Rows, limit int) error {
	var last []byte
	for limit <= 0 || len(rows.Events) < limit || !in.whole {
		p, err := in.result.Next(ctx)
		if err != nil {
			return err
		}
		if p == nil {
			return in.end(rows, limit, last)
		}
		last = p
		if err := in.add(rows, p, limit); err != nil {
			return err
		}
	}
	rows.Held, rows.Next = true, snapshot.Bound("[]")
	return nil
}

// end says where the next chunk begins.
func (in *rowReader) end(rows *snapshot.Rows, limit int, last []byte) error {
	if !in.paged || limit <= 0 || len(rows.Events) < limit {
		return nil
	}
	raw, err := in.decoder.Raw(last)
	if err == nil {
		rows.Next, err = in.table.bound(raw)
	}
	return err
}

// add makes an event of a row.
func (in *rowReader) add(rows *snapshot.Rows, p []byte, limit int) error {
	l := in.table.layout
	width := len(l.Table.Columns)
	if len(in.values) < width {
		in.values = make([]change.Value, width*slabRows)
	}
	values := in.values[:width:width]
	in.values = in.values[width:]
	if room := 2*len(p) + 32*width; cap(in.arena)-len(in.arena) < room {
		in.arena = make([]byte, 0, max(slabArena, room))
	}
	var inexact, err error
	if in.arena, inexact, err = in.decoder.Decode(p, values, in.arena); err != nil {
		return fault.WithKind(fault.KindProtocol, err)
	}
	if len(rows.Events) == cap(rows.Events) {
		in.grow(rows, limit)
	}
	if inexact != nil {
		if rows.Errs == nil {
			rows.Errs = map[int]error{}
		}
		rows.Errs[len(rows.Events)] = fault.WithTable(l.Table.FullName(), fault.WithKind(fault.KindDecode,
			fmt.Errorf("decoding a row of %s in a snapshot: %w", l.Table.FullName(), inexact)))
	}
	rows.Events = append(rows.Events, change.Event{Table: l.Table, After: values})
	return nil
}

// grow makes room for events: for few, which is what most tables have, then for as many as there may be.
func (in *rowReader) grow(rows *snapshot.Rows, limit int) {
	n := 2 * len(rows.Events)
	switch {
	case n == 0:
		n = slabRows
	case n < limit:
		n = min(limit, max(n, maxEvents))
	}
	rows.Events = append(make([]change.Event, 0, n), rows.Events...)
}
