package mysqlcdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// query handles a query event: the frame of a transaction, or a statement that is logged as text.
func (s *session) query(ctx context.Context, h binlog.Header, body []byte, start uint64, now time.Time) error {
	c := binlog.Cursor{Rest: body}
	c.Take(8)
	schemaLen := int(c.Uint(1))
	c.Take(2)
	vars := c.Take(int(c.Uint(2)))
	db := string(c.Take(schemaLen))
	c.Take(1)
	if c.Short {
		return s.protocolError("%s: %w", h.Kind, binlog.ErrTruncated)
	}
	text := c.Rest
	if h.Kind == replication.MARIADB_QUERY_COMPRESSED_EVENT {
		var err error
		if text, err = binlog.InflateMaria(text); err != nil {
			return s.protocolError("%s: %w", h.Kind, err)
		}
	}
	t := s.tx
	if t == nil {
		return s.protocolError("a statement outside a transaction: the server writes no GTID events, which every supported one does")
	}
	st := statement.Parse(text)
	switch st.Kind {
	case statement.Begin:
		t.explicit = true
		return nil
	case statement.Commit:
		return s.commit(ctx, now)
	case statement.Rollback:
		if s.held != nil || t.index > 0 {
			s.log.logger.Warnf("The transaction that ends at %s was rolled back after it had changed tables without transactions; "+
				"events of transactional tables in it describe changes that were undone", s.place())
		}
		return s.commit(ctx, now)
	case statement.Truncate:
		if err := s.truncate(ctx, t, st, db, start, now); err != nil {
			return err
		}
	case statement.Data:
		if err := s.statementData(st, db); err != nil {
			return err
		}
	case statement.XAStart:
		t.explicit, t.xa = true, true
		return nil
	case statement.XACommit, statement.XARollback:
		if err := s.endXA(ctx, st); err != nil {
			return err
		}
	case statement.Neutral:
	case statement.Other:
		if err := s.ddl(ctx, text, db, binlog.ParseQueryVars(vars, s.flavor), start, now); err != nil {
			return err
		}
	}
	if t.explicit {
		return nil
	}
	return s.commit(ctx, now)
}

// statementData refuses changes of captured tables that are logged as statements: their rows are not in the log.
func (s *session) statementData(st statement.Statement, db string) error {
	if st.DB != "" {
		db = st.DB
	}
	if st.Table != "" && !s.filter.captures(db, st.Table) {
		return nil
	}
	what := fmt.Sprintf("the change of table %s.%s", db, st.Table)
	if st.Table == "" {
		what = "a change of tables that cannot be told, in database " + db + ","
	}
	return coordinator.WithKind(coordinator.KindProtocol, fmt.Errorf("%s that ends at %s is logged as a statement, without its rows: a "+
		"session uses binlog_format=STATEMENT or MIXED; SET GLOBAL binlog_format = 'ROW', take a new snapshot of the table and start "+
		"behind this place", what, s.place()))
}

// load handles LOAD DATA that is logged as a statement (MySQL source, Execute_load_query_event).
func (s *session) load(ctx context.Context, h binlog.Header, body []byte, now time.Time) error {
	c := binlog.Cursor{Rest: body}
	c.Take(8)
	dbLen := int(c.Uint(1))
	c.Take(2)
	varsLen := int(c.Uint(2))
	c.Take(8)
	fileEnd := int(c.Uint(4)) // in the text: behind the name of the file
	c.Take(1 + varsLen)
	db := string(c.Take(dbLen))
	c.Take(1)
	if c.Short || fileEnd > len(c.Rest) {
		return s.protocolError("%s: %w", h.Kind, binlog.ErrTruncated)
	}
	if s.tx == nil {
		return s.protocolError("%s outside a transaction", h.Kind)
	}
	if err := s.statementData(statement.ParseLoad(c.Rest[fileEnd:]), db); err != nil {
		return err
	}
	if s.tx.explicit {
		return nil
	}
	return s.commit(ctx, now)
}

// truncate makes an event of TRUNCATE TABLE.
func (s *session) truncate(ctx context.Context, t *transaction, st statement.Statement, db string, start uint64, now time.Time) error {
	if st.DB != "" {
		db = st.DB
	}
	if err := s.count(t); err != nil {
		return err
	}
	t.index++
	if !s.filter.captures(db, st.Table) || s.skip >= t.index {
		return nil
	}
	table, err := s.tableByName(ctx, db, st.Table)
	if err != nil {
		return err
	}
	s.name(t)
	return s.hold(ctx, &row.TableSegment{Event: change.Event{
		Op: change.Truncate, Table: table, Index: t.index, Pos: start,
		Origin: &change.Origin{Tx: t.tx, ReadAt: now, Snapshot: change.SnapshotFalse, File: s.file},
	}}, now)
}

// tableByName returns the table that a statement names: as its rows were last seen, else as its shape is known, else without
// columns.
func (s *session) tableByName(ctx context.Context, db, name string) (*change.Table, error) {
	if t := s.schemas.LastSeen(db + "." + name); t != nil {
		return t, nil
	}
	def, err := s.schemas.Definition(ctx, db, name)
	if err != nil {
		return nil, err
	}
	if def == nil {
		return &change.Table{Source: s.log.cfg.source, Database: db, Name: name}, nil
	}
	return s.schemas.TableOf(statement.TableName{DB: db, Table: name}, def), nil
}

// maxPayloadWindow bounds the memory of decompression.
const maxPayloadWindow = 64 << 20

// payload reads the events in a TRANSACTION_PAYLOAD_EVENT, MySQL's compressed transaction, one after the other: it is not held
// in memory whole. They have no place of their own; theirs is the payload's.
func (s *session) payload(ctx context.Context, body []byte, start uint64, now time.Time) error {
	c := binlog.Cursor{Rest: body}
	var compression uint64
	for {
		field := c.Lenenc()
		if field == replication.OTW_PAYLOAD_HEADER_END_MARK || c.Short {
			break
		}
		value := binlog.Cursor{Rest: c.Take(c.Length())}
		if field == replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD {
			compression = value.Lenenc()
		}
	}
	if c.Short {
		return s.protocolError("compressed transaction: %w", binlog.ErrTruncated)
	}
	in := io.Reader(bytes.NewReader(c.Rest))
	switch compression {
	case replication.ZSTD:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxPayloadWindow))
		if err != nil {
			return s.protocolError("compressed transaction: %w", err)
		}
		defer z.Close()
		in = z
	case replication.NONE:
	default:
		return s.protocolError("compressed transaction: unknown compression %d", compression)
	}
	for {
		data, err := binlog.NextEvent(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.protocolError("compressed transaction: %w", err)
		}
		h, inner, err := binlog.ParseHeader(data)
		if err != nil {
			return s.protocolError("compressed transaction: %w", err)
		}
		if h.Kind == replication.TRANSACTION_PAYLOAD_EVENT {
			return s.protocolError("compressed transaction: one inside another")
		}
		if err := s.dispatch(ctx, h, inner, start, now); err != nil {
			return err
		}
	}
}
