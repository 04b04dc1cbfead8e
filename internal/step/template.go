package step

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// Template is a text with places for what an event says: {source}, {database}, {schema}, {table}, {op}, {operation}, {row.COLUMN}, and {1},
// {2} and so on for what % and * stand for in the table pattern. {{ is a brace.
type Template struct {
	text  string
	parts []part
}

type part struct {
	literal string
	name    string // of the place; empty for a literal
	column  string // of {row.COLUMN}
	capture int    // of {1}
}

// TemplateHelp describes templates to a user.
const TemplateHelp = "May contain `{source}`, `{database}`, `{schema}`, `{table}`, `{op}`, `{operation}`, `{row.COLUMN}`, and `{1}`, `{2}` and so on for what the wildcards of the table " +
	"pattern stand for. `{{` is a brace."

// ParseTemplate reads a template. Captures is how many wildcards each pattern has at least.
func ParseTemplate(text string, captures int) (*Template, error) {
	t := &Template{text: text}
	literal := func(s string) {
		if n := len(t.parts); n > 0 && t.parts[n-1].name == "" {
			t.parts[n-1].literal += s
		} else if s != "" {
			t.parts = append(t.parts, part{literal: s})
		}
	}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		literal(before)
		if !found {
			break
		}
		if strings.HasPrefix(after, "{") {
			literal("{")
			rest = after[1:]
			continue
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("%q: a { has no }; write {{ for a brace", text)
		}
		p, err := parsePlace(name, captures)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		t.parts = append(t.parts, p)
		rest = tail
	}
	return t, nil
}

func parsePlace(name string, captures int) (part, error) {
	switch name {
	case "source", "database", "schema", "table", "op", "operation":
		return part{name: name}, nil
	}
	if column, ok := strings.CutPrefix(name, "row."); ok && column != "" {
		return part{name: name, column: column}, nil
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 {
		return part{}, fmt.Errorf("{%s} is not known; want {source}, {database}, {schema}, {table}, {op}, {operation}, {row.COLUMN}, or a number from 1", name)
	}
	if n > captures {
		return part{}, fmt.Errorf("{%s}: a table pattern has %d wildcards only", name, captures)
	}
	return part{name: name, capture: n}, nil
}

// String returns the template as it was written.
func (t *Template) String() string { return t.text }

// Check returns an error if the table lacks a column of the template.
func (t *Template) Check(table *change.Table) error {
	for _, p := range t.parts {
		if p.column != "" && table.Column(p.column) < 0 {
			return fmt.Errorf("%q: there is no column %s; mend the template, or limit the rule to other `%s`", t.text, p.column, FieldTables)
		}
	}
	return nil
}

// Append appends what the template says of an event. A value that is NULL, or that the log does not have, is an error.
func (t *Template) Append(dst []byte, ev *change.Event, captures []string) ([]byte, error) {
	for _, p := range t.parts {
		switch {
		case p.column != "":
			v := Value(ev, ev.Table.Column(p.column))
			var err error
			if dst, err = AppendText(dst, v); err != nil {
				return dst, fmt.Errorf("%q: column %s: %w", t.text, p.column, err)
			}
		case p.capture > 0:
			if p.capture <= len(captures) {
				dst = append(dst, captures[p.capture-1]...)
			}
		default:
			dst = p.append(dst, ev)
		}
	}
	return dst, nil
}

// AppendJSON appends what the template says as JSON: a template that is a column alone as its value, any other as a string.
func (t *Template) AppendJSON(dst []byte, ev *change.Event, captures []string) ([]byte, error) {
	if len(t.parts) == 1 && t.parts[0].column != "" {
		v := Value(ev, ev.Table.Column(t.parts[0].column))
		if !v.Known() {
			return dst, fmt.Errorf("%q: column %s: %w", t.text, t.parts[0].column, errUnknown)
		}
		return envelope.AppendValue(dst, v), nil
	}
	text, err := t.Append(nil, ev, captures)
	if err != nil {
		return dst, err
	}
	return envelope.AppendString(dst, text), nil
}

func (p *part) append(dst []byte, ev *change.Event) []byte {
	switch p.name {
	case "source":
		return append(dst, ev.Table.Source.Name...)
	case "database":
		return append(dst, ev.Table.Database...)
	case "schema":
		return append(dst, ev.Table.Schema...)
	case "table":
		return append(dst, ev.Table.Name...)
	case "op":
		return append(dst, byte(ev.Op))
	case "operation":
		return append(dst, ev.Op.Name()...)
	default:
		return append(dst, p.literal...)
	}
}

// Value returns a column's value in the row of an event: the row after the change, else the row before it. It is absent for a negative column.
func Value(ev *change.Event, column int) change.Value {
	for _, row := range [2][]change.Value{ev.After(), ev.Before()} {
		if column >= 0 && column < len(row) && row[column].Known() {
			return row[column]
		}
	}
	return change.Value{}
}

// AppendText appends a value as text: what the database prints. It has no text for NULL, for what the log does not have, and for binary data.
func AppendText(dst []byte, v change.Value) ([]byte, error) {
	switch v.Kind() {
	case change.Absent, change.Unavailable:
		return dst, errUnknown
	case change.Null:
		return dst, errNull
	case change.Bytes:
		return dst, errBinary
	case change.Text, change.Decimal, change.JSON:
		return append(dst, v.Bytes()...), nil
	default:
		return envelope.AppendValue(dst, v), nil
	}
}
