// Package reselect is the processor deltaforge_reselect: it fills the values that the log does not carry, by reading the row.
package reselect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/step"
)

type processor struct {
	tables                step.Tables
	maxRows               int
	timeout               time.Duration
	whenGone, whenChanged string
	dropped               *service.MetricCounter

	mu      sync.Mutex                       // held while rows are read
	readers map[change.Rows]change.RowReader // guarded by mu
}

// reasonGone counts events that are left out since their rows are gone.
const reasonGone = "gone"

// lacking is an event that lacks values.
type lacking struct {
	event *change.Event
	key   []change.Value
	name  string // of the key; empty: there is none

	now *change.Table // nil: there is no such row
	row []change.Value
	err error
}

// group are the events of one table.
type group struct {
	table  *change.Table
	events []*lacking
}

// Process implements step.Processor.
func (p *processor) Process(ctx context.Context, batch service.MessageBatch) service.MessageBatch {
	found, groups := map[*change.Event]*lacking{}, []*group(nil)
	step.Changes(batch, func(c step.Change) {
		if c.Event != nil && lacks(c.Event) && p.tables.Match(c.Event.Table) {
			l := newLacking(c.Event)
			found[c.Event] = l
			if l.name != "" {
				groups = l.into(groups)
			}
		}
	})
	if len(found) == 0 {
		return batch
	}
	p.read(ctx, groups)
	out := make(service.MessageBatch, 0, len(batch))
	var maker step.Maker
	dropped := int64(0)
	step.Changes(batch, func(c step.Change) {
		l := found[c.Event]
		if c.Event == nil || l == nil {
			out = append(out, c.Messages...)
			return
		}
		after, gone, err := p.fill(l)
		if err == nil {
			err = fit(c)
		}
		switch {
		case err != nil:
			c.Fail(fmt.Errorf("deltaforge_reselect: table %s: %w", c.Event.Table.FullName(), err))
			out = append(out, c.Messages...)
		case gone && p.whenGone == drop:
			dropped++
		default:
			ev := c.Event.Derive()
			ev.Images = change.ImagesOf(ev.Before(), after)
			out = maker.Append(ctx, out, c, ev)
		}
	})
	if dropped > 0 {
		p.dropped.Incr(dropped, reasonGone)
	}
	return out
}

// fit returns an error if messages cannot be made again of what the source has read.
func fit(c step.Change) error {
	made, now := c.Event.Root().Table, c.Event.Table
	if len(made.Columns) != len(now.Columns) || len(now.Columns) > 0 && &made.Columns[0] != &now.Columns[0] {
		return errors.New("an earlier processor has changed its columns; put deltaforge_reselect before that one")
	}
	return c.Replaced()
}

// lacks reports whether the row after a change lacks values.
func lacks(ev *change.Event) bool {
	if ev.Op != change.Update && ev.Op != change.Create {
		return false
	}
	return slices.ContainsFunc(ev.After(), func(v change.Value) bool { return !v.Known() })
}

// newLacking returns an event with the key that its row has after the change. The log may have the key before it only.
func newLacking(ev *change.Event) *lacking {
	l := &lacking{event: ev}
	var name []byte
	for _, c := range ev.Table.Key {
		v := ev.After()[c]
		if !v.Known() && ev.Before() != nil {
			v = ev.Before()[c]
		}
		if !v.Known() {
			return l
		}
		l.key = append(l.key, v)
		name = append(envelope.AppendValue(name, v), ',')
	}
	l.name = string(name)
	return l
}

func (l *lacking) into(groups []*group) []*group {
	t := l.event.Table
	for _, g := range groups {
		if g.table == t || g.table.Source.Rows == t.Source.Rows && g.table.FullName() == t.FullName() && slices.Equal(keyNames(g.table), keyNames(t)) {
			g.events = append(g.events, l)
			return groups
		}
	}
	return append(groups, &group{table: t, events: []*lacking{l}})
}

func keyNames(t *change.Table) (names []string) {
	for _, c := range t.Key {
		names = append(names, t.Columns[c].Name)
	}
	return names
}

