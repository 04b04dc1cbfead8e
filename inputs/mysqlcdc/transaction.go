package mysqlcdc

import (
	"context"
	"strconv"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// transaction is the one that is being read.
type transaction struct {
	tx *change.Tx
	// explicit: it began with BEGIN and ends with a commit; else its one statement is all of it.
	explicit bool
	gtid     gtid.ID // gno 0 for none
	maria    gtid.MariaID
	isMaria  bool
	// xa says that it is an XA transaction, whose rows are nobody's before it is committed; xaRows that it has some for us.
	xa, xaRows bool
	// alter is the phase of an ALTER of MariaDB.
	alter binlog.AlterPhase
	// at is where it starts: the place of its GTID event.
	at uint64
	// rows says that it has changed rows, of any table; sent that segments of it are sent.
	rows, sent bool
	// looked says that its end was looked for, and ends that it has one.
	looked, ends bool
	savepoints   []savepoint
	// index counts the events of the transaction that are counted; uncounted is the last rows event when it is not.
	index     uint64
	uncounted *binlog.Rows
	table     *binlog.TableMap // of uncounted
}

// beginning returns the place of an event that was read last. A server that leaves out what we have leaves a gap between the end of the
// event before it, which is start, and its place.
func (s *session) beginning(h binlog.Header, start uint64) uint64 {
	if size := uint64(h.Size); h.LogPos != 0 && s.pos > size {
		return s.pos - size
	}
	return start
}

// beginMySQL starts a transaction at its GTID event.
func (s *session) beginMySQL(h binlog.Header, body []byte, start uint64) error {
	g, err := binlog.ParseGTID(h.Kind, body)
	if err != nil {
		return s.protocolError("%s: %w", h.Kind, err)
	}
	s.tx = &transaction{
		tx: &change.Tx{ServerID: h.ServerID, CommitTime: time.Unix(int64(h.Timestamp), 0).UTC()}, at: s.beginning(h, start), gtid: g.ID,
	}
	if g.Micros > 0 {
		s.tx.tx.CommitTime = time.UnixMicro(int64(g.Micros)).UTC()
	}
	return nil
}

// beginMariaDB starts a transaction at its GTID event.
func (s *session) beginMariaDB(h binlog.Header, body []byte, start uint64) error {
	g, err := binlog.ParseMariaGTID(h, body)
	if err != nil {
		return s.protocolError("%s: %w", h.Kind, err)
	}
	s.tx = &transaction{
		tx:    &change.Tx{ServerID: h.ServerID, CommitTime: time.Unix(int64(h.Timestamp), 0).UTC()},
		maria: g.ID, isMaria: true, at: s.beginning(h, start),
		// What is not standalone is framed: the event stands for BEGIN.
		explicit: !g.Standalone, xa: g.PreparedXA, alter: g.Alter,
	}
	return nil
}

// name gives the transaction its texts, when it turns out to have something for us.
func (s *session) name(t *transaction) {
	if t.tx.Position != "" {
		return
	}
	switch {
	case t.isMaria:
		t.tx.GTID = t.maria.String()
	case t.gtid.GNO != 0:
		t.tx.GTID = t.gtid.String()
	}
	t.tx.Position = t.tx.GTID
	if t.tx.Position == "" {
		t.tx.Position = s.file + ":" + strconv.FormatUint(t.at, 10)
	}
	t.tx.ID = t.tx.Position
	if !s.vague {
		t.tx.File, t.tx.Pos = s.file, t.at
	}
}

// pass moves the position after a transaction.
func (s *session) pass(t *transaction) error {
	here := s.here()
	switch {
	case !s.position.HasGTIDs:
		s.position = here.OnlyPlace()
	case t.isMaria:
		s.position = s.position.AfterMariaGTID(t.maria, here)
	case t.gtid.GNO != 0:
		s.position = s.position.AfterGTID(&t.gtid, here)
	case here.Created == 0:
		return s.protocolError("a transaction without GTID after %s: a position of GTIDs cannot pass it, and its place is not known for "+
			"certain", s.position)
	default:
		s.log.logger.Warnf("At %s there is a transaction without GTID: from here on the position is a place in the files of this server, "+
			"which means nothing after a fail-over", s.place())
		s.position = here.OnlyPlace()
	}
	return nil
}

// commit ends the transaction.
func (s *session) commit(ctx context.Context, now time.Time) error {
	t := s.tx
	if t == nil {
		return nil
	}
	s.tx, s.skip = nil, 0
	if len(s.maps) > maxMaps {
		clear(s.maps) // and not before: the rows of a statement come after the maps of all its tables
	}
	if err := s.pass(t); err != nil {
		return err
	}
	if err := s.keepChanges(); err != nil {
		return err
	}
	seg := coordinator.Segment{CommitTime: t.tx.CommitTime, ReadAt: now}
	if n := len(s.held); n > 0 {
		seg = s.held[n-1].seg
		for _, h := range s.held[:n-1] {
			if err := s.send(ctx, h.seg); err != nil {
				return err
			}
		}
		s.held, s.heldBytes = nil, 0
	}
	seg.Commit = s.position
	seg.Bytes += s.bytes
	s.bytes = 0
	if err := s.send(ctx, seg); err != nil {
		return err
	}
	return s.watchFiles(ctx, now)
}
