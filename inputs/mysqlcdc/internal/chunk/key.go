package chunk

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// key is the index by which a table is cut into chunks. It has no parts where there is none: then the table is read whole.
type key struct {
	index string
	parts []keyPart
	// signature tells this key, in its order, from others.
	signature string
}

// keyPart is a column of a key, in the order of the index.
type keyPart struct {
	name string
	desc bool
	// column is its number in the layout, and form how its bounds are written.
	column int
	form   form
	// order is the number of the column of a result that has what the values are ordered by; it is column, but for labels.
	order int
	// charset is that of text.
	charset string
	// numbers is the highest number that an ENUM can have; 0 for other types, and where there are too many of them.
	numbers int
}

// querier is a connection, or what stands for one.
type querier interface {
	Query(ctx context.Context, sql string) ([][]string, error)
}

// Columns of SHOW INDEX.
const (
	indexNonUnique = 1
	indexName      = 2
	indexColumn    = 4
	indexOrder     = 5
	indexPrefix    = 7
	indexNull      = 9
	indexType      = 10
	indexVisible   = 13
)

// readKey finds the index by which a table is cut into chunks: one that is unique, without NULL, and has all of its columns and an order.
// The primary key is the first of them.
func readKey(ctx context.Context, q querier, n statement.TableName) (k key, err error) {
	rows, err := q.Query(ctx, "SHOW INDEX FROM "+n.SQL())
	if err != nil {
		return k, fmt.Errorf("reading the indexes of %s.%s: %w", n.DB, n.Table, err)
	}
	usable := true
	for i, r := range rows {
		if r[indexName] != k.index {
			k, usable = key{index: r[indexName]}, true
		}
		k.parts = append(k.parts, keyPart{name: r[indexColumn], desc: r[indexOrder] == "D", column: -1})
		// MySQL says whether an index is visible, MariaDB whether it is ignored.
		hidden := len(r) > indexVisible && (r[indexVisible] == "NO") == (len(r) > indexVisible+1)
		usable = usable && r[indexNonUnique] == "0" && r[indexColumn] != "" && r[indexPrefix] == "" && r[indexNull] == "" && r[indexType] == "BTREE" &&
			!hidden
		if usable && (i == len(rows)-1 || rows[i+1][indexName] != k.index) {
			return k, nil
		}
	}
	return key{}, nil
}

// bind finds the columns of the key in a table. A key with a column of which no bound can be written is no key.
func (k *key) bind(t *table) error {
	extra := len(t.layout.Table.Columns)
	var parts []keyPart
	for _, p := range k.parts {
		p.column = t.def.Column(p.name)
		if p.column < 0 && t.def.Versioned {
			continue // the end of the row's life, which is the same for all that have not ended
		}
		if p.column < 0 {
			return fmt.Errorf("index %s of %s.%s: there is no column %s", k.index, t.DB, t.Table, p.name)
		}
		p.form = formOf(&t.layout.Columns[p.column])
		p.charset = t.def.Columns[p.column].Charset()
		p.order = p.column
		switch p.form {
		case formNone:
			*k = key{}
			return nil
		case formLabel:
			p.order = extra
			extra++
			var err error
			if p.numbers, err = numbersOf(t.column(p.column)); err != nil {
				return err
			}
		default:
		}
		parts = append(parts, p)
	}
	k.parts = parts
	h := fnv.New32a()
	for _, p := range parts {
		fmt.Fprintf(h, "%q %t %d %s\n", p.name, p.desc, p.form, t.column(p.column).Collation)
	}
	k.signature = fmt.Sprintf("%08x", h.Sum32())
	return nil
}

// expressions returns what a query has to have after the columns of the table.
func (k *key) expressions() (list []string) {
	for _, p := range k.parts {
		if p.form == formLabel {
			list = append(list, "CAST("+statement.QuoteName(p.name)+" AS UNSIGNED)")
		}
	}
	return list
}

// orderBy returns the order of the index.
func (k *key) orderBy() string {
	names := make([]string, len(k.parts))
	for i, p := range k.parts {
		names[i] = statement.QuoteName(p.name)
		if p.desc {
			names[i] += " DESC"
		}
	}
	return strings.Join(names, ", ")
}

// after returns the condition of the rows after a bound, upTo of those up to it and with it. A bound may have the first columns only. Servers
// find the ranges of an index in this form, and in no other: not in one with row constructors.
func (k *key) after(literals []string) string { return k.compare(literals, ">", "<", false) }
func (k *key) upTo(literals []string) string  { return k.compare(literals, "<", ">", true) }

func (k *key) compare(literals []string, up, down string, equal bool) string {
	var alternatives []string
	prefix := ""
	for i, literal := range literals {
		p := k.parts[i]
		op := up
		if p.desc {
			op = down
		}
		if equal && i == len(literals)-1 {
			op += "="
		}
		name := statement.QuoteName(p.name)
		alternatives = append(alternatives, "("+prefix+p.condition(op, literal)+")")
		prefix += name + " = " + literal + " AND "
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}

// maxNumbers is how many numbers are listed, at most.
const maxNumbers = 1023

// numbersOf returns the highest number of an ENUM; 0 where it is too high, and for a SET, of which servers find nothing by an index.
func numbersOf(c *shape.Column) (int, error) {
	if c.DataType() == "set" {
		return 0, nil
	}
	labels, err := shape.ParseLabels(c.Type)
	if err != nil {
		return 0, fmt.Errorf("column %s: %w", c.Name, err)
	}
	if len(labels) > maxNumbers {
		return 0, nil
	}
	return len(labels), nil
}

// condition compares the column with a literal. Of an ENUM servers find no ranges, so its numbers are listed.
func (p *keyPart) condition(op, literal string) string {
	name := statement.QuoteName(p.name)
	n, err := strconv.Atoi(literal)
	if err != nil || p.numbers == 0 {
		return name + " " + op + " " + literal
	}
	var list []string
	for i := range p.numbers + 1 {
		if i < n && op[0] == '<' || i > n && op[0] == '>' || i == n && len(op) > 1 {
			list = append(list, strconv.Itoa(i))
		}
	}
	if len(list) == 0 {
		return "FALSE"
	}
	return name + " IN (" + strings.Join(list, ", ") + ")"
}

// column returns the definition of a column.
func (t *table) column(i int) *shape.Column { return &t.def.Columns[i] }
