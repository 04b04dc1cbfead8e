package typematrix

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/schema"
	"github.com/stretchr/testify/require"
)

func TestConforms(t *testing.T) {
	leaf := func(typ schema.CommonType) schema.Common { return schema.Common{Name: "c", Type: typ} }
	decimal := leaf(schema.Decimal)
	decimal.Logical = &schema.LogicalParams{Decimal: &schema.DecimalParams{Precision: 20}}
	list, dict, object := leaf(schema.Array), leaf(schema.Map), leaf(schema.Object)
	list.Children = []schema.Common{{Type: schema.Int32, Optional: true}}
	dict.Children = []schema.Common{{Type: schema.String}}
	object.Children = []schema.Common{{Name: "a", Type: schema.String}, {Name: "b", Type: schema.String, Optional: true}}
	for _, c := range []struct {
		schema    schema.Common
		good, bad []string
	}{
		{leaf(schema.Boolean), []string{`true`}, []string{`1`, `null`}},
		{leaf(schema.Int32), []string{`-2147483648`}, []string{`2147483648`, `1.5`, `"1"`}},
		{leaf(schema.Int64), []string{`9223372036854775807`}, []string{`9223372036854775808`, `"1"`}},
		{leaf(schema.Float32), []string{`1.5`}, []string{`"NaN"`}},
		{decimal, []string{`18446744073709551615`, `"-1"`}, []string{`"1.5"`, `"NaN"`, `true`}},
		{leaf(schema.Timestamp), []string{`"2024-02-29T01:02:03Z"`}, []string{`"2024-02-29 01:02:03"`, `5`}},
		{leaf(schema.Date), []string{`"2024-02-29"`}, []string{`"0000-00-00"`}},
		{leaf(schema.UUID), []string{`"3e11fa47-71ca-11e1-9e33-c80aa9429562"`}, []string{`"x"`}},
		{leaf(schema.String), []string{`""`}, []string{`1`, `null`}},
		{leaf(schema.Any), []string{`{"a":[1]}`, `1`}, []string{`null`}},
		{leaf(schema.ByteArray), nil, []string{`"x"`}},
		{list, []string{`[]`, `[1,null]`}, []string{`[1,"x"]`, `{}`, `1`}},
		{dict, []string{`{}`, `{"a":"b"}`}, []string{`{"a":null}`, `[]`}},
		{object, []string{`{"a":"x"}`, `{"a":"x","b":null}`}, []string{`{}`, `{"a":"x","c":1}`, `[]`}},
	} {
		for i, text := range append(c.good, c.bad...) {
			d := json.NewDecoder(bytes.NewReader([]byte(text)))
			d.UseNumber()
			var v any
			require.NoError(t, d.Decode(&v))
			if i < len(c.good) {
				require.NoError(t, Conforms(c.schema, v))
			} else {
				require.Error(t, Conforms(c.schema, v), "%s as %s", text, c.schema.Type)
			}
		}
	}
}

func TestRead(t *testing.T) {
	good := schema.Common{Name: "t", Type: schema.Object, Children: []schema.Common{
		{Name: "d", Type: schema.Decimal, Optional: true, Logical: &schema.LogicalParams{Decimal: &schema.DecimalParams{Precision: 38, Scale: 2}}},
		{Name: "m", Type: schema.Map, Children: []schema.Common{{Type: schema.String}}},
	}}
	got, err := Read(good.ToAny())
	require.NoError(t, err)
	require.Equal(t, good, got)
	_, err = Read(map[string]any{"name": "t", "type": "NONSENSE"})
	require.Error(t, err)
	_, err = Read("t")
	require.Error(t, err)
	bad := good
	bad.Children = []schema.Common{{Name: "d", Type: schema.Decimal}}
	_, err = Read(bad.ToAny())
	require.Error(t, err, "a decimal without its digits")
}
