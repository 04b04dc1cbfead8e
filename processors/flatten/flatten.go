// Package flatten is the processor deltaforge_flatten: it makes columns of what is in JSON columns.
package flatten

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

const (
	fieldColumns    = "columns"
	fieldSeparator  = "separator"
	fieldDepth      = "depth"
	fieldLists      = "lists"
	fieldCollisions = "collisions"

	// most bounds the columns of a row.
	most = 2000
)

func init() {
	step.Register("deltaforge_flatten", spec(), func(conf *service.ParsedConfig, _ *service.Resources) (*processor, error) {
		p := &processor{}
		return p, p.parse(conf)
	})
}

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Mapping").
		Version("0.1.0").
		Summary("Makes columns of what is in JSON columns: `doc` with `{\"a\":{\"b\":1}}` becomes `doc.a.b`.").
		Description(`
The columns that were made take the place of the column that they come from, in the order of the document. A number keeps its digits, a text becomes a string. What has nothing
to take apart stays in a column of the old name: NULL, a scalar, an empty object, a value that the log does not have. The rows before and after the change are flattened alike. The
key is not touched.

So the columns of a row depend on its documents, and so does the `+"`schema_version`"+`. Documents whose field names are data (ids, dates) make a new shape for nearly every row: leave
such columns out, or bound the `+"`depth`"+`. Events about a table's shape show the table as it is in the database.

The payload is made anew from the event. So put this processor before those that change payloads; where it finds a changed payload it fails. A row that would have more than
`+strconv.Itoa(most)+` columns is an error, too.
`).
		Fields(
			step.TablesField("are flattened"),
			service.NewStringListField(fieldColumns).Default([]any{}).
				Description("The columns, by name or pattern with `%`. A table that lacks a column which is named in full is an error. Empty: every column of JSON, composites, maps and, with `lists: index`, arrays."),
			service.NewStringField(fieldSeparator).Default(".").Description("What stands between the names."),
			service.NewIntField(fieldDepth).Default(0).LintRule(`root = if this < 0 { ["want at least 0"] }`).
				Description("How many levels are taken apart; what is below stays JSON. 0: all, up to 100."),
			service.NewStringAnnotatedEnumField(fieldLists, map[string]string{
				"keep": "A list stays a JSON list.", "index": "Its elements become columns, named by their place from 0.",
			}).Default("keep").Description("What becomes of lists."),
			service.NewStringAnnotatedEnumField(fieldCollisions, map[string]string{
				"error": "It is an error of the event.", "first": "The first one counts, the others are left out.",
			}).Default("error").Description("What becomes of two columns with one name."),
		).
		Example("One document column", "", `
pipeline:
  processors:
    - deltaforge_flatten:
        tables: [ "shop.orders" ]
        columns: [ attributes ]
        separator: _
`)
}

type processor struct {
	tables    step.Tables
	columns   []string
	separator string
	depth     int
	index     bool
	first     bool
	plans     step.Cache[*plan]
	shapes    step.Shapes
}

// plan says what is flattened in a table.
type plan struct {
	flat []bool // by column
	any  bool
	err  error
}

func (p *processor) parse(conf *service.ParsedConfig) (err error) {
	if p.tables, err = step.ParseTables(conf, step.FieldTables); err != nil {
		return err
	}
	if p.columns, err = conf.FieldStringList(fieldColumns); err != nil {
		return err
	}
	if p.separator, err = conf.FieldString(fieldSeparator); err != nil {
		return err
	}
	if p.depth, err = conf.FieldInt(fieldDepth); err != nil {
		return err
	}
	if p.depth < 0 {
		return fmt.Errorf("%s: want at least 0", fieldDepth)
	}
	if p.depth == 0 || p.depth > 100 {
		p.depth = 100
	}
	lists, err := conf.FieldString(fieldLists)
	if err != nil {
		return err
	}
	collisions, err := conf.FieldString(fieldCollisions)
	if err != nil {
		return err
	}
	if lists != "keep" && lists != "index" {
		return fmt.Errorf("%s: want keep or index, got %q", fieldLists, lists)
	}
	if collisions != "error" && collisions != "first" {
		return fmt.Errorf("%s: want error or first, got %q", fieldCollisions, collisions)
	}
	p.index, p.first = lists == "index", collisions == "first"
	return nil
}

// Process implements step.Processor.
func (p *processor) Process(ctx context.Context, batch service.MessageBatch) service.MessageBatch {
	out := make(service.MessageBatch, 0, len(batch))
	var maker step.Maker
	step.Changes(batch, func(c step.Change) {
		if c.Event != nil {
			ev, err := p.derive(c)
			if err != nil {
				c.Fail(fmt.Errorf("deltaforge_flatten: table %s: %w", c.Event.Table.FullName(), err))
			} else if ev != nil {
				out = maker.Append(ctx, out, c, ev)
				return
			}
		}
		out = append(out, c.Messages...)
	})
	return out
}

