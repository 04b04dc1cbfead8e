package protobuf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// file is what a .proto file says, as far as the format makes such files: top-level messages with fields of scalars and messages.
type file struct {
	space    string
	imports  []string
	options  []string // of the file, as they stand there
	messages []*message
}

type message struct {
	name   string
	fields []field // by number
}

type field struct {
	label, typ, name string
	original         string // of the column, as the name in JSON; empty if none is given
	number           int
}

// column returns the name of the column.
func (x field) column() string { return cmp.Or(x.original, x.name) }

func (f *file) message(name string) *message {
	if i := f.index(name); i >= 0 {
		return f.messages[i]
	}
	return &message{name: name}
}

func (f *file) index(name string) int {
	return slices.IndexFunc(f.messages, func(m *message) bool { return m.name == name })
}

// column returns the field of a column.
func (m *message) column(name string) (field, bool) {
	i := slices.IndexFunc(m.fields, func(x field) bool { return x.column() == name })
	if i < 0 {
		return field{}, false
	}
	return m.fields[i], true
}

// widens reports a type that writes the values of another one with the same bytes, and has all of them.
func widens(have, want string) bool {
	return have == want || have == typeInt64 && want == typeInt32 || have == typeUint64 && want == typeUint32
}

// covers reports whether a file has all that another one says, so that its number can stand for both.
func (f *file) covers(want *file) bool {
	for _, m := range want.messages {
		have := f.message(m.name)
		for _, x := range m.fields {
			if !slices.ContainsFunc(have.fields, func(y field) bool {
				return y.number == x.number && y.name == x.name && y.label == x.label && y.column() == x.column() && widens(y.typ, x.typ)
			}) {
				return false
			}
		}
	}
	return f.index(want.messages[0].name) >= 0
}

// merge adds what an older file has: the fields of columns that are not there any more, with the types that they had.
func (f *file) merge(old *file) {
	f.options = old.options
	for _, m := range old.messages {
		at := f.index(m.name)
		if at < 0 {
			f.messages = append(f.messages, m)
			continue
		}
		for _, x := range m.fields {
			if !slices.ContainsFunc(f.messages[at].fields, func(y field) bool { return y.number == x.number }) {
				f.messages[at].fields = append(f.messages[at].fields, x)
			}
		}
		slices.SortFunc(f.messages[at].fields, func(a, b field) int { return a.number - b.number })
	}
	for _, i := range old.imports {
		if !slices.Contains(f.imports, i) {
			f.imports = append(f.imports, i)
		}
	}
}

// text writes a file.
func (f *file) text() string {
	b := []byte("syntax = \"proto3\";\npackage " + f.space + ";\n")
	for _, i := range f.imports {
		b = append(b, "import \""+i+"\";\n"...)
	}
	for _, o := range f.options {
		b = append(b, "option "+o+";\n"...)
	}
	for _, m := range f.messages {
		b = append(b, "\nmessage "+m.name+" {\n"...)
		for _, x := range m.fields {
			b = append(b, "  "...)
			if x.label != "" {
				b = append(b, x.label+" "...)
			}
			b = append(b, x.typ+" "+x.name+" = "+strconv.Itoa(x.number)...)
			if x.original != "" {
				b = append(appendQuoted(append(b, " [json_name = "...), x.original), ']')
			}
			b = append(b, ";\n"...)
		}
		b = append(b, "}\n"...)
	}
	return string(b)
}

// errForeign is why a schema cannot be gone on with.
var errForeign = errors.New("the newest schema of the subject was not made by DeltaForge, which cannot tell the numbers of its columns: take another subject, or delete this one")

// parseFile reads a file that text has written, whatever a registry has made of its spaces.
func parseFile(text string) (*file, error) {
	p := &parser{tokens: tokens(text)}
	f := &file{}
	for p.err == nil && len(p.tokens) > 0 {
		switch word := p.next(); word {
		case ";":
		case "syntax":
			p.want("=")
			if s := p.next(); strings.Trim(s, `"'`) != "proto3" {
				p.fail("the syntax " + s)
			}
			p.want(";")
		case "package":
			f.space = p.next()
			p.want(";")
		case "import":
			f.imports = append(f.imports, strings.Trim(p.next(), `"'`))
			p.want(";")
		case "option":
			f.options = append(f.options, p.until(";"))
		case "message":
			f.messages = append(f.messages, p.message())
		default:
			p.fail(strconv.Quote(word))
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	return f, nil
}

type parser struct {
	tokens []string
	err    error
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("it has %s: %w", what, errForeign)
	}
	p.tokens = nil
}

func (p *parser) next() string {
	if len(p.tokens) == 0 {
		p.fail("no end")
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *parser) want(token string) {
	if t := p.next(); t != token && p.err == nil {
		p.fail(strconv.Quote(t))
	}
}

// until returns what stands before a token.
func (p *parser) until(token string) string {
	var words []string
	for p.err == nil {
		t := p.next()
		if t == token {
			break
		}
		words = append(words, t)
	}
	return strings.Join(words, " ")
}

func (p *parser) message() *message {
	m := &message{name: p.next()}
	p.want("{")
	for p.err == nil {
		word := p.next()
		switch word {
		case "}":
			slices.SortFunc(m.fields, func(a, b field) int { return a.number - b.number })
			return m
		case "message", "enum", "oneof", "reserved", "option", "extensions", "map":
			p.fail(strconv.Quote(word) + " in a message")
		case "optional", "repeated":
			m.fields = append(m.fields, p.field(word, p.next()))
		default:
			m.fields = append(m.fields, p.field("", word))
		}
	}
	return m
}

func (p *parser) field(label, typ string) field {
	x := field{label: label, typ: typ, name: p.next()}
	p.want("=")
	number := p.next()
	var err error
	if x.number, err = strconv.Atoi(number); err != nil || x.number < 1 || x.number > maxNumber {
		p.fail("the number " + strconv.Quote(number))
	}
	if t := p.next(); t == "[" {
		option := p.next()
		p.want("=")
		if text, err := unquote(p.next()); option != "json_name" || err != nil {
			p.fail("the option " + strconv.Quote(option))
		} else {
			x.original = text
		}
		p.want("]")
		p.want(";")
	} else if t != ";" && p.err == nil {
		p.fail(strconv.Quote(t))
	}
	return x
}
