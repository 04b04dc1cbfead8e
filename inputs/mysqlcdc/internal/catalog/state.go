package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// State reads the shapes of all tables of the databases that want accepts, and the default collation of every other one.
func (c *Catalog) State(ctx context.Context, flavor string, want func(db string) bool) (shape.State, error) {
	rows, err := c.Query(ctx, "SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA")
	if err != nil {
		return nil, fmt.Errorf("reading the databases: %w", err)
	}
	state := shape.State{}
	var wanted []string
	for _, r := range rows {
		if IsSystemSchema(r[0]) && !want(r[0]) {
			continue
		}
		state[r[0]] = &shape.Database{Collation: r[1], Complete: want(r[0]), Tables: map[string]*shape.Table{}}
		if want(r[0]) {
			wanted = append(wanted, statement.Quote(r[0]))
		}
	}
	if len(wanted) == 0 {
		return state, nil
	}
	return state, c.tables(ctx, flavor, "IN ("+strings.Join(wanted, ", ")+")", "", state)
}

// Table reads the shape of one table; nil when there is none.
func (c *Catalog) Table(ctx context.Context, flavor, db, table string) (*shape.Table, error) {
	state := shape.State{db: &shape.Database{Tables: map[string]*shape.Table{}}}
	err := c.tables(ctx, flavor, "= "+statement.Quote(db), " AND TABLE_NAME = "+statement.Quote(table), state)
	return state.Table(db, table), err
}

// tables reads shapes into a state. The conditions are those of SQL on the database and, if any, the table.
func (c *Catalog) tables(ctx context.Context, flavor, db, table string, state shape.State) error {
	where := " WHERE TABLE_SCHEMA " + db + table
	rows, err := c.Query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, IFNULL(TABLE_COLLATION, ''), TABLE_TYPE FROM information_schema.TABLES"+where+
		" AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')")
	if err != nil {
		return fmt.Errorf("reading the tables: %w", err)
	}
	for _, r := range rows {
		if d := state[r[0]]; d != nil {
			d.Tables[r[1]] = &shape.Table{Collation: r[2], Versioned: r[3] == "SYSTEM VERSIONED"}
		}
	}
	if rows, err = c.Query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, IFNULL(COLLATION_NAME, ''), "+
		"IFNULL(GENERATION_EXPRESSION, ''), COLUMN_DEFAULT IS NOT NULL, IFNULL(COLUMN_DEFAULT, ''), EXTRA FROM information_schema.COLUMNS"+where+" ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"); err != nil {
		return fmt.Errorf("reading the columns of the tables: %w", err)
	}
	for _, r := range rows {
		if t := state.Table(r[0], r[1]); t != nil { // else a view
			col := shape.Column{Name: r[2], Type: r[3], Nullable: r[4] == "YES", Collation: r[5]}
			col.Unsure = col.HasUnsureLabels()
			if r[7] == "1" && col.HasPlainDefault() {
				col.Default = literal(flavor, r[8], r[9])
			}
			t.Columns = append(t.Columns, col)
			if flavor == product.MariaDB && r[6] == "ROW END" {
				t.RowEnd = col.Name
			}
		}
	}
	if rows, err = c.Query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, NON_UNIQUE, IFNULL(COLUMN_NAME, '') "+
		"FROM information_schema.STATISTICS"+where+" ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"); err != nil {
		return fmt.Errorf("reading the indexes of the tables: %w", err)
	}
	for _, r := range rows {
		if t := state.Table(r[0], r[1]); t != nil {
			t.AddIndexPart(r[2], r[3] == "0", r[4])
		}
	}
	for db, d := range state {
		for name, t := range d.Tables {
			if err := c.orderIndexes(ctx, db, name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// orderIndexes puts the indexes in the server's order, which decides about the key of a table without a primary one. Only SHOW
// INDEX tells, so it is asked only where that matters.
func (c *Catalog) orderIndexes(ctx context.Context, db, table string, t *shape.Table) error {
	candidates := 0
	for _, ix := range t.Indexes {
		if ix.Unique && t.NotNull(ix) {
			candidates++
		}
	}
	if t.Index(shape.PrimaryIndex) < 0 && candidates > 1 {
		order, err := c.indexes(ctx, db, table)
		if err != nil {
			return err
		}
		indexes := t.Indexes
		t.Indexes = nil
		for _, name := range order {
			for _, ix := range indexes {
				if ix.Name == name {
					t.Indexes = append(t.Indexes, ix)
				}
			}
		}
	}
	t.SortIndexes()
	return nil
}

// IsSystemSchema reports the databases that are the server's own.
func IsSystemSchema(db string) bool {
	switch strings.ToLower(db) {
	case "mysql", "information_schema", "performance_schema", "sys":
		return true
	default:
		return false
	}
}

// Transactional reports whether the engine of a table, as it is now, has transactions.
func (c *Catalog) Transactional(ctx context.Context, db, table string) (bool, error) {
	rows, err := c.Query(ctx, "SELECT e.TRANSACTIONS FROM information_schema.TABLES t JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE "+
		"WHERE t.TABLE_SCHEMA = "+statement.Quote(db)+" AND t.TABLE_NAME = "+statement.Quote(table))
	if err != nil {
		return false, fmt.Errorf("reading the engine of %s.%s: %w", db, table, err)
	}
	if len(rows) == 0 {
		return false, fmt.Errorf("reading the engine of %s.%s: there is no such table any more", db, table)
	}
	return rows[0][0] == "YES", nil
}

// Names returns the tables that the account can see, without those of the server itself.
func (c *Catalog) Names(ctx context.Context) (names []statement.TableName, err error) {
	rows, err := c.Query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') "+
		"ORDER BY TABLE_SCHEMA, TABLE_NAME")
	if err != nil {
		return nil, fmt.Errorf("reading the names of the tables: %w", err)
	}
	for _, r := range rows {
		names = append(names, statement.TableName{DB: r[0], Table: r[1]})
	}
	return names, nil
}

// literal returns the text of a default, nil if it is an expression. MariaDB shows it as SQL, MySQL as it is.
func literal(flavor, shown, extra string) *string {
	if flavor != product.MariaDB {
		if strings.Contains(extra, "DEFAULT_GENERATED") {
			return nil
		}
		return &shown
	}
	if n := len(shown); n > 1 && shown[0] == '\'' && shown[n-1] == '\'' {
		inner := shown[1 : n-1]
		if strings.Contains(inner, `\`) {
			return nil
		}
		inner = strings.ReplaceAll(inner, "''", "'")
		return &inner
	}
	if _, err := strconv.ParseFloat(shown, 64); err != nil || strings.ContainsAny(shown, "xXnN") {
		return nil
	}
	return &shown
}
