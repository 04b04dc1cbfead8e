package coordinator

import "strings"

// MatchName reports whether a name matches one half of a table pattern, in which % stands for any characters. An input
// turns a half that is * alone into % before.
func MatchName(pattern, name string) bool {
	parts := strings.Split(pattern, "%")
	first, rest := parts[0], parts[1:]
	if len(rest) == 0 {
		return name == first
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for _, part := range rest[:len(rest)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return strings.HasSuffix(name, rest[len(rest)-1])
}
