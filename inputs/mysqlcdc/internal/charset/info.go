package charset

import "strings"

// Of returns the character set of a collation, which is named after it, under the name that servers give it today.
func Of(collation string) string {
	name, _, _ := strings.Cut(collation, "_")
	if name == "utf8" {
		return "utf8mb3"
	}
	return name
}

// Info is what a server says about its collations and charsets.
type Info struct {
	Collations map[uint64]string // collation id to charset
	ByID       map[uint64]string // collation id to collation
	Names      map[string]string // collation to charset
	Defaults   map[string]string // charset to its default collation
	Widths     map[string]int    // charset to the greatest number of bytes a character takes
}
