package postgrescdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/change"
)

// What the reading goroutine does with the changes in a transaction.

// row takes one change of a table, unless it is delivered already or the table is not ours.
func (s *session) row(ctx context.Context, m pgoutput.WALData, oid uint32) error {
	if s.tx == nil {
		return protocolError(m.Start, errors.New("a row outside of a transaction"))
	}
	was := s.relations[oid]
	rel, err := s.relation(ctx, oid)
	if err != nil {
		return fmt.Errorf("table of the change at %s: %w", m.Start, err)
	}
	s.index++
	if rel != was && rel.Captured && s.r.cfg.schemaChanges {
		if err := s.shapeChanges(ctx, m, rel); err != nil {
			return err
		}
	}
	if s.delivered() && !s.r.cfg.transactions || !rel.Captured {
		return nil
	}
	return s.add(ctx, row.Change{Rel: rel, Body: m.Data, LSN: m.Start, Index: s.index, Silent: s.delivered()})
}

// delivered reports whether the event with the index was delivered in an earlier session. Where transactions are counted, it is read again, silently.
func (s *session) delivered() bool { return s.index <= s.skip }

func (s *session) add(ctx context.Context, m row.Change) error {
	if s.rows == nil {
		s.rows = &row.Rows{Tx: s.tx, ReadAt: s.wire.ReadAt, Trust: s.trust}
	}
	s.rows.Add(m)
	if len(s.rows.Msgs) >= maxSegmentRows || s.seg.Bytes >= maxSegmentBytes {
		return s.flush(ctx)
	}
	return nil
}

// message takes a logical message. One outside of transactions is a transaction of its own: the server sends it between
// two, and leaves it out when it resumes after it.
func (s *session) message(ctx context.Context, m pgoutput.WALData) error {
	msg, err := pgoutput.ParseMessage(m.Data)
	if err != nil {
		return protocolError(m.Start, err)
	}
	if s.passing || s.proof.Last != 0 && !msg.Transactional && msg.LSN < s.proof.Last {
		return nil
	}
	if msg.Transactional {
		if s.tx == nil {
			return protocolError(m.Start, errors.New("a transactional message outside of a transaction"))
		}
		s.index++
		if s.delivered() && !s.r.cfg.transactions || !s.r.cfg.messages {
			return nil
		}
		return s.add(ctx, row.Change{Rel: s.messages, Body: m.Data, LSN: m.Start, Index: s.index, Silent: s.delivered()})
	}
	if s.tx != nil {
		return protocolError(m.Start, errors.New("a non-transactional message inside a transaction"))
	}
	skipped := s.skip > 0
	s.skip = 0
	if s.r.cfg.messages && !skipped {
		s.tx = &change.Tx{Position: msg.LSN.String(), CommitTime: s.wire.ReadAt.UTC()}
		err = s.add(ctx, row.Change{Rel: s.messages, Body: m.Data, LSN: m.Start, Index: 1})
		s.tx = nil
		if err != nil {
			return err
		}
	}
	s.advance(msg.LSN)
	at := Position{At: msg.LSN, Last: s.end.Last, XID: s.end.XID}
	s.end.At = max(s.end.At, at.At)
	s.seg.Commit = at
	return s.flush(ctx)
}
