package mysqlcdc

import "strings"

func charsetOf(collation string) string {
	name, _, _ := strings.Cut(collation, "_")
	if name == "utf8" {
		return "utf8mb3"
	}
	return name
}

// charsetInfo is what a server says about its collations and charsets.
type charsetInfo struct {
	collations map[uint64]string // collation id to charset
	byID       map[uint64]string // collation id to collation
	names      map[string]string // collation to charset
	defaults   map[string]string // charset to its default collation
	widths     map[string]int    // charset to the greatest number of bytes a character takes
}
