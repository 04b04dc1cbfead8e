package chunk

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// reader implements snapshot.Reader.
type reader struct {
	source *Source
	conn   *connection
	server server
	// main is a connection to the server whose log is streamed, where conn is one to a replica of it; nil: conn is that.
	main       *connection
	mainServer server
	// unbounded says that the server's time for a query has no bound.
	unbounded bool
	view      *view
	held      *rowReader // of a table that is read whole
}

var _ snapshot.Reader = (*reader)(nil)

// Open implements snapshot.Source.
func (s *Source) Open(ctx context.Context) (snapshot.Reader, error) {
	conn, err := open(ctx, s.chunkServer())
	if err != nil {
		return nil, err
	}
	r := &reader{source: s, conn: conn}
	if err := r.prepare(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *reader) prepare(ctx context.Context) error {
	defer r.conn.Interrupt(ctx)()
	var err error
	if r.server, err = inspect(ctx, r.conn.Conn); err != nil {
		return err
	}
	if _, err := r.conn.Query(ctx, settings(r.server.flavor)); err != nil {
		return err
	}
	if _, err := r.conn.Query(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return err
	}
	r.mainServer = r.server
	if r.source.cfg.Replica != nil {
		if err := r.proveReplica(ctx); err != nil {
			return err
		}
	}
	s := r.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shapes == nil {
		if s.shapes, err = newShapes(ctx, s.cfg, &catalog.Catalog{Server: s.chunkServer()}, r.server.flavor); err != nil {
			return err
		}
	}
	return nil
}

// Close implements snapshot.Reader.
func (r *reader) Close() {
	r.conn.Close()
	if r.main != nil {
		r.main.Close()
	}
}

// Read implements snapshot.Reader.
func (r *reader) Read(ctx context.Context, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	defer r.conn.Interrupt(ctx)()
	end, err := r.read(ctx, c, add)
	if err != nil {
		return end, fault.WithTable(c.Table, fmt.Errorf("reading rows of %s: %w", c.Table, err))
	}
	return end, nil
}

func (r *reader) read(ctx context.Context, c snapshot.Chunk, add snapshot.Add) (end snapshot.End, err error) {
	in := r.held
	if in == nil {
		t, err := r.table(ctx, r.source.name(c.Table))
		if err != nil {
			return end, err
		}
		if in, err = r.query(ctx, t, c); err != nil {
			return end, err
		}
	}
	r.held, in.raw = nil, c.Raw
	if end, err = in.rows(ctx, c.Limit, add); err != nil {
		return end, err
	}
	if end.Held {
		r.held = in
		return end, nil
	}
	if !in.table.transactional && r.view != nil {
		// Its rows are visible before they are logged, and no later than the statement ends that locks the table.
		high, err := r.logEnd(ctx)
		if err != nil {
			return end, err
		}
		r.view.high.Store(high)
	}
	_, err = r.conn.Query(ctx, "COMMIT")
	return end, err
}

// table returns how a table is read. It stays locked against statements that change it until the transaction ends.
func (r *reader) table(ctx context.Context, n statement.TableName) (*table, error) {
	_, err := r.conn.Query(ctx, "SELECT 1 FROM "+n.SQL()+" LIMIT 0")
	if err != nil {
		return nil, gone(err)
	}
	rows, err := r.conn.Query(ctx, "SHOW CREATE TABLE "+n.SQL())
	if err != nil {
		return nil, gone(err)
	}
	if len(rows) != 1 || len(rows[0]) < 2 {
		return nil, fault.WithKind(fault.KindProtocol, errors.New("SHOW CREATE TABLE does not say what the table is"))
	}
	return r.source.shapes.of(ctx, n, rows[0][1])
}

// gone marks the error of a table that is not there.
func gone(err error) error {
	if wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR) {
		return fmt.Errorf("%w: %w", snapshot.ErrGone, err)
	}
	return err
}

