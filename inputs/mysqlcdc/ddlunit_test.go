package mysqlcdc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
