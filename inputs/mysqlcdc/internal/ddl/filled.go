package ddl

import (
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// Filled is a table that has rows after a statement that the log does not have under its name: it had another name, or took them from
// elsewhere.
type Filled struct {
	Table statement.TableName
	// How says where they come from: `renamed from shop.orders_new`.
	How string
}

// filling is a Filled with the name as the statement has it; how is followed by the name from.
type filling struct {
	table, from statement.TableName
	how         string
}

// fill notes a filling.
func (r *reducer) fill(table statement.TableName, how string, from statement.TableName) {
	r.red.filled = append(r.red.filled, filling{table, from, how})
}

// lastClause reads a clause after which no other can follow, as far as it brings rows.
func (r *reducer) lastClause(table statement.TableName) {
	switch r.peek().Keyword() {
	case "IMPORT":
		r.fill(table, "the tablespace of a partition was imported", statement.TableName{})
	case "EXCHANGE":
		named := len(r.red.tables)
		for len(r.in) > 0 && !r.accept("WITH", "TABLE") {
			r.next()
		}
		other, err := r.tableName()
		r.red.tables = r.red.tables[:named]
		if err == nil {
			r.fill(table, "a partition was exchanged for", other)
			r.fill(other, "exchanged for a partition of", table)
		}
	}
}

// fills adds what the statement has filled by itself.
func (r *run) fills() {
	for _, f := range r.red.filled {
		if f.from.Table != "" {
			f.how += " " + r.fullName(f.from.DB, f.from.Table).String()
		}
		r.filled(r.fullName(f.table.DB, f.table.Table), f.how)
	}
}

func (r *run) filled(table statement.TableName, how string) {
	r.res.Filled = append(r.res.Filled, Filled{table, how})
}
