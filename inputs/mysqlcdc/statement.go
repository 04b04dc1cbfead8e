package mysqlcdc

import (
	"bytes"
	"strings"
)

// statementKind is what a query event means for the stream.
type statementKind byte

const (
	statementOther      statementKind = iota // may have changed any table's shape
	statementBegin                           // a transaction begins
	statementCommit                          // a transaction ends
	statementRollback                        // a transaction ends, and what it wrote to transactional tables is undone
	statementNeutral                         // changes no shape: savepoints, accounts, maintenance
	statementTruncate                        // TRUNCATE TABLE
	statementXAStart                         // an XA transaction begins
	statementXACommit                        // a prepared XA transaction is made good
	statementXARollback                      // a prepared XA transaction is undone
	statementData                            // rows changed by a statement that is logged as such, not as rows
)

// statement is a query event, understood as far as the stream needs.
type statement struct {
	kind statementKind
	// db and table are those of a truncate or of changed data; db is empty for the current database.
	db, table string
	// xid is the id of the XA transaction that is made good or undone, as the server writes it.
	xid string
}

// parseStatement classifies the text of a query event. What it does not know is statementOther, the safe answer.
func parseStatement(query []byte) statement {
	switch { // what nearly every event says, without looking closer
	case bytes.Equal(query, []byte("BEGIN")):
		return statement{kind: statementBegin}
	case bytes.Equal(query, []byte("COMMIT")):
		return statement{kind: statementCommit}
	}
	l := lexer{s: string(query)}
	first := l.next()
	switch first.keyword() {
	case "BEGIN", "START":
		return statement{kind: statementBegin}
	case "COMMIT":
		return statement{kind: statementCommit}
	case "ROLLBACK":
		if t := l.next(); t.keyword() == "TO" || t.keyword() == "WORK" && l.next().keyword() == "TO" {
			return statement{kind: statementNeutral}
		}
		return statement{kind: statementRollback}
	case "XA":
		return l.xa()
	case "SET":
		if l.setStatement() {
			return parseStatement([]byte(l.s))
		}
		return statement{kind: statementNeutral}
	case "SAVEPOINT", "RELEASE", "GRANT", "REVOKE", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR":
		return statement{kind: statementNeutral}
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return l.data(first.keyword())
	case "WITH", "SELECT", "DO", "CALL", "LOAD": // what a statement behind WITH, or a function, has changed is hard to tell
		return statement{kind: statementData}
	case "TRUNCATE":
		return l.truncate()
	case "CREATE", "ALTER", "DROP":
		switch l.next().keyword() {
		case "USER", "ROLE", "EVENT", "PROCEDURE", "FUNCTION", "TRIGGER", "SERVER":
			return statement{kind: statementNeutral}
		}
	}
	return statement{kind: statementOther}
}

// setStatement skips what MariaDB lets precede a statement: SET, which has been read, STATEMENT variable = value, … FOR. It reports
// whether that is there.
func (l *lexer) setStatement() bool {
	if l.next().keyword() != "STATEMENT" {
		return false
	}
	for {
		switch l.peek() {
		case 0:
			return false
		case '\'', '"':
			_, n, ok := unquoteSQL(l.s, true)
			if !ok {
				return false
			}
			l.s = l.s[n:]
		default:
			if l.next().keyword() == "FOR" {
				return true
			}
		}
	}
}

// data reads the table of INSERT, UPDATE, DELETE or REPLACE; the names stay empty when there is no telling, or when there can be
// more than one.
func (l *lexer) data(verb string) statement {
	t, from := l.next(), false
	for {
		switch k := t.keyword(); k {
		case "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK", "IGNORE", "INTO", "FROM":
			from = from || k == "FROM"
			t = l.next()
			continue
		}
		break
	}
	st := statement{kind: statementData}
	if !t.name || verb == "DELETE" && !from {
		return st
	}
	table := tableName{table: t.text}
	if l.peek() == '.' {
		l.next()
		table = tableName{t.text, l.next().text}
	}
	if (verb == "UPDATE" || verb == "DELETE") && l.joins() {
		return st
	}
	st.db, st.table = table.db, table.table
	return st
}

