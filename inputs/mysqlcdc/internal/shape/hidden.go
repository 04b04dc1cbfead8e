package shape

import (
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// innodbMaxKey is the longest key of an index; longer unique ones are kept as hashes by MariaDB.
const innodbMaxKey = 3072

// MariaDB writes columns to the log that no statement has named, after the others: a hash for each unique index over values that
// are too long for an index, and the two ends of a row's life in a table with system versioning.

// HiddenColumns reports how many of the columns of a table map are such ones; 0 when the surplus is none that the table can have.
func (t *Table) HiddenColumns(m *binlog.TableMap, flavor string) int {
	extra := len(m.Types) - len(t.Columns)
	if flavor != product.MariaDB || extra <= 0 {
		return 0
	}
	hashes, ends := 0, 0
	for _, typ := range m.Types[len(t.Columns):] {
		switch typ {
		case mysql.MYSQL_TYPE_LONGLONG:
			hashes++
		case mysql.MYSQL_TYPE_TIMESTAMP2:
			ends++
		}
	}
	if hashes+ends != extra || ends > 0 && (ends != 2 || !t.Versioned) || hashes > t.longUniques() {
		return 0
	}
	return extra
}

// RowEndIn returns the number, from 1, of the column of a table map that has the end of a row's life; 0 when the table has no system
// versioning.
func (t *Table) RowEndIn(m *binlog.TableMap) int {
	if !t.Versioned {
		return 0
	}
	if i := t.Column(t.RowEnd); i >= 0 {
		return i + 1
	}
	for i := len(m.Types) - 1; i >= len(t.Columns); i-- { // the ends come in order
		if m.Types[i] == mysql.MYSQL_TYPE_TIMESTAMP2 {
			return i + 1
		}
	}
	return 0
}

// SetDigits tells a table map how many digits its times have, which it lacks for the types of before MySQL 5.6.
func (t *Table) SetDigits(m *binlog.TableMap) {
	for i, c := range t.Columns[:min(len(t.Columns), len(m.Types))] {
		if args := TypeArguments(c.Type); len(args) == 1 {
			switch c.DataType() {
			case "time", "timestamp", "datetime":
				m.SetDigits(i, args[0])
			}
		}
	}
}

// SequenceColumns are the columns of a MariaDB sequence with their types. It keeps its state in a row of them.
func SequenceColumns() [][2]string {
	return [][2]string{
		{"next_not_cached_value", "bigint(21)"},
		{"minimum_value", "bigint(21)"},
		{"maximum_value", "bigint(21)"},
		{"start_value", "bigint(21)"},
		{"increment", "bigint(21)"},
		{"cache_size", "bigint(21) unsigned"},
		{"cycle_option", "tinyint(1) unsigned"},
		{"cycle_count", "bigint(21)"},
	}
}

// IsSequence reports a MariaDB sequence, which is no table: it has the columns of one, and no index.
func (t *Table) IsSequence() bool {
	return t != nil && len(t.Indexes) == 0 && slices.EqualFunc(t.Columns, SequenceColumns(), func(c Column, s [2]string) bool { return c.Name == s[0] })
}

// longUniques counts the unique indexes that may be hashes.
func (t *Table) longUniques() (n int) {
	for _, ix := range t.Indexes {
		size := 0
		for _, name := range ix.Columns {
			if i := t.Column(name); i >= 0 {
				size += keySize(t.Columns[i])
			}
		}
		if ix.Unique && ix.Name != PrimaryIndex && size > innodbMaxKey {
			n++
		}
	}
	return n
}

// keySize is at least what a column takes in an index.
func keySize(c Column) int {
	const widest = 4
	name := c.DataType()
	switch {
	case strings.HasSuffix(name, "text"), strings.HasSuffix(name, "blob"), name == "geometry":
		return innodbMaxKey + 1
	}
	if args := TypeArguments(c.Type); len(args) == 1 {
		return args[0] * widest
	}
	return 0
}
