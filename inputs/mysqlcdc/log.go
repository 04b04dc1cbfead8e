package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/chunk"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/history"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/resolve"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// mysqlLog is the change log of a MySQL or MariaDB server.
type mysqlLog struct {
	cfg     config
	logger  *service.Logger
	changes *service.MetricCounter
	history history.History
	// snapshots reads the tables.
	snapshots *chunk.Source
	// confirmed is the newest position that is delivered and saved; nil before the first.
	confirmed atomic.Pointer[gtid.Position]
	// files are the server's binlog files as they were when last asked for; nil when unknown.
	files atomic.Pointer[[]catalog.LogFile]
	// renewed says that a position was lost, and that a Run without one starts at the end of the log. It is set while no Run is active.
	renewed bool
	// warned says that what cannot be captured was told.
	warned atomic.Bool
	// observe sees every statement that may change tables; nil but in tests.
	observe func(q binlog.Query, st ddl.Statement)
	// filesInterval is the time between two questions for them.
	filesInterval time.Duration
}

var (
	_ coordinator.Log         = (*mysqlLog)(nil)
	_ coordinator.LagReporter = (*mysqlLog)(nil)
	_ coordinator.Historian   = (*mysqlLog)(nil)
	_ coordinator.Renewer     = (*mysqlLog)(nil)
)

func newLog(cfg config, res *service.Resources) *mysqlLog {
	name := ""
	if cfg.source != nil {
		name = cfg.source.Name
	}
	cfg.server.Guard = coordinator.NewGuard(name, res)
	var plain sync.Once
	cfg.server.OnPlain = func() {
		plain.Do(func() {
			res.Logger().Warnf("The connection to %s has no TLS: whoever reads the network between reads every row, and what he sees of the login "+
				"lets him try passwords: set tls: {enabled: true}", cfg.server.Address)
		})
	}
	if cfg.replica != nil {
		replica := cfg.server.Like(*cfg.replica)
		cfg.replica = &replica
	}
	return &mysqlLog{
		cfg:     cfg,
		logger:  res.Logger(),
		changes: res.Metrics().NewCounter("source_schema_changes_total", "table"),

		snapshots:     newSnapshots(cfg, res.Logger()),
		filesInterval: filesInterval,
	}
}

// Confirm implements coordinator.Log. The server keeps no state for us; the position is what the lag is measured from.
func (l *mysqlLog) Confirm(tok checkpoint.Token) {
	p, ok := tok.Commit.(*gtid.Position)
	if !ok {
		return
	}
	l.history.Confirm(p)
	if p.File != "" {
		l.confirmed.Store(p)
	}
}

// Renew implements coordinator.Renewer. The server keeps no state for us, and the history begins anew with the Run.
func (l *mysqlLog) Renew(context.Context) error {
	l.renewed = true
	l.confirmed.Store(nil)
	l.files.Store(nil)
	l.snapshots.Forget()
	return nil
}

// LagBytes implements coordinator.LagReporter.
func (l *mysqlLog) LagBytes() (int64, bool) {
	p, files := l.confirmed.Load(), l.files.Load()
	if p == nil || files == nil {
		return 0, false
	}
	return catalog.BytesAfter(*files, p)
}

// session is one Run: one connection for the binlog and one for questions.
type session struct {
	log     *mysqlLog
	out     chan<- coordinator.Segment
	catalog *catalog.Catalog
	schemas *resolve.Schemas
	tables  ddl.Tables
	stream  *wire.Conn
	// excerpts is openExcerpt.
	excerpts func(ctx context.Context, from *gtid.Position) (events, error)

	// What inspect and preflight learn.
	vars     map[string]string
	flavor   string
	dialect  statement.Dialect
	identity string
	filter   filter.Filter
	useGTID  bool
	withheld filter.Withheld
	end      *gtid.Position
	// byGTIDs says that the log is asked for what follows GTIDs, not for what follows a place.
	byGTIDs bool

	// position is after the last transaction read.
	position *gtid.Position
	// hello is the first segment; nil when it is sent.
	hello *coordinator.Segment
	reader
}

