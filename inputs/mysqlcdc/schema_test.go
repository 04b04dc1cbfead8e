package mysqlcdc

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/resolve"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// restarted returns the log of a new process: what it knows is what was saved.
func (l *mysqlLog) restarted(t *testing.T) *mysqlLog {
	t.Helper()
	record, err := l.history.Whole()
	require.NoError(t, err)
	return l.with(t, record)
}

// with returns the log of a new process that has found the record.
func (l *mysqlLog) with(t *testing.T, record []byte) *mysqlLog {
	t.Helper()
	n := &mysqlLog{cfg: l.cfg, logger: l.logger, changes: l.changes, snapshots: l.snapshots, filesInterval: l.filesInterval}
	require.NoError(t, n.Restore(record))
	return n
}

// historyLines returns the lines of a saved history without their checksums.
func historyLines(t *testing.T, record []byte) (lines []string) {
	t.Helper()
	for line := range strings.Lines(string(record)) {
		_, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		require.True(t, ok, line)
		lines = append(lines, text)
	}
	return lines
}

// shapes returns what a history knows at its end.
func (l *mysqlLog) shapes(t *testing.T) shape.State {
	t.Helper()
	record, err := l.history.Whole()
	require.NoError(t, err)
	lines := historyLines(t, record)
	var base struct{ Databases shape.State }
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &base))
	for _, line := range lines[2:] {
		var entry struct{ Changes []shape.Change }
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		base.Databases.Apply(entry.Changes)
	}
	return base.Databases
}

// facts are the columns of a state, one a line, with their character set and whether they are part of the key.
func facts(state shape.State, db string) (lines []string) {
	if state[db] == nil {
		return nil
	}
	for name, def := range state[db].Tables {
		for i, c := range def.Columns {
			key := slices.ContainsFunc(def.Key(), func(k string) bool { return strings.EqualFold(k, c.Name) })
			lines = append(lines, fmt.Sprintf("%s %d %s %q %t", name, i+1, c.Name, c.Charset(), key))
		}
	}
	slices.Sort(lines)
	return lines
}

// catalogFacts asks the server for the same, in words of its own: COLUMN_KEY is PRI for the columns of the primary key or, without
// one, of the unique index that the server takes in its place. The connection is none whose settings the statements of a test change.
func catalogFacts(t *testing.T, conn *sql.DB, db string) (lines []string) {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), `SELECT TABLE_NAME, ORDINAL_POSITION, COLUMN_NAME, IFNULL(CHARACTER_SET_NAME, ''), COLUMN_KEY = 'PRI'
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME NOT IN (SELECT TABLE_NAME FROM information_schema.VIEWS)`, db)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var table, column, charset string
		var position int
		var key bool
		require.NoError(t, rows.Scan(&table, &position, &column, &charset, &key))
		lines = append(lines, fmt.Sprintf("%s %d %s %q %t", table, position, column, charset, key))
	}
	require.NoError(t, rows.Err())
	slices.Sort(lines)
	return lines
}

func comparable(state shape.State, db string) map[string]string {
	out := map[string]string{}
	if state[db] == nil {
		return out
	}
	for name, def := range state[db].Tables {
		var b strings.Builder
		fmt.Fprintf(&b, "collation %s key %q\n", def.Collation, def.Key())
		for _, c := range def.Columns {
			fmt.Fprintf(&b, "%q %s %s %t\n", c.Name, c.Type, c.Collation, c.Nullable)
		}
		var unique []string
		for _, ix := range def.Indexes {
			if ix.Unique {
				unique = append(unique, fmt.Sprintf("%s %q", ix.Name, ix.Columns))
			}
		}
		slices.Sort(unique)
		fmt.Fprintln(&b, strings.Join(unique, "; "))
		out[name] = b.String()
	}
	return out
}

// catalogShapes is what the server shows.
func (b *bench) catalogShapes(t *testing.T, c *catalog.Catalog, db string) map[string]string {
	t.Helper()
	flavor := product.MySQL
	if b.srv.IsMariaDB() {
		flavor = product.MariaDB
	}
	state, err := c.State(t.Context(), flavor, func(name string) bool { return name == db })
	require.NoError(t, err)
	return comparable(state, db)
}

