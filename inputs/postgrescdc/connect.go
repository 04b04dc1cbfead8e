package postgrescdc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/loopback"
)

// open checks the server's preconditions, makes what is missing, and starts the stream after from.
func (r *replication) open(ctx context.Context, from checkpoint.Token) (_ *session, err error) {
	saved, err := tokenPosition(from)
	if err != nil {
		return nil, fault.WithKind(fault.KindOther, fmt.Errorf("saved position %s: %w", from, err))
	}
	side, err := r.cfg.connect(ctx)
	if err != nil {
		return nil, classifyConnect(err)
	}
	defer func() {
		if err != nil {
			catalog.Close(ctx, side)
		}
	}()
	r.warnPlain(side.PgConn().Conn())
	have, err := r.preflight(ctx, side, from.Source, saved)
	if err != nil {
		return nil, err
	}
	before := have.state
	if err := r.ensurePublication(ctx, side, have); err != nil {
		return nil, err
	}
	if err := r.appearedSince(ctx, side, before, have); err != nil {
		return nil, err
	}
	repl, w, err := r.connectReplication(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catalog.CloseTimeout)
			defer cancel()
			_ = repl.Close(ctx) // the first error is the one that counts
		}
	}()
	encoding := repl.ParameterStatus("server_encoding")
	if encoding == value.EncodingUnknown {
		// Bytes as they are: the server would end the stream at the first text that is not UTF-8.
		if err := repl.Exec(ctx, "SET client_encoding TO "+value.EncodingUnknown).Close(); err != nil {
			return nil, classify(fmt.Errorf("setting the encoding: %w", err))
		}
	}
	s := &session{
		r: r, wire: w, side: side, watch: &watcher{r: r, role: have.role, state: have.state},
		trust:     r.cfg.values.Trust(encoding),
		relations: map[uint32]*shape.Relation{}, pending: map[uint32]pgoutput.Relation{},
		messages: shape.MessageRelation(change.MessageTable(r.schemas.Source, r.schemas.Database)),
		cat: catalog.New(r.cfg.connect, func(end lsn.LSN) { r.serverEnd.Store(uint64(end)) }, func(ctx context.Context, conn *pgx.Conn) {
			r.schemas.Watch(ctx, conn)
			r.nudge(ctx, conn)
		}),
	}
	if s.source, err = r.identify(ctx, repl, from.Source, saved); err != nil {
		return nil, err
	}
	if err := r.startPosition(ctx, repl, s, have, saved); err != nil {
		return nil, err
	}
	r.schemas.Reset(s.source)
	if err := r.start(ctx, s, repl, r.cfg.wanted().Names(have.state)); err != nil {
		return nil, err
	}
	if end, e := catalog.ServerEnd(ctx, side); e == nil {
		r.serverEnd.Store(uint64(end))
	}
	return s, nil
}

// ensurePublication does what preflight has planned, and looks at what there is then.
func (r *replication) ensurePublication(ctx context.Context, conn *pgx.Conn, have *preconditions) error {
	if len(have.plan.Statements) == 0 {
		return nil
	}
	err := r.publish(ctx, conn, have.plan, have.state)
	if err != nil {
		return err
	}
	have.state, err = r.cfg.wanted().Look(ctx, conn, have.role.Version)
	return classify(err)
}

// start sends START_REPLICATION and takes the connection over from the driver.
func (r *replication) start(ctx context.Context, s *session, repl *pgconn.PgConn, publications string) error {
	err := pglogrepl.StartReplication(ctx, repl, publication.Ident(r.cfg.slot), pglogrepl.LSN(s.start), pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'", "messages 'true'", "publication_names " + publication.Literal(publications),
		},
	})
	if err != nil {
		return r.streamError(err, s.start)
	}
	conn, err := repl.Hijack()
	if err != nil {
		return fmt.Errorf("taking over the replication connection: %w", err)
	}
	s.conn = conn
	s.wire.Begin(conn.Conn, r.cfg.readTimeout)
	return conn.Conn.SetDeadline(time.Time{})
}

// connectReplication opens a replication connection whose bytes are read through the returned wire.
func (r *replication) connectReplication(ctx context.Context) (*pgconn.PgConn, *wire.Stream, error) {
	fresh, err := r.cfg.fresh()
	if err != nil {
		return nil, nil, err
	}
	config := &fresh.Config
	config.RuntimeParams["replication"] = "database"
	config.RuntimeParams["client_min_messages"] = "notice" // by warnings the server tells of rows that it leaves out
	var w *wire.Stream
	var records *wire.RecordConn
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		records = wire.NewRecordConn(conn)
		return records, nil
	}
	// Called for each attempt; the last one is the one that succeeded.
	config.BuildFrontend = func(src io.Reader, dst io.Writer) *pgproto3.Frontend {
		w = wire.NewStream(src, records)
		return pgproto3.NewFrontend(w, dst)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, nil, classifyConnect(err)
	}
	return conn, w, nil
}

// startPosition works out where the stream starts, making the slot when there is none and nothing is saved.
func (r *replication) startPosition(ctx context.Context, repl *pgconn.PgConn, s *session, have *preconditions, saved Position) error {
	confirmed, err := r.slotPosition(ctx, repl, have)
	if err != nil {
		return err
	}
	if saved.At == 0 {
		s.start = confirmed
		s.end = Position{At: confirmed, Last: confirmed}
		return nil
	}
	s.start, s.proof = resumeAt(saved, confirmed)
	s.end = saved
	// What an earlier session has confirmed says nothing about a log that is not read up to there. And not all that was read is saved.
	r.startAt(s.start, s.proof.Last != 0)
	return nil
}

func asPgError(err error) (*pgconn.PgError, bool) {
	var pg *pgconn.PgError
	ok := errors.As(err, &pg)
	return pg, ok
}

// classify marks an error of the server with its kind.
func classify(err error) error {
	pg, ok := asPgError(err)
	switch {
	case !ok:
		return err
	case strings.HasPrefix(pg.Code, "28"):
		return fault.WithKind(fault.KindAuth, err)
	case pg.Code == "42501":
		return fault.WithKind(fault.KindPermission, err)
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57P"), pg.Code == "55006":
		return fault.WithKind(fault.KindConnect, err)
	default:
		return err
	}
}

// classifyConnect marks an error of opening a connection. The driver's text has user, database and host, no password.
func classifyConnect(err error) error {
	err = fmt.Errorf("connecting: %w", err)
	if errors.Is(err, wire.ErrCleartext) {
		return fault.WithKind(fault.KindAuth, err)
	}
	if _, ok := asPgError(err); ok {
		return classify(err)
	}
	if errors.Is(err, context.Canceled) || fault.KindOf(err) == fault.KindTimeout {
		return err
	}
	return fault.WithKind(fault.KindConnect, err)
}

// warnPlain says that the password of a connection goes to another machine without TLS.
func (r *replication) warnPlain(conn net.Conn) {
	if r.cfg.conn.Password == "" {
		return
	}
	if a, ok := conn.(*wire.AuthConn); ok {
		conn = a.Conn
	}
	address := conn.RemoteAddr()
	if _, encrypted := conn.(*tls.Conn); encrypted || loopback.Addr(address) {
		return
	}
	r.warnOnce(fmt.Sprintf("the connection to %s has no TLS: everybody on the way can read the rows, and attack the password: set tls.enabled, or "+
		"sslmode=verify-full in the dsn", address))
}
