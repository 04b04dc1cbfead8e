package mysqlcdc

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// endMark is the table whose first row ends what a test looks at.
const endMark = "end_mark"

// delivered runs statements before and after a source starts and returns "op table before after" of each event until the end of them, and
// the error that came before it, if any.
func (b *bench) delivered(t *testing.T, yaml string, before, after []string) ([]string, error) {
	t.Helper()
	b.exec(t, "CREATE TABLE IF NOT EXISTS "+endMark+" (id INT AUTO_INCREMENT PRIMARY KEY)")
	b.exec(t, before...)
	r := start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t)
	b.exec(t, after...)
	b.exec(t, "INSERT INTO "+endMark+" () VALUES ()")
	return r.untilEnd(t)
}

// untilEnd reads to the end mark, or to the error that comes before it, and stops the run.
func (r *run) untilEnd(t *testing.T) (lines []string, err error) {
	t.Helper()
	defer r.stop(t)
	ids := map[string]bool{}
	timeout := time.After(patience)
	for {
		select {
		case seg := <-r.out:
			if seg.Commit != nil {
				r.tok = checkpoint.Token{Source: seg.Source, Commit: seg.Commit}
			}
			if seg.Rows == nil {
				continue
			}
			batch, err := seg.Rows.Decode(t.Context(), nil)
			if err != nil {
				return lines, err
			}
			for _, m := range batch {
				g := receive(t, m)
				if g.event.Table.Name == endMark {
					return lines, nil
				}
				if g.err != nil {
					return lines, g.err
				}
				id := string(g.event.AppendID(nil))
				require.False(t, ids[id], "event id %s twice", id)
				ids[id] = true
				lines = append(lines, fmt.Sprintf("%c %s %s %s", g.event.Op, g.event.Table.Name, part(g.raw, "before"), part(g.raw, "after")))
			}
		case err := <-r.done:
			r.done <- err
			return lines, err
		case <-timeout:
			require.FailNow(t, "neither the end nor an error in time")
		}
	}
}

// TestTwoPhaseAlter: MariaDB logs the statement of an ALTER when it begins and when it ends; it counts once, and not at all if it fails.
func TestTwoPhaseAlter(t *testing.T) {
	b := newBench(t, testenv.MariaDB(t))
	lines, err := b.delivered(t, "", []string{
		"SET SESSION binlog_alter_two_phase = 1", "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)", "INSERT INTO t VALUES (1, 10, 20), (2, 10, 21)",
	}, []string{
		"ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a", "INSERT INTO t (id, a, b) VALUES (3, 10, 20)",
		"ALTER TABLE t ADD COLUMN c INT FIRST", "INSERT INTO t (id, c) VALUES (4, 5)", "CREATE UNIQUE INDEX u ON t (id, a)",
	})
	require.NoError(t, err)
	require.Equal(t, []string{`c t - {"id":3,"b":20,"a":10}`, `c t - {"c":5,"id":4,"b":null,"a":null}`}, lines)

	b.exec(t, "UPDATE t SET c = 1")
	r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
	_, err = b.sql.ExecContext(t.Context(), "ALTER TABLE t ADD COLUMN d INT, ADD UNIQUE (c), ALGORITHM=COPY")
	require.Error(t, err, "the values are not unique")
	b.exec(t, "INSERT INTO t (id, c) VALUES (6, 7)", "INSERT INTO "+endMark+" () VALUES ()")
	lines, err = r.untilEnd(t)
	require.NoError(t, err)
	require.Equal(t, []string{`c t - {"c":7,"id":6,"b":null,"a":null}`}, lines)
}

// TestRollbackToSavepoint: MariaDB logs what a transaction undoes where it has changed a table without transactions, too. MySQL with GTIDs
// refuses such a transaction.
func TestRollbackToSavepoint(t *testing.T) {
	b := newBench(t, testenv.MariaDB(t))
	lines, err := b.delivered(t, "", []string{"CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE my (id INT PRIMARY KEY) ENGINE=MyISAM"}, []string{
		"BEGIN", "INSERT INTO t VALUES (1)", "SAVEPOINT a", "INSERT INTO t VALUES (2)", "INSERT INTO my VALUES (3)", "SAVEPOINT b",
		"INSERT INTO t VALUES (4)", "ROLLBACK TO b", "INSERT INTO t VALUES (5)", "ROLLBACK TO `A`", "INSERT INTO t VALUES (6)", "COMMIT",
		"BEGIN", "INSERT INTO t VALUES (7)", "INSERT INTO my VALUES (8)", "INSERT INTO t VALUES (9)", "ROLLBACK",
	})
	require.NoError(t, err)
	require.Equal(t, []string{`c my - {"id":3}`, `c t - {"id":1}`, `c t - {"id":6}`, `c my - {"id":8}`}, lines)
}

