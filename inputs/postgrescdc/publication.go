package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// publicationState is what the publication lacks.
type publicationState struct {
	statements []string // that ensurePublication runs
	done       string   // what to say afterwards
}

// ownComment marks the publications that we made, which we may therefore change.
const ownComment = "made by deltaforge"

// tableRow is a table that may be published.
type tableRow struct {
	tableName
	oid         uint32
	partitioned bool
	ancestors   []uint32 // of a partition
	identity    string
	primaryKey  bool
	owned       bool
}

// publicationRow is a row of pg_publication.
type publicationRow struct {
	allTables, viaRoot bool
	changes            bool // publishes updates or deletes
	own                bool
}

// checkPublication works out what the publication lacks. What we may not mend ourselves is a problem.
func (r *replication) checkPublication(ctx context.Context, conn *pgx.Conn, p *problems, server serverRow, have *preconditions) error {
	all, err := queryTables(ctx, conn)
	if err != nil {
		return err
	}
	wanted := chooseTables(all, &r.cfg.filter)
	if len(wanted) == 0 {
		r.warnOnce("no table matches the patterns of tables; tables that are made later are found when the source reconnects")
	}
	pub, err := queryPublication(ctx, conn, r.cfg.publication)
	if err != nil {
		return err
	}
	if pub == nil {
		r.planCreate(p, server, have, wanted)
	} else if err := r.planChange(ctx, conn, p, have, pub, wanted); err != nil {
		return err
	}
	if pub != nil && pub.changes {
		r.warnIdentity(wanted)
	}
	return nil
}

// chooseTables returns the tables that match. A partition is left out when a table above it matches: its rows appear under
// that one.
func chooseTables(all []tableRow, filter *tableFilter) []tableRow {
	matched := map[uint32]bool{}
	for _, t := range all {
		matched[t.oid] = filter.match(t.schema, t.name)
	}
	var out []tableRow
next:
	for _, t := range all {
		if !matched[t.oid] {
			continue
		}
		for _, a := range t.ancestors {
			if matched[a] {
				continue next
			}
		}
		out = append(out, t)
	}
	return out
}

func names(tables []tableRow) []tableName {
	out := make([]tableName, len(tables))
	for i, t := range tables {
		out[i] = t.tableName
	}
	return out
}

// planCreate plans a publication of exactly the wanted tables.
func (r *replication) planCreate(p *problems, server serverRow, have *preconditions, wanted []tableRow) {
	const options = " WITH (publish_via_partition_root = true)"
	pub := quoteIdent(r.cfg.publication)
	create := func(target string) string { return "CREATE PUBLICATION " + pub + target + options }
	listed, foreign := "", []tableName(nil)
	if len(wanted) > 0 {
		listed = " FOR TABLE " + sqlList(names(wanted))
	}
	for _, t := range wanted {
		if !t.owned {
			foreign = append(foreign, t.tableName)
		}
	}
	// A role that is no superuser can publish only tables that there are; told to a superuser, the better statement.
	best, ours := listed, listed
	if r.cfg.filter.everything() {
		best = " FOR ALL TABLES"
		if server.super {
			ours = best
		}
	}
	switch {
	case !r.cfg.createPublication:
		p.add(coordinator.KindOther, "there is no publication %s and create_publication is off: %s", r.cfg.publication, create(best))
	case !server.create:
		p.add(coordinator.KindPermission, "role %s may not create the publication %s: GRANT CREATE ON DATABASE %s TO %s, or, as another "+
			"role, %s", server.role, r.cfg.publication, quoteIdent(server.database), quoteIdent(server.role), create(best))
	case len(foreign) > 0 && !server.super:
		p.add(coordinator.KindPermission, "role %s does not own %s, so it may not publish: as a superuser, %s", server.role,
			sqlList(foreign), create(best))
	case len(withoutIdentity(wanted)) > 0:
		r.refuseIdentity(p, withoutIdentity(wanted), create(best))
	default:
		have.publication = publicationState{
			statements: []string{create(ours), "COMMENT ON PUBLICATION " + pub + " IS " + quoteLiteral(ownComment+" for the source "+r.cfg.name)},
			done:       fmt.Sprintf("created the publication %s%s", r.cfg.publication, firstWords(ours)),
		}
	}
}

// firstWords keeps a log line short where there are thousands of tables.
func firstWords(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + " …"
	}
	return s
}

// planChange plans what an existing publication lacks. Only one of ours is changed; another one's owner is told how.
func (r *replication) planChange(ctx context.Context, conn *pgx.Conn, p *problems, have *preconditions, pub *publicationRow,
	wanted []tableRow,
) error {
	published, err := queryPublished(ctx, conn, r.cfg.publication)
	if err != nil {
		return err
	}
	var missing []tableName
	partitioned := false
	for _, t := range wanted {
		partitioned = partitioned || t.partitioned
		// Without publish_via_partition_root the view lists partitions in place of their root.
		if !pub.allTables && !published[t.tableName] && (!t.partitioned || pub.viaRoot) {
			missing = append(missing, t.tableName)
		}
	}
	alter := "ALTER PUBLICATION " + quoteIdent(r.cfg.publication)
	var statements []string
	if partitioned && !pub.viaRoot {
		statements = append(statements, alter+" SET (publish_via_partition_root = true)")
	}
	if len(missing) > 0 {
		statements = append(statements, alter+" ADD TABLE "+sqlList(missing))
	}
	if len(statements) == 0 {
		return nil
	}
	if pub.own && r.cfg.createPublication {
		have.publication = publicationState{
			statements: statements,
			done:       fmt.Sprintf("changed the publication %s: %s", r.cfg.publication, firstWords(strings.Join(statements, "; "))),
		}
		return nil
	}
	if partitioned && !pub.viaRoot {
		p.add(coordinator.KindSchema, "publication %s publishes partitions under their own names: %s", r.cfg.publication, statements[0])
	}
	if len(missing) > 0 {
		p.add(coordinator.KindSchema, "publication %s lacks %s: %s, or leave them out with tables.include or tables.exclude",
			r.cfg.publication, sqlList(missing), statements[len(statements)-1])
	}
	return nil
}

