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

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// query handles a query event: the frame of a transaction, or a statement that is logged as text.
func (s *session) query(ctx context.Context, h eventHeader, body []byte, start uint64, now time.Time) error {
	c := cursor{b: body}
	c.take(8)
	schemaLen := int(c.uint(1))
	c.take(2)
	vars := c.take(int(c.uint(2)))
	db := string(c.take(schemaLen))
	c.take(1)
	if c.short {
		return s.protocolError("%s: %w", h.kind, errTruncated)
	}
	text := c.b
	if h.kind == replication.MARIADB_QUERY_COMPRESSED_EVENT {
		var err error
		if text, err = inflateMaria(text); err != nil {
			return s.protocolError("%s: %w", h.kind, err)
		}
	}
	t := s.tx
	if t == nil {
		return s.protocolError("a statement outside a transaction: the server writes no GTID events, which every supported one does")
	}
	st := parseStatement(text)
	switch st.kind {
	case statementBegin:
		t.explicit = true
		return nil
	case statementCommit:
		return s.commit(ctx, now)
	case statementRollback:
		if s.held != nil || t.index > 0 {
			s.log.logger.Warnf("The transaction that ends at %s was rolled back after it had changed tables without transactions; "+
				"events of transactional tables in it describe changes that were undone", s.place())
		}
		return s.commit(ctx, now)
	case statementTruncate:
		if err := s.truncate(ctx, t, st, db, start, now); err != nil {
			return err
		}
	case statementData:
		if err := s.statementData(st, db); err != nil {
			return err
		}
	case statementXAStart:
		t.explicit, t.xa = true, true
		return nil
	case statementXACommit, statementXARollback:
		if err := s.endXA(ctx, st); err != nil {
			return err
		}
	case statementNeutral:
	case statementOther:
		if err := s.ddl(ctx, text, db, parseQueryVars(vars, s.flavor), start, now); err != nil {
			return err
		}
	}
	if t.explicit {
		return nil
	}
	return s.commit(ctx, now)
}

// statementData refuses changes of captured tables that are logged as statements: their rows are not in the log.
func (s *session) statementData(st statement, db string) error {
	if st.db != "" {
		db = st.db
	}
	if st.table != "" && !s.filter.captures(db, st.table) {
		return nil
	}
	what := fmt.Sprintf("the change of table %s.%s", db, st.table)
	if st.table == "" {
		what = "a change of tables that cannot be told, in database " + db + ","
	}
	return coordinator.WithKind(coordinator.KindProtocol, fmt.Errorf("%s that ends at %s is logged as a statement, without its rows: a "+
		"session uses binlog_format=STATEMENT or MIXED; SET GLOBAL binlog_format = 'ROW', take a new snapshot of the table and start "+
		"behind this place", what, s.place()))
}

// load handles LOAD DATA that is logged as a statement (MySQL source, Execute_load_query_event).
func (s *session) load(ctx context.Context, h eventHeader, body []byte, now time.Time) error {
	c := cursor{b: body}
	c.take(8)
	dbLen := int(c.uint(1))
	c.take(2)
	varsLen := int(c.uint(2))
	c.take(8)
	fileEnd := int(c.uint(4)) // in the text: behind the name of the file
	c.take(1 + varsLen)
	db := string(c.take(dbLen))
	c.take(1)
	if c.short || fileEnd > len(c.b) {
		return s.protocolError("%s: %w", h.kind, errTruncated)
	}
	if s.tx == nil {
		return s.protocolError("%s outside a transaction", h.kind)
	}
	if err := s.statementData(parseLoad(c.b[fileEnd:]), db); err != nil {
		return err
	}
	if s.tx.explicit {
		return nil
	}
	return s.commit(ctx, now)
}

// truncate makes an event of TRUNCATE TABLE.
func (s *session) truncate(ctx context.Context, t *transaction, st statement, db string, start uint64, now time.Time) error {
	if st.db != "" {
		db = st.db
	}
	if err := s.count(t); err != nil {
		return err
	}
	t.index++
	if !s.filter.captures(db, st.table) || s.skip >= t.index {
		return nil
	}
	table, err := s.tableByName(ctx, db, st.table)
	if err != nil {
		return err
	}
	s.name(t)
	return s.hold(ctx, &tableSegment{event: change.Event{
		Op: change.Truncate, Table: table, Index: t.index, Pos: start,
		Origin: &change.Origin{Tx: t.tx, ReadAt: now, Snapshot: change.SnapshotFalse, File: s.file},
	}}, now)
}

// tableByName returns the table that a statement names: as its rows were last seen, else as its shape is known, else without
// columns.
func (s *session) tableByName(ctx context.Context, db, name string) (*change.Table, error) {
	if t := s.schemas.lastSeen(db + "." + name); t != nil {
		return t, nil
	}
	def, err := s.schemas.definition(ctx, db, name)
	if err != nil {
		return nil, err
	}
	if def == nil {
		return &change.Table{Source: s.log.cfg.source, Database: db, Name: name}, nil
	}
	return s.schemas.tableOf(tableName{db, name}, def), nil
}

// maxPayloadWindow bounds the memory of decompression.
const maxPayloadWindow = 64 << 20

// payload reads the events in a TRANSACTION_PAYLOAD_EVENT, MySQL's compressed transaction, one after the other: it is not held
// in memory whole. They have no place of their own; theirs is the payload's.
func (s *session) payload(ctx context.Context, body []byte, start uint64, now time.Time) error {
	c := cursor{b: body}
	var compression uint64
	for {
		field := c.lenenc()
		if field == replication.OTW_PAYLOAD_HEADER_END_MARK || c.short {
			break
		}
		value := cursor{b: c.take(c.length())}
		if field == replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD {
			compression = value.lenenc()
		}
	}
	if c.short {
		return s.protocolError("compressed transaction: %w", errTruncated)
	}
	in := io.Reader(bytes.NewReader(c.b))
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
		data, err := nextEvent(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.protocolError("compressed transaction: %w", err)
		}
		h, inner, err := parseHeader(data)
		if err != nil {
			return s.protocolError("compressed transaction: %w", err)
		}
		if h.kind == replication.TRANSACTION_PAYLOAD_EVENT {
			return s.protocolError("compressed transaction: one inside another")
		}
		if err := s.dispatch(ctx, h, inner, start, now); err != nil {
			return err
		}
	}
}
