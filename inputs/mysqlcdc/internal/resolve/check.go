package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// repair fills the shape from the table map, which has everything, and corrects the history.
func (s *Schemas) repair(ctx context.Context, old *shape.Table, m *binlog.TableMap, meta *binlog.Metadata, sh *row.Layout) (*shape.Table, error) {
	sh.Table.Columns = make([]change.Column, len(sh.Columns))
	for i := range sh.Columns {
		sh.Table.Columns[i].Nullable = binlog.IsSet(m.Nullable, i)
		sh.Columns[i] = row.Column{Type: sh.Columns[i].Type, Meta: sh.Columns[i].Meta, Unsigned: meta.Columns[i].Unsigned}
	}
	if err := s.fromMetadata(ctx, old, meta, sh); err != nil {
		return nil, err
	}
	def := &shape.Table{Columns: make([]shape.Column, len(sh.Columns))}
	for i, c := range sh.Table.Columns {
		def.Columns[i] = shape.Column{Name: c.Name, Type: c.Type, Nullable: c.Nullable}
		if id := meta.Columns[i].Collation; id != 0 && id != binlog.BinaryCollation {
			def.Columns[i].Collation = s.Charsets.ByID[id]
		}
	}
	if len(meta.Key) > 0 {
		ix := shape.Index{Name: shape.PrimaryIndex, Unique: true}
		for _, i := range meta.Key {
			ix.Columns = append(ix.Columns, def.Columns[i].Name)
		}
		def.Indexes = []shape.Index{ix}
	}
	if old != nil && old.Unknown == "" {
		def.Versioned, def.RowEnd = old.Versioned, old.RowEnd
		if def.Versioned && def.RowEnd == "" {
			def.RowEnd = "row_end" // MariaDB's name for a column that no statement has named
		}
	}
	s.Define(m.DB, m.Table, def)
	return def, nil
}

// Why a row and what is known about its table do not go together.
var (
	errNoShape = errors.New("the schema history does not know it: the account could not see it at the start (GRANT SELECT ON *.* TO the " +
		"account), or the statement that has made it is not in the log (SQL_LOG_BIN=0)")
	errHidden = errors.New("every statement of the log on it was followed, so one of them is not in the log (SQL_LOG_BIN=0)")
)

// wayOut is what can be done about a table of which the log does not say enough.
const wayOut = "with SET GLOBAL binlog_row_metadata = 'FULL' later rows say what they are, and `deltaforge checkpoint reset-schema KEY` takes " +
	"the tables as they are now"

// fromHistory fills the shape from what the history has, which must agree with the table map.
func (s *Schemas) fromHistory(ctx context.Context, def *shape.Table, m *binlog.TableMap, meta *binlog.Metadata, sh *row.Layout) error {
	fail := func(err error) error {
		switch {
		case def == nil || def.Unknown != "":
		case def.AsOf != "":
			err = fmt.Errorf("%w (the table is known as it was at %s): a statement has changed it between the row and that place, or is not in "+
				"the log (SQL_LOG_BIN=0)", err, def.AsOf)
		default:
			err = fmt.Errorf("%w: %w", err, errHidden)
		}
		return fault.WithKind(fault.KindSchema, fmt.Errorf("%w; %s", err, wayOut))
	}
	switch {
	case def == nil:
		return fail(errNoShape)
	case def.Unknown != "":
		return fail(errors.New("its columns are not known: " + def.Unknown))
	}
	if hidden := def.HiddenColumns(m, s.Flavor); hidden > 0 {
		sh.Table.Columns = sh.Table.Columns[:len(def.Columns)]
	} else if len(def.Columns) != len(m.Types) {
		return fail(fmt.Errorf("its rows in the log have %d columns, the schema history has %d", len(m.Types), len(def.Columns)))
	}
	for i, cc := range def.Columns {
		c, col := &sh.Columns[i], &sh.Table.Columns[i]
		err := s.agree(c, &meta.Columns[i], meta.Signed, cc)
		if wide, ok := s.asUTF8MB4(cc); err != nil && ok && s.agree(c, &meta.Columns[i], meta.Signed, wide) == nil {
			cc, err = wide, nil
		}
		if err == nil && meta.Full && meta.Columns[i].Name != cc.Name {
			err = fmt.Errorf("the log has the name %s", meta.Columns[i].Name)
		}
		if err != nil {
			return fail(fmt.Errorf("column %d (%s %s): %w", i+1, cc.Name, cc.Type, err))
		}
		col.Name, col.Type, col.Default = cc.Name, cc.Type, cc.Default
		c.Unsigned = strings.Contains(cc.Type, "unsigned")
		if cs := cc.Charset(); cs != "" && cs != "binary" {
			if c.Text, err = s.Charset(ctx, cs); err != nil {
				return err
			}
		}
		if binlog.IsEnumOrSet(c.Type, "") {
			if c.Labels, err = shape.ParseLabels(cc.Type); err == nil && meta.Full {
				err = s.sameLabels(c, meta.Columns[i].Labels)
			}
			if err != nil {
				return fail(fmt.Errorf("column %s: %w", cc.Name, err))
			}
			c.Unsure = cc.Unsure && !meta.Full
		}
		s.finish(c, col)
	}
	return nil
}

