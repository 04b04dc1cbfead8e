package mysqlcdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// reader follows the events of a binlog: the place in the files, transactions and table maps. It is the sequential part and
// decodes no row.
type reader struct {
	file string
	pos  uint64 // after the last event
	// checksums says that events end with a CRC-32.
	checksums bool
	// skip is how many events of the first transaction were delivered in an earlier session.
	skip uint64
	tx   *transaction // nil between transactions
	// held are segments that are kept until it is known that their transaction counts; the last one, until the next event tells whether
	// the transaction ends there. heldBytes is about how large they are.
	held      []heldSegment
	heldBytes int
	maps      map[uint64]*mappedTable
	// bytes counts what was read since the last segment.
	bytes int
	// lastBeat is where the last heartbeat was.
	lastBeat uint64
	filesAt  time.Time
	// excerpt is set while the rows of a prepared transaction are read.
	excerpt *excerpt
}

// mappedTable is what a table id stands for.
type mappedTable struct {
	tm       *binlog.TableMap
	shape    *row.Layout // nil for a table that is not captured
	captured bool
}

// maxMaps bounds the table ids that are remembered from one transaction to the next; the server makes a new one each time it opens a
// table.
const maxMaps = 4096

func newReader(p *gtid.Position) reader {
	return reader{file: p.File, pos: p.Pos, maps: map[uint64]*mappedTable{}}
}

func (s *session) place() string { return s.file + ":" + strconv.FormatUint(s.pos, 10) }

func (s *session) protocolError(format string, args ...any) error {
	return coordinator.WithKind(coordinator.KindProtocol, fmt.Errorf("binlog event after "+s.place()+": "+format, args...))
}

// event handles one event as it came over the wire.
func (s *session) event(ctx context.Context, data []byte, now time.Time) error {
	h, body, err := binlog.ParseHeader(data)
	if err != nil {
		return s.protocolError("%w", err)
	}
	s.bytes += len(data)
	if h.Kind == replication.FORMAT_DESCRIPTION_EVENT {
		// The last five bytes are the algorithm and, also for "none", a checksum.
		if len(body) < 5 {
			return s.protocolError("%s: %w", h.Kind, binlog.ErrTruncated)
		}
		s.checksums = body[len(body)-5] == byte(replication.BINLOG_CHECKSUM_ALG_CRC32)
	} else if s.checksums {
		if body, err = binlog.CheckSum(data, body); err != nil {
			return s.protocolError("%s: %w", h.Kind, err)
		}
	}
	start := s.pos
	s.advance(h)
	if err := s.dispatch(ctx, h, body, start, now); err != nil {
		return err
	}
	return nil
}

// advance moves the position after an event. Headers hold the low 32 bits only; a transaction can take a file past 4 GiB.
// MariaDB 11.4 and later leave them out in places.
func (s *session) advance(h binlog.Header) {
	switch {
	case h.Artificial(), h.Kind == replication.HEARTBEAT_EVENT, h.Kind == replication.HEARTBEAT_LOG_EVENT_V2,
		h.Kind == replication.ROTATE_EVENT:
	case h.LogPos == 0:
		if h.Kind != replication.FORMAT_DESCRIPTION_EVENT {
			s.pos += uint64(h.Size)
		}
	default:
		pos := s.pos&^0xffffffff | uint64(h.LogPos)
		if pos < s.pos {
			pos += 1 << 32
		}
		s.pos = pos
	}
}

