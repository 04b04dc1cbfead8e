package binlog

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
)

// ParsePrepare reads an XA_PREPARE_LOG_EVENT (MySQL source, XA_prepare_event); the id is as the server writes it in statements.
func ParsePrepare(body []byte) (xid string, onePhase bool, err error) {
	c := Cursor{Rest: body}
	onePhase = c.Uint(1) != 0
	format, global, branch := c.Uint(4), int(c.Uint(4)), int(c.Uint(4))
	g, b := c.Take(global), c.Take(branch)
	if c.Short {
		return "", false, ErrTruncated
	}
	return fmt.Sprintf("X'%x',X'%x',%d", g, b, format), onePhase, nil
}

// ParseTaggedGTID reads a GTID with a tag, which MySQL writes with a library of its own.
func ParseTaggedGTID(body []byte) (id gtid.ID, micros uint64, err error) {
	defer func() {
		if r := recover(); r != nil { // the library trusts what it reads
			err = fmt.Errorf("%w: %v", ErrTruncated, r)
		}
	}()
	var e replication.GtidTaggedLogEvent
	if err := e.Decode(body); err != nil {
		return id, 0, err
	}
	if len(e.SID) != 16 || e.GNO <= 0 || e.GNO > gtid.MaxGNO {
		return id, 0, ErrTruncated
	}
	copy(id.SID.UUID[:], e.SID)
	id.GNO = uint64(e.GNO)
	id.SID.Tag, err = gtid.ParseTag(e.Tag.String())
	return id, e.OriginalCommitTimestamp, err
}

// GTID is how a transaction of MySQL begins (MySQL source, Gtid_event).
type GTID struct {
	// ID has the number 0 in an anonymous transaction.
	ID gtid.ID
	// Micros is when it was committed on the server that it comes from, in microseconds since 1970; 0 when the event does not say.
	Micros uint64
}

// maxMicros is the first number that is not one of microseconds: it has the bit that says that another one follows.
const maxMicros = 1 << 55

// ParseGTID reads a GTID event of MySQL, of any kind.
func ParseGTID(t replication.EventType, body []byte) (g GTID, err error) {
	if t == replication.GTID_TAGGED_LOG_EVENT {
		g.ID, g.Micros, err = ParseTaggedGTID(body)
	} else {
		c := Cursor{Rest: body}
		c.Take(1) // flags
		copy(g.ID.SID.UUID[:], c.Take(16))
		g.ID.GNO = c.Uint(8)
		if c.Short {
			return g, ErrTruncated
		}
		if c.Uint(1) == replication.LogicalTimestampTypeCode {
			c.Take(16)
			if g.Micros = c.Uint(7); g.Micros&maxMicros != 0 {
				g.Micros = c.Uint(7)
			}
		}
		switch {
		case t == replication.ANONYMOUS_GTID_EVENT:
			g.ID.GNO = 0
		case g.ID.GNO == 0 || g.ID.GNO > gtid.MaxGNO:
			return g, fmt.Errorf("%d is not the number of a transaction", g.ID.GNO)
		}
	}
	if g.Micros >= maxMicros {
		g.Micros = 0
	}
	return g, err
}

// AlterPhase is what a group says about an ALTER that MariaDB logs in two phases (binlog_alter_two_phase): its statement is logged when it
// begins and again when it ends.
type AlterPhase byte

// The phases. A group that is of no such ALTER has none of them.
const (
	AlterWhole AlterPhase = iota
	AlterStarted
	AlterCommitted
	AlterRolledBack
)

// MariaGTID is how a group of MariaDB begins.
type MariaGTID struct {
	ID gtid.MariaID
	// Standalone says that the group is one event, and has no end of its own.
	Standalone bool
	// PreparedXA says that the group ends with XA PREPARE.
	PreparedXA bool
	Alter      AlterPhase
}

// ParseMariaGTID reads a GTID event of MariaDB (MariaDB source, Gtid_log_event). The server's id is in the header.
func ParseMariaGTID(h Header, body []byte) (g MariaGTID, err error) {
	c := Cursor{Rest: body}
	g.ID.Seq, g.ID.Domain, g.ID.Server = c.Uint(8), uint32(c.Uint(4)), h.ServerID
	flags := c.Uint(1)
	if c.Short {
		return g, ErrTruncated
	}
	g.Standalone, g.PreparedXA = flags&mariaStandalone != 0, flags&mariaPreparedXA != 0
	if flags&mariaGroupCommitID != 0 {
		c.Take(8)
	}
	if flags&(mariaPreparedXA|mariaCompletedXA) != 0 {
		c.Take(4)
		c.Take(int(c.Uint(1)) + int(c.Uint(1)))
	}
	if len(c.Rest) == 0 { // what follows came with MariaDB 10.5
		return g, nil
	}
	switch extra := c.Uint(1); {
	case extra&mariaStartAlter != 0:
		g.Alter = AlterStarted
	case extra&mariaCommitAlter != 0:
		g.Alter = AlterCommitted
	case extra&mariaRollbackAlter != 0:
		g.Alter = AlterRolledBack
	}
	return g, nil
}
