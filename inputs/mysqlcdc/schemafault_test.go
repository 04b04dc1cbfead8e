package mysqlcdc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// TestRestartAfterDDL: every kind of change that is made while the source is stopped.
func TestRestartAfterDDL(t *testing.T) {
	for _, gtid := range []string{"true", "false"} {
		onBoth(t, func(t *testing.T, b *bench) {
			b.exec(t, "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE b (id INT PRIMARY KEY, n INT)",
				"CREATE TABLE c (id INT PRIMARY KEY, n INT)")
			l := b.newLog(t, "use_gtid: "+gtid)
			r := start(t, l, checkpoint.Token{}).connected(t)
			tok := r.tok
			r.stop(t)
			b.exec(t, "INSERT INTO a VALUES (1, 'one')", "ALTER TABLE a ADD m INT AFTER id", "INSERT INTO a VALUES (2, 5, 'two')",
				"ALTER TABLE a RENAME COLUMN v TO w, MODIFY m VARCHAR(5)", "INSERT INTO a VALUES (3, 'x', 'three')",
				"ALTER TABLE a DROP COLUMN m", "INSERT INTO a VALUES (4, 'four')",
				"INSERT INTO b VALUES (1, 1)", "RENAME TABLE b TO x, c TO b, x TO c", "ALTER TABLE c ADD only_c INT", "INSERT INTO b VALUES (2, 2)",
				"INSERT INTO c VALUES (3, 3, 3)",
				"DROP TABLE a", "CREATE TABLE a (other BIGINT UNSIGNED, PRIMARY KEY (other))", "INSERT INTO a VALUES (18446744073709551615)",
				"DROP TABLE a")
			want := []string{
				`c {"id":1} - {"id":1,"v":"one"}`, `c {"id":2} - {"id":2,"m":5,"v":"two"}`, `c {"id":3} - {"id":3,"m":"x","w":"three"}`,
				`c {"id":4} - {"id":4,"w":"four"}`, `c {"id":1} - {"id":1,"n":1}`, `c {"id":2} - {"id":2,"n":2}`,
				`c {"id":3} - {"id":3,"n":3,"only_c":3}`, `c {"other":18446744073709551615} - {"other":18446744073709551615}`,
			}
			r = start(t, l.restarted(t), reparsed(tok)).connected(t)
			require.Equal(t, want, rows(t, r.take(t, len(want))))
			r.stop(t)
			// The history is ahead of the position, as it is after a crash between the two saves.
			r = start(t, l.restarted(t), reparsed(tok)).connected(t)
			require.Equal(t, want, rows(t, r.take(t, len(want))))
		})
	}
}

// TestStartEarliest: what is in the log from the making of a table on is exact; before that, tables are taken as they are now.
func TestStartEarliest(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		b.exec(t, "SET GLOBAL binlog_row_metadata = MINIMAL", // FULL would tell the columns
			"FLUSH BINARY LOGS", "CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1)", "ALTER TABLE a ADD v INT FIRST",
			"INSERT INTO a VALUES (2, 2)", "CREATE TABLE b (id INT)", "RENAME TABLE a TO x, b TO a, x TO b", "INSERT INTO b VALUES (3, 3)",
			"INSERT INTO a VALUES (4)", "DROP TABLE a")
		r := start(t, b.newLog(t, "start: earliest"), checkpoint.Token{}).connected(t)
		require.Equal(t, []string{
			`c {"id":1} - {"id":1}`, `c {"id":2} - {"v":2,"id":2}`, `c {"id":3} - {"v":3,"id":3}`, `c  - {"id":4}`,
		}, rows(t, r.take(t, 4)))
		r.stop(t)

		b.exec(t, "CREATE TABLE late (id INT PRIMARY KEY)")
		l := b.newLog(t, "")
		from := start(t, l, checkpoint.Token{}).connected(t).tok
		b.exec(t, "INSERT INTO late VALUES (1)", "ALTER TABLE late ADD v INT", "INSERT INTO late VALUES (2, 2)")
		l = b.newLog(t, fmt.Sprintf("start: %q", from.Commit))
		err := start(t, l, checkpoint.Token{}).fail(t)
		require.Equal(t, fault.KindSchema, fault.KindOf(err))
		require.ErrorContains(t, err, "its rows in the log have 1 columns, the schema history has 2 (the table is known as it was at")
	})
}

