package mysqlcdc

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Environment variables that set how many walks there are; without them there are so many.
const (
	envWalksMySQL   = "DELTAFORGE_SCHEMA_WALKS_MYSQL"
	envWalksMariaDB = "DELTAFORGE_SCHEMA_WALKS_MARIADB"

	walksMySQL   = 500
	walksMariaDB = 200
)

func walksFromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// TestSchemaWalks interleaves random DDL and DML on a table, and stops the source at random points to start it again at an earlier
// position. Every event must have the columns and values that the table had when its statement ran, as the server showed them then.
func TestSchemaWalks(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		share := func(n int) int { // most walks go where the log says less
			if metadata == "FULL" {
				return n / 5
			}
			return n - n/5
		}
		t.Run(metadata, func(t *testing.T) {
			t.Run("mysql", func(t *testing.T) {
				walkSchemas(t, newBench(t, testenv.MySQL(t)), metadata, share(walksFromEnv(t, envWalksMySQL, walksMySQL)))
			})
			t.Run("mariadb", func(t *testing.T) {
				walkSchemas(t, newBench(t, testenv.MariaDB(t)), metadata, share(walksFromEnv(t, envWalksMariaDB, walksMariaDB)))
			})
		})
	}
}

// walker is a source and the server that it follows.
type walker struct {
	t *testing.T
	b *bench
	r *rand.Rand
	l *mysqlLog
	// run is nil while the source is stopped.
	run *run
	// want is every event that there has to be; seen is how many of them the source has sent.
	want []string
	seen int
	// points are positions that the source can start at.
	points []walkPoint
	// trail is what was done in this walk, for the message of a failure.
	trail []string
	// table is the walk's table, and names a source of new ones.
	table string
	names int
}

type walkPoint struct {
	tok  checkpoint.Token
	seen int
}

func walkSchemas(t *testing.T, b *bench, metadata string, walks int) {
	seed := testenv.Seed(t)
	b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "SET SESSION sql_mode = ''")
	t.Cleanup(func() {
		_, _ = b.srv.DB(t, "").ExecContext(context.WithoutCancel(t.Context()), "SET GLOBAL binlog_row_metadata = DEFAULT")
	})
	w := &walker{t: t, b: b, r: rand.New(rand.NewPCG(seed, 0)), l: b.newLog(t, "")}
	w.run = start(t, w.l, checkpoint.Token{}).connected(t)
	w.points = []walkPoint{{tok: w.run.tok}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("what was done last:\n" + strings.Join(w.trail, ";\n"))
		}
	})
	restarts := 0
	for n := range walks {
		w.trail = w.trail[max(0, len(w.trail)-60):]
		w.table = fmt.Sprintf("w%d", n)
		w.create(w.table)
		for range 6 + w.r.IntN(8) {
			switch w.r.IntN(8) {
			case 0:
				restarts++
				w.restart()
			case 1, 2, 3:
				w.ddl()
			default:
				w.dml()
			}
		}
		w.dml()
		if w.run == nil {
			w.restart()
		}
		w.drain()
		w.b.exec(t, "DROP TABLE "+w.table)
	}
	if w.run != nil { // its goroutine writes the history
		w.run.stop(t)
		w.run = nil
	}
	t.Logf("%d walks, %d events, %d stops and starts", walks, len(w.want), restarts)
}

// drain reads until every event has been seen.
func (w *walker) drain() {
	for w.seen < len(w.want) {
		seg := w.run.segment(w.t)
		if seg.Rows != nil {
			batch, err := seg.Rows.Decode(w.t.Context(), nil)
			require.NoError(w.t, err)
			for _, m := range batch {
				ev, ok := change.FromMessage(m)
				require.True(w.t, ok)
				require.NoError(w.t, m.GetError())
				raw, err := m.AsBytes()
				require.NoError(w.t, err)
				got := fmt.Sprintf("%c %s %s %s", ev.Op, ev.Table.Name, flat(w.t, part(string(raw), "before")), flat(w.t, part(string(raw), "after")))
				require.Less(w.t, w.seen, len(w.want), got)
				require.Equal(w.t, w.want[w.seen], got)
				w.seen++
			}
		}
		if seg.Commit != nil {
			w.points = append(w.points, walkPoint{w.run.tok, w.seen})
		}
	}
}

