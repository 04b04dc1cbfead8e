package ddl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// literals of the parser

// errNotApplied means that a statement was understood and does not fit the shape that is known: the history lacks a change.
var errNotApplied = errors.New("it does not fit the shape that is known")

// errPanic marks a defect in what reads statements; a statement is nothing to die of.
var errPanic = errors.New("reading it has failed in an unforeseen way")

// Statement is a statement of the log with what its session had set.
type Statement struct {
	Text string // UTF-8
	DB   string
	// Session is whose temporary tables it can be about; ThreadSpecific says that it is about something that is of the session alone.
	Session        Session
	ThreadSpecific bool
	Mode           statement.Mode
	// ServerCollation is the default of a new database.
	ServerCollation   string
	DefaultUTF8MB4    string
	ImplicitTimestamp bool
}

// Applier works out what statements do to a state.
type Applier struct {
	parser   *parser.Parser
	dialect  statement.Dialect
	charsets charset.Info
	fold     bool
	// early reports whether the shape, which is known as of that position, has the statement that is being read already.
	early func(asOf string) bool
	// temporary are the temporary tables of the sessions that log them.
	temporary map[Session]map[statement.TableName]bool
}

// Result is what a statement does.
type Result struct {
	Changes []shape.Change
	// Tables are what it is about, in full, also when it could not be applied.
	Tables []statement.TableName
	// Filled are those that have rows now that the log does not have under their names.
	Filled []Filled
	// Unread says that the statement is about tables that could not be named.
	Unread bool
}

// Concerned returns the tables that a statement names, then those that it changes without naming them, each once. The state is that before
// the statement.
func (r Result) Concerned(state shape.State) (names []statement.TableName) {
	add := func(n statement.TableName) {
		if n.Table != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range r.Tables {
		add(n)
	}
	for _, c := range r.Changes {
		add(statement.TableName{DB: c.DB, Table: c.Table})
		if d := state[c.DB]; d != nil && c.Table == "" && c.Database == nil {
			for _, name := range slices.Sorted(maps.Keys(d.Tables)) {
				add(statement.TableName{DB: c.DB, Table: name})
			}
		}
	}
	return names
}

// run is one statement being applied.
type run struct {
	*Applier
	state shape.State
	st    Statement
	red   reduced
	rules typeRules
	res   Result
	// convertTo is the collation that the statement converts the table to, if it does.
	convertTo string
	// unconverted are the columns before that.
	unconverted []shape.Column
}

// Apply returns what a statement changes in the state, and does not change it. The result is valid as far as it goes when there
// is an error.
func (a *Applier) Apply(state shape.State, st Statement) (res Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %w: %v", errNotUnderstood, errPanic, r)
		}
	}()
	if !changesTables(statement.NewScanner(st.Text, st.Mode, a.dialect)) {
		return Result{}, nil
	}
	tokens, err := statement.Tokenize(st.Text, st.Mode, a.dialect)
	if err != nil {
		return Result{Unread: true}, fmt.Errorf("%w: %w", errNotUnderstood, err)
	}
	red, err := reduce(tokens)
	run := &run{Applier: a, state: state, st: st, red: red, rules: typeRules{
		Dialect: a.dialect, charsets: a.charsets, defaultUTF8MB4: st.DefaultUTF8MB4, realAsFloat: st.Mode.RealAsFloat,
		oracle: st.Mode.Oracle && a.dialect.Flavor == product.MariaDB, implicitTimestamp: st.ImplicitTimestamp,
	}}
	run.res.Unread = red.unread
	for _, t := range red.tables {
		run.res.Tables = append(run.res.Tables, run.fullName(t.DB, t.Table))
	}
	for _, n := range red.made {
		a.setTemporary(st.Session, run.fullName(n.DB, n.Table), true)
	}
	for _, n := range red.gone {
		a.setTemporary(st.Session, run.fullName(n.DB, n.Table), false)
	}
	run.fills()
	if err != nil || red.neutral {
		return run.res, err
	}
	node, err := a.parser.ParseOneStmt(red.sql, "", "")
	if err != nil {
		return run.res, fmt.Errorf("%w: %w", errNotUnderstood, err)
	}
	err = run.statement(node)
	return run.res, err
}

// headWords is how many words into a statement the kind of what it is about is named, at the latest.
const headWords = 6