// corpus returns the statements of testdata/ddl.sql for a product.
func corpus(t *testing.T, product string) (statements []string) {
	t.Helper()
	data, err := os.ReadFile("testdata/ddl.sql")
	require.NoError(t, err)
	var lines []string
	only := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if len(lines) == 0 {
			if line == "# mysql" || line == "# mariadb" {
				only = line[2:]
			}
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
		}
		lines = append(lines, line)
		if text, ok := strings.CutSuffix(line, ";"); ok {
			lines[len(lines)-1] = text
			if only == "" || only == product {
				statements = append(statements, strings.Join(lines, "\n"))
			}
			lines, only = nil, ""
		}
	}
	return statements
}

// ddlCorpus is what the test in internal/ddl reads: the statements of the corpus as a server has logged them.
type ddlCorpus struct {
	Version    string
	Charsets   charset.Info
	State      shape.State
	Statements []ddlCorpusStatement
}

type ddlCorpusStatement struct {
	Text, DB          string
	SQLMode           uint64 `json:",omitempty"`
	ServerCollation   string
	DefaultUTF8MB4    string `json:",omitempty"`
	ImplicitTimestamp bool   `json:",omitempty"`
	ThreadSpecific    bool   `json:",omitempty"`
}

// recordCorpus makes TestCorpus write what the log had, for the test in internal/ddl that has no server, when DELTAFORGE_UPDATE is set.
func recordCorpus(t *testing.T, l *mysqlLog, c *catalog.Catalog, db, other, product string) (write func()) {
	t.Helper()
	if os.Getenv("DELTAFORGE_UPDATE") == "" {
		return func() {}
	}
	charsets, err := c.Charsets(t.Context(), product)
	require.NoError(t, err)
	version, err := c.Query(t.Context(), "SELECT VERSION()")
	require.NoError(t, err)
	rec := ddlCorpus{Version: version[0][0], Charsets: charsets, State: l.shapes(t)}
	for name := range rec.State {
		if name != db && name != other {
			delete(rec.State, name)
		}
	}
	for _, d := range rec.State {
		for _, t := range d.Tables {
			t.AsOf = ""
		}
	}
	l.observe = func(q binlog.Query, st ddl.Statement) {
		if q.DB == db || q.DB == other {
			rec.Statements = append(rec.Statements, ddlCorpusStatement{
				Text: st.Text, DB: st.DB, SQLMode: q.Vars.SQLMode, ServerCollation: st.ServerCollation, DefaultUTF8MB4: st.DefaultUTF8MB4,
				ImplicitTimestamp: st.ImplicitTimestamp, ThreadSpecific: st.ThreadSpecific,
			})
		}
	}
	return func() {
		text, err := json.MarshalIndent(rec, "", " ")
		require.NoError(t, err)
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(other), []byte("other")), []byte(db), []byte("db"))
		require.NoError(t, os.WriteFile("internal/ddl/testdata/corpus-"+product+".json", append(text, '\n'), 0o600))
	}
}

// TestCorpus runs real-world DDL: after each statement, what was worked out from the log must be what the server shows.
func TestCorpus(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.srv.Database(t)
		b.exec(t, "CREATE TABLE marker (n INT PRIMARY KEY)")
		l := b.newLog(t, fmt.Sprintf("schema_changes: true\ntables: {include: [%q, %q]}", b.db+".*", other+"%.*"))
		r := start(t, l, checkpoint.Token{}).connected(t)
		c := &catalog.Catalog{Server: &l.cfg.server}
		defer c.Close()
		conn := b.srv.DB(t, b.db)
		product := "mysql"
		if b.srv.IsMariaDB() {
			product = "mariadb"
		}
		record := recordCorpus(t, l, c, b.db, other, product)
		defer record()
		statements := corpus(t, product)
		require.Greater(t, len(statements), 150)
		accepted, failed, reported, told := 0, false, map[string]string{}, map[statement.TableName]*change.Table{}
		for n, s := range statements {
			s = strings.ReplaceAll(s, "OTHER", other)
			if _, err := b.sql.ExecContext(t.Context(), s); err != nil {
				t.Errorf("refused: %s: %v", s, err)
				continue
			}
			accepted++
			b.exec(t, fmt.Sprintf("INSERT INTO `%s`.marker VALUES (%d)", b.db, n))
			for done := false; !done; {
				seg := r.segment(t)
				if seg.Rows == nil {
					continue
				}
				batch, err := seg.Rows.Decode(t.Context(), nil)
				require.NoError(t, err)
				for _, m := range batch {
					got := receive(t, m)
					done = done || part(got.raw, "after") == fmt.Sprintf(`{"n":%d}`, n)
					if c := got.event.Change; c != nil {
						name := statement.TableName{DB: got.event.Table.Database, Table: got.event.Table.Name}
						require.NotEmpty(t, c.DDL, s)
						require.Equal(t, described(told[name]), described(c.Old), s)
						told[name] = c.New
					}
				}
			}
			for _, db := range []string{b.db, other, other + "_2"} {
				state := l.shapes(t)
				want, got := b.catalogShapes(t, c, db), comparable(state, db)
				if !failed {
					failed = !assert.Equal(t, catalogFacts(t, conn, db), facts(state, db), s)
				}
				b.checkTold(t, c, db, told, s)
				for name := range want {
					if want[name] != got[name] && reported[name] == "" {
						reported[name] = s // what follows on the same table would follow from it
						t.Errorf("%s\ntable %s\nwant %s\ngot  %s", s, name, want[name], got[name])
					}
				}
				for name := range got {
					if _, ok := want[name]; !ok {
						t.Errorf("%s: table %s.%s is not there", s, db, name)
					}
				}
			}
		}
		require.Greater(t, accepted, 150)
	})
}

