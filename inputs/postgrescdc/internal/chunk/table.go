package chunk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// table is what chunks of a table are read with. It is immutable, and is made anew when the table has changed.
type table struct {
	oid          uint32
	schema, name string
	partitioned  bool

	token   string
	rel     *shape.Relation // nil: only the name is known
	trust   value.Trust
	columns string      // those that the stream has, for a SELECT
	key     []keyColumn // in the order of its index; empty: none
	filter  string      // the publications' condition for rows; empty: none
	// followed says that the stream has updates of the table, or that the server refuses them.
	followed bool
}

func (t *table) fullName() string { return t.schema + "." + t.name }

// from is the table in a statement: without the tables that inherit from it, which are published by themselves.
func (t *table) from() string {
	name := ident(t.schema) + "." + ident(t.name)
	if t.partitioned {
		return name
	}
	return "ONLY " + name
}

// lookup returns what is known of the table of a name, or at least its name.
func (s *Source) lookup(ctx context.Context, conn *pgx.Conn, name string) (*table, error) {
	s.mu.Lock()
	t := s.tables[name]
	s.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t = &table{}
	err := conn.QueryRow(ctx, `SELECT n.nspname, c.relname, c.relkind = 'p' FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'`, name).Scan(&t.schema, &t.name, &t.partitioned)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, snapshot.ErrGone
	}
	return t, err
}

func (s *Source) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tables, name)
}

// see makes what a table that was found in another state than before is read with. The table is locked.
func (s *Source) see(ctx context.Context, conn *pgx.Conn, known *table, st *state) (*table, error) {
	t := &table{oid: st.oid, schema: known.schema, name: known.name, partitioned: known.partitioned, token: st.token}
	msg, casts, err := s.describe(ctx, conn, t)
	if err != nil {
		return nil, err
	}
	t.trust = s.cfg.Schemas.Values.Trust(conn.PgConn().ParameterStatus("server_encoding"))
	s.schemas.Lock()
	t.rel, err = s.cfg.Schemas.Build(ctx, conn, *msg, math.MaxUint64)
	s.schemas.Unlock()
	if err != nil {
		return nil, err
	}
	if !t.rel.Captured {
		return nil, errors.New("the configuration does not capture the table")
	}
	if err := t.chooseKey(ctx, conn, casts); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables[t.fullName()] = t
	return t, nil
}

// still reports whether the types of a table are those that its rows were decoded with.
func (s *Source) still(ctx context.Context, conn *pgx.Conn, rel *shape.Relation) (bool, error) {
	s.schemas.Lock()
	defer s.schemas.Unlock()
	return s.cfg.Schemas.Still(ctx, conn, rel)
}

// published is what publications say of a table.
type published struct {
	there   bool
	columns []string // nil: all but the generated ones
	filter  string
	updates bool
}

func queryPublished(ctx context.Context, conn *pgx.Conn, t *table, publications []string) (p published, err error) {
	lists := "NULL::text[], NULL::text"
	if serverMajor(conn) >= 15 {
		lists = "t.attnames::text[], t.rowfilter"
	}
	rows, err := conn.Query(ctx, `SELECT p.pubupdate, `+lists+` FROM pg_catalog.pg_publication_tables t JOIN pg_catalog.pg_publication p USING (pubname)
		WHERE t.pubname = ANY ($1) AND t.schemaname = $2 AND t.tablename = $3`, publications, t.schema, t.name)
	if err != nil {
		return p, err
	}
	var filters []string
	whole := false
	var updates bool
	var columns []string
	var filter *string
	_, err = pgx.ForEachRow(rows, []any{&updates, &columns, &filter}, func() error {
		p.there, p.updates = true, p.updates || updates
		if len(columns) > len(p.columns) {
			p.columns = slices.Clone(columns)
		}
		if filter == nil {
			whole = true
		} else {
			filters = append(filters, "("+*filter+")")
		}
		return nil
	})
	if !whole {
		p.filter = strings.Join(filters, " OR ")
	}
	return p, err
}

// serverMajor is the server's version, as in 15.
func serverMajor(conn *pgx.Conn) int {
	var major int
	_, _ = fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d", &major) // 0 where it does not say
	return major
}