// asUTF8MB4 returns a column whose character set a statement has called utf8 as one of utf8mb4. Which of the two that is, is up to the
// setting old_mode of a MariaDB, which the log does not have.
func (s *Schemas) asUTF8MB4(c shape.Column) (shape.Column, bool) {
	rest, ok := strings.CutPrefix(c.Collation, "utf8mb3")
	c.Collation = "utf8mb4" + rest
	return c, ok && s.Flavor == product.MariaDB
}

// sameLabels compares labels with those of a table map, which are in the column's character set.
func (s *Schemas) sameLabels(c *row.Column, labels [][]byte) error {
	if len(labels) != len(c.Labels) {
		return fmt.Errorf("the log has %d labels", len(labels))
	}
	for i, label := range labels {
		if c.Text != nil {
			var err error
			if label, _, err = c.Text.Decode(nil, label); err != nil {
				return fmt.Errorf("label %q: %w", label, err)
			}
		}
		if !bytes.Equal(label, c.Labels[i]) {
			return fmt.Errorf("the log has the label %q, not %q", label, c.Labels[i])
		}
	}
	return nil
}

// agree checks that a column of the log can be the column that the history has: type, precision, length, sign and
// charset, as far as the log says them.
func (s *Schemas) agree(c *row.Column, meta *binlog.ColumnMetadata, signed bool, cc shape.Column) error {
	types := shape.LogTypes(cc.DataType())
	if types == nil {
		return nil // a type of a later version: what it is made of is checked when it is decoded
	}
	if !slices.Contains(types, c.Type) {
		return fmt.Errorf("the log has type %d", c.Type)
	}
	if signed && binlog.IsNumeric(c.Type) && c.Type != mysql.MYSQL_TYPE_YEAR &&
		meta.Unsigned != (strings.Contains(cc.Type, "unsigned") || strings.Contains(cc.Type, "zerofill")) {
		return fmt.Errorf("the log has another sign")
	}
	if meta.Collation != 0 && cc.Charset() != "" && binlog.IsCharacter(c.Type, s.Flavor) {
		if cs := s.Charsets.Collations[meta.Collation]; cs != "" && cs != cc.Charset() {
			return fmt.Errorf("the log has character set %s, not %s", cs, cc.Charset())
		}
	}
	want, ok := cc.ExpectedMeta(s.Charsets.Widths)
	if c.Type == binlog.TypeMariaVarcharCompressed {
		want++ // for the byte that says how it is compressed
	}
	if ok && want != c.Meta {
		return fmt.Errorf("the log has size %d, not %d", c.Meta, want)
	}
	return nil
}