// joins reports whether more tables than one can follow the name of a table in UPDATE or DELETE.
func (l *lexer) joins() bool {
	for {
		t := l.next()
		switch t.keyword() {
		case "SET", "WHERE", "ORDER", "LIMIT", "RETURNING", "PARTITION", "FOR":
			return false
		case "JOIN", "INNER", "CROSS", "LEFT", "RIGHT", "NATURAL", "STRAIGHT_JOIN", "USING":
			return true
		}
		switch t.text {
		case "":
			return false
		case ",":
			return true
		}
	}
}

// parseLoad reads the table of LOAD DATA and LOAD XML, behind the name of the file.
func parseLoad(rest []byte) statement {
	l := lexer{s: string(rest)}
	st := statement{kind: statementData}
	for {
		switch l.next().keyword() {
		case "REPLACE", "IGNORE", "INTO":
			continue
		case "TABLE":
		default:
			return st
		}
		break
	}
	t := l.next()
	if !t.name {
		return st
	}
	st.table = t.text
	if l.peek() == '.' {
		l.next()
		st.db, st.table = t.text, l.next().text
	}
	return st
}

// truncate reads the rest of TRUNCATE [TABLE] [db.]table.
func (l *lexer) truncate() statement {
	t := l.next()
	if t.keyword() == "TABLE" {
		t = l.next()
	}
	st := statement{kind: statementTruncate, table: t.text}
	if !t.name {
		return statement{kind: statementOther}
	}
	if l.peek() == '.' {
		l.next()
		t = l.next()
		if !t.name {
			return statement{kind: statementOther}
		}
		st.db, st.table = st.table, t.text
	}
	return st
}

// token is a word, a quoted name, or a single character.
type token struct {
	text         string
	name, quoted bool
}

func (t token) keyword() string {
	if t.quoted || !t.name {
		return ""
	}
	return strings.ToUpper(t.text)
}

// lexer splits SQL as far as names and keywords go. Comments are left out; what is in executable ones (/*! */) is read.
type lexer struct{ s string }

func (l *lexer) skip() {
	for {
		l.s = strings.TrimLeft(l.s, " \t\r\n\v\f")
		switch {
		case strings.HasPrefix(l.s, "/*!"), strings.HasPrefix(l.s, "/*M!"):
			_, l.s, _ = strings.Cut(l.s, "!")
			l.s = strings.TrimLeft(l.s, "0123456789")
		case strings.HasPrefix(l.s, "*/"):
			l.s = l.s[2:]
		case strings.HasPrefix(l.s, "/*"):
			_, l.s, _ = strings.Cut(l.s[2:], "*/")
		case strings.HasPrefix(l.s, "#"), strings.HasPrefix(l.s, "-- "), strings.HasPrefix(l.s, "--\n"):
			_, l.s, _ = strings.Cut(l.s, "\n")
		default:
			return
		}
	}
}

func (l *lexer) peek() byte {
	l.skip()
	if l.s == "" {
		return 0
	}
	return l.s[0]
}

func isNameByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *lexer) next() token {
	c := l.peek()
	switch {
	case c == 0:
		return token{}
	case c == '`' || c == '"':
		return l.quoted(c)
	case isNameByte(c):
		n := 1
		for n < len(l.s) && isNameByte(l.s[n]) {
			n++
		}
		t := token{text: l.s[:n], name: true}
		l.s = l.s[n:]
		return t
	default:
		l.s = l.s[1:]
		return token{text: string(rune(c))}
	}
}

// quoted reads a name in quotes, in which a doubled quote is one.
func (l *lexer) quoted(q byte) token {
	var b strings.Builder
	s := l.s[1:]
	for i := 0; i < len(s); i++ {
		if s[i] != q {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == q {
			b.WriteByte(q)
			i++
			continue
		}
		l.s = s[i+1:]
		return token{text: b.String(), name: true, quoted: true}
	}
	l.s = ""
	return token{}
}

// xa reads the rest of an XA statement. The server writes its id as X'…',X'…',n.
func (l *lexer) xa() statement {
	verb := l.next().keyword()
	st := statement{kind: statementNeutral, xid: strings.TrimSpace(l.s)}
	switch verb {
	case "START", "BEGIN":
		return statement{kind: statementXAStart}
	case "COMMIT":
		st.kind = statementXACommit
	case "ROLLBACK":
		st.kind = statementXARollback
	default:
		st.xid = ""
	}
	return st
}
