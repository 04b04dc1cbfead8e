package chunk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
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
	// less, atMost, equal and greater are the operators of the index, wherever the search path leads.
	less, atMost, equal, greater string
	own                          bool // the order is not the one that the type has by default
}

// sql is the column as it is compared and ordered.
func (k *keyColumn) sql() string {
	if k.collate == "" {
		return ident(k.name)
	}
	return "(" + ident(k.name) + " COLLATE " + k.collate + ")"
}

// label is the column in a bound.
func (k *keyColumn) label() string {
	label := k.name + " " + k.typ
	if k.collate != "" {
		label += " " + k.collate
	}
	return label
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

// side is a side of a bound.
type side bool

const (
	after side = true  // after the bound
	upTo  side = false // before it, and with it
)

// operator is the one that compares the last column of a bound, and strict the one that compares those before it.
func (k *keyColumn) operator(of side) (last, strict string) {
	if of == after {
		return k.greater, k.greater
	}
	return k.atMost, k.less
}

// compare is the condition that the key is on one side of a bound. A bound of fewer columns than the key stands after all rows that
// begin with it.
func compare(key []keyColumn, of side, bound [][]byte, p *params) string {
	values, names := make([]string, len(bound)), make([]string, len(bound))
	same := true
	for i, v := range bound {
		names[i], values[i] = key[i].sql(), p.add(v)+"::"+key[i].typ
		same = same && key[i].greater == key[0].greater && key[i].atMost == key[0].atMost
	}
	last, _ := key[len(bound)-1].operator(of)
	if same && len(bound) > 1 {
		return "(" + strings.Join(names, ", ") + ") " + last + " (" + strings.Join(values, ", ") + ")"
	}
	condition := "(" + names[len(bound)-1] + " " + last + " " + values[len(bound)-1] + ")"
	for i := len(bound) - 2; i >= 0; i-- {
		_, strict := key[i].operator(of)
		condition = "(" + names[i] + " " + strict + " " + values[i] + " OR (" + names[i] + " " + key[i].equal + " " + values[i] + " AND " + condition + "))"
	}
	return condition
}

func orderBy(key []keyColumn) string {
	names := make([]string, len(key))
	for i := range key {
		names[i] = key[i].sql()
		if key[i].own {
			names[i] += " USING " + key[i].less
		}
	}
	return strings.Join(names, ", ")
}

// A bound is a JSON object: the names and types of the key's columns, in their order, with the values as the server prints them. With
// another type or collation the order may be another one. Where values are not UTF-8, as a database with the encoding SQL_ASCII may have them, they are {"_base64":"…"}.

func appendBound(key []keyColumn, values [][]byte) snapshot.Bound {
	b := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, key[i].label())
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
var errBound = fmt.Errorf("the place up to which the table was read is not one of its key, which is another one now: %w", snapshot.ErrAnew)

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
		if err != nil || string(raw) == "null" || len(values) == len(key) || name != key[len(values)].label() {
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
