package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/chunk"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/history"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// replication is the coordinator.Log over a logical replication slot.
type replication struct {
	cfg     config
	schemas *shape.Schemas
	chunks  *chunk.Source
	history *history.History
	// seen is what was published when a session looked last; nil: none has. Of the session that runs.
	seen   *publication.State
	logger logger

	confirmed atomic.Uint64 // LSN that is saved and may be given back to the server
	proof     proof
	serverEnd atomic.Uint64 // LSN of the server's end of log; 0 when unknown
	// kick wakes the goroutine that reports to the server.
	kick chan struct{}
	// wanted is where the stream is to come soon, for a snapshot: it says so at once when it is there. It only grows. Asks has the next
	// report ask the server where it is.
	wanted atomic.Uint64
	asks   atomic.Bool
	nudged atomic.Uint64 // the newest place for which the server was asked to write its log out

	warnedMu sync.Mutex
	warned   map[string]bool // guarded by warnedMu

	guard coordinator.Guard      // of the goroutines of a session
	hook  func(goroutine string) // tests plant panics with it; nil: none

	waiting atomic.Pointer[wait] // what a start waits for; nil: nothing

	testing bool // the slot may be in use
}

var (
	_ coordinator.Log         = (*replication)(nil)
	_ coordinator.LagReporter = (*replication)(nil)
)

// logger is what replication needs of *service.Logger.
type logger interface {
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
}

// Run implements coordinator.Log.
func (r *replication) Run(ctx context.Context, from checkpoint.Token, out chan<- coordinator.Segment) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait() // after cancel
	defer cancel(nil)
	r.serverEnd.Store(0)

	s, err := r.open(ctx, from)
	if err != nil {
		return cause(ctx, err)
	}
	spawn := func(name string, f func() error) {
		wg.Go(func() {
			if err := r.guard.Do(name, func() error { r.planted(name); return f() }); err != nil {
				cancel(err)
			}
		})
	}
	s.out, s.skip = out, from.Sent
	spawn("catalogue", func() error { s.cat.Run(ctx, s.side); return nil })
	spawn("report", func() error { return s.report(ctx) })
	spawn("watch", func() error { return s.watch.run(ctx) })
	spawn("interrupt", func() error {
		<-ctx.Done()
		return s.interrupt()
	})
	err = r.guard.Do("stream", func() error { r.planted("stream"); return s.stream(ctx, from.IsZero()) })
	cancel(err)
	wg.Wait() // the reporter no longer writes
	s.close()
	return cause(ctx, err)
}

func (r *replication) planted(goroutine string) {
	if r.hook != nil {
		r.hook(goroutine)
	}
}

// cause prefers the reason of a cancelled context over the error that the cancellation led to.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// The bounds of a segment.
const (
	maxSegmentRows  = 512
	maxSegmentBytes = 64 << 10
)

// session is one replication connection.
type session struct {
	r      *replication
	source string // system identifier and timeline
	start  lsn.LSN
	wire   *wire.Stream
	conn   *pgconn.HijackedConn
	side   *pgx.Conn // given to cat
	cat    *catalog.Catalog
	watch  *watcher
	out    chan<- coordinator.Segment
	trust  value.Trust

	received atomic.Uint64 // LSN of the newest message that was read
	ask      atomic.Bool   // the next report asks the server to answer

	// Of the reading goroutine.
	relations map[uint32]*shape.Relation
	pending   map[uint32]pgoutput.Relation // not looked up yet
	messages  *shape.Relation
	seg       coordinator.Segment
	rows      *row.Rows
	tx        *change.Tx // nil between transactions
	final     lsn.LSN    // where the transaction commits
	index     uint64     // events of the transaction that were read
	skip      uint64     // events of the first transaction that are delivered already
	end       Position   // the newest position that was sent on
	proof     Position   // the transaction that the log must show before anything counts; zero: none
	passing   bool       // the transaction comes before the proof
	idleAt    time.Time  // when the newest rowless segment of an idle stretch was sent
}

