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
