package mysqlcdc

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/deltaforge/deltaforge/internal/change"
)

// schemaEvents counts what a statement does to tables among the events of its transaction, and makes events of it if they are
// wanted. It is called before the changes are applied. Whatever the configuration captures, and whether or not it wants the
// events, each name that the statement has counts, so that the numbers of other events do not depend on it.
func (s *session) schemaEvents(ctx context.Context, text string, res ddlResult, start uint64, now time.Time) error {
	t := s.tx
	if err := s.count(t); err != nil {
		return err
	}
	for _, n := range s.concerned(res) {
		t.index++
		if !s.log.cfg.schemaChanges || s.skip >= t.index || !s.filter.captures(n.db, n.table) {
			continue
		}
		c := s.schemaChange(n, res.changes)
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
		if err := s.hold(ctx, &tableSegment{event: ev}, now); err != nil {
			return err
		}
	}
	return nil
}

// concerned returns the tables that a statement names, then those that it changes without naming them, each once.
func (s *session) concerned(res ddlResult) (names []tableName) {
	add := func(n tableName) {
		if n.table != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range res.tables {
		add(n)
	}
	for _, c := range res.changes {
		add(tableName{c.DB, c.Table})
		if d := s.tables.state[c.DB]; d != nil && c.Table == "" && c.Database == nil {
			for _, name := range slices.Sorted(maps.Keys(d.Tables)) {
				add(tableName{c.DB, name})
			}
		}
	}
	return names
}

// schemaChange returns what the changes make of the table of a name; nil when they leave it as it is, or when nothing is known
// about it.
func (s *session) schemaChange(n tableName, changes []schemaChange) *change.SchemaChange {
	before := s.tables.state.table(n.db, n.table)
	if before != nil && before.AsOf != "" && s.isBefore(before.AsOf) {
		before = nil // it is that of a later place
	}
	after, touched, replaced := before, false, before == nil
	for _, c := range changes {
		switch {
		case c.DB == n.db && c.Table == n.table:
			after, touched = c.Def, true
		case c.DB == n.db && c.Table == "" && c.Database == nil:
			after, touched = nil, true
		default:
			continue
		}
		replaced = replaced || after == nil
	}
	if !touched {
		return nil
	}
	c := &change.SchemaChange{Old: s.schemas.tableOf(n, before), New: s.schemas.tableOf(n, after)}
	switch {
	case c.Old == nil && c.New == nil:
		return nil
	case !replaced && c.Old.Fingerprint() == c.New.Fingerprint():
		return nil
	}
	return c
}
