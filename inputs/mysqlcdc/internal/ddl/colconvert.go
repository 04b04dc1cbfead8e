package ddl

import (
	"strings"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
)

// converted returns a column after CONVERT TO CHARACTER SET.
func (r *typeRules) converted(c shape.Column, collation string) shape.Column {
	if c.Collation == "" {
		return c
	}
	from, to := max(r.charsets.Widths[c.Charset()], 1), max(r.charsets.Widths[charset.Of(collation)], 1)
	characters := collation != bytesCollation
	name, rest := shape.LeadingName(c.Type), strings.TrimPrefix(c.Type, shape.LeadingName(c.Type))
	switch name {
	case "char", "varchar":
		n := shape.TypeArguments(c.Type)
		if !characters {
			c.Type = strings.Replace(name, "char", "binary", 1) + rest
		} else if len(n) == 1 && n[0]*to > 65535 {
			c.Type = blobName(blobSize(n[0]*to), true)
		}
	case "tinytext", "text", "mediumtext", "longtext":
		size := map[string]int{"tinytext": 1, "text": 2, "mediumtext": 3, "longtext": 4}[name]
		bytes := (1<<(8*size) - 1) / from * to // as many characters as before
		c.Type = blobName(min(blobSize(bytes), 4), characters) + rest
	}
	c.Collation = collation
	switch {
	case name == "enum" || name == "set":
		c.Collation = r.labelsCollation(collation)
	case !characters:
		c.Collation = ""
	}
	return c
}

// convertedAnew returns a column that a statement both defines anew and converts. MySQL then makes a BLOB or TEXT, unless it has
// a length, of the size that the old column's value takes, whatever the statement says: MODIFY c MEDIUMTEXT, CONVERT TO … turns
// an INT into a TINYTEXT (MySQL source, prepare_blob_field). It counts the old column's characters, and divides them by the bytes
// that one takes at most.
func (r *typeRules) convertedAnew(c shape.Column, t typeSpec, old shape.Column) shape.Column {
	name := shape.LeadingName(c.Type)
	switch name {
	case "tinytext", "text", "mediumtext", "tinyblob", "blob", "mediumblob":
	default:
		return c
	}
	width := func(c shape.Column) int {
		if c.Collation == "" {
			return 1
		}
		return max(r.charsets.Widths[c.Charset()], 1)
	}
	n := t.arg(0, 0)
	if n == 0 {
		n = displayWidth(old.Type) / width(old)
	}
	c.Type = blobName(blobSize(n*width(c)), strings.HasSuffix(name, "text"))
	return c
}

// displayWidth is how long MySQL takes the values of a type to be: bytes of a BLOB, TEXT or VECTOR, else characters. It has
// forgotten that of an integer in its type unless it fills up with zeros: for one of more than 63 digits, such as INT(64), and
// only then, this is too short.
func displayWidth(typ string) int {
	n := shape.TypeArguments(typ)
	switch name := shape.LeadingName(typ); name {
	case "tinytext", "tinyblob":
		return 1<<8 - 1
	case "text", "blob":
		return 1<<16 - 1
	case "mediumtext", "mediumblob":
		return 1<<24 - 1
	case "longtext", "longblob", "json",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "geometrycollection":
		return 1<<32 - 1
	case "enum", "set":
		return labelsWidth(typ, name == "set")
	case "decimal":
		if len(n) == 2 {
			return n[0] + b2i(n[1] > 0) + b2i(!strings.Contains(typ, "unsigned"))
		}
	case "vector":
		if len(n) == 1 {
			return 4 * n[0]
		}
	case "date", "time", "datetime", "timestamp", "year": // the number is that of the fraction's digits
	default:
		if len(n) > 0 {
			return n[0]
		}
	}
	return 26 // a date with a time of six digits; the others are shorter, and as short as each other here
}

// labelsWidth is how many characters the longest label of an ENUM has, or all labels of a SET with commas between them.
func labelsWidth(typ string, all bool) int {
	labels, _ := shape.ParseLabels(typ) // the type is as the server or labelsOf has written it
	longest, sum := 0, max(len(labels)-1, 0)
	for _, l := range labels {
		n := utf8.RuneCount(l)
		longest, sum = max(longest, n), sum+n
	}
	if all {
		return sum
	}
	return longest
}
