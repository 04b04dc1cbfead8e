// Package statement reads SQL as far as that takes tokens: it tells kinds of statements apart, and finds names in them. What a statement
// does to tables is package ddl's.
package statement

import (
	"slices"
	"strings"
)

// Kind is what a query event means for the stream.
type Kind byte

// The kinds of statements.
const (
	Other      Kind = iota // may have changed any table's shape
	Begin                  // a transaction begins
	Commit                 // a transaction ends
	Rollback               // a transaction ends, and what it wrote to transactional tables is undone
	RollbackTo             // what a transaction wrote to transactional tables since a savepoint is undone
	Savepoint              // a savepoint is set
	Neutral                // changes no shape: accounts, maintenance
	Truncate               // TRUNCATE TABLE
	XAStart                // an XA transaction begins
	XACommit               // a prepared XA transaction is made good
	XARollback             // a prepared XA transaction is undone
	Data                   // rows changed by a statement that is logged as such, not as rows
)

// Statement is a query event, understood as far as the stream needs.
type Statement struct {
	Kind Kind
	// Table is that of a truncate or of changed data. It is empty where there is no telling, or where there can be more than one.
	Table TableName
	// Calls says that a change of data may call a function that is stored in the server.
	Calls bool
	// XID is the id of the XA transaction that is made good or undone, as the server writes it.
	XID string
	// Savepoint is the name of one that is set or gone back to.
	Savepoint string
}

// Parse classifies a statement; the text is UTF-8. What it does not know is Other, the safe answer.
func Parse(text string, mode Mode, d Dialect) Statement {
	switch text { // what nearly every event says, without looking closer
	case "BEGIN":
		return Statement{Kind: Begin}
	case "COMMIT":
		return Statement{Kind: Commit}
	}
	return NewScanner(text, mode, d).statement()
}

func (l *Scanner) statement() Statement {
	first := l.Next()
	switch first.Keyword() {
	case "BEGIN", "START":
		return Statement{Kind: Begin}
	case "COMMIT":
		return Statement{Kind: Commit}
	case "ROLLBACK":
		return l.rollback()
	case "SAVEPOINT":
		return Statement{Kind: Savepoint, Savepoint: l.Next().Text}
	case "XA":
		return l.xa()
	case "SET":
		if l.SetStatement() {
			return l.statement()
		}
		return Statement{Kind: Neutral}
	case "RELEASE", "GRANT", "REVOKE", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR":
		return Statement{Kind: Neutral}
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return l.data(first.Keyword())
	case "WITH", "SELECT", "DO", "CALL", "LOAD", "TABLE", "VALUES": // what a statement after WITH, or a function, has changed is hard to tell
		return Statement{Kind: Data, Calls: true}
	case "TRUNCATE":
		return l.truncate()
	case "CREATE", "ALTER", "DROP":
		switch l.Next().Keyword() {
		case "USER", "ROLE", "EVENT", "PROCEDURE", "FUNCTION", "TRIGGER", "SERVER":
			return Statement{Kind: Neutral}
		}
	}
	if first.Is("(") {
		return Statement{Kind: Data, Calls: true}
	}
	return Statement{Kind: Other}
}

func (l *Scanner) rollback() Statement {
	t := l.Next()
	if t.Keyword() == "WORK" {
		t = l.Next()
	}
	if t.Keyword() != "TO" {
		return Statement{Kind: Rollback}
	}
	t = l.Next()
	if t.Keyword() == "SAVEPOINT" && l.Peek().Kind != End {
		t = l.Next()
	}
	return Statement{Kind: RollbackTo, Savepoint: t.Text}
}

// xa reads the rest of an XA statement. The server writes its id as X'…',X'…',n.
func (l *Scanner) xa() Statement {
	verb := l.Next().Keyword()
	st := Statement{Kind: Neutral, XID: strings.TrimSpace(l.rest)}
	switch verb {
	case "START", "BEGIN":
		return Statement{Kind: XAStart}
	case "COMMIT":
		st.Kind = XACommit
	case "ROLLBACK":
		st.Kind = XARollback
	default:
		st.XID = ""
	}
	return st
}

