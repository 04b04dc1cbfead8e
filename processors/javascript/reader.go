package javascript

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/dop251/goja"

	"github.com/deltaforge/deltaforge/internal/change"
)

// reader reads the rows of an event out of the engine.
type reader struct {
	*machine
	table *change.Table
	added []change.Column
	left  *int64
}

// row reads a row. Differs says whether it is another than it was.
func (r *reader) row(o *object, was *image, field string, row []change.Value) (out []change.Value, differs bool, err error) {
	now := o.Get(field)
	object, ok := now.(*goja.Object)
	switch {
	case was == nil && (now == nil || goja.IsNull(now) || goja.IsUndefined(now)):
		return nil, false, nil
	case was == nil || !ok:
		return nil, false, fmt.Errorf("the script has set %s, which the event has as %s; only the columns in it can be changed", field, map[bool]string{true: "null", false: "a row"}[was == nil])
	}
	out = make([]change.Value, len(r.table.Columns))
	seen := 0
	for _, name := range object.Keys() {
		v := object.Get(name)
		c := r.table.Column(name)
		if c < 0 {
			if out, err = r.add(out, name, v); err != nil {
				return nil, false, fmt.Errorf("column %s: %w", name, err)
			}
			differs = true
			continue
		}
		seen++
		if c < len(row) && was.values[c] != nil && unchanged(was.values[c], v, row[c]) {
			out[c] = row[c]
			continue
		}
		differs = true
		if out[c], err = r.read(v, &r.table.Columns[c]); err != nil {
			return nil, false, fmt.Errorf("column %s: %w", name, err)
		}
	}
	there := 0
	for _, v := range was.values {
		if v != nil {
			there++
		}
	}
	return out, differs || seen != there, nil
}

// unchanged reports that a value is the one that was put there.
func unchanged(was, now goja.Value, v change.Value) bool {
	if v.Kind() == change.Bytes {
		if b, ok := now.Export().(goja.ArrayBuffer); ok && was.SameAs(now) {
			return string(b.Bytes()) == string(v.Bytes())
		}
		return false
	}
	return was.SameAs(now)
}

// add adds a value in a column that the table does not have.
func (r *reader) add(row []change.Value, name string, v goja.Value) ([]change.Value, error) {
	c := columnOf(name, v)
	at := slices.IndexFunc(r.added, func(o change.Column) bool { return o.Name == name })
	if at < 0 {
		at = len(r.added)
		r.added = append(r.added, c)
	} else if goja.IsNull(v) || goja.IsUndefined(v) {
		c = r.added[at]
	} else if r.added[at].Logical != c.Logical {
		return nil, errors.New("it has another type before the change than after it")
	}
	value, err := r.read(v, &c)
	for len(row) <= len(r.table.Columns)+at {
		row = append(row, change.Value{})
	}
	row[len(r.table.Columns)+at] = value
	return row, err
}

// fill makes a row as long as the table that comes out.
func (r *reader) fill(row []change.Value) []change.Value {
	for row != nil && len(row) < len(r.table.Columns)+len(r.added) {
		row = append(row, change.Value{})
	}
	return row
}

// columnOf returns the column of a new value.
func columnOf(name string, v goja.Value) change.Column {
	c := change.Column{Name: name, Type: "text", Nullable: true}
	switch v.Export().(type) {
	case bool:
		c.Type, c.Logical = "boolean", change.LogicalBool
	case int64:
		c.Type, c.Logical = "bigint", change.LogicalInt64
	case float64:
		c.Type, c.Logical = "double", change.LogicalFloat64
	case *big.Int:
		c.Type, c.Logical = "numeric", change.LogicalDecimal
	case goja.ArrayBuffer:
		c.Type, c.Logical = "bytes", change.LogicalBytes
	case string, nil:
	default:
		c.Type, c.Logical = "json", change.LogicalJSON
	}
	return c
}

// errFit is about a value that a column cannot have; it does not hold the value.
func errFit(c *change.Column) error {
	return fmt.Errorf("its type is %s, and the script has set it to something else", c.Type)
}

