package mysqlcdc

import (
	"context"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// schemaEvents counts what a statement does to tables among the events of its transaction, and makes events of it if they are
// wanted. It is called before the changes are applied. Whatever the configuration captures, and whether or not it wants the
// events, each name that the statement has counts, so that the numbers of other events do not depend on it.
func (s *session) schemaEvents(ctx context.Context, text string, res ddl.Result, start uint64, now time.Time) error {
	t := s.tx
	if err := s.count(t); err != nil {
		return err
	}
	for _, n := range res.Concerned(s.tables.State) {
		t.index++
		if !s.log.cfg.schemaChanges || s.skip >= t.index || !s.filter.Match(n.DB, n.Table) {
			continue
		}
		c := s.schemas.Change(n, s.tables.State.Table(n.DB, n.Table), res.Changes, s.isBefore)
		if c == nil {
			continue
		}
		c.DDL = text
		s.name(t)
		ev := change.Event{
			Op: change.Schema, Change: c, Table: c.New, Index: t.index, Pos: start,
			Origin: &change.Origin{Tx: t.tx, ReadAt: now, Snapshot: change.SnapshotFalse, File: s.file},
		}
		if c.New == nil {
			ev.Table = c.Old
		}
		if err := s.hold(ctx, heldSegment{seg: coordinator.Segment{Rows: &row.TableSegment{Event: ev}}}, now); err != nil {
			return err
		}
	}
	return nil
}
