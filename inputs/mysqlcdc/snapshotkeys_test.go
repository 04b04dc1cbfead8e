package mysqlcdc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// keyCase is a table whose rows are read by its key.
type keyCase struct {
	columns string // with the key
	values  string // of the columns before v, of each row, in the order of the key
	only    string
	// whole says that the key is none by which a table can be cut.
	whole bool
}

func keyCases() map[string]keyCase {
	return map[string]keyCase{
		"int":                {columns: "a INT PRIMARY KEY", values: "(-2147483648), (-1), (0), (1), (2147483647)"},
		"unsigned bigint":    {columns: "a BIGINT UNSIGNED PRIMARY KEY", values: "(0), (9223372036854775807), (9223372036854775808), (18446744073709551614), (18446744073709551615)"},
		"tinyint":            {columns: "a TINYINT(1) PRIMARY KEY", values: "(-1), (0), (1), (2), (3)"},
		"composite":          {columns: "a INT, b BIGINT, c VARCHAR(5), PRIMARY KEY (a, b, c)", values: "(-1,5,'a'), (-1,5,'b'), (-1,6,''), (0,0,'z'), (0,1,'a'), (2,-9,'q')"},
		"descending":         {columns: "a INT, b INT, PRIMARY KEY (a DESC, b)", values: "(3,1), (3,2), (2,1), (1,1), (1,9)", only: "mysql"},
		"decimal":            {columns: "a DECIMAL(30,10) PRIMARY KEY", values: "(-12345678901234567890.0000000001), (-0.5), (0), (0.0000000001), (12345678901234567890.1)"},
		"strings":            {columns: "a VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY", values: "(''), ('A'), ('b'), ('B_'), ('ç'), ('😀')"},
		"binary collation":   {columns: "a VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY", values: "('A'), ('B'), ('a'), ('aB'), ('ab'), ('é')"},
		"latin1":             {columns: "a CHAR(9) CHARACTER SET latin1 COLLATE latin1_german2_ci PRIMARY KEY", values: "('a'), ('ä'), ('B'), ('Straße'), ('z')"},
		"utf16":              {columns: "a VARCHAR(9) CHARACTER SET utf16 PRIMARY KEY", values: "(''), ('a'), ('B'), ('é!'), ('😀')"},
		"gbk":                {columns: "a VARCHAR(9) CHARACTER SET gbk PRIMARY KEY", values: "('a'), ('b'), ('文'), ('中')"},
		"enum":               {columns: "a ENUM('z','m','','a') PRIMARY KEY", values: "('z'), ('m'), (''), ('a')"},
		"set":                {columns: "a SET('z','m','a'), b INT, PRIMARY KEY (a, b)", values: "('',1), ('z',1), ('m',1), ('m',2), ('z,m',0), ('a',1), ('z,a',1)"},
		"binary":             {columns: "a BINARY(3) PRIMARY KEY", values: "(x'00'), (x'0001'), (x'61'), (x'ff00'), (x'ffffff')"},
		"varbinary":          {columns: "a VARBINARY(3) PRIMARY KEY", values: "(''), (x'00'), (x'0000'), (x'27'), (x'ff')"},
		"date":               {columns: "a DATE PRIMARY KEY", values: "('0000-00-00'), ('2024-00-10'), ('2024-02-29'), ('9999-12-31')"},
		"datetime":           {columns: "a DATETIME(3) PRIMARY KEY", values: "('1000-01-01'), ('2024-02-29 13:51:30.001'), ('2024-02-29 13:51:30.002'), ('9999-12-31 23:59:59.999')"},
		"timestamp":          {columns: "a TIMESTAMP(6) PRIMARY KEY", values: "('0000-00-00'), ('1970-01-01 00:00:01'), ('2024-02-29 13:51:30.000001'), ('2024-02-29 13:51:30.000002')"},
		"time":               {columns: "a TIME(1) PRIMARY KEY", values: "('-838:59:59'), ('-00:00:00.1'), ('00:00:00'), ('00:00:00.1'), ('838:59:59')"},
		"year":               {columns: "a YEAR PRIMARY KEY", values: "(0), (1901), (2024), (2155)"},
		"bit":                {columns: "a BIT(64) PRIMARY KEY", values: "(0), (1), (b'1111'), (18446744073709551615)"},
		"float":              {columns: "a FLOAT PRIMARY KEY", values: "(-3.3), (0), (0.1), (3.3), (1e30)"},
		"double":             {columns: "a DOUBLE PRIMARY KEY", values: "(-1.7e308), (-3.3), (0.1), (0.30000000000000004), (1e300)"},
		"uuid":               {columns: "a UUID PRIMARY KEY", values: "('00000000-0000-0000-0000-000000000001'), ('00000000-0000-1000-8000-000000000002'), ('ffffffff-ffff-4fff-bfff-ffffffffffff')", only: "mariadb"},
		"inet6":              {columns: "a INET6 PRIMARY KEY", values: "('::'), ('::1'), ('::ffff:1.2.3.4'), ('fe80::1')", only: "mariadb"},
		"unique, not null":   {columns: "x INT NULL UNIQUE, a INT NOT NULL, UNIQUE (a)", values: "(NULL,1), (NULL,2), (5,3), (4,4)"},
		"prefix":             {columns: "a VARCHAR(50), PRIMARY KEY (a(3))", values: "('abc'), ('abd'), ('b')", whole: true},
		"none":               {columns: "a INT", values: "(1), (1), (1), (2), (3)", whole: true},
		"quoted names":       {columns: "`a``b` INT, `select` INT, PRIMARY KEY (`select`, `a``b`)", values: "(1,1), (2,1), (1,2), (0,3)"},
		"expression":         {columns: "a INT NOT NULL, UNIQUE ((a + 1))", values: "(1), (2), (3)", whole: true, only: "mysql"},
		"several rows a key": {columns: "a INT NOT NULL, KEY (a)", values: "(1), (1), (2)", whole: true},
	}
}

