package filter

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTableFilter(t *testing.T) {
	for _, c := range []struct {
		include, exclude []string
		fold             bool
		db, table        string
		want             bool
	}{
		{nil, nil, false, "shop", "a", true},
		{nil, nil, false, "mysql", "user", false},
		{[]string{"%.user"}, nil, false, "mysql", "user", false},
		{[]string{"mysql.user"}, nil, false, "mysql", "user", true},
		{[]string{"shop.a"}, nil, false, "shop", "A", false},
		{[]string{"Shop.A"}, nil, true, "shop", "a", true},
		{[]string{"shop.a%"}, nil, false, "shop", "abc", true},
		{[]string{"shop.a%c"}, nil, false, "shop", "ac", true},
		{[]string{"shop.a%c"}, nil, false, "shop", "abd", false},
		{[]string{"shop.a%a"}, nil, false, "shop", "a", false},
		{[]string{"shop.*"}, []string{"shop.tmp%", "%.x"}, false, "shop", "tmp_1", false},
		{[]string{"shop.*"}, []string{"shop.tmp%", "%.x"}, false, "shop", "x", false},
		{[]string{"shop.*"}, []string{"shop.tmp%", "%.x"}, false, "shop", "y", true},
		{[]string{"shop.*"}, nil, false, "other", "y", false},
	} {
		f, err := New(c.include, c.exclude)
		require.NoError(t, err)
		f.Fold = c.fold
		require.Equal(t, c.want, f.Match(c.db, c.table), "%+v", c)
	}
}

func TestParseWithheld(t *testing.T) {
	for _, c := range []struct {
		do, ignore string
		has        []string
	}{{"", "", nil}, {"", "a,b", []string{"a", "b"}}, {"a,c", "", []string{"b"}}} {
		w := ParseWithheld(c.do, c.ignore)
		var has []string
		for _, db := range []string{"a", "b", "c"} {
			if w.Has(db) {
				has = append(has, db)
			}
		}
		require.Equal(t, c.has, has, "%v", w)
	}
}
