package outbox

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
)

const (
	fieldPrefixes = "message_prefixes"
	fieldFields   = "fields"
	fieldID       = "id"
	fieldType     = "type"
	fieldAggType  = "aggregatetype"
	fieldAggID    = "aggregateid"
	fieldPayload  = "payload"
	fieldTopic    = "topic"
	fieldKey      = "key"
	fieldHeaders  = "headers"
	fieldExpand   = "expand_payload"
	fieldUpdates  = "updates"

	metaTopic = "topic"
)

func spec() *service.ConfigSpec {
	column := func(name, what string) *service.ConfigField {
		return service.NewStringField(name).Default(name).Description("The column with " + what + ".")
	}
	return service.NewConfigSpec().
		Categories("Mapping").
		Version("0.1.0").
		Summary("Makes the messages that an application has put into an outbox, in the transaction that they are about.").
		Description(description).
		Fields(
			service.NewStringListField(step.FieldTables).Default([]any{}).
				Description("The outbox tables, by name or pattern: `database.table`, or `schema.table` for PostgreSQL.").Example([]string{"shop.outbox"}),
			service.NewStringListField(fieldPrefixes).Default([]any{}).
				Description("PostgreSQL's logical messages that are outbox messages, by their prefix; `%` is any characters. The content is a JSON object with the fields of an outbox row.").
				Example([]string{"outbox"}),
			service.NewObjectField(fieldFields,
				column(fieldID, "the id of the message, which becomes the metadata `id`"),
				column(fieldAggType, "what the message is about, by which it is routed"),
				column(fieldAggID, "the key"),
				column(fieldType, "the type of the message, which becomes the metadata `type`; empty: there is none"),
				column(fieldPayload, "the payload"),
			).Description("The columns of an outbox.").Advanced(),
			service.NewStringField(fieldTopic).Default("").Description("The topic, which becomes the metadata `topic`. "+step.TemplateHelp+" Empty: `outbox.event.` and the column `aggregatetype`."),
			service.NewStringField(fieldKey).Default("").Description("The key of the message. "+step.TemplateHelp+" Empty: the column `aggregateid`."),
			service.NewStringMapField(fieldHeaders).Default(map[string]any{}).Description("More metadata by name, each a template.").Example(map[string]any{"tenant": "{row.tenant}"}),
			service.NewBoolField(fieldExpand).Default(false).
				Description("The payload must be JSON, and is written without spaces between its tokens. A JSON string that holds JSON is replaced by what it holds."),
			service.NewStringEnumField(fieldUpdates, "error", "drop").Default("error").Description("What becomes of an update of an outbox row, which comes too late for its message.").Advanced(),
		).
		LintRule(`root = if (this.tables.or([]).length() + this.message_prefixes.or([]).length()) == 0 { ["want tables or message_prefixes"] }`).
		Example("An outbox table", "The application inserts a row, and may delete it in the same transaction. Each message goes to the topic of its aggregate.", `
pipeline:
  processors:
    - deltaforge_outbox:
        tables: [ "shop.outbox" ]

output:
  deltaforge_kafka:
    seed_brokers: [ localhost:9092 ]
    topic: ${! @topic }
    headers: { id: "${! @id }", type: "${! @type }" }
`).
		Example("An outbox without a table", "`SELECT pg_logical_emit_message(true, 'outbox', '{\"id\":1,\"aggregatetype\":\"order\",\"aggregateid\":7,\"type\":\"paid\",\"payload\":{\"total\":10}}')`", `
pipeline:
  processors:
    - deltaforge_outbox:
        message_prefixes: [ outbox ]
`)
}

const description = `
An insert into an outbox table becomes a message: the payload is what the column ` + "`payload`" + ` has, byte by byte; the metadata ` + "`key`" + ` is the aggregate's id, and ` + "`topic`, `id` and `type`" + ` are set. Rows of a
snapshot do the same. The ` + "`event_id`" + ` stays that of the row, so that duplicates can be dropped by it or by ` + "`id`" + `. Events of other tables are not touched.

Deletes and truncates of the outbox are dropped, and counted in ` + "`processor_dropped_total`" + ` with the reason ` + "`delete`, `truncate` or `update`" + `.

A table that lacks a column, a column that is NULL where a text is needed, a payload that is NULL, and a payload that is not JSON where it must be are errors of the event,
which names table and column; our outputs refuse it.

The processors of DeltaForge that make payloads anew from the event (` + "`deltaforge_columns`, `deltaforge_flatten`" + `) belong before this one.
`

// config is the configuration, parsed.
type config struct {
	outboxes  step.Tables
	prefixes  []string
	payload   string
	templates map[string]*step.Template // by metadata key
	expand    bool
	updates   string
}

func parse(conf *service.ParsedConfig) (*config, error) {
	c := &config{templates: map[string]*step.Template{}}
	var err error
	if c.outboxes, err = step.ParseTables(conf, step.FieldTables); err != nil {
		return nil, err
	}
	if c.prefixes, err = conf.FieldStringList(fieldPrefixes); err != nil {
		return nil, err
	}
	if len(c.outboxes)+len(c.prefixes) == 0 {
		return nil, errors.New("want tables or message_prefixes")
	}
	if c.expand, err = conf.FieldBool(fieldExpand); err != nil {
		return nil, err
	}
	if c.updates, err = conf.FieldString(fieldUpdates); err != nil {
		return nil, err
	}
	if c.updates != "error" && c.updates != "drop" {
		return nil, fmt.Errorf("%s: want error or drop, got %q", fieldUpdates, c.updates)
	}
	columns := map[string]string{}
	for _, f := range []string{fieldID, fieldAggType, fieldAggID, fieldType, fieldPayload} {
		if columns[f], err = conf.FieldString(fieldFields, f); err != nil {
			return nil, err
		}
		if columns[f] == "" && f != fieldType {
			return nil, fmt.Errorf("%s.%s: want a column", fieldFields, f)
		}
	}
	c.payload = columns[fieldPayload]
	return c, c.parseTemplates(conf, columns)
}

func (c *config) parseTemplates(conf *service.ParsedConfig, columns map[string]string) error {
	texts, err := conf.FieldStringMap(fieldHeaders)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if slices.Contains([]string{metaTopic, change.MetaKey, change.MetaEventID, fieldID, fieldType}, name) {
			return fmt.Errorf("%s: %s has a meaning of its own; choose another name", fieldHeaders, name)
		}
	}
	texts = maps.Clone(texts)
	if texts == nil {
		texts = map[string]string{}
	}
	texts[fieldID] = "{row." + columns[fieldID] + "}"
	if columns[fieldType] != "" {
		texts[fieldType] = "{row." + columns[fieldType] + "}"
	}
	for _, d := range []struct{ name, fallback string }{{fieldTopic, "outbox.event.{row." + columns[fieldAggType] + "}"}, {fieldKey, "{row." + columns[fieldAggID] + "}"}} {
		text, err := conf.FieldString(d.name)
		if err != nil {
			return err
		}
		if text == "" {
			text = d.fallback
		}
		texts[d.name] = text
	}
	for name, text := range texts {
		if c.templates[name], err = step.ParseTemplate(text, c.outboxes.Wildcards()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
