package postgrescdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// What the reading goroutine does with the changes in a transaction.

// row takes one change of a table, unless it is delivered already or the table is not ours.
func (s *session) row(ctx context.Context, m walData, oid uint32) error {
	if s.tx == nil {
		return protocolError(m.start, errors.New("a row outside of a transaction"))
	}
	was := s.relations[oid]
	rel, err := s.relation(ctx, oid)
	if err != nil {
		return fmt.Errorf("table of the change at %s: %w", m.start, err)
	}
	s.index++
	if rel != was && rel.captured && s.r.cfg.schemaChanges {
		if err := s.shapeChanges(ctx, m, rel); err != nil {
			return err
		}
	}
	if s.index <= s.skip || !rel.captured {
		return nil
	}
	return s.add(ctx, rowMsg{rel: rel, body: m.data, lsn: m.start, index: s.index})
}

// shapeChanges takes notice of the shape that the row at s.index is the first to have, and sends what has changed. The change stands
// after the row before, whose number it shares, so that the numbers of rows are the same without it.
func (s *session) shapeChanges(ctx context.Context, m walData, rel *relation) error {
	changes := s.r.history.see(versionOf(rel.msg, rel.table, place{s.final, s.index}))
	if s.index <= s.skip {
		return nil
	}
	for i, c := range changes {
		if err := s.add(ctx, rowMsg{rel: rel, lsn: m.start, index: s.index - 1, sub: i + 1, change: c}); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) add(ctx context.Context, m rowMsg) error {
	if s.rows == nil {
		s.rows = &rows{tx: s.tx, readAt: s.wire.readAt, trust: s.trust}
	}
	s.rows.add(m)
	if len(s.rows.msgs) >= maxSegmentRows || s.seg.Bytes >= maxSegmentBytes {
		return s.flush(ctx)
	}
	return nil
}

// message takes a logical message. One outside of transactions is a transaction of its own: the server sends it between
// two, and leaves it out when it resumes after it.
func (s *session) message(ctx context.Context, m walData) error {
	msg, err := parseLogicalMessage(m.data)
	if err != nil {
		return protocolError(m.start, err)
	}
	if s.passing || s.proof.Last != 0 && !msg.transactional && msg.lsn < s.proof.Last {
		return nil
	}
	if msg.transactional {
		if s.tx == nil {
			return protocolError(m.start, errors.New("a transactional message outside of a transaction"))
		}
		s.index++
		if s.index <= s.skip || !s.r.cfg.messages {
			return nil
		}
		return s.add(ctx, rowMsg{rel: s.messages, body: m.data, lsn: m.start, index: s.index})
	}
	if s.tx != nil {
		return protocolError(m.start, errors.New("a non-transactional message inside a transaction"))
	}
	skipped := s.skip > 0
	s.skip = 0
	if s.r.cfg.messages && !skipped {
		s.tx = &change.Tx{Position: msg.lsn.String(), CommitTime: s.wire.readAt.UTC()}
		err = s.add(ctx, rowMsg{rel: s.messages, body: m.data, lsn: m.start, index: 1})
		s.tx = nil
		if err != nil {
			return err
		}
	}
	s.advance(msg.lsn)
	at := Position{At: msg.lsn, Last: s.end.Last, XID: s.end.XID}
	s.end.At = max(s.end.At, at.At)
	s.seg.Commit = at
	return s.flush(ctx)
}

// relation returns the newest shape of a table, looking it up when a Relation message has announced a new one.
func (s *session) relation(ctx context.Context, oid uint32) (*relation, error) {
	if len(s.pending) > 0 {
		if msg, ok := s.pending[oid]; ok {
			var rel *relation
			err := s.cat.do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
				rel, err = s.r.schemas.build(ctx, conn, msg, s.final)
				return err
			})
			if err != nil {
				return nil, fault.WithTable(msg.schema+"."+msg.name, fmt.Errorf("%s.%s: %w", msg.schema, msg.name, err))
			}
			delete(s.pending, oid)
			s.relations[oid] = rel
		}
	}
	rel := s.relations[oid]
	if rel == nil {
		return nil, fault.WithKind(fault.KindProtocol, fmt.Errorf("relation %d was not announced", oid))
	}
	if rel.holds(s.final) {
		return rel, nil
	}
	err := s.cat.do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		rel, err = s.r.schemas.settle(ctx, conn, rel, s.final)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rel.table.FullName(), err)
	}
	s.relations[oid] = rel
	return rel, nil
}
