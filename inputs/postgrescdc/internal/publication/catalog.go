package publication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Table is a table that may be published, partitioned ones and partitions included.
type Table struct {
	Name
	OID         uint32
	Partitioned bool
	Ancestors   []uint32 // of a partition, nearest first
	Owned       bool     // the role may publish it

	Identity      byte // relreplident
	PrimaryKey    bool // one that can be an identity
	IdentityIndex bool // the index that the identity names is there
	// KeyGenerated and IndexGenerated say that primary key or identity index have a generated column, Stored and Virtual that the table
	// has one.
	KeyGenerated, IndexGenerated, Stored, Virtual bool
}

// Publication is one that is there.
type Publication struct {
	OID       uint32
	AllTables bool
	ViaRoot   bool // partitions appear under the name of their root
	Changes   bool // updates or deletes are published
	Whole     bool // so are all four kinds of changes
	Generated bool // so are stored generated columns
	Own       bool // made by us, so that we may change it
	// Members are the tables that it names: the OIDs of their rows in pg_publication_rel, by the tables' OIDs.
	Members map[uint32]uint32
	Schemas map[string]bool
}

// Has reports whether the publication names the table or has it in some other way, the partitions of its tables aside.
func (p *Publication) Has(t *Table) bool {
	if p.AllTables || p.Members[t.OID] != 0 || p.Schemas[t.Schema] {
		return true
	}
	if p.ViaRoot {
		return false
	}
	for _, a := range t.Ancestors {
		if p.Members[a] != 0 {
			return true
		}
	}
	return false
}

// State is what the catalogue has.
type State struct {
	Tables []Table
	Main   *Publication // nil when there is none
	// Inserts is the one beside it, see Config; nil when there is none of ours.
	Inserts *Publication
}

// Look reads the catalogue.
func (c *Config) Look(ctx context.Context, conn *pgx.Conn, version int) (*State, error) {
	var st State
	var err error
	if st.Tables, err = queryTables(ctx, conn); err != nil {
		return nil, err
	}
	if st.Main, err = queryPublication(ctx, conn, c.Name, version); err != nil {
		return nil, err
	}
	if name := c.InsertsName(); name != "" {
		if st.Inserts, err = queryPublication(ctx, conn, name, version); err != nil {
			return nil, err
		}
		if st.Inserts != nil && !st.Inserts.Own {
			st.Inserts = nil
		}
	}
	return &st, nil
}

func queryTables(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	rows, err := conn.Query(ctx, `SELECT c.oid, n.nspname, c.relname, c.relkind = 'p',
		CASE WHEN c.relispartition THEN ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid) END,
		pg_has_role(c.relowner, 'USAGE'), c.relreplident::text,
		coalesce(k.is, false), coalesce(x.is, false), coalesce(k.generated, false), coalesce(x.generated, false), g.stored, g.virtual
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE attgenerated = 's') > 0 AS stored, count(*) FILTER (WHERE attgenerated = 'v') > 0 AS virtual
			FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated <> '') g
		LEFT JOIN LATERAL (SELECT true AS is, EXISTS (SELECT 1 FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attgenerated <> '') AS generated
			FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND (i.indisvalid OR c.relkind = 'p') LIMIT 1) k ON true
		LEFT JOIN LATERAL (SELECT true AS is, EXISTS (SELECT 1 FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attgenerated <> '') AS generated
			FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indimmediate AND i.indisvalid LIMIT 1) x ON true
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
		ORDER BY n.nspname, c.relname`)
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		var identity string
		err = row.Scan(&t.OID, &t.Schema, &t.Table, &t.Partitioned, &t.Ancestors, &t.Owned, &identity, &t.PrimaryKey, &t.IdentityIndex,
			&t.KeyGenerated, &t.IndexGenerated, &t.Stored, &t.Virtual)
		if err == nil && len(identity) == 1 {
			t.Identity = identity[0]
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}

// publicationRow is a row of pg_publication, whose columns differ between versions.
type publicationRow struct {
	OID       uint32 `json:"oid,string"`
	AllTables bool   `json:"puballtables"`
	ViaRoot   bool   `json:"pubviaroot"`
	Insert    bool   `json:"pubinsert"`
	Update    bool   `json:"pubupdate"`
	Delete    bool   `json:"pubdelete"`
	Truncate  bool   `json:"pubtruncate"`
	Generated string `json:"pubgencols"` // since 18
}

// ownComment marks the publications that we made, which we may therefore change.
const ownComment = "made by deltaforge"

func queryPublication(ctx context.Context, conn *pgx.Conn, name string, version int) (*Publication, error) {
	wrap := func(err error) error { return fmt.Errorf("looking up the publication %s: %w", name, err) }
	var text []byte
	p := &Publication{Members: map[uint32]uint32{}, Schemas: map[string]bool{}}
	err := conn.QueryRow(ctx, `SELECT row_to_json(p)::text, coalesce(starts_with(obj_description(oid, 'pg_publication'), $2), false)
		FROM pg_publication p WHERE pubname = $1`, name, ownComment).Scan(&text, &p.Own)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // no publication is an answer
	}
	if err != nil {
		return nil, wrap(err)
	}
	var row publicationRow
	if err := json.Unmarshal(text, &row); err != nil {
		return nil, wrap(err)
	}
	p.OID, p.AllTables, p.ViaRoot, p.Generated = row.OID, row.AllTables, row.ViaRoot, row.Generated == "s"
	p.Changes, p.Whole = row.Update || row.Delete, row.Insert && row.Update && row.Delete && row.Truncate
	rows, err := conn.Query(ctx, `SELECT prrelid, oid FROM pg_publication_rel WHERE prpubid = $1`, p.OID)
	if err != nil {
		return nil, wrap(err)
	}
	var table, member uint32
	if _, err := pgx.ForEachRow(rows, []any{&table, &member}, func() error { p.Members[table] = member; return nil }); err != nil {
		return nil, wrap(err)
	}
	if version < withSchemas {
		return p, nil
	}
	rows, err = conn.Query(ctx, `SELECT nspname FROM pg_publication_namespace JOIN pg_namespace n ON n.oid = pnnspid WHERE pnpubid = $1`, p.OID)
	if err != nil {
		return nil, wrap(err)
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, wrap(err)
	}
	for _, s := range schemas {
		p.Schemas[s] = true
	}
	return p, nil
}

