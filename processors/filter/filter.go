package filter

import (
	"context"
	"fmt"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
)

func init() {
	step.Register("deltaforge_filter", spec(), func(conf *service.ParsedConfig, res *service.Resources) (*processor, error) {
		c, err := parse(conf)
		return &processor{c: c, dropped: step.Dropped(res)}, err
	})
}

// processor is the component. The engine may use it from many goroutines.
type processor struct {
	c       *config
	dropped *service.MetricCounter
	tables  step.Cache[*table]
}

// table is what the filter makes of one table.
type table struct {
	keep  bool
	tests []test
	err   error // of its rows
}

// The answers of a test.
type answer uint8

const (
	no answer = iota
	unknown
	yes
)

func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

// test is a predicate on the column of a table.
type test struct {
	column int // -1: the table has none
	name   string
	change bool // it is about a change, and not about a value
	match  func(v change.Value) (bool, error)
}

// The reasons for which an event is dropped.
const (
	byOp = iota
	byTable
	byPredicate
	reasons
)

// Process implements step.Processor.
func (p *processor) Process(_ context.Context, batch service.MessageBatch) service.MessageBatch {
	kept := make(service.MessageBatch, 0, len(batch))
	var dropped [reasons]int64
	step.Changes(batch, func(c step.Change) {
		keep, reason, err := true, 0, error(nil)
		if c.Event != nil {
			keep, reason, err = p.keeps(c.Event)
		}
		if err != nil {
			c.Fail(err)
			keep = true
		}
		if keep {
			kept = append(kept, c.Messages...)
		} else {
			dropped[reason]++
		}
	})
	for i, reason := range []string{"op", "table", "predicate"} {
		if dropped[i] > 0 {
			p.dropped.Incr(dropped[i], reason)
		}
	}
	return kept
}

// keeps reports whether an event is kept, and if not, why.
func (p *processor) keeps(ev *change.Event) (keep bool, reason int, err error) {
	if len(p.c.ops) > 0 && !slices.Contains(p.c.ops, byte(ev.Op)) {
		return false, byOp, nil
	}
	t := p.tables.Get(ev.Table, p.c.compile)
	if !t.keep {
		return false, byTable, nil
	}
	if len(p.c.predicates) == 0 || ev.Before() == nil && ev.After() == nil {
		return true, 0, nil
	}
	if t.err != nil {
		return true, 0, t.err
	}
	a, err := p.c.judge(t, ev)
	if err != nil {
		return true, 0, fmt.Errorf("deltaforge_filter: table %s: %w", ev.Table.FullName(), err)
	}
	return a == yes || a == unknown && p.c.keep, byPredicate, nil
}

// judge says whether the rows of an event satisfy the predicates.
func (c *config) judge(t *table, ev *change.Event) (answer, error) {
	row, other := rowOf(ev)
	switch {
	case c.image == "before" && ev.Before() != nil:
		return c.holds(t, ev, ev.Before(), nil)
	case c.image == "before" && ev.Op == change.Update: // the log does not have it
		return c.holds(t, ev, nil, nil)
	case c.image == "either" && ev.Op == change.Update:
		a, err := c.holds(t, ev, row, other)
		if a == yes || err != nil {
			return a, err
		}
		b, err := c.holds(t, ev, ev.Before(), nil)
		return max(a, b), err
	default:
		return c.holds(t, ev, row, other)
	}
}

// holds says whether a row satisfies the predicates. What it does not have is looked up in other.
func (c *config) holds(t *table, ev *change.Event, row, other []change.Value) (answer, error) {
	result := is(!c.any || len(t.tests) == 0)
	for i := range t.tests {
		a, err := t.tests[i].ask(ev, row, other)
		if err != nil {
			return no, err
		}
		if c.any {
			result = max(result, a)
		} else {
			result = min(result, a)
		}
		if c.any && result == yes || !c.any && result == no {
			break
		}
	}
	return result, nil
}

func (t *test) ask(ev *change.Event, row, other []change.Value) (answer, error) {
	if t.column < 0 { // exists
		return no, nil
	}
	if t.change {
		return changed(ev, t.column), nil
	}
	v := at(row, t.column)
	if !v.Known() {
		v = at(other, t.column)
	}
	if !v.Known() {
		return unknown, nil
	}
	ok, err := t.match(v)
	if err != nil {
		return no, fmt.Errorf("column %s: %w", t.name, err)
	}
	return is(ok), nil
}

func at(row []change.Value, i int) change.Value {
	if i < len(row) {
		return row[i]
	}
	return change.Value{}
}

// changed says whether an event has changed a column. What an update does not log after the change it has not changed.
func changed(ev *change.Event, column int) answer {
	if ev.Op != change.Update {
		return yes
	}
	after, before := at(ev.After(), column), at(ev.Before(), column)
	switch {
	case !after.Known():
		return no
	case !before.Known():
		return unknown
	default:
		return is(!same(before, after))
	}
}

// compile makes what the configuration says about a table.
func (c *config) compile(t *change.Table) *table {
	out := &table{keep: c.include.Match(t) && (len(c.exclude) == 0 || !c.exclude.Match(t))}
	for _, p := range c.predicates {
		if !p.tables.Match(t) {
			continue
		}
		made, err := p.compile(t)
		if err != nil {
			out.err = fmt.Errorf("deltaforge_filter: table %s: column %s: %w", t.FullName(), p.column, err)
			return out
		}
		out.tests = append(out.tests, made)
	}
	return out
}

func (p *predicate) compile(t *change.Table) (test, error) {
	made := test{column: t.Column(p.column), name: p.column}
	switch {
	case p.test == "exists":
		made.match = func(v change.Value) (bool, error) { return !v.IsNull(), nil }
	case made.column < 0:
		return made, fmt.Errorf("there is no such column; mend the predicate, or limit it to other tables with `%s`", step.FieldTables)
	case p.test == "changed":
		made.change = true
	case p.pattern != nil:
		made.match = p.matchesText
	default:
		col := &t.Columns[made.column]
		ops := make([]operand, len(p.values))
		for i, o := range p.values {
			if err := o.fits(col); err != nil {
				return made, err
			}
			ops[i] = o
		}
		made.match = matcher(p.test, ops, col.Logical)
	}
	return made, nil
}