// dispatch handles an event without its checksum; start is its place.
func (s *session) dispatch(ctx context.Context, h binlog.Header, body []byte, start uint64, now time.Time) error {
	if s.excerpt != nil && !s.excerpt.wants(s, h, body, start) {
		return s.excerpt.err
	}
	if _, _, _, ok := binlog.RowsEventKind(h.Kind); ok {
		return s.rows(ctx, h, body, start, now)
	}
	switch h.Kind {
	case replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT, replication.MARIADB_GTID_EVENT,
		replication.ROTATE_EVENT, replication.FORMAT_DESCRIPTION_EVENT: // what can only follow the end of a transaction
		if err := s.abandon(); err != nil {
			return err
		}
	default:
	}
	switch h.Kind {
	case replication.TABLE_MAP_EVENT:
		return s.tableMap(ctx, body)
	case replication.XID_EVENT:
		return s.commit(ctx, now)
	case replication.XA_PREPARE_LOG_EVENT:
		return s.prepareXA(ctx, h, body, now)
	case replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT:
		return s.beginMySQL(h, body, start)
	case replication.MARIADB_GTID_EVENT:
		return s.beginMariaDB(h, body, start)
	case replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT:
		return s.query(ctx, h, body, start, now)
	case replication.EXECUTE_LOAD_QUERY_EVENT:
		return s.load(ctx, h, body, now)
	case replication.ROTATE_EVENT:
		return s.rotate(ctx, h, body, now)
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		return s.heartbeat(ctx, h, now)
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return s.payload(ctx, body, start, now)
	case replication.INCIDENT_EVENT:
		return lost("at %s the server says that it has lost events (incident event): what follows is not complete", s.place())
	default:
		return nil
	}
}

// tableMap remembers what a table id stands for.
func (s *session) tableMap(ctx context.Context, body []byte) error {
	if len(body) < binlog.TableMapHeaderSize {
		return s.protocolError("table map: %w", binlog.ErrTruncated)
	}
	id := binlog.UintLE(body[:6])
	if m := s.maps[id]; m != nil && bytes.Equal(m.tm.Body, body[binlog.TableMapHeaderSize:]) {
		return nil
	}
	tm, err := binlog.ParseTableMap(bytes.Clone(body))
	if err != nil {
		return s.protocolError("%w", err)
	}
	if tm.HasOldTimes() {
		if def := s.definition(tm.DB, tm.Table); def != nil {
			def.SetDigits(tm)
		}
	}
	m := &mappedTable{tm: tm, captured: s.filter.captures(tm.DB, tm.Table)}
	if m.captured {
		if m.shape, err = s.schemas.Resolve(ctx, tm, s.place()); err != nil {
			return err
		}
		m.captured = m.shape != nil
	}
	s.maps[id] = m
	return nil
}

// rotate moves to another file. The first one of a stream, made by the server, says where the stream starts.
func (s *session) rotate(ctx context.Context, h binlog.Header, body []byte, now time.Time) error {
	if len(body) < 8 {
		return s.protocolError("%s: %w", h.Kind, binlog.ErrTruncated)
	}
	file := string(body[8:])
	if _, _, ok := gtid.SplitLogName(file); !ok {
		return s.protocolError("%s: %q is not the name of a binlog file", h.Kind, file)
	}
	moved := s.file != file
	s.file, s.pos = file, binary.LittleEndian.Uint64(body)
	clear(s.maps) // a server that was started again counts table ids from the start
	if !moved || h.Artificial() || s.tx != nil {
		return nil
	}
	// The files before this one are not needed any more, also when nothing happens in it.
	s.position = s.position.At(s.file, s.pos)
	seg := coordinator.Segment{Commit: s.position, ReadAt: now, Bytes: s.bytes}
	s.bytes = 0
	return s.send(ctx, seg)
}

// heartbeat says that nothing happens. While it skips what we have already, a server sends them too, so only one at the place
// that we have read up to, or at the place of the one before, means that we are at the end.
func (s *session) heartbeat(ctx context.Context, h binlog.Header, now time.Time) error {
	beat := uint64(h.LogPos)
	atEnd := beat == s.pos&0xffffffff || beat == s.lastBeat
	s.lastBeat = beat
	if s.tx != nil {
		return nil
	}
	s.refreshFiles(ctx, now)
	seg := coordinator.Segment{Commit: s.position, ReadAt: now, Bytes: s.bytes, CaughtUp: atEnd}
	s.bytes = 0
	return s.send(ctx, seg)
}
