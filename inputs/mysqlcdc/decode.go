package mysqlcdc

import (
	"context"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// rows makes a segment of a rows event.
func (s *session) rows(ctx context.Context, h binlog.Header, body []byte, start uint64, now time.Time) error {
	ev, err := binlog.ParseRows(h.Kind, body)
	if err != nil {
		return s.protocolError("%s: %w", h.Kind, err)
	}
	t, m := s.tx, s.maps[ev.TableID]
	if len(ev.Images) == 0 && (m == nil || !ev.Blank()) {
		return nil // a dummy that ends a statement
	}
	if t == nil || m == nil {
		return s.protocolError("%s of table id %d outside a transaction or without its table map", h.Kind, ev.TableID)
	}
	if ev.Columns != len(m.tm.Types) {
		return s.protocolError("%s of %s has %d columns, its table map has %d", h.Kind, m.tm.Name(), ev.Columns, len(m.tm.Types))
	}
	t.rows = true
	if t.xa {
		t.xaRows = t.xaRows || m.captured
		return nil // they are read again when the transaction is committed
	}
	if err := s.count(t); err != nil {
		return err
	}
	if err := s.release(ctx); err != nil {
		return err
	}
	t.uncounted, t.table = ev, m.tm
	return s.rowsSegments(ctx, t, m, ev, start, now)
}

// count adds the rows of the last rows event to the index. It is put off until another event needs the index, which in most
// transactions none does.
func (s *session) count(t *transaction) error {
	if t.uncounted == nil {
		return nil
	}
	n, err := t.table.CountRows(t.uncounted)
	if err != nil {
		return fault.WithKind(fault.KindDecode, fmt.Errorf("rows of %s before %s: %w", t.table.Name(), s.place(), err))
	}
	t.index += uint64(n)
	t.uncounted = nil
	return nil
}

// maxSegment is the size of the row images of one event above which it becomes several segments.
const maxSegment = 256 << 10

// rowsSegments holds a segment, or sends some and holds the last, of what is left of an event beyond what was delivered earlier.
func (s *session) rowsSegments(ctx context.Context, t *transaction, m *mappedTable, ev *binlog.Rows, start uint64, now time.Time) error {
	if !m.captured {
		return nil
	}
	s.name(t)
	seg := row.Segment{
		Layout: m.shape, Event: ev, TableMap: m.tm, Tx: t.tx, Images: ev.Images, Index: t.index + 1, File: s.file, Pos: start, ReadAt: now,
	}
	if s.skip > t.index {
		n, err := m.tm.CountRows(ev)
		if err != nil {
			return fault.WithKind(fault.KindDecode, fmt.Errorf("rows of %s after %s: %w", m.tm.Name(), s.place(), err))
		}
		seg.Silent = s.log.cfg.coordinator.Transactions // they are counted
		if uint64(n) <= s.skip-t.index && !seg.Silent {
			return nil
		}
		seg.Skip = min(n, int(s.skip-t.index))
	}
	for len(seg.Images) > maxSegment {
		head, rest, n, err := m.tm.Split(ev, seg.Images, maxSegment)
		if err != nil {
			return fault.WithKind(fault.KindDecode, fmt.Errorf("rows of %s after %s: %w", m.tm.Name(), s.place(), err))
		}
		part := seg
		part.Images = head
		if err := s.holdRows(ctx, &part, now); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		seg.Images, seg.Index, seg.Row, seg.Skip = rest, seg.Index+uint64(n), seg.Row+n, max(seg.Skip-n, 0)
	}
	return s.holdRows(ctx, &seg, now)
}

func (s *session) holdRows(ctx context.Context, seg *row.Segment, now time.Time) error {
	return s.hold(ctx, heldSegment{seg: coordinator.Segment{Rows: seg}, db: seg.TableMap.DB, table: seg.TableMap.Table}, now)
}
