package filter

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// operand is a value of the configuration, in every form in which it can be compared.
type operand struct {
	null    bool
	boolean *bool
	text    []byte
	number  *number
	whole   *int64 // a number that is an integer of 64 bits
	f64     *float64
	f32     *float32
	moment  *moment
}

// exactDigits is how many digits a floating-point number of the configuration can have without losing any.
const exactDigits = 15

func newOperand(v any) (operand, error) {
	var o operand
	switch v := v.(type) {
	case nil:
		return operand{null: true}, nil
	case bool:
		o.boolean, o.text = &v, strconv.AppendBool(nil, v)
		return o, nil
	case string:
		o.text = []byte(v)
	case time.Time: // what YAML takes for one
		if v.Equal(v.Truncate(24 * time.Hour)) {
			o.text = v.AppendFormat(nil, time.DateOnly)
		} else {
			o.text = v.AppendFormat(nil, time.RFC3339Nano)
		}
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			o.text = strconv.AppendFloat(nil, v, 'f', -1, 64)
			break
		}
		if text := strconv.FormatFloat(v, 'e', -1, 64); len(strings.TrimLeft(strings.Split(text, "e")[0], "-"))-1 > exactDigits || math.Abs(v) >= 1<<53 {
			return o, errors.New("a number of that many digits must be in quotes: without them the configuration is read inexactly")
		}
		o.text = strconv.AppendFloat(nil, v, 'f', -1, 64)
	case int, int64, uint64, int32, uint32, uint:
		o.text = fmt.Append(nil, v)
	case fmt.Stringer: // a number that is kept as it is written
		o.text = []byte(v.String())
	default:
		return o, errors.New("want a text, a number, a truth value or null")
	}
	o.parse()
	return o, nil
}

// parse reads the text in every form.
func (o *operand) parse() {
	if n, ok := parseNumber(o.text); ok {
		o.number = &n
		if i, err := strconv.ParseInt(string(o.text), 10, 64); err == nil {
			o.whole = &i
		}
	}
	if f, err := strconv.ParseFloat(string(o.text), 64); err == nil || errors.Is(err, strconv.ErrRange) {
		o.f64 = &f
		g, _ := strconv.ParseFloat(string(o.text), 32)
		h := float32(g)
		o.f32 = &h
	}
	if m, ok := parseMoment(o.text); ok {
		o.moment = &m
	}
	if b, err := strconv.ParseBool(string(o.text)); err == nil {
		o.boolean = &b
	}
}

// fits reports an operand that a column cannot be compared with.
func (o *operand) fits(c *change.Column) error {
	switch {
	case o.null:
		return nil
	case isNumber(c.Logical) && o.number == nil && o.f64 == nil:
		return fmt.Errorf("its type is %s, and the value %q of the predicate is not a number", c.Type, o.text)
	case c.Logical == change.LogicalBool && o.boolean == nil:
		return fmt.Errorf("its type is %s, and the value %q of the predicate is neither true nor false", c.Type, o.text)
	case isMoment(c.Logical) && o.moment == nil:
		return fmt.Errorf("its type is %s, and the value %q of the predicate is not a date or time such as 2024-02-29T13:51:30Z or 13:51:30", c.Type, o.text)
	case isNested(c.Logical):
		return fmt.Errorf("its type is %s, which can be tested with exists, changed, like and regex only", c.Type)
	default:
		return nil
	}
}

func isNumber(l change.Logical) bool { return l >= change.LogicalInt32 && l <= change.LogicalDecimal }

func isMoment(l change.Logical) bool {
	return l >= change.LogicalDate && l <= change.LogicalTimestamp
}

func isNested(l change.Logical) bool {
	return l == change.LogicalJSON || l >= change.LogicalArray && l <= change.LogicalGeometry
}

// errUncomparable is about a value of the database; it does not hold the value.
var errUncomparable = errors.New("the row has a value that cannot be compared as what its type is")

