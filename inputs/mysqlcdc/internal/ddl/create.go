package ddl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

func (r *reducer) create() error {
	replace := r.accept("OR", "REPLACE")
	r.red.replaces = replace
	switch {
	case r.accept("TEMPORARY"):
		r.temporary(true)
		return nil
	case r.accept("TABLE"):
		return r.createTable()
	case r.acceptAny("DATABASE", "SCHEMA") != "":
		return r.database("CREATE DATABASE ", true)
	case r.accept("SEQUENCE"):
		r.red.sequence = true
		return r.createSequence()
	}
	kind := r.acceptAny("UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "ONLINE", "OFFLINE")
	if r.acceptAny("INDEX", "KEY") == "" {
		r.red.neutral = true
		return nil
	}
	exists := r.accept("IF", "NOT", "EXISTS")
	name, err := r.ident()
	if err != nil {
		return err
	}
	for !r.accept("ON") { // USING BTREE
		if r.next().Kind == statement.End {
			return r.unexpected()
		}
	}
	n, err := r.tableName()
	if err != nil {
		return err
	}
	parts, err := r.indexParts()
	if err != nil {
		return err
	}
	if kind != "UNIQUE" {
		kind = ""
	}
	if exists {
		r.red.optionalIndexes = append(r.red.optionalIndexes, strings.ToLower(name))
	}
	r.write("ALTER TABLE ", n.SQL())
	if replace {
		r.write(" DROP INDEX ", statement.QuoteName(name), ",")
	}
	r.write(" ADD ", kind, " KEY ", statement.QuoteName(name), " ", parts)
	return nil
}

func (r *reducer) createSequence() error {
	r.accept("IF", "NOT", "EXISTS")
	n, err := r.tableName()
	if err != nil {
		return err
	}
	r.write("CREATE TABLE ", n.SQL(), " (")
	r.writeType("x", typeSpec{name: "BIGINT"})
	r.write(")")
	return nil
}

// database reads CREATE and ALTER DATABASE; a name may be missing in the latter.
func (r *reducer) database(verb string, create bool) error {
	if create && r.accept("IF", "NOT", "EXISTS") {
		verb += "IF NOT EXISTS "
	}
	name := ""
	switch k := r.peek().Keyword(); {
	case !create && slices.Contains([]string{"CHARACTER", "CHARSET", "CHAR", "COLLATE", "DEFAULT", "READ", "ENCRYPTION"}, k):
	default:
		var err error
		if name, err = r.ident(); err != nil {
			return err
		}
	}
	r.red.tables = append(r.red.tables, statement.TableName{DB: name})
	r.red.charsets = append(r.red.charsets, r.options(charsetSpec{}))
	if !create && name == "" {
		r.write("ALTER DATABASE CHARACTER SET utf8mb4")
		return nil
	}
	r.write(verb, statement.QuoteName(name), " CHARACTER SET utf8mb4")
	return nil
}

func (r *reducer) createTable() error {
	verb := "CREATE TABLE "
	if r.accept("IF", "NOT", "EXISTS") {
		verb += "IF NOT EXISTS "
	}
	n, err := r.tableName()
	if err != nil {
		return err
	}
	r.write(verb, n.SQL())
	if r.accept("LIKE") {
		return r.like()
	}
	body, err := r.group()
	if err != nil {
		return err
	}
	if len(body) > 0 && body[0].Keyword() == "LIKE" {
		r.in = body[1:]
		return r.like()
	}
	options := r.in
	r.write(" (")
	first := true
	for _, part := range split(body) {
		r.in = part
		item, err := r.item()
		if err != nil {
			return err
		}
		if item == "" {
			continue
		}
		if !first {
			r.write(", ")
		}
		first = false
		r.write(item)
	}
	r.in = options
	if err := r.untilSelect(); err != nil {
		return err
	}
	r.write(") COMMENT = '", strconv.Itoa(len(r.red.charsets)), "'")
	r.red.charsets = append(r.red.charsets, r.options(charsetSpec{}))
	return nil
}

func (r *reducer) like() error {
	n, err := r.tableName()
	if err != nil {
		return err
	}
	r.red.tables = r.red.tables[:1] // it is not about the model
	r.write(" LIKE ", n.SQL())
	return nil
}

// untilSelect cuts the options of CREATE TABLE off before partitions, and refuses a query: with rows in the log, servers log the
// columns that it resulted in instead.
func (r *reducer) untilSelect() error {
	for i, t := range outside(r.in) {
		switch k := t.Keyword(); k {
		case "PARTITION", "START":
			r.in = r.in[:i]
			return nil
		case "SELECT", "AS", "VALUES", "IGNORE", "REPLACE", "TABLE":
			return fmt.Errorf("%w: the table is made by a query (%s), and the statement does not say with which columns", errNotUnderstood, k)
		}
	}
	return nil
}