// gatherTime is how long the reader lets rows of a transaction gather in the socket. The server sends each row by itself;
// without the pause there would be one read call for each, which costs more than decoding it.
const gatherTime = time.Millisecond

// busyGap is the time between two reads below which small transactions follow each other closely, so that there is
// something to gather between them too. A source with less to do is not delayed.
const busyGap = 2 * gatherTime

// gathered is the size of a read that needs no pause after it.
const gathered = 16 << 10

// stream reads until the session ends.
func (s *session) stream(ctx context.Context, fresh bool) error {
	first := coordinator.Segment{Source: s.source, ReadAt: time.Now()}
	if fresh {
		first.Commit = Position{At: s.start}
	}
	if err := s.send(ctx, first); err != nil {
		return err
	}
	pause := time.NewTimer(gatherTime)
	defer pause.Stop()
	for {
		if !s.wire.Ready() {
			if err := s.flush(ctx); err != nil {
				return err
			}
			if (s.tx != nil || s.wire.Gap < busyGap) && s.wire.LastRead < gathered {
				pause.Reset(gatherTime)
				select {
				case <-pause.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		kind, body, err := s.wire.Next()
		if err != nil {
			return fmt.Errorf("reading the replication stream at %s: %w", lsn.LSN(s.received.Load()), err)
		}
		s.seg.Bytes += len(body) + 5
		if err := s.handle(ctx, kind, body); err != nil {
			return err
		}
	}
}

func (s *session) handle(ctx context.Context, kind byte, body []byte) error {
	switch kind {
	case 'd':
		return s.copyData(ctx, body)
	case 'E':
		return s.serverError(body)
	case 'N':
		return s.notice(body)
	case 'S', 'A': // parameter, notification
		return nil
	case 'c', 'C', 'Z':
		return fault.WithKind(fault.KindConnect, errors.New("the server ended the replication stream"))
	default:
		return fault.WithKind(fault.KindProtocol, fmt.Errorf("message of unknown type %q in the replication stream", kind))
	}
}

func (s *session) copyData(ctx context.Context, body []byte) error {
	if len(body) == 0 {
		return protocolError(lsn.LSN(s.received.Load()), errors.New("empty CopyData message"))
	}
	switch body[0] {
	case 'w':
		m, err := pgoutput.ParseWALData(body[1:])
		if err != nil {
			return protocolError(lsn.LSN(s.received.Load()), err)
		}
		s.advance(m.Start)
		return s.change(ctx, m)
	case 'k':
		k, err := pgoutput.ParseKeepalive(body[1:])
		if err != nil {
			return protocolError(lsn.LSN(s.received.Load()), err)
		}
		return s.keepalive(ctx, k)
	default:
		return protocolError(lsn.LSN(s.received.Load()), fmt.Errorf("replication message of unknown type %q", body[0]))
	}
}

func protocolError(at lsn.LSN, err error) error {
	return fault.WithKind(fault.KindProtocol, fmt.Errorf("replication stream at %s: %w", at, err))
}

func (s *session) advance(lsn lsn.LSN) {
	if uint64(lsn) > s.received.Load() {
		s.received.Store(uint64(lsn))
	}
}

// change handles one pgoutput message.
func (s *session) change(ctx context.Context, m pgoutput.WALData) error {
	switch m.Data[0] {
	case pgoutput.MsgBegin:
		b, err := pgoutput.ParseBegin(m.Data)
		if err != nil {
			return protocolError(m.Start, err)
		}
		if s.tx != nil {
			return protocolError(m.Start, errors.New("a transaction begins inside another one"))
		}
		return s.begins(b)
	case pgoutput.MsgCommit:
		return s.commit(ctx, m)
	case pgoutput.MsgRelation:
		rel, err := pgoutput.ParseRelation(m.Data)
		if err != nil {
			return protocolError(m.Start, err)
		}
		s.pending[rel.OID] = rel
		return nil
	case pgoutput.MsgInsert, pgoutput.MsgUpdate, pgoutput.MsgDelete:
		if s.passing {
			return nil
		}
		oid, err := pgoutput.RelationOf(m.Data)
		if err != nil {
			return protocolError(m.Start, err)
		}
		return s.row(ctx, m, oid)
	case pgoutput.MsgTruncate:
		if s.passing {
			return nil
		}
		oids, err := pgoutput.ParseTruncate(m.Data)
		if err != nil {
			return protocolError(m.Start, err)
		}
		for _, oid := range oids {
			if err := s.row(ctx, m, oid); err != nil {
				return err
			}
		}
		return nil
	case pgoutput.MsgMessage:
		return s.message(ctx, m)
	case pgoutput.MsgOrigin, pgoutput.MsgType:
		return nil
	default:
		return protocolError(m.Start, fmt.Errorf("pgoutput message of unknown type %q", m.Data[0]))
	}
}

// commit ends a transaction. There is no position after it before its end.
func (s *session) commit(ctx context.Context, m pgoutput.WALData) error {
	c, err := pgoutput.ParseCommit(m.Data)
	if err != nil {
		return protocolError(m.Start, err)
	}
	if s.tx == nil {
		return protocolError(m.Start, errors.New("a commit without a transaction"))
	}
	s.advance(c.End)
	if s.passing {
		return s.passed(c)
	}
	if s.index > 0 || s.skip == 0 {
		s.skip = 0
		at := Position{At: c.End, Last: s.end.Last, XID: s.end.XID}
		if s.index > 0 { // PostgreSQL 14 sends those without a change for us too, which prove nothing
			at.Last, at.XID = c.End, s.tx.XID
		}
		s.seg.Commit, s.seg.CommitTime = at, s.tx.CommitTime
		s.end = Position{At: max(s.end.At, at.At), Last: at.Last, XID: at.XID}
	}
	err = s.flush(ctx)
	s.tx = nil
	return err
}

// keepalive handles the server's sign of life. Between transactions its position is one that everything before has been
// sent for: the server decodes in log order and sends a transaction when it reads its commit record, so a transaction
// that is still open commits after the position and is sent whole after a restart there. Inside a transaction it says
// nothing.
func (s *session) keepalive(ctx context.Context, k pgoutput.Keepalive) error {
	if k.Reply {
		s.r.wake()
	}
	if s.tx != nil {
		return nil
	}
	s.advance(k.End)
	if s.proof.Last != 0 {
		if k.End >= s.proof.Last {
			return s.unproved()
		}
		return nil
	}
	if s.skip > 0 {
		// A position without the count of what is delivered of the transaction that is still to come would repeat it.
		return nil
	}
	end := lsn.LSN(s.r.serverEnd.Load())
	caughtUp := end != 0 && k.End >= end
	if k.End <= s.end.At && !caughtUp {
		return nil
	}
	now := s.wire.ReadAt
	wanted := lsn.LSN(s.r.wanted.Load())
	if now.Sub(s.idleAt) < idleInterval && (k.End < wanted || s.end.At >= wanted) {
		s.ask.Store(true) // the answer repeats the position, a little later
		return nil
	}
	s.idleAt = now
	if k.End > s.end.At {
		s.end.At = k.End
		s.seg.Commit = s.end
	}
	s.seg.CaughtUp = caughtUp
	return s.flush(ctx)
}

// idleInterval is the shortest time between two segments that only move the position.
const idleInterval = 100 * time.Millisecond

// flush sends the segment that has gathered, if it says anything.
func (s *session) flush(ctx context.Context) error {
	if s.rows == nil && s.seg.Commit == nil && !s.seg.CaughtUp {
		return nil // the bytes count with the next one
	}
	seg := s.seg
	seg.Source, seg.ReadAt = s.source, s.wire.ReadAt
	if s.rows != nil {
		seg.Rows = s.rows
	}
	if s.tx != nil {
		seg.CommitTime = s.tx.CommitTime
	}
	s.seg, s.rows = coordinator.Segment{}, nil
	return s.send(ctx, seg)
}

func (s *session) send(ctx context.Context, seg coordinator.Segment) error {
	select {
	case s.out <- seg:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
