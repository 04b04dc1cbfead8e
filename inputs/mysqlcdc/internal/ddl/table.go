package ddl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

func (r *run) alterTable(n *ast.AlterTableStmt) error {
	name := r.nameOf(n.Table)
	if t := r.red.absorbed; t != nil {
		r.filled(name, "a partition was made of "+r.fullName(t.DB, t.Table).String())
		if gone := r.fullName(t.DB, t.Table); r.lookup(gone) != nil {
			r.set(gone, nil)
		}
	}
	to := name
	for _, s := range n.Specs {
		if s.Tp == ast.AlterTableRenameTable {
			to = r.nameOf(s.NewTable)
		}
	}
	if r.renameTemporary(name, to, r.specific()) {
		return nil
	}
	if t := r.red.detached; t != nil {
		r.filled(r.fullName(t.DB, t.Table), "it was a partition of "+name.String())
	}
	def := r.lookup(name)
	if t := r.red.detached; t != nil && !r.guessed(def) {
		r.set(r.fullName(t.DB, t.Table), r.from(name, "it was a partition of"))
	}
	if def != nil && def.Unknown == "" && !r.guessed(def) {
		def = def.Clone()
		if err := r.alter(def, n.Specs); err != nil {
			return fmt.Errorf("table %s.%s: %w", name.DB, name.Table, err)
		}
		r.set(name, def)
	}
	if to != name {
		r.rename(name, to)
	}
	return nil
}

// alter does what the server does: first the table's options, then everything that names a column as it was, then what is
// added or moved, in the order of the statement (MySQL source, prepare_fields_and_keys).
func (r *run) alter(def *shape.Table, specs []*ast.AlterTableSpec) error {
	if err := r.alterCharset(def, specs); err != nil {
		return err
	}
	def.Versioned = r.red.versioning > 0 || def.Versioned && r.red.versioning == 0
	var moved []movedColumn
	columns := make([]shape.Column, 0, len(def.Columns))
	var renamed, dropped []string // pairs of old and new names; names
	used := map[*ast.AlterTableSpec]bool{}
	for i, old := range def.Columns {
		spec := specOf(specs, old.Name)
		if spec == nil {
			columns = append(columns, old)
			continue
		}
		used[spec] = true
		col := old
		switch spec.Tp {
		case ast.AlterTableDropColumn:
			dropped = append(dropped, old.Name)
			continue
		case ast.AlterTableRenameColumn:
			col.Name = spec.NewColumnName.Name.O
		default:
			var err error
			if col, err = r.columnOf(def, spec.NewColumns[0]); err != nil {
				return err
			}
			if r.convertTo != "" && r.dialect.Flavor == product.MySQL {
				col = r.rules.convertedAnew(col, r.red.types[spec.NewColumns[0].Tp.GetFlen()], r.unconverted[i])
			}
		}
		if !strings.EqualFold(col.Name, old.Name) || col.Name != old.Name {
			renamed = append(renamed, old.Name, col.Name)
		}
		if p := spec.Position; p != nil && p.Tp != ast.ColumnPositionNone {
			moved = append(moved, movedColumn{spec, col}) // until its turn it stays: others may be put after it
		}
		columns = append(columns, col)
	}
	if err := r.unusedSpec(specs, used); err != nil {
		return err
	}
	for i, c := range columns {
		if slices.ContainsFunc(columns[:i], func(other shape.Column) bool { return strings.EqualFold(other.Name, c.Name) }) {
			return fmt.Errorf("%w: column %s is there already", errNotApplied, c.Name)
		}
	}
	for _, name := range dropped {
		def.ForgetColumn(name)
	}
	def.RenameInIndexes(renamed)
	def.Columns = columns
	if err := r.alterSecond(def, specs, moved); err != nil {
		return err
	}
	if r.red.rowEnd != "" {
		def.RowEnd = r.red.rowEnd
	}
	def.EndUniques()
	return nil
}

// movedColumn is a column that a clause puts elsewhere.
type movedColumn struct {
	spec *ast.AlterTableSpec
	col  shape.Column
}

// specOf returns the clause that changes a column, which it names as it was.
func specOf(specs []*ast.AlterTableSpec, column string) *ast.AlterTableSpec {
	for _, s := range specs {
		name := ""
		switch s.Tp {
		case ast.AlterTableDropColumn, ast.AlterTableChangeColumn, ast.AlterTableRenameColumn:
			name = s.OldColumnName.Name.O
		case ast.AlterTableModifyColumn:
			name = s.NewColumns[0].Name.Name.O
		}
		if name != "" && strings.EqualFold(name, column) {
			return s
		}
	}
	return nil
}

// unusedSpec complains about a clause whose column is not there.
func (r *run) unusedSpec(specs []*ast.AlterTableSpec, used map[*ast.AlterTableSpec]bool) error {
	for _, s := range specs {
		switch s.Tp {
		case ast.AlterTableDropColumn, ast.AlterTableChangeColumn, ast.AlterTableRenameColumn:
			if name := s.OldColumnName.Name; !used[s] && !s.IfExists && !slices.Contains(r.red.optional, strings.ToLower(name.O)) {
				return fmt.Errorf("%w: it has no column %s", errNotApplied, name.O)
			}
		case ast.AlterTableModifyColumn:
			if !used[s] && !s.IfExists {
				return fmt.Errorf("%w: it has no column %s", errNotApplied, s.NewColumns[0].Name.Name.O)
			}
		}
	}
	return nil
}

