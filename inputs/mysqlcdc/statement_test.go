package mysqlcdc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseStatement(t *testing.T) {
	for text, want := range map[string]statement{
		"BEGIN":                        {kind: statementBegin},
		"START TRANSACTION":            {kind: statementBegin},
		"XA START X'01',X'',1":         {kind: statementXAStart},
		"XA COMMIT X'01',X'',1":        {kind: statementXACommit, xid: "X'01',X'',1"},
		"XA ROLLBACK X'01',X'02',7":    {kind: statementXARollback, xid: "X'01',X'02',7"},
		"XA END X'01',X'',1":           {kind: statementNeutral},
		"COMMIT":                       {kind: statementCommit},
		"COMMIT /* x */":               {kind: statementCommit},
		"ROLLBACK":                     {kind: statementRollback},
		"ROLLBACK TO `s`":              {kind: statementNeutral},
		"SAVEPOINT `s`":                {kind: statementNeutral},
		"CREATE USER x":                {kind: statementNeutral},
		"CREATE TABLE x (id int)":      {kind: statementOther},
		"create or replace view v":     {kind: statementOther},
		"RENAME TABLE a TO b":          {kind: statementOther},
		"":                             {kind: statementOther},
		"TRUNCATE TABLE t":             {kind: statementTruncate, table: "t"},
		"truncate t":                   {kind: statementTruncate, table: "t"},
		"TRUNCATE `table`":             {kind: statementTruncate, table: "table"},
		"TRUNCATE TABLE `a``b`.`c`":    {kind: statementTruncate, db: "a`b", table: "c"},
		"TRUNCATE TABLE d . t":         {kind: statementTruncate, db: "d", table: "t"},
		`TRUNCATE TABLE "d"."t"`:       {kind: statementTruncate, db: "d", table: "t"},
		"/* c */ TRUNCATE -- x\n t":    {kind: statementTruncate, table: "t"},
		"# c\nTRUNCATE TABLE t WAIT 3": {kind: statementTruncate, table: "t"},
		"/*!50000 TRUNCATE */ t":       {kind: statementTruncate, table: "t"},
		"TRUNCATE":                     {kind: statementOther},
		"TRUNCATE TABLE ":              {kind: statementOther},
		"TRUNCATE TABLE `t":            {kind: statementOther},
		"TRUNCATE TABLE d.":            {kind: statementOther},
		"INSERT INTO d.t VALUES (1)":   {kind: statementData, db: "d", table: "t"},
		"update low_priority `t` set":  {kind: statementData, table: "t"},
		"DELETE FROM `d`.`t`":          {kind: statementData, db: "d", table: "t"},

		"DELETE FROM t WHERE a = 1":    {kind: statementData, table: "t"},
		"DELETE QUICK FROM d.t x":      {kind: statementData, db: "d", table: "t"},
		"DELETE a FROM a JOIN b":       {kind: statementData},
		"DELETE FROM a USING a JOIN b": {kind: statementData},
		"UPDATE a, b SET x = 1":        {kind: statementData},
		"UPDATE a x LEFT JOIN b SET y": {kind: statementData},
		"UPDATE t SET a = 1, b = 2":    {kind: statementData, table: "t"},
		"REPLACE INTO t SELECT 1":      {kind: statementData, table: "t"},
		"WITH x AS (SELECT 1) UPDATE":  {kind: statementData},
		"SELECT `d`.`f`()":             {kind: statementData},

		"SET @a = 1": {kind: statementNeutral},
		"SET STATEMENT max_statement_time=9 FOR UPDATE t SET a = 1":               {kind: statementData, table: "t"},
		`SET STATEMENT sql_mode = 'FOR', x = "it\" FOR" FOR /* c */ TRUNCATE d.t`: {kind: statementTruncate, db: "d", table: "t"},
		"SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE t ADD x INT":           {kind: statementOther},
		"SET STATEMENT a='":  {kind: statementNeutral},
		"SET STATEMENT a=1 ": {kind: statementNeutral},
	} {
		require.Equal(t, want, parseStatement([]byte(text)), text)
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add("TRUNCATE TABLE `a``b`.c")
	f.Add("/*!50000 TRUNCATE */ t")
	f.Fuzz(func(t *testing.T, s string) {
		parseLoad([]byte(s))
		if st := parseStatement([]byte(s)); st.kind == statementTruncate && st.table == "" && !containsEmptyName(s) {
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
	for text, want := range map[string]statement{
		" INTO TABLE `t` FIELDS TERMINATED BY ','": {kind: statementData, table: "t"},
		" REPLACE INTO TABLE `d`.`t` (a)":          {kind: statementData, db: "d", table: "t"},
		" IGNORE INTO TABLE t":                     {kind: statementData, table: "t"},
		" INTO TABLE":                              {kind: statementData},
		" ELSEWHERE":                               {kind: statementData},
	} {
		require.Equal(t, want, parseLoad([]byte(text)), text)
	}
}