// ensurePublication makes what checkPublication has planned. It comes before the slot: the server cannot decode changes
// that are older than the publication.
func (r *replication) ensurePublication(ctx context.Context, conn *pgx.Conn, have *preconditions) error {
	plan := have.publication
	if len(plan.statements) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range plan.statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", firstWords(sql), err)
			}
		}
		return nil
	})
	if err != nil {
		return classify(err)
	}
	r.logger.Infof("%s", plan.done)
	return nil
}

// mostNamed bounds how many tables a message names.
const mostNamed = 20

// withoutIdentity returns the tables whose updates and deletes the server refuses once they are published.
func withoutIdentity(tables []tableRow) []tableRow {
	var out []tableRow
	for _, t := range tables {
		if t.identity == "n" || t.identity == "d" && !t.primaryKey {
			out = append(out, t)
		}
	}
	return out
}

// refuseIdentity says why we do not make a publication: from that moment on, the server would refuse the application's own
// updates and deletes of these tables. Nobody expects that of a tool that reads.
func (r *replication) refuseIdentity(p *problems, tables []tableRow, create string) {
	var alter []string
	for _, t := range tables[:min(len(tables), mostNamed)] {
		alter = append(alter, "ALTER TABLE "+t.sql()+" REPLICA IDENTITY FULL")
	}
	more := ""
	if n := len(tables) - mostNamed; n > 0 {
		more = fmt.Sprintf(" (and %d further tables)", n)
	}
	p.add(coordinator.KindSchema, "publishing tables that have no replica identity would make the server refuse the application's updates "+
		"and deletes of their rows: %s%s; or leave them out with tables.exclude; or, where rows are only ever inserted, make the "+
		"publication yourself: %s", strings.Join(alter, "; "), more, firstWords(create))
}

// warnIdentity names the tables whose updates and deletes the server refuses, in a publication that is there already.
func (r *replication) warnIdentity(wanted []tableRow) {
	tables := withoutIdentity(wanted)
	for _, t := range tables[:min(len(tables), mostNamed)] {
		r.warnOnce(fmt.Sprintf("table %s has no replica identity, so the server refuses to update and delete its rows while it is "+
			"published: ALTER TABLE %s REPLICA IDENTITY FULL", t.tableName, t.sql()))
	}
	if n := len(tables) - mostNamed; n > 0 {
		r.warnOnce(fmt.Sprintf("%d further tables have no replica identity", n))
	}
}

func (r *replication) warnOnce(text string) {
	if !r.warned[text] {
		r.warned[text] = true
		r.logger.Warnf("%s", text)
	}
}

func queryTables(ctx context.Context, conn *pgx.Conn) ([]tableRow, error) {
	rows, err := conn.Query(ctx, `SELECT c.oid, n.nspname, c.relname, c.relkind = 'p',
		CASE WHEN c.relispartition THEN ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid) END,
		c.relreplident::text, EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate),
		pg_has_role(c.relowner, 'USAGE')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
		ORDER BY n.nspname, c.relname`)
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t tableRow, err error) {
		err = row.Scan(&t.oid, &t.schema, &t.name, &t.partitioned, &t.ancestors, &t.identity, &t.primaryKey, &t.owned)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}

func queryPublication(ctx context.Context, conn *pgx.Conn, name string) (*publicationRow, error) {
	var p publicationRow
	err := conn.QueryRow(ctx, `SELECT puballtables, pubviaroot, pubupdate OR pubdelete,
		coalesce(starts_with(obj_description(oid, 'pg_publication'), $2), false) FROM pg_publication WHERE pubname = $1`, name, ownComment).
		Scan(&p.allTables, &p.viaRoot, &p.changes, &p.own)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // no publication is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("looking up the publication %s: %w", name, err)
	}
	return &p, nil
}

func queryPublished(ctx context.Context, conn *pgx.Conn, name string) (map[tableName]bool, error) {
	rows, err := conn.Query(ctx, `SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1`, name)
	if err != nil {
		return nil, fmt.Errorf("listing the tables of the publication %s: %w", name, err)
	}
	published := map[tableName]bool{}
	var t tableName
	if _, err := pgx.ForEachRow(rows, []any{&t.schema, &t.name}, func() error { published[t] = true; return nil }); err != nil {
		return nil, fmt.Errorf("listing the tables of the publication %s: %w", name, err)
	}
	return published, nil
}