// flat writes a row image as name=value pairs in their order.
func flat(t *testing.T, image string) string {
	t.Helper()
	if image == "-" {
		return image
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(image)))
	dec.UseNumber()
	var b strings.Builder
	_, err := dec.Token()
	require.NoError(t, err, image)
	for dec.More() {
		name, err := dec.Token()
		require.NoError(t, err, image)
		value, err := dec.Token()
		require.NoError(t, err, image)
		if value == nil {
			value = "NULL"
		}
		fmt.Fprintf(&b, "%s=%v,", name, value)
	}
	return b.String()
}

// restart stops the source, if it runs, and may start it again: at one of the last positions, in the same process or a new one.
func (w *walker) restart() {
	w.t.Helper()
	if w.run != nil {
		if w.r.IntN(2) == 0 {
			w.drain()
		}
		w.run.stop(w.t)
		w.run = nil
		w.trail = append(w.trail, "-- stopped")
		if w.r.IntN(3) > 0 {
			return // statements follow that it does not see
		}
	}
	recent := w.points[max(0, len(w.points)-6):]
	n := w.r.IntN(len(recent))
	at := recent[n]
	w.points = append([]walkPoint(nil), recent[:n+1]...) // what is after it comes again
	if w.r.IntN(2) == 0 {
		w.l.history.Confirm(parsedPosition(w.t, recent[0].tok))
		w.l = w.l.restarted(w.t)
	}
	w.seen = at.seen
	w.trail = append(w.trail, "-- started at "+at.tok.String())
	w.run = start(w.t, w.l, reparsed(at.tok))
	w.run.connected(w.t)
}

func parsedPosition(t *testing.T, tok checkpoint.Token) *gtid.Position {
	t.Helper()
	p, err := gtid.ParsePosition(tok.Commit.String())
	require.NoError(t, err)
	return p
}

// try runs a statement that the server may refuse.
func (w *walker) try(statement string) bool {
	_, err := w.b.sql.ExecContext(w.t.Context(), statement)
	if err == nil {
		w.trail = append(w.trail, statement)
	}
	return err == nil
}

func (w *walker) newName() string {
	w.names++
	return fmt.Sprintf("c%d", w.names)
}

func (w *walker) pick(from []string) string { return from[w.r.IntN(len(from))] }

func (w *walker) columnType() string {
	return w.pick([]string{
		"INT", "INT UNSIGNED NOT NULL DEFAULT 3", "BIGINT", "SMALLINT UNSIGNED", "TINYINT(1)", "DECIMAL(10,3)", "DECIMAL(6,0) DEFAULT 9",
		"VARCHAR(20)", "VARCHAR(300) CHARACTER SET latin1", "CHAR(5)", "CHAR(9) CHARACTER SET utf16", "TEXT", "MEDIUMTEXT",
		"ENUM('1','7','x')", "ENUM('x','7','1') NOT NULL DEFAULT '7'", "SET('1','7','x')", "DOUBLE", "MEDIUMINT", "YEAR",
		"VARCHAR(10) COLLATE utf8mb4_bin COMMENT 'a, (b'",
	})
}

func (w *walker) create(name string) {
	var cols []string
	for range 1 + w.r.IntN(4) {
		cols = append(cols, w.newName()+" "+w.columnType())
	}
	if w.r.IntN(2) == 0 {
		cols = append(cols, "PRIMARY KEY ("+strings.Fields(cols[0])[0]+")")
	}
	tail := w.pick([]string{"", " CHARSET latin1", " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"})
	if !w.try("CREATE TABLE " + name + " (" + strings.Join(cols, ", ") + ")" + tail) { // a key on a text
		require.True(w.t, w.try("CREATE TABLE "+name+" ("+w.newName()+" INT)"))
	}
}

// image returns the columns, and the row in the form of flat, "" when there is none.
func (w *walker) image() (columns []string, row string) {
	w.t.Helper()
	rs, err := w.b.sql.QueryContext(w.t.Context(), "SELECT * FROM "+w.table)
	require.NoError(w.t, err)
	defer rs.Close()
	columns, err = rs.Columns()
	require.NoError(w.t, err)
	values := make([]sql.NullString, len(columns))
	dest := make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	for rs.Next() {
		require.NoError(w.t, rs.Scan(dest...))
		require.Empty(w.t, row, "more than one row")
		for i, v := range values {
			text := v.String
			if !v.Valid {
				text = "NULL"
			}
			if columns[i] != "" {
				row += columns[i] + "=" + text + ","
			}
		}
	}
	require.NoError(w.t, rs.Err())
	return columns, row
}

