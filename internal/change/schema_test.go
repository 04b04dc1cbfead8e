package change

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/schema"
	"github.com/stretchr/testify/require"
)

func decimalSchema(precision, scale int32) schema.Common {
	return schema.Common{
		Type: schema.Decimal, Logical: &schema.LogicalParams{Decimal: &schema.DecimalParams{Precision: precision, Scale: scale}},
	}
}

func timestampSchema(unit schema.TimeUnit) schema.Common {
	return schema.Common{
		Type: schema.Timestamp, Logical: &schema.LogicalParams{Timestamp: &schema.TimestampParams{Unit: unit, AdjustToUTC: true}},
	}
}

func TestCommonSchema(t *testing.T) {
	object := func(children ...schema.Common) schema.Common {
		return schema.Common{Type: schema.Object, Children: children}
	}
	cases := []struct {
		column Column
		want   schema.Common
	}{
		{Column{Logical: LogicalText}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalText, Nullable: true}, schema.Common{Type: schema.String, Optional: true}},
		{Column{Logical: LogicalBool}, schema.Common{Type: schema.Boolean}},
		{Column{Logical: LogicalInt32}, schema.Common{Type: schema.Int32}},
		{Column{Logical: LogicalUint32}, schema.Common{Type: schema.Int64}},
		{Column{Logical: LogicalInt64}, schema.Common{Type: schema.Int64}},
		{Column{Logical: LogicalInt64, Quoted: true}, decimalSchema(19, 0)},
		{Column{Logical: LogicalUint64}, decimalSchema(20, 0)},
		{Column{Logical: LogicalUint64, Quoted: true}, decimalSchema(20, 0)},
		{Column{Logical: LogicalFloat32}, schema.Common{Type: schema.Float32}},
		{Column{Logical: LogicalFloat64}, schema.Common{Type: schema.Float64}},
		{Column{Logical: LogicalDecimal, Precision: 10, Scale: 2}, decimalSchema(10, 2)},
		{Column{Logical: LogicalDecimal, Precision: 38, Scale: 38}, decimalSchema(38, 38)},
		{Column{Logical: LogicalDecimal, Precision: 65, Scale: 30}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalDecimal}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalDecimal, Precision: 3, Scale: -2}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalDecimal, Precision: 3, Scale: 5}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalBytes}, object(schema.Common{Name: "_base64", Type: schema.String})},
		{Column{Logical: LogicalJSON}, schema.Common{Type: schema.Any}},
		{Column{Logical: LogicalDate}, schema.Common{Type: schema.Date}},
		{Column{Logical: LogicalTime, Scale: 6}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalDateTime, Scale: 6}, schema.Common{Type: schema.String}},
		{Column{Logical: LogicalTimestamp}, timestampSchema(schema.TimeUnitMillis)},
		{Column{Logical: LogicalTimestamp, Scale: 3}, timestampSchema(schema.TimeUnitMillis)},
		{Column{Logical: LogicalTimestamp, Scale: 4}, timestampSchema(schema.TimeUnitMicros)},
		{Column{Logical: LogicalUUID}, schema.Common{Type: schema.UUID}},
		{Column{Logical: LogicalGeometry}, object(schema.Common{Name: "wkb", Type: schema.String}, schema.Common{Name: "srid", Type: schema.Int64})},
		{
			Column{Logical: LogicalObject, Parts: []Column{{Name: "n", Logical: LogicalInt32, Nullable: true}, {Name: "t"}}},
			object(schema.Common{Name: "n", Type: schema.Int32, Optional: true}, schema.Common{Name: "t", Type: schema.String}),
		},
		{
			Column{Logical: LogicalArray, Parts: []Column{{Logical: LogicalInt32, Nullable: true}}},
			schema.Common{Type: schema.Array, Children: []schema.Common{{Type: schema.Int32, Optional: true}}},
		},
		{
			Column{Logical: LogicalMap, Parts: []Column{{Nullable: true}}},
			schema.Common{Type: schema.Map, Children: []schema.Common{{Type: schema.String, Optional: true}}},
		},
		{
			Column{Logical: LogicalArray, Parts: []Column{{Logical: LogicalObject, Parts: []Column{{Name: "n", Logical: LogicalInt64}}}}},
			schema.Common{Type: schema.Array, Children: []schema.Common{
				{Name: "c", Type: schema.Object, Children: []schema.Common{{Name: "n", Type: schema.Int64}}},
			}},
		},
	}
	table := &Table{Source: &Source{Connector: "mysql", Name: "s"}, Database: "shop", Name: "orders"}
	want := schema.Common{Name: "orders", Type: schema.Object}
	for i := range cases {
		cases[i].column.Name, cases[i].want.Name = "c", "c"
		table.Columns = append(table.Columns, cases[i].column)
		want.Children = append(want.Children, cases[i].want)
	}
	got, err := schema.ParseFromAny(table.CommonSchema())
	require.NoError(t, err)
	require.NoError(t, got.Validate())
	require.Equal(t, want, got)
	again, err := schema.ParseFromAny(got.ToAny())
	require.NoError(t, err)
	require.Equal(t, got, again)
	for l := range LogicalGeometry + 1 {
		found := false
		for _, c := range cases {
			found = found || c.column.Logical == l
		}
		require.True(t, found, "logical type %d has no case", l)
	}
}

