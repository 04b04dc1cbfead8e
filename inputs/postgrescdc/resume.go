package postgrescdc

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// A position belongs to a log, not to a server. This file makes sure that the server's log is the one that was read: by its system
// identifier and timeline, by its end, and by the newest transaction that was read.

func positionLost(format string, args ...any) error {
	return fault.WithKind(fault.KindPositionLost,
		fmt.Errorf("%w: %w", fault.ErrPositionLost, fmt.Errorf(format, args...)))
}

// goOnWithout says how to go on when the log does not have the changes after the saved position.
func (r *replication) goOnWithout() string {
	return fmt.Sprintf("to go on without them, stop the pipeline, %s, SELECT pg_drop_replication_slot(%s) if the slot is there, start the "+
		"pipeline, and load the captured tables again at the consumers", r.reset(), publication.Literal(r.cfg.slot))
}

// goOnAtSlot says how to go on when the server has another log than the one that was read, with a slot of its own in it.
func (r *replication) goOnAtSlot() string {
	return fmt.Sprintf("connect to the server that was read before; or, if this one is the right one now, stop the pipeline, %s, start it, "+
		"and it goes on where the slot %s is on this server; changes that were delivered and that this server does not have are not taken "+
		"back, so load the captured tables again at the consumers", r.reset(), r.cfg.slot)
}

func (r *replication) reset() string {
	key := r.cfg.checkpointKey
	if key == "" {
		key = r.cfg.name
	}
	return "`deltaforge checkpoint reset " + key + "`"
}

func (r *replication) otherServer(saved, now string, at Position) error {
	return positionLost("position %s belongs to the server with system identifier %s, this one is %s: %s", at.At, saved, now, r.goOnAtSlot())
}

// identify returns the server's identity, and makes sure that its log has reached the saved position on the way that was read.
func (r *replication) identify(ctx context.Context, repl *pgconn.PgConn, saved string, at Position) (string, error) {
	sys, err := pglogrepl.IdentifySystem(ctx, repl)
	if err != nil {
		return "", classify(fmt.Errorf("identifying the server: %w", err))
	}
	source := sys.SystemID + "/" + strconv.Itoa(int(sys.Timeline))
	if saved == "" {
		return source, nil
	}
	if saved != source {
		if err := r.checkTimeline(ctx, repl, sys, saved, at); err != nil {
			return "", err
		}
	}
	if end := lsn.LSN(sys.XLogPos); end < at.needs() {
		return "", r.tooShort(ctx, repl, end, at)
	}
	return source, nil
}

// checkTimeline makes sure that the log of another timeline than the saved one has the saved position.
func (r *replication) checkTimeline(ctx context.Context, repl *pgconn.PgConn, sys pglogrepl.IdentifySystemResult, saved string, at Position) error {
	id, timeline, _ := strings.Cut(saved, "/")
	if id != sys.SystemID {
		return r.otherServer(id, sys.SystemID, at)
	}
	old, err := strconv.ParseInt(timeline, 10, 32)
	if err != nil {
		return fmt.Errorf("saved source %q: the timeline is not a number", saved)
	}
	var history pglogrepl.TimelineHistoryResult
	if int64(sys.Timeline) > old {
		if history, err = pglogrepl.TimelineHistory(ctx, repl, sys.Timeline); err != nil {
			return classify(fmt.Errorf("reading the history of timeline %d: %w", sys.Timeline, err))
		}
	}
	end, ok := timelineEnd(history.Content, old)
	if !ok {
		return positionLost("position %s is on timeline %d, which is not in the history of the server's timeline %d: %s", at.At, old,
			sys.Timeline, r.goOnAtSlot())
	}
	if at.needs() > end {
		return positionLost("position %s on timeline %d is after %s, where the server left that timeline when it was promoted: changes were "+
			"delivered that this server does not have: %s", at.needs(), old, end, r.goOnAtSlot())
	}
	return nil
}

// tooShort makes the error of a server whose log ends before a position that was read. A standby gets there.
func (r *replication) tooShort(ctx context.Context, repl *pgconn.PgConn, end lsn.LSN, at Position) error {
	results, err := repl.Exec(ctx, "SELECT pg_is_in_recovery()").ReadAll()
	if err != nil {
		return classify(fmt.Errorf("asking whether the server is a standby: %w", err))
	}
	if len(results) > 0 && len(results[0].Rows) > 0 && string(results[0].Rows[0][0]) == "t" {
		return fault.WithKind(fault.KindConnect, fmt.Errorf("the standby's log ends at %s, before the saved position %s: waiting "+
			"until it has come there; does it receive the primary's log?", end, at.At))
	}
	return positionLost("the server's log ends at %s, before %s, up to where it was read: the server was put back to an older state, or this "+
		"is an old copy of it: %s", end, at.needs(), r.goOnAtSlot())
}

// timelineEnd finds, in a timeline history file, where the server left a timeline.
func timelineEnd(history []byte, timeline int64) (lsn.LSN, bool) {
	for line := range bytes.Lines(history) {
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[0], 10, 32); err != nil || n != timeline {
			continue
		}
		end, err := lsn.ParseServer(f[1])
		return end, err == nil
	}
	return 0, false
}

// resumeAt returns where the stream starts when the slot is at confirmed, and the transaction that the log must show first, if any.
//
// A slot that is not at the saved position missed the last confirmations, as after a crash of the server; or the server was put back
// to an older state, or is a copy of the one that was read. So the stream starts at the slot, and everything up to the newest
// transaction that was read is left out, once that transaction has been seen. Between that one and the saved position the right log
// has nothing for us; another log has what must not be passed over.
func resumeAt(saved Position, confirmed lsn.LSN) (start lsn.LSN, proof Position) {
	switch {
	case saved.Last == 0 || confirmed >= saved.At:
		return saved.At, Position{}
	case saved.XID != 0 && confirmed < saved.Last:
		return confirmed, saved
	default:
		return confirmed, Position{}
	}
}

// begins takes notice of a transaction. One that comes before the proof is left out.
func (s *session) begins(b pgoutput.Begin) error {
	s.tx = &change.Tx{ID: xidText(b.XID), Position: b.Final.String(), CommitTime: b.Commit, XID: b.XID}
	s.index, s.final = 0, b.Final
	if s.proof.Last == 0 {
		return nil
	}
	if b.Final >= s.proof.Last {
		return s.unproved()
	}
	s.passing = true
	return nil
}

// passed ends a transaction that was left out.
func (s *session) passed(c pgoutput.Commit) error {
	xid := s.tx.XID
	s.tx, s.passing = nil, false
	switch {
	case c.End == s.proof.Last && xid == s.proof.XID:
		s.proof = Position{}
		s.r.proved()
		return nil
	case c.End >= s.proof.Last:
		return s.unproved()
	default:
		return nil
	}
}

// unproved is the error of a log that has come to where the newest transaction that was read ought to be, without it.
func (s *session) unproved() error {
	return positionLost("the server's log does not have the transaction %d, which was read and ends at %s: the server was put back to an older "+
		"state and has written on, or this is a copy of the one that was read: %s", s.proof.XID, s.proof.Last, s.r.goOnAtSlot())
}
