package statement

import "strings"

// Quote returns a string literal for a session whose SQL mode is empty.
func Quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}

// QuoteName returns an identifier in backticks.
func QuoteName(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// TableName is a table as a statement names it; db is empty for the current database.
type TableName struct{ DB, Table string }

// SQL returns the name in backticks.
func (n TableName) SQL() string {
	if n.DB == "" {
		return QuoteName(n.Table)
	}
	return QuoteName(n.DB) + "." + QuoteName(n.Table)
}

// String returns the name as people write it.
func (n TableName) String() string {
	if n.DB == "" {
		return n.Table
	}
	return n.DB + "." + n.Table
}
