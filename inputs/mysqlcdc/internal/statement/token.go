package statement

import (
	"errors"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// Token is a token of a whole SQL statement.
type Token struct {
	Kind TokenKind
	// Text is a word as written, a name or string without its quotes, a number, or one character.
	Text string
}

// TokenKind tells words, names, literals and signs apart.
type TokenKind byte

const (
	End TokenKind = iota
	Word
	Name // in backticks, or in double quotes under ANSI_QUOTES
	Text
	Number
	Punct
)

// Keyword returns the word in upper case; empty when the token is no bare word.
func (t Token) Keyword() string {
	if t.Kind != Word {
		return ""
	}
	return strings.ToUpper(t.Text)
}

// Is reports a sign.
func (t Token) Is(punct string) bool { return t.Kind == Punct && t.Text == punct }

// Mode is what of a session's SQL mode changes how a statement reads.
type Mode struct{ ANSIQuotes, noBackslash, RealAsFloat, Oracle bool }

// The bits of sql_mode that a query event carries (MySQL source, query_event.h).
const (
	modeRealAsFloat = 1 << 0
	modeANSIQuotes  = 1 << 2
	modeOracle      = 1 << 9 // MariaDB's
	modeNoBackslash = 1 << 20
)

// named returns the name that a token can be; false when it can be none. A word that begins with digits may be one.
func (t Token) named() (string, bool) {
	return t.Text, t.Kind == Word || t.Kind == Name
}

// ModeOf reads the bits of sql_mode that a query event carries.
func ModeOf(bits uint64) Mode {
	return Mode{
		ANSIQuotes: bits&modeANSIQuotes != 0, noBackslash: bits&modeNoBackslash != 0, RealAsFloat: bits&modeRealAsFloat != 0,
		Oracle: bits&modeOracle != 0,
	}
}

// Dialect is the server that has run a statement: executable comments depend on it.
type Dialect struct {
	Flavor string
	// Version is that of the server as comments have it: 90700 for 9.7.0.
	Version int
}

// NewDialect returns the dialect of a server; the version is what the server says, with whatever follows the three numbers.
func NewDialect(flavor, version string) Dialect {
	d := Dialect{Flavor: flavor}
	for i, part := range strings.SplitN(version, ".", 3) {
		end := 0
		for end < len(part) && part[end] >= '0' && part[end] <= '9' {
			end++
		}
		n, _ := strconv.Atoi(part[:end]) // at most digits
		d.Version += n * [...]int{10000, 100, 1}[i]
	}
	return d
}

// runs reports whether the server runs what is in a comment that begins with "!" or "M!" and these digits.
func (d Dialect) runs(maria bool, digits string) bool {
	if maria && d.Flavor != product.MariaDB {
		return false
	}
	n, _ := strconv.Atoi(digits)
	if d.Flavor == product.MariaDB && !maria && n >= 50700 && n <= 99999 {
		return false // what MySQL added after MariaDB had left
	}
	return n <= d.Version
}

var errUnterminated = errors.New("a quote or comment without end")

// Scanner splits a statement into tokens, as one session of one server reads it: there is no other reader of SQL here. Comments go; what
// is in executable ones that the server runs stays.
type Scanner struct {
	rest      string
	mode      Mode
	dialect   Dialect
	inComment bool
	peeked    *Token
	err       error
}

// NewScanner returns a scanner of a text in UTF-8.
func NewScanner(text string, mode Mode, d Dialect) *Scanner {
	return &Scanner{rest: text, mode: mode, dialect: d}
}

// Tokenize splits a whole statement.
func Tokenize(text string, mode Mode, d Dialect) (tokens []Token, err error) {
	l := NewScanner(text, mode, d)
	for t := l.Next(); t.Kind != End; t = l.Next() {
		tokens = append(tokens, t)
	}
	if l.err != nil {
		return nil, l.err
	}
	return tokens, nil
}

// Next takes the next token: one of the kind End at the end, and where a quote or comment has none.
func (l *Scanner) Next() Token {
	if t := l.peeked; t != nil {
		l.peeked = nil
		return *t
	}
	if l.skip(); l.rest == "" || l.err != nil {
		return Token{}
	}
	switch c := l.rest[0]; {
	case c == '`', c == '"', c == '\'':
		quotesName := c == '`' || c == '"' && l.mode.ANSIQuotes
		text, n, ok := unquoteSQL(l.rest, !quotesName && !l.mode.noBackslash)
		if !ok {
			l.err = errUnterminated
			return Token{}
		}
		l.rest = l.rest[n:]
		if quotesName {
			return Token{Name, nameOf(text)}
		}
		return Token{Text, text}
	case isNameByte(c):
		t, n := wordOrNumber(l.rest)
		l.rest = l.rest[n:]
		t.Text = nameOf(t.Text)
		return t
	default:
		l.rest = l.rest[1:]
		return Token{Punct, string(c)}
	}
}

// nameOf returns a name as servers keep it: in UTF-8 of three bytes a character at most, with "?" for those that have more.
func nameOf(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r > maxNameRune }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r > maxNameRune {
			return '?'
		}
		return r
	}, s)
}

