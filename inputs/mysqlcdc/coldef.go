package mysqlcdc

import "strings"

// columnDef is a column as information_schema shows it.
type columnDef struct {
	Name string `json:"n"`
	// Type is COLUMN_TYPE.
	Type string `json:"t"`
	// Collation is COLLATION_NAME; empty for a column that is not text.
	Collation string `json:"c,omitempty"`
	Nullable  bool   `json:"z,omitempty"`
	// Unsure says that labels come from the catalogue, where "?" can stand for a character that it does not show.
	Unsure bool `json:"u,omitempty"`
}

// dataType is DATA_TYPE: the type without its arguments.
func (c columnDef) dataType() string { return leadingName(c.Type) }

func leadingName(s string) string {
	end := strings.IndexAny(s, " (")
	if end < 0 {
		return s
	}
	return s[:end]
}

// charset is CHARACTER_SET_NAME. A collation is named after its charset.
func (c columnDef) charset() string { return charsetOf(c.Collation) }

// hasUnsureLabels reports whether labels that the catalogue shows may be others: it has those of character sets with characters beyond
// U+FFFF in one that lacks them.
func (c columnDef) hasUnsureLabels() bool {
	switch c.dataType() {
	case "enum", "set":
	default:
		return false
	}
	switch c.charset() {
	case "utf8mb4", "utf16", "utf16le", "utf32", "gb18030":
		return strings.Contains(c.Type, "?")
	default:
		return false
	}
}
