// Package outbox is the processor deltaforge_outbox: it makes the messages that an application has put into a table, or into the log, in the
// transaction that they are about.
package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

func init() {
	step.Register("deltaforge_outbox", spec(), func(conf *service.ParsedConfig, res *service.Resources) (*processor, error) {
		c, err := parse(conf)
		return &processor{config: c, dropped: step.Dropped(res)}, err
	})
}

type processor struct {
	*config
	dropped *service.MetricCounter
	tables  step.Cache[*table]
}

// table is what the configuration makes of one table.
type table struct {
	outbox   bool
	payload  int // the index of the column
	captures []string
	err      error
}

// The reasons for which an event is dropped.
const (
	byUpdate   = "update"
	byDelete   = "delete"
	byTruncate = "truncate"
)

// Process implements step.Processor.
func (p *processor) Process(_ context.Context, batch service.MessageBatch) service.MessageBatch {
	out := make(service.MessageBatch, 0, len(batch))
	step.Changes(batch, func(c step.Change) {
		made, reason, err := p.one(c)
		switch {
		case err != nil:
			c.Fail(fmt.Errorf("deltaforge_outbox: table %s: %w", c.Event.Table.FullName(), err))
			out = append(out, c.Messages...)
		case reason != "":
			p.dropped.Incr(1, reason)
		case made != nil:
			out = append(out, made)
		default:
			out = append(out, c.Messages...)
		}
	})
	return out
}

// one returns the message that an event asks for, why it is dropped, or neither if the event is not one of an outbox.
func (p *processor) one(c step.Change) (made *service.Message, reason string, err error) {
	ev := c.Event
	if ev == nil {
		return nil, "", nil
	}
	if ev.Op == change.Message && ev.Table.FullName() == "pg_logical.message" {
		if !p.prefixed(ev) {
			return nil, "", nil
		}
		row, err := p.unpack(ev)
		if err != nil {
			return nil, "", fmt.Errorf("message with the prefix %q: %w", step.Value(ev, 0).Bytes(), err)
		}
		t := p.check(row.Table)
		if t.err != nil {
			return nil, "", t.err
		}
		made, err = p.message(c, row, t)
		return made, "", err
	}
	t := p.tables.Get(ev.Table, p.compile)
	if !t.outbox {
		return nil, "", nil
	}
	if t.err != nil {
		return nil, "", t.err
	}
	switch ev.Op {
	case change.Create, change.Read:
		row := ev.Derive()
		made, err = p.message(c, row, t)
		return made, "", err
	case change.Update:
		if p.updates == "drop" {
			return nil, byUpdate, nil
		}
		return nil, "", fmt.Errorf("a row of an outbox was updated, and its message is gone already; insert another row, or set %s: drop", fieldUpdates)
	case change.Delete:
		return nil, byDelete, nil
	case change.Truncate:
		return nil, byTruncate, nil
	default: // a change of its shape
		return nil, "", nil
	}
}

// prefixed reports whether a logical message is one of the outbox.
func (p *processor) prefixed(ev *change.Event) bool {
	prefix := string(step.Value(ev, 0).Bytes())
	return slices.ContainsFunc(p.prefixes, func(pattern string) bool { return tablefilter.MatchName(pattern, prefix) })
}

func (p *processor) compile(t *change.Table) *table {
	if len(p.outboxes) == 0 || !p.outboxes.Match(t) {
		return &table{}
	}
	out := p.check(t)
	out.captures = p.outboxes.Captures(t)
	return out
}

// check finds what the configuration names in a table.
func (c *config) check(t *change.Table) *table {
	out := &table{outbox: true, payload: t.Column(c.payload)}
	if out.payload < 0 {
		out.err = fmt.Errorf("there is no column %s; set %s.%s to the column that has the payload", c.payload, fieldFields, fieldPayload)
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(c.templates)) {
		if err := c.templates[name].Check(t); err != nil {
			out.err = fmt.Errorf("%s: %w", name, err)
			return out
		}
	}
	return out
}

// message makes the message of a row.
func (p *processor) message(c step.Change, row *change.Event, t *table) (*service.Message, error) {
	payload, err := p.payloadOf(step.Value(row, t.payload))
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", p.payload, err)
	}
	var key []byte
	metadata := map[string]string{}
	for name, tmpl := range p.templates {
		text, err := tmpl.Append(nil, row, t.captures)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if name == change.MetaKey {
			key = text
		}
		metadata[name] = string(text)
	}
	row.Op, row.Images, row.Change = change.Create, change.ImagesOf(nil, row.After()), nil
	m := change.Replace(c.Messages[0], change.NewMessage(row, payload, key))
	for name, text := range metadata {
		m.MetaSetMut(name, text)
	}
	return m, nil
}

// payloadOf returns the bytes of a payload.
func (c *config) payloadOf(v change.Value) ([]byte, error) {
	if v.IsNull() {
		return nil, errors.New("the payload is NULL; an outbox row needs one")
	}
	text := v.Bytes()
	if v.Kind() != change.Bytes {
		var err error
		if text, err = step.AppendText(nil, v); err != nil {
			return nil, err
		}
	}
	if c.expand {
		return expand(text)
	}
	return text, nil
}

// expand returns the JSON that a payload is. A string that holds JSON is what it holds.
func expand(text []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return nil, fmt.Errorf("%s is set, and the payload is not JSON", fieldExpand)
	}
	if b.Len() > 0 && b.Bytes()[0] == '"' {
		var inner string
		if err := json.Unmarshal(b.Bytes(), &inner); err == nil && json.Valid([]byte(inner)) {
			return expand([]byte(inner))
		}
	}
	return b.Bytes(), nil
}

var errContent = errors.New("its content is not a JSON object with the fields of an outbox")

// unpack makes a row of the JSON object in a logical message.
func (p *processor) unpack(ev *change.Event) (*change.Event, error) {
	content := step.Value(ev, 1).Bytes()
	dec := json.NewDecoder(bytes.NewReader(content))
	start, err := dec.Token()
	if err != nil || start != json.Delim('{') || !json.Valid(content) {
		return nil, errContent
	}
	var columns []change.Column
	var row []change.Value
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, errContent
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, errContent
		}
		name, _ := token.(string)
		columns = append(columns, change.Column{Name: name, Type: "json", Logical: change.LogicalJSON, Nullable: true})
		row = append(row, valueOf(raw, name == p.payload))
	}
	d := ev.Derive()
	d.Table, d.Images = ev.Table.With(columns, nil), change.ImagesOf(ev.Before(), row)
	return d, nil
}

// valueOf returns a field: the text of a string, anything else as JSON. The payload stays JSON, whatever it is.
func valueOf(raw json.RawMessage, payload bool) change.Value {
	var s string
	switch {
	case string(raw) == "null":
		return change.NullValue()
	case !payload && raw[0] == '"' && json.Unmarshal(raw, &s) == nil:
		return change.TextValue([]byte(s))
	default:
		return change.JSONValue(raw)
	}
}
