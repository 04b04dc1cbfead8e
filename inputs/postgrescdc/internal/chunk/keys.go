package chunk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// keyColumn is a column of the key by which a table is cut.
type keyColumn struct {
	name string
	typ  string // as a cast has it
	// collate is the collation of the index, where it is not the column's.
	collate string
	column  int // of the table
}

// sql is the column as it is compared and ordered.
func (k *keyColumn) sql() string {
	if k.collate == "" {
		return ident(k.name)
	}
	return "(" + ident(k.name) + " COLLATE " + k.collate + ")"
}

func ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func literal(s string) string {
	quoted := `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
	if strings.Contains(s, `\`) {
		return ` E` + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// params gathers the parameters of a statement, as text.
type params [][]byte

func (p *params) add(value []byte) string {
	*p = append(*p, value)
	return "$" + strconv.Itoa(len(*p))
}

// compare is the condition that the key is on one side of a bound. A bound of fewer columns than the key stands after all rows that
// begin with it.
func compare(key []keyColumn, operator string, bound [][]byte, p *params) string {
	left, right := make([]string, len(bound)), make([]string, len(bound))
	for i, v := range bound {
		left[i], right[i] = key[i].sql(), p.add(v)+"::"+key[i].typ
	}
	if len(bound) == 1 {
		return left[0] + " " + operator + " " + right[0]
	}
	return "(" + strings.Join(left, ", ") + ") " + operator + " (" + strings.Join(right, ", ") + ")"
}

func orderBy(key []keyColumn) string {
	names := make([]string, len(key))
	for i := range key {
		names[i] = key[i].sql()
	}
	return strings.Join(names, ", ")
}

// A bound is a JSON object: the names of the key's columns, in their order, with the values as the server prints them. Where those are
// not UTF-8, as a database with the encoding SQL_ASCII may have them, they are {"_base64":"…"}.

func appendBound(key []keyColumn, values [][]byte) snapshot.Bound {
	b := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, key[i].name)
		b = append(b, ':')
		if utf8.Valid(v) {
			b = appendJSON(b, string(v))
		} else {
			b = append(b, `{"_base64":"`...)
			b = base64.StdEncoding.AppendEncode(b, v)
			b = append(b, `"}`...)
		}
	}
	return append(b, '}')
}

func appendJSON(dst []byte, s string) []byte {
	text, _ := json.Marshal(s) // a string always can
	return append(dst, text...)
}

// errBound is the error of a bound that is not one of the table's key.
var errBound = errors.New("the place up to which the table was read is not one of its key: the key is another one now: load the table again from its beginning")

// parseBound returns the values of a bound.
func parseBound(key []keyColumn, b snapshot.Bound) ([][]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: %.200q", errBound, []byte(b))
	}
	var values [][]byte
	for dec.More() {
		name, err := dec.Token()
		var raw json.RawMessage
		if err == nil {
			err = dec.Decode(&raw)
		}
		var text string
		var coded struct {
			Base64 []byte `json:"_base64"`
		}
		if err == nil && json.Unmarshal(raw, &text) != nil {
			err = json.Unmarshal(raw, &coded)
		}
		if err != nil || len(values) == len(key) || name != key[len(values)].name {
			return nil, fmt.Errorf("%w: %.200q", errBound, []byte(b))
		}
		if coded.Base64 != nil {
			values = append(values, coded.Base64)
		} else {
			values = append(values, []byte(text))
		}
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("%w: %.200q", errBound, []byte(b))
	}
	return values, nil
}

// place is where a chunk of a table without a key begins or ends: a page of the table's files, which are others once the table was
// written anew.
type place struct {
	Files string `json:"files"`
	Page  int64  `json:"page"`
}

func (p place) bound() snapshot.Bound {
	b, _ := json.Marshal(p) // text and a number always can
	return b
}

func parsePlace(b snapshot.Bound) (p place, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil || p.Files == "" {
		return p, fmt.Errorf("%w: %.200q", errBound, []byte(b))
	}
	return p, nil
}

// sameKey reports whether an index has the columns of a key, in any order.
func sameKey(index []keyColumn, names []string) bool {
	if len(index) != len(names) {
		return false
	}
	return !slices.ContainsFunc(index, func(k keyColumn) bool { return !slices.Contains(names, k.name) })
}
