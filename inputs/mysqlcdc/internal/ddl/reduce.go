package ddl

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// reduced is a statement that changes the shape of tables, in the part of SQL that the TiDB parser and both servers have in
// common. What the parser does not know or reads differently (types, character sets, clauses of one product) is taken out:
// a column's type is VARBINARY(n) for types[n], a character set is the table's comment 'n' for charsets[n].
type reduced struct {
	sql      string
	types    []typeSpec
	charsets []charsetSpec
	// neutral says that the statement changes nothing that matters here.
	neutral bool
	// sequence says that the table is a MariaDB sequence, whose columns are always the same.
	sequence bool
	// versioning says that the statement turns system versioning on (1) or off (-1).
	versioning int
	// rowEnd is the column with the end of a row's life, if the statement names one.
	rowEnd string
	// period are the columns in which MariaDB keeps the two ends of a period that the statement adds; endsPeriod says that it drops one.
	period     *[2]string
	endsPeriod bool
	// overlaps is the name of a period that stands among an index's columns.
	overlaps string
	// optional are the columns, in lower case, that RENAME COLUMN IF EXISTS names.
	optional []string
	// optionalIndexes are the indexes, in lower case, that the statement adds where they are not there.
	optionalIndexes []string
	// detached is the table that a partition becomes, absorbed the table that becomes a partition.
	detached, absorbed *statement.TableName
	// filled are the tables that get rows by what the statement does.
	filled []filling
	// tables are the names that the statement is about, as far as it was read: they are there also when the rest was not
	// understood.
	tables []statement.TableName
	// unread says that the statement is about tables that could not even be named.
	unread bool
	// replaces says that the statement drops what it makes first.
	replaces bool
	// made and gone are temporary tables.
	made, gone []statement.TableName
}

// charsetSpec is a default character set of a table, or one that it is converted to.
type charsetSpec struct {
	convert            bool
	charset, collation string
}

// reducer works through the tokens of a statement.
type reducer struct {
	in  []statement.Token
	out strings.Builder
	red reduced
}

var errNotUnderstood = errors.New("not understood")

// reduce reads a statement. An error means that it changes tables in a way that is not understood.
func reduce(tokens []statement.Token) (red reduced, err error) {
	r := &reducer{in: tokens}
	err = r.statement()
	r.red.sql = r.out.String()
	if err != nil && len(r.red.tables) == 0 {
		r.red.unread = true
	}
	return r.red, err
}

func (r *reducer) peek() statement.Token { return r.at(0) }

func (r *reducer) at(i int) statement.Token {
	if i >= len(r.in) {
		return statement.Token{}
	}
	return r.in[i]
}

func (r *reducer) next() statement.Token {
	t := r.peek()
	if len(r.in) > 0 {
		r.in = r.in[1:]
	}
	return t
}

// accept takes the keywords if they are next, all or none.
func (r *reducer) accept(keywords ...string) bool {
	for i, k := range keywords {
		if r.at(i).Keyword() != k {
			return false
		}
	}
	r.in = r.in[len(keywords):]
	return true
}

func (r *reducer) acceptAny(keywords ...string) string {
	k := r.peek().Keyword()
	if k != "" && slices.Contains(keywords, k) {
		r.next()
		return k
	}
	return ""
}

func (r *reducer) acceptPunct(p string) bool {
	if r.peek().Is(p) {
		r.next()
		return true
	}
	return false
}

func (r *reducer) unexpected() error {
	t := r.peek()
	if t.Kind == statement.End {
		return fmt.Errorf("%w: it ends early", errNotUnderstood)
	}
	return fmt.Errorf("%w: %q", errNotUnderstood, t.Text)
}

// ident takes a name, quoted or not.
func (r *reducer) ident() (string, error) {
	t := r.peek()
	if t.Text == "" || t.Kind != statement.Word && t.Kind != statement.Name && t.Kind != statement.Number {
		return "", r.unexpected()
	}
	return r.next().Text, nil
}