// changesTables reports whether a statement may be about tables, databases or indexes, by its first words.
func changesTables(l *statement.Scanner) bool {
	first := l.Next().Keyword()
	if first == "SET" && l.SetStatement() {
		first = l.Next().Keyword()
	}
	switch first {
	case "CREATE", "ALTER", "DROP", "RENAME":
	default:
		return false
	}
	for range headWords {
		switch l.Next().Keyword() {
		case "TABLE", "TABLES", "DATABASE", "SCHEMA", "INDEX", "KEY", "SEQUENCE":
			return true
		case "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT":
			return false
		}
	}
	return false
}

// NewApplier returns the applier for the statements of a server. With fold, names are compared and kept in lower case. early is called
// with the AsOf of a shape that a statement is about.
func NewApplier(d statement.Dialect, charsets charset.Info, fold bool, early func(asOf string) bool) *Applier {
	return &Applier{parser: parser.New(), dialect: d, charsets: charsets, fold: fold, early: early, temporary: map[Session]map[statement.TableName]bool{}}
}

func (r *run) fullName(db, table string) statement.TableName {
	if db == "" {
		db = r.st.DB
	}
	if r.fold {
		db, table = strings.ToLower(db), strings.ToLower(table)
	}
	return statement.TableName{DB: db, Table: table}
}

func (r *run) nameOf(n *ast.TableName) statement.TableName { return r.fullName(n.Schema.O, n.Name.O) }

// lookup returns the shape of a table as the changes of this statement have left it.
func (r *run) lookup(n statement.TableName) *shape.Table {
	for _, c := range slices.Backward(r.res.Changes) {
		if c.DB == n.DB && c.Table == n.Table {
			return c.Def
		}
	}
	return r.state.Table(n.DB, n.Table)
}

func (r *run) set(n statement.TableName, def *shape.Table) {
	if def != nil && len(def.Indexes) > 0 {
		def.SortIndexes()
	}
	r.res.Changes = append(r.res.Changes, shape.Change{DB: n.DB, Table: n.Table, Def: def})
}

// from returns the shape of another table for a new one. Where that is not known, nothing is guessed: what the catalogue shows is the
// table of later.
func (r *run) from(n statement.TableName, how string) *shape.Table {
	if def := r.lookup(n); def != nil && !r.isTemporary(n) && !r.specific() {
		return def.Clone()
	}
	return &shape.Table{Unknown: fmt.Sprintf("%s %s.%s, whose columns are not known (GRANT SELECT ON %s.* TO the account, so that they are followed)",
		how, n.DB, n.Table, statement.QuoteName(n.DB))}
}

// guessed reports a shape that is of a later position than the statement.
func (r *run) guessed(def *shape.Table) bool {
	return def != nil && def.AsOf != "" && r.early(def.AsOf)
}

func (r *run) statement(node ast.StmtNode) error {
	switch n := node.(type) {
	case *ast.CreateTableStmt:
		return r.createTable(n)
	case *ast.DropTableStmt:
		for _, t := range n.Tables {
			if name := r.nameOf(t); r.lookup(name) != nil && !r.isTemporary(name) {
				r.set(name, nil)
			}
		}
	case *ast.RenameTableStmt:
		for _, t := range n.TableToTables {
			if from, to := r.nameOf(t.OldTable), r.nameOf(t.NewTable); !r.renameTemporary(from, to, false) {
				r.rename(from, to)
			}
		}
	case *ast.AlterTableStmt:
		return r.alterTable(n)
	case *ast.CreateDatabaseStmt:
		return r.createDatabase(n)
	case *ast.AlterDatabaseStmt:
		return r.alterDatabase(n)
	case *ast.DropDatabaseStmt:
		r.res.Changes = append(r.res.Changes, shape.Change{DB: r.fullName(n.Name.O, "").DB})
	default:
		return fmt.Errorf("%w: %T", errNotUnderstood, node)
	}
	return nil
}

func (r *run) createTable(n *ast.CreateTableStmt) error {
	name := r.nameOf(n.Table)
	if n.IfNotExists && r.lookup(name) != nil {
		return nil
	}
	if n.ReferTable != nil {
		r.replace(name, r.from(r.nameOf(n.ReferTable), "it was made LIKE"))
		return nil
	}
	if r.red.sequence {
		r.replace(name, sequenceDef(r.databaseCollation(name.DB)))
		return nil
	}
	collation, err := r.rules.chosen(r.tableCharset(n.Options), r.databaseCollation(name.DB))
	if err != nil {
		return err
	}
	def := &shape.Table{Collation: collation, Versioned: r.red.versioning > 0}
	for _, col := range n.Cols {
		if err := r.addColumn(def, col, len(def.Columns)); err != nil {
			return err
		}
	}
	def.SetPeriod(r.red.period)
	for _, col := range n.Cols {
		addColumnIndexes(def, col)
	}
	for _, c := range n.Constraints {
		if err := r.addConstraint(def, c); err != nil {
			return err
		}
	}
	def.RowEnd = r.red.rowEnd
	def.EndUniques()
	r.replace(name, def)
	return nil
}

