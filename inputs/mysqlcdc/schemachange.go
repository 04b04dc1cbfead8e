package mysqlcdc

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
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
	for _, n := range s.concerned(res) {
		t.index++
		if !s.log.cfg.schemaChanges || s.skip >= t.index || !s.filter.captures(n.DB, n.Table) {
			continue
		}
		c := s.schemaChange(n, res.Changes)
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

// concerned returns the tables that a statement names, then those that it changes without naming them, each once.
func (s *session) concerned(res ddl.Result) (names []statement.TableName) {
	add := func(n statement.TableName) {
		if n.Table != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range res.Tables {
		add(n)
	}
	for _, c := range res.Changes {
		add(statement.TableName{DB: c.DB, Table: c.Table})
		if d := s.tables.state[c.DB]; d != nil && c.Table == "" && c.Database == nil {
			for _, name := range slices.Sorted(maps.Keys(d.Tables)) {
				add(statement.TableName{DB: c.DB, Table: name})
			}
		}
	}
	return names
}

// schemaChange returns what the changes make of the table of a name; nil when they leave it as it is, or when nothing is known
// about it.
func (s *session) schemaChange(n statement.TableName, changes []shape.Change) *change.SchemaChange {
	before := s.tables.state.Table(n.DB, n.Table)
	if before != nil && before.AsOf != "" && s.isBefore(before.AsOf) {
		before = nil // it is that of a later place
	}
	after, touched, replaced := before, false, before == nil
	for _, c := range changes {
		switch {
		case c.DB == n.DB && c.Table == n.Table:
			after, touched = c.Def, true
		case c.DB == n.DB && c.Table == "" && c.Database == nil:
			after, touched = nil, true
		default:
			continue
		}
		replaced = replaced || after == nil
	}
	if !touched {
		return nil
	}
	c := &change.SchemaChange{Old: s.schemas.TableOf(n, before), New: s.schemas.TableOf(n, after)}
	switch {
	case c.Old == nil && c.New == nil:
		return nil
	case !replaced && c.Old.Fingerprint() == c.New.Fingerprint():
		return nil
	}
	return c
}