// withSchemas is the first version with FOR TABLES IN SCHEMA.
const withSchemas = 150000

// Fingerprint returns a number that is another one once anything has changed that Look reads, some details of columns aside. It is
// cheap enough to be asked every second.
func Fingerprint(ctx context.Context, conn *pgx.Conn, version int) (sum string, err error) {
	schemas := ""
	if version >= withSchemas {
		schemas = ` UNION ALL SELECT concat_ws(' ', 's', oid, pnpubid, pnnspid) FROM pg_publication_namespace`
	}
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(hashtextextended(t, 0)), 0)::text FROM (
		SELECT concat_ws(' ', 't', oid, relname, relnamespace, relkind, relreplident, relispartition, relowner, relnatts) FROM pg_class
			WHERE relkind IN ('r', 'p') AND relpersistence = 'p' AND oid >= 16384
		UNION ALL SELECT concat_ws(' ', 'i', inhrelid, inhparent) FROM pg_inherits
		UNION ALL SELECT concat_ws(' ', 'x', indexrelid, indrelid, indisprimary, indisreplident, indisvalid, indimmediate) FROM pg_index
			WHERE (indisprimary OR indisreplident) AND indexrelid >= 16384
		UNION ALL SELECT concat_ws(' ', 'n', oid, nspname) FROM pg_namespace WHERE nspname !~ '^pg_'
		UNION ALL SELECT row_to_json(p)::text FROM pg_publication p
		UNION ALL SELECT concat_ws(' ', 'r', oid, prpubid, prrelid) FROM pg_publication_rel`+schemas+`) all_of_it (t)`).Scan(&sum)
	if err != nil {
		return "", fmt.Errorf("looking for changes of the tables: %w", err)
	}
	return sum, nil
}

// Drop drops the publications that were made for the source, and returns their names.
func (c *Config) Drop(ctx context.Context, conn *pgx.Conn) (dropped []string, err error) {
	rows, err := conn.Query(ctx, `SELECT pubname FROM pg_publication WHERE pubname = ANY ($1) AND obj_description(oid, 'pg_publication') = $2
		ORDER BY pubname`, []string{c.Name, c.InsertsName()}, c.comment())
	if err != nil {
		return nil, fmt.Errorf("looking for publications to drop: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("looking for publications to drop: %w", err)
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "DROP PUBLICATION "+Ident(name)); err != nil {
			return dropped, fmt.Errorf("dropping the publication %s: %w", name, err)
		}
		dropped = append(dropped, name)
	}
	return dropped, nil
}

// comment marks a publication that was made for the source.
func (c *Config) comment() string { return ownComment + " for the source " + c.Source }