// readAll reads a table in chunks of a size, from a bound to another.
func readAll(t *testing.T, r snapshot.Reader, at *gtid.Position, c snapshot.Chunk) (events []change.Event) {
	t.Helper()
	for held := false; ; {
		if !held {
			_, err := r.Begin(t.Context(), c.Table, at)
			require.NoError(t, err)
		}
		rows, err := readRows(r, c)
		require.NoError(t, err)
		require.Empty(t, rows.Errs)
		require.LessOrEqual(t, len(rows.Events), c.Limit)
		events = append(events, rows.Events...)
		if rows.Next == nil {
			return events
		}
		c.From, held = rows.Next, rows.Held
	}
}

// numbers are the values of the last column, which counts the rows in the order of the key.
func numbers(events []change.Event) (ns []int64) {
	for _, e := range events {
		ns = append(ns, e.After()[len(e.After())-1].Int())
	}
	return ns
}

// TestSnapshotKeys reads tables with keys of all types in chunks, by parts, and row by row.
func TestSnapshotKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.lax(t)
		l := b.newLog(t, "")
		at := firstPosition(t, b, l)
		r := openReader(t, l)
		for name, c := range keyCases() {
			if c.only != "" && (c.only == "mariadb") != b.srv.IsMariaDB() {
				continue
			}
			t.Run(name, func(t *testing.T) { b.checkKey(t, l, r, at, c) })
		}
	})
}

// firstPosition is one that a reader may begin after.
func firstPosition(t *testing.T, b *bench, l *mysqlLog) *gtid.Position {
	run := start(t, l, checkpoint.Token{}).connected(t)
	run.stop(t)
	return run.tok.Commit.(*gtid.Position)
}

