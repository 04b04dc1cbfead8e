package chunk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// Tables implements snapshot.Source.
func (s *Source) Tables(ctx context.Context) ([]snapshot.Table, error) {
	conn, _, err := s.cfg.Primary(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	captured, err := s.cfg.Captured(ctx, conn)
	if err != nil {
		return nil, err
	}
	found, err := queryTables(ctx, conn, captured, s.role(conn))
	if err != nil {
		return nil, classify(err)
	}
	list := make([]snapshot.Table, 0, len(captured))
	for i := range captured {
		c := &captured[i]
		f := found[c.OID]
		if f == nil {
			continue // dropped since
		}
		t := snapshot.Table{Name: c.FullName(), Rows: f.rows, Key: f.key, Refused: c.Refused}
		if t.Refused == nil {
			t.Refused = f.refused(c, s.role(conn))
		}
		if t.Rows < 0 && t.Refused == nil {
			t.Rows = guess(ctx, conn, c)
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b snapshot.Table) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// role is the one that reads chunks.
func (s *Source) role(conn *pgx.Conn) string {
	if s.cfg.ReplicaUser != "" {
		return s.cfg.ReplicaUser
	}
	return conn.Config().User
}

// found is what the catalogue says of a table.
type found struct {
	rows                   int64
	key                    []string
	schema, table, secured bool // USAGE of its schema; SELECT; row-level security hides rows
}

// queryTables asks about many tables at once. An estimate is the server's, for the size that the table has now.
func queryTables(ctx context.Context, conn *pgx.Conn, captured []Captured, role string) (map[uint32]*found, error) {
	oids := make([]uint32, len(captured))
	for i := range captured {
		oids[i] = captured[i].OID
	}
	rows, err := conn.Query(ctx, `WITH leaves AS (
			SELECT c.oid AS root, coalesce(l.relid::oid, c.oid) AS oid FROM pg_catalog.pg_class c
			LEFT JOIN LATERAL pg_partition_tree(c.oid) l ON c.relkind = 'p' AND l.isleaf WHERE c.oid = ANY ($1::oid[])),
		sizes AS (SELECT root, sum(CASE WHEN size = 0 THEN 0 WHEN reltuples < 0 OR relpages = 0 THEN NULL ELSE reltuples / relpages * size END) AS rows,
				bool_or(size > 0 AND (reltuples < 0 OR relpages = 0)) AS unknown
			FROM leaves JOIN pg_catalog.pg_class c USING (oid)
			CROSS JOIN LATERAL (SELECT coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::bigint AS size) s WHERE c.relkind = 'r' GROUP BY root)
		SELECT c.oid, CASE WHEN s.unknown THEN -1 ELSE coalesce(s.rows, 0)::bigint END,
			coalesce((SELECT array_agg(a.attname::text ORDER BY k.ord) FROM pg_catalog.pg_index i
				CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
				WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
				GROUP BY i.indexrelid, i.indisprimary, i.indimmediate HAVING i.indisprimary OR (i.indimmediate AND bool_and(a.attnotnull))
				ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1), '{}'),
			has_schema_privilege(r.oid, c.relnamespace, 'USAGE'), has_table_privilege(r.oid, c.oid, 'SELECT'),
			c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls) AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
		FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.pg_roles r LEFT JOIN sizes s ON s.root = c.oid
		WHERE c.oid = ANY ($1::oid[]) AND r.rolname = $2`, oids, role)
	if err != nil {
		return nil, fmt.Errorf("looking up the captured tables: %w", err)
	}
	list := map[uint32]*found{}
	var oid uint32
	var f found
	_, err = pgx.ForEachRow(rows, []any{&oid, &f.rows, &f.key, &f.schema, &f.table, &f.secured}, func() error {
		kept := f
		kept.key = slices.Clone(f.key)
		list[oid] = &kept
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking up the captured tables: %w", err)
	}
	return list, nil
}

// refused says why the role cannot read a table, with the statements that mend it.
func (f *found) refused(c *Captured, role string) error {
	var mends []string
	if !f.schema {
		mends = append(mends, "GRANT USAGE ON SCHEMA "+ident(c.Schema)+" TO "+ident(role))
	}
	if !f.table {
		mends = append(mends, "GRANT SELECT ON "+ident(c.Schema)+"."+ident(c.Name)+" TO "+ident(role))
	}
	if len(mends) > 0 {
		return fault.WithKind(fault.KindPermission, fmt.Errorf("the role %s may not read the table %s: %s", role, c.FullName(), strings.Join(mends, "; ")))
	}
	if f.secured {
		return fault.WithKind(fault.KindPermission, fmt.Errorf("row-level security of the table %s hides rows from the role %s: as a superuser, ALTER ROLE %s BYPASSRLS",
			c.FullName(), role, ident(role)))
	}
	return nil
}

// guess is the planner's estimate of a table of which there are no statistics yet; -1: none.
func guess(ctx context.Context, conn *pgx.Conn, c *Captured) int64 {
	t := &table{schema: c.Schema, name: c.Name, partitioned: c.Partitioned}
	var text string
	var rows int64
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '100ms'"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "EXPLAIN SELECT FROM "+t.from()).Scan(&text)
	})
	_, after, ok := strings.Cut(text, " rows=")
	if err != nil || !ok {
		return -1
	}
	if _, err := fmt.Sscanf(after, "%d", &rows); err != nil {
		return -1
	}
	return rows
}

// errUnpublished is why a table is not loaded whose changes are not in the stream.
var errUnpublished = errors.New("its changes are not captured, as the log says")

// Unpublished returns the reason for a table that no publication of ours has.
func Unpublished(name string) error {
	return fault.WithKind(fault.KindSchema, fmt.Errorf("the table %s is not loaded: %w: it is loaded once they are", name, errUnpublished))
}
