package ddl

import (
	"slices"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

func (r *reducer) alter() error {
	for r.acceptAny("ONLINE", "OFFLINE", "IGNORE") != "" {
	}
	if r.acceptAny("DATABASE", "SCHEMA") != "" {
		return r.database("ALTER DATABASE ", false)
	}
	if !r.accept("TABLE") {
		r.red.neutral = true
		return nil
	}
	r.accept("IF", "EXISTS")
	n, err := r.tableName()
	if err != nil {
		return err
	}
	for r.acceptAny("WAIT", "NOWAIT") != "" {
		if r.peek().Kind == statement.Number {
			r.next()
		}
	}
	r.cutPartitions()
	var clauses []string
	parts := split(r.in)
	for len(parts) > 0 {
		r.in = parts[0]
		parts = parts[1:]
		if r.endsClauses() {
			r.lastClause(n)
			break
		}
		if r.at(0).Keyword() == "IMPORT" && r.at(1).Keyword() == "TABLESPACE" {
			r.fill(n, "its tablespace was imported", statement.TableName{})
		}
		clause, err := r.clause()
		if err != nil {
			return err
		}
		if clause != "" {
			clauses = append(clauses, clause)
		}
	}
	if len(clauses) == 0 {
		r.red.neutral = true
		return nil
	}
	r.write("ALTER TABLE ", n.SQL(), " ", strings.Join(clauses, ", "))
	return nil
}

// cutPartitions cuts off what says how the table is divided from now on, which stands after the last clause without a comma.
func (r *reducer) cutPartitions() {
	for i, t := range outside(r.in) {
		second := r.at(i + 1).Keyword()
		if k := t.Keyword(); k == "PARTITION" && second == "BY" || k == "REMOVE" && second == "PARTITIONING" {
			r.in = r.in[:i]
			return
		}
	}
}

// endsClauses reports a clause after which no other kind of clause can follow, so that its commas are its own, and which
// changes nothing here.
func (r *reducer) endsClauses() bool {
	switch r.peek().Keyword() {
	case "ORDER":
		return true
	case "ADD", "DROP", "TRUNCATE", "COALESCE", "REORGANIZE", "EXCHANGE", "ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "REPAIR", "DISCARD",
		"IMPORT":
		return r.at(1).Keyword() == "PARTITION"
	default:
		return false
	}
}

// clause reads one clause of ALTER TABLE and returns it reduced; "" for one that changes nothing here.
func (r *reducer) clause() (string, error) {
	switch k := r.peek().Keyword(); k {
	case "ADD":
		r.next()
		return r.add()
	case "MODIFY":
		r.next()
		r.accept("COLUMN")
		verb := "MODIFY COLUMN "
		if r.accept("IF", "EXISTS") {
			verb += "IF EXISTS "
		}
		c, err := r.column()
		return verb + c, err
	case "CHANGE":
		r.next()
		r.accept("COLUMN")
		verb := "CHANGE COLUMN "
		if r.accept("IF", "EXISTS") {
			verb += "IF EXISTS "
		}
		old, err := r.ident()
		if err != nil {
			return "", err
		}
		c, err := r.column()
		return verb + statement.QuoteName(old) + " " + c, err
	case "DROP":
		r.next()
		return r.dropClause()
	case "RENAME":
		r.next()
		return r.renameClause()
	case "CONVERT":
		r.next()
		return r.convertClause()
	case "ALTER", "ALGORITHM", "LOCK", "FORCE", "ENABLE", "DISABLE", "REMOVE", "DISCARD", "IMPORT", "WITH", "WITHOUT", "":
		if k == "" && len(r.in) > 0 {
			return "", r.unexpected()
		}
		return "", nil
	default:
		if !slices.ContainsFunc(r.in, func(t statement.Token) bool {
			k := t.Keyword()
			return k == "CHARSET" || k == "CHARACTER" || k == "COLLATE" || k == "CHAR"
		}) {
			// An option of the table, with or without "=".
			if len(r.in) < 2 || k != "UNION" && slices.ContainsFunc(r.in, func(t statement.Token) bool { return t.Is("(") }) {
				return "", r.unexpected()
			}
			return "", nil
		}
		return r.charsetClause(false), nil
	}
}

func (r *reducer) charsetClause(convert bool) string {
	c := r.options(charsetSpec{convert: convert})
	r.red.charsets = append(r.red.charsets, c)
	return "COMMENT = '" + strconv.Itoa(len(r.red.charsets)-1) + "'"
}

func (r *reducer) add() (string, error) {
	if r.accept("SYSTEM", "VERSIONING") {
		r.red.versioning = 1
		return "FORCE", nil
	}
	if r.isIndex() {
		item, err := r.index()
		if item == "" {
			if r.red.period != nil {
				item = "FORCE"
			}
			return item, err
		}
		return "ADD " + item, err
	}
	r.accept("COLUMN")
	verb := "ADD COLUMN "
	if r.accept("IF", "NOT", "EXISTS") {
		verb += "IF NOT EXISTS "
	}
	if !r.peek().Is("(") {
		c, err := r.column()
		return verb + c, err
	}
	inner, err := r.group()
	if err != nil {
		return "", err
	}
	var clauses []string
	for _, part := range split(inner) {
		r.in = part
		item, err := r.item()
		if err != nil {
			return "", err
		}
		switch {
		case item == "":
		case strings.HasPrefix(item, "`"):
			clauses = append(clauses, verb+item)
		default:
			clauses = append(clauses, "ADD "+item)
		}
	}
	return strings.Join(clauses, ", "), nil
}

func (r *reducer) dropClause() (string, error) {
	switch {
	case r.accept("PRIMARY", "KEY"):
		return "DROP PRIMARY KEY", nil
	case r.acceptAny("INDEX", "KEY") != "":
		r.accept("IF", "EXISTS")
		name, err := r.ident()
		return "DROP INDEX " + statement.QuoteName(name), err
	case r.accept("CONSTRAINT"):
		r.accept("IF", "EXISTS")
		name, err := r.ident()
		if strings.EqualFold(name, "PRIMARY") {
			return "DROP PRIMARY KEY", err
		}
		return "DROP INDEX " + statement.QuoteName(name), err
	case r.accept("FOREIGN", "KEY"), r.accept("CHECK"):
		return "", nil
	case r.accept("PERIOD", "FOR"):
		if r.peek().Keyword() == "SYSTEM_TIME" {
			return "", nil
		}
		r.red.endsPeriod = true
		return "FORCE", nil
	case r.accept("SYSTEM", "VERSIONING"):
		r.red.versioning = -1
		return "FORCE", nil
	}
	r.accept("COLUMN")
	verb := "DROP COLUMN "
	if r.accept("IF", "EXISTS") {
		verb += "IF EXISTS "
	}
	name, err := r.ident()
	return verb + statement.QuoteName(name), err
}

// convertClause reads what follows CONVERT: a character set, or, with MariaDB, a partition that becomes a table or the reverse.
func (r *reducer) convertClause() (string, error) {
	switch {
	case r.accept("TO"):
		return r.charsetClause(true), nil
	case r.accept("PARTITION"):
		if _, err := r.ident(); err != nil {
			return "", err
		}
		if !r.accept("TO", "TABLE") {
			return "", r.unexpected()
		}
		n, err := r.tableName()
		r.red.detached = &n
		return "FORCE", err
	case r.accept("TABLE"):
		n, err := r.tableName()
		r.red.absorbed = &n
		return "FORCE", err
	default:
		return "", r.unexpected()
	}
}

func (r *reducer) renameClause() (string, error) {
	kind := r.acceptAny("COLUMN", "INDEX", "KEY")
	if kind != "" {
		optional := r.accept("IF", "EXISTS")
		from, err := r.ident()
		if err != nil {
			return "", err
		}
		if !r.accept("TO") {
			return "", r.unexpected()
		}
		if optional && kind == "COLUMN" {
			r.red.optional = append(r.red.optional, strings.ToLower(from))
		}
		to, err := r.ident()
		if kind == "KEY" {
			kind = "INDEX"
		}
		return "RENAME " + kind + " " + statement.QuoteName(from) + " TO " + statement.QuoteName(to), err
	}
	if r.acceptAny("TO", "AS") == "" {
		r.acceptPunct("=")
	}
	n, err := r.tableName()
	return "RENAME TO " + n.SQL(), err
}
