package mysqlcdc

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/typematrix"
)

// TestTypes writes every row of the matrix and compares the JSON of each, with and without names in the log, and with what the
// schema metadata says.
func TestTypes(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata)
				b.lax(t)
				b.checkTypes(t, typeCases(), "")
			})
		})
	}
}

// lax lets the session write what a strict one may not, in UTC.
func (b *bench) lax(t *testing.T) {
	b.exec(t, "SET SESSION sql_mode = ''", "SET time_zone = '+00:00'", "SET NAMES utf8mb4")
}

// typesPerTable keeps tables below the limits of a row.
const typesPerTable = 40

// checkTypes makes tables with a column a case, writes a row into each, and compares.
func (b *bench) checkTypes(t *testing.T, all []typeCase, yaml string) {
	t.Helper()
	var cases []typeCase
	full := b.query(t, "SELECT @@GLOBAL.binlog_row_metadata") == "FULL"
	for _, c := range all {
		if (c.only == "" || (c.only == "mariadb") == b.srv.IsMariaDB()) && (!c.full || full) {
			cases = append(cases, c)
		}
	}
	require.NotEmpty(t, cases)
	chunks := slices.Collect(slices.Chunk(cases, typesPerTable))
	for i, chunk := range chunks {
		columns := []string{"id INT PRIMARY KEY"}
		for j, c := range chunk {
			columns = append(columns, fmt.Sprintf("c%d %s", j, c.column))
		}
		b.exec(t, fmt.Sprintf("CREATE TABLE c%d (%s) ROW_FORMAT=DYNAMIC", i, strings.Join(columns, ", ")))
	}
	l := b.newLog(t, yaml)
	r := start(t, l, checkpoint.Token{}).connected(t)
	for i, chunk := range chunks {
		values := []string{"1"}
		for _, c := range chunk {
			values = append(values, c.insert)
		}
		b.exec(t, fmt.Sprintf("INSERT INTO c%d VALUES (%s)", i, strings.Join(values, ", ")))
	}
	reader := openReader(t, l)
	for i, got := range r.take(t, len(chunks)) {
		require.NoError(t, got.err)
		b.checkRow(t, fmt.Sprintf("c%d", i), chunks[i], got)
		rows := readChunk(t, reader, r.tok.Commit, snapshot.Chunk{Table: fmt.Sprintf("%s.c%d", b.db, i), Limit: 10})
		sameAsStream(t, []received{got}, asReceived(t, rows))
	}
}

func (b *bench) checkRow(t *testing.T, table string, cases []typeCase, got received) {
	t.Helper()
	after := strings.TrimPrefix(part(got.raw, "after"), `{"id":1`)
	common, err := typematrix.Read(got.event.Table.CommonSchema())
	require.NoError(t, err)
	for j, c := range cases {
		want := c.want
		if c.read != "" {
			want = b.query(t, fmt.Sprintf("SELECT "+strings.ReplaceAll(c.read, "$", "%[1]s")+" FROM %[2]s", fmt.Sprintf("c%d", j), table))
		}
		what := fmt.Sprintf("%s with %.60s", c.column, c.insert)
		want = fmt.Sprintf(`,"c%d":%s`, j, want)
		if !strings.HasPrefix(after, want) {
			require.FailNow(t, what, "want %.200s\ngot  %.200s", want, after)
		}
		after = strings.TrimPrefix(after, want)
		d := json.NewDecoder(strings.NewReader(strings.TrimPrefix(want, fmt.Sprintf(`,"c%d":`, j))))
		d.UseNumber()
		var value any
		require.NoError(t, d.Decode(&value), what)
		if err := typematrix.Conforms(common.Children[1+j], value); c.misfit {
			require.Error(t, err, what)
		} else {
			require.NoError(t, err, what)
		}
	}
	require.Equal(t, "}", after)
}