func (b *bench) checkKey(t *testing.T, l *mysqlLog, r snapshot.Reader, at *gtid.Position, c keyCase) {
	b.exec(t, "DROP TABLE IF EXISTS k", "CREATE TABLE k ("+c.columns+", v INT)")
	var want []int64
	for i, row := range splitRows(c.values) {
		b.exec(t, fmt.Sprintf("INSERT INTO k VALUES (%s, %d)", row, i))
		want = append(want, int64(i))
	}
	table := b.db + ".k"
	for limit := 1; limit <= len(want)+1; limit++ {
		require.Equal(t, want, numbers(readAll(t, r, at, snapshot.Chunk{Table: table, Limit: limit})), "in chunks of %d", limit)
	}
	all := readAll(t, r, at, snapshot.Chunk{Table: table, Limit: 100})
	bounds, err := r.Split(t.Context(), table, 3)
	require.NoError(t, err)
	tables, err := l.Snapshots().Tables(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(tables, func(s snapshot.Table) bool { return s.Name == table })
	require.Equal(t, c.whole, len(tables[i].Key) == 0)
	if c.whole {
		require.Empty(t, bounds)
	}
	// Each bound that there can be cuts the table without losing or repeating a row.
	if !c.whole {
		for n := 1; n < len(want); n++ {
			rows := readChunk(t, r, at, snapshot.Chunk{Table: table, Limit: n})
			upTo := readAll(t, r, at, snapshot.Chunk{Table: table, To: rows.Next, Limit: 100})
			after := readAll(t, r, at, snapshot.Chunk{Table: table, From: rows.Next, Limit: 100})
			require.Equal(t, want[:n], numbers(upTo), "up to %s", rows.Next)
			require.Equal(t, want[n:], numbers(after), "after %s", rows.Next)
		}
	}
	if len(all[0].Table.Key) == 0 {
		return
	}
	for i, e := range all {
		var key []change.Value
		for _, k := range e.Table.Key {
			key = append(key, e.After()[k])
		}
		rows := readChunk(t, r, at, snapshot.Chunk{Table: table, Keys: [][]change.Value{key}})
		require.Equal(t, []int64{int64(i)}, numbers(rows.Events))
	}
}

// splitRows cuts "(1,2), (3,4)" into "1,2" and "3,4".
func splitRows(values string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimPrefix(values, "("), ")"), "), (")
}

// TestSnapshotReadsLittle: a chunk in the middle of a table reads about as many rows as it has, whatever the key is.
func TestSnapshotReadsLittle(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.lax(t)
		l := b.newLog(t, "")
		at := firstPosition(t, b, l)
		r := openReader(t, l)
		for i, columns := range []string{
			"a INT, b INT, PRIMARY KEY (a, b)", "a ENUM('y','x'), b CHAR(5), PRIMARY KEY (a, b)",
			"a INT, b ENUM('y','x'), c DATETIME(6) DEFAULT '2024-02-29', d INT AUTO_INCREMENT UNIQUE, PRIMARY KEY (a, b, c, d)", "a VARCHAR(9) COLLATE latin1_swedish_ci, b INT UNSIGNED, UNIQUE (a, b)",
		} {
			table := fmt.Sprintf("m%d", i)
			columns = strings.ReplaceAll(columns, "COLLATE latin1", "CHARACTER SET latin1 COLLATE latin1")
			columns = strings.ReplaceAll(columns, ", b INT UNSIGNED", " NOT NULL, b INT UNSIGNED NOT NULL")
			b.exec(t, "CREATE TABLE "+table+" ("+columns+")")
			second := "i"
			if strings.Contains(columns, "b ENUM") {
				second = "1 + i % 2"
			}
			for a := 1; a <= 2; a++ {
				b.exec(t, fmt.Sprintf("INSERT INTO %s (a, b) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT %d, %s FROM n", table, a, second))
			}
			b.exec(t, "ANALYZE TABLE "+table)
			c := snapshot.Chunk{Table: b.db + "." + table, Limit: 100}
			for n := range 5 {
				var next snapshot.Bound
				read := 1000
				for tries := 0; read >= 1000 && tries < 20; tries++ { // others read on the same server
					before := b.rowsRead(t)
					rows := readChunk(t, r, at, c)
					require.Len(t, rows.Events, 100)
					next, read = rows.Next, b.rowsRead(t)-before
				}
				if n > 0 { // the first has asked for the shape
					require.Less(t, read, 1000, "%s after %s", columns, c.From)
				}
				c.From = next
			}
		}
	})
}

