package ddl

import (
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// item reads an element of CREATE TABLE's brackets, or what follows ADD: a column or an index. It returns "" for what changes
// nothing here.
func (r *reducer) item() (string, error) {
	if r.isIndex() {
		return r.index()
	}
	return r.column()
}

// isIndex tells an index or constraint from a column, whose name could be one of the same words in backticks only.
func (r *reducer) isIndex() bool {
	switch r.peek().Keyword() {
	case "PRIMARY", "KEY", "INDEX", "UNIQUE", "CONSTRAINT", "FOREIGN", "CHECK", "FULLTEXT", "SPATIAL":
		return true
	case "PERIOD":
		return r.at(1).Keyword() == "FOR"
	case "VECTOR":
		k := r.at(1).Keyword()
		return k == "INDEX" || k == "KEY"
	default:
		return false
	}
}

func (r *reducer) index() (string, error) {
	constraint := ""
	if r.accept("CONSTRAINT") {
		r.accept("IF", "NOT", "EXISTS")
		switch r.peek().Keyword() {
		case "PRIMARY", "UNIQUE", "FOREIGN", "CHECK":
		default:
			var err error
			if constraint, err = r.ident(); err != nil {
				return "", err
			}
		}
	}
	verb := "KEY "
	switch r.next().Keyword() {
	case "PRIMARY":
		r.accept("KEY")
		verb = "PRIMARY KEY "
	case "UNIQUE":
		r.acceptAny("KEY", "INDEX")
		verb = "UNIQUE KEY "
	case "KEY", "INDEX":
	case "FULLTEXT", "SPATIAL", "VECTOR":
		r.acceptAny("KEY", "INDEX")
	case "PERIOD":
		return "", r.period()
	default: // FOREIGN KEY, CHECK
		r.in = nil
		return "", nil
	}
	optional := r.accept("IF", "NOT", "EXISTS")
	name := constraint
	if k := r.peek(); !k.Is("(") && !(k.Keyword() == "USING" && r.at(2).Is("(")) {
		var err error
		if name, err = r.ident(); err != nil {
			return "", err
		}
	}
	if r.accept("USING") || r.accept("TYPE") {
		r.next()
	}
	parts, err := r.indexParts()
	if err != nil {
		return "", err
	}
	switch {
	case verb == "PRIMARY KEY ":
		if optional {
			r.red.optionalIndexes = append(r.red.optionalIndexes, strings.ToLower(shape.PrimaryIndex))
		}
	case name != "":
		verb += statement.QuoteName(name) + " "
		if optional {
			r.red.optionalIndexes = append(r.red.optionalIndexes, strings.ToLower(name))
		}
	}
	return verb + parts, nil // options follow
}

// period reads PERIOD FOR name (start, end) after its first word. That of the system is told by its columns' definitions.
func (r *reducer) period() error {
	r.accept("FOR")
	if name, err := r.ident(); err != nil || strings.EqualFold(name, "SYSTEM_TIME") {
		r.in = nil
		return err
	}
	inner, err := r.group()
	if err != nil {
		return err
	}
	var ends [2]string
	for i, part := range split(inner) {
		p := reducer{in: part}
		name, err := p.ident()
		if err != nil || i >= len(ends) {
			return r.unexpected()
		}
		ends[i] = name
	}
	r.red.period = &ends
	return nil
}

// indexParts reads the columns of an index; a part that is an expression becomes (1).
func (r *reducer) indexParts() (string, error) {
	inner, err := r.group()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	sep := "("
	for _, part := range split(inner) {
		b.WriteString(sep)
		sep = ", "
		if len(part) > 0 && part[0].Is("(") {
			b.WriteString("(1)")
			continue
		}
		p := reducer{in: part}
		name, err := p.ident()
		if err != nil {
			return "", err
		}
		if p.accept("WITHOUT", "OVERLAPS") {
			r.red.overlaps = name
		}
		b.WriteString(statement.QuoteName(name))
	}
	return b.String() + ")", nil
}
