package mysqlcdc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// TestShapesFromOutside: a table that comes out of a database that is not captured has the shape that it had there, and not the one that
// the catalogue shows when its rows are read.
func TestShapesFromOutside(t *testing.T) {
	const swap = "RENAME COLUMN a TO b, RENAME COLUMN b TO a"
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.srv.Database(t)
		for name, c := range map[string]struct {
			foreign, made, row, later string
			want                      string
		}{
			"LIKE": {
				"(id INT PRIMARY KEY, a INT, b INT)", "CREATE TABLE t LIKE OTHER.x", "(1, 10, 20)", "ALTER TABLE t " + swap, `{"id":1,"a":10,"b":20}`,
			},
			"RENAME": {
				"(id INT PRIMARY KEY, a INT, b INT)", "RENAME TABLE OTHER.x TO t", "(1, 10, 20)", "ALTER TABLE t " + swap, `{"id":1,"a":10,"b":20}`,
			},
			"ALTER RENAME": {
				"(id INT PRIMARY KEY, a INT, b INT)", "ALTER TABLE OTHER.x RENAME TO " + b.db + ".t", "(1, 10, 20)", "ALTER TABLE t " + swap, `{"id":1,"a":10,"b":20}`,
			},
			"LIKE changed": {
				"(id INT PRIMARY KEY, a INT, b INT)", "CREATE TABLE t LIKE OTHER.x", "(1, 10, 20)", "ALTER TABLE " + other + ".x DROP b", `{"id":1,"a":10,"b":20}`,
			},
			"labels": {
				"(id INT PRIMARY KEY, e ENUM('a','b'))", "CREATE TABLE t LIKE OTHER.x", "(1, 'b')", "ALTER TABLE t MODIFY e ENUM('b','a')", `{"id":1,"e":"b"}`,
			},
			"dropped": {
				"(id INT PRIMARY KEY, a INT)", "CREATE TABLE t LIKE OTHER.x", "(1, 2)", "DROP TABLE t", `{"id":1,"a":2}`,
			},
		} {
			t.Run(name, func(t *testing.T) {
				b.exec(t, "DROP TABLE IF EXISTS t, "+other+".x", "CREATE TABLE "+other+".x "+c.foreign, "CREATE TABLE IF NOT EXISTS "+endMark+" (id INT AUTO_INCREMENT PRIMARY KEY)")
				l := b.newLog(t, "")
				r := start(t, l, checkpoint.Token{})
				r.segment(t)
				tok := r.tok
				r.stop(t)
				b.exec(t, strings.ReplaceAll(c.made, "OTHER", other), "INSERT INTO t VALUES "+c.row, c.later, "INSERT INTO "+endMark+" () VALUES ()")
				lines, err := start(t, l.restarted(t), reparsed(tok)).untilEnd(t)
				require.NoError(t, err)
				require.Equal(t, []string{"c t - " + c.want}, lines)
			})
		}
	})
}

// TestUnknownShapes: where the shape is in a database that the account cannot see, nothing is guessed.
func TestUnknownShapes(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		other := b.srv.Database(t)
		dsn := b.account(t, "SELECT ON "+b.db+".*", "REPLICATION SLAVE ON *.*", "REPLICATION CLIENT ON *.*")
		for _, made := range []string{"CREATE TABLE t LIKE " + other + ".x", "RENAME TABLE " + other + ".x TO t", "ALTER TABLE " + other + ".x RENAME TO " + b.db + ".t"} {
			for _, metadata := range []string{"MINIMAL", "FULL"} {
				b.exec(t, "DROP TABLE IF EXISTS t, "+other+".x", "CREATE TABLE "+other+".x (id INT PRIMARY KEY, a INT, b INT)",
					"CREATE TABLE IF NOT EXISTS "+endMark+" (id INT AUTO_INCREMENT PRIMARY KEY)", "SET GLOBAL binlog_row_metadata = "+metadata)
				l := newTestLog(t, dsn, b.db, "")
				r := start(t, l, checkpoint.Token{}).connected(t)
				b.exec(t, made, "ALTER TABLE t COMMENT 'it is looked at nevertheless'", "INSERT INTO t (id, a, b) VALUES (1, 10, 20)", "INSERT INTO "+endMark+" () VALUES ()")
				lines, err := r.untilEnd(t)
				if metadata == "FULL" {
					require.NoError(t, err)
					require.Equal(t, []string{`c t - {"id":1,"a":10,"b":20}`}, lines)
					continue
				}
				require.ErrorContains(t, err, "its columns are not known: it")
				require.ErrorContains(t, err, other+".x, whose columns are not known (GRANT SELECT ON `"+other+"`.* TO the account")
			}
		}
		b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
	})
}
