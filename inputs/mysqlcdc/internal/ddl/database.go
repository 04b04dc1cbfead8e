package ddl

import (
	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
)

func (r *run) createDatabase(n *ast.CreateDatabaseStmt) error {
	name := r.fullName(n.Name.O, "").DB
	if d := r.state[name]; d != nil && n.IfNotExists {
		return nil
	}
	collation, err := r.rules.chosen(r.red.charsets[0], r.st.ServerCollation)
	if err != nil {
		return err
	}
	// It is empty now, whatever the catalogue has shown.
	r.res.Changes = append(r.res.Changes, shape.Change{DB: name},
		shape.Change{DB: name, Database: &shape.Database{Collation: collation, Complete: true}})
	return nil
}

func (r *run) alterDatabase(n *ast.AlterDatabaseStmt) error {
	name := r.st.DB
	if n.Name.O != "" {
		name = r.fullName(n.Name.O, "").DB
	}
	d := r.state[name]
	if d == nil || r.red.charsets[0] == (charsetSpec{}) {
		return nil
	}
	collation, err := r.rules.chosen(r.red.charsets[0], d.Collation)
	if err != nil {
		return err
	}
	r.res.Changes = append(r.res.Changes, shape.Change{DB: name, Database: &shape.Database{Collation: collation, Complete: d.Complete}})
	return nil
}

func (r *run) databaseCollation(db string) string {
	if d := r.state[db]; d != nil && d.Collation != "" {
		return d.Collation
	}
	return r.st.ServerCollation
}

// sequenceDef is the shape of a MariaDB sequence in a database of that collation.
func sequenceDef(collation string) *shape.Table {
	def := &shape.Table{Collation: collation}
	for _, c := range shape.SequenceColumns() {
		def.Columns = append(def.Columns, shape.Column{Name: c[0], Type: c[1]})
	}
	return def
}