// describe returns what a Relation message says of the table, and the types of its columns as a cast has them.
func (s *Source) describe(ctx context.Context, conn *pgx.Conn, t *table) (*pgoutput.Relation, []string, error) {
	p, err := queryPublished(ctx, conn, t, s.cfg.Publications)
	if err != nil {
		return nil, nil, fmt.Errorf("looking up what is published of the table: %w", err)
	}
	t.filter, t.followed = p.filter, p.updates
	rel := &pgoutput.Relation{OID: t.oid, Schema: t.schema, Name: t.name}
	rows, err := conn.Query(ctx, `SELECT c.relreplident::text, a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, -1), a.attgenerated <> '',
			c.relreplident = 'f' OR coalesce(a.attnum = ANY (i.indkey), false)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indimmediate AND (i.indisvalid OR c.relkind = 'p')
			AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
		WHERE c.oid = $1 ORDER BY a.attnum`, t.oid)
	if err != nil {
		return nil, nil, fmt.Errorf("looking up the columns: %w", err)
	}
	var identity, cast string
	var generated bool
	var col pgoutput.Column
	var casts, names []string
	_, err = pgx.ForEachRow(rows, []any{&identity, &col.Name, &col.Typ, &col.Typmod, &cast, &generated, &col.Key}, func() error {
		rel.Identity = identity[0]
		// Before PostgreSQL 18 a generated column is never published, though it may be listed.
		if p.columns != nil && !slices.Contains(p.columns, col.Name) || generated && (p.columns == nil || serverMajor(conn) < 18) {
			return nil
		}
		rel.Columns = append(rel.Columns, col)
		casts, names = append(casts, cast), append(names, ident(t.name)+"."+ident(col.Name))
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("looking up the columns: %w", err)
	}
	t.columns = strings.Join(names, ", ")
	return rel, casts, nil
}

// chooseKey finds the index with the columns of the events' key. Where there is none, the table has no order.
func (t *table) chooseKey(ctx context.Context, conn *pgx.Conn, casts []string) error {
	shape := t.rel.Table
	if len(shape.Key) == 0 {
		return nil
	}
	names := make([]string, len(shape.Key))
	for i, column := range shape.Key {
		names[i] = shape.Columns[column].Name
	}
	indexes, err := queryIndexes(ctx, conn, t.oid)
	if err != nil {
		return err
	}
	for _, index := range indexes {
		if !sameKey(index, names) {
			continue
		}
		for i := range index {
			for j := range shape.Columns {
				if shape.Columns[j].Name == index[i].name {
					index[i].column, index[i].typ = j, casts[j]
				}
			}
		}
		t.key = index
		return nil
	}
	return nil
}

// queryIndexes returns the keys of a table: the primary key first, then unique indexes without a nullable column, oldest first.
func queryIndexes(ctx context.Context, conn *pgx.Conn, oid uint32) (list [][]keyColumn, err error) {
	rows, err := conn.Query(ctx, `SELECT i.indexrelid, a.attname,
			CASE WHEN l.oid IS NULL THEN '' ELSE quote_ident(ln.nspname) || '.' || quote_ident(l.collname) END, NOT o.opcdefault,
			(SELECT array_agg('OPERATOR(' || quote_ident(n.nspname) || '.' || p.oprname || ')' ORDER BY m.amopstrategy) FROM pg_catalog.pg_amop m
				JOIN pg_catalog.pg_operator p ON p.oid = m.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace
				WHERE m.amopfamily = o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype AND m.amopstrategy IN (1, 2, 3, 5))
		FROM pg_catalog.pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[]) WITH ORDINALITY AS k(attnum, coll, class, ord)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		JOIN pg_catalog.pg_opclass o ON o.oid = k.class
		LEFT JOIN pg_catalog.pg_collation l ON l.oid = k.coll AND k.coll <> a.attcollation
		LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
		WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
			AND (i.indisprimary OR i.indimmediate AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute z WHERE z.attrelid = i.indrelid
				AND z.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1]) AND NOT z.attnotnull))
		ORDER BY i.indisprimary DESC, i.indexrelid, k.ord`, oid)
	if err != nil {
		return nil, fmt.Errorf("looking up the keys: %w", err)
	}
	var index, last uint32
	var k keyColumn
	var operators []string
	_, err = pgx.ForEachRow(rows, []any{&index, &k.name, &k.collate, &k.own, &operators}, func() error {
		if len(operators) != 4 {
			return fmt.Errorf("the index %d has no order", index)
		}
		k.less, k.atMost, k.equal, k.greater = operators[0], operators[1], operators[2], operators[3]
		if index != last {
			last = index
			list = append(list, nil)
		}
		list[len(list)-1] = append(list[len(list)-1], k)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking up the keys: %w", err)
	}
	return list, nil
}

// extent says how large a table is.
type extent struct {
	files string // another one once the table, or one of its partitions, was written anew
	pages int64  // of the largest partition
	rows  float64
	dense float64 // pages that the estimate of the rows is for
}

// maxPage is more than the number of any page.
const maxPage = 1<<32 - 1

// rowsAPage is taken where nothing is known.
const rowsAPage = 50

func (e *extent) density() float64 {
	if e.rows <= 0 || e.dense <= 0 {
		return rowsAPage
	}
	return max(1, e.rows/e.dense)
}

func queryExtent(ctx context.Context, conn *pgx.Conn, t *table) (*extent, error) {
	tree := `SELECT $1::oid AS oid`
	if t.partitioned {
		tree = `SELECT relid::oid AS oid FROM pg_partition_tree($1::oid) WHERE isleaf`
	}
	var e extent
	err := conn.QueryRow(ctx, `SELECT coalesce(md5(string_agg(concat_ws(' ', t.oid, pg_relation_filenode(t.oid)), ',' ORDER BY t.oid)), ''),
			coalesce(max(pg_relation_size(t.oid) / current_setting('block_size')::bigint), 0)::bigint,
			coalesce(sum(c.reltuples) FILTER (WHERE c.reltuples > 0), 0)::float8, coalesce(sum(c.relpages) FILTER (WHERE c.reltuples > 0), 0)::float8
		FROM (`+tree+`) t JOIN pg_catalog.pg_class c ON c.oid = t.oid`, t.oid).Scan(&e.files, &e.pages, &e.rows, &e.dense)
	if err != nil {
		return nil, fmt.Errorf("looking how large the table is: %w", err)
	}
	if e.files == "" {
		e.files = "none" // a partitioned table without partitions
	}
	return &e, nil
}
