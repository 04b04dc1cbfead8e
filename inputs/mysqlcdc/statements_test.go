package mysqlcdc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// TestStatementsThatReach: a change that is logged as a statement can reach a captured table by a trigger, a function, a view, and in
// many forms. Whatever changes it stops the source; what changes another database only does not, where the server says which it is.
func TestStatementsThatReach(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) { // it leaves changes that are logged as statements
		other := b.srv.Database(t)
		b.exec(t, "CREATE TABLE "+other+".o (id INT PRIMARY KEY)", "CREATE TABLE "+endMark+" (id INT AUTO_INCREMENT PRIMARY KEY)",
			"CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE other (id INT)", "CREATE TABLE trg (id INT)",
			"CREATE TABLE "+other+".trg (id INT)", "CREATE VIEW vw AS SELECT * FROM t",
			"CREATE FUNCTION f_t() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE t SET v = 'f'; RETURN 5000; END",
			"CREATE PROCEDURE p_t() MODIFIES SQL DATA BEGIN UPDATE t SET v = 'p'; END",
			"CREATE TRIGGER tr AFTER INSERT ON trg FOR EACH ROW UPDATE t SET v = 'trigger'",
			"CREATE TRIGGER "+other+".tr AFTER INSERT ON "+other+".trg FOR EACH ROW UPDATE "+b.db+".t SET v = 'trigger'")
		l := b.newLog(t, "tables: {include: ['"+b.db+".t', '"+b.db+"."+endMark+"']}")
		for _, sql := range []string{
			"INSERT INTO t VALUES (5, 'a')", "REPLACE INTO `t` (id) VALUES (3)", "UPDATE other, t SET t.v = 'z'", "UPDATE vw SET v = 'view'",
			"INSERT INTO vw VALUES (77, 'v')", "DELETE FROM t USING t JOIN other", "DO f_t()", "SELECT f_t()", "CALL p_t()", "SET @x = f_t()",
			"INSERT INTO other VALUES (f_t())", "INSERT INTO trg VALUES (1)", "INSERT INTO " + other + ".trg VALUES (1)",
			"INSERT INTO " + other + ".o VALUES (f_t())", "/*!50000 UPDATE */ t SET v = 'c'",
		} {
			b.exec(t, "SET SESSION binlog_format = 'ROW'", "DELETE FROM t", "DELETE FROM "+other+".o", "INSERT INTO t VALUES (1, 'q'), (3, 'q')", "INSERT INTO other VALUES (1)")
			r := start(t, l, checkpoint.Token{})
			r.segment(t)
			before := b.query(t, "SELECT GROUP_CONCAT(id, v ORDER BY id) FROM t")
			b.exec(t, "SET SESSION binlog_format = 'STATEMENT'", sql, "SET SESSION binlog_format = 'ROW'")
			require.NotEqual(t, before, b.query(t, "SELECT IFNULL(GROUP_CONCAT(id, IFNULL(v, '') ORDER BY id), '') FROM t"), "%s changes the table", sql)
			b.exec(t, "INSERT INTO "+endMark+" () VALUES ()")
			lines, err := r.untilEnd(t)
			require.ErrorContains(t, err, "is logged as a statement, without its rows", "%s: %v", sql, lines)
			require.Equal(t, fault.KindProtocol, fault.KindOf(err))
		}
		if b.srv.IsMariaDB() {
			return // it does not say what a statement can change
		}
		b.exec(t, "DELETE FROM "+other+".o")
		r := start(t, l, checkpoint.Token{}).connected(t)
		b.exec(t, "SET SESSION binlog_format = 'STATEMENT'", "INSERT INTO "+other+".o VALUES (1)", "SET SESSION binlog_format = 'ROW'", "INSERT INTO "+endMark+" () VALUES ()")
		lines, err := r.untilEnd(t)
		require.NoError(t, err)
		require.Empty(t, lines)
	})
}

// TestNamesInOtherCharacterSets: the names in a statement are in the character set of its client.
func TestNamesInOtherCharacterSets(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) { // it leaves changes that are logged as statements
		for _, pattern := range []string{"tö", "%"} {
			for _, c := range []struct{ charset, name string }{{"latin1", "t\xf6"}, {"cp1250", "t\xf6"}, {"utf8mb3", "tö"}, {"binary", "tö"}} {
				b.exec(t, "DROP TABLE IF EXISTS `tö`")
				yaml := "tables: {include: ['" + b.db + "." + pattern + "', '" + b.db + "." + endMark + "']}"
				lines, err := b.delivered(t, yaml, []string{"CREATE TABLE `tö` (id INT PRIMARY KEY)"}, []string{
					"INSERT INTO `tö` VALUES (1)", "SET NAMES " + c.charset, "TRUNCATE TABLE `" + c.name + "`", "INSERT INTO `" + c.name + "` VALUES (2)",
					"SET NAMES utf8mb4", "ALTER TABLE `tö` ADD `ä` INT FIRST", "INSERT INTO `tö` VALUES (3, 4)",
				})
				require.NoError(t, err)
				require.Equal(t, []string{`c tö - {"id":1}`, "t tö - -", `c tö - {"id":2}`, `c tö - {"ä":3,"id":4}`}, lines, c.charset)
				_, err = b.delivered(t, yaml, nil, []string{
					"SET SESSION binlog_format = 'STATEMENT'", "SET NAMES " + c.charset, "INSERT INTO `" + c.name + "` (id) VALUES (5)",
					"SET NAMES utf8mb4", "SET SESSION binlog_format = 'ROW'",
				})
				require.ErrorContains(t, err, "the change of table "+b.db+".tö", c.charset)
			}
		}
	})
}

// TestTemporaryTables: what is logged about a temporary table is about no other of its name.
func TestTemporaryTables(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) { // it leaves changes that are logged as statements
		for _, format := range []string{"ROW", "MIXED", "STATEMENT"} {
			b.exec(t, "DROP TABLE IF EXISTS t, u, k")
			after := []string{
				"SET SESSION binlog_format = 'ROW'", "INSERT INTO t VALUES (1, 'a')", "SET SESSION binlog_format = '" + format + "'",
				"CREATE TEMPORARY TABLE t (x INT, y INT, z INT)", "INSERT INTO t VALUES (1, 2, 3)", "ALTER TABLE t ADD COLUMN w INT", "TRUNCATE TABLE t",
				"CREATE INDEX i ON t (x)", "CREATE TEMPORARY TABLE o (a INT)", "CREATE TABLE k LIKE o", "ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t",
				"DROP TEMPORARY TABLE t, o", "SET SESSION binlog_format = 'ROW'", "INSERT INTO t VALUES (2, 'b')",
			}
			if b.srv.IsMariaDB() { // MySQL's RENAME TABLE leaves temporary tables alone
				after = append(after, "SET SESSION binlog_format = '"+format+"'", "CREATE TEMPORARY TABLE t (x INT)", "RENAME TABLE t TO t9", "DROP TABLE t9",
					"SET SESSION binlog_format = 'ROW'", "INSERT INTO t VALUES (3, 'c')")
			}
			lines, err := b.delivered(t, "", []string{"CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(10))"}, after)
			want := []string{`c t - {"id":1,"v":"a"}`, `c t - {"id":2,"v":"b"}`, `c t - {"id":3,"v":"c"}`}
			if !b.srv.IsMariaDB() {
				want = want[:2]
				if format == "STATEMENT" { // the server names the database, which is captured, but not whether the table is temporary
					t.Log(lines, err)
				}
			}
			require.NoError(t, err, format)
			require.Equal(t, want, lines, format)
		}
	})
}