// alterSecond adds and moves columns and changes indexes.
func (r *run) alterSecond(def *shape.Table, specs []*ast.AlterTableSpec, moved []movedColumn) error {
	for _, s := range specs { // indexes that go make room for the names of those that come
		switch s.Tp {
		case ast.AlterTableDropPrimaryKey:
			def.DropIndex(shape.PrimaryIndex)
		case ast.AlterTableDropIndex:
			def.DropIndex(s.Name)
		case ast.AlterTableRenameIndex:
			if i := def.Index(s.FromKey.O); i >= 0 {
				def.Indexes[i].Name = s.ToKey.O
			}
		default:
		}
	}
	for _, s := range specs {
		var err error
		switch s.Tp {
		case ast.AlterTableAddColumns:
			err = r.addColumns(def, s)
		case ast.AlterTableModifyColumn, ast.AlterTableChangeColumn:
			if i := slices.IndexFunc(moved, func(m movedColumn) bool { return m.spec == s }); i >= 0 {
				var at int
				if old := def.Column(moved[i].col.Name); old >= 0 {
					def.Columns = slices.Delete(def.Columns, old, old+1)
				}
				if at, err = place(def, s.Position); err == nil {
					def.Columns = slices.Insert(def.Columns, at, moved[i].col)
				}
			}
		default:
		}
		if err != nil {
			return err
		}
	}
	if r.red.endsPeriod {
		def.Period = nil
	}
	def.SetPeriod(r.red.period)
	for _, s := range specs {
		switch s.Tp {
		case ast.AlterTableAddColumns, ast.AlterTableModifyColumn, ast.AlterTableChangeColumn:
			for _, col := range s.NewColumns {
				if def.Column(col.Name.Name.O) >= 0 {
					addColumnIndexes(def, col)
				}
			}
		case ast.AlterTableAddConstraint:
			if err := r.addConstraint(def, s.Constraint); err != nil {
				return err
			}
		default:
		}
	}
	if i := def.Index(shape.PrimaryIndex); i >= 0 { // a column that was modified may have lost it
		for _, name := range def.Indexes[i].Columns {
			if c := def.Column(name); c >= 0 {
				def.Columns[c].Nullable = false
			}
		}
	}
	return nil
}

func (r *run) addColumns(def *shape.Table, s *ast.AlterTableSpec) error {
	at, err := place(def, s.Position)
	if err != nil {
		return err
	}
	for _, col := range s.NewColumns {
		if s.IfNotExists && def.Column(col.Name.Name.O) >= 0 {
			continue
		}
		if err := r.addColumn(def, col, at); err != nil {
			return err
		}
		at++
	}
	return nil
}

// alterCharset changes the table's default collation and converts its columns.
func (r *run) alterCharset(def *shape.Table, specs []*ast.AlterTableSpec) error {
	for _, s := range specs {
		if s.Tp != ast.AlterTableOption {
			continue
		}
		c := r.tableCharset(s.Options)
		otherwise := def.Collation
		if c.convert && c.charset == "default" {
			db := r.st.DB // MySQL takes that of the session, MariaDB that of the table
			if r.dialect.Flavor == product.MariaDB {
				db = r.red.tables[0].DB
				if db == "" {
					db = r.st.DB
				}
			}
			otherwise = r.databaseCollation(r.fullName(db, "").DB)
		}
		collation, err := r.rules.chosen(c, otherwise)
		if err != nil {
			return err
		}
		def.Collation = collation
		if !c.convert {
			continue
		}
		r.convertTo, r.unconverted = collation, slices.Clone(def.Columns)
		for i := range def.Columns {
			def.Columns[i] = r.rules.converted(def.Columns[i], collation)
		}
	}
	return nil
}

// place returns where FIRST or AFTER puts a column.
func place(t *shape.Table, p *ast.ColumnPosition) (int, error) {
	switch {
	case p == nil || p.Tp == ast.ColumnPositionNone:
		return len(t.Columns), nil
	case p.Tp == ast.ColumnPositionFirst:
		return 0, nil
	}
	i := t.Column(p.RelativeColumn.Name.O)
	if i < 0 {
		return 0, fmt.Errorf("%w: it has no column %s to put another one after", errNotApplied, p.RelativeColumn.Name.O)
	}
	return i + 1, nil
}

func (r *run) rename(from, to statement.TableName) {
	def := r.lookup(from)
	if def != nil || r.state[from.DB] == nil || !r.state[from.DB].Complete { // else it is no table
		r.filled(to, "renamed from "+from.String())
	}
	switch {
	case r.guessed(def):
		// What is known as from is a table of later; what is renamed now is known as to, if it is still there.
	case def != nil:
		r.set(from, nil)
		r.set(to, def)
	case r.guessed(r.lookup(to)):
	case r.state[from.DB] == nil || !r.state[from.DB].Complete:
		r.set(to, r.from(from, "its name was"))
	case r.lookup(to) != nil: // what takes the name is no table that is known: a view, as it seems
		r.set(to, nil)
	}
}
