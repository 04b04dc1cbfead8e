package publication

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func filter(t *testing.T, include, exclude string) *Filter {
	t.Helper()
	var f Filter
	var err error
	f.Include, err = ParsePatterns("tables.include", strings.Fields(include))
	require.NoError(t, err)
	f.Exclude, err = ParsePatterns("tables.exclude", strings.Fields(exclude))
	require.NoError(t, err)
	return &f
}

func TestTablePatterns(t *testing.T) {
	for _, c := range []struct {
		include, exclude string
		yes, no          string
	}{
		{"", "", "public.a x.y", "pg_catalog.pg_class information_schema.tables pg_toast.t"},
		{"public.a", "", "public.a", "public.b x.a public.ab"},
		{"public.*", "", "public.a", "x.a pg_catalog.pg_class"},
		{"public.event_%", "", "public.event_ public.event_1", "public.events x.event_1"},
		{"%.audit", "", "a.audit b.audit", "a.audits"},
		{"*.*", "public.a", "public.b", "public.a"},
		{"%.%_log_%", "", "a.x_log_y", "a.log a.x_log"},
		{"public.a%a", "", "public.aa public.aba", "public.a"},
		{"", "%.tmp%", "public.a", "public.tmp_1"},
	} {
		f := filter(t, c.include, c.exclude)
		for want, list := range map[bool]string{true: c.yes, false: c.no} {
			for name := range strings.FieldsSeq(list) {
				schema, table, _ := strings.Cut(name, ".")
				assert.Equal(t, want, f.Match(schema, table), "%q without %q: %s", c.include, c.exclude, name)
			}
		}
	}
	for _, bad := range []string{"orders", ".orders", "public."} {
		_, err := ParsePatterns("tables.include", []string{bad})
		require.ErrorContains(t, err, "tables.include: want schema.table")
		require.ErrorContains(t, err, bad)
	}
}

func TestChoose(t *testing.T) {
	all := []Table{
		{Name: Name{"public", "root"}, OID: 1},
		{Name: Name{"public", "root_1"}, OID: 2, Ancestors: []uint32{1}},
		{Name: Name{"public", "root_1_a"}, OID: 3, Ancestors: []uint32{2, 1}},
	}
	for include, want := range map[string]string{"": "root", "public.root_%": "root_1", "public.root_1_a": "root_1_a", "x.*": ""} {
		var got []string
		for _, n := range names(filter(t, include, "").Choose(all)) {
			got = append(got, n.Table)
		}
		require.Equal(t, want, strings.Join(got, " "), include)
	}
}

// TestUnmatched names each pattern that captures nothing, and what is wrong with it.
func TestUnmatched(t *testing.T) {
	tables := []Table{{Name: Name{"public", "orders"}}, {Name: Name{"public", "tmp"}}}
	f := filter(t, "public.orders public.ord% public.order_* public.gone shop.* public.x% public.tmp pg_catalog.pg_class", "%.tmp")
	require.Equal(t, []string{
		"public.order_*: no table matches: inside of a name, % stands for any characters, and * for itself: write public.order_%",
		"there is no table public.gone: correct its name, or make it",
		"shop.*: no table matches: correct the pattern, or make a table",
		"public.x%: no table matches: correct the pattern, or make a table",
		"public.tmp: every table that matches is left out by tables.exclude",
		"pg_catalog.pg_class: tables of the schema pg_catalog are never captured",
	}, f.Unmatched(tables))
	require.Empty(t, filter(t, "", "").Unmatched(nil))
}

func TestWhole(t *testing.T) {
	for _, c := range []struct {
		include, exclude string
		everything       bool
		schemas          []string
	}{
		{"", "", true, nil},
		{"*.*", "", true, nil},
		{"public.a %.%", "", true, nil},
		{"", "public.a", false, nil},
		{"public.* x.a", "", false, []string{"public"}},
		{"public.* shop.%", "", false, []string{"public", "shop"}},
		{"s%.* public.a%", "", false, nil},
		{"public.*", "public.a", false, nil},
	} {
		everything, schemas := filter(t, c.include, c.exclude).whole()
		require.Equal(t, c.everything, everything, c.include)
		require.Equal(t, c.schemas, schemas, c.include)
	}
}

func TestQuoting(t *testing.T) {
	require.Equal(t, `"a""b"."c.d"`, Name{`a"b`, "c.d"}.SQL())
	require.Equal(t, `'it''s'`, Literal("it's"))
}
