package mysqlcdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// repair fills the shape from the table map, which has everything, and corrects the history.
func (s *schemas) repair(ctx context.Context, old *tableDef, m *tableMap, meta *tableMeta, sh *shape) (*tableDef, error) {
	sh.table.Columns = make([]change.Column, len(sh.columns))
	for i := range sh.columns {
		sh.table.Columns[i].Nullable = isSet(m.nullable, i)
		sh.columns[i] = column{typ: sh.columns[i].typ, meta: sh.columns[i].meta, unsigned: meta.columns[i].unsigned}
	}
	if err := s.fromMetadata(ctx, old, meta, sh); err != nil {
		return nil, err
	}
	def := &tableDef{Columns: make([]columnDef, len(sh.columns))}
	for i, c := range sh.table.Columns {
		def.Columns[i] = columnDef{Name: c.Name, Type: c.Type, Nullable: c.Nullable}
		if id := meta.columns[i].collation; id != 0 && id != binaryCollation {
			def.Columns[i].Collation = s.charsets.byID[id]
		}
	}
	if len(meta.key) > 0 {
		ix := indexDef{Name: primaryIndex, Unique: true}
		for _, i := range meta.key {
			ix.Columns = append(ix.Columns, def.Columns[i].Name)
		}
		def.Indexes = []indexDef{ix}
	}
	s.define(m.db, m.table, def)
	return def, nil
}

// errHidden tells what can be done about a table of which the log does not say enough.
var errHidden = errors.New("a statement on it is not in the log (SQL_LOG_BIN=0, or a privilege that the account lacked at the start: GRANT " +
	"SELECT ON *.* TO the account); with SET GLOBAL binlog_row_metadata = 'FULL' later rows say what they are, and `deltaforge checkpoint " +
	"reset-schema KEY` takes the tables as they are now")

// fromHistory fills the shape from what the history has, which must agree with the table map.
func (s *schemas) fromHistory(ctx context.Context, def *tableDef, m *tableMap, meta *tableMeta, sh *shape) error {
	fail := func(err error) error {
		if def != nil && def.AsOf != "" {
			err = fmt.Errorf("%w (the table is known as it was at %s)", err, def.AsOf)
		}
		return coordinator.WithKind(coordinator.KindSchema, fmt.Errorf("%w: %w", err, errHidden))
	}
	if def == nil {
		return fail(errNoShape)
	}
	if hidden := def.hiddenColumns(m, s.flavor); hidden > 0 {
		sh.table.Columns = sh.table.Columns[:len(def.Columns)]
	} else if len(def.Columns) != len(m.types) {
		return fail(fmt.Errorf("its rows in the log have %d columns, the schema history has %d", len(m.types), len(def.Columns)))
	}
	for i, cc := range def.Columns {
		c, col := &sh.columns[i], &sh.table.Columns[i]
		err := s.agree(c, &meta.columns[i], meta.signed, cc)
		if err == nil && meta.full && meta.columns[i].name != cc.Name {
			err = fmt.Errorf("the log has the name %s", meta.columns[i].name)
		}
		if err != nil {
			return fail(fmt.Errorf("column %d (%s %s): %w", i+1, cc.Name, cc.Type, err))
		}
		col.Name, col.Type = cc.Name, cc.Type
		c.unsigned = strings.Contains(cc.Type, "unsigned")
		if cs := cc.charset(); cs != "" && cs != "binary" {
			if c.text, err = s.charset(ctx, cs); err != nil {
				return err
			}
		}
		if isEnumOrSet(c.typ, "") {
			if c.labels, err = parseLabels(cc.Type); err == nil && meta.full {
				err = s.sameLabels(c, meta.columns[i].labels)
			}
			if err != nil {
				return fail(fmt.Errorf("column %s: %w", cc.Name, err))
			}
			c.unsure = cc.Unsure && !meta.full
		}
		s.finish(c, col)
	}
	return nil
}

// sameLabels compares labels with those of a table map, which are in the column's character set.
func (s *schemas) sameLabels(c *column, labels [][]byte) error {
	if len(labels) != len(c.labels) {
		return fmt.Errorf("the log has %d labels", len(labels))
	}
	for i, label := range labels {
		if c.text != nil {
			var err error
			if label, _, err = c.text.decode(nil, label); err != nil {
				return fmt.Errorf("label %q: %w", label, err)
			}
		}
		if !bytes.Equal(label, c.labels[i]) {
			return fmt.Errorf("the log has the label %q, not %q", label, c.labels[i])
		}
	}
	return nil
}

// agree checks that a column of the log can be the column that the history has: type, precision, length, sign and
// charset, as far as the log says them.
func (s *schemas) agree(c *column, meta *columnMeta, signed bool, cc columnDef) error {
	types := binlogTypes(cc.dataType())
	if types == nil {
		return nil // a type of a later version: what it is made of is checked when it is decoded
	}
	if !slices.Contains(types, c.typ) {
		return fmt.Errorf("the log has type %d", c.typ)
	}
	if signed && isNumeric(c.typ) && c.typ != mysql.MYSQL_TYPE_YEAR &&
		meta.unsigned != (strings.Contains(cc.Type, "unsigned") || strings.Contains(cc.Type, "zerofill")) {
		return fmt.Errorf("the log has another sign")
	}
	if meta.collation != 0 && cc.charset() != "" && isCharacter(c.typ, s.flavor) {
		if cs := s.charsets.collations[meta.collation]; cs != "" && cs != cc.charset() {
			return fmt.Errorf("the log has character set %s, not %s", cs, cc.charset())
		}
	}
	want, ok := cc.expectedMeta(s.charsets.widths)
	if c.typ == typeMariaVarcharCompressed {
		want++ // for the byte that says how it is compressed
	}
	if ok && want != c.meta {
		return fmt.Errorf("the log has size %d, not %d", c.meta, want)
	}
	return nil
}

var errNoShape = errors.New("neither the schema history nor information_schema has it")
