package row

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// With binlog_row_value_options=PARTIAL_JSON an after image can have, in place of a JSON document, what to do to the document of the
// before image (MySQL source, json_diff.h): for each difference an operation, a path, and, but for removals, a value in binary JSON.
const (
	diffReplace = iota
	diffInsert
	diffRemove
)

var errBadDiff = errors.New("a JSON difference that does not fit the document")

// jsonNode is a document of the JSON text that we make ourselves.
type jsonNode struct {
	kind   byte   // '{', '[' or 0 for a scalar
	scalar []byte // its JSON
	keys   []string
	values []*jsonNode
}

// appendJSONDiff appends the document that the differences make of base.
func appendJSONDiff(dst, base, diff []byte) ([]byte, error) {
	root, err := parseJSON(base)
	if err != nil {
		return dst, err
	}
	for c := (binlog.Cursor{Rest: diff}); len(c.Rest) > 0; {
		op := c.Uint(1)
		path := c.Take(c.Length())
		var value *jsonNode
		if op != diffRemove {
			text, err := appendBinaryJSON(nil, c.Take(c.Length()))
			if err != nil {
				return dst, err
			}
			if value, err = parseJSON(text); err != nil {
				return dst, err
			}
		}
		if c.Short {
			return dst, fmt.Errorf("a JSON difference: %w", binlog.ErrTruncated)
		}
		legs, err := parsePath(string(path))
		if err != nil {
			return dst, err
		}
		if root, err = root.apply(op, legs, value); err != nil {
			return dst, fmt.Errorf("%w: operation %d at %s", err, op, path)
		}
	}
	return root.append(dst), nil
}

// pathLeg is a step of a path: the member of an object, or the element of an array.
type pathLeg struct {
	key   string
	index int // -1 for a member
}

// parsePath reads a path as the server writes it: $.name."any name"[5].
func parsePath(s string) (legs []pathLeg, err error) {
	s, ok := strings.CutPrefix(s, "$")
	for ok && s != "" {
		switch {
		case strings.HasPrefix(s, "["):
			var number string
			number, s, ok = strings.Cut(s[1:], "]")
			n, err := strconv.ParseUint(number, 10, 31)
			ok = ok && err == nil
			legs = append(legs, pathLeg{index: int(n)})
		case strings.HasPrefix(s, `."`):
			d := json.NewDecoder(strings.NewReader(s[1:]))
			var key string
			ok = d.Decode(&key) == nil
			s = s[1+d.InputOffset():]
			legs = append(legs, pathLeg{key: key, index: -1})
		case strings.HasPrefix(s, "."):
			s = s[1:]
			end := strings.IndexAny(s, ".[")
			if end < 0 {
				end = len(s)
			}
			ok = end > 0
			legs = append(legs, pathLeg{key: s[:end], index: -1})
			s = s[end:]
		default:
			ok = false
		}
	}
	if !ok || len(legs) > maxJSONDepth {
		return nil, fmt.Errorf("%w: path %q", errBadDiff, s)
	}
	return legs, nil
}

// apply returns what the operation makes of the node.
func (n *jsonNode) apply(op uint64, legs []pathLeg, value *jsonNode) (*jsonNode, error) {
	if len(legs) == 0 {
		if op != diffReplace {
			return nil, errBadDiff
		}
		return value, nil
	}
	at, there := n.find(legs[0])
	switch {
	case len(legs) > 1 || op == diffReplace:
		if !there {
			return nil, errBadDiff
		}
		child, err := n.values[at].apply(op, legs[1:], value)
		if err != nil {
			return nil, err
		}
		n.values[at] = child
	case op == diffRemove && there:
		n.values = slices.Delete(n.values, at, at+1)
		if n.kind == '{' {
			n.keys = slices.Delete(n.keys, at, at+1)
		}
	case op == diffInsert && n.kind == '[' && legs[0].index >= 0:
		n.values = slices.Insert(n.values, at, value)
	case op == diffInsert && n.kind == '{' && legs[0].index < 0 && !there:
		n.keys = slices.Insert(n.keys, at, legs[0].key)
		n.values = slices.Insert(n.values, at, value)
	default:
		return nil, errBadDiff
	}
	return n, nil
}

// find returns where a leg leads, or where it would if it were there. Objects have their keys by length, and then by bytes.
func (n *jsonNode) find(leg pathLeg) (at int, there bool) {
	switch {
	case n.kind == '{' && leg.index < 0:
		return slices.BinarySearchFunc(n.keys, leg.key, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
		})
	case n.kind == '[' && leg.index >= 0:
		return min(leg.index, len(n.values)), leg.index < len(n.values)
	default:
		return 0, false
	}
}

// parseJSON reads JSON text, numbers as they are.
func parseJSON(text []byte) (*jsonNode, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	n, err := readNode(d)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadJSON, err)
	}
	return n, nil
}

func readNode(d *json.Decoder) (*jsonNode, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		n := &jsonNode{kind: byte(v)}
		for d.More() {
			if n.kind == '{' {
				key, err := d.Token()
				if err != nil {
					return nil, err
				}
				n.keys = append(n.keys, fmt.Sprint(key))
			}
			child, err := readNode(d)
			if err != nil {
				return nil, err
			}
			n.values = append(n.values, child)
		}
		_, err := d.Token() // the closing one
		return n, err
	case string:
		return &jsonNode{scalar: envelope.AppendString(nil, v)}, nil
	case json.Number:
		return &jsonNode{scalar: []byte(v)}, nil
	case bool:
		return &jsonNode{scalar: strconv.AppendBool(nil, v)}, nil
	default:
		return &jsonNode{scalar: []byte("null")}, nil
	}
}

func (n *jsonNode) append(dst []byte) []byte {
	if n.kind == 0 {
		return append(dst, n.scalar...)
	}
	dst = append(dst, n.kind)
	for i, child := range n.values {
		if i > 0 {
			dst = append(dst, ',')
		}
		if n.kind == '{' {
			dst = append(envelope.AppendString(dst, n.keys[i]), ':')
		}
		dst = child.append(dst)
	}
	return append(dst, n.kind+2) // the closing bracket
}
