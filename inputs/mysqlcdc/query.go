package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// query handles a query event: the frame of a transaction, or a statement that is logged as text.
func (s *session) query(ctx context.Context, h binlog.Header, body []byte, start uint64, now time.Time) error {
	q, err := binlog.ParseQuery(h.Kind, body, s.flavor)
	if err != nil {
		return s.protocolError("%s: %w", h.Kind, err)
	}
	t := s.tx
	if t == nil {
		return s.protocolError("a statement outside a transaction: the server writes no GTID events, which every supported one does")
	}
	switch string(q.Text) { // what nearly every event says, without looking closer
	case "BEGIN":
		t.explicit = true
		return nil
	case "COMMIT":
		return s.commit(ctx, now)
	}
	text, err := s.statementOf(ctx, q)
	if err != nil {
		return err
	}
	text.ThreadSpecific = h.ThreadSpecific()
	st := statement.Parse(text.Text, text.Mode, s.dialect)
	switch st.Kind {
	case statement.Begin:
		t.explicit = true
		return nil
	case statement.Commit:
		return s.commit(ctx, now)
	case statement.Rollback:
		if err := s.undo(ctx, savepoint{sent: t.sent}); err != nil {
			return err
		}
		return s.commit(ctx, now)
	case statement.Truncate:
		n := s.fullName(st.Table, q.DB)
		if !h.ThreadSpecific() && !s.tables.Applier.IsTemporary(text.Session, n) { // the statement names nothing else that is of a session
			err = s.truncate(ctx, t, n, start, now)
		}
	case statement.Data:
		err = s.statementData(st, text.Session, q)
	case statement.XAStart:
		t.explicit, t.xa = true, true
		return nil
	case statement.XACommit, statement.XARollback:
		err = s.endXA(ctx, st)
	case statement.Savepoint:
		s.setSavepoint(st.Savepoint)
	case statement.RollbackTo:
		err = s.rollBackTo(ctx, st.Savepoint)
	case statement.Neutral:
	case statement.Other:
		if s.log.observe != nil {
			s.log.observe(q, text)
		}
		if t.alter != binlog.AlterStarted && t.alter != binlog.AlterRolledBack { // neither has changed anything
			err = s.ddl(ctx, text, start, now)
		}
	}
	if err != nil || t.explicit {
		return err
	}
	return s.commit(ctx, now)
}

// statementOf returns the statement of an event in UTF-8: its text is in the character set of the client, and its names have to be
// compared with those of tables.
func (s *session) statementOf(ctx context.Context, q binlog.Query) (ddl.Statement, error) {
	info := s.schemas.Charsets
	st := ddl.Statement{
		Text: string(q.Text), DB: q.DB, Session: ddl.Session{Server: s.tx.tx.ServerID, Thread: q.Thread}, Mode: statement.ModeOf(q.Vars.SQLMode), ServerCollation: info.ByID[q.Vars.Server],
		DefaultUTF8MB4: info.ByID[q.Vars.DefaultUTF8MB4], ImplicitTimestamp: q.Vars.ImplicitTimestamp,
	}
	if charset.IsASCII(q.Text) || info.Collations[q.Vars.Client] == "" || info.Collations[q.Vars.Client] == "binary" {
		return st, nil
	}
	cs, err := s.schemas.Charset(ctx, info.Collations[q.Vars.Client])
	if err != nil {
		return st, err
	}
	if utf8, _, err := cs.Decode(nil, q.Text); err == nil { // else it has bytes that are no text, in a literal perhaps
		st.Text = string(utf8)
	}
	return st, nil
}

