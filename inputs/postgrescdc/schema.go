package postgrescdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/history"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

var _ coordinator.Historian = (*replication)(nil)

// Restore implements coordinator.Historian.
func (r *replication) Restore(record []byte) error {
	if !r.cfg.schemaChanges {
		return nil
	}
	return r.history.Restore(record, r.schemas.Source, r.schemas.Database)
}

// Record implements coordinator.Historian.
func (r *replication) Record() (record []byte, mark uint64, err error) {
	if !r.cfg.schemaChanges {
		return nil, 0, nil
	}
	return r.history.Record(lsn.LSN(r.confirmed.Load()))
}

// Saved implements coordinator.Historian.
func (r *replication) Saved(mark uint64) { r.history.WasSaved(mark) }

// shapeChanges takes notice of the shape that the row at s.index is the first to have, and sends what has changed. The change stands
// after the row before, whose number it shares, so that the numbers of rows are the same without it.
func (s *session) shapeChanges(ctx context.Context, m pgoutput.WALData, rel *shape.Relation) error {
	changes := s.r.history.See(history.VersionOf(rel.Msg, rel.Table, history.Place{LSN: s.final, Index: s.index}))
	if s.index <= s.skip {
		return nil
	}
	for i, c := range changes {
		if err := s.add(ctx, row.Change{Rel: rel, LSN: m.Start, Index: s.index - 1, Sub: i + 1, Change: c}); err != nil {
			return err
		}
	}
	return nil
}

// relation returns the newest shape of a table, looking it up when a Relation message has announced a new one.
func (s *session) relation(ctx context.Context, oid uint32) (*shape.Relation, error) {
	if len(s.pending) > 0 {
		if msg, ok := s.pending[oid]; ok {
			var rel *shape.Relation
			err := s.cat.Ask(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
				rel, err = s.r.schemas.Build(ctx, conn, msg, s.final)
				return err
			})
			if err != nil {
				return nil, fault.WithTable(msg.Schema+"."+msg.Name, fmt.Errorf("%s.%s: %w", msg.Schema, msg.Name, err))
			}
			delete(s.pending, oid)
			s.relations[oid] = rel
		}
	}
	rel := s.relations[oid]
	if rel == nil {
		return nil, fault.WithKind(fault.KindProtocol, fmt.Errorf("relation %d was not announced", oid))
	}
	if rel.Holds(s.final) {
		return rel, nil
	}
	err := s.cat.Ask(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		rel, err = s.r.schemas.Settle(ctx, conn, rel, s.final)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rel.Table.FullName(), err)
	}
	s.relations[oid] = rel
	return rel, nil
}
