package statement

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

func TestParseStatement(t *testing.T) {
	for text, want := range map[string]Statement{
		"BEGIN":                        {Kind: Begin},
		"START TRANSACTION":            {Kind: Begin},
		"XA START X'01',X'',1":         {Kind: XAStart},
		"XA COMMIT X'01',X'',1":        {Kind: XACommit, XID: "X'01',X'',1"},
		"XA ROLLBACK X'01',X'02',7":    {Kind: XARollback, XID: "X'01',X'02',7"},
		"XA END X'01',X'',1":           {Kind: Neutral},
		"COMMIT":                       {Kind: Commit},
		"COMMIT /* x */":               {Kind: Commit},
		"ROLLBACK":                     {Kind: Rollback},
		"ROLLBACK TO `s`":              {Kind: RollbackTo, Savepoint: "s"},
		"ROLLBACK WORK TO SAVEPOINT s": {Kind: RollbackTo, Savepoint: "s"},
		"ROLLBACK TO savepoint":        {Kind: RollbackTo, Savepoint: "savepoint"},
		"SAVEPOINT `s`":                {Kind: Savepoint, Savepoint: "s"},
		"CREATE USER x":                {Kind: Neutral},
		"CREATE TABLE x (id int)":      {Kind: Other},
		"create or replace view v":     {Kind: Other},
		"RENAME TABLE a TO b":          {Kind: Other},
		"":                             {Kind: Other},
		"TRUNCATE TABLE t":             {Kind: Truncate, Table: TableName{Table: "t"}},
		"truncate t":                   {Kind: Truncate, Table: TableName{Table: "t"}},
		"TRUNCATE `table`":             {Kind: Truncate, Table: TableName{Table: "table"}},
		"TRUNCATE TABLE `a``b`.`c`":    {Kind: Truncate, Table: TableName{"a`b", "c"}},
		"TRUNCATE TABLE d . t":         {Kind: Truncate, Table: TableName{"d", "t"}},
		`TRUNCATE TABLE "d"."t"`:       {Kind: Other},
		"TRUNCATE TABLE .t":            {Kind: Truncate, Table: TableName{Table: "t"}},
		"/* c */ TRUNCATE -- x\n t":    {Kind: Truncate, Table: TableName{Table: "t"}},
		"# c\nTRUNCATE TABLE t WAIT 3": {Kind: Truncate, Table: TableName{Table: "t"}},
		"/*!50000 TRUNCATE */ t":       {Kind: Truncate, Table: TableName{Table: "t"}},
		"TRUNCATE":                     {Kind: Other},
		"TRUNCATE TABLE ":              {Kind: Other},
		"TRUNCATE TABLE `t":            {Kind: Other},
		"TRUNCATE TABLE d.":            {Kind: Other},
		"INSERT INTO d.t VALUES (1)":   {Kind: Data, Table: TableName{"d", "t"}},
		"update low_priority `t` set":  {Kind: Data, Table: TableName{Table: "t"}},
		"DELETE FROM `d`.`t`":          {Kind: Data, Table: TableName{"d", "t"}},

		"DELETE FROM t WHERE a = 1":    {Kind: Data, Table: TableName{Table: "t"}},
		"DELETE QUICK FROM d.t x":      {Kind: Data, Table: TableName{"d", "t"}},
		"DELETE a FROM a JOIN b":       {Kind: Data},
		"DELETE FROM a USING a JOIN b": {Kind: Data},
		"UPDATE a, b SET x = 1":        {Kind: Data},
		"UPDATE a x LEFT JOIN b SET y": {Kind: Data},
		"UPDATE t SET a = 1, b = 2":    {Kind: Data, Table: TableName{Table: "t"}},
		"REPLACE INTO t SELECT 1":      {Kind: Data, Table: TableName{Table: "t"}},
		"WITH x AS (SELECT 1) UPDATE":  {Kind: Data},
		"SELECT `d`.`f`()":             {Kind: Data},

		"SET @a = 1": {Kind: Neutral},
		"SET STATEMENT max_statement_time=9 FOR UPDATE t SET a = 1":               {Kind: Data, Table: TableName{Table: "t"}},
		`SET STATEMENT sql_mode = 'FOR', x = "it\" FOR" FOR /* c */ TRUNCATE d.t`: {Kind: Truncate, Table: TableName{"d", "t"}},
		"SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE t ADD x INT":           {Kind: Other},
		"SET STATEMENT a='":  {Kind: Neutral},
		"SET STATEMENT a=1 ": {Kind: Neutral},
	} {
		want.Calls = want.Kind == Data && want.Table == TableName{} // what cannot be told may call anything
		require.Equal(t, want, parse(text), text)
	}
}

// The tests read statements as a MySQL does whose SQL mode is empty, unless they say otherwise.
func mysql() Dialect { return NewDialect(product.MySQL, "9.7.0") }

func parse(text string) Statement { return Parse(text, Mode{}, mysql()) }

func FuzzParseStatement(f *testing.F) {
	f.Add("TRUNCATE TABLE `a``b`.c")
	f.Add("/*!50000 TRUNCATE */ t")
	f.Fuzz(func(t *testing.T, s string) {
		ParseLoad(s, Mode{}, mysql())
		if st := parse(s); st.Kind == Truncate && st.Table.Table == "" && !containsEmptyName(s) {
			t.Fatalf("%q: truncate of nothing", s)
		}
	})
}

func containsEmptyName(s string) bool {
	for i := 1; i < len(s); i++ {
		if s[i] == s[i-1] && (s[i] == '`' || s[i] == '"') {
			return true
		}
	}
	return false
}

func TestParseLoad(t *testing.T) {
	for text, want := range map[string]Statement{
		" INTO TABLE `t` FIELDS TERMINATED BY ','": {Kind: Data, Table: TableName{Table: "t"}},
		" REPLACE INTO TABLE `d`.`t` (a)":          {Kind: Data, Table: TableName{"d", "t"}},
		" IGNORE INTO TABLE t":                     {Kind: Data, Table: TableName{Table: "t"}},
		" INTO TABLE":                              {Kind: Data},
		" ELSEWHERE":                               {Kind: Data},
	} {
		want.Calls = want.Table == TableName{}
		require.Equal(t, want, ParseLoad(text, Mode{}, mysql()), text)
	}
}

func TestCalls(t *testing.T) {
	for text, want := range map[string]bool{
		"INSERT INTO t VALUES (1, 2), (3, 'f(')":                 false,
		"INSERT INTO t (a, b) VALUES (1, 2)":                     false,
		"INSERT INTO t SELECT COUNT(*) FROM x WHERE a IN (1, 2)": false,
		"INSERT INTO t VALUES (f(1))":                            true,
		"INSERT INTO t VALUES (`count`(1))":                      true,
		"INSERT INTO t VALUES (d.count(1))":                      true,
		"INSERT INTO t VALUES (f /* x */ (1))":                   true,
		"UPDATE t SET a = 1 WHERE b = 2":                         false,
		"UPDATE t SET a = f(b)":                                  true,
		"DELETE FROM t WHERE g(a)":                               true,
		"INSERT INTO t VALUES ('":                                true,
	} {
		require.Equal(t, want, parse(text).Calls, text)
	}
}
