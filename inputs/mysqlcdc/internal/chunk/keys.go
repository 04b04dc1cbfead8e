package chunk

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// keysCondition returns the condition of the rows with keys that events have.
func (t *table) keysCondition(keys [][]change.Value) (string, error) {
	columns := t.layout.Table.Key
	if len(columns) == 0 {
		return "", fmt.Errorf("%s.%s has no key by which single rows could be read: %w", t.DB, t.Table, snapshot.ErrKey)
	}
	alternatives := make([]string, len(keys))
	for i, values := range keys {
		if len(values) != len(columns) {
			return "", fmt.Errorf("a key of %d values, where %s.%s has %d columns: %w", len(values), t.DB, t.Table, len(columns), snapshot.ErrKey)
		}
		equal := make([]string, len(values))
		for j, v := range values {
			var err error
			if equal[j], err = t.equals(columns[j], v); err != nil {
				return "", err
			}
		}
		alternatives[i] = "(" + strings.Join(equal, " AND ") + ")"
	}
	return "(" + strings.Join(alternatives, " OR ") + ")", nil
}

// equals returns the condition that a column has the value that an event has.
func (t *table) equals(column int, v change.Value) (string, error) {
	c, def := &t.layout.Columns[column], t.column(column)
	name := statement.QuoteName(def.Name)
	f := formOf(c)
	digits := string(v.Bytes())
	switch k := v.Kind(); {
	case k == change.Null:
		return name + " IS NULL", nil
	case k == change.Int && f == formInteger:
		return name + " = " + strconv.FormatInt(v.Int(), 10), nil
	case k == change.Uint && f == formInteger:
		return name + " = " + strconv.FormatUint(v.Uint(), 10), nil
	case k == change.Bool && f == formInteger: // TINYINT(1) as a boolean
		return fmt.Sprintf("(%s <> 0) = %t", name, v.Bool()), nil
	case k == change.Bool && f == formBits:
		return fmt.Sprintf("%s = %t", name, v.Bool()), nil
	case k == change.Text && f == formBits && strings.Trim(digits, "01") == "":
		return name + " = b'" + digits + "'", nil
	case k == change.Decimal && (f == formInteger || f == formDecimal) && forms[formDecimal].MatchString(digits):
		return name + " = " + digits, nil
	case k == change.Float32 && f == formFloat:
		return name + " = " + strconv.FormatFloat(float64(v.Float32()), 'e', -1, 64), nil
	case k == change.Float64 && f == formFloat:
		return name + " = " + strconv.FormatFloat(v.Float64(), 'e', -1, 64), nil
	case k == change.Text && f == formTime:
		if digits = strings.TrimSuffix(strings.Replace(digits, "T", " ", 1), "Z"); forms[formTime].MatchString(digits) {
			return name + " = '" + digits + "'", nil
		}
	case k == change.Text && f == formPacked && forms[formPacked].MatchString(digits):
		return name + " = '" + digits + "'", nil
	case k == change.Bytes && f == formBinary:
		return name + " = X'" + hex.EncodeToString(v.Bytes()) + "'", nil
	case k == change.Bytes && f == formText: // undecodable_text: base64
		return name + " = _" + def.Charset() + " X'" + hex.EncodeToString(v.Bytes()) + "'", nil
	case k == change.Text && (f == formText || f == formLabel):
		text := "_utf8mb4 X'" + hex.EncodeToString(v.Bytes()) + "'"
		if cs := def.Charset(); cs != "utf8mb4" {
			text = "CONVERT(" + text + " USING " + cs + ")"
		}
		return name + " = " + text + " COLLATE " + def.Collation, nil
	}
	return "", fmt.Errorf("column %s of a key of %s.%s has a value that none of its rows can have: %w", def.Name, t.DB, t.Table, snapshot.ErrKey)
}