// statementData refuses changes that are logged as statements, since their rows are not in the log. The table that the statement names
// is not all that it can change: there are triggers, functions and views. So it passes only when no database that it can have changed
// has tables that are captured, which MySQL says and MariaDB does not.
func (s *session) statementData(st statement.Statement, session ddl.Session, q binlog.Query) error {
	if q.Vars.DatabasesKnown && !slices.ContainsFunc(q.Vars.Databases, s.filter.MatchIn) {
		return nil
	}
	n := s.fullName(st.Table, q.DB)
	if s.emptied(n, q) || !st.Calls && s.tables.Applier.IsTemporary(session, n) { // a temporary table has no triggers
		return nil
	}
	what := fmt.Sprintf("the change of table %s.%s", n.DB, n.Table)
	switch {
	case n.Table == "":
		what = "a change of tables that cannot be told, in database " + n.DB + ","
	case !s.filter.Match(n.DB, n.Table):
		what += ", which can change captured tables by triggers, functions or views,"
	}
	return fault.WithKind(fault.KindProtocol, fmt.Errorf("%s that ends at %s is logged as a statement, without its rows: a "+
		"session uses binlog_format=STATEMENT or MIXED; SET GLOBAL binlog_format = 'ROW' and end the sessions that are older; what the "+
		"statement has changed is not in the log: bring it over by other means, then go on after this place (`deltaforge checkpoint reset KEY`, and "+
		"start: '%s')", what, s.place(), s.place()))
}

// fullName returns the name of a table with its database.
func (s *session) fullName(n statement.TableName, db string) statement.TableName {
	if n.DB == "" {
		n.DB = db
	}
	if s.filter.Fold {
		n = statement.TableName{DB: strings.ToLower(n.DB), Table: strings.ToLower(n.Table)}
	}
	return n
}

// emptied reports what a server logs by itself, without rows, when it finds a MEMORY table empty after it was started again: DELETE FROM
// or TRUNCATE TABLE of a table, and nothing else.
func (s *session) emptied(n statement.TableName, q binlog.Query) bool {
	return n.Table != "" && !s.filter.Match(n.DB, n.Table) && string(q.Text) == "DELETE FROM "+n.SQL()
}

// load handles LOAD DATA that is logged as a statement.
func (s *session) load(ctx context.Context, h binlog.Header, body []byte, now time.Time) error {
	q, err := binlog.ParseLoad(body, s.flavor)
	if err != nil {
		return s.protocolError("%s: %w", h.Kind, err)
	}
	if s.tx == nil {
		return s.protocolError("%s outside a transaction", h.Kind)
	}
	text, err := s.statementOf(ctx, q)
	if err != nil {
		return err
	}
	if err := s.statementData(statement.ParseLoad(text.Text, text.Mode, s.dialect), text.Session, q); err != nil {
		return err
	}
	if s.tx.explicit {
		return nil
	}
	return s.commit(ctx, now)
}

// truncate makes an event of TRUNCATE TABLE.
func (s *session) truncate(ctx context.Context, t *transaction, n statement.TableName, start uint64, now time.Time) error {
	if err := s.count(t); err != nil {
		return err
	}
	t.index++
	if !s.filter.Match(n.DB, n.Table) || s.skip >= t.index {
		return nil
	}
	s.name(t)
	return s.hold(ctx, heldSegment{seg: coordinator.Segment{Rows: &row.TableSegment{Event: change.Event{
		Op: change.Truncate, Table: s.tableByName(n.DB, n.Table), Index: t.index, Pos: start,
		Origin: &change.Origin{Tx: t.tx, ReadAt: now, Snapshot: change.SnapshotFalse, File: s.file},
	}}}}, now)
}

// tableByName returns the table that a statement names: as its rows were last seen, else as its shape is known, else without
// columns.
func (s *session) tableByName(db, name string) *change.Table {
	if t := s.schemas.LastSeen(db + "." + name); t != nil {
		return t
	}
	if t := s.schemas.TableOf(statement.TableName{DB: db, Table: name}, s.definition(db, name)); t != nil {
		return t
	}
	return &change.Table{Source: s.log.cfg.source, Database: db, Name: name}
}

// payload handles the events in MySQL's compressed transaction one after the other: it is not held in memory whole. They have no place of
// their own; theirs is the payload's.
func (s *session) payload(ctx context.Context, body []byte, start uint64, now time.Time) error {
	p, err := binlog.OpenPayload(body)
	if err != nil {
		return s.protocolError("compressed transaction: %w", err)
	}
	defer p.Close()
	for {
		h, inner, err := p.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return s.protocolError("compressed transaction: %w", err)
		}
		if err := s.dispatch(ctx, h, inner, start, now); err != nil {
			return err
		}
	}
}
