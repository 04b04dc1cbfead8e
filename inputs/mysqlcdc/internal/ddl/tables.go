package ddl

import (
	"maps"
	"slices"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// Tables are the shapes of all tables at the place that a log has been read up to. They belong to the goroutine that reads.
type Tables struct {
	State   shape.State
	Applier *Applier

	pending []shape.Change
	left    map[statement.TableName]*shape.Table
}

// Apply changes the shapes. Take returns the changes at the end of the transaction.
func (t *Tables) Apply(changes ...shape.Change) {
	t.State.Apply(changes)
	t.pending = append(t.pending, changes...)
}

// Take returns the changes of the transaction that is being read, and forgets that they are there.
func (t *Tables) Take() []shape.Change {
	changes := t.pending
	t.pending = nil
	return changes
}

// Leave keeps the shapes of tables that changes rename, under their old names; it is called before they are applied. MariaDB logs the RENAME
// of a temporary table, which nobody else sees, like that of another one: rows of the old name that come later, without a statement that has
// made a table of it, prove that the table has never left.
func (t *Tables) Leave(changes []shape.Change) {
	for _, c := range changes {
		n := statement.TableName{DB: c.DB, Table: c.Table}
		delete(t.left, n)
		def := t.State.Table(c.DB, c.Table)
		if def == nil || c.Def != nil || !slices.ContainsFunc(changes, func(o shape.Change) bool { return o.Def == def }) {
			continue
		}
		if t.left == nil {
			t.left = map[statement.TableName]*shape.Table{}
		}
		t.left[n] = def
	}
}

// Left returns the shape that a table had under a name before it was renamed; nil: there was none.
func (t *Tables) Left(n statement.TableName) *shape.Table { return t.left[n] }

// Without returns the changes that make tables unknown.
func (t *Tables) Without(tables []statement.TableName) (changes []shape.Change) {
	for _, n := range tables {
		if t.State.Table(n.DB, n.Table) != nil {
			changes = append(changes, shape.Change{DB: n.DB, Table: n.Table})
		}
	}
	return changes
}

// Reloaded returns the changes that give the tables of a statement the shapes that they have in a state, all tables if it could not be told
// which they are.
func (t *Tables) Reloaded(res Result, state shape.State) (changes []shape.Change) {
	tables := res.Tables
	if res.Unread {
		tables = nil
		for _, st := range []shape.State{t.State, state} {
			for db, d := range st {
				for name := range d.Tables {
					tables = append(tables, statement.TableName{DB: db, Table: name})
				}
			}
		}
	}
	for _, n := range tables {
		if n.Table != "" {
			changes = append(changes, shape.Change{DB: n.DB, Table: n.Table, Def: state.Table(n.DB, n.Table)})
		}
	}
	return changes
}

// Complete reports whether all tables of a database are known.
func (t *Tables) Complete(db string) bool {
	d := t.State[db]
	return d != nil && d.Complete
}

// Missing returns the changes that add what a state has of the databases that are not complete. What the log has told of them is better, and
// stays.
func (t *Tables) Missing(state shape.State) (changes []shape.Change) {
	for _, db := range slices.Sorted(maps.Keys(state)) {
		d := state[db]
		if t.Complete(db) || t.State[db] != nil && !d.Complete {
			continue
		}
		changes = append(changes, shape.Change{DB: db, Database: &shape.Database{Collation: d.Collation, Complete: d.Complete}})
		for _, name := range slices.Sorted(maps.Keys(d.Tables)) {
			if t.State.Table(db, name) == nil {
				changes = append(changes, shape.Change{DB: db, Table: name, Def: d.Tables[name]})
			}
		}
	}
	return changes
}
