package mysqlcdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// reader follows the events of a binlog: the place in the files, transactions and table maps. It is the sequential part and
// decodes no row.
type reader struct {
	file string
	pos  uint64 // behind the last event
	// checksums says that events end with a CRC-32.
	checksums bool
	// skip is how many events of the first transaction were delivered in an earlier session.
	skip uint64
	tx   *transaction // nil between transactions
	// held is the last rows segment, kept until the next event tells whether its transaction ends there.
	held *heldSegment
	maps map[uint64]*mappedTable
	// bytes counts what was read since the last segment.
	bytes int
	// lastBeat is where the last heartbeat was.
	lastBeat uint64
	filesAt  time.Time
	// excerpt is set while the rows of a prepared transaction are read.
	excerpt *excerpt
}

type heldSegment struct{ seg coordinator.Segment }

// mappedTable is what a table id stands for.
type mappedTable struct {
	tm       *tableMap
	shape    *shape // nil for a table that is not captured
	captured bool
}

// maxMaps bounds the table ids that are remembered; the server makes a new one each time it opens a table.
const maxMaps = 4096

func newReader(p *Position) reader {
	return reader{file: p.file, pos: p.pos, maps: map[uint64]*mappedTable{}}
}

func (s *session) place() string { return s.file + ":" + strconv.FormatUint(s.pos, 10) }

func (s *session) protocolError(format string, args ...any) error {
	return coordinator.WithKind(coordinator.KindProtocol, fmt.Errorf("binlog event behind "+s.place()+": "+format, args...))
}

// event handles one event as it came over the wire.
func (s *session) event(ctx context.Context, data []byte, now time.Time) error {
	h, body, err := parseHeader(data)
	if err != nil {
		return s.protocolError("%w", err)
	}
	s.bytes += len(data)
	if h.kind == replication.FORMAT_DESCRIPTION_EVENT {
		// The last five bytes are the algorithm and, also for "none", a checksum.
		if len(body) < 5 {
			return s.protocolError("%s: %w", h.kind, errTruncated)
		}
		s.checksums = body[len(body)-5] == byte(replication.BINLOG_CHECKSUM_ALG_CRC32)
	} else if s.checksums {
		if body, err = checkSum(data, body); err != nil {
			return s.protocolError("%s: %w", h.kind, err)
		}
	}
	start := s.pos
	s.advance(h)
	if err := s.dispatch(ctx, h, body, start, now); err != nil {
		return err
	}
	return nil
}

// advance moves the position behind an event. Headers hold the low 32 bits only; a transaction can take a file past 4 GiB.
// MariaDB 11.4 and later leave them out in places.
func (s *session) advance(h eventHeader) {
	switch {
	case h.artificial(), h.kind == replication.HEARTBEAT_EVENT, h.kind == replication.HEARTBEAT_LOG_EVENT_V2,
		h.kind == replication.ROTATE_EVENT:
	case h.logPos == 0:
		if h.kind != replication.FORMAT_DESCRIPTION_EVENT {
			s.pos += uint64(h.size)
		}
	default:
		pos := s.pos&^0xffffffff | uint64(h.logPos)
		if pos < s.pos {
			pos += 1 << 32
		}
		s.pos = pos
	}
}

