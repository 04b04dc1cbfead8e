package ddl

import (
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// typeSpec is a column's type as a statement has it.
type typeSpec struct {
	name string // in upper case, words separated by one space
	args []statement.Token
	// What follows the type.
	unsigned, zerofill, binary, ascii, unicode, byte, compressed bool
	charset, collation                                           string
	// null is what the statement says about NULL; 0 for nothing, 1 for NULL, 2 for NOT NULL.
	null byte
	// rowEnd says that the column is the end of a row's life, which MariaDB adds to every unique key.
	rowEnd bool
	// literal is the text of a DEFAULT that is a literal.
	literal *string
}

const (
	saysNull    = 1
	saysNotNull = 2
)

// writeType writes a column whose type is remembered.
func (r *reducer) writeType(name string, t typeSpec) {
	r.write(r.columnSQL(name, t))
}

func (r *reducer) columnSQL(name string, t typeSpec) string {
	r.red.types = append(r.red.types, t)
	return statement.QuoteName(name) + " VARBINARY(" + strconv.Itoa(len(r.red.types)-1) + ")"
}

// column reads a column definition: name, type, attributes.
func (r *reducer) column() (string, error) {
	name, err := r.ident()
	if err != nil {
		return "", err
	}
	return r.definition(name)
}

func (r *reducer) definition(name string) (string, error) {
	t, err := r.typeName()
	if err != nil {
		return "", err
	}
	attributes := ""
	for len(r.in) > 0 {
		a, err := r.attribute(&t)
		if err != nil {
			return "", err
		}
		attributes += a
	}
	if t.rowEnd {
		r.red.rowEnd = name
	}
	if t.name == "SERIAL" {
		attributes = " UNIQUE" + attributes
	}
	return r.columnSQL(name, t) + attributes, nil
}

// typeName reads the name of a type and its arguments.
func (r *reducer) typeName() (t typeSpec, err error) {
	first := r.peek().Keyword()
	if first == "" {
		return t, r.unexpected()
	}
	r.next()
	t.name = first
	add := func(words ...string) bool {
		k := r.acceptAny(words...)
		if k != "" {
			t.name += " " + k
		}
		return k != ""
	}
	switch first {
	case "DOUBLE":
		add("PRECISION")
	case "LONG":
		if !add("VARCHAR", "VARBINARY", "VARCHARACTER") && add("CHAR", "CHARACTER") {
			add("VARYING")
		}
	case "NATIONAL":
		add("CHAR", "CHARACTER", "VARCHAR", "VARCHARACTER")
		add("VARYING")
	case "CHAR", "CHARACTER", "NCHAR":
		add("VARYING", "VARCHAR", "VARCHARACTER")
	}
	if r.peek().Is("(") {
		inner, err := r.group()
		if err != nil {
			return t, err
		}
		for _, a := range split(inner) {
			switch {
			case len(a) == 1 && a[0].Kind == statement.Word && (strings.HasPrefix(a[0].Text, "0x") || strings.HasPrefix(a[0].Text, "0b")):
				t.args = append(t.args, introduced(strings.ToUpper(a[0].Text[1:2]), statement.Token{Kind: statement.Text, Text: a[0].Text[2:]}))
			case len(a) == 1:
				t.args = append(t.args, a[0])
			case len(a) == 2 && a[1].Kind == statement.Text: // x'41', _utf8mb4'a'
				t.args = append(t.args, introduced(a[0].Keyword(), a[1]))
			default:
				return t, r.unexpected()
			}
		}
	}
	return t, nil
}

// introduced is a string with a word before it: X for hexadecimal digits, B for binary ones.
func introduced(word string, s statement.Token) statement.Token {
	base, digits := 16, 2
	switch word {
	case "X":
	case "B":
		base, digits = 2, 8
	default:
		return s
	}
	if odd := len(s.Text) % digits; odd > 0 {
		s.Text = strings.Repeat("0", digits-odd) + s.Text
	}
	var b strings.Builder
	for i := 0; i < len(s.Text); i += digits {
		n, _ := strconv.ParseUint(s.Text[i:i+digits], base, 8) // the server has checked it
		b.WriteByte(byte(n))
	}
	return statement.Token{Kind: statement.Text, Text: b.String()}
}

// attribute reads what follows the type: what it means for the type goes into t, what the parser shall see is returned.
func (r *reducer) attribute(t *typeSpec) (string, error) {
	if done, err := r.typeAttribute(t); done || err != nil {
		return "", err
	}
	switch {
	case r.accept("NOT", "NULL"):
		t.null = saysNotNull
	case r.accept("GENERATED", "ALWAYS", "AS", "ROW"), r.accept("AS", "ROW"):
		t.null = saysNotNull
		t.rowEnd = r.next().Keyword() == "END"
	case r.accept("NULL"):
		t.null = saysNull
	case r.accept("PRIMARY"):
		r.accept("KEY")
		return " PRIMARY KEY", nil
	case r.accept("UNIQUE"):
		r.accept("KEY")
		return " UNIQUE", nil
	case r.accept("KEY"):
		return " PRIMARY KEY", nil
	case r.accept("AUTO_INCREMENT"):
		t.null = saysNotNull
	case r.accept("SERIAL", "DEFAULT", "VALUE"):
		t.null = saysNotNull
		return " UNIQUE", nil
	case r.accept("FIRST"):
		return " FIRST", nil
	case r.accept("AFTER"):
		name, err := r.ident()
		return " AFTER " + statement.QuoteName(name), err
	default:
		if r.peek().Keyword() == "DEFAULT" {
			t.literal = literal(r.in[1:])
		}
		return "", r.neutralAttribute()
	}
	return "", nil
}

// literal returns the text of a default that is a literal: strings, a number, or a truth value.
func literal(in []statement.Token) *string {
	sign := ""
	if len(in) > 0 && (in[0].Is("-") || in[0].Is("+")) {
		if in[0].Is("-") {
			sign = "-"
		}
		in = in[1:]
	}
	text, ok := "", false
	switch first := (&reducer{in: in}).peek(); {
	case sign == "" && first.Kind == statement.Text:
		for len(in) > 0 && in[0].Kind == statement.Text { // 'a' 'b'
			text, in = text+in[0].Text, in[1:]
		}
		ok = true
	case len(in) > 1 && first.Is(".") && in[1].Kind == statement.Number:
		text, ok, in = "0."+in[1].Text, true, in[2:]
	case first.Kind == statement.Number, first.Kind == statement.Word && isExponential(first.Text):
		text, ok, in = first.Text, true, in[1:]
	case first.Keyword() == "TRUE":
		text, ok, in = "1", true, in[1:]
	case first.Keyword() == "FALSE":
		text, ok, in = "0", true, in[1:]
	}
	if !ok || len(in) > 0 && (in[0].Kind == statement.Punct || in[0].Kind == statement.Text) { // more than a literal
		return nil
	}
	text = sign + text
	return &text
}

// isExponential reports a number like 1e3.
func isExponential(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && s[0] >= '0' && s[0] <= '9'
}

// typeAttribute reads what belongs to the type itself.
func (r *reducer) typeAttribute(t *typeSpec) (bool, error) {
	switch {
	case r.accept("UNSIGNED"):
		t.unsigned = true
	case r.accept("SIGNED"):
	case r.accept("ZEROFILL"):
		t.zerofill, t.unsigned = true, true
	case r.accept("BINARY"):
		t.binary = true
	case r.accept("ASCII"):
		t.ascii = true
	case r.accept("UNICODE"):
		t.unicode = true
	case r.accept("BYTE"):
		t.byte = true
	case r.accept("COMPRESSED"):
		t.compressed = true
		if r.acceptPunct("=") {
			r.next()
		}
	case r.accept("CHARACTER", "SET"), r.accept("CHAR", "SET"), r.accept("CHARSET"):
		r.acceptPunct("=")
		t.charset = strings.ToLower(r.next().Text)
	case r.accept("COLLATE"):
		r.acceptPunct("=")
		t.collation = strings.ToLower(r.next().Text)
	default:
		return false, nil
	}
	return true, nil
}

// neutralAttribute takes an attribute that does not change the column's shape.
func (r *reducer) neutralAttribute() error {
	switch k := r.peek().Keyword(); k {
	case "DEFAULT":
		r.next()
		return r.value()
	case "ON": // UPDATE now(), DELETE SET NULL
		r.next()
		r.next()
		if r.accept("SET") || r.accept("NO") {
			r.next()
			return nil
		}
		return r.value()
	case "COMMENT", "COLUMN_FORMAT", "STORAGE", "SRID", "REF_SYSTEM_ID", "MATCH", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE":
		r.next()
		r.acceptPunct("=")
		r.next()
		return nil
	case "GENERATED":
		r.next()
		r.accept("ALWAYS")
		return nil
	case "AS", "CHECK":
		r.next()
		_, err := r.group()
		return err
	case "CONSTRAINT":
		r.next()
		if r.peek().Keyword() != "CHECK" {
			r.next()
		}
		return nil
	case "REFERENCES":
		r.next()
		var other reducer
		other.in = r.in
		if _, err := other.tableName(); err != nil {
			return err
		}
		r.in = other.in
		if r.peek().Is("(") {
			_, err := r.group()
			return err
		}
		return nil
	case "VIRTUAL", "STORED", "PERSISTENT", "INVISIBLE", "VISIBLE", "ENFORCED":
		r.next()
		return nil
	case "NOT", "WITH", "WITHOUT":
		if r.accept("NOT", "ENFORCED") || r.accept("NOT", "SECONDARY") || r.accept("WITH", "SYSTEM", "VERSIONING") ||
			r.accept("WITHOUT", "SYSTEM", "VERSIONING") {
			return nil
		}
		return r.unexpected()
	default:
		if k != "" && r.at(1).Is("=") { // an option of a storage engine
			r.in = r.in[min(3, len(r.in)):]
			return nil
		}
		return r.unexpected()
	}
}

// value takes a default: a literal, a function, an expression in brackets.
func (r *reducer) value() error {
	for r.acceptPunct("-") || r.acceptPunct("+") {
	}
	if r.peek().Is("(") {
		_, err := r.group()
		return err
	}
	t := r.next()
	if t.Kind == statement.Word && t.Text[0] == '_' && r.peek().Kind == statement.Word { // _latin1 X'41'
		t = r.next()
	}
	switch {
	case t.Keyword() == "CASE":
		return r.caseEnd()
	case t.Kind == statement.End || t.Kind == statement.Punct && t.Text != ".":
		return r.unexpected()
	case t.Kind == statement.Text, t.Kind == statement.Word && r.peek().Kind == statement.Text: // b'0', _utf8mb4'x', DATE '2024-01-01', 'a' 'b'
		for r.peek().Kind == statement.Text {
			r.next()
		}
	case t.Kind == statement.Word && r.peek().Is("("):
		_, err := r.group()
		return err
	case t.Is("."):
		r.next()
	case t.Kind == statement.Word && r.accept("VALUE"), t.Kind == statement.Word && r.accept("FOR"): // NEXT VALUE FOR s
		r.accept("FOR")
		var other reducer
		other.in = r.in
		_, err := other.tableName()
		r.in = other.in
		return err
	}
	return nil
}

// caseEnd takes the rest of CASE … END.
func (r *reducer) caseEnd() error {
	for depth := 1; depth > 0; {
		switch t := r.next(); t.Keyword() {
		case "CASE":
			depth++
		case "END":
			depth--
		default:
			if t.Kind == statement.End {
				return r.unexpected()
			}
		}
	}
	return nil
}
