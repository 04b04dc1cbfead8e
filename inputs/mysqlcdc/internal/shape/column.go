package shape

import (
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
)

// Column is a column as information_schema shows it.
type Column struct {
	Name string `json:"n"`
	// Type is COLUMN_TYPE.
	Type string `json:"t"`
	// Collation is COLLATION_NAME; empty for a column that is not text.
	Collation string `json:"c,omitempty"`
	Nullable  bool   `json:"z,omitempty"`
	// Unsure says that labels come from the catalogue, where "?" can stand for a character that it does not show.
	Unsure bool `json:"u,omitempty"`
	// Default is the value of DEFAULT, where that is a literal of a type whose text says what it is.
	Default *string `json:"d,omitempty"`
}

// DataType is DATA_TYPE: the type without its arguments.
func (c Column) DataType() string { return LeadingName(c.Type) }

// LeadingName returns what a type begins with, without arguments and attributes.
func LeadingName(s string) string {
	end := strings.IndexAny(s, " (")
	if end < 0 {
		return s
	}
	return s[:end]
}

// Charset is CHARACTER_SET_NAME. A collation is named after its charset.
func (c Column) Charset() string { return charset.Of(c.Collation) }

// HasUnsureLabels reports whether labels that the catalogue shows may be others: it has those of character sets with characters beyond
// U+FFFF in one that lacks them.
func (c Column) HasUnsureLabels() bool {
	switch c.DataType() {
	case "enum", "set":
	default:
		return false
	}
	switch c.Charset() {
	case "utf8mb4", "utf16", "utf16le", "utf32", "gb18030":
		return strings.Contains(c.Type, "?")
	default:
		return false
	}
}

// HasPlainDefault reports whether the text of a default is that of the value: not for bytes, nor for a TIMESTAMP, whose text depends on the
// session's time zone.
func (c Column) HasPlainDefault() bool {
	switch c.DataType() {
	case "bit", "binary", "varbinary", "timestamp", "geometry", "point", "vector":
		return false
	}
	return true
}