// rowsRead is how many rows the server has read so far.
func (b *bench) rowsRead(t *testing.T) (n int) {
	rows, err := b.sql.QueryContext(t.Context(), "SHOW GLOBAL STATUS WHERE Variable_name IN ('Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd', 'Innodb_rows_read')")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name, value string
		require.NoError(t, rows.Scan(&name, &value))
		count, err := strconv.Atoi(value)
		require.NoError(t, err)
		n += count
	}
	return n
}

// TestSnapshotSplit: the parts of a table are about even, and are the table.
func TestSnapshotSplit(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.lax(t)
		l := b.newLog(t, "")
		at := firstPosition(t, b, l)
		r := openReader(t, l)
		const rows = 8000
		for i, c := range []struct{ columns, value string }{
			{"a INT PRIMARY KEY", "i * 1000 - 4000000"},
			{"a BIGINT UNSIGNED PRIMARY KEY", "CASE WHEN i <= 4000 THEN i ELSE 18446744073709551615 - i END"}, // nothing in the middle
			{"a CHAR(32) CHARACTER SET latin1 PRIMARY KEY", "LEFT(SHA2(i, 256), 32)"},
			{"a BINARY(20) PRIMARY KEY", "LEFT(UNHEX(SHA2(i, 256)), 20)"},
			{"a DECIMAL(30,5) PRIMARY KEY", "i * 1.5"},
			{"a DATETIME(3) PRIMARY KEY", "'2020-01-01' + INTERVAL i MINUTE"},
			{"a DOUBLE PRIMARY KEY", "i / 3"},
		} {
			table := fmt.Sprintf("s%d", i)
			b.exec(t, "CREATE TABLE "+table+" ("+c.columns+", pad VARCHAR(100))")
			b.exec(t, "INSERT INTO "+table+" SELECT "+c.value+", REPEAT('x', 50) FROM "+b.series(t, rows)+" n", "ANALYZE TABLE "+table)
			bounds, err := r.Split(t.Context(), b.db+"."+table, 4)
			require.NoError(t, err)
			require.Len(t, bounds, 3, c.columns)
			total := 0
			var from snapshot.Bound
			for _, to := range append(bounds, nil) {
				n := len(readAll(t, r, at, snapshot.Chunk{Table: b.db + "." + table, From: from, To: to, Limit: 3000}))
				require.InDelta(t, rows/4, n, rows/6, "%s: after %s up to %s", c.columns, from, to)
				total += n
				from = to
			}
			require.Equal(t, rows, total)
		}
		b.exec(t, "CREATE TABLE few (a INT PRIMARY KEY)", "INSERT INTO few VALUES (1), (2)")
		bounds, err := r.Split(t.Context(), b.db+".few", 4)
		require.NoError(t, err)
		require.Empty(t, bounds)
	})
}

// series is a table of the numbers from 1 to n, in their column i.
func (b *bench) series(t *testing.T, n int) string {
	b.exec(t, "CREATE TABLE IF NOT EXISTS series (i INT PRIMARY KEY)", "DELETE FROM series", "INSERT INTO series VALUES (1)")
	for have := 1; have < n; have *= 2 {
		b.exec(t, fmt.Sprintf("INSERT INTO series SELECT i + %d FROM series WHERE i + %d <= %d", have, have, n))
	}
	return "series"
}
