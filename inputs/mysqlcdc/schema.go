package mysqlcdc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// prepareHistory finds the shapes at the start, from the history or, where that has none, from the catalogue. It returns the start,
// which it chooses itself when that shall be the end of the log: a place at which the catalogue is known.
func (s *session) prepareHistory(ctx context.Context, from checkpoint.Token, start *gtid.Position) (*gtid.Position, error) {
	s.tables.Applier = ddl.NewApplier(s.dialect, s.schemas.Charsets, s.filter.Fold, s.isBefore)
	h := &s.log.history
	if !from.IsZero() {
		state, err := h.At(start)
		if err != nil {
			return nil, fault.WithKind(fault.KindSchema, err)
		}
		if state != nil {
			s.tables.State = state
			return start, s.addDatabases(ctx, start)
		}
		s.log.logger.Warnf("No schema history is saved with position %s: tables are taken as they are now; rows that were written "+
			"before a later change of their table are an error", start)
	}
	latest := from.IsZero() && (s.log.renewed || s.log.cfg.startAt == nil && s.log.cfg.start == startLatest)
	endOfLog := s.endOfLog
	if latest && (s.log.renewed || s.log.cfg.snapshotWanted) {
		endOfLog = s.endOfVisible
	}
	c, err := s.readCatalogAt(ctx, nil, endOfLog)
	if err != nil {
		return nil, err
	}
	if latest {
		start = c.At
		for _, t := range c.Exact {
			t.AsOf = ""
		}
	}
	h.Begin(s.identity, start, c.State)
	s.tables.State = c.State
	s.warnOfPrepared(ctx)
	return start, nil
}

// isBefore reports whether the place that was read up to is before a position in its text form.
func (s *session) isBefore(asOf string) bool {
	p, err := gtid.ParsePosition(asOf)
	return err == nil && s.position.NotAfter(p) && !p.NotAfter(s.position)
}

// addDatabases reads the databases that the history does not know in full.
func (s *session) addDatabases(ctx context.Context, start *gtid.Position) error {
	read, err := s.readCatalog(ctx, s.tables.Complete)
	if err != nil {
		return err
	}
	changes := s.tables.Missing(read.State)
	if len(changes) == 0 {
		return nil
	}
	s.tables.State.Apply(changes)
	return s.log.history.Add(start, changes)
}

// follows reports whether the shapes of a database's tables are followed. Those of all are, captured or not: a table can come from where
// nothing is captured, by RENAME or LIKE.
func (s *session) follows(db string) bool {
	return !catalog.IsSystemSchema(db) || s.filter.MatchIn(db)
}

// maxReadings is how often the catalogue is read, at most, while statements change it.
const maxReadings = 5

// readCatalog reads the tables of the databases that are followed, except those that are known.
func (s *session) readCatalog(ctx context.Context, known func(db string) bool) (r catalog.Reading, err error) {
	return s.readCatalogAt(ctx, known, s.endOfLog)
}

func (s *session) readCatalogAt(ctx context.Context, known func(db string) bool, endOfLog func(context.Context) (*gtid.Position, error)) (
	r catalog.Reading, err error,
) {
	want := func(db string) bool { return s.follows(db) && (known == nil || !known(db)) }
	for range maxReadings {
		if r, err = s.catalog.Read(ctx, s.flavor, want, s.filter.Match, endOfLog); err != nil || r.Settled {
			return r, err
		}
	}
	s.log.logger.Warnf("Statements change tables while the source reads their shapes: rows between %s and the last of those are an error "+
		"unless they fit", r.At)
	return r, nil
}

// maxStatement is how much of a statement an error shows.
const maxStatement = 1000

// ddl follows a statement that may have changed tables; start is its place.
func (s *session) ddl(ctx context.Context, st ddl.Statement, start uint64, now time.Time) error {
	res, err := s.tables.Applier.Apply(s.tables.State, st)
	if err != nil {
		shown := st.Text
		if len(shown) > maxStatement {
			shown = shown[:maxStatement] + "…"
		}
		err = fmt.Errorf("the statement that ends at %s, %q: %w", s.place(), shown, err)
		if res.Changes, err = s.unparseable(ctx, res, err); err != nil {
			return err
		}
	}
	if err := s.schemaEvents(ctx, st.Text, res, start, now); err != nil {
		return err
	}
	for _, f := range res.Filled {
		if s.filter.Match(f.Table.DB, f.Table.Table) {
			s.log.snapshots.Appeared(f.Table, f.How)
		}
	}
	if len(res.Changes) == 0 {
		return nil
	}
	if s.flavor == product.MariaDB {
		s.tables.Leave(res.Changes)
	}
	s.tables.Apply(res.Changes...)
	s.schemas.Forget()
	clear(s.maps)
	return nil
}

// unparseable decides about a statement that was not understood or does not fit: it returns the changes that stand for it, or the
// error that ends the session.
func (s *session) unparseable(ctx context.Context, res ddl.Result, err error) ([]shape.Change, error) {
	captured := res.Unread || slices.ContainsFunc(res.Tables, func(t statement.TableName) bool { return s.filter.Match(t.DB, t.Table) })
	switch {
	case !captured:
		s.log.logger.Warnf("Tables that are not captured are not followed any further: %v", err)
		return s.tables.Without(res.Tables), nil
	case !s.log.cfg.reloadDDL:
		return nil, fault.WithKind(fault.KindSchema, fmt.Errorf("%w: on_unparseable_ddl: reload reads the table's shape from "+
			"information_schema instead, which is right when nothing else has changed it since", err))
	}
	s.log.logger.Warnf("Reading the shapes of tables from information_schema, as on_unparseable_ddl says: %v", err)
	return s.reload(ctx, res)
}

// reload reads the tables of a statement from the catalogue, all of them if it could not be told which they are.
func (s *session) reload(ctx context.Context, res ddl.Result) ([]shape.Change, error) {
	read, err := s.readCatalog(ctx, nil)
	if err != nil {
		return nil, err
	}
	return s.tables.Reloaded(res, read.State), nil
}

// keepChanges writes the changes of a transaction into the history, before its position is known to anybody.
func (s *session) keepChanges() error {
	changes := s.tables.Take()
	if len(changes) == 0 {
		return nil
	}
	return s.log.history.Add(s.position, changes)
}

// definition returns the shape of a table at the place that was read up to; nil when it is not known. What the catalogue shows would be
// the table of now, which nobody can tell from the one of then where the columns have the same types.
func (s *session) definition(db, table string) *shape.Table {
	if s.filter.Fold {
		db, table = strings.ToLower(db), strings.ToLower(table)
	}
	def := s.tables.State.Table(db, table)
	if left := s.tables.Left(statement.TableName{DB: db, Table: table}); def == nil && left != nil {
		s.log.logger.Warnf("Table %s.%s has rows after it was renamed: what was renamed was a temporary table", db, table)
		s.define(db, table, left)
		return left
	}
	return def
}

// define sets the shape of a table.
func (s *session) define(db, table string, def *shape.Table) {
	if s.filter.Fold {
		db, table = strings.ToLower(db), strings.ToLower(table)
	}
	s.tables.Apply(shape.Change{DB: db, Table: table, Def: def})
}
