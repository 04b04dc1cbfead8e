package history

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/internal/change"
)

// TestSchemaHistoryRecord: what is saved comes back, and damage is told from another version.
func TestSchemaHistoryRecord(t *testing.T) {
	source := &change.Source{Connector: "postgresql", Name: "s"}
	table := func(name string, parts ...change.Column) *change.Table {
		return &change.Table{Source: source, Database: "d", Schema: "public", Name: name, Key: []int{0}, Columns: []change.Column{
			{Name: "id", Type: "numeric(5,2)", Logical: change.LogicalDecimal, Precision: 5, Scale: 2},
			{Name: "p", Type: "pair", Logical: change.LogicalObject, Nullable: true, Parts: parts},
		}}
	}
	h := New()
	msg := func(oid uint32) pgoutput.Relation { return pgoutput.Relation{OID: oid, Identity: 'd'} }
	require.Empty(t, h.See(VersionOf(msg(1), table("a"), Place{1, 1})))
	newest := table("a", change.Column{Name: "n", Logical: change.LogicalInt64, Quoted: true})
	require.Len(t, h.See(VersionOf(msg(2), newest, Place{5, 1})), 1)
	record, mark, err := h.Record(0)
	require.NoError(t, err)
	h.WasSaved(mark)
	none, _, err := h.Record(0)
	require.NoError(t, err)
	require.Nil(t, none)

	var back History
	require.NoError(t, back.Restore(record, source, "d"))
	require.Equal(t, table("a").Fingerprint(), back.last("public.a", Place{5, 1}).Table.table.Fingerprint())
	require.Equal(t, newest.Fingerprint(), back.last("public.a", Place{5, 2}).Table.table.Fingerprint())
	require.Nil(t, back.last("public.a", Place{1, 1}))

	back.changes++
	short, _, err := back.Record(6)
	require.NoError(t, err)
	require.Less(t, len(short), len(record), "what no row can ask for any more is left out")
	require.NoError(t, back.Restore(short, source, "d"))
	require.Equal(t, newest.Fingerprint(), back.last("public.a", Place{6, 1}).Table.table.Fingerprint())

	for n := range record {
		require.ErrorIs(t, back.Restore(record[:n], source, "d"), checkpoint.ErrBroken)
	}
	damaged := []byte(strings.Replace(string(record), "numeric", "nuneric", 1))
	require.ErrorIs(t, back.Restore(damaged, source, "d"), checkpoint.ErrBroken)
	require.ErrorContains(t, back.Restore(damaged, source, "d"), "reset-schema")
	other := []byte(`{"version":2,"kind":"postgresql"}`)
	require.ErrorIs(t, back.Restore(checksummed(other), source, "d"), checkpoint.ErrIncompatible)
}