// dml inserts, changes or deletes the table's one row, and notes the event.
func (w *walker) dml() {
	columns, before := w.image()
	value := func() string { return w.pick([]string{"'1'", "'7'", "'x'", "NULL", "7", "''"}) }
	switch {
	case before == "":
		var values []string
		for range columns {
			values = append(values, value())
		}
		if !w.try("INSERT INTO " + w.table + " VALUES (" + strings.Join(values, ", ") + ")") {
			if !w.try("INSERT INTO " + w.table + " (" + columns[0] + ") VALUES (7)") {
				return
			}
		}
		_, after := w.image()
		w.want = append(w.want, fmt.Sprintf("c %s - %s", w.table, after))
	case w.r.IntN(4) == 0:
		require.True(w.t, w.try("DELETE FROM "+w.table))
		w.want = append(w.want, fmt.Sprintf("d %s %s -", w.table, before))
	default:
		if !w.try("UPDATE " + w.table + " SET " + w.pick(columns) + " = " + value()) {
			return
		}
		if _, after := w.image(); after != before {
			w.want = append(w.want, fmt.Sprintf("u %s %s %s", w.table, before, after))
		}
	}
}

// ddl changes the table.
func (w *walker) ddl() {
	columns, _ := w.image()
	place := func() string {
		return w.pick([]string{"", "", " FIRST", " AFTER `" + w.pick(columns) + "`"})
	}
	clause := func() string {
		c := w.pick(columns)
		return w.pick([]string{
			"ADD COLUMN " + w.newName() + " " + w.columnType() + place(),
			"ADD " + w.newName() + " " + w.columnType() + place(),
			"ADD (" + w.newName() + " " + w.columnType() + ", " + w.newName() + " INT)",
			"DROP COLUMN " + c,
			"MODIFY " + c + " " + w.columnType() + place(),
			"CHANGE " + c + " " + w.newName() + " " + w.columnType() + place(),
			"RENAME COLUMN " + c + " TO " + w.newName(),
			"ADD PRIMARY KEY (" + c + ")", "DROP PRIMARY KEY", "ADD UNIQUE (" + c + ")", "ADD KEY k" + w.newName() + " (" + c + ")",
			"ALTER COLUMN " + c + " SET DEFAULT 1", "COMMENT = 'x, y'",
			"CONVERT TO CHARACTER SET " + w.pick([]string{"latin1", "utf8mb4", "utf8mb4 COLLATE utf8mb4_bin"}),
			"DEFAULT CHARACTER SET " + w.pick([]string{"latin1", "utf8mb4", "utf16"}),
		})
	}
	switch w.r.IntN(10) {
	case 0:
		w.swap()
	case 1:
		w.ghost(clause())
	case 2:
		if w.r.IntN(2) == 0 {
			require.True(w.t, w.try("DROP TABLE "+w.table))
			w.create(w.table)
			return
		}
		require.True(w.t, w.try("TRUNCATE TABLE "+w.table))
		w.want = append(w.want, fmt.Sprintf("t %s - -", w.table))
	case 3:
		if len(columns) > 1 {
			w.try(fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s, RENAME COLUMN %s TO %s", w.table, columns[0], columns[1], columns[1],
				columns[0]))
		}
	case 4:
		to := w.newName() + "_t"
		w.try("ALTER TABLE " + w.table + " " + clause() + ", RENAME TO " + to)
		w.try("RENAME TABLE " + w.table + " TO " + to)
		w.table = to
	default:
		clauses := []string{clause()}
		for w.r.IntN(3) == 0 {
			clauses = append(clauses, clause())
		}
		w.try("ALTER TABLE " + w.table + " " + w.pick([]string{"", "/* c */ ", "/*!50000 */ "}) + strings.Join(clauses, ", "))
	}
}

// swap exchanges the table with another one.
func (w *walker) swap() {
	other := w.newName() + "_s"
	w.create(other)
	require.True(w.t, w.try(fmt.Sprintf("RENAME TABLE %[1]s TO %[2]s_x, %[2]s TO %[1]s, %[2]s_x TO %[2]s", w.table, other)))
	require.True(w.t, w.try("DROP TABLE "+other))
}

// ghost is the way of gh-ost and pt-online-schema-change. Rows that are copied are events too, of the ghost.
func (w *walker) ghost(clause string) {
	ghost := "_" + w.table + "_gho"
	require.True(w.t, w.try("CREATE TABLE "+ghost+" LIKE "+w.table))
	w.try("ALTER TABLE " + ghost + " " + clause)
	require.True(w.t, w.try(fmt.Sprintf("RENAME TABLE %[1]s TO _%[1]s_del, %[2]s TO %[1]s", w.table, ghost)))
	require.True(w.t, w.try("DROP TABLE _"+w.table+"_del"))
}
