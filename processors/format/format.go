// Package format provides deltaforge_format, the processor that makes the messages of events again, in another format.
package format

import (
	"context"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/format"
	"github.com/deltaforge/deltaforge/internal/step"
)

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Mapping").
		Summary("Makes messages in another format than the source has: the row alone, Debezium's, or the native one again.").
		Description("The `format` of a source does the same, and costs less: its rows are encoded once. Use the processor where one source feeds outputs with " +
			"several formats, in the `processors` of an output. The values come from the event, and not from the payload, so no digit is lost. The processors of ours that " +
			"come after it keep the format.\n\n" +
			"A processor that has changed the payload must come after it: the payload would be made anew, and the change lost, so the message is marked as failed. Messages " +
			"of other inputs pass as they are. See [Formats](../formats.md).").
		Fields(format.Fields()...)
}

func init() {
	step.Register("deltaforge_format", spec(), func(conf *service.ParsedConfig, res *service.Resources) (*processor, error) {
		f, err := format.Parse(conf, res)
		if err != nil {
			return nil, err
		}
		return &processor{format: f, dropped: step.Dropped(res)}, nil
	})
}

type processor struct {
	format  change.Format
	dropped *service.MetricCounter
	sources sync.Map // *change.Source to the same with the format
	tables  step.Cache[*change.Table]
}

// reasonFormat counts events that the format leaves out.
const reasonFormat = "format"

// Process implements step.Processor.
func (p *processor) Process(ctx context.Context, batch service.MessageBatch) service.MessageBatch {
	out := make(service.MessageBatch, 0, len(batch))
	var maker step.Maker
	step.Changes(batch, func(c step.Change) {
		if c.Event == nil {
			out = append(out, c.Messages...)
			return
		}
		if err := c.Replaced(); err != nil {
			c.Fail(err)
			out = append(out, c.Messages...)
			return
		}
		ev := c.Event.Derive()
		ev.Table = p.tables.Get(ev.Table, p.table)
		before := len(out)
		if out = maker.Append(ctx, out, c, ev); len(out) == before {
			p.dropped.Incr(1, reasonFormat)
		}
	})
	return out
}

// table returns a table as one of a source with the format.
func (p *processor) table(t *change.Table) *change.Table {
	src, ok := p.sources.Load(t.Source)
	if !ok {
		formatted := *t.Source
		formatted.Format = p.format
		src, _ = p.sources.LoadOrStore(t.Source, &formatted)
	}
	formatted, _ := src.(*change.Source)
	return &change.Table{Source: formatted, Database: t.Database, Schema: t.Schema, Name: t.Name, Columns: t.Columns, Key: t.Key}
}