// described is what an event says about a table; nil for none.
func described(t *change.Table) []string {
	if t == nil {
		return nil
	}
	lines := []string{t.Name}
	for _, c := range t.Columns {
		lines = append(lines, fmt.Sprintf("%s %s %t %s", c.Name, c.Type, c.Nullable, defaultOf(c)))
	}
	for _, k := range t.Key {
		lines = append(lines, "key "+t.Columns[k].Name)
	}
	return lines
}

// defaultOf returns a default in one form: the catalogue shows 0.00 where a statement says 0. SET DEFAULT is not followed: the rows that were
// there have what the column was added with. The corpus sets that of the column tenant.
func defaultOf(c change.Column) string {
	if c.Default == nil || c.Name == "tenant" || strings.Contains(*c.Default, `\`) { // which MariaDB's catalogue may show in two ways
		return "-"
	}
	if n, ok := new(big.Rat).SetString(*c.Default); ok && c.Logical != change.LogicalText {
		return n.RatString()
	}
	return *c.Default
}

// checkTold compares what the events have told about the tables of a database with what the server shows.
func (b *bench) checkTold(t *testing.T, c *catalog.Catalog, db string, told map[statement.TableName]*change.Table, after string) {
	t.Helper()
	flavor := product.MySQL
	if b.srv.IsMariaDB() {
		flavor = product.MariaDB
	}
	state, err := c.State(t.Context(), flavor, func(name string) bool { return name == db })
	require.NoError(t, err)
	s := &resolve.Schemas{Source: &change.Source{}, Flavor: flavor}
	for name, table := range told {
		if name.DB == db && table != nil {
			want := s.TableOf(name, state.Table(db, name.Table))
			for i, c := range table.Columns { // the catalogue knows the default of more literals, such as _latin1 X'41'
				if want != nil && c.Default == nil && i < len(want.Columns) {
					want.Columns[i].Default = nil
				}
			}
			require.Equal(t, described(want), described(table), after)
		}
	}
	if state[db] == nil {
		return
	}
	for name, def := range state[db].Tables {
		if name != "marker" {
			require.NotNil(t, told[statement.TableName{DB: db, Table: name}], "%s: no event of %s %v", after, name, def)
		}
	}
}

// TestUnnamedColumns: MariaDB logs columns that no statement has named.
func TestUnnamedColumns(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		b := newBench(t, testenv.MariaDB(t))
		b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "CREATE TABLE h (id INT PRIMARY KEY, t TEXT UNIQUE, v VARCHAR(2000), UNIQUE (v))",
			"CREATE TABLE s (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO h VALUES (1, 't', 'v')", "UPDATE h SET v = 'w'", "ALTER TABLE h DROP INDEX t, DROP INDEX v", "DELETE FROM h",
			"INSERT INTO s VALUES (1, 2)", "ALTER TABLE s DROP SYSTEM VERSIONING", "DELETE FROM s", "SET GLOBAL binlog_row_metadata = DEFAULT")
		require.Equal(t, []string{
			`c {"id":1} - {"id":1,"t":"t","v":"v"}`, `u {"id":1} {"id":1,"t":"t","v":"v"} {"id":1,"t":"t","v":"w"}`,
			`d {"id":1} {"id":1,"t":"t","v":"w"} -`, `c {"id":1} - {"id":1,"v":2}`, `d {"id":1} {"id":1,"v":2} -`,
		}, rows(t, r.take(t, 5)), metadata)
	}
}
