package typematrix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
)

// Differences returns where two JSON values differ, by the path of each place: "after.id: 1, here 2". Numbers are compared as numbers, and
// the fields of schemas by their names.
func Differences(want, got []byte) ([]string, error) {
	var values [2]any
	for i, text := range [2][]byte{want, got} {
		if text == nil {
			continue // Kafka's null
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			return nil, fmt.Errorf("%w: %s", err, text)
		}
	}
	if (want == nil) != (got == nil) {
		return []string{fmt.Sprintf("%s, here %s", want, got)}, nil
	}
	return differ("", values[0], values[1], nil), nil
}

func differ(path string, want, got any, out []string) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		names := maps.Clone(w)
		maps.Copy(names, g)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			below := name
			if path != "" {
				below = path + "." + name
			}
			x, inWant := w[name]
			y, inGot := g[name]
			if inWant && inGot {
				out = differ(below, x, y, out)
			} else {
				out = append(out, fmt.Sprintf("%s: %s, here %s", below, shown(x, inWant), shown(y, inGot)))
			}
		}
		return out
	case json.Number:
		if g, ok := got.(json.Number); ok {
			x, okX := new(big.Rat).SetString(w.String())
			y, okY := new(big.Rat).SetString(g.String())
			if okX && okY && x.Cmp(y) == 0 {
				return out
			}
		}
	case []any:
		if x, y := byField(w), byField(got); x != nil && y != nil {
			return differ(path, x, y, out)
		}
		if g, ok := got.([]any); ok && len(w) == len(g) {
			for i := range w {
				if len(differ("", w[i], g[i], nil)) > 0 {
					return append(out, fmt.Sprintf("%s: %s, here %s", path, shown(want, true), shown(got, true)))
				}
			}
			return out
		}
	default:
		if want == got {
			return out
		}
	}
	return append(out, fmt.Sprintf("%s: %s, here %s", path, shown(want, true), shown(got, true)))
}

// byField returns the fields of a schema of Kafka Connect by their names, or nil for another list.
func byField(v any) map[string]any {
	list, _ := v.([]any)
	fields := map[string]any{}
	for _, e := range list {
		f, _ := e.(map[string]any)
		name, ok := f["field"].(string)
		if !ok {
			return nil
		}
		fields[name] = f
	}
	if len(fields) == 0 {
		return nil
	}
	return fields
}

func shown(v any, there bool) string {
	if !there {
		return "nothing"
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
