// Package javascript is the processor deltaforge_javascript: it hands batches of events to a script.
package javascript

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
)

const (
	fieldScript  = "script"
	fieldBigint  = "bigint"
	fieldTimeout = "timeout"
	fieldMemory  = "memory_limit"

	asBigInt = "bigint"
	asString = "string"
)

func init() {
	step.Register("deltaforge_javascript", spec(), func(conf *service.ParsedConfig, res *service.Resources) (*processor, error) {
		return parse(conf, step.Dropped(res))
	})
}

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Mapping").
		Version("0.1.0").
		Summary("Hands each batch of events to a function `processBatch(events)` in JavaScript.").
		Description(`
The function returns the events that go on, in the order in which it got them. It may change their rows and add metadata. Events that it leaves out are counted in
`+"`processor_dropped_total`"+` with the reason `+"`script`"+`. The engine is goja (ECMAScript 5.1 and most of 6). A script has no access to files, to the network or to the environment.

An event has:

| field | meaning |
|---|---|
| `+"`op`"+` | c, u, d, r, t, m, s |
| `+"`database`, `schema`, `table`"+` | where the row is; `+"`schema`"+` is empty for MySQL |
| `+"`before`, `after`"+` | the rows, an object with a field for each column, or null |
| `+"`event_id`, `ts_ms`"+` | as in the envelope |
| `+"`metadata`"+` | an empty object: what the script puts there becomes metadata of the message, as text |

Only `+"`before`, `after`"+` and `+"`metadata`"+` can be changed. A column that is set to another value keeps its type, and a value that does not fit is an error. A new field is a new column. A field
that is deleted is a column less, in that row; the columns of the key must stay.

| column | value in the script |
|---|---|
| integers | a number; beyond 2^53 what `+"`bigint`"+` says |
| decimals, dates, times, text, everything else | a string, as in the envelope |
| floating point, boolean | a number, a boolean |
| binary | an `+"`ArrayBuffer`"+` |
| JSON, arrays, composites | a string with JSON; an object that is set becomes JSON |
| NULL | null |
| a value that the log does not have | the constant `+"`UNAVAILABLE`"+`; a column that the row image does not have is no field |

Variables outside of the function live from batch to batch, until a batch fails; each thread of the pipeline has its own. A batch that is delivered again passes again.

== Limits

A script that takes longer than `+"`timeout`"+` for a batch is stopped, and so is one while which the memory of the process grows by more than `+"`memory_limit`"+`. The limit is on the process, since
the engine does not count its own memory; a batch that exceeds it is tried once more before it fails. The built-in functions that make much of little (`+"`repeat`, `padStart`, `fill`, `Array`"+`) are bounded as well.

When the script throws, is stopped, or returns what it may not, every event of the batch goes on unchanged with the error, and our outputs refuse them. The next batch begins with a fresh
engine.

The payload is made anew from the event. So put this processor before those that change payloads.
`).
		Fields(
			service.NewStringField(fieldScript).Description("The script. A syntax error is found by lint and at the start.").
				LintRule(`root = if this.trim() == "" { ["want a script with a function processBatch(events)"] }`).
				Example("function processBatch(events) {\n  return events.filter(e => e.op !== 'd');\n}"),
			service.NewStringEnumField(fieldBigint, asBigInt, asString).Default(asBigInt).
				Description("What integers beyond 2^53 are in the script: a `BigInt`, or a string of digits."),
			service.NewDurationField(fieldTimeout).Default("1s").Description("How long the script may take for a batch."),
			service.NewIntField(fieldMemory).Default(256<<20).LintRule(`root = if this < 1048576 { ["want at least 1048576"] }`).
				Description("By how many bytes the memory of the process may grow while the script runs, and how large what it returns may be.").Advanced(),
		).
		Example("A total of each order", "", `
pipeline:
  processors:
    - deltaforge_javascript:
        script: |
          function processBatch(events) {
            for (const e of events) {
              if (e.table === "orders" && e.after) {
                e.after.total_cents = Math.round(Number(e.after.total) * 100);
              }
            }
            return events;
          }
`)
}

type processor struct {
	program *goja.Program
	strings bool // integers beyond 2^53 as strings
	timeout time.Duration
	memory  int64
	dropped *service.MetricCounter
	shapes  step.Shapes

	running atomic.Int32 // scripts, with those that did not stop when they were told to

	mu      sync.Mutex // one batch at a time
	machine *machine   // nil before the first batch and after a failure; guarded by mu
}

