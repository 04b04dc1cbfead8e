package columns

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// transform makes another value of one that is neither NULL nor unknown.
type transform func(v change.Value) change.Value

// column is a column of what comes out.
type column struct {
	change.Column
	from       int  // its index in the source's table
	key        bool // it identifies rows
	transforms []transform
}

// plan is what is done to the rows of one table.
type plan struct {
	table   *change.Table // what comes out
	columns []column
	untold  []byte // the salt for event ids that hold a masked key; nil when the key is not masked
	same    bool   // nothing is done
	err     error  // of the rows of the table
}

// compile makes the plan for a table.
func compile(rules []rule, t *change.Table) *plan {
	p := &plan{same: true}
	for i, c := range t.Columns {
		p.columns = append(p.columns, column{Column: c, from: i, key: slices.Contains(t.Key, i)})
	}
	for i := range rules {
		if !rules[i].tables.Match(t) {
			continue
		}
		p.same = false
		if err := p.apply(&rules[i]); err != nil {
			p.err = fmt.Errorf("deltaforge_columns: table %s: %w", t.FullName(), err)
			return p
		}
	}
	if p.same {
		p.table = t
		return p
	}
	columns, key := make([]change.Column, len(p.columns)), make([]int, len(t.Key))
	for i, c := range p.columns {
		columns[i] = c.Column
		if k := slices.Index(t.Key, c.from); k >= 0 {
			key[k] = i
		}
	}
	p.table = t.With(columns, key)
	return p
}

func (p *plan) apply(r *rule) error {
	for _, name := range r.named() {
		if !slices.ContainsFunc(p.columns, func(c column) bool { return c.Name == name }) {
			return fmt.Errorf("there is no column %s; mend the rule, limit it to other `tables`, or write a pattern such as %s%%", name, name)
		}
	}
	for i := range p.columns {
		if err := p.change(&p.columns[i], r); err != nil {
			return fmt.Errorf("column %s: %w", p.columns[i].Name, err)
		}
	}
	kept := p.columns[:0:0]
	for _, c := range p.columns {
		switch out := r.exclude.has(c.Name); {
		case out && c.key:
			return fmt.Errorf("column %s: it is part of the key, and without it rows cannot be told apart; mask it with %s in place of taking it out", c.Name, withHash)
		case !out && (len(r.include) == 0 || r.include.has(c.Name) || c.key):
			kept = append(kept, c)
		}
	}
	seen := map[string]bool{}
	for i := range kept {
		if to, ok := r.rename[kept[i].Name]; ok {
			kept[i].Name = to
		}
		if seen[kept[i].Name] || kept[i].Name == "" {
			return fmt.Errorf("column %s: another column has the name %q already; mend %s", p.columns[i].Name, kept[i].Name, fieldRename)
		}
		seen[kept[i].Name] = true
	}
	p.columns = kept
	return nil
}

// change applies the masks and the lengths of a rule to a column.
func (p *plan) change(c *column, r *rule) error {
	for i := range r.masks {
		m := &r.masks[i]
		if !m.columns.has(c.Name) {
			continue
		}
		switch {
		case c.key && m.with != withHash:
			return fmt.Errorf("it is part of the key, and masked with %s rows cannot be told apart; mask it with %s", m.with, withHash)
		case m.with == withLast && c.Logical == change.LogicalBytes:
			return fmt.Errorf("its type is %s, which has no characters; mask it with %s or %s", c.Type, withHash, withFixed)
		case c.key:
			p.untold = m.salt
		}
		c.transforms = append(c.transforms, m.transform())
		c.Column = change.Column{Name: c.Name, Type: "text", Nullable: c.Nullable}
		if m.with == withHash {
			c.Type = "char(64)"
		}
	}
	for _, t := range r.truncates {
		switch {
		case !t.columns.has(c.Name):
		case c.key:
			return fmt.Errorf("it is part of the key, and shortened rows cannot be told apart; mask it with %s", withHash)
		case c.Logical == change.LogicalText || c.Logical == change.LogicalBytes:
			c.transforms = append(c.transforms, shorten(t.length))
		default:
			return fmt.Errorf("its type is %s, and only text and binary data can be shortened", c.Type)
		}
	}
	return nil
}

func (m *mask) transform() transform {
	switch m.with {
	case withHash:
		return m.hash
	case withLast:
		return func(v change.Value) change.Value { return change.TextValue(keepLast(textOf(v), m.keep)) }
	default:
		return func(change.Value) change.Value { return change.TextValue(m.text) }
	}
}

func (m *mask) hash(v change.Value) change.Value { return change.TextValue(sum(m.salt, textOf(v))) }

func sum(salt, text []byte) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write(text)
	return hex.AppendEncode(make([]byte, 0, 2*sha256.Size), h.Sum(make([]byte, 0, sha256.Size)))
}

// textOf returns a value as text: what the database prints, binary data as it is.
func textOf(v change.Value) []byte {
	if b := v.Bytes(); b != nil {
		return b
	}
	switch v.Kind() {
	case change.Text, change.Bytes, change.Decimal, change.JSON:
		return nil // empty
	default:
		return envelope.AppendValue(make([]byte, 0, 24), v)
	}
}

// keepLast returns text of which all but the last n characters are asterisks, and all of them if it has no more than that.
func keepLast(text []byte, n int) []byte {
	count := utf8.RuneCount(text)
	out := make([]byte, 0, len(text))
	for i := 0; len(text) > 0; i++ {
		_, size := utf8.DecodeRune(text)
		if count <= n || i < count-n {
			out = append(out, '*')
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}

// shorten keeps the first characters of text, and the first bytes of binary data.
func shorten(n int) transform {
	return func(v change.Value) change.Value {
		b := v.Bytes()
		if v.Kind() == change.Bytes {
			return change.BytesValue(b[:min(n, len(b))])
		}
		at := 0
		for range n {
			if at == len(b) {
				return v
			}
			_, size := utf8.DecodeRune(b[at:])
			at += size
		}
		return change.TextValue(b[:at])
	}
}

// row returns what becomes of a row.
func (p *plan) row(row []change.Value) []change.Value {
	if row == nil {
		return nil
	}
	out := make([]change.Value, len(p.columns))
	for i := range p.columns {
		c := &p.columns[i]
		if c.from >= len(row) {
			continue
		}
		v := row[c.from]
		if v.Known() && !v.IsNull() {
			for _, f := range c.transforms {
				v = f(v)
			}
		}
		out[i] = v
	}
	return out
}