// read makes a value of what the script has set a column to.
func (r *reader) read(v goja.Value, c *change.Column) (change.Value, error) {
	if goja.IsNull(v) || goja.IsUndefined(v) {
		return change.NullValue(), nil
	}
	if v.SameAs(r.unavailable) {
		return change.UnavailableValue(), nil
	}
	out, err := r.typed(v, c)
	if *r.left -= int64(len(out.Bytes())); *r.left < 0 {
		return change.Value{}, errLarge
	}
	return out, err
}

func (r *reader) typed(v goja.Value, c *change.Column) (change.Value, error) {
	x := v.Export()
	switch c.Logical {
	case change.LogicalBool:
		if b, ok := x.(bool); ok {
			return change.BoolValue(b), nil
		}
		return change.Value{}, errFit(c)
	case change.LogicalInt32, change.LogicalInt64, change.LogicalUint32, change.LogicalUint64:
		return integer(x, c)
	case change.LogicalFloat32, change.LogicalFloat64:
		return float(x, c)
	case change.LogicalDecimal:
		text := v.String()
		if _, object := v.(*goja.Object); object || !decimal(text) {
			return change.Value{}, errFit(c)
		}
		return change.DecimalValue([]byte(text)), nil
	case change.LogicalBytes:
		switch b := x.(type) {
		case goja.ArrayBuffer:
			return change.BytesValue(slices.Clone(b.Bytes())), nil
		case []byte:
			return change.BytesValue(slices.Clone(b)), nil
		}
		return change.Value{}, errFit(c)
	case change.LogicalJSON, change.LogicalArray, change.LogicalObject, change.LogicalMap, change.LogicalGeometry:
		text, isText := x.(string)
		if !isText {
			var err error
			if text, err = r.json(v); err != nil {
				return change.Value{}, err
			}
		}
		if !json.Valid([]byte(text)) {
			return change.Value{}, errors.New("the script has set it to a string that is not JSON; set an object, or JSON.stringify it")
		}
		return change.JSONValue([]byte(text)), nil
	default:
		if _, ok := v.(*goja.Object); ok {
			return change.Value{}, errFit(c)
		}
		return change.TextValue([]byte(v.String())), nil
	}
}

// decimal reports whether text is a number as databases take it.
func decimal(text string) bool {
	switch strings.TrimPrefix(text, "-") {
	case "NaN", "Infinity":
		return true
	}
	whole, fraction, point := strings.Cut(strings.TrimLeft(text, "+-"), ".")
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	return len(text)-len(strings.TrimLeft(text, "+-")) <= 1 && whole != "" && digits(whole) && digits(fraction) && (!point || fraction != "")
}

// integer takes numbers without a fraction, BigInts and strings of digits, in the range of 64 bits.
func integer(x any, c *change.Column) (change.Value, error) {
	var n *big.Int
	switch x := x.(type) {
	case int64:
		n = big.NewInt(x)
	case float64:
		if x != math.Trunc(x) || math.Abs(x) > safe {
			return change.Value{}, errFit(c)
		}
		n = big.NewInt(int64(x))
	case *big.Int:
		n = x
	case string:
		var ok bool
		if n, ok = new(big.Int).SetString(x, 10); !ok || len(x) > 24 {
			return change.Value{}, errFit(c)
		}
	default:
		return change.Value{}, errFit(c)
	}
	unsigned := c.Logical == change.LogicalUint32 || c.Logical == change.LogicalUint64
	bits := map[change.Logical]int{change.LogicalInt32: 31, change.LogicalUint32: 32, change.LogicalInt64: 63, change.LogicalUint64: 64}[c.Logical]
	switch limit := new(big.Int).Lsh(big.NewInt(1), uint(bits)); {
	case unsigned && n.Sign() < 0, n.Cmp(limit) >= 0, n.Cmp(new(big.Int).Neg(limit)) < 0:
		return change.Value{}, errFit(c)
	case unsigned:
		return change.UintValue(n.Uint64()), nil
	default:
		return change.IntValue(n.Int64()), nil
	}
}

func float(x any, c *change.Column) (change.Value, error) {
	var f float64
	switch x := x.(type) {
	case int64:
		f = float64(x)
	case float64:
		f = x
	default:
		return change.Value{}, errFit(c)
	}
	if c.Logical == change.LogicalFloat32 {
		return change.Float32Value(float32(f)), nil
	}
	return change.Float64Value(f), nil
}