// replace sets the shape of a table that is made: with OR REPLACE it is another one, also when it looks the same.
func (r *run) replace(n statement.TableName, def *shape.Table) {
	if r.lookup(n) != nil {
		r.set(n, nil)
	}
	r.set(n, def)
}

// tableCharset finds the character set in the options of a reduced statement.
func (r *run) tableCharset(options []*ast.TableOption) charsetSpec {
	for _, o := range options {
		if o.Tp == ast.TableOptionComment {
			if i, err := strconv.Atoi(o.StrValue); err == nil && i < len(r.red.charsets) {
				return r.red.charsets[i]
			}
		}
	}
	return charsetSpec{}
}

// columnOf turns a definition of a reduced statement into a column.
func (r *run) columnOf(def *shape.Table, col *ast.ColumnDef) (shape.Column, error) {
	i := col.Tp.GetFlen()
	if i < 0 || i >= len(r.red.types) {
		return shape.Column{}, fmt.Errorf("%w: column %s", errNotUnderstood, col.Name.Name.O)
	}
	t := r.red.types[i]
	if r.convertTo != "" { // the server converts what the same statement adds, too
		t.charset, t.ascii, t.unicode = "", false, false
		t.collation = r.convertTo
		if t.binary && r.convertTo != bytesCollation {
			t.collation = charset.Of(r.convertTo) + "_bin"
		}
	}
	c, err := r.rules.column(col.Name.Name.O, t, def.Collation)
	if err == nil && r.convertTo != "" && c.Collation != "" && t.collation == r.convertTo {
		c.Collation = r.convertTo // also that of a type that is text under another name
	}
	return c, err
}

func (r *run) addColumn(def *shape.Table, col *ast.ColumnDef, at int) error {
	c, err := r.columnOf(def, col)
	if err != nil {
		return err
	}
	if def.Column(c.Name) >= 0 {
		return fmt.Errorf("%w: column %s is there already", errNotApplied, c.Name)
	}
	def.Columns = slices.Insert(def.Columns, at, c)
	return nil
}

// addColumnIndexes adds the indexes that a column's definition asks for.
func addColumnIndexes(def *shape.Table, col *ast.ColumnDef) {
	for _, o := range col.Options {
		name := def.Columns[def.Column(col.Name.Name.O)].Name
		switch o.Tp {
		case ast.ColumnOptionPrimaryKey:
			def.AddIndex(shape.Index{Name: shape.PrimaryIndex, Unique: true, Columns: []string{name}})
		case ast.ColumnOptionUniqKey:
			def.AddIndex(shape.Index{Unique: true, Columns: []string{name}})
		default:
		}
	}
}

func (r *run) addConstraint(def *shape.Table, c *ast.Constraint) error {
	ix := shape.Index{Name: c.Name}
	switch c.Tp {
	case ast.ConstraintPrimaryKey:
		ix.Name, ix.Unique = shape.PrimaryIndex, true
	case ast.ConstraintUniq, ast.ConstraintUniqKey, ast.ConstraintUniqIndex:
		ix.Unique = true
	}
	if def.Index(ix.Name) >= 0 && slices.Contains(r.red.optionalIndexes, strings.ToLower(ix.Name)) {
		return nil
	}
	for _, k := range c.Keys {
		if k.Column == nil {
			ix.Columns = nil // an expression: the index identifies no row
			break
		}
		name := k.Column.Name.O
		if r.red.overlaps != "" && strings.EqualFold(name, r.red.overlaps) {
			if len(def.Period) != 2 {
				return fmt.Errorf("%w: the columns of its period %s are not known", errNotApplied, name)
			}
			ix.Columns = append(ix.Columns, def.Period[1], def.Period[0])
			continue
		}
		if i := def.Column(name); i >= 0 {
			name = def.Columns[i].Name
		}
		ix.Columns = append(ix.Columns, name)
	}
	def.AddIndex(ix)
	return nil
}
