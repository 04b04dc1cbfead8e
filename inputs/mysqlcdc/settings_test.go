package mysqlcdc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestOldTimes: MariaDB stores times as it did before it knew MySQL's way where the table was made so, and does not log how many digits
// they have.
func TestOldTimes(t *testing.T) {
	b := newBench(t, testenv.MariaDB(t))
	const columns = "(id INT PRIMARY KEY, a TIME(3), b DATETIME(6), c TIMESTAMP(2) NULL, d TIME, e DATETIME, f TIMESTAMP NULL, g TIME(6), h DATETIME(1), i TIME(1), j TIMESTAMP(5) NULL)"
	for _, metadata := range []string{"NO_LOG", "FULL"} {
		b.exec(t, "SET time_zone = '+00:00'", "SET sql_mode = ''", "DROP TABLE IF EXISTS t, late", "SET GLOBAL binlog_row_metadata = "+metadata, "SET GLOBAL mysql56_temporal_format = OFF")
		lines, err := b.delivered(t, "tables: {include: ['"+b.db+".t', '"+b.db+"."+endMark+"', '"+b.db+".late']}", []string{
			"CREATE TABLE t " + columns, "CREATE TABLE hidden " + columns, // which is not captured, and its rows are counted nevertheless
		}, []string{
			"BEGIN", "INSERT INTO hidden (id, a, b, c, g, h, i, j) VALUES (1, 0, 0, 0, 0, 0, 0, 0), (2, 1, 1, 1, 1, 1, 1, 1)",
			"INSERT INTO t VALUES (1, '-12:34:56.789', '2024-02-29 13:51:30.123456', '2024-02-29 13:51:30.12', '12:34:56', '2024-02-29 13:51:30', '2024-02-29 13:51:30', '12:34:56.789012', '2024-02-29 13:51:30.1', '-00:00:00.1', '2024-02-29 13:51:30.00001')", "COMMIT",
			"INSERT INTO t VALUES (2, '838:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07', '-12:34:56', 0, 0, '-00:00:00.000001', 0, '-838:59:59.9', 0)",
			"CREATE TABLE late " + columns, "INSERT INTO late (id, a, b) VALUES (3, '00:00:01.001', '2024-02-29 00:00:00.000001')",
		})
		b.exec(t, "SET GLOBAL mysql56_temporal_format = DEFAULT", "SET GLOBAL binlog_row_metadata = DEFAULT", "DROP TABLE hidden")
		require.NoError(t, err)
		require.Equal(t, []string{
			`c t - {"id":1,"a":"-12:34:56.789","b":"2024-02-29T13:51:30.123456","c":"2024-02-29T13:51:30.12Z","d":"12:34:56","e":"2024-02-29T13:51:30","f":"2024-02-29T13:51:30Z",` +
				`"g":"12:34:56.789012","h":"2024-02-29T13:51:30.1","i":"-00:00:00.1","j":"2024-02-29T13:51:30.00001Z"}`,
			`c t - {"id":2,"a":"838:59:59.000","b":"9999-12-31T23:59:59.999999","c":"2038-01-19T03:14:07.00Z","d":"-12:34:56","e":"0000-00-00 00:00:00","f":"0000-00-00 00:00:00",` +
				`"g":"-00:00:00.000001","h":"0000-00-00 00:00:00.0","i":"-838:59:59.9","j":"0000-00-00 00:00:00.00000"}`,
			`c late - {"id":3,"a":"00:00:01.001","b":"2024-02-29T00:00:00.000001","c":null,"d":null,"e":null,"f":null,"g":null,"h":null,"i":null,"j":null}`,
		}, lines, metadata)
	}
}

// TestUTF8OfOldMode: what utf8 means in a statement is up to a setting that is not in the log.
func TestUTF8OfOldMode(t *testing.T) {
	b := newBench(t, testenv.MariaDB(t))
	for _, metadata := range []string{"NO_LOG", "MINIMAL", "FULL"} {
		b.exec(t, "DROP TABLE IF EXISTS t, old", "SET GLOBAL binlog_row_metadata = "+metadata)
		lines, err := b.delivered(t, "", nil, []string{
			"SET SESSION old_mode = ''", "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(10) CHARACTER SET utf8, b CHAR(3), c TEXT, e ENUM('ä','😊')) DEFAULT CHARSET utf8",
			"INSERT INTO t VALUES (1, '😊ä', 'ö😊', '😊', '😊')", "ALTER TABLE t ADD d VARCHAR(20) AFTER id", "INSERT INTO t (id, d) VALUES (2, '😊')",
			"SET SESSION old_mode = DEFAULT", "CREATE TABLE old (id INT PRIMARY KEY, a VARCHAR(10) CHARACTER SET utf8)", "INSERT INTO old VALUES (3, 'ä')",
		})
		b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT", "SET SESSION old_mode = DEFAULT")
		require.NoError(t, err, metadata)
		require.Equal(t, []string{
			`c t - {"id":1,"a":"😊ä","b":"ö😊","c":"😊","e":"😊"}`, `c t - {"id":2,"d":"😊","a":null,"b":null,"c":null,"e":null}`, `c old - {"id":3,"a":"ä"}`,
		}, lines, metadata)
	}
}

// TestOddNames: names as servers keep them, which is not always as statements write them.
func TestOddNames(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		before := []string{"CREATE TABLE odd (id INT PRIMARY KEY)", "CREATE TABLE a (id INT PRIMARY KEY)"}
		after := []string{"INSERT INTO odd VALUES (1)"}
		want := []string{`c odd - {"id":1}`}
		if b.srv.IsMariaDB() {
			after = append(after, "ALTER TABLE .a ADD COLUMN dot INT FIRST", "INSERT INTO a VALUES (2, 3)", "TRUNCATE TABLE .a", "RENAME TABLE .a TO .b", "INSERT INTO b VALUES (4, 5)")
			want = append(want, `c a - {"dot":2,"id":3}`, "t a - -", `c b - {"dot":4,"id":5}`)
		} else {
			after = append(after, "ALTER TABLE odd ADD `表😊` INT", "INSERT INTO odd VALUES (2, 3)", "ALTER TABLE odd RENAME COLUMN `表?` TO c1, ADD `😊😊` INT", "INSERT INTO odd VALUES (3, 4, 5)")
			want = append(want, `c odd - {"id":2,"表?":3}`, `c odd - {"id":3,"c1":4,"??":5}`)
		}
		lines, err := b.delivered(t, "", before, after)
		require.NoError(t, err)
		require.Equal(t, want, lines)
	})
}
