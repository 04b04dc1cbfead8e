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
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// reader follows the events of a binlog: the place in the files, transactions and table maps. It is the sequential part and
// decodes no row.
type reader struct {
	file string
	pos  uint64 // after the last event
	// created is when the file was made; 0 before its format description event.
	created uint32
	// from is what the events follow.
	from *gtid.Position
	// discard is the place up to which events are left out: the server has been asked for the start of the file.
	discard uint64
	// turned says that a file has ended, and that the next one is a place for a position once it has told its time.
	turned bool
	// vague says that places are not known for certain: by GTIDs a server leaves out what we have, and headers have 32 bits only.
	vague bool
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
	// doubts counts the looks at the log's end that do not fit the stream, which was at doubted.
	doubts  int
	doubted gtid.Position
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
	return reader{file: p.File, pos: p.Pos, from: p, maps: map[uint64]*mappedTable{}}
}

// here is the place after the last event.
func (s *session) here() gtid.Position {
	if s.vague {
		return gtid.Position{File: s.file, Pos: s.pos}
	}
	return gtid.Position{File: s.file, Pos: s.pos, Created: s.created}
}

func (s *session) place() string { return s.file + ":" + strconv.FormatUint(s.pos, 10) }

func (s *session) protocolError(format string, args ...any) error {
	return fault.WithKind(fault.KindProtocol, fmt.Errorf("binlog event after "+s.place()+": "+format, args...))
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
	if s.discard > 0 && !inStream(h.Kind) {
		return s.leaveOut()
	}
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

// inStream reports whether an event is about the stream: it is not one of those that a position counts.
func inStream(k replication.EventType) bool {
	switch k {
	case replication.FORMAT_DESCRIPTION_EVENT, replication.ROTATE_EVENT, replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		return true
	default:
		return false
	}
}

// leaveOut passes over an event before the place that is asked for.
func (s *session) leaveOut() error {
	if s.pos > s.discard {
		return lost("position %s lies inside an event, which ends at %s: the log is another one", s.from, s.place())
	}
	if s.pos == s.discard {
		s.discard = 0
	}
	return nil
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
		return s.rotate(h, body)
	case replication.FORMAT_DESCRIPTION_EVENT:
		return s.describe(ctx, h, start, now)
	case replication.PREVIOUS_GTIDS_EVENT, replication.MARIADB_GTID_LIST_EVENT:
		return nil
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		return s.heartbeat(ctx, h, now)
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return s.payload(ctx, body, start, now)
	case replication.INCIDENT_EVENT:
		return lost("at %s the server says that it has lost events (incident event): what follows is not complete", s.place())
	default:
		if !binlog.SaysNothing(h) {
			return s.protocolError("type %d is not known to this version, and an event that a reader may pass over has a flag that says so: "+
				"it may have rows", h.Kind)
		}
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
	m := &mappedTable{tm: tm, captured: s.filter.Match(tm.DB, tm.Table)}
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
func (s *session) rotate(h binlog.Header, body []byte) error {
	if len(body) < 8 {
		return s.protocolError("%s: %w", h.Kind, binlog.ErrTruncated)
	}
	file := string(body[8:])
	if _, _, ok := gtid.SplitLogName(file); !ok {
		return s.protocolError("%s: %q is not the name of a binlog file", h.Kind, file)
	}
	moved := s.file != file
	if moved && s.discard > 0 {
		return lost("position %s: %s ends at %s, before it", s.from, s.file, s.place())
	}
	if moved && s.created != 0 {
		if !gtid.Newer(file, s.file) {
			return lost("after %s the server goes on in %s, which is no newer file: its log was reset or put back", s.place(), file)
		}
		s.vague = false
	}
	if moved && s.created == 0 && s.vague {
		s.vague = catalog.IsLarge(s.log.files.Load(), file)
	}
	if moved {
		s.created = 0
		s.turned = !h.Artificial()
	}
	s.file = file
	if s.discard == 0 || moved {
		s.pos = binary.LittleEndian.Uint64(body)
	}
	clear(s.maps) // a server that was started again counts table ids from the start
	return nil
}

// describe handles the event that every file and every stream begins with. Its time is when the file was made, which tells a log from
// another one whose files have the same names.
func (s *session) describe(ctx context.Context, h binlog.Header, start uint64, now time.Time) error {
	s.created = h.Timestamp
	here := s.here()
	for _, p := range []*gtid.Position{s.from, s.position} {
		if !p.SameFile(&here) && p.File == here.File {
			return lost("position %s is in the %s that was made at %s; the server's was made at %s: its log was reset, put back to an older "+
				"state, or is that of a copy", p, p.File, p.Made(), here.Made())
		}
	}
	if s.excerpt != nil {
		return nil
	}
	if s.position.File == s.file && s.position.Created == 0 && !s.byGTIDs {
		here.Pos = s.position.Pos
		s.position = s.position.At(here)
	}
	if s.hello != nil {
		hello := *s.hello
		s.hello = nil
		if hello.Commit != nil {
			hello.Commit = s.position
		}
		hello.ReadAt = now
		return s.send(ctx, hello)
	}
	if !s.turned || s.tx != nil {
		return nil
	}
	// The files before this one are not needed any more, also when nothing happens in it.
	s.turned = false
	here.Pos = start
	s.position = s.position.At(here)
	if s.skip > 0 { // the position as it is saved has the events of the next transaction that are delivered already
		return nil
	}
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
	if err := s.watchFiles(ctx, now); err != nil {
		return err
	}
	if atEnd {
		s.passIdle(beat)
	}
	seg := coordinator.Segment{ReadAt: now, Bytes: s.bytes, CaughtUp: atEnd}
	if s.skip == 0 { // else the position as it is saved has the events of the next transaction that are delivered already
		seg.Commit = s.position
	}
	s.bytes = 0
	return s.send(ctx, seg)
}

// passIdle moves the position to the end of the log, which is at these low bits: what lies between is no transaction, or one that was
// delivered before. Without that, a position would stay before the events that a file begins with, or have no place at all, as long as
// nothing happens.
func (s *session) passIdle(beat uint64) {
	if s.vague || s.created == 0 || s.discard > 0 || s.skip > 0 {
		return
	}
	here := s.here()
	if uint64(uint32(here.Pos)) != beat {
		if !s.byGTIDs || beat < here.Pos {
			return
		}
		here.Pos, s.pos = beat, beat // the server has left out what we have
	}
	if s.position.File != here.File || s.position.Pos != here.Pos {
		s.position = s.position.At(here)
	}
}