// derive returns what becomes of an event, or nil if nothing does.
func (p *processor) derive(c step.Change) (*change.Event, error) {
	ev := c.Event
	if ev.Before() == nil && ev.After() == nil {
		return nil, nil
	}
	plan := p.plans.Get(ev.Table, p.compile)
	if plan.err != nil || !plan.any {
		return nil, plan.err
	}
	if err := c.Replaced(); err != nil {
		return nil, err
	}
	w := walk{p: p, places: map[string]int{}}
	for i := range ev.Table.Columns {
		for n, row := range [2][]change.Value{ev.Before(), ev.After()} {
			if err := w.column(&ev.Table.Columns[i], i, n, row, plan.flat[i]); err != nil {
				return nil, fmt.Errorf("column %s: %w", ev.Table.Columns[i].Name, err)
			}
		}
	}
	d := ev.Derive()
	d.Table = p.shapes.Table(ev.Table, w.columns)
	d.Images = change.ImagesOf(w.row(0, ev.Before()), w.row(1, ev.After()))
	return d, nil
}

func (p *processor) compile(t *change.Table) *plan {
	out := &plan{flat: make([]bool, len(t.Columns))}
	if !p.tables.Match(t) {
		return out
	}
	for _, name := range p.columns {
		if !strings.Contains(name, "%") && t.Column(name) < 0 {
			out.err = fmt.Errorf("there is no column %s; mend `%s`, limit `%s`, or write a pattern such as %s%%", name, fieldColumns, step.FieldTables, name)
			return out
		}
	}
	for i, c := range t.Columns {
		nested := c.Logical == change.LogicalJSON || c.Logical == change.LogicalObject || c.Logical == change.LogicalMap || p.index && c.Logical == change.LogicalArray
		named := slices.ContainsFunc(p.columns, func(s string) bool { return tablefilter.MatchName(s, c.Name) })
		out.flat[i] = nested && (len(p.columns) == 0 || named) && !slices.Contains(t.Key, i)
		out.any = out.any || out.flat[i]
	}
	return out
}

// walk gathers the columns of the two rows of an event.
type walk struct {
	p       *processor
	columns []step.Column
	places  map[string]int // by name, in columns
	values  [2][]change.Value
}

var (
	errMany = fmt.Errorf("the row would have more than %d columns; bound `%s`, or leave columns out", most, fieldDepth)
	errJSON = errors.New("its value is not JSON")
)

// column takes a column of a row in.
func (w *walk) column(c *change.Column, from, n int, row []change.Value, flat bool) error {
	if from >= len(row) || row[from].Kind() == change.Absent {
		return nil
	}
	if !flat || row[from].Kind() != change.JSON {
		return w.put(*c, from, n, row[from])
	}
	return w.document(*c, c.Name, from, n, row[from].Bytes(), w.p.depth)
}

// document takes a JSON value in.
func (w *walk) document(c change.Column, name string, from, n int, raw []byte, depth int) error {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return errJSON
	}
	if depth == 0 || raw[0] != '{' && (raw[0] != '[' || !w.p.index) {
		if name != c.Name {
			c = change.Column{Name: name, Type: "json", Logical: change.LogicalJSON, Nullable: true}
		}
		return w.put(c, from, n, change.JSONValue(raw))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	start, err := dec.Token()
	if err != nil {
		return errJSON
	}
	empty := true
	for i := 0; dec.More(); i++ {
		field := strconv.Itoa(i)
		if start == json.Delim('{') {
			token, err := dec.Token()
			if err != nil {
				return errJSON
			}
			field, _ = token.(string)
		}
		var inner json.RawMessage
		if err := dec.Decode(&inner); err != nil {
			return errJSON
		}
		if err := w.document(change.Column{}, name+w.p.separator+field, from, n, inner, depth-1); err != nil {
			return err
		}
		empty = false
	}
	if empty {
		return w.document(c, name, from, n, raw, 0)
	}
	return nil
}

// put adds a value to a row. Both rows have the same column for one name.
func (w *walk) put(c change.Column, from, n int, v change.Value) error {
	at, ok := w.places[c.Name]
	switch {
	case !ok:
		if len(w.columns) == most {
			return errMany
		}
		at = len(w.columns)
		w.places[c.Name] = at
		w.columns = append(w.columns, step.Column{Column: c, From: from})
	case w.columns[at].From == from && (at >= len(w.values[n]) || w.values[n][at].Kind() == change.Absent):
		// the other row has made it
	case w.p.first:
		return nil
	default:
		return fmt.Errorf("two columns would have the name %q; choose another `%s`, or set %s: first", c.Name, fieldSeparator, fieldCollisions)
	}
	for len(w.values[n]) <= at {
		w.values[n] = append(w.values[n], change.Value{})
	}
	w.values[n][at] = v
	return nil
}

// row returns a row with a value for each column, nil for none.
func (w *walk) row(n int, was []change.Value) []change.Value {
	if was == nil {
		return nil
	}
	for len(w.values[n]) < len(w.columns) {
		w.values[n] = append(w.values[n], change.Value{})
	}
	return w.values[n]
}
