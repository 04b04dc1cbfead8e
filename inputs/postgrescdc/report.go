package postgrescdc

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
)

// reportSpacing is the shortest time between two status updates.
const reportSpacing = 100 * time.Millisecond

// report tells the server where we are: when the confirmed position has moved, when the server asks, and every
// status_interval. It is the only writer on the connection, so a blocked sink or a slow catalogue never keeps a status
// update back. The periodic update asks for an answer, by which a dead connection is noticed.
func (s *session) report(ctx context.Context) error {
	interval := time.NewTicker(s.r.cfg.statusInterval)
	defer interval.Stop()
	spacing := time.NewTimer(0)
	defer spacing.Stop()
	poll := time.NewTicker(catalog.EndInterval)
	defer poll.Stop()
	var buf []byte
	for {
		ask := false
		select {
		case <-ctx.Done():
			return nil
		case <-interval.C:
			ask = true
		case <-s.r.kick:
			ask = s.r.asks.Swap(false)
		case <-poll.C:
			if !s.ask.Swap(false) {
				continue
			}
			ask = true
		}
		now := time.Now()
		buf = pgoutput.AppendStatus(buf[:0], lsn.LSN(s.received.Load()), lsn.LSN(s.r.confirmed.Load()), now, ask)
		if err := s.write(buf, s.r.cfg.readTimeout); err != nil {
			return fmt.Errorf("reporting the position to the server: %w", err)
		}
		spacing.Reset(reportSpacing)
		select {
		case <-spacing.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *session) write(b []byte, timeout time.Duration) error {
	if err := s.conn.Conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := s.conn.Conn.Write(b)
	return err
}

// interrupt ends a read that is under way, and every later one.
func (s *session) interrupt() error {
	s.wire.Stop()
	return nil
}

// close leaves the session. The server frees the slot when it reads the farewell; it may be writing to us until then, so
// what it sends is read and dropped.
func (s *session) close() {
	buf := pgoutput.AppendStatus(nil, lsn.LSN(s.received.Load()), lsn.LSN(s.r.confirmed.Load()), time.Now(), false)
	buf = append(buf, pgoutput.EndOfSession...)
	if s.write(buf, catalog.CloseTimeout) == nil {
		if s.conn.Conn.SetReadDeadline(time.Now().Add(catalog.CloseTimeout)) == nil {
			drop := make([]byte, wire.ChunkSize)
			for {
				if _, err := s.conn.Conn.Read(drop); err != nil {
					break
				}
			}
		}
	}
	_ = s.conn.Conn.Close() // the session is over either way
}

// serverError makes an error of an ErrorResponse.
func (s *session) serverError(body []byte) error {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return protocolError(lsn.LSN(s.received.Load()), err)
	}
	return s.r.streamError(pgconn.ErrorResponseToPgError(&m), lsn.LSN(s.received.Load()))
}

// notice handles what the server says beside the stream. Since PostgreSQL 18 it goes on without a publication that does not exist
// where it reads, and without the rows that this one would publish; before, that was an error.
func (s *session) notice(body []byte) error {
	var m pgproto3.NoticeResponse
	if err := m.Decode(body); err != nil {
		return protocolError(lsn.LSN(s.received.Load()), err)
	}
	e := pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(&m))
	if e.Code == codeNotInState && e.Routine == "LoadPublications" {
		return s.r.noPublication(e, lsn.LSN(s.received.Load()))
	}
	if e.SeverityUnlocalized == "WARNING" {
		s.r.warnOnce("the server says: " + e.Message)
	}
	return nil
}

// The SQLSTATE codes that tell of a lost position.
const (
	codeUndefinedObject = "42704" // a publication that is younger than the changes
	codeNotInState      = "55000" // the slot was invalidated
	codeUndefinedFile   = "58P01" // a segment of the log was removed
)

// streamError explains an error that the server sent in place of the stream.
func (r *replication) streamError(err error, at lsn.LSN) error {
	pg, ok := asPgError(err)
	if !ok {
		return err
	}
	switch pg.Code {
	case codeUndefinedObject:
		return r.noPublication(err, at)
	case codeNotInState:
		return positionLost("the server does not read on with the slot %s at %s: %w: %s", r.cfg.slot, at, err, r.goOnWithout())
	case codeUndefinedFile:
		return positionLost("the server no longer has the log at %s: %w: %s", at, err, r.goOnWithout())
	default:
		return classify(fmt.Errorf("replication stream at %s: %w", at, err))
	}
}

func (r *replication) noPublication(err error, at lsn.LSN) error {
	return positionLost("the publication %s did not exist when the changes after %s were made, so the server does not send them: it was "+
		"dropped and made again, or is younger than the slot %s: %w: %s", r.cfg.publication, at, r.cfg.slot, err, r.goOnWithout())
}

func xidText(xid uint32) string { return strconv.FormatUint(uint64(xid), 10) }