// onlyDeclared reports what of a type the log does not have: display widths, the kinds of geometry, the size of a vector.
func onlyDeclared(column string) bool {
	return regexp.MustCompile(`^TINYINT\(1\)|^BOOL|ZEROFILL|NOT NULL|POINT|LINESTRING|POLYGON|GEOMETRYC|^VECTOR|^FLOAT\(|^DOUBLE\(`).MatchString(column)
}

// TestTypeText compares the type that is worked out from the log with the type that the server shows.
func TestTypeText(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	columns := []string{"id INT PRIMARY KEY"}
	seen := map[string]bool{}
	for i, c := range typeCases() {
		if c.only == "mariadb" || c.full || seen[c.column] || onlyDeclared(c.column) {
			continue
		}
		seen[c.column] = true
		columns = append(columns, fmt.Sprintf("c%d %s", i, c.column))
	}
	b.exec(t, "CREATE TABLE c ("+strings.Join(columns, ", ")+") ROW_FORMAT=DYNAMIC")
	types := func(metadata string) (out []string) {
		b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata)
		defer b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
		if metadata == "FULL" { // the history is wrong, so that the log has to do
			b.exec(t, "ALTER TABLE c ADD gone INT FIRST", "SET SESSION sql_log_bin = 0")
			defer b.exec(t, "SET SESSION sql_log_bin = 1")
		}
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		if metadata == "FULL" {
			b.exec(t, "ALTER TABLE c DROP COLUMN gone", "SET SESSION sql_log_bin = 1")
		}
		b.exec(t, "INSERT INTO c (id) VALUES (1)", "DELETE FROM c")
		for _, col := range r.take(t, 2)[0].event.Table.Columns {
			out = append(out, fmt.Sprintf("%+v", col))
		}
		return out
	}
	require.Equal(t, types("MINIMAL"), types("FULL"))
}

func TestDDL(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "CREATE TABLE c (id INT PRIMARY KEY, a INT)")
				l := b.newLog(t, "")
				r := start(t, l, checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO c VALUES (1, 2)")
				one := r.take(t, 1)
				b.exec(t, "ALTER TABLE c ADD b BIGINT UNSIGNED FIRST", "INSERT INTO c VALUES (18446744073709551615, 2, 3)")
				two := r.take(t, 1)
				b.exec(t, "ALTER TABLE c RENAME COLUMN a TO z", "INSERT INTO c VALUES (1, 3, 4)")
				three := r.take(t, 1)
				require.Equal(t, []string{
					`c {"id":1} - {"id":1,"a":2}`, `c {"id":2} - {"b":18446744073709551615,"id":2,"a":3}`,
					`c {"id":3} - {"b":1,"id":3,"z":4}`,
				}, rows(t, append(append(one, two...), three...)))
				tok := r.tok
				r.stop(t)

				// Rows of another shape than the table has now: in the same process, in a new one, and in one that has lost the history.
				b.exec(t, "INSERT INTO c VALUES (5, 5, 5)", "ALTER TABLE c DROP COLUMN b")
				want := []string{`c {"id":5} - {"b":5,"id":5,"z":5}`}
				r = start(t, l, reparsed(tok)).connected(t)
				require.Equal(t, want, rows(t, r.take(t, 1)))
				r.stop(t)
				r = start(t, l.restarted(t), reparsed(tok)).connected(t)
				require.Equal(t, want, rows(t, r.take(t, 1)))
				r.stop(t)
				lost := &mysqlLog{cfg: l.cfg, logger: l.logger, changes: l.changes, snapshots: l.snapshots, filesInterval: l.filesInterval}
				r = start(t, lost, reparsed(tok))
				if metadata == "FULL" {
					require.Equal(t, want, rows(t, r.connected(t).take(t, 1)))
					return
				}
				err := r.fail(t)
				require.Equal(t, fault.KindSchema, fault.KindOf(err))
				require.ErrorContains(t, err, b.db+".c at bin.")
				require.ErrorContains(t, err, "its rows in the log have 3 columns, the schema history has 2 (the table is known as it was at")
				require.ErrorContains(t, err, "`deltaforge checkpoint reset-schema KEY`")
			})
		})
	}
}
