package ddl

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// typeRules turn a type as written into the one that the server makes of it.
type typeRules struct {
	statement.Dialect
	charsets charset.Info
	// defaultUTF8MB4 is the session's default collation of utf8mb4; empty for the server's.
	defaultUTF8MB4 string
	realAsFloat    bool
	// oracle: names mean what they mean to Oracle (MariaDB's sql_mode=ORACLE).
	oracle bool
	// implicitTimestamp: TIMESTAMP columns are NOT NULL unless they say NULL (explicit_defaults_for_timestamp=OFF).
	implicitTimestamp bool
}

// widths reports whether the server shows the display widths of integers.
func (r *typeRules) widths() bool { return r.Flavor == product.MariaDB || r.Version < 80019 }

// column returns the column that the server makes of a definition in a table with the collation.
func (r *typeRules) column(name string, t typeSpec, tableCollation string) (shape.Column, error) {
	c := shape.Column{Name: name, Nullable: t.null != saysNotNull}
	var err error
	c.Type, c.Collation, err = r.resolve(t, tableCollation)
	if err != nil {
		return c, fmt.Errorf("column %s: %w", name, err)
	}
	if t.name == "SERIAL" || t.name == "TIMESTAMP" && r.implicitTimestamp && t.null != saysNull {
		c.Nullable = false
	}
	if c.HasPlainDefault() {
		c.Default = t.literal
	}
	return c, nil
}

func (r *typeRules) resolve(t typeSpec, tableCollation string) (columnType, collation string, err error) {
	if r.oracle {
		t.name = oracleType(t)
	}
	if text, ok := r.number(t); ok {
		return text, "", nil
	}
	if text, ok := r.plain(t); ok {
		return text, "", nil
	}
	switch t.name {
	case "ENUM", "SET":
		if collation, err = r.collation(t, tableCollation); err != nil {
			return "", "", err
		}
		labels := labelsOf(t.args, collation != bytesCollation)
		return strings.ToLower(t.name) + "(" + labels + ")", r.labelsCollation(collation), nil
	case "JSON": // MariaDB's is a text
		return "longtext", "utf8mb4_bin", nil
	}
	return r.text(t, tableCollation)
}

// bytesCollation is the collation of bytes.
const bytesCollation = "binary"

// labelsCollation is the collation that an ENUM or SET is shown with: MySQL shows none when its labels are bytes.
func (r *typeRules) labelsCollation(collation string) string {
	if collation == bytesCollation && r.Flavor == product.MySQL {
		return ""
	}
	return collation
}

// oracleType is the name of what MariaDB makes of a type under sql_mode=ORACLE (MariaDB source, sql_yacc.yy).
func oracleType(t typeSpec) string {
	switch t.name {
	case "VARCHAR2":
		return "VARCHAR"
	case "NUMBER":
		if len(t.args) == 0 {
			return "DOUBLE"
		}
		return "DECIMAL"
	case "CLOB":
		return "LONGTEXT"
	case "BLOB":
		if len(t.args) == 0 {
			return "LONGBLOB"
		}
	case "RAW":
		return "VARBINARY"
	case "DATE":
		return "DATETIME"
	}
	return t.name
}

func (t typeSpec) arg(i, otherwise int) int {
	if i >= len(t.args) {
		return otherwise
	}
	n, err := strconv.Atoi(t.args[i].Text)
	if err != nil {
		return otherwise
	}
	return n
}

// number returns the numeric types.
func (r *typeRules) number(t typeSpec) (string, bool) {
	suffix := ""
	if t.unsigned {
		suffix = " unsigned"
	}
	if t.zerofill {
		suffix += " zerofill"
	}
	switch t.name {
	case "BOOL", "BOOLEAN":
		t.name, t.args = "TINYINT", []statement.Token{{Kind: statement.Number, Text: "1"}}
		return r.integer("tinyint", 4, t) + suffix, true
	case "TINYINT", "INT1":
		return r.integer("tinyint", 4, t) + suffix, true
	case "SMALLINT", "INT2":
		return r.integer("smallint", 6, t) + suffix, true
	case "MEDIUMINT", "MIDDLEINT", "INT3":
		return r.integer("mediumint", 9, t) + suffix, true
	case "INT", "INTEGER", "INT4":
		return r.integer("int", 11, t) + suffix, true
	case "BIGINT", "INT8":
		return r.integer("bigint", 20, t) + suffix, true
	case "SERIAL":
		t.unsigned = true
		return r.integer("bigint", 20, t) + " unsigned", true
	case "DECIMAL", "DEC", "NUMERIC", "FIXED":
		p := t.arg(0, 10)
		if p == 0 {
			p = 10
		}
		return fmt.Sprintf("decimal(%d,%d)%s", p, t.arg(1, 0), suffix), true
	case "FLOAT", "FLOAT4", "REAL", "DOUBLE", "DOUBLE PRECISION", "FLOAT8":
		return r.floating(t) + suffix, true
	case "BIT":
		return fmt.Sprintf("bit(%d)", t.arg(0, 1)), true
	default:
		return "", false
	}
}