// TestNewDatabases: tables that the configuration captures only since the last start are taken from the catalogue.
func TestNewDatabases(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.srv.Database(t)
		b.exec(t, "CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE "+other+".a (id INT PRIMARY KEY, v INT)")
		l := b.newLog(t, "")
		r := start(t, l, checkpoint.Token{}).connected(t)
		tok := r.tok
		r.stop(t)
		l = l.restarted(t)
		l.cfg.filter.Include = append(l.cfg.filter.Include, filter.Pattern{Container: other, Table: "%"})
		r = start(t, l, reparsed(tok)).connected(t)
		b.exec(t, "INSERT INTO "+other+".a VALUES (1, 2)")
		require.Equal(t, []string{`c {"id":1} - {"id":1,"v":2}`}, rows(t, r.take(t, 1)))
	})
}

// TestHiddenDDL: a change that the log does not have is an error, or, where the log says what rows are, no matter.
func TestHiddenDDL(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		onBoth(t, func(t *testing.T, b *bench) {
			b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata)
			defer b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
			for n, c := range []struct{ ddl, insert, want, err string }{
				{"ADD x INT FIRST", "(5, 1, 'v', 'a')", `{"x":5,"id":1,"v":"v","e":"a"}`, "its rows in the log have 4 columns, the schema history has 3"},
				{"DROP COLUMN v", "(1, 'a')", `{"id":1,"e":"a"}`, "its rows in the log have 2 columns, the schema history has 3"},
				{"MODIFY id BIGINT", "(1, 'v', 'a')", `{"id":1,"v":"v","e":"a"}`, "column 1 (id int"},
				{"MODIFY v VARCHAR(11)", "(1, 'v', 'a')", `{"id":1,"v":"v","e":"a"}`, "column 2 (v varchar(10)): the log has size"},
				{"MODIFY v VARCHAR(10) CHARACTER SET latin1", "(1, 'v', 'a')", `{"id":1,"v":"v","e":"a"}`, "column 2 (v varchar(10)): the log has"},
				{"MODIFY id INT UNSIGNED", "(4294967295, 'v', 'a')", `{"id":4294967295,"v":"v","e":"a"}`, "column 1 (id int"},
			} {
				name := fmt.Sprintf("h%d", n)
				b.exec(t, "CREATE TABLE "+name+" (id INT PRIMARY KEY, v VARCHAR(10), e ENUM('a','b'))")
				r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
				b.exec(t, "SET SESSION sql_log_bin = 0", "ALTER TABLE "+name+" "+c.ddl, "SET SESSION sql_log_bin = 1", "INSERT INTO "+name+" VALUES "+c.insert)
				if metadata == "FULL" {
					require.Equal(t, c.want, part(r.take(t, 1)[0].raw, "after"), c.ddl)
					r.stop(t)
					continue
				}
				err := r.fail(t)
				require.Equal(t, fault.KindSchema, fault.KindOf(err))
				require.ErrorContains(t, err, "shape of table "+b.db+"."+name+" at bin.")
				require.ErrorContains(t, err, c.err)
				require.ErrorContains(t, err, "SQL_LOG_BIN=0")
			}
		})
	}
}

// TestUnfittingDDL: a statement that cannot be applied stops the source, unless it is told to read the table again or does not
// capture it.
func TestUnfittingDDL(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		prepare := func(l *mysqlLog) *run {
			b.exec(t, "DROP TABLE IF EXISTS c", "CREATE TABLE c (id INT PRIMARY KEY)")
			r := start(t, l, checkpoint.Token{}).connected(t)
			// The log then has a statement on a column that it does not know.
			b.exec(t, "SET SESSION sql_log_bin = 0", "ALTER TABLE c ADD hidden INT", "SET SESSION sql_log_bin = 1",
				"ALTER TABLE c DROP COLUMN hidden, ADD seen INT", "INSERT INTO c VALUES (1, 2)")
			return r
		}
		err := prepare(b.newLog(t, "")).fail(t)
		require.Equal(t, fault.KindSchema, fault.KindOf(err))
		require.ErrorContains(t, err, "the statement that ends at bin.")
		require.ErrorContains(t, err, "ALTER TABLE c DROP COLUMN hidden, ADD seen INT")
		require.ErrorContains(t, err, "it has no column hidden")
		require.ErrorContains(t, err, "on_unparseable_ddl: reload")

		r := prepare(b.newLog(t, "on_unparseable_ddl: reload"))
		require.Equal(t, []string{`c {"id":1} - {"id":1,"seen":2}`}, rows(t, r.take(t, 1)))
		r.stop(t)

		b.exec(t, "CREATE TABLE other (id INT PRIMARY KEY)")
		r = prepare(b.newLog(t, fmt.Sprintf("tables: {include: [%q]}", b.db+".other")))
		b.exec(t, "INSERT INTO other VALUES (1)")
		require.Equal(t, []string{`c {"id":1} - {"id":1}`}, rows(t, r.take(t, 1)))
	})
}
