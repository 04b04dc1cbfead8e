package columns

import (
	"context"
	"errors"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
)

func init() {
	step.Register("deltaforge_columns", spec(), func(conf *service.ParsedConfig, _ *service.Resources) (*processor, error) {
		rules, err := parse(conf)
		return &processor{rules: rules}, err
	})
}

type processor struct {
	rules []rule
	plans step.Cache[*plan]
}

// errNoEvent is about a message in which unmasked values may be.
var errNoEvent = errors.New("deltaforge_columns: the message is not the event of a row any more: a processor before this one has replaced it; put this one first")

// Process implements step.Processor.
func (p *processor) Process(ctx context.Context, batch service.MessageBatch) service.MessageBatch {
	out := make(service.MessageBatch, 0, len(batch))
	var maker step.Maker
	step.Changes(batch, func(c step.Change) {
		if c.Event == nil {
			out = append(out, p.foreign(c.Messages)...)
			return
		}
		ev, err := p.derive(c)
		switch {
		case err != nil:
			out = append(out, p.blank(c.Messages, err)...)
		case ev == nil:
			out = append(out, c.Messages...)
		default:
			out = maker.Append(ctx, out, c, ev)
		}
	})
	return out
}

// Failed implements step.Failing: nothing passes unmasked.
func (p *processor) Failed(batch service.MessageBatch, err error) service.MessageBatch {
	return p.blank(batch, err)
}

// foreign returns messages that have no event: those of other inputs as they are, others without what they hold.
func (p *processor) foreign(messages service.MessageBatch) service.MessageBatch {
	out := make(service.MessageBatch, len(messages))
	for i, m := range messages {
		out[i] = m
		if _, ours := change.Own(m); ours {
			out[i] = p.blank(service.MessageBatch{m}, errNoEvent)[0]
		}
	}
	return out
}

// blank returns messages with an error and without rows.
func (p *processor) blank(messages service.MessageBatch, err error) service.MessageBatch {
	out := make(service.MessageBatch, 0, len(messages))
	var maker step.Maker
	for _, m := range messages {
		m.SetError(err) // counts
		made := service.NewMessage(nil)
		if ev, ok := change.FromMessage(m); ok {
			whole := ev.Whole().Derive()
			whole.Images, whole.Change, whole.Table = change.Images{}, nil, whole.Table.With(nil, nil)
			if whole.Ident != nil {
				whole.Ident = []byte("masked")
			}
			if whole.Op == change.Schema {
				whole.Op = change.Update
			}
			if all := maker.Blank(step.Change{Event: ev, Messages: service.MessageBatch{m}}, whole); len(all) > 0 {
				made = all[0]
			}
		}
		made.SetError(err)
		out = append(out, made)
	}
	return out
}

// derive returns what becomes of an event, or nil if nothing does.
func (p *processor) derive(c step.Change) (*change.Event, error) {
	ev := c.Event
	plan := p.plans.Get(ev.Table, p.compile)
	if plan.err != nil {
		return nil, plan.err
	}
	if plan.same {
		return nil, nil
	}
	if err := c.Replaced(); err != nil {
		return nil, err
	}
	d := ev.Derive()
	d.Table, d.Images = plan.table, change.ImagesOf(plan.row(ev.Before()), plan.row(ev.After()))
	if plan.untold != nil && ev.Ident != nil {
		d.Ident = sum(plan.untold, ev.Ident)
	}
	if ev.Change != nil {
		s := *ev.Change
		for _, t := range []**change.Table{&s.Old, &s.New} {
			if *t == nil {
				continue
			}
			shape := p.plans.Get(*t, p.compile)
			if shape.err != nil {
				return nil, shape.err
			}
			*t = shape.table
		}
		d.Change = &s
	}
	return d, nil
}

func (p *processor) compile(t *change.Table) *plan { return compile(p.rules, t) }