// compare compares a value that is not NULL with an operand that is not null.
func (o *operand) compare(v change.Value, l change.Logical) (int, error) {
	switch v.Kind() {
	case change.Bool:
		if o.boolean != nil {
			return cmp.Compare(btoi(v.Bool()), btoi(*o.boolean)), nil
		}
	case change.Int:
		if o.whole != nil {
			return cmp.Compare(v.Int(), *o.whole), nil
		}
		return o.compareNumber(strconv.AppendInt(make([]byte, 0, 20), v.Int(), 10))
	case change.Uint:
		if o.whole != nil && v.Uint() <= math.MaxInt64 {
			return cmp.Compare(int64(v.Uint()), *o.whole), nil
		}
		return o.compareNumber(strconv.AppendUint(make([]byte, 0, 20), v.Uint(), 10))
	case change.Decimal:
		return o.compareNumber(v.Bytes())
	case change.Float32:
		if o.f32 != nil {
			return compareFloat(float64(v.Float32()), float64(*o.f32)), nil
		}
	case change.Float64:
		if o.f64 != nil {
			return compareFloat(v.Float64(), *o.f64), nil
		}
	case change.Text:
		switch {
		case isMoment(l) && o.moment != nil:
			if m, ok := parseMoment(v.Bytes()); ok {
				return m.compare(o.moment), nil
			}
		case isNumber(l):
			return o.compareNumber(v.Bytes())
		case !isMoment(l):
			return bytes.Compare(v.Bytes(), o.text), nil
		}
	case change.Bytes:
		return bytes.Compare(v.Bytes(), o.text), nil
	default:
	}
	return 0, errUncomparable
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compareFloat has NaN for the greatest number, and equal to itself.
func compareFloat(a, b float64) int {
	switch {
	case math.IsNaN(a) && math.IsNaN(b):
		return 0
	case math.IsNaN(a):
		return 1
	case math.IsNaN(b):
		return -1
	default:
		return cmp.Compare(a, b)
	}
}

func (o *operand) compareNumber(text []byte) (int, error) {
	n, ok := parseNumber(text)
	if !ok || o.number == nil {
		return 0, errUncomparable
	}
	return n.compare(o.number), nil
}

// matcher returns what tests a value, which may be NULL.
func matcher(name string, ops []operand, l change.Logical) func(v change.Value) (bool, error) {
	equal := func(v change.Value) (bool, error) {
		for i := range ops {
			o := &ops[i]
			if v.IsNull() || o.null {
				if v.IsNull() && o.null {
					return true, nil
				}
				continue
			}
			if c, err := o.compare(v, l); err != nil || c == 0 {
				return err == nil, err
			}
		}
		return false, nil
	}
	order := func(want func(c int) bool) func(v change.Value) (bool, error) {
		return func(v change.Value) (bool, error) {
			if v.IsNull() || ops[0].null {
				return false, nil
			}
			c, err := ops[0].compare(v, l)
			return err == nil && want(c), err
		}
	}
	switch name {
	case "eq", "in":
		return equal
	case "ne", "not_in":
		return func(v change.Value) (bool, error) {
			eq, err := equal(v)
			return err == nil && !eq, err
		}
	case "gt":
		return order(func(c int) bool { return c > 0 })
	case "ge":
		return order(func(c int) bool { return c >= 0 })
	case "lt":
		return order(func(c int) bool { return c < 0 })
	default:
		return order(func(c int) bool { return c <= 0 })
	}
}

// same reports whether two values of a column are the same datum.
func same(a, b change.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case change.Float32:
		return math.Float32bits(a.Float32()) == math.Float32bits(b.Float32())
	case change.Float64:
		return math.Float64bits(a.Float64()) == math.Float64bits(b.Float64())
	case change.Bool, change.Int, change.Uint:
		return a.Uint() == b.Uint()
	default:
		return bytes.Equal(a.Bytes(), b.Bytes())
	}
}

// matchText tests the text of a value.
type matchText func(text []byte) bool

func newPattern(test string, o operand) (matchText, error) {
	if o.null {
		return nil, errors.New("want a pattern, got null")
	}
	expr := string(o.text)
	if test == "like" {
		expr = likeExpr(expr)
	}
	r, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	return r.Match, nil
}

// likeExpr returns the regular expression of a pattern of SQL's LIKE.
func likeExpr(pattern string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	escaped := false
	for _, r := range pattern {
		switch {
		case escaped:
			b.WriteString(regexp.QuoteMeta(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		case r == '%':
			b.WriteString(`.*`)
		case r == '_':
			b.WriteString(`.`)
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if escaped {
		b.WriteString(`\\`)
	}
	b.WriteString(`\z`)
	return b.String()
}

func (p *predicate) matchesText(v change.Value) (bool, error) {
	switch v.Kind() {
	case change.Null:
		return false, nil
	case change.Text, change.Decimal, change.Bytes, change.JSON:
		return p.pattern(v.Bytes()), nil
	default: // numbers, as in the envelope
		return p.pattern(envelope.AppendValue(make([]byte, 0, 32), v)), nil
	}
}
