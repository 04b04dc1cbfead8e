// Package route is the processor deltaforge_route: it says where the events of a table go.
package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/step"
)

const (
	fieldRules     = "rules"
	fieldTopic     = "topic"
	fieldKey       = "key"
	fieldKeyFields = "key_fields"
	fieldName      = "name"
	fieldValue     = "value"
	fieldHeaders   = "headers"
	fieldUnmatched = "unmatched"

	// metaTopic is where outputs find the topic: topic: ${! @topic }.
	metaTopic = "topic"
)

func init() {
	step.Register("deltaforge_route", spec(), func(conf *service.ParsedConfig, res *service.Resources) (*processor, error) {
		p := &processor{dropped: step.Dropped(res)}
		return p, p.parse(conf)
	})
}

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Utility").
		Version("0.1.0").
		Summary("Says, by table, to which topic an event goes, with which key and headers.").
		Description(`
The first rule whose tables match sets metadata of the message: `+"`topic`, `key`"+` and the headers, each under its name. The payload stays as it is.

An output reads it: `+"`topic: ${! @topic }`"+` of `+"`deltaforge_kafka`, `stream: ${! @topic }`"+` of `+"`deltaforge_redis`"+`. Both take the key from the metadata `+"`key`"+` by themselves. Headers of
Kafka are what the field `+"`headers` or `metadata`"+` of the output names.

Column values are those after the change, and those before it for a delete and where the log does not have the value after the change. A table that lacks a column, and a row
in which it is NULL or not in the log, is an error of the event, which goes on with it; our outputs refuse it. Truncates and changes of a table's shape have no row: where a
key or a header needs one, it is left as it is, and where the topic needs one, that is an error.
`).
		Fields(
			service.NewObjectListField(fieldRules,
				step.TablesField("the rule is for"),
				service.NewStringField(fieldTopic).Default("").Description("The topic or stream. "+step.TemplateHelp+" Empty: none is set.").Example("orders").Example("{database}.{table}"),
				service.NewStringField(fieldKey).Default("").Description("The key of the message, as text. "+step.TemplateHelp+" Empty: the key stays as it is.").Example("{database}/{row.id}"),
				service.NewObjectListField(fieldKeyFields,
					service.NewStringField(fieldName).Description("The name of the field."),
					service.NewStringField(fieldValue).Description("Its value, a template. A column alone has its own type, everything else is a string."),
				).Default([]any{}).Description("The key of the message as a JSON object, in place of `key`."),
				service.NewStringMapField(fieldHeaders).Default(map[string]any{}).Description("Metadata by name, each a template.").Example(map[string]any{"shard": "{database}"}),
			).LintRule(`root = if this.type() == "array" && this.length() == 0 { ["want at least one rule"] }`).
				Description("The rules, of which the first that matches counts."),
			service.NewStringEnumField(fieldUnmatched, "keep", "drop", "error").Default("keep").
				Description("What becomes of the events of other tables. Dropped events are counted in `processor_dropped_total`, with the reason `unmatched`."),
		).
		Example("Shards to one topic", "Each shard is a database of its own; the key tells their rows apart.", `
pipeline:
  processors:
    - deltaforge_route:
        rules:
          - tables: [ "shard_%.orders" ]
            topic: orders
            key_fields:
              - { name: shard, value: "{1}" }
              - { name: id, value: "{row.id}" }
            headers: { shard: "{1}" }
`)
}

// field is a field of a key, or a header.
type field struct {
	name  string
	value *step.Template
}

type rule struct {
	tables  step.Tables
	topic   *step.Template
	key     *step.Template
	fields  []field
	headers []field
}

type processor struct {
	rules     []rule
	unmatched string
	dropped   *service.MetricCounter
	tables    step.Cache[*target]
}

// target is the rule of a table.
type target struct {
	*rule
	captures []string
	err      error
}

func (p *processor) parse(conf *service.ParsedConfig) (err error) {
	if p.unmatched, err = conf.FieldString(fieldUnmatched); err != nil {
		return err
	}
	if !slices.Contains([]string{"keep", "drop", "error"}, p.unmatched) {
		return fmt.Errorf("%s: want keep, drop or error, got %q", fieldUnmatched, p.unmatched)
	}
	list, err := conf.FieldObjectList(fieldRules)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("%s: want at least one", fieldRules)
	}
	for i, c := range list {
		r, err := parseRule(c)
		if err != nil {
			return fmt.Errorf("%s %d: %w", fieldRules, i, err)
		}
		p.rules = append(p.rules, r)
	}
	return nil
}

