package statement

import (
	"testing"

	"github.com/stretchr/testify/require"
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
		"ROLLBACK TO `s`":              {Kind: Neutral},
		"SAVEPOINT `s`":                {Kind: Neutral},
		"CREATE USER x":                {Kind: Neutral},
		"CREATE TABLE x (id int)":      {Kind: Other},
		"create or replace view v":     {Kind: Other},
		"RENAME TABLE a TO b":          {Kind: Other},
		"":                             {Kind: Other},
		"TRUNCATE TABLE t":             {Kind: Truncate, Table: "t"},
		"truncate t":                   {Kind: Truncate, Table: "t"},
		"TRUNCATE `table`":             {Kind: Truncate, Table: "table"},
		"TRUNCATE TABLE `a``b`.`c`":    {Kind: Truncate, DB: "a`b", Table: "c"},
		"TRUNCATE TABLE d . t":         {Kind: Truncate, DB: "d", Table: "t"},
		`TRUNCATE TABLE "d"."t"`:       {Kind: Truncate, DB: "d", Table: "t"},
		"/* c */ TRUNCATE -- x\n t":    {Kind: Truncate, Table: "t"},
		"# c\nTRUNCATE TABLE t WAIT 3": {Kind: Truncate, Table: "t"},
		"/*!50000 TRUNCATE */ t":       {Kind: Truncate, Table: "t"},
		"TRUNCATE":                     {Kind: Other},
		"TRUNCATE TABLE ":              {Kind: Other},
		"TRUNCATE TABLE `t":            {Kind: Other},
		"TRUNCATE TABLE d.":            {Kind: Other},
		"INSERT INTO d.t VALUES (1)":   {Kind: Data, DB: "d", Table: "t"},
		"update low_priority `t` set":  {Kind: Data, Table: "t"},
		"DELETE FROM `d`.`t`":          {Kind: Data, DB: "d", Table: "t"},

		"DELETE FROM t WHERE a = 1":    {Kind: Data, Table: "t"},
		"DELETE QUICK FROM d.t x":      {Kind: Data, DB: "d", Table: "t"},
		"DELETE a FROM a JOIN b":       {Kind: Data},
		"DELETE FROM a USING a JOIN b": {Kind: Data},
		"UPDATE a, b SET x = 1":        {Kind: Data},
		"UPDATE a x LEFT JOIN b SET y": {Kind: Data},
		"UPDATE t SET a = 1, b = 2":    {Kind: Data, Table: "t"},
		"REPLACE INTO t SELECT 1":      {Kind: Data, Table: "t"},
		"WITH x AS (SELECT 1) UPDATE":  {Kind: Data},
		"SELECT `d`.`f`()":             {Kind: Data},

		"SET @a = 1": {Kind: Neutral},
		"SET STATEMENT max_statement_time=9 FOR UPDATE t SET a = 1":               {Kind: Data, Table: "t"},
		`SET STATEMENT sql_mode = 'FOR', x = "it\" FOR" FOR /* c */ TRUNCATE d.t`: {Kind: Truncate, DB: "d", Table: "t"},
		"SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE t ADD x INT":           {Kind: Other},
		"SET STATEMENT a='":  {Kind: Neutral},
		"SET STATEMENT a=1 ": {Kind: Neutral},
	} {
		require.Equal(t, want, Parse([]byte(text)), text)
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add("TRUNCATE TABLE `a``b`.c")
	f.Add("/*!50000 TRUNCATE */ t")
	f.Fuzz(func(t *testing.T, s string) {
		ParseLoad([]byte(s))
		if st := Parse([]byte(s)); st.Kind == Truncate && st.Table == "" && !containsEmptyName(s) {
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
		" INTO TABLE `t` FIELDS TERMINATED BY ','": {Kind: Data, Table: "t"},
		" REPLACE INTO TABLE `d`.`t` (a)":          {Kind: Data, DB: "d", Table: "t"},
		" IGNORE INTO TABLE t":                     {Kind: Data, Table: "t"},
		" INTO TABLE":                              {Kind: Data},
		" ELSEWHERE":                               {Kind: Data},
	} {
		require.Equal(t, want, ParseLoad([]byte(text)), text)
	}
}