// dispatch handles an event without its checksum; start is its place.
func (s *session) dispatch(ctx context.Context, h eventHeader, body []byte, start uint64, now time.Time) error {
	if s.excerpt != nil && !s.excerpt.wants(s, h, body, start) {
		return s.excerpt.err
	}
	if _, _, _, ok := rowsEventKind(h.kind); ok {
		return s.rows(ctx, h, body, start, now)
	}
	switch h.kind {
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
	if len(body) < tableMapHeaderSize {
		return s.protocolError("table map: %w", errTruncated)
	}
	id := uintLE(body[:6])
	if m := s.maps[id]; m != nil && bytes.Equal(m.tm.body, body[tableMapHeaderSize:]) {
		return nil
	}
	tm, err := parseTableMap(bytes.Clone(body))
	if err != nil {
		return s.protocolError("%w", err)
	}
	m := &mappedTable{tm: tm, captured: s.filter.captures(tm.db, tm.table)}
	if m.captured {
		if m.shape, err = s.schemas.resolve(ctx, tm, s.place()); err != nil {
			return err
		}
	}
	if len(s.maps) >= maxMaps {
		clear(s.maps)
	}
	s.maps[id] = m
	return nil
}

// rows makes a segment of a rows event.
func (s *session) rows(ctx context.Context, h eventHeader, body []byte, start uint64, now time.Time) error {
	ev, err := parseRows(h.kind, body)
	if err != nil {
		return s.protocolError("%s: %w", h.kind, err)
	}
	t, m := s.tx, s.maps[ev.tableID]
	if len(ev.images) == 0 && (m == nil || !ev.blank()) {
		return nil // a dummy that ends a statement
	}
	if t == nil || m == nil {
		return s.protocolError("%s of table id %d outside a transaction or without its table map", h.kind, ev.tableID)
	}
	if ev.columns != len(m.tm.types) {
		return s.protocolError("%s of %s has %d columns, its table map has %d", h.kind, m.tm.name(), ev.columns, len(m.tm.types))
	}
	if t.xa {
		t.xaRows = t.xaRows || m.captured
		return nil // they are read again when the transaction is committed
	}
	if err := s.count(t); err != nil {
		return err
	}
	if err := s.release(ctx); err != nil {
		return err
	}
	t.uncounted, t.table = ev, m.tm
	return s.rowsSegments(ctx, t, m, ev, start, now)
}

// count adds the rows of the last rows event to the index. It is put off until another event needs the index, which in most
// transactions none does.
func (s *session) count(t *transaction) error {
	if t.uncounted == nil {
		return nil
	}
	n, err := t.table.countRows(t.uncounted)
	if err != nil {
		return coordinator.WithKind(coordinator.KindDecode, fmt.Errorf("rows of %s before %s: %w", t.table.name(), s.place(), err))
	}
	t.index += uint64(n)
	t.uncounted = nil
	return nil
}

// maxSegment is the size of the row images of one event above which it becomes several segments.
const maxSegment = 256 << 10

// rowsSegments holds a segment, or sends some and holds the last, of what is left of an event behind what was delivered earlier.
func (s *session) rowsSegments(ctx context.Context, t *transaction, m *mappedTable, ev *rowsEvent, start uint64, now time.Time) error {
	if !m.captured {
		return nil
	}
	s.name(t)
	seg := rowsSegment{
		shape: m.shape, event: ev, tm: m.tm, tx: t.tx, images: ev.images, index: t.index + 1, file: s.file, pos: start, readAt: now,
	}
	if s.skip > t.index {
		n, err := m.tm.countRows(ev)
		if err != nil {
			return coordinator.WithKind(coordinator.KindDecode, fmt.Errorf("rows of %s behind %s: %w", m.tm.name(), s.place(), err))
		}
		if uint64(n) <= s.skip-t.index {
			return nil
		}
		seg.skip = int(s.skip - t.index)
	}
	for len(seg.images) > maxSegment {
		head, rest, n, err := m.tm.split(ev, seg.images, maxSegment)
		if err != nil {
			return coordinator.WithKind(coordinator.KindDecode, fmt.Errorf("rows of %s behind %s: %w", m.tm.name(), s.place(), err))
		}
		part := seg
		part.images = head
		if err := s.hold(ctx, &part, now); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		seg.images, seg.index, seg.row, seg.skip = rest, seg.index+uint64(n), seg.row+n, max(seg.skip-n, 0)
	}
	return s.hold(ctx, &seg, now)
}

// hold keeps a segment back and sends the one that was held.
func (s *session) hold(ctx context.Context, rows coordinator.Rows, now time.Time) error {
	if err := s.release(ctx); err != nil {
		return err
	}
	s.held = &heldSegment{seg: coordinator.Segment{Rows: rows, CommitTime: s.tx.tx.CommitTime, ReadAt: now, Bytes: s.bytes}}
	s.bytes = 0
	return nil
}

// release sends the segment that is held.
func (s *session) release(ctx context.Context) error {
	if s.held == nil {
		return nil
	}
	seg := s.held.seg
	s.held = nil
	return s.send(ctx, seg)
}

// rotate moves to another file. The first one of a stream, made by the server, says where the stream starts.
func (s *session) rotate(ctx context.Context, h eventHeader, body []byte, now time.Time) error {
	if len(body) < 8 {
		return s.protocolError("%s: %w", h.kind, errTruncated)
	}
	file := string(body[8:])
	if _, _, ok := splitLogName(file); !ok {
		return s.protocolError("%s: %q is not the name of a binlog file", h.kind, file)
	}
	moved := s.file != file
	s.file, s.pos = file, binary.LittleEndian.Uint64(body)
	clear(s.maps) // a server that was started again counts table ids from the start
	if !moved || h.artificial() || s.tx != nil {
		return nil
	}
	// The files before this one are not needed any more, also when nothing happens in it.
	s.position = s.position.at(s.file, s.pos)
	seg := coordinator.Segment{Commit: s.position, ReadAt: now, Bytes: s.bytes}
	s.bytes = 0
	return s.send(ctx, seg)
}

// heartbeat says that nothing happens. While it skips what we have already, a server sends them too, so only one at the place
// that we have read up to, or at the place of the one before, means that we are at the end.
func (s *session) heartbeat(ctx context.Context, h eventHeader, now time.Time) error {
	beat := uint64(h.logPos)
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
