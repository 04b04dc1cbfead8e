package mysqlcdc

import "strings"

// quote returns a string literal for a session whose SQL mode is empty.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}

// quoteName returns an identifier in backticks.
func quoteName(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// tableName is a table as a statement names it; db is empty for the current database.
type tableName struct{ db, table string }

func (n tableName) sql() string {
	if n.db == "" {
		return quoteName(n.table)
	}
	return quoteName(n.db) + "." + quoteName(n.table)
}
