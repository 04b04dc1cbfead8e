// Package typematrix helps the tests of the inputs compare what their type matrices deliver with what the schema metadata says.
package typematrix

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/redpanda-data/benthos/v4/public/schema"
)

// Read reads the schema metadata of a message, and makes sure that the engine takes it for valid and gives back the same, also when
// it has been through JSON on the way, as in a cache or another process.
func Read(v any) (schema.Common, error) {
	c, err := schema.ParseFromAny(v)
	if err != nil {
		return c, err
	}
	if err := c.Validate(); err != nil {
		return c, err
	}
	text, err := json.Marshal(c.ToAny())
	if err != nil {
		return c, err
	}
	var through any
	if err := json.Unmarshal(text, &through); err != nil {
		return c, err
	}
	for _, form := range []any{c.ToAny(), through} {
		again, err := schema.ParseFromAny(form)
		if err != nil {
			return c, err
		}
		if !reflect.DeepEqual(again, c) {
			return c, fmt.Errorf("%s: the schema is %+v, and after a round trip %+v", c.Name, c, again)
		}
	}
	return c, nil
}

// Conforms reports what keeps a value, as a json.Decoder with UseNumber reads it, from being what the schema says. It is as
// strict as the encoders that use the schema: a timestamp has to be RFC 3339, an integer has to fit.
func Conforms(c schema.Common, v any) error {
	if v == nil {
		if !c.Optional {
			return fmt.Errorf("%s: null, and not optional", c.Name)
		}
		return nil
	}
	var ok bool
	switch c.Type {
	case schema.Object:
		return conformsObject(c, v)
	case schema.Array, schema.Map:
		return conformsList(c, v)
	case schema.Any:
		return nil
	case schema.Boolean:
		_, ok = v.(bool)
	case schema.Int32:
		ok = isInteger(v, math.MinInt32, math.MaxInt32)
	case schema.Int64:
		ok = isInteger(v, math.MinInt64, math.MaxInt64)
	case schema.Float32, schema.Float64:
		_, ok = v.(json.Number)
	case schema.Decimal:
		if n, number := v.(json.Number); number {
			v = n.String()
		}
		s, text := v.(string)
		ok = text && isDecimal(s, c.Logical.Decimal)
	case schema.Timestamp:
		ok = isTime(v, time.RFC3339Nano)
	case schema.Date:
		ok = isTime(v, time.DateOnly)
	case schema.UUID:
		s, text := v.(string)
		ok = text && regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(s)
	case schema.String:
		_, ok = v.(string)
	default:
		return fmt.Errorf("%s: no column has the type %s", c.Name, c.Type)
	}
	if !ok {
		return fmt.Errorf("%s: %v (%T) is no %s", c.Name, v, v, c.Type)
	}
	return nil
}

func conformsObject(c schema.Common, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", c.Name, v)
	}
	for name := range m {
		if !slices.ContainsFunc(c.Children, func(child schema.Common) bool { return child.Name == name }) {
			return fmt.Errorf("%s: the field %s is not in the schema", c.Name, name)
		}
	}
	for _, child := range c.Children {
		if err := Conforms(child, m[child.Name]); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

func conformsList(c schema.Common, v any) error {
	list, isList := v.([]any)
	dict, isMap := v.(map[string]any)
	if isList != (c.Type == schema.Array) || isMap != (c.Type == schema.Map) || len(c.Children) != 1 {
		return fmt.Errorf("%s: %v is no %s of %d types", c.Name, v, c.Type, len(c.Children))
	}
	elements := slices.Clone(list)
	for _, e := range dict {
		elements = append(elements, e)
	}
	for _, e := range elements {
		if err := Conforms(c.Children[0], e); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

func isInteger(v any, least, most int64) bool {
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	i, err := strconv.ParseInt(n.String(), 10, 64)
	return err == nil && i >= least && i <= most
}

func isDecimal(s string, p *schema.DecimalParams) bool {
	unscaled, err := schema.ParseDecimal(s, p.Scale)
	return err == nil && p.ValidateValue(unscaled) == nil
}

func isTime(v any, layout string) bool {
	s, ok := v.(string)
	if !ok {
		return false
	}
	_, err := time.Parse(layout, s)
	return err == nil
}