func parse(conf *service.ParsedConfig, dropped *service.MetricCounter) (*processor, error) {
	p := &processor{dropped: dropped}
	text, err := conf.FieldString(fieldScript)
	if err != nil {
		return nil, err
	}
	if p.program, err = goja.Compile("script", text, false); err != nil {
		return nil, fmt.Errorf("%s: %w", fieldScript, err)
	}
	number, err := conf.FieldString(fieldBigint)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{asBigInt, asString}, number) {
		return nil, fmt.Errorf("%s: want %s or %s, got %q", fieldBigint, asBigInt, asString, number)
	}
	p.strings = number == asString
	if p.timeout, err = conf.FieldDuration(fieldTimeout); err != nil {
		return nil, err
	}
	if p.timeout <= 0 {
		return nil, fmt.Errorf("%s: want more than 0", fieldTimeout)
	}
	memory, err := conf.FieldInt(fieldMemory)
	if err != nil {
		return nil, err
	}
	if p.memory = int64(memory); p.memory < 1<<20 {
		return nil, fmt.Errorf("%s: want at least 1048576", fieldMemory)
	}
	// Whether there is a function is seen by running the script once.
	if _, err := p.start(context.Background()); err != nil {
		return nil, err
	}
	return p, nil
}

// Process implements step.Processor.
func (p *processor) Process(ctx context.Context, batch service.MessageBatch) service.MessageBatch {
	var changes []step.Change
	step.Changes(batch, func(c step.Change) { changes = append(changes, c) })
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := p.run(ctx, changes)
	if errors.Is(err, errMemory) {
		out, err = p.run(ctx, changes)
	}
	if err == nil {
		return out
	}
	err = fmt.Errorf("deltaforge_javascript: %w", err)
	for _, c := range changes {
		c.Fail(err)
	}
	return batch
}

// run runs the script on a batch; p.mu is held. After an error, the machine is gone.
func (p *processor) run(ctx context.Context, changes []step.Change) (service.MessageBatch, error) {
	m := p.machine
	p.machine = nil
	if m == nil {
		var err error
		if m, err = p.start(ctx); err != nil {
			return nil, err
		}
	}
	for _, c := range changes {
		if c.Event == nil {
			continue
		}
		if err := c.Replaced(); err != nil {
			return nil, err
		}
	}
	objects := m.events(changes)
	var out service.MessageBatch // of the run that ended in time
	dropped := int64(0)
	err := p.limited(ctx, m, func() error {
		result, err := m.function(goja.Undefined(), objects.list)
		if err != nil {
			return err
		}
		out, dropped, err = p.collect(ctx, m, changes, objects, result) // may run parts of the script: getters, toJSON
		return err
	})
	if err != nil {
		return nil, err
	}
	if dropped > 0 {
		p.dropped.Incr(dropped, "script")
	}
	p.machine = m
	return out, nil
}

// collect makes the messages of what the script has returned.
func (p *processor) collect(ctx context.Context, m *machine, changes []step.Change, objects *objects, result goja.Value) (out service.MessageBatch, dropped int64, err error) {
	kept, err := objects.kept(result)
	if err != nil {
		return nil, 0, err
	}
	out = make(service.MessageBatch, 0, len(changes))
	var maker step.Maker
	left := p.memory
	for i, c := range changes {
		switch {
		case c.Event == nil:
			out = append(out, c.Messages...)
		case !kept[i]:
			dropped++
		default:
			d, metadata, err := p.derive(m, c.Event, objects.objects[i], &left)
			if err != nil {
				return nil, 0, fmt.Errorf("table %s: %w", c.Event.Table.FullName(), err)
			}
			first := len(out)
			if d == nil {
				out = append(out, c.Messages...)
			} else {
				out = maker.Append(ctx, out, c, d)
			}
			for j := first; len(metadata) > 0 && j < len(out); j++ {
				if d == nil {
					out[j] = out[j].Copy()
				}
				for _, kv := range metadata {
					out[j].MetaSetMut(kv[0], kv[1])
				}
			}
		}
	}
	return out, dropped, nil
}

// derive returns the event that an object of the script is now, nil if it is unchanged, and the metadata that the script has set.
func (p *processor) derive(m *machine, ev *change.Event, o *object, left *int64) (*change.Event, [][2]string, error) {
	metadata, err := o.metadata(m, left)
	if err != nil {
		return nil, nil, err
	}
	r := reader{machine: m, table: ev.Table, left: left}
	var rows [2][]change.Value
	changed := false
	for n, image := range [2]*image{o.before, o.after} {
		row, differs, err := r.row(o, image, [2]string{"before", "after"}[n], [2][]change.Value{ev.Before(), ev.After()}[n])
		if err != nil {
			return nil, nil, err
		}
		rows[n] = row
		changed = changed || differs
	}
	if !changed {
		return nil, metadata, nil
	}
	d := ev.Derive()
	d.Images = change.ImagesOf(r.fill(rows[0]), r.fill(rows[1]))
	if len(r.added) > 0 {
		columns := make([]step.Column, 0, len(ev.Table.Columns)+len(r.added))
		for i, c := range ev.Table.Columns {
			columns = append(columns, step.Column{Column: c, From: i})
		}
		for _, c := range r.added {
			columns = append(columns, step.Column{Column: c, From: -1})
		}
		d.Table = p.shapes.Table(ev.Table, columns)
	}
	for _, k := range ev.Table.Key {
		name := ev.Table.Columns[k].Name
		if step.Value(ev, k).Known() && !step.Value(d, k).Known() {
			return nil, nil, fmt.Errorf("column %s: it is part of the key, and the script has deleted it", name)
		}
	}
	return d, metadata, nil
}
