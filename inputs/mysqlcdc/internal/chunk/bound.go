package chunk

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// A bound is a JSON array: what the key was, so that no bound is taken for one of another key or another order, and then an element for each
// column of the key, or for the first of them: integers as numbers, all else as text. Strings are the hexadecimal digits of their bytes in the character set of their column: what is compared is what is stored.

// form is how the values of a column are written in bounds and in SQL.
type form uint8

const (
	formNone form = iota
	formInteger
	formDecimal
	formFloat
	formTime
	formText   // in a character set
	formBinary // bytes
	formPacked // a type of MariaDB that is written as text
	formLabel  // ENUM and SET, which are ordered by their numbers
	formBits
)

func formOf(c *row.Column) form {
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_YEAR:
		return formInteger
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return formDecimal
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE:
		return formFloat
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP,
		mysql.MYSQL_TYPE_TIMESTAMP2, mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2:
		return formTime
	case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET:
		return formLabel
	case mysql.MYSQL_TYPE_BIT:
		return formBits
	case mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_VECTOR:
		return formNone
	}
	switch {
	case c.Packed != row.PackedNone:
		return formPacked
	case c.Text != nil:
		return formText
	default:
		return formBinary
	}
}

var errBound = fmt.Errorf("the key of the table is another one than that of the bound: %w", snapshot.ErrAnew)

// bound returns the key of a row as it came from the server.
func (t *table) bound(raw [][]byte) (snapshot.Bound, error) {
	elements := make([]any, len(t.key.parts))
	for i, p := range t.key.parts {
		v := raw[p.order]
		if v == nil {
			return nil, fmt.Errorf("column %s of the key is NULL", p.name)
		}
		c := &t.layout.Columns[p.column]
		switch p.form {
		case formInteger:
			elements[i] = json.Number(integerText(v, c.Unsigned || c.Type == mysql.MYSQL_TYPE_YEAR))
		case formLabel:
			elements[i] = json.Number(integerText(v, true))
		case formBits:
			elements[i] = json.Number(strconv.FormatUint(binlog.UintBE(v), 10))
		case formFloat:
			elements[i] = floatText(v)
		case formTime:
			text, err := c.TimeText(v)
			if err != nil {
				return nil, fmt.Errorf("column %s of the key: %w", p.name, err)
			}
			elements[i] = text
		case formText, formBinary:
			elements[i] = hex.EncodeToString(v)
		default:
			elements[i] = string(v)
		}
	}
	return json.Marshal(append([]any{t.key.signature}, elements...))
}

func integerText(p []byte, unsigned bool) string {
	n := binlog.UintLE(p)
	if unsigned {
		return strconv.FormatUint(n, 10)
	}
	shift := 64 - 8*len(p)
	return strconv.FormatInt(int64(n<<shift)>>shift, 10)
}

// floatText writes a floating-point number so that comparing with it is exact: as the double that it is compared as.
func floatText(p []byte) string {
	f := math.Float64frombits(binlog.UintLE(p))
	if len(p) == 4 {
		f = float64(math.Float32frombits(uint32(binlog.UintLE(p))))
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}

// forms are what the elements of bounds look like.
//
//nolint:gochecknoglobals // constants
var forms = map[form]*regexp.Regexp{
	formInteger: regexp.MustCompile(`^-?[0-9]+$`),
	formLabel:   regexp.MustCompile(`^[0-9]+$`),
	formBits:    regexp.MustCompile(`^[0-9]+$`),
	formDecimal: regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`),
	formFloat:   regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?e[-+][0-9]+$`),
	formTime:    regexp.MustCompile(`^-?[0-9][0-9:. -]*$`),
	formText:    regexp.MustCompile(`^([0-9a-f]{2})*$`),
	formBinary:  regexp.MustCompile(`^([0-9a-f]{2})*$`),
	formPacked:  regexp.MustCompile(`^[0-9a-fA-F:.-]+$`),
}

// elements returns the elements of a bound as text.
func (k *key) elements(b snapshot.Bound) ([]string, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(b, &elements); err != nil || len(elements) < 2 || len(elements) > 1+len(k.parts) || string(elements[0]) != strconv.Quote(k.signature) {
		return nil, fmt.Errorf("%w: %s", errBound, b)
	}
	elements = elements[1:]
	texts := make([]string, len(elements))
	for i, e := range elements {
		f := k.parts[i].form
		texts[i] = string(e)
		if len(e) > 0 && e[0] == '"' {
			if err := json.Unmarshal(e, &texts[i]); err != nil {
				return nil, fmt.Errorf("%w: %s", errBound, b)
			}
		} else if f != formInteger && f != formLabel && f != formBits {
			return nil, fmt.Errorf("%w: %s", errBound, b)
		}
		if !forms[f].MatchString(texts[i]) {
			return nil, fmt.Errorf("%w: %s", errBound, b)
		}
	}
	return texts, nil
}

// literals returns a bound as SQL.
func (k *key) literals(b snapshot.Bound) ([]string, error) {
	elements, err := k.elements(b)
	for i := range elements {
		elements[i] = k.parts[i].literal(elements[i])
	}
	return elements, err
}

// literal writes an element of a bound as SQL.
func (p *keyPart) literal(text string) string {
	switch p.form {
	case formText:
		return "_" + p.charset + " X'" + text + "'"
	case formBinary:
		return "X'" + text + "'"
	case formTime, formPacked:
		return "'" + text + "'"
	default:
		return text
	}
}
