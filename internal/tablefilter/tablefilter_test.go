package tablefilter

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, container, table string
		want                      bool
	}{
		{"a.b", "a", "b", true},
		{"a.b", "A", "b", false},
		{"a.*", "a", "anything", true},
		{"*.b", "x", "b", true},
		{"%.b", "x", "bb", false},
		{"a.pre%", "a", "pre", true},
		{"a.pre%", "a", "xpre", false},
		{"a.%mid%end", "a", "a mid and the end", true},
		{"a.%mid%end", "a", "end mid", false},
		{"a.p%p", "a", "p", false},
	} {
		p, ok := Parse(c.pattern)
		assert.True(t, ok)
		assert.Equal(t, c.want, p.Match(c.container, c.table), c)
		assert.Equal(t, c.pattern, p.String())
	}
	for _, bad := range []string{"", "a", ".b", "a.", "."} {
		_, ok := Parse(bad)
		assert.False(t, ok, bad)
	}
}

func TestFilter(t *testing.T) {
	parse := func(texts ...string) (patterns []Pattern) {
		for _, text := range texts {
			p, _ := Parse(text)
			patterns = append(patterns, p)
		}
		return patterns
	}
	system := func(container string) bool { return container == "sys" }
	for name, c := range map[string]struct {
		f      Filter
		yes    []string
		no     []string
		within []string // containers of which tables may be captured
	}{
		"everything": {Filter{System: system}, []string{"a.b"}, []string{"sys.b"}, []string{"a", "shop"}},
		"some":       {Filter{Include: parse("a.*"), Exclude: parse("%.b")}, []string{"a.c"}, []string{"a.b", "b.c"}, []string{"a"}},
		"by pattern, never the server's own": {
			Filter{Include: parse("%.b"), System: system, SystemNamed: true}, []string{"a.b"}, []string{"sys.b"}, []string{"a", "shop"},
		},
		"the server's own, by name": {Filter{Include: parse("sys.b"), System: system, SystemNamed: true}, []string{"sys.b"}, []string{"a.b"}, []string{"sys"}},
		"without case":              {Filter{Include: parse("Shop.Orders"), Fold: true}, []string{"shop.orders", "SHOP.ORDERS"}, []string{"shop.x"}, []string{"shop"}},
	} {
		match := func(table string) bool { p, _ := Parse(table); return c.f.Match(p.Container, p.Table) }
		for _, table := range c.yes {
			assert.True(t, match(table), "%s: %s", name, table)
		}
		for _, table := range c.no {
			assert.False(t, match(table), "%s: %s", name, table)
		}
		for _, container := range []string{"a", "sys", "shop"} {
			assert.Equal(t, slices.Contains(c.within, container), c.f.MatchIn(container), "%s: %s", name, container)
		}
	}
}
