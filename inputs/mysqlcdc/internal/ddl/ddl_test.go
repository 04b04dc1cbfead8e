package ddl

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// testApplier needs no server.
func testApplier(flavor string) *Applier {
	version := "9.7.0"
	if flavor == product.MariaDB {
		version = "10.11.6-MariaDB"
	}
	return NewApplier(statement.NewDialect(flavor, version), charset.Info{
		Names:    map[string]string{"utf8mb4_bin": "utf8mb4", "utf8mb4_0900_ai_ci": "utf8mb4", "latin1_swedish_ci": "latin1"},
		Defaults: map[string]string{"utf8mb4": "utf8mb4_0900_ai_ci", "latin1": "latin1_swedish_ci"},
		Widths:   map[string]int{"utf8mb4": 4, "latin1": 1},
	}, false, func(string) bool { return false })
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
	model := &shape.Table{
		Collation: "utf8mb4_bin", Columns: []shape.Column{{Name: "a", Type: "int"}, {Name: "c", Type: "text", Collation: "utf8mb4_bin"}},
		Indexes: []shape.Index{{Name: shape.PrimaryIndex, Unique: true, Columns: []string{"a"}}},
	}
	appliers := map[bool]*Applier{false: testApplier(product.MySQL), true: testApplier(product.MariaDB)}
	f.Fuzz(func(t *testing.T, text string, maria, ansi bool) {
		state := shape.State{"d": {Collation: "utf8mb4_bin", Tables: map[string]*shape.Table{"t": model}}}
		before := fmt.Sprintf("%+v", *model)
		res, err := appliers[maria].Apply(state, Statement{Text: text, DB: "d", Mode: statement.Mode{ANSIQuotes: ansi}, ServerCollation: "utf8mb4_bin"})
		if errors.Is(err, errPanic) {
			t.Fatal(err)
		}
		if after := fmt.Sprintf("%+v", *model); before != after {
			t.Fatalf("%q changed a shape that others share", text)
		}
		for _, c := range res.Changes {
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
		state.Apply(res.Changes)
	})
}

// TestUnreadableDDL: what the log has and nobody understands.
func TestUnreadableDDL(t *testing.T) {
	a := testApplier(product.MySQL)
	state := shape.State{"d": {Collation: "utf8mb4_bin", Complete: true, Tables: map[string]*shape.Table{"t": {}}}}
	for text, want := range map[string]Result{
		"ALTER TABLE t ADD c NEWTYPE(3)":                {Tables: []statement.TableName{{DB: "d", Table: "t"}}},
		"ALTER TABLE other.t FROBNICATE (1, 2)":         {Tables: []statement.TableName{{DB: "other", Table: "t"}}},
		"CREATE TABLE t AS SELECT 1":                    {Tables: []statement.TableName{{DB: "d", Table: "t"}}},
		"CREATE TABLE t (a INT":                         {Tables: []statement.TableName{{DB: "d", Table: "t"}}},
		"CREATE TABLE t (a TEXT COLLATE no_such_ci_ai)": {Tables: []statement.TableName{{DB: "d", Table: "t"}}},
		"CREATE TABLE t (a VARCHAR(3) CHARSET nowhere)": {Tables: []statement.TableName{{DB: "d", Table: "t"}}},
		"ALTER TABLE `t":                                {Unread: true},
		"ALTER TABLE":                                   {Unread: true},
		"DROP TABLE , ,":                                {Unread: true},
	} {
		res, err := a.Apply(state, Statement{Text: text, DB: "d"})
		require.ErrorIs(t, err, errNotUnderstood, text)
		require.Equal(t, want, res, text)
	}
	for _, text := range []string{
		"CREATE VIEW v AS SELECT 'it''s' FROM t", "CREATE PROCEDURE p() BEGIN ALTER TABLE t ADD c INT; END", "DROP VIEW t",
		"ALTER TABLE t ENGINE=InnoDB", "ALTER TABLE t ADD PARTITION (PARTITION p1 VALUES IN (1, 2))", "CREATE TEMPORARY TABLE t (a INT)", "",
		"RENAME USER a TO b", "ALTER VIEW t AS SELECT 1", "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'", "DROP TRIGGER 'unclosed",
	} {
		res, err := a.Apply(state, Statement{Text: text, DB: "d"})
		require.NoError(t, err, text)
		require.Empty(t, res.Changes, text)
	}
}

// TestGuessedShapes: a shape that was read from the catalogue at a later place has the statements before that place already.
func TestGuessedShapes(t *testing.T) {
	column := func(name string) *shape.Table {
		return &shape.Table{AsOf: "later", Columns: []shape.Column{{Name: name, Type: "int"}}}
	}
	for _, early := range []bool{true, false} {
		a := testApplier(product.MySQL)
		a.early = func(asOf string) bool { require.Equal(t, "later", asOf); return early }
		apply := func(text string) []shape.Change {
			state := shape.State{"d": {Collation: "utf8mb4_bin", Complete: true, Tables: map[string]*shape.Table{"t": column("a"), "u": column("b")}}}
			res, err := a.Apply(state, Statement{Text: text, DB: "d", ServerCollation: "utf8mb4_bin"})
			require.NoError(t, err, text)
			return res.Changes
		}
		made := &shape.Table{Collation: "utf8mb4_bin", Columns: []shape.Column{{Name: "c", Type: "int", Nullable: true}}}
		require.Equal(t, []shape.Change{{DB: "d", Table: "t"}, {DB: "d", Table: "t", Def: made}}, apply("CREATE OR REPLACE TABLE t (c INT)"), "it is known from here on")
		if early {
			require.Empty(t, apply("ALTER TABLE t DROP COLUMN gone"), "the column is gone already")
			require.Empty(t, apply("RENAME TABLE t TO u"), "u is known as it is later")
			require.Empty(t, apply("RENAME TABLE v TO u"), "and so it is when t was something else then")
			continue
		}
		_, err := a.Apply(shape.State{"d": {Tables: map[string]*shape.Table{"t": column("a")}}}, Statement{Text: "ALTER TABLE t DROP COLUMN gone", DB: "d"})
		require.ErrorIs(t, err, errNotApplied)
		require.Equal(t, []shape.Change{{DB: "d", Table: "t"}, {DB: "d", Table: "u", Def: column("a")}}, apply("RENAME TABLE t TO u"))
		require.Equal(t, []shape.Change{{DB: "d", Table: "u"}}, apply("RENAME TABLE v TO u"), "a view of which nothing is known")
	}
}

// TestShapesOfOthers: what a new table takes from another one is not known where that is not.
func TestShapesOfOthers(t *testing.T) {
	known := &shape.Table{Columns: []shape.Column{{Name: "a", Type: "int"}}, Indexes: []shape.Index{}}
	state := shape.State{"d": {Complete: true, Tables: map[string]*shape.Table{"t": known}}, "seen": {Tables: map[string]*shape.Table{"t": known}}}
	unknown := func(how string) *shape.Table {
		return &shape.Table{Unknown: how + ", whose columns are not known (GRANT SELECT ON `far`.* TO the account, so that they are followed)"}
	}
	for text, want := range map[string][]shape.Change{
		"CREATE TABLE n LIKE seen.t":                      {{DB: "d", Table: "n", Def: known}},
		"CREATE TABLE n LIKE far.t":                       {{DB: "d", Table: "n", Def: unknown("it was made LIKE far.t")}},
		"RENAME TABLE seen.t TO n":                        {{DB: "seen", Table: "t"}, {DB: "d", Table: "n", Def: known}},
		"RENAME TABLE far.t TO n":                         {{DB: "d", Table: "n", Def: unknown("its name was far.t")}},
		"ALTER TABLE far.t ADD x INT, RENAME TO d.n":      {{DB: "d", Table: "n", Def: unknown("its name was far.t")}},
		"RENAME TABLE view_of_d TO n":                     nil,
		"CREATE TEMPORARY TABLE t (x INT)":                nil,
		"CREATE TABLE IF NOT EXISTS t LIKE far.t":         nil,
		"RENAME TABLE far.t TO far.x, far.x TO d.n":       {{DB: "far", Table: "x", Def: unknown("its name was far.t")}, {DB: "far", Table: "x"}, {DB: "d", Table: "n", Def: unknown("its name was far.t")}},
		"ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u": nil,
	} {
		a := testApplier(product.MySQL)
		res, err := a.Apply(state, Statement{Text: text, DB: "d", ServerCollation: "utf8mb4_bin"})
		require.NoError(t, err, text)
		require.Equal(t, want, res.Changes, text)
	}
}

// TestTemporary: the statements of a session are about its temporary tables, and those of another one are not.
func TestTemporary(t *testing.T) {
	a := testApplier(product.MariaDB)
	state := shape.State{"d": {Complete: true, Tables: map[string]*shape.Table{"t": {Columns: []shape.Column{{Name: "a", Type: "int"}}}}}}
	mine, other := Session{Server: 1, Thread: 7}, Session{Server: 2, Thread: 7}
	apply := func(s Session, text string) int {
		res, err := a.Apply(state, Statement{Text: text, DB: "d", Session: s, ServerCollation: "utf8mb4_bin"})
		require.NoError(t, err, text)
		return len(res.Changes)
	}
	name := func(n string) statement.TableName { return statement.TableName{DB: "d", Table: n} }
	require.Zero(t, apply(mine, "CREATE OR REPLACE TEMPORARY TABLE IF NOT EXISTS d.t (x INT)"))
	require.True(t, a.IsTemporary(mine, name("t")))
	require.False(t, a.IsTemporary(other, name("t")))
	require.Zero(t, apply(mine, "ALTER TABLE t ADD y INT, RENAME TO u"))
	require.Zero(t, apply(mine, "RENAME TABLE u TO t"))
	require.Equal(t, 1, apply(other, "ALTER TABLE t ADD y INT"))
	res, err := a.Apply(state, Statement{Text: "CREATE TABLE n LIKE t", DB: "d", Session: mine})
	require.NoError(t, err)
	require.Contains(t, res.Changes[0].Def.Unknown, "it was made LIKE d.t")
	require.Zero(t, apply(mine, "DROP TEMPORARY TABLE IF EXISTS d.x, `t` /* generated by server */"))
	require.False(t, a.IsTemporary(mine, name("t")))
	require.Empty(t, a.temporary)

	// The making was before the start: the event says that the statement is of its session.
	for text, want := range map[string]int{
		"ALTER TABLE t RENAME COLUMN a TO b": 0, "CREATE INDEX i ON t (a)": 0, "ALTER TABLE t ADD b INT DEFAULT (connection_id())": 1,
		"DROP TABLE t": 1, "CREATE OR REPLACE TABLE n LIKE t": 1, "CREATE OR REPLACE TABLE t LIKE t": 2, "CREATE TABLE n (a INT DEFAULT (CONNECTION_ID()))": 1,
	} {
		res, err := a.Apply(state, Statement{Text: text, DB: "d", Session: Session{Thread: uint32(len(text))}, ThreadSpecific: true, ServerCollation: "utf8mb4_bin"})
		require.NoError(t, err, text)
		require.Len(t, res.Changes, want, text)
		for _, c := range res.Changes {
			require.True(t, c.Def == nil || c.Def.Unknown == "", text)
		}
	}
	res, err = a.Apply(state, Statement{Text: "CREATE TABLE n LIKE t", DB: "d", Session: mine, ThreadSpecific: true})
	require.NoError(t, err)
	require.Contains(t, res.Changes[0].Def.Unknown, "it was made LIKE d.t")
	require.Equal(t, 1, apply(mine, "ALTER TABLE t ADD y INT"))
}

// TestLiteral: the defaults that are literals, and some that are not.
func TestLiteral(t *testing.T) {
	for text, want := range map[string]string{
		"'a' NOT NULL": "a", "'a' 'b'": "ab", "''": "", "0": "0", "-1": "-1", "+5 COMMENT 'x'": "5", "1.50": "1.50", ".5": "0.5", "1e3": "1e3", "-1.5E-2": "-1.5E-2",
		"TRUE": "1", "false": "0", "'it''s'": "it's",
		"NULL": "-", "(1)": "-", "now()": "-", "CURRENT_TIMESTAMP": "-", "b'1'": "-", "X'41'": "-", "0xFF": "-", "_latin1 X'41'": "-", "1 + 1": "-", "-'a'": "-", "": "-",
	} {
		tokens, err := statement.Tokenize(text, statement.Mode{}, statement.Dialect{})
		require.NoError(t, err)
		got := "-"
		if p := literal(tokens); p != nil {
			got = *p
		}
		require.Equal(t, want, got, text)
	}
}