// SetStatement skips what MariaDB lets precede a statement: SET, which has been read, STATEMENT variable = value, … FOR. It reports
// whether that is there.
func (l *Scanner) SetStatement() bool {
	if l.Next().Keyword() != "STATEMENT" {
		return false
	}
	for {
		switch t := l.Next(); {
		case t.Kind == End:
			return false
		case t.Keyword() == "FOR":
			return true
		}
	}
}

// data reads the table of INSERT, UPDATE, DELETE or REPLACE.
func (l *Scanner) data(verb string) Statement {
	from := false
	for {
		k := l.Peek().Keyword()
		switch k {
		case "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK", "IGNORE", "INTO", "FROM":
			from = from || k == "FROM"
			l.Next()
			continue
		}
		break
	}
	st := Statement{Kind: Data, Calls: true}
	n, ok := l.table()
	switch {
	case !ok, verb == "DELETE" && !from:
	case (verb == "UPDATE" || verb == "DELETE") && l.joins():
	default:
		st.Table, st.Calls = n, l.calls()
	}
	return st
}

// calls reports whether what is left of a statement may call a function that is stored in the server: a name before a bracket that is
// neither a keyword nor one of the server's own functions that are common, or is one of a database. A list of columns after the name of
// the table, which has been read, is none.
func (l *Scanner) calls() bool {
	var last Token
	for t := l.Next(); t.Kind != End; t = l.Next() {
		if t.Is("(") && (last.Kind == Name || last.Kind == Word && !slices.Contains(harmless(), last.Keyword())) || t.Is(".") {
			return true
		}
		last = t
	}
	return l.err != nil
}

// harmless are words that may stand before a bracket and do not call what is stored.
func harmless() []string {
	return []string{
		"VALUES", "VALUE", "IN", "AS", "AND", "OR", "NOT", "XOR", "WHERE", "SELECT", "FROM", "SET", "ON", "USING", "THEN", "ELSE", "WHEN", "BETWEEN",
		"ABS", "AVG", "BIT_XOR", "CAST", "COALESCE", "CONCAT", "CONCAT_WS", "CONV", "CONVERT", "COUNT", "CRC32", "DATE", "IF", "IFNULL", "ISNULL",
		"LAST_INSERT_ID", "LEFT", "LENGTH", "LOWER", "MAX", "MIN", "NOW", "REPLACE", "RIGHT", "ROW", "SUBSTRING", "SUM", "TRIM", "UPPER", "UUID",
	}
}

// table takes the name of a table: table, db.table, or .table.
func (l *Scanner) table() (n TableName, ok bool) {
	if l.Peek().Is(".") {
		l.Next()
		n.Table, ok = l.Next().named()
		return n, ok
	}
	if n.Table, ok = l.Next().named(); !ok || !l.Peek().Is(".") {
		return n, ok
	}
	l.Next()
	n.DB = n.Table
	n.Table, ok = l.Next().named()
	return n, ok
}

// joins reports whether more tables than one can follow the name of a table in UPDATE or DELETE.
func (l *Scanner) joins() bool {
	for {
		t := l.Next()
		switch t.Keyword() {
		case "SET", "WHERE", "ORDER", "LIMIT", "RETURNING", "PARTITION", "FOR":
			return false
		case "JOIN", "INNER", "CROSS", "LEFT", "RIGHT", "NATURAL", "STRAIGHT_JOIN", "USING":
			return true
		}
		switch {
		case t.Kind == End:
			return false
		case t.Is(","):
			return true
		}
	}
}

// ParseLoad reads the table of LOAD DATA and LOAD XML, after the name of the file; the text is UTF-8.
func ParseLoad(rest string, mode Mode, d Dialect) Statement {
	l := NewScanner(rest, mode, d)
	st := Statement{Kind: Data, Calls: true}
	for {
		switch l.Next().Keyword() {
		case "REPLACE", "IGNORE", "INTO":
			continue
		case "TABLE":
		default:
			return st
		}
		break
	}
	if n, ok := l.table(); ok {
		st.Table, st.Calls = n, l.calls()
	}
	return st
}

// truncate reads the rest of TRUNCATE [TABLE] [db.]table.
func (l *Scanner) truncate() Statement {
	if l.Peek().Keyword() == "TABLE" {
		l.Next()
	}
	n, ok := l.table()
	if !ok {
		return Statement{Kind: Other}
	}
	return Statement{Kind: Truncate, Table: n}
}
