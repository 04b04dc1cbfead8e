package mysqlcdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/offset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

var _ coordinator.Successor = (*mysqlLog)(nil)

// TakeOver implements coordinator.Successor. With GTIDs, the first transaction that the offset lacks is the one that it may have a part of. Else
// the file is read from its start, for the place where the transaction begins: the offset has the place of an event in it.
func (l *mysqlLog) TakeOver(ctx context.Context, text []byte) (tok checkpoint.Token, err error) {
	o, err := offset.Parse(text)
	if err != nil {
		return tok, err
	}
	srv := l.cfg.server
	s := &session{log: l, catalog: &catalog.Catalog{Server: &srv}}
	defer s.close()
	if err := s.inspect(ctx); err != nil {
		return tok, err
	}
	from := &gtid.Position{File: o.File, Pos: 4}
	byGTIDs := o.GTIDs != "" && l.cfg.useGTID != useGTIDNever && (s.flavor == product.MariaDB || s.gtidMode())
	if byGTIDs {
		if from, err = gtid.ParseLoosely(o.GTIDs); err != nil {
			return tok, fmt.Errorf("the GTIDs of the offset: %w", err)
		}
	}
	t := &takeover{s: s, offset: o, counter: offset.NewCounter(o), byGTIDs: byGTIDs}
	if !byGTIDs || o.Inside() {
		if err := t.read(ctx, from); err != nil {
			return tok, fmt.Errorf("the offset %s: %w", text, err)
		}
	}
	tok = checkpoint.Token{Source: s.identity, Commit: from, Sent: t.counter.Sent}
	if !byGTIDs {
		tok.Commit = &gtid.Position{File: o.File, Pos: t.begins, Created: s.created}
	}
	return tok, nil
}

// takeover reads the log for what an offset says.
type takeover struct {
	s       *session
	offset  offset.Offset
	counter *offset.Counter
	byGTIDs bool

	begins uint64 // where the transaction begins, or where the log goes on
	inTx   bool
	found  bool
}

func (t *takeover) read(ctx context.Context, from *gtid.Position) error {
	s := t.s
	c, err := s.openExcerpt(ctx, from)
	if err != nil {
		return err
	}
	defer c.Close()
	s.reader = newReader(from)
	for !t.found || t.offset.Inside() && !t.counter.Done() {
		data, _, err := c.next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errNoPrepared):
			return t.ended()
		case err != nil:
			return err
		}
		if err := t.event(data); err != nil {
			return err
		}
	}
	return nil
}

// ended says what the end of the log means: the connector had read all of it.
func (t *takeover) ended() error {
	switch {
	case t.offset.Rows > 0 || t.offset.Events > 1:
		return errors.New("the log ends before the transaction that it is in: the log is another one")
	case t.byGTIDs || t.found:
		return nil
	case t.s.file != t.offset.File || t.s.pos != t.offset.Pos:
		return fmt.Errorf("the log ends at %s, and not there: the log is another one", t.s.place())
	}
	t.begins = t.offset.Pos
	return nil
}

func (t *takeover) event(data []byte) error {
	s := t.s
	h, body, err := binlog.ParseHeader(data)
	if err != nil {
		return s.protocolError("%w", err)
	}
	switch {
	case h.Kind == replication.FORMAT_DESCRIPTION_EVENT && len(body) >= 5:
		s.checksums = body[len(body)-5] == byte(replication.BINLOG_CHECKSUM_ALG_CRC32)
		s.created = h.Timestamp
	case s.checksums:
		if body, err = binlog.CheckSum(data, body); err != nil {
			return s.protocolError("%s: %w", h.Kind, err)
		}
	}
	was := s.pos
	s.advance(h)
	switch h.Kind {
	case replication.ROTATE_EVENT:
		if !t.byGTIDs && s.file == t.offset.File && !h.Artificial() && was >= 4 && len(body) > 8 {
			return t.turned(was)
		}
		return s.rotate(h, body)
	case replication.FORMAT_DESCRIPTION_EVENT, replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2, replication.PREVIOUS_GTIDS_EVENT,
		replication.MARIADB_GTID_LIST_EVENT:
		return nil
	default:
	}
	begins := false
	switch h.Kind {
	case replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT, replication.MARIADB_GTID_EVENT:
		begins = true
	default:
	}
	start := s.beginning(h, was)
	if !t.found {
		if begins {
			t.begins, t.inTx = start, true
		}
		switch {
		case t.byGTIDs:
			// That for MariaDB counts from the GTID on, that for MySQL from BEGIN on, which follows.
			t.found = t.inTx && begins == (s.flavor == product.MariaDB)
		case start > t.offset.Pos:
			return fmt.Errorf("%s:%d lies inside an event: the log is another one", t.offset.File, t.offset.Pos)
		default:
			t.found = start == t.offset.Pos
		}
		if !t.found {
			t.inTx = t.inTx && h.Kind != replication.XID_EVENT
			return nil
		}
		if !t.inTx || h.Kind == replication.STOP_EVENT {
			t.begins = start
		}
	}
	if !t.offset.Inside() || t.counter.Done() {
		return nil
	}
	if err := t.counter.Event(h, body); err != nil {
		return fmt.Errorf("at %s: %w", s.place(), err)
	}
	return nil
}

// turned says what the end of the file means: the connector had read all of it.
func (t *takeover) turned(end uint64) error {
	if end > t.offset.Pos || t.offset.Rows > 0 || t.offset.Events > 1 {
		return fmt.Errorf("%s:%d is not in the file: the log is another one", t.offset.File, t.offset.Pos)
	}
	t.begins, t.found, t.offset.Events = t.offset.Pos, true, 0
	return nil
}