// Run implements coordinator.Log.
func (l *mysqlLog) Run(ctx context.Context, from checkpoint.Token, out chan<- coordinator.Segment) error {
	// Whatever the session opens closes with this context, also while a read blocks.
	sessionCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := l.cfg.server
	s := &session{log: l, out: out, catalog: &catalog.Catalog{Server: &srv}}
	s.excerpts = s.openExcerpt
	defer s.close()
	err := s.run(sessionCtx, from)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (s *session) close() {
	s.catalog.Close()
	if s.stream != nil {
		s.stream.Close()
	}
}

func (s *session) run(ctx context.Context, from checkpoint.Token) error {
	if err := s.inspect(ctx); err != nil {
		return err
	}
	s.log.snapshots.Streams(s.identity)
	if err := s.preflight(ctx, from); err != nil {
		return err
	}
	start, err := s.startPosition(ctx, from)
	if err != nil {
		return err
	}
	if err := s.prepareSchemas(ctx); err != nil {
		return err
	}
	if start, err = s.prepareHistory(ctx, from, start); err != nil {
		return err
	}
	if err := s.warnOfUncaptured(ctx); err != nil {
		return err
	}
	s.position = start
	s.reader = s.readerFrom(start, s.byGTIDs)
	if from.Source == "" || from.Source == s.identity {
		s.skip = from.Sent
	} else if from.Sent > 0 {
		s.log.logger.Infof("Reading from server %s instead of %s: the transaction after %s is delivered from its first event again",
			s.identity, from.Source, start)
	}
	if s.stream, err = s.log.cfg.dumpServer().OpenDump(ctx, s.dumpRequest(start, s.byGTIDs, s.log.cfg.replicaUUID, s.log.cfg.serverID)); err != nil {
		return err
	}
	// What the coordinator waits for: the server streams, in the log that the position is of, and, when nothing was saved, from where.
	s.hello = &coordinator.Segment{}
	if from.IsZero() {
		s.hello.Commit = start
	}
	return s.readAll(ctx)
}

// dumpServer is the server with the time that its log may be silent.
func (c *config) dumpServer() *wire.Server {
	srv := c.server
	srv.ReadTimeout = c.readTimeout
	return &srv
}

// maxDumpPos is the greatest place that COM_BINLOG_DUMP and BINLOG_GTID_POS can ask for: they have 32 bits. (COM_BINLOG_DUMP_GTID has 64,
// and sends no transaction without GTID.) A place after it is read from the start of its file.
const maxDumpPos = math.MaxUint32

func (s *session) dumpRequest(from *gtid.Position, byGTIDs bool, uuid string, serverID uint32) wire.DumpRequest {
	if !byGTIDs {
		if from = from.OnlyPlace(); from.Pos > maxDumpPos {
			from.Pos = 4
		}
	}
	return wire.DumpRequest{Flavor: s.flavor, From: from, UUID: uuid, ServerID: serverID, Heartbeat: s.log.cfg.heartbeat}
}

// readerFrom returns a reader of what dumpRequest asks for.
func (s *session) readerFrom(from *gtid.Position, byGTIDs bool) reader {
	r := newReader(from)
	switch {
	case byGTIDs:
		r.vague = catalog.AnyLarge(s.log.files.Load())
	case from.Pos > maxDumpPos:
		r.discard, r.pos = from.Pos, 4
	}
	return r
}

func (s *session) prepareSchemas(ctx context.Context) error {
	charsets, err := s.catalog.Charsets(ctx, s.flavor)
	if err != nil {
		return err
	}
	s.schemas = &resolve.Schemas{
		Source: s.log.cfg.source, Catalog: s.catalog, Flavor: s.flavor, Keys: s.log.cfg.keys, Charsets: charsets,
		Values:     s.log.cfg.values,
		Definition: s.definition, Define: s.define, Warn: s.log.logger.Warnf,
		Changed: func(table string) { s.log.changes.Incr(1, table) },
	}
	return nil
}

// send hands a segment to the coordinator. It blocks while the pipeline does.
func (s *session) send(ctx context.Context, seg coordinator.Segment) error {
	seg.Source = s.identity
	select {
	case s.out <- seg:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readAll reads packets until the stream ends, which it does with an error only.
func (s *session) readAll(ctx context.Context) error {
	in := s.stream.Packets()
	for {
		packet, now, err := in.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return s.dumpError(ctx, err)
		}
		if len(packet) == 0 {
			return fault.WithKind(fault.KindProtocol, errors.New("reading the binlog: an empty packet"))
		}
		switch packet[0] {
		case 0:
			if err := s.event(ctx, packet[1:], now); err != nil {
				return err
			}
		case 0xff:
			refused := s.stream.HandleErrorPacket(packet)
			passed, err := s.passTorn(ctx, refused)
			if err != nil {
				return err
			}
			if !passed {
				return s.dumpError(ctx, refused)
			}
			in = s.stream.Packets()
		case 0xfe:
			return fault.WithKind(fault.KindConnect, errors.New("reading the binlog: the server has ended the stream"))
		default:
			return fault.WithKind(fault.KindProtocol, fmt.Errorf("reading the binlog: a packet of type %#x", packet[0]))
		}
	}
}

// Restore implements coordinator.Historian.
func (l *mysqlLog) Restore(record []byte) error { return l.history.Restore(record) }

// Record implements coordinator.Historian.
func (l *mysqlLog) Record() ([]byte, uint64, error) {
	data, mark, ok, err := l.history.Record()
	if !ok {
		return nil, 0, err
	}
	return data, mark, nil
}

// Saved implements coordinator.Historian.
func (l *mysqlLog) Saved(mark uint64) { l.history.MarkSaved(mark) }
