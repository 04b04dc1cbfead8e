package confluent

import (
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Valid makes a name that the languages of schemas allow: each character but A-Z, a-z, 0-9 and _ becomes _, and a digit at the start gets a _ before it.
func Valid(name string) string {
	var b strings.Builder
	for i, r := range name {
		switch {
		case r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '_':
			b.WriteRune(r)
		case r >= '0' && r <= '9':
			if i == 0 {
				b.WriteByte('_')
			}
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}

// Unique makes valid names of all. A name that is valid stays as it is; one that is made and there already gets _2, _3 and so on.
func Unique(names []string) []string {
	out := make([]string, len(names))
	taken := map[string]bool{}
	for _, n := range names {
		if Valid(n) == n {
			taken[n] = true
		}
	}
	for i, n := range names {
		v := Valid(n)
		if v != n {
			for k := 2; taken[v]; k++ {
				v = Valid(n) + "_" + strconv.Itoa(k)
			}
			taken[v] = true
		}
		out[i] = v
	}
	return out
}

// NamesOf returns the names of the columns of a table in a schema.
func NamesOf(t *change.Table) []string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return Unique(names)
}

// Namespace makes a namespace of a topic.
func Namespace(topic string) string {
	parts := strings.Split(topic, ".")
	for i, p := range parts {
		parts[i] = Valid(p)
	}
	return strings.Join(parts, ".")
}
