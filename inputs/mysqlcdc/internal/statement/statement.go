// Package statement reads SQL as far as that takes tokens: it tells kinds of statements apart, and finds names in them. What a statement
// does to tables is package ddl's.
package statement

import (
	"bytes"
	"strings"
)

// Kind is what a query event means for the stream.
type Kind byte

const (
	Other      Kind = iota // may have changed any table's shape
	Begin                  // a transaction begins
	Commit                 // a transaction ends
	Rollback               // a transaction ends, and what it wrote to transactional tables is undone
	Neutral                // changes no shape: savepoints, accounts, maintenance
	Truncate               // TRUNCATE TABLE
	XAStart                // an XA transaction begins
	XACommit               // a prepared XA transaction is made good
	XARollback             // a prepared XA transaction is undone
	Data                   // rows changed by a statement that is logged as such, not as rows
)

// Statement is a query event, understood as far as the stream needs.
type Statement struct {
	Kind Kind
	// DB and table are those of a truncate or of changed data; db is empty for the current database.
	DB, Table string
	// XID is the id of the XA transaction that is made good or undone, as the server writes it.
	XID string
}

// Parse classifies the text of a query event. What it does not know is Other, the safe answer.
func Parse(query []byte) Statement {
	switch { // what nearly every event says, without looking closer
	case bytes.Equal(query, []byte("BEGIN")):
		return Statement{Kind: Begin}
	case bytes.Equal(query, []byte("COMMIT")):
		return Statement{Kind: Commit}
	}
	l := Lexer{S: string(query)}
	first := l.Next()
	switch first.Keyword() {
	case "BEGIN", "START":
		return Statement{Kind: Begin}
	case "COMMIT":
		return Statement{Kind: Commit}
	case "ROLLBACK":
		if t := l.Next(); t.Keyword() == "TO" || t.Keyword() == "WORK" && l.Next().Keyword() == "TO" {
			return Statement{Kind: Neutral}
		}
		return Statement{Kind: Rollback}
	case "XA":
		return l.xa()
	case "SET":
		if l.SetStatement() {
			return Parse([]byte(l.S))
		}
		return Statement{Kind: Neutral}
	case "SAVEPOINT", "RELEASE", "GRANT", "REVOKE", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR":
		return Statement{Kind: Neutral}
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return l.data(first.Keyword())
	case "WITH", "SELECT", "DO", "CALL", "LOAD": // what a statement behind WITH, or a function, has changed is hard to tell
		return Statement{Kind: Data}
	case "TRUNCATE":
		return l.truncate()
	case "CREATE", "ALTER", "DROP":
		switch l.Next().Keyword() {
		case "USER", "ROLE", "EVENT", "PROCEDURE", "FUNCTION", "TRIGGER", "SERVER":
			return Statement{Kind: Neutral}
		}
	}
	return Statement{Kind: Other}
}

// SetStatement skips what MariaDB lets precede a statement: SET, which has been read, STATEMENT variable = value, … FOR. It reports
// whether that is there.
func (l *Lexer) SetStatement() bool {
	if l.Next().Keyword() != "STATEMENT" {
		return false
	}
	for {
		switch l.peek() {
		case 0:
			return false
		case '\'', '"':
			_, n, ok := unquoteSQL(l.S, true)
			if !ok {
				return false
			}
			l.S = l.S[n:]
		default:
			if l.Next().Keyword() == "FOR" {
				return true
			}
		}
	}
}

// data reads the table of INSERT, UPDATE, DELETE or REPLACE; the names stay empty when there is no telling, or when there can be
// more than one.
func (l *Lexer) data(verb string) Statement {
	t, from := l.Next(), false
	for {
		switch k := t.Keyword(); k {
		case "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK", "IGNORE", "INTO", "FROM":
			from = from || k == "FROM"
			t = l.Next()
			continue
		}
		break
	}
	st := Statement{Kind: Data}
	if !t.name || verb == "DELETE" && !from {
		return st
	}
	table := TableName{Table: t.text}
	if l.peek() == '.' {
		l.Next()
		table = TableName{t.text, l.Next().text}
	}
	if (verb == "UPDATE" || verb == "DELETE") && l.joins() {
		return st
	}
	st.DB, st.Table = table.DB, table.Table
	return st
}

