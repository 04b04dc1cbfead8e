package mysqlcdc

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// TestRestartBehindDDL: every kind of change that is made while the source is stopped.
func TestRestartBehindDDL(t *testing.T) {
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
		require.Equal(t, coordinator.KindSchema, coordinator.KindOf(err))
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
		l.cfg.filter.include = append(l.cfg.filter.include, pattern{other, "%"})
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
				require.Equal(t, coordinator.KindSchema, coordinator.KindOf(err))
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
		require.Equal(t, coordinator.KindSchema, coordinator.KindOf(err))
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

// TestUnreadableDDL: what the log has and nobody understands.
func TestUnreadableDDL(t *testing.T) {
	a := testApplier(flavorMySQL)
	state := schemaState{"d": {Collation: "utf8mb4_bin", Complete: true, Tables: map[string]*tableDef{"t": {}}}}
	for text, want := range map[string]ddlResult{
		"ALTER TABLE t ADD c NEWTYPE(3)":                {tables: []tableName{{"d", "t"}}},
		"ALTER TABLE other.t FROBNICATE (1, 2)":         {tables: []tableName{{"other", "t"}}},
		"CREATE TABLE t AS SELECT 1":                    {tables: []tableName{{"d", "t"}}},
		"CREATE TABLE t (a INT":                         {tables: []tableName{{"d", "t"}}},
		"CREATE TABLE t (a TEXT COLLATE no_such_ci_ai)": {tables: []tableName{{"d", "t"}}},
		"CREATE TABLE t (a VARCHAR(3) CHARSET nowhere)": {tables: []tableName{{"d", "t"}}},
		"ALTER TABLE `t":                                {unread: true},
		"ALTER TABLE":                                   {unread: true},
		"DROP TABLE , ,":                                {unread: true},
	} {
		res, err := a.apply(state, ddlStatement{text: text, db: "d"})
		require.ErrorIs(t, err, errNotUnderstood, text)
		require.Equal(t, want, res, text)
	}
	for _, text := range []string{
		"CREATE VIEW v AS SELECT 'it''s' FROM t", "CREATE PROCEDURE p() BEGIN ALTER TABLE t ADD c INT; END", "DROP VIEW t",
		"ALTER TABLE t ENGINE=InnoDB", "ALTER TABLE t ADD PARTITION (PARTITION p1 VALUES IN (1, 2))", "CREATE TEMPORARY TABLE t (a INT)", "",
		"RENAME USER a TO b", "ALTER VIEW t AS SELECT 1", "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'", "DROP TRIGGER 'unclosed",
	} {
		res, err := a.apply(state, ddlStatement{text: text, db: "d"})
		require.NoError(t, err, text)
		require.Empty(t, res.changes, text)
	}
}

// testApplier needs no server.
func testApplier(flavor string) *ddlApplier {
	version := "9.7.0"
	if flavor == flavorMariaDB {
		version = "10.11.6-MariaDB"
	}
	return newApplier(newDialect(flavor, version), charsetInfo{
		names:    map[string]string{"utf8mb4_bin": "utf8mb4", "utf8mb4_0900_ai_ci": "utf8mb4", "latin1_swedish_ci": "latin1"},
		defaults: map[string]string{"utf8mb4": "utf8mb4_0900_ai_ci", "latin1": "latin1_swedish_ci"},
		widths:   map[string]int{"utf8mb4": 4, "latin1": 1},
	}, false, func(string) bool { return false })
}

// TestDamagedHistory: each kind of damage has its name, and the way out.
func TestDamagedHistory(t *testing.T) {
	h := &history{}
	pos := func(n uint64) *Position { return &Position{file: "bin.000001", pos: n} }
	h.begin("server", pos(10), schemaState{"d": {Tables: map[string]*tableDef{"t": {Columns: []columnDef{{Name: "a", Type: "int"}}}}}})
	for n := range uint64(3) {
		require.NoError(t, h.add(pos(20+10*n), []schemaChange{{DB: "d", Table: fmt.Sprintf("t%d", n), Def: &tableDef{}}}))
	}
	record, _, ok, err := h.record()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 5, bytes.Count(record, []byte("\n")))
	require.NoError(t, (&history{}).restore(record))

	mangle := func(at int) []byte { m := bytes.Clone(record); m[at] ^= 1; return m }
	lines := bytes.SplitAfter(record, []byte("\n"))
	future, err := appendLine(nil, historyHeader{Version: historyVersion + 1, Kind: kind})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		record []byte
		is     error
		text   string
	}{
		"last entry":      {mangle(len(record) - 5), checkpoint.ErrBroken, "entry 3 of 3: its checksum is wrong"},
		"last entry torn": {record[:len(record)-5], checkpoint.ErrBroken, "entry 3 of 3: it ends in the middle"},
		"an entry":        {mangle(len(record) - len(lines[4]) - 5), checkpoint.ErrBroken, "entry 2 of 3: its checksum is wrong"},
		"base":            {mangle(len(lines[0]) + 30), checkpoint.ErrBroken, "its base: its checksum is wrong"},
		"header":          {mangle(12), checkpoint.ErrBroken, "its header: its checksum is wrong"},
		"nothing":         {nil, checkpoint.ErrBroken, "its header: it ends in the middle"},
		"something else":  {[]byte(`{"version":1}`), checkpoint.ErrBroken, "its header"},
		"later version":   {future, checkpoint.ErrIncompatible, "schema history of version 2"},
	} {
		err := (&history{}).restore(c.record)
		require.ErrorIs(t, err, c.is, name)
		require.ErrorContains(t, err, c.text, name)
		require.ErrorContains(t, err, "`deltaforge checkpoint reset-schema KEY`", name)
	}

	// A position before the base: nothing is known about it.
	_, err = h.at(pos(5))
	require.ErrorIs(t, err, checkpoint.ErrIncompatible)
	require.ErrorContains(t, err, "begins at bin.000001:10 and does not know the tables as they were at bin.000001:5")
	state, err := h.at(pos(39))
	require.NoError(t, err)
	require.Nil(t, state.table("d", "t2"), "behind the position")
	require.NotNil(t, state.table("d", "t1"))
}