// TestFingerprint: everything that makes another shape makes another fingerprint.
func TestFingerprint(t *testing.T) {
	of := func(c Column, key ...int) string {
		return (&Table{Source: &Source{Connector: "postgresql"}, Database: "d", Schema: "s", Name: "t", Columns: []Column{c}, Key: key}).Fingerprint()
	}
	seen := map[string]bool{}
	prints := []string{
		of(Column{Name: "a", Type: "x"}),
		of(Column{Name: "a", Type: "x"}, 0),
		of(Column{Name: "b", Type: "x"}),
		of(Column{Name: "a", Type: "y"}),
		of(Column{Name: "a", Type: "x", Logical: LogicalUUID}),
		of(Column{Name: "a", Type: "x", Nullable: true}),
		of(Column{Name: "a", Type: "x", Precision: 1}),
		of(Column{Name: "a", Type: "x", Scale: 1}),
		of(Column{Name: "a", Type: "x", Quoted: true}),
		of(Column{Name: "a", Type: "x", Parts: []Column{{Name: "b"}}}),
		of(Column{Name: "a", Type: "x", Parts: []Column{{Name: "b", Parts: []Column{{Name: "c"}}}}}),
		of(Column{Name: "a", Type: "x", Parts: []Column{{Name: "b"}, {Name: "c"}}}),
	}
	for i, p := range prints {
		require.Regexp(t, "^[0-9a-f]{16}$", p)
		require.False(t, seen[p], "shape %d has the fingerprint of another", i)
		seen[p] = true
	}
	require.Equal(t, prints[0], of(Column{Name: "a", Type: "x"}))
}

// Consumers keep fingerprints, so they may not change from one version of DeltaForge to the next.
func TestFingerprintIsLasting(t *testing.T) {
	table := &Table{
		Source: &Source{Connector: "mysql", Name: "any"}, Database: "sh\"op", Name: "ord\u00e9rs", Key: []int{1, 0},
		Columns: []Column{
			{Name: "id", Type: "bigint unsigned", Logical: LogicalUint64, Quoted: true},
			{Name: "x", Type: "numeric(10,2)[]", Logical: LogicalArray, Nullable: true, Parts: []Column{{Logical: LogicalDecimal, Precision: 10, Scale: 2}}},
			{Name: "n", Type: "text", Precision: -1},
		},
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q\n", "mysql", "sh\"op", "", "ord\u00e9rs")
	fmt.Fprintf(h, "%q %q %d %t %d %d\n%t %d\n", "id", "bigint unsigned", LogicalUint64, false, 0, 0, true, 0)
	fmt.Fprintf(h, "%q %q %d %t %d %d\n%t %d\n", "x", "numeric(10,2)[]", LogicalArray, true, 0, 0, false, 1)
	fmt.Fprintf(h, "%q %q %d %t %d %d\n", "", "", LogicalDecimal, false, 10, 2)
	fmt.Fprintf(h, "%q %q %d %t %d %d\n", "n", "text", LogicalText, false, -1, 0)
	fmt.Fprintf(h, "%v\n", []int{1, 0})
	require.Equal(t, fmt.Sprintf("%x", h.Sum(nil)[:8]), table.Fingerprint())
}
