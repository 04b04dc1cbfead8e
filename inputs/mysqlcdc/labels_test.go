package mysqlcdc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// TestLabelsBeyondTheCatalogue: the catalogue shows "?" for characters beyond U+FFFF. A label that may have one is an error where the
// log does not say what it is, and exact as soon as it does: with names in the log, or by a statement.
func TestLabelsBeyondTheCatalogue(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		full := b.query(t, "SELECT @@GLOBAL.binlog_row_metadata") == "FULL"
		defer b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, e ENUM('x','a😀b') CHARACTER SET utf8mb4, s SET('?','y') CHARACTER SET utf8mb4,"+
			" l ENUM('?') CHARACTER SET latin1)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (1, 'x', 'y', '?')", "INSERT INTO c VALUES (2, 'a😀b', 'y', '?')", "INSERT INTO c VALUES (3, 'x', '?,y', '?')")
		got := r.take(t, 3)
		require.Equal(t, []string{`c {"id":1} - {"id":1,"e":"x","s":"y","l":"?"}`}, rows(t, got[:1]))
		if full {
			require.Equal(t, []string{
				`c {"id":2} - {"id":2,"e":"a😀b","s":"y","l":"?"}`, `c {"id":3} - {"id":3,"e":"x","s":"?,y","l":"?"}`,
			}, rows(t, got[1:]))
			return
		}
		require.ErrorContains(t, got[1].err, "decoding row 0 of "+b.db+".c at bin.")
		require.ErrorContains(t, got[1].err, `column e: label 2, "a?b": information_schema shows characters beyond U+FFFF as ?`)
		require.ErrorContains(t, got[2].err, `column s: label 1, "?"`)
		require.ErrorContains(t, got[2].err, "SET GLOBAL binlog_row_metadata = 'FULL'")
		b.exec(t, "ALTER TABLE c MODIFY e ENUM('x','a😀b') CHARACTER SET utf8mb4, MODIFY s SET('?','y') CHARACTER SET utf8mb4",
			"INSERT INTO c VALUES (4, 'a😀b', '?', '?')")
		require.Equal(t, []string{`c {"id":4} - {"id":4,"e":"a😀b","s":"?","l":"?"}`}, rows(t, r.take(t, 1)))
	})
}

// TestTruncateOfUnseenTable: a table of which no row was read has its columns all the same.
func TestTruncateOfUnseenTable(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v DECIMAL(5,2))")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "TRUNCATE c", "INSERT INTO c VALUES (1, 2)", "ALTER TABLE c ADD n INT FIRST", "TRUNCATE c", "INSERT INTO c VALUES (1, 1, 2)")
		got := r.take(t, 4)
		require.Equal(t, []string{"t  - -", `c {"id":1} - {"id":1,"v":"2.00"}`, "t  - -", `c {"id":1} - {"n":1,"id":1,"v":"2.00"}`}, rows(t, got))
		for _, i := range []int{0, 2} {
			require.Equal(t, got[i+1].event.Table.Fingerprint(), got[i].event.Table.Fingerprint())
			require.Equal(t, got[i+1].json["schema_version"], got[i].json["schema_version"])
		}
	})
}