// query begins to read a chunk.
func (r *reader) query(ctx context.Context, t *table, c snapshot.Chunk) (*rowReader, error) {
	var sql strings.Builder
	sql.WriteString("SELECT ")
	if r.server.flavor == product.MariaDB {
		sql.WriteString("SQL_NO_CACHE ")
	}
	columns := make([]string, len(t.layout.Table.Columns))
	for i := range columns {
		columns[i] = statement.QuoteName(t.layout.Table.Columns[i].Name)
	}
	sql.WriteString(strings.Join(append(columns, t.key.expressions()...), ", "))
	sql.WriteString(" FROM " + t.SQL())
	in := &rowReader{table: t}
	if err := r.checkWhere(c.Where); err != nil {
		return nil, err
	}
	if err := in.limit(&sql, c); err != nil {
		return nil, err
	}
	if err := r.bindTime(ctx, in.whole); err != nil {
		return nil, err
	}
	var err error
	if in.result, err = r.conn.Stream(ctx, sql.String()); err != nil {
		if c.Where != "" && serverSays(err) {
			return nil, fmt.Errorf("snapshot.where: the condition %s: %w", c.Where, err)
		}
		return nil, gone(err)
	}
	types := make([]byte, len(in.result.Columns))
	for i, col := range in.result.Columns {
		types[i] = col.Type
	}
	if in.decoder, err = row.NewResult(t.layout, types); err != nil {
		return nil, fault.WithKind(fault.KindProtocol, err)
	}
	return in, nil
}

// bindTime bounds the server's time for a query, unless it is one that lasts as long as the pipeline takes for a whole table.
func (r *reader) bindTime(ctx context.Context, unbounded bool) error {
	if unbounded == r.unbounded {
		return nil
	}
	seconds := maxSelect
	if unbounded {
		seconds = 0
	}
	_, err := r.conn.Query(ctx, "SET SESSION "+timeLimit(r.server.flavor, seconds))
	r.unbounded = unbounded
	return err
}

// checkWhere makes sure that a condition stays one where others stand beside it.
func (r *reader) checkWhere(where string) error {
	tokens, err := statement.Tokenize(where, statement.Mode{}, statement.NewDialect(r.server.flavor, r.server.version))
	depth := 0
	for _, t := range tokens {
		switch {
		case t.Is("("):
			depth++
		case t.Is(")"):
			depth--
		}
		if depth < 0 {
			break
		}
	}
	if err == nil && depth != 0 {
		err = errors.New("its brackets do not match")
	}
	if err != nil {
		return fmt.Errorf("snapshot.where: the condition %s: %w", where, err)
	}
	return nil
}

// limit adds what says which rows are read.
func (in *rowReader) limit(sql *strings.Builder, c snapshot.Chunk) error {
	t := in.table
	var conditions []string
	add := func(literals []string, err error, condition func([]string) string) error {
		if err == nil {
			conditions = append(conditions, condition(literals))
		}
		return err
	}
	switch {
	case len(c.Keys) > 0:
		condition, err := t.keysCondition(c.Keys)
		if err != nil {
			return err
		}
		conditions = append(conditions, condition)
	case len(t.key.parts) > 0:
		in.paged = true
		sql.WriteString(" FORCE INDEX (" + statement.QuoteName(t.key.index) + ")")
		if c.From != nil {
			literals, err := t.key.literals(c.From)
			if err := add(literals, err, t.key.after); err != nil {
				return err
			}
		}
		if c.To != nil {
			literals, err := t.key.literals(c.To)
			if err := add(literals, err, t.key.upTo); err != nil {
				return err
			}
		}
	default:
		in.whole = true
	}
	if c.Where != "" {
		conditions = append(conditions, "("+c.Where+"\n)") // a comment at its end ends with the line
	}
	if len(conditions) > 0 {
		sql.WriteString(" WHERE " + strings.Join(conditions, " AND "))
	}
	if in.paged {
		sql.WriteString(" ORDER BY " + t.key.orderBy())
		if c.Limit > 0 {
			sql.WriteString(" LIMIT " + strconv.Itoa(c.Limit+1)) // one more, which tells whether the range ends here
		}
	}
	return nil
}
