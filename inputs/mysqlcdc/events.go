package mysqlcdc

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/replication"
)

// parsePrepare reads an XA_PREPARE_LOG_EVENT (MySQL source, XA_prepare_event); the id is as the server writes it in statements.
func parsePrepare(body []byte) (xid string, onePhase bool, err error) {
	c := cursor{b: body}
	onePhase = c.uint(1) != 0
	format, global, branch := c.uint(4), int(c.uint(4)), int(c.uint(4))
	g, b := c.take(global), c.take(branch)
	if c.short {
		return "", false, errTruncated
	}
	return fmt.Sprintf("X'%x',X'%x',%d", g, b, format), onePhase, nil
}

// parseTaggedGTID reads a GTID with a tag, which MySQL writes with a library of its own.
func parseTaggedGTID(body []byte) (id gtid, micros uint64, err error) {
	defer func() {
		if r := recover(); r != nil { // the library trusts what it reads
			err = fmt.Errorf("%w: %v", errTruncated, r)
		}
	}()
	var e replication.GtidTaggedLogEvent
	if err := e.Decode(body); err != nil {
		return id, 0, err
	}
	if len(e.SID) != 16 || e.GNO <= 0 || e.GNO > maxGNO {
		return id, 0, errTruncated
	}
	copy(id.sid.uuid[:], e.SID)
	id.gno = uint64(e.GNO)
	id.sid.tag, err = parseTag(e.Tag.String())
	return id, e.OriginalCommitTimestamp, err
}