// TestVersionedRows: a table with system versioning keeps the rows that were, as rows. They are none of the table's.
func TestVersionedRows(t *testing.T) {
	b := newBench(t, testenv.StartMariaDB(t, servers.Options{NoSync: true})) // it leaves changes that are logged as statements
	for name, columns := range map[string]string{
		"hidden":   "id INT PRIMARY KEY, v VARCHAR(10)",
		"explicit": "id INT PRIMARY KEY, v VARCHAR(10), s TIMESTAMP(6) GENERATED ALWAYS AS ROW START, e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)",
		"ids":      "id INT PRIMARY KEY, v VARCHAR(10), s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)",
		"no key":   "id INT, v VARCHAR(10)",
		"hashes":   "id INT PRIMARY KEY, v VARCHAR(10), l TEXT UNIQUE",
	} {
		for _, settings := range []string{"binlog_row_image = FULL", "binlog_row_image = MINIMAL"} {
			for _, metadata := range []string{"NO_LOG", "FULL"} {
				t.Run(name+" "+settings+" "+metadata, func(t *testing.T) {
					b.exec(t, "DROP TABLE IF EXISTS t", "SET GLOBAL binlog_row_metadata = "+metadata, "SET SESSION "+settings)
					lines, err := b.delivered(t, "", []string{"CREATE TABLE t (" + columns + ") WITH SYSTEM VERSIONING"}, []string{
						"INSERT INTO t (id, v) VALUES (1, 'one'), (2, 'two')", "UPDATE t SET v = 'three' WHERE id = 1", "DELETE FROM t WHERE id = 1",
						"DELETE HISTORY FROM t", "INSERT INTO t (id, v) VALUES (3, 'four')", "UPDATE t SET id = 4 WHERE id = 3",
					})
					if name == "ids" { // MariaDB logs changes of such a table as statements, whatever the format
						require.ErrorContains(t, err, "is logged as a statement")
						return
					}
					require.NoError(t, err)
					var short []string
					for _, l := range lines {
						short = append(short, regexp.MustCompile(`,"[sel]":("[^"]*"|null|\d+)`).ReplaceAllString(l, ""))
					}
					image := func(full, minimal string) string {
						if strings.HasSuffix(settings, "MINIMAL") && name != "no key" {
							return minimal
						}
						return full
					}
					require.Equal(t, []string{
						`c t - {"id":1,"v":"one"}`, `c t - {"id":2,"v":"two"}`,
						"u t " + image(`{"id":1,"v":"one"} {"id":1,"v":"three"}`, `{"id":1} {"id":1,"v":"three"}`),
						"d t " + image(`{"id":1,"v":"three"}`, `{"id":1}`) + " -",
						`c t - {"id":3,"v":"four"}`,
						"u t " + image(`{"id":3,"v":"four"} {"id":4,"v":"four"}`, `{"id":3} {"id":4,"v":"four"}`),
					}, short)
				})
			}
		}
	}
	b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
}

// TestSequenceRows: a sequence keeps its state in a row, which is none of a table.
func TestSequenceRows(t *testing.T) {
	b := newBench(t, testenv.MariaDB(t))
	for _, metadata := range []string{"NO_LOG", "FULL"} {
		b.exec(t, "DROP TABLE IF EXISTS t", "SET GLOBAL binlog_row_metadata = "+metadata)
		lines, err := b.delivered(t, "", []string{"CREATE SEQUENCE old NOCACHE", "CREATE TABLE t (id INT PRIMARY KEY)"}, []string{
			"CREATE SEQUENCE s NOCACHE", "INSERT INTO t VALUES (NEXT VALUE FOR s)", "DO NEXTVAL(old)", "SELECT SETVAL(s, 100)", "RENAME TABLE s TO s2",
			"INSERT INTO t VALUES (NEXT VALUE FOR s2)", "ALTER SEQUENCE s2 RESTART 50", "DO NEXTVAL(s2)", "DROP SEQUENCE s2", "DROP SEQUENCE old",
		})
		require.NoError(t, err)
		require.Equal(t, []string{`c t - {"id":1}`, `c t - {"id":101}`}, lines)
	}
	b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
}