// group takes what is in round brackets, without them.
func (r *reducer) group() ([]statement.Token, error) {
	if !r.peek().Is("(") {
		return nil, r.unexpected()
	}
	depth := 0
	for i, t := range r.in {
		switch {
		case t.Is("("):
			depth++
		case t.Is(")"):
			if depth--; depth == 0 {
				inner := r.in[1:i]
				r.in = r.in[i+1:]
				return inner, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: a bracket without end", errNotUnderstood)
}

// outside ranges over the tokens that are in no brackets, and those that close the outermost ones, with their indexes.
func outside(tokens []statement.Token) iter.Seq2[int, statement.Token] {
	return func(yield func(int, statement.Token) bool) {
		depth := 0
		for i, t := range tokens {
			switch {
			case t.Is("("):
				depth++
			case t.Is(")"):
				depth--
			}
			if depth <= 0 && !yield(i, t) {
				return
			}
		}
	}
}

// split cuts tokens at the commas that are in no brackets.
func split(tokens []statement.Token) [][]statement.Token {
	var parts [][]statement.Token
	depth, from := 0, 0
	for i, t := range tokens {
		switch {
		case t.Is("("):
			depth++
		case t.Is(")"):
			depth--
		case t.Is(",") && depth == 0:
			parts = append(parts, tokens[from:i])
			from = i + 1
		}
	}
	return append(parts, tokens[from:])
}

func (r *reducer) write(s ...string) {
	for _, p := range s {
		r.out.WriteString(p)
	}
}

// tableName takes [db.]table and remembers it as one that the statement is about.
func (r *reducer) tableName() (statement.TableName, error) {
	var n statement.TableName
	var err error
	current := r.acceptPunct(".") // .table is one of the current database
	if n.Table, err = r.ident(); err != nil {
		return n, err
	}
	if !current && r.acceptPunct(".") {
		n.DB = n.Table
		if n.Table, err = r.ident(); err != nil {
			return n, err
		}
	}
	r.red.tables = append(r.red.tables, n)
	return n, nil
}

func (r *reducer) statement() error {
	if r.accept("SET", "STATEMENT") { // MariaDB: variable = value, … FOR the statement
		for len(r.in) > 0 && r.next().Keyword() != "FOR" {
		}
	}
	switch r.next().Keyword() {
	case "CREATE":
		return r.create()
	case "ALTER":
		return r.alter()
	case "DROP":
		return r.drop()
	case "RENAME":
		if r.acceptAny("TABLE", "TABLES") != "" {
			return r.rename()
		}
	}
	r.red.neutral = true
	return nil
}

// options finds the character set among table or database options, as far as they go.
func (r *reducer) options(c charsetSpec) charsetSpec {
	for len(r.in) > 0 {
		switch {
		case r.accept("CHARACTER", "SET"), r.accept("CHAR", "SET"), r.accept("CHARSET"):
			r.acceptPunct("=")
			c.charset = strings.ToLower(r.next().Text)
		case r.accept("COLLATE"):
			r.acceptPunct("=")
			c.collation = strings.ToLower(r.next().Text)
		case r.accept("WITH", "SYSTEM", "VERSIONING"):
			r.red.versioning = 1
		case r.peek().Is("("):
			if _, err := r.group(); err != nil {
				r.in = nil
			}
		default:
			r.next()
		}
	}
	return c
}

func (r *reducer) drop() error {
	switch {
	case r.acceptAny("DATABASE", "SCHEMA") != "":
		r.accept("IF", "EXISTS")
		name, err := r.ident()
		if err != nil {
			return err
		}
		r.red.tables = append(r.red.tables, statement.TableName{DB: name})
		r.write("DROP DATABASE ", statement.QuoteName(name))
		return nil
	case r.acceptAny("TABLE", "TABLES", "SEQUENCE") != "":
		r.accept("IF", "EXISTS")
		r.write("DROP TABLE ")
		for i := 0; ; i++ {
			n, err := r.tableName()
			if err != nil {
				return err
			}
			if i > 0 {
				r.write(", ")
			}
			r.write(n.SQL())
			if !r.acceptPunct(",") {
				return nil // RESTRICT, WAIT
			}
		}
	}
	if r.accept("TEMPORARY") {
		r.temporary(false)
		return nil
	}
	r.acceptAny("ONLINE", "OFFLINE")
	if !r.accept("INDEX") {
		r.red.neutral = true
		return nil
	}
	r.accept("IF", "EXISTS")
	name, err := r.ident()
	if err != nil {
		return err
	}
	if !r.accept("ON") {
		return r.unexpected()
	}
	n, err := r.tableName()
	if err != nil {
		return err
	}
	r.write("ALTER TABLE ", n.SQL(), " DROP INDEX ", statement.QuoteName(name))
	return nil
}

func (r *reducer) rename() error {
	r.accept("IF", "EXISTS")
	r.write("RENAME TABLE ")
	for i := 0; ; i++ {
		from, err := r.tableName()
		if err != nil {
			return err
		}
		for r.acceptAny("WAIT", "NOWAIT") != "" {
			if r.peek().Kind == statement.Number {
				r.next()
			}
		}
		if !r.accept("TO") {
			return r.unexpected()
		}
		to, err := r.tableName()
		if err != nil {
			return err
		}
		if i > 0 {
			r.write(", ")
		}
		r.write(from.SQL(), " TO ", to.SQL())
		if !r.acceptPunct(",") {
			return nil
		}
	}
}