const maxNameRune = 0xffff

// Peek returns the next token without taking it.
func (l *Scanner) Peek() Token {
	if l.peeked == nil {
		t := l.Next()
		l.peeked = &t
	}
	return *l.peeked
}

// skip passes over what is between tokens.
func (l *Scanner) skip() {
	for l.rest != "" {
		s := l.rest
		switch {
		case s[0] <= ' ':
			l.rest = s[1:]
		case strings.HasPrefix(s, "/*"):
			n, runs, err := l.dialect.comment(s)
			if err != nil {
				l.err = err
				return
			}
			l.inComment = l.inComment || runs
			l.rest = s[n:]
		case l.inComment && strings.HasPrefix(s, "*/"):
			l.inComment = false
			l.rest = s[2:]
		case s[0] == '#', strings.HasPrefix(s, "--") && (len(s) == 2 || s[2] <= ' '):
			_, l.rest, _ = strings.Cut(s, "\n")
		default:
			return
		}
	}
}

func isNameByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// comment returns how much of s to leave out at the start of a comment: all of it, or only the head of one that runs.
func (d Dialect) comment(s string) (n int, runs bool, err error) {
	head, maria := 0, false
	switch {
	case strings.HasPrefix(s, "/*!"):
		head = 3
	case strings.HasPrefix(s, "/*M!"):
		head, maria = 4, true
	}
	if head > 0 {
		digits := head
		for digits < len(s) && digits < head+6 && s[digits] >= '0' && s[digits] <= '9' {
			digits++
		}
		if digits-head < 5 { // fewer digits are no version
			digits = head
		}
		if d.runs(maria, s[head:digits]) {
			return digits, true, nil
		}
	}
	end := strings.Index(s[2:], "*/")
	if end < 0 {
		return 0, false, errUnterminated
	}
	return 2 + end + 2, false, nil
}

// wordOrNumber reads a word, or a number with a fraction or exponent.
func wordOrNumber(s string) (Token, int) {
	n := countDigits(s)
	whole := n > 0 && (n == len(s) || !isNameByte(s[n]))
	switch {
	case n > 0 && n < len(s) && s[n] == '.':
		n += 1 + countDigits(s[n+1:])
		return Token{Number, s[:n+exponent(s[n:])]}, n + exponent(s[n:])
	case whole:
		return Token{Number, s[:n]}, n
	case n > 0 && n+1 < len(s) && (s[n+1] == '-' || s[n+1] == '+') && exponent(s[n:]) > 0:
		return Token{Number, s[:n+exponent(s[n:])]}, n + exponent(s[n:])
	}
	for n = 1; n < len(s) && isNameByte(s[n]); {
		n++
	}
	return Token{Word, s[:n]}, n
}

func countDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// exponent returns the length of an exponent at the start of s; 0 without one.
func exponent(s string) int {
	if s == "" || s[0] != 'e' && s[0] != 'E' {
		return 0
	}
	n := 1
	if n < len(s) && (s[n] == '-' || s[n] == '+') {
		n++
	}
	digits := countDigits(s[n:])
	if digits == 0 {
		return 0
	}
	return n + digits
}

// unquoteSQL reads a quoted text at the start of s and returns it with the length of what was read. A doubled quote is one.
func unquoteSQL(s string, backslashes bool) (text string, n int, ok bool) {
	q := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == q && i+1 < len(s) && s[i+1] == q:
			b.WriteByte(q)
			i++
		case s[i] == q:
			return b.String(), i + 1, true
		case s[i] == '\\' && backslashes && i+1 < len(s):
			i++
			b.WriteByte(unescapedLiteral(s[i]))
		default:
			b.WriteByte(s[i])
		}
	}
	return "", 0, false
}

// unescapedLiteral is what a backslash and c stand for in a string literal.
func unescapedLiteral(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 't':
		return '\t'
	default:
		return Unescaped(c)
	}
}

// Unescaped is what a backslash and c stand for in the labels of a type.
func Unescaped(c byte) byte {
	switch c {
	case '0':
		return 0
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 'Z':
		return 26
	default:
		return c
	}
}
