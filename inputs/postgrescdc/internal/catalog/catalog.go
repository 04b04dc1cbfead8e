// Package catalog is what the server says about its tables, its types and the end of its log.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// Catalog answers questions about tables and types over a connection of its own, which one goroutine owns. It also
// looks once a second where the server's end of log is.
type Catalog struct {
	dial     func(ctx context.Context) (*pgx.Conn, error)
	requests chan request
	onEnd    func(lsn.LSN)
	onTick   func(context.Context, *pgx.Conn)
}

// New returns a catalogue that opens connections with dial. At each look it calls onEnd with the server's end of log, and then onTick.
func New(dial func(ctx context.Context) (*pgx.Conn, error), onEnd func(lsn.LSN), onTick func(context.Context, *pgx.Conn)) *Catalog {
	return &Catalog{dial: dial, requests: make(chan request), onEnd: onEnd, onTick: onTick}
}

type request struct {
	f    func(context.Context, *pgx.Conn) error
	done chan error
}

// EndInterval is the time between two looks at the server's end of log.
const EndInterval = time.Second

// Run serves requests until ctx ends. It takes conn over and closes it.
func (c *Catalog) Run(ctx context.Context, conn *pgx.Conn) {
	defer func() {
		if conn != nil {
			Close(ctx, conn)
		}
	}()
	tick := time.NewTicker(EndInterval)
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
			if end, err := ServerEnd(ctx, conn); err == nil {
				c.onEnd(end)
			}
			c.onTick(ctx, conn)
		}
	}
}

// usable returns conn, or a new connection when it is broken.
func (c *Catalog) usable(ctx context.Context, conn *pgx.Conn) (*pgx.Conn, error) {
	if conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	return c.dial(ctx)
}

// Ask runs f on the catalogue's connection and returns its error.
func (c *Catalog) Ask(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	r := request{f: f, done: make(chan error, 1)}
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

// CloseTimeout bounds the farewell to a server.
const CloseTimeout = 2 * time.Second

// Close closes a connection within CloseTimeout.
func Close(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), CloseTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nothing is lost with it
}

// ServerEnd returns the end of the server's log.
func ServerEnd(ctx context.Context, conn *pgx.Conn) (lsn.LSN, error) {
	var text string
	err := conn.QueryRow(ctx, `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
		ELSE pg_current_wal_flush_lsn() END)::text`).Scan(&text)
	if err != nil {
		return 0, err
	}
	return lsn.ParseServer(text)
}

// TypeRow is what the catalogue says about a type.
type TypeRow struct {
	Name, Text string
	Kind       string // typtype
	Category   string
	Elem, Base uint32
	BaseMod    int32
	Relation   uint32
	Delimiter  string
}

// QueryType looks a type up; ok is false when it no longer exists.
func QueryType(ctx context.Context, conn *pgx.Conn, oid uint32, typmod int32) (row TypeRow, ok bool, err error) {
	err = conn.QueryRow(ctx, `SELECT typname, format_type(oid, $2), typtype::text, typcategory::text, typelem, typbasetype,
		typtypmod, typrelid, typdelim::text FROM pg_catalog.pg_type WHERE oid = $1`, oid, typmod).
		Scan(&row.Name, &row.Text, &row.Kind, &row.Category, &row.Elem, &row.Base, &row.BaseMod, &row.Relation, &row.Delimiter)
	if errors.Is(err, pgx.ErrNoRows) {
		return TypeRow{}, false, nil
	}
	if err != nil {
		return TypeRow{}, false, fmt.Errorf("looking up type %d: %w", oid, err)
	}
	return row, true, nil
}

// Attribute is a column of a table or a field of a composite type.
type Attribute struct {
	Name    string
	Typ     uint32
	Typmod  int32
	NotNull bool
	// Default is the value that the rows have which were there before the column, or that of a DEFAULT that is a literal, as text; nil: none.
	Default *string
}

// QueryAttributes looks up the columns of a table or the fields of a composite type, without those that were dropped.
func QueryAttributes(ctx context.Context, conn *pgx.Conn, relation uint32) ([]Attribute, error) {
	rows, err := conn.Query(ctx, `SELECT a.attname, a.atttypid, a.atttypmod, a.attnotnull, (a.attmissingval::text::text[])[1],
		CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END
		FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, relation)
	if err != nil {
		return nil, fmt.Errorf("looking up the columns of relation %d: %w", relation, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Attribute, err error) {
		var missing, expression *string
		err = row.Scan(&a.Name, &a.Typ, &a.Typmod, &a.NotNull, &missing, &expression)
		if a.Default = missing; missing == nil && expression != nil {
			a.Default = literal(*expression)
		}
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking up the columns of relation %d: %w", relation, err)
	}
	return list, nil
}

// literals are the expressions that are one literal: 'it”s'::text, 42, (-1)::bigint, '-1'::integer, true.
var literals = regexp.MustCompile(`^(?:'((?:[^'\\]|'')*)'|\(?(-?[0-9]+(?:\.[0-9]+)?)\)?|(true|false))(?:::[a-z "]+(?:\([0-9,]+\))?)?$`)

// literal returns the text of a default that is one literal, as the server shows it; nil if it is another expression, or of the type char(n),
// whose values are longer than the literal.
func literal(expression string) *string {
	m := literals.FindStringSubmatch(expression)
	if m == nil || strings.Contains(expression, "::bpchar") || strings.Contains(expression, "::character(") {
		return nil
	}
	text := strings.ReplaceAll(m[1], "''", "'") + m[2] + m[3]
	return &text
}

// QueryKeys returns the columns of the indexes that identify a row: the primary key first, then unique indexes without a
// nullable column, oldest first.
func QueryKeys(ctx context.Context, conn *pgx.Conn, relation uint32) ([][]string, error) {
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