func (r *typeRules) floating(t typeSpec) string {
	name := "double"
	switch t.name {
	case "FLOAT":
		if len(t.args) != 1 || t.arg(0, 0) <= 24 {
			name = "float"
		}
	case "FLOAT4":
		name = "float"
	case "REAL":
		if r.realAsFloat {
			name = "float"
		}
	}
	if len(t.args) == 2 {
		return fmt.Sprintf("%s(%d,%d)", name, t.arg(0, 0), t.arg(1, 0))
	}
	return name
}

// integer returns an integer type; width is the one of the signed type.
func (r *typeRules) integer(name string, width int, t typeSpec) string {
	if t.unsigned && name != "bigint" {
		width--
	}
	if n := t.arg(0, 0); n > 0 {
		width = n
	}
	if r.widths() || t.zerofill || name == "tinyint" && !t.unsigned && t.arg(0, 0) == 1 {
		return fmt.Sprintf("%s(%d)", name, width)
	}
	return name
}

// plain returns the types that are neither numbers nor text.
func (r *typeRules) plain(t typeSpec) (string, bool) {
	switch t.name {
	case "DATE":
		return "date", true
	case "TIME", "DATETIME", "TIMESTAMP":
		name := strings.ToLower(t.name)
		if n := t.arg(0, 0); n > 0 {
			name += "(" + strconv.Itoa(n) + ")"
		}
		return name, true
	case "YEAR":
		if r.widths() {
			if r.Flavor == product.MariaDB && t.arg(0, 4) == 2 {
				return "year(2)", true
			}
			return "year(4)", true
		}
		return "year", true
	case "JSON":
		return "json", r.Flavor == product.MySQL
	case "GEOMETRY", "POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON":
		return strings.ToLower(t.name), true
	case "GEOMETRYCOLLECTION", "GEOMCOLLECTION":
		if r.Flavor == product.MariaDB || r.Version < 80000 {
			return "geometrycollection", true
		}
		return "geomcollection", true
	case "UUID", "INET4", "INET6":
		return strings.ToLower(t.name), r.Flavor == product.MariaDB
	case "VECTOR":
		return fmt.Sprintf("vector(%d)", t.arg(0, 2048)), true
	default:
		return "", false
	}
}

// text returns the types of characters and bytes.
func (r *typeRules) text(t typeSpec, tableCollation string) (columnType, collation string, err error) {
	switch t.name {
	case "NCHAR", "NATIONAL CHAR", "NATIONAL CHARACTER":
		t.name, t.charset = "CHAR", "utf8mb3"
	case "NCHAR VARCHAR", "NCHAR VARYING", "NCHAR VARCHARACTER", "NVARCHAR", "NATIONAL VARCHAR", "NATIONAL VARCHARACTER",
		"NATIONAL CHAR VARYING", "NATIONAL CHARACTER VARYING":
		t.name, t.charset = "VARCHAR", "utf8mb3"
	case "CHARACTER":
		t.name = "CHAR"
	case "CHAR VARYING", "CHARACTER VARYING", "VARCHARACTER":
		t.name = "VARCHAR"
	case "LONG", "LONG VARCHAR", "LONG VARCHARACTER", "LONG CHAR VARYING", "LONG CHARACTER VARYING":
		t.name = "MEDIUMTEXT"
	case "LONG VARBINARY":
		t.name = "MEDIUMBLOB"
	case "BINARY":
		return fmt.Sprintf("binary(%d)", t.arg(0, 1)), "", nil
	}
	size := map[string]int{
		"CHAR": 0, "VARCHAR": 0, "VARBINARY": 0, "TINYTEXT": 1, "TEXT": 2, "MEDIUMTEXT": 3, "LONGTEXT": 4, "TINYBLOB": 1, "BLOB": 2,
		"MEDIUMBLOB": 3, "LONGBLOB": 4,
	}
	blob, known := size[t.name]
	if !known {
		return "", "", fmt.Errorf("%w: type %s", errNotUnderstood, t.name)
	}
	isText := t.name == "CHAR" || t.name == "VARCHAR" || strings.HasSuffix(t.name, "TEXT")
	width := 1
	if isText && !t.byte {
		if collation, err = r.collation(t, tableCollation); err != nil {
			return "", "", err
		}
		width = max(r.charsets.Widths[charset.Of(collation)], 1)
	}
	if collation == bytesCollation {
		collation = ""
	}
	return r.textOf(t, blob, width, collation != "", isText), collation, nil
}

