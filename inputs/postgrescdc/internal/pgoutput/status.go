package pgoutput

import (
	"encoding/binary"
	"time"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// postgresEpoch is 2000-01-01 in microseconds since 1970: the zero of PostgreSQL's clock.
const postgresEpoch = 946684800000000

// fromPostgresTime converts microseconds since 2000-01-01.
func fromPostgresTime(us int64) time.Time { return time.UnixMicro(us + postgresEpoch).UTC() }

// AppendStatus appends a standby status update inside its CopyData message ("Streaming Replication Protocol").
func AppendStatus(dst []byte, written, flushed lsn.LSN, now time.Time, reply bool) []byte {
	dst = append(dst, 'd')
	dst = binary.BigEndian.AppendUint32(dst, 4+34)
	dst = append(dst, 'r')
	dst = binary.BigEndian.AppendUint64(dst, uint64(max(written, flushed)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(flushed))
	dst = binary.BigEndian.AppendUint64(dst, uint64(flushed))
	dst = binary.BigEndian.AppendUint64(dst, uint64(now.UnixMicro()-postgresEpoch))
	if reply {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// EndOfSession is CopyDone and Terminate, which end a replication session.
const EndOfSession = "c\x00\x00\x00\x04X\x00\x00\x00\x04"
