package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// catalogue answers questions about tables and types over a connection of its own, which one goroutine owns. It also
// looks once a second where the server's end of log is.
type catalogue struct {
	dial     func(ctx context.Context) (*pgx.Conn, error)
	requests chan catalogueRequest
	onEnd    func(LSN) // called with the server's end of log
	onTick   func(context.Context, *pgx.Conn)
}

type catalogueRequest struct {
	f    func(context.Context, *pgx.Conn) error
	done chan error
}

// endInterval is the time between two looks at the server's end of log.
const endInterval = time.Second

// run serves requests until ctx ends. It takes conn over and closes it.
func (c *catalogue) run(ctx context.Context, conn *pgx.Conn) {
	defer func() {
		if conn != nil {
			closeConn(ctx, conn)
		}
	}()
	tick := time.NewTicker(endInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.requests:
			var err error
			if conn, err = c.usable(ctx, conn); err == nil {
				err = r.f(ctx, conn)
			}
			r.done <- err
		case <-tick.C:
			// Composites are looked at too, so that it is known to about a second when one was altered. A server that does not answer here is noticed by the stream; the lag is then merely unknown.
			if conn == nil || conn.IsClosed() {
				continue
			}
			if end, err := serverEnd(ctx, conn); err == nil {
				c.onEnd(end)
			}
			c.onTick(ctx, conn)
		}
	}
}

// usable returns conn, or a new connection when it is broken.
func (c *catalogue) usable(ctx context.Context, conn *pgx.Conn) (*pgx.Conn, error) {
	if conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	return c.dial(ctx)
}

// do runs f on the catalogue's connection and returns its error.
func (c *catalogue) do(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	r := catalogueRequest{f: f, done: make(chan error, 1)}
	select {
	case c.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeTimeout bounds the farewell to a server.
const closeTimeout = 2 * time.Second

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nothing is lost with it
}

// serverEnd returns the end of the server's log.
func serverEnd(ctx context.Context, conn *pgx.Conn) (LSN, error) {
	var text string
	err := conn.QueryRow(ctx, `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
		ELSE pg_current_wal_flush_lsn() END)::text`).Scan(&text)
	if err != nil {
		return 0, err
	}
	return parseServerLSN(text)
}

// typeRow is what the catalogue says about a type.
type typeRow struct {
	name, text string
	kind       string // typtype
	category   string
	elem, base uint32
	baseMod    int32
	relation   uint32
	delimiter  string
}

// queryType looks a type up; ok is false when it no longer exists.
func queryType(ctx context.Context, conn *pgx.Conn, oid uint32, typmod int32) (row typeRow, ok bool, err error) {
	err = conn.QueryRow(ctx, `SELECT typname, format_type(oid, $2), typtype::text, typcategory::text, typelem, typbasetype,
		typtypmod, typrelid, typdelim::text FROM pg_catalog.pg_type WHERE oid = $1`, oid, typmod).
		Scan(&row.name, &row.text, &row.kind, &row.category, &row.elem, &row.base, &row.baseMod, &row.relation, &row.delimiter)
	if errors.Is(err, pgx.ErrNoRows) {
		return typeRow{}, false, nil
	}
	if err != nil {
		return typeRow{}, false, fmt.Errorf("looking up type %d: %w", oid, err)
	}
	return row, true, nil
}

// attribute is a column of a table or a field of a composite type.
type attribute struct {
	name    string
	typ     uint32
	typmod  int32
	notNull bool
}

func queryAttributes(ctx context.Context, conn *pgx.Conn, relation uint32) ([]attribute, error) {
	rows, err := conn.Query(ctx, `SELECT attname, atttypid, atttypmod, attnotnull FROM pg_catalog.pg_attribute
		WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, relation)
	if err != nil {
		return nil, fmt.Errorf("looking up the columns of relation %d: %w", relation, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a attribute, err error) {
		err = row.Scan(&a.name, &a.typ, &a.typmod, &a.notNull)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking up the columns of relation %d: %w", relation, err)
	}
	return list, nil
}

// queryKeys returns the columns of the indexes that identify a row: the primary key first, then unique indexes without a
// nullable column, oldest first.
func queryKeys(ctx context.Context, conn *pgx.Conn, relation uint32) ([][]string, error) {
	rows, err := conn.Query(ctx, `SELECT array_agg(a.attname::text ORDER BY k.ord)
		FROM pg_catalog.pg_index i
		CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, ord)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
			AND k.ord <= i.indnkeyatts
		GROUP BY i.indexrelid, i.indisprimary, i.indimmediate
		HAVING i.indisprimary OR (i.indimmediate AND bool_and(a.attnotnull))
		ORDER BY i.indisprimary DESC, i.indexrelid`, relation)
	if err != nil {
		return nil, fmt.Errorf("looking up the key of relation %d: %w", relation, err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return nil, fmt.Errorf("looking up the key of relation %d: %w", relation, err)
	}
	return keys, nil
}
