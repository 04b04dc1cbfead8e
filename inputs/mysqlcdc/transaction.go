package mysqlcdc

import (
	"context"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// transaction is the one that is being read.
type transaction struct {
	tx *change.Tx
	// explicit: it began with BEGIN and ends with a commit; else its one statement is all of it.
	explicit bool
	gtid     gtid // gno 0 for none
	maria    mariaGTID
	isMaria  bool
	// xa says that it is an XA transaction, whose rows are nobody's before it is committed; xaRows that it has some for us.
	xa, xaRows bool
	// at is where it starts: the place of its GTID event.
	at uint64
	// index counts the events of the transaction that are counted; uncounted is the last rows event when it is not.
	index     uint64
	uncounted *rowsEvent
	table     *tableMap // of uncounted
}

// beginning returns the place of an event that was read last. A server that leaves out what we have leaves a gap between the end of the
// event before it, which is start, and its place.
func (s *session) beginning(h eventHeader, start uint64) uint64 {
	if size := uint64(h.size); h.logPos != 0 && s.pos > size {
		return s.pos - size
	}
	return start
}

// beginMySQL starts a transaction at its GTID event (MySQL source, Gtid_event).
func (s *session) beginMySQL(h eventHeader, body []byte, start uint64) (err error) {
	t := &transaction{tx: &change.Tx{ServerID: h.serverID, CommitTime: time.Unix(int64(h.timestamp), 0).UTC()}, at: s.beginning(h, start)}
	var micros uint64
	if h.kind == replication.GTID_TAGGED_LOG_EVENT {
		if t.gtid, micros, err = parseTaggedGTID(body); err != nil {
			return s.protocolError("%s: %w", h.kind, err)
		}
	} else {
		c := cursor{b: body}
		c.take(1)
		copy(t.gtid.sid.uuid[:], c.take(16))
		t.gtid.gno = c.uint(8)
		if c.short {
			return s.protocolError("%s: %w", h.kind, errTruncated)
		}
		if c.uint(1) == replication.LogicalTimestampTypeCode {
			c.take(16)
			if micros = c.uint(7); micros&(1<<55) != 0 {
				micros = c.uint(7) // the commit on the server that it comes from
			}
		}
		switch {
		case h.kind == replication.ANONYMOUS_GTID_EVENT:
			t.gtid.gno = 0
		case t.gtid.gno == 0 || t.gtid.gno > maxGNO:
			return s.protocolError("%s: %d is not the number of a transaction", h.kind, t.gtid.gno)
		}
	}
	if micros > 0 && micros < 1<<55 {
		t.tx.CommitTime = time.UnixMicro(int64(micros)).UTC()
	}
	s.tx = t
	return nil
}

// mariaPreparedXA is the flag of a GTID event whose transaction ends with XA PREPARE.
const mariaPreparedXA = 64

// beginMariaDB starts a transaction at its GTID event (MariaDB source, Gtid_log_event).
func (s *session) beginMariaDB(h eventHeader, body []byte, start uint64) error {
	c := cursor{b: body}
	seq, domain, flags := c.uint(8), c.uint(4), c.uint(1)
	if c.short {
		return s.protocolError("%s: %w", h.kind, errTruncated)
	}
	s.tx = &transaction{
		tx:    &change.Tx{ServerID: h.serverID, CommitTime: time.Unix(int64(h.timestamp), 0).UTC()},
		maria: mariaGTID{domain: uint32(domain), server: h.serverID, seq: seq}, isMaria: true, at: s.beginning(h, start),
		// What is not standalone is framed: the event stands for BEGIN.
		explicit: flags&replication.BINLOG_MARIADB_FL_STANDALONE == 0, xa: flags&mariaPreparedXA != 0,
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
	case t.gtid.gno != 0:
		t.tx.GTID = t.gtid.String()
	}
	t.tx.Position = t.tx.GTID
	if t.tx.Position == "" {
		t.tx.Position = s.file + ":" + strconv.FormatUint(t.at, 10)
	}
	t.tx.ID = t.tx.Position
}

// commit ends the transaction.
func (s *session) commit(ctx context.Context, now time.Time) error {
	t := s.tx
	if t == nil {
		return nil
	}
	s.tx, s.skip = nil, 0
	switch {
	case !s.position.gtid:
		s.position = &Position{file: s.file, pos: s.pos}
	case t.isMaria:
		s.position = s.position.afterMariaGTID(t.maria, s.file, s.pos)
	case t.gtid.gno != 0:
		s.position = s.position.afterGTID(&t.gtid, s.file, s.pos)
	default:
		return s.protocolError("a transaction without GTID behind %s: a position of GTIDs cannot pass it; use_gtid: false reads by "+
			"file and position", s.position)
	}
	if err := s.keepChanges(); err != nil {
		return err
	}
	seg := coordinator.Segment{CommitTime: t.tx.CommitTime, ReadAt: now}
	if s.held != nil {
		seg = s.held.seg
		s.held = nil
	}
	seg.Commit = s.position
	seg.Bytes += s.bytes
	s.bytes = 0
	if err := s.send(ctx, seg); err != nil {
		return err
	}
	s.refreshFiles(ctx, now)
	return nil
}