// textOf names the type; blob is the size of its length, 0 for one with a declared length.
func (r *typeRules) textOf(t typeSpec, blob, width int, characters, isText bool) string {
	compressed := ""
	if t.compressed {
		compressed = " /*M!100301 COMPRESSED*/"
	}
	n := t.arg(0, 0)
	if blob == 0 {
		variable := t.name != "CHAR"
		if t.name == "CHAR" && len(t.args) == 0 {
			n = 1
		}
		if n*width <= 65535 {
			name := [2][2]string{{"binary", "varbinary"}, {"char", "varchar"}}[b2i(characters)][b2i(variable)]
			return fmt.Sprintf("%s(%d)%s", name, n, compressed)
		}
		blob = blobSize(n * width) // without strict mode the server makes it a text
	}
	if blob == 2 && (n > 0 || len(t.args) > 0 && r.Flavor == product.MySQL) { // MariaDB takes a length of 0 for none
		blob = blobSize(n * width)
	}
	return blobName(blob, characters) + compressed
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// blobSize is how many bytes a length takes.
func blobSize(n int) int {
	switch {
	case n < 1<<8:
		return 1
	case n < 1<<16:
		return 2
	case n < 1<<24:
		return 3
	default:
		return 4
	}
}

func blobName(size int, characters bool) string {
	return [...]string{"", "tiny", "", "medium", "long"}[size] + [2]string{"blob", "text"}[b2i(characters)]
}

// collation finds the collation of a text column.
func (r *typeRules) collation(t typeSpec, tableCollation string) (string, error) {
	switch {
	case t.ascii:
		t.charset = "latin1"
	case t.unicode:
		t.charset = "ucs2"
	}
	c, err := r.chosen(charsetSpec{charset: t.charset, collation: t.collation}, tableCollation)
	if err == nil && t.binary && t.collation == "" {
		c = charset.Of(c) + "_bin"
	}
	return c, err
}

// chosen returns the collation that a character set and a collation name, of which both may be missing.
func (r *typeRules) chosen(c charsetSpec, otherwise string) (string, error) {
	cs := canonicalCharset(c.charset)
	if cs == "default" {
		cs = charset.Of(otherwise)
		if c.collation == "" {
			return otherwise, nil
		}
	}
	coll := c.collation
	if rest, ok := strings.CutPrefix(coll, "utf8_"); ok {
		coll = "utf8mb3_" + rest
	}
	switch {
	case coll == "default" && cs == "":
		cs = charset.Of(otherwise)
	case coll != "" && coll != "default":
		if _, known := r.charsets.Names[coll]; known {
			return coll, nil
		}
		// MariaDB's collations that serve several charsets are named without one.
		if cs == "" {
			cs = charset.Of(otherwise)
		}
		if _, known := r.charsets.Names[cs+"_"+coll]; known {
			return cs + "_" + coll, nil
		}
		return "", fmt.Errorf("%w: the server does not list collation %s", errNotUnderstood, coll)
	case cs == "":
		return otherwise, nil
	}
	if cs == "utf8mb4" && r.defaultUTF8MB4 != "" {
		return r.defaultUTF8MB4, nil
	}
	d, ok := r.charsets.Defaults[cs]
	if !ok {
		return "", fmt.Errorf("%w: the server does not list character set %s", errNotUnderstood, cs)
	}
	return d, nil
}

func canonicalCharset(name string) string {
	if name == "utf8" {
		return "utf8mb3"
	}
	return name
}

// labelsOf writes labels as the server does, which takes spaces at their ends only from characters.
func labelsOf(args []statement.Token, trim bool) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(',')
		}
		if trim {
			a.Text = strings.TrimRight(a.Text, " ")
		}
		b.WriteString(shape.QuoteLabel(a.Text))
	}
	return b.String()
}
