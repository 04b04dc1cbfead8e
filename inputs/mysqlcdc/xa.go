package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// XA transactions. The log has the rows at XA PREPARE, which says nothing about whether they will ever count; XA COMMIT and XA
// ROLLBACK are transactions of their own, without rows. So at XA PREPARE only the place of the rows is kept, with the schema history,
// which is saved before any position after it; at XA COMMIT the rows are read from there, over a second connection, and are the rows
// of the transaction that XA COMMIT is. A prepared transaction keeps its tables locked, so their shapes have not changed between.

// prepareXA ends the part of an XA transaction that has the rows.
func (s *session) prepareXA(ctx context.Context, h binlog.Header, body []byte, now time.Time) error {
	xid, onePhase, err := binlog.ParsePrepare(body)
	if err != nil {
		return s.protocolError("%s: %w", h.Kind, err)
	}
	t := s.tx
	if t == nil || !t.xaRows {
		return s.commit(ctx, now)
	}
	s.name(t)
	p := &shape.Prepared{At: s.prepared(t).String(), Server: s.identity, GTID: t.tx.GTID}
	if onePhase {
		if err := s.readPrepared(ctx, p, xid); err != nil {
			return err
		}
		return s.commit(ctx, now)
	}
	s.changeXA(xid, p)
	return s.commit(ctx, now)
}

// prepared is the position before a transaction, at its place.
func (s *session) prepared(t *transaction) *gtid.Position {
	here := s.here()
	here.Pos = t.at
	return s.position.At(here)
}

// endXA makes the rows of a prepared transaction those of the one that is being read, or forgets them.
func (s *session) endXA(ctx context.Context, st statement.Statement) error {
	p := s.tables.State.Prepared(st.XID)
	if p == nil {
		return nil // it has nothing for us
	}
	if st.Kind == statement.XACommit {
		if err := s.readPrepared(ctx, p, st.XID); err != nil {
			return err
		}
	}
	s.changeXA(st.XID, nil)
	return nil
}

func (s *session) changeXA(xid string, p *shape.Prepared) {
	s.tables.Apply(shape.Change{XA: xid, Prepared: p})
}

// excerpt is the reading of one prepared transaction.
type excerpt struct {
	gtid        string // of the transaction; empty for the first that comes
	found, done bool
	err         error
}

// wants reports whether an event shall be handled as usual, and notes where the transaction begins and ends; an event that is not
// wanted may leave an error.
func (e *excerpt) wants(s *session, h binlog.Header, body []byte, start uint64) bool {
	switch h.Kind {
	case replication.ROTATE_EVENT, replication.FORMAT_DESCRIPTION_EVENT:
		return true
	case replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT, replication.MARIADB_GTID_EVENT:
		if e.found {
			e.err = errNoPrepared
			return false
		}
		e.found, e.err = e.begins(s, h, body, start)
		return false
	case replication.XA_PREPARE_LOG_EVENT:
		e.done = e.found
		return false
	case replication.XID_EVENT, replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT:
		return false
	default:
		return e.found && !e.done
	}
}

// begins reports whether a GTID event is that of the transaction.
func (e *excerpt) begins(s *session, h binlog.Header, body []byte, start uint64) (bool, error) {
	t := s.tx
	defer func() { s.tx = t }()
	var err error
	if h.Kind == replication.MARIADB_GTID_EVENT {
		err = s.beginMariaDB(h, body, start)
	} else {
		err = s.beginMySQL(h, body, start)
	}
	if err != nil {
		return false, err
	}
	s.name(s.tx)
	return e.gtid == "" || e.gtid == s.tx.tx.GTID, nil
}

var errNoPrepared = errors.New("the transaction is not there")

// readPrepared reads the rows of a prepared transaction as rows of the one that is being read.
func (s *session) readPrepared(ctx context.Context, p *shape.Prepared, xid string) error {
	fail := func(err error) error {
		return fmt.Errorf("XA transaction %s, which is committed at %s: its rows were prepared at %s: %w", xid, s.place(), p.At, err)
	}
	from, err := gtid.ParsePosition(p.At)
	if err != nil {
		return fail(err)
	}
	e := &excerpt{}
	switch {
	case p.Server == s.identity:
		from = from.OnlyPlace()
	case from.HasGTIDs && p.GTID != "":
		e.gtid = p.GTID
	default:
		return fail(lost("that is a place in the files of server %s, this is server %s", p.Server, s.identity))
	}
	c, err := s.excerpts(ctx, from)
	if err != nil {
		return fail(err)
	}
	defer c.Close()

	outer, t := s.reader, s.tx
	t.xa, t.tx.XA = false, true
	s.name(t)
	s.reader = s.readerFrom(from, from.HasGTIDs)
	s.tx, s.skip, s.held, s.heldBytes, s.excerpt = t, outer.skip, outer.held, outer.heldBytes, e
	err = s.readExcerpt(ctx, c)
	inner := s.reader
	s.reader = outer
	s.held, s.heldBytes, s.bytes = inner.held, inner.heldBytes, s.bytes+inner.bytes
	if err != nil {
		return fail(err)
	}
	return nil
}

// events are those after a position, up to the end of the log.
type events interface {
	// next returns an event and when it was read; errNoPrepared at the end of the log.
	next() ([]byte, time.Time, error)
	Close()
}

// dumpEvents are the events of a server.
type dumpEvents struct {
	*wire.Conn
	in *wire.Packets
}

func (d *dumpEvents) next() ([]byte, time.Time, error) {
	packet, now, err := d.in.Next()
	if err == nil && len(packet) > 0 && packet[0] == 0xff {
		err = d.HandleErrorPacket(packet)
	}
	var my *mysql.MyError
	switch {
	case errors.As(err, &my):
		return nil, now, lost("the server says %w", my)
	case err != nil:
		return nil, now, d.Classify(err, fault.KindConnect)
	case len(packet) == 0 || packet[0] != 0:
		return nil, now, errNoPrepared
	}
	return packet[1:], now, nil
}

// openExcerpt opens another connection and asks for what is after the position, up to where the log ends now.
func (s *session) openExcerpt(ctx context.Context, from *gtid.Position) (events, error) {
	c, err := s.log.cfg.dumpServer().OpenDump(ctx, s.dumpRequest(from, from.HasGTIDs, s.log.cfg.excerptUUID, 0))
	if err != nil {
		return nil, err
	}
	return &dumpEvents{Conn: c, in: c.Packets()}, nil
}

// readExcerpt reads until the transaction that is looked for has ended.
func (s *session) readExcerpt(ctx context.Context, from events) error {
	for !s.excerpt.done {
		event, now, err := from.next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = s.event(ctx, event, now)
		}
		if err != nil {
			if errors.Is(err, errNoPrepared) {
				return lost("%w", err)
			}
			return err
		}
	}
	return nil
}

// warnOfPrepared tells, where the account may know, that transactions are prepared whose rows are before the history.
func (s *session) warnOfPrepared(ctx context.Context) {
	rows, err := s.catalog.Query(ctx, "XA RECOVER")
	if err == nil && len(rows) > 0 {
		s.log.logger.Warnf("%d XA transactions are prepared; what lies before the start of those is not read when they are committed", len(rows))
	}
}