// joins reports whether more tables than one can follow the name of a table in UPDATE or DELETE.
func (l *Lexer) joins() bool {
	for {
		t := l.Next()
		switch t.Keyword() {
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

// ParseLoad reads the table of LOAD DATA and LOAD XML, behind the name of the file.
func ParseLoad(rest []byte) Statement {
	l := Lexer{S: string(rest)}
	st := Statement{Kind: Data}
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
	t := l.Next()
	if !t.name {
		return st
	}
	st.Table = t.text
	if l.peek() == '.' {
		l.Next()
		st.DB, st.Table = t.text, l.Next().text
	}
	return st
}

// truncate reads the rest of TRUNCATE [TABLE] [db.]table.
func (l *Lexer) truncate() Statement {
	t := l.Next()
	if t.Keyword() == "TABLE" {
		t = l.Next()
	}
	st := Statement{Kind: Truncate, Table: t.text}
	if !t.name {
		return Statement{Kind: Other}
	}
	if l.peek() == '.' {
		l.Next()
		t = l.Next()
		if !t.name {
			return Statement{Kind: Other}
		}
		st.DB, st.Table = st.Table, t.text
	}
	return st
}

// token is a word, a quoted name, or a single character.
type token struct {
	text         string
	name, quoted bool
}

func (t token) Keyword() string {
	if t.quoted || !t.name {
		return ""
	}
	return strings.ToUpper(t.text)
}

// Lexer splits SQL as far as names and keywords go. Comments are left out; what is in executable ones (/*! */) is read.
type Lexer struct{ S string }

func (l *Lexer) skip() {
	for {
		l.S = strings.TrimLeft(l.S, " \t\r\n\v\f")
		switch {
		case strings.HasPrefix(l.S, "/*!"), strings.HasPrefix(l.S, "/*M!"):
			_, l.S, _ = strings.Cut(l.S, "!")
			l.S = strings.TrimLeft(l.S, "0123456789")
		case strings.HasPrefix(l.S, "*/"):
			l.S = l.S[2:]
		case strings.HasPrefix(l.S, "/*"):
			_, l.S, _ = strings.Cut(l.S[2:], "*/")
		case strings.HasPrefix(l.S, "#"), strings.HasPrefix(l.S, "-- "), strings.HasPrefix(l.S, "--\n"):
			_, l.S, _ = strings.Cut(l.S, "\n")
		default:
			return
		}
	}
}

func (l *Lexer) peek() byte {
	l.skip()
	if l.S == "" {
		return 0
	}
	return l.S[0]
}

func isNameByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (l *Lexer) Next() token {
	c := l.peek()
	switch {
	case c == 0:
		return token{}
	case c == '`' || c == '"':
		return l.quoted(c)
	case isNameByte(c):
		n := 1
		for n < len(l.S) && isNameByte(l.S[n]) {
			n++
		}
		t := token{text: l.S[:n], name: true}
		l.S = l.S[n:]
		return t
	default:
		l.S = l.S[1:]
		return token{text: string(rune(c))}
	}
}

// quoted reads a name in quotes, in which a doubled quote is one.
func (l *Lexer) quoted(q byte) token {
	var b strings.Builder
	s := l.S[1:]
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
		l.S = s[i+1:]
		return token{text: b.String(), name: true, quoted: true}
	}
	l.S = ""
	return token{}
}

// xa reads the rest of an XA statement. The server writes its id as X'…',X'…',n.
func (l *Lexer) xa() Statement {
	verb := l.Next().Keyword()
	st := Statement{Kind: Neutral, XID: strings.TrimSpace(l.S)}
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