// read reads the rows of all groups.
func (p *processor) read(ctx context.Context, groups []*group) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range groups {
		for len(g.events) > 0 {
			var part []*lacking
			part, g.events = p.cut(g.events)
			if err := p.readPart(ctx, g.table, part); err != nil {
				for _, l := range part {
					l.err = err
				}
			}
		}
	}
}

// cut returns as many events as have the keys of one query, and the others.
func (p *processor) cut(events []*lacking) (part, rest []*lacking) {
	keys := map[string]bool{}
	for i, l := range events {
		if keys[l.name] = true; len(keys) > p.maxRows {
			return events[:i], events[i:]
		}
	}
	return events, nil
}

func (p *processor) readPart(ctx context.Context, t *change.Table, part []*lacking) error {
	rows := t.Source.Rows
	if rows == nil {
		return change.ErrNoRows
	}
	reader := p.readers[rows]
	if reader == nil {
		if p.readers == nil {
			p.readers = map[change.Rows]change.RowReader{}
		}
		reader = rows.OpenRows()
		p.readers[rows] = reader
	}
	var keys [][]change.Value
	events, waiting := make([]*change.Event, len(part)), map[string][]*lacking{}
	for i, l := range part {
		events[i] = l.event
		if waiting[l.name] == nil {
			keys = append(keys, l.key)
		}
		waiting[l.name] = append(waiting[l.name], l)
	}
	return reader.ReadRows(ctx, t, events, keys, func(now *change.Table, row []change.Value, inexact error) {
		var name []byte
		for _, c := range now.Key {
			name = append(envelope.AppendValue(name, row[c]), ',')
		}
		for _, l := range waiting[string(name)] {
			l.now, l.row, l.err = now, row, inexact
		}
	})
}

// fill returns the row after the change with the values that were read. Gone says that some are still not there, since the row or its
// columns are gone.
func (p *processor) fill(l *lacking) (after []change.Value, gone bool, err error) {
	if l.err != nil {
		return nil, false, fmt.Errorf("filling values that the log does not carry: %w", l.err)
	}
	changed := l.changed()
	after = slices.Clone(l.event.After())
	for i, v := range after {
		if v.Known() {
			continue
		}
		name := l.event.Table.Columns[i].Name
		column := l.column(i)
		switch {
		case v.Kind() == change.Absent && l.event.Before() != nil && l.event.Before()[i].Known(): // unchanged
			after[i] = l.event.Before()[i]
		case column < 0:
			gone = true
			if p.whenGone == fail {
				return nil, true, fmt.Errorf("column %s: the log does not carry its value, and %s (when_gone: error)", name, l.missing())
			}
		case changed == "" || p.whenChanged == fill:
			after[i] = l.row[column]
		case p.whenChanged == fail:
			return nil, false, fmt.Errorf("column %s: the log does not carry its value, and the row has been changed since: %s is another one (when_changed: error)", name, changed)
		}
	}
	return after, gone, nil
}

// missing says why there is no value.
func (l *lacking) missing() string {
	switch {
	case l.name == "":
		return "there is no key by which the row could be read"
	case l.now == nil:
		return "there is no row with its key any more"
	default:
		return "the column is not there any more, or has another type"
	}
}

// column returns the index of a column in the row that was read, -1 if there is none of that type.
func (l *lacking) column(i int) int {
	if l.now == nil {
		return -1
	}
	was := &l.event.Table.Columns[i]
	if i < len(l.now.Columns) && same(was, &l.now.Columns[i]) {
		return i
	}
	return slices.IndexFunc(l.now.Columns, func(c change.Column) bool { return same(was, &c) })
}

func same(a, b *change.Column) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Logical == b.Logical
}

// changed returns the name of a column whose value is not that of the event any more; none: nothing tells that the row was changed.
func (l *lacking) changed() string {
	if l.now == nil {
		return ""
	}
	for i, v := range l.event.After() {
		if !v.Known() {
			continue
		}
		if c := l.column(i); c < 0 || !l.row[c].Equal(v) {
			return l.event.Table.Columns[i].Name
		}
	}
	return ""
}

// Close implements step.Closing.
func (p *processor) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.readers {
		r.Close()
	}
	p.readers = nil
}
