package ddl

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
)

// TestFilled: the tables that a statement gives rows that are not in the log under their names.
func TestFilled(t *testing.T) {
	known := func() *shape.Table { return &shape.Table{Columns: []shape.Column{{Name: "a", Type: "int"}}} }
	state := shape.State{"d": {Complete: true, Tables: map[string]*shape.Table{"t": known(), "u": known()}}}
	for text, want := range map[string][]string{
		"RENAME TABLE t TO old, u TO t":                                      {"d.old: renamed from d.t", "d.t: renamed from d.u"},
		"RENAME TABLE far.x TO t":                                            {"d.t: renamed from far.x"},
		"RENAME TABLE view_of_d TO n":                                        nil,
		"ALTER TABLE u ADD b INT, RENAME AS `n`":                             {"d.n: renamed from d.u"},
		"ALTER TABLE t EXCHANGE PARTITION p WITH TABLE far.x":                {"d.t: a partition was exchanged for far.x", "far.x: exchanged for a partition of d.t"},
		"ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u WITHOUT VALIDATION": {"d.t: a partition was exchanged for d.u", "d.u: exchanged for a partition of d.t"},
		"ALTER TABLE t IMPORT TABLESPACE":                                    {"d.t: its tablespace was imported"},
		"ALTER TABLE t IMPORT PARTITION p TABLESPACE":                        {"d.t: the tablespace of a partition was imported"},
		"ALTER TABLE t DISCARD TABLESPACE":                                   nil,
		"ALTER TABLE t DROP PARTITION p":                                     nil,
		"CREATE TABLE n LIKE t":                                              nil,
		"DROP TABLE t, u":                                                    nil,
		"ALTER TABLE t ADD b INT":                                            nil,
	} {
		res, err := testApplier(product.MySQL).Apply(state, Statement{Text: text, DB: "d", ServerCollation: "utf8mb4_bin"})
		require.NoError(t, err, text)
		var got []string
		for _, f := range res.Filled {
			got = append(got, f.Table.String()+": "+f.How)
		}
		require.Equal(t, want, got, text)
	}
	for text, want := range map[string][]string{
		"ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (3)": {"d.t: a partition was made of d.u"},
		"ALTER TABLE t CONVERT PARTITION p TO TABLE n":                      {"d.n: it was a partition of d.t"},
	} {
		res, err := testApplier(product.MariaDB).Apply(state, Statement{Text: text, DB: "d", ServerCollation: "utf8mb4_bin"})
		require.NoError(t, err, text)
		require.Len(t, res.Filled, 1, text)
		require.Equal(t, want, []string{res.Filled[0].Table.String() + ": " + res.Filled[0].How}, text)
	}
}