// TestCompaction: entries become part of the base when a position behind them is saved, and not before.
func TestCompaction(t *testing.T) {
	h := &history{}
	pos := func(n int) *Position { return &Position{file: "bin.000001", pos: uint64(n)} }
	h.begin("server", pos(0), schemaState{})
	for n := 1; n <= 2*maxEntries; n++ {
		require.NoError(t, h.add(pos(n), []schemaChange{{DB: "d", Table: fmt.Sprintf("t%d", n%7), Def: &tableDef{Collation: fmt.Sprint(n)}}}))
	}
	lines := func() int {
		h.version++
		record, _, _, err := h.record()
		require.NoError(t, err)
		r := &history{}
		require.NoError(t, r.restore(record))
		for _, at := range []int{maxEntries + 1, 2 * maxEntries} {
			want := schemaState{}
			for n := 1; n <= at; n++ {
				want.apply([]schemaChange{{DB: "d", Table: fmt.Sprintf("t%d", n%7), Def: &tableDef{Collation: fmt.Sprint(n)}}})
			}
			r := &history{}
			require.NoError(t, r.restore(record))
			got, err := r.at(pos(at))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		return bytes.Count(record, []byte("\n"))
	}
	require.Equal(t, 2+2*maxEntries, lines())
	h.confirm(pos(maxEntries + 1))
	require.Equal(t, 2+maxEntries-1, lines())
}

func FuzzDDL(f *testing.F) {
	for _, s := range []string{
		"CREATE TABLE t (a INT PRIMARY KEY, b ENUM('x','y''z') COLLATE utf8mb4_bin DEFAULT 'x', KEY k (b(3)), c INT AS (a + 1)) CHARSET latin1",
		"ALTER TABLE t ADD b INT FIRST, DROP COLUMN a, CHANGE c d VARCHAR(10) AFTER b, CONVERT TO CHARACTER SET latin1, RENAME TO u",
		"RENAME TABLE a TO b, d.c TO a", "DROP TABLE IF EXISTS a, `b`.`c`", "/*!50000 ALTER TABLE t /*M! ADD x UUID */ */",
		"CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a, (b + 1))", "ALTER TABLE t CONVERT PARTITION p TO TABLE d.u, RENAME COLUMN IF EXISTS x TO y",
		"ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (3)", "ALTER TABLE t CONVERT TO CHARACTER SET DEFAULT",
		"ALTER TABLE t ADD e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, ADD SYSTEM VERSIONING, ADD UNIQUE INDEX IF NOT EXISTS i (c)", "CREATE DATABASE d CHARACTER SET = latin1", "CREATE TABLE t LIKE d.u",
	} {
		f.Add(s, false, false)
		f.Add(s, true, true)
	}
	model := &tableDef{
		Collation: "utf8mb4_bin", Columns: []columnDef{{Name: "a", Type: "int"}, {Name: "c", Type: "text", Collation: "utf8mb4_bin"}},
		Indexes: []indexDef{{Name: primaryIndex, Unique: true, Columns: []string{"a"}}},
	}
	appliers := map[bool]*ddlApplier{false: testApplier(flavorMySQL), true: testApplier(flavorMariaDB)}
	f.Fuzz(func(t *testing.T, text string, maria, ansi bool) {
		state := schemaState{"d": {Collation: "utf8mb4_bin", Tables: map[string]*tableDef{"t": model}}}
		before := fmt.Sprintf("%+v", *model)
		res, err := appliers[maria].apply(state, ddlStatement{text: text, db: "d", mode: sqlMode{ansiQuotes: ansi}, serverCollation: "utf8mb4_bin"})
		if errors.Is(err, errPanic) {
			t.Fatal(err)
		}
		if after := fmt.Sprintf("%+v", *model); before != after {
			t.Fatalf("%q changed a shape that others share", text)
		}
		for _, c := range res.changes {
			if c.Def == nil {
				continue
			}
			seen := map[string]bool{}
			for _, col := range c.Def.Columns {
				if name := strings.ToLower(col.Name); seen[name] && err == nil {
					t.Fatalf("%q: column %s twice", text, name)
				} else {
					seen[name] = true
				}
			}
		}
		state.apply(res.changes)
	})
}

func FuzzHistory(f *testing.F) {
	h := &history{}
	h.begin("server", &Position{file: "bin.000001", pos: 4}, schemaState{"d": {Tables: map[string]*tableDef{"t": {}}}})
	if err := h.add(&Position{file: "bin.000001", pos: 9}, []schemaChange{{DB: "d", Table: "t"}}); err != nil {
		f.Fatal(err)
	}
	record, _, _, err := h.record()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Fuzz(func(t *testing.T, data []byte) {
		h := &history{}
		if err := h.restore(data); err != nil {
			if !errors.Is(err, checkpoint.ErrBroken) && !errors.Is(err, checkpoint.ErrIncompatible) {
				t.Fatal(err)
			}
			return
		}
		h.version++
		again, _, _, err := h.record()
		if err != nil {
			t.Fatal(err)
		}
		back := &history{}
		if err := back.restore(again); err != nil {
			t.Fatalf("what was read cannot be read back: %v\n%s", err, again)
		}
		for _, pos := range []*Position{h.basePos, {file: "bin.000001", pos: 100}} {
			was, err := h.at(pos)
			is, errBack := back.at(pos)
			if fmt.Sprint(err) != fmt.Sprint(errBack) || !reflect.DeepEqual(was, is) {
				t.Fatalf("%+v (%v) at %s has become %+v (%v)", was, err, pos, is, errBack)
			}
		}
	})
}