func parseRule(conf *service.ParsedConfig) (r rule, err error) {
	if r.tables, err = step.ParseTables(conf, step.FieldTables); err != nil {
		return r, err
	}
	template := func(text string) (*step.Template, error) { return step.ParseTemplate(text, r.tables.Wildcards()) }
	for name, to := range map[string]**step.Template{fieldTopic: &r.topic, fieldKey: &r.key} {
		text, err := conf.FieldString(name)
		if err != nil {
			return r, err
		}
		if text == "" {
			continue
		}
		if *to, err = template(text); err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
	}
	list, err := conf.FieldObjectList(fieldKeyFields)
	if err != nil {
		return r, err
	}
	if len(list) > 0 && r.key != nil {
		return r, errors.New("want key or key_fields, got both")
	}
	for _, c := range list {
		name, err := c.FieldString(fieldName)
		if err != nil {
			return r, err
		}
		text, err := c.FieldString(fieldValue)
		if err != nil {
			return r, err
		}
		t, err := template(text)
		if err != nil {
			return r, fmt.Errorf("%s: %s: %w", fieldKeyFields, name, err)
		}
		r.fields = append(r.fields, field{name, t})
	}
	headers, err := conf.FieldStringMap(fieldHeaders)
	if err != nil {
		return r, err
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		t, err := template(headers[name])
		if err != nil {
			return r, fmt.Errorf("%s: %s: %w", fieldHeaders, name, err)
		}
		if name == change.MetaEventID || name == metaTopic || name == change.MetaKey {
			return r, fmt.Errorf("%s: %s has a meaning of its own; choose another name", fieldHeaders, name)
		}
		r.headers = append(r.headers, field{name, t})
	}
	return r, nil
}

// Process implements step.Processor.
func (p *processor) Process(_ context.Context, batch service.MessageBatch) service.MessageBatch {
	out := make(service.MessageBatch, 0, len(batch))
	dropped := int64(0)
	step.Changes(batch, func(c step.Change) {
		if c.Event == nil {
			out = append(out, c.Messages...)
			return
		}
		t := p.tables.Get(c.Event.Table, p.compile)
		switch {
		case t.err != nil:
			c.Fail(t.err)
		case t.rule == nil && p.unmatched == "drop":
			dropped++
			return
		case t.rule == nil:
		default:
			routed, err := t.apply(c)
			if err == nil {
				out = append(out, routed...)
				return
			}
			c.Fail(fmt.Errorf("deltaforge_route: table %s: %w", c.Event.Table.FullName(), err))
		}
		out = append(out, c.Messages...)
	})
	if dropped > 0 {
		p.dropped.Incr(dropped, "unmatched")
	}
	return out
}

func (p *processor) compile(table *change.Table) *target {
	i := slices.IndexFunc(p.rules, func(r rule) bool { return r.tables.Match(table) })
	t := &target{}
	switch {
	case i >= 0:
		t.rule, t.captures = &p.rules[i], p.rules[i].tables.Captures(table)
		t.err = t.check(table)
	case p.unmatched == "error":
		t.err = fmt.Errorf("no rule is for it; add one, or set %s", fieldUnmatched)
	}
	if t.err != nil {
		t.err = fmt.Errorf("deltaforge_route: table %s: %w", table.FullName(), t.err)
	}
	return t
}

// check returns an error if the table lacks a column of a template.
func (r *rule) check(table *change.Table) error {
	all := append(slices.Clone(r.fields), r.headers...)
	for _, t := range []*step.Template{r.topic, r.key} {
		if t != nil {
			all = append(all, field{value: t})
		}
	}
	for _, f := range all {
		if err := f.value.Check(table); err != nil {
			return err
		}
	}
	return nil
}

// apply returns the messages of a change with what the rule says.
func (t *target) apply(c step.Change) (service.MessageBatch, error) {
	set := map[string]string{}
	ev := c.Event
	rowless := ev.Before() == nil && ev.After() == nil
	var buf []byte
	var err error
	if t.topic != nil {
		if buf, err = t.topic.Append(nil, ev, t.captures); err != nil {
			return nil, fmt.Errorf("%s: %w", fieldTopic, err)
		}
		set[metaTopic] = string(buf)
	}
	if t.key != nil {
		if buf, err = t.key.Append(nil, ev, t.captures); err == nil {
			set[change.MetaKey] = string(buf)
		} else if !rowless {
			return nil, fmt.Errorf("%s: %w", fieldKey, err)
		}
	}
	if len(t.fields) > 0 {
		if buf, err = t.appendKey(nil, ev); err == nil {
			set[change.MetaKey] = string(buf)
		} else if !rowless {
			return nil, fmt.Errorf("%s: %w", fieldKeyFields, err)
		}
	}
	for _, h := range t.headers {
		if buf, err = h.value.Append(nil, ev, t.captures); err == nil {
			set[h.name] = string(buf)
		} else if !rowless {
			return nil, fmt.Errorf("%s: %s: %w", fieldHeaders, h.name, err)
		}
	}
	out := make(service.MessageBatch, len(c.Messages))
	for i, m := range c.Messages {
		m = m.Copy()
		for k, v := range set {
			m.MetaSetMut(k, v)
		}
		out[i] = m
	}
	return out, nil
}

func (t *target) appendKey(dst []byte, ev *change.Event) ([]byte, error) {
	for i, f := range t.fields {
		dst = append(dst, "{,"[min(i, 1)])
		dst = append(envelope.AppendString(dst, f.name), ':')
		var err error
		if dst, err = f.value.AppendJSON(dst, ev, t.captures); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
