package reselect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

// store is a table as it is now.
type store struct {
	now     *change.Table
	rows    map[int64][]change.Value
	err     error
	inexact error
	asked   []string // the keys of each query
	closed  int
}

func (s *store) OpenRows() change.RowReader { return s }
func (s *store) Close()                     { s.closed++ }

func (s *store) ReadRows(_ context.Context, _ *change.Table, events []*change.Event, keys [][]change.Value, add func(*change.Table, []change.Value, error)) error {
	var ids []int64
	for _, k := range keys {
		ids = append(ids, k[0].Int())
	}
	s.asked = append(s.asked, fmt.Sprintf("%d events %v", len(events), ids))
	for i := len(ids) - 1; i >= 0 && s.err == nil; i-- { // in any order
		if row, ok := s.rows[ids[i]]; ok {
			add(s.now, row, s.inexact)
		}
	}
	return s.err
}

func num(n int64) change.Value   { return change.IntValue(n) }
func text(s string) change.Value { return change.TextValue([]byte(s)) }

// docs is a table with a column that the log often lacks, and what is in it.
func docs(rows map[int64][]change.Value) (*change.Table, *store) {
	t := steptest.Table("shop", "docs",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64}, change.Column{Name: "n", Type: "bigint", Logical: change.LogicalInt64, Nullable: true},
		change.Column{Name: "doc", Type: "text", Nullable: true}, change.Column{Name: "v", Type: "text", Nullable: true})
	s := &store{now: t, rows: rows}
	t.Source.Rows = s
	return t, s
}

func build(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p := &processor{}
	require.NoError(t, p.parse(conf))
	return p
}

// shown is what messages have as "before after", or their errors.
func shown(t testing.TB, out service.MessageBatch) (lines []string) {
	t.Helper()
	for _, m := range out {
		if err := m.GetError(); err != nil {
			lines = append(lines, err.Error())
			continue
		}
		var e struct{ Before, After json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(steptest.Payload(t, m)), &e))
		lines = append(lines, fmt.Sprintf("%s %s", e.Before, e.After))
	}
	return lines
}

var absent, lost = change.Value{}, change.UnavailableValue() //nolint:gochecknoglobals // constants

func TestCases(t *testing.T) {
	whole := []change.Value{num(1), num(5), text("long"), text("v")}
	update := func(after ...change.Value) func(*change.Table) *change.Event {
		return func(table *change.Table) *change.Event {
			return steptest.Event(steptest.Origin(), 1, change.Update, table, nil, after)
		}
	}
	const log = "deltaforge_reselect: table shop.docs: "
	for _, c := range []struct {
		name, yaml string
		event      func(*change.Table) *change.Event
		now        []change.Value // nil: the row is gone
		want       string         // empty: the event is left out
		asked      bool
	}{
		{"unavailable", `{}`, update(num(1), num(5), lost, text("v")), whole, `null {"id":1,"n":5,"doc":"long","v":"v"}`, true},
		{"absent", `{}`, update(num(1), absent, absent, text("v")), whole, `null {"id":1,"n":5,"doc":"long","v":"v"}`, true},
		{"null", `{}`, update(num(1), num(5), lost, text("v")), []change.Value{num(1), num(5), change.NullValue(), text("v")}, `null {"id":1,"n":5,"doc":null,"v":"v"}`, true},
		{"the key is in before only", `{}`, func(table *change.Table) *change.Event {
			return steptest.Event(steptest.Origin(), 1, change.Update, table, []change.Value{num(1), absent, absent, absent}, []change.Value{absent, num(5), absent, absent})
		}, whole, `{"id":1} {"id":1,"n":5,"doc":"long","v":"v"}`, true},
		{"before has what did not change", `{}`, func(table *change.Table) *change.Event {
			return steptest.Event(steptest.Origin(), 1, change.Update, table, []change.Value{num(1), num(4), text("old"), text("v")}, []change.Value{absent, num(5), absent, absent})
		}, nil, `{"id":1,"n":4,"doc":"old","v":"v"} {"id":1,"n":5,"doc":"old","v":"v"}`, true},
		{"nothing lacks", `{}`, update(num(1), num(5), text("x"), text("v")), nil, `null {"id":1,"n":5,"doc":"x","v":"v"}`, false},
		{"other tables", `tables: [ "shop.others" ]`, update(num(1), num(5), lost, text("v")), whole, `null {"id":1,"n":5,"doc":{"_unchanged":true},"v":"v"}`, false},
		{"a delete", `{}`, func(table *change.Table) *change.Event {
			return steptest.Event(steptest.Origin(), 1, change.Delete, table, []change.Value{num(1), absent, lost, absent}, nil)
		}, whole, `{"id":1,"doc":{"_unchanged":true}} null`, false},
		{"no key", `{}`, update(lost, num(5), lost, text("v")), whole, `null {"id":{"_unchanged":true},"n":5,"doc":{"_unchanged":true},"v":"v"}`, false},
		{"gone", `{}`, update(num(1), num(5), lost, text("v")), nil, `null {"id":1,"n":5,"doc":{"_unchanged":true},"v":"v"}`, true},
		{"gone and left out", `when_gone: drop`, update(num(1), num(5), lost, text("v")), nil, "", true},
		{
			"gone and failed", `when_gone: error`, update(num(1), num(5), lost, text("v")), nil,
			log + "column doc: the log does not carry its value, and there is no row with its key any more (when_gone: error)", true,
		},
		{"changed", `{}`, update(num(1), num(4), lost, text("v")), whole, `null {"id":1,"n":4,"doc":"long","v":"v"}`, true},
		{"changed and left", `when_changed: leave`, update(num(1), num(4), lost, text("v")), whole, `null {"id":1,"n":4,"doc":{"_unchanged":true},"v":"v"}`, true},
		{
			"changed and failed", `when_changed: error`, update(num(1), num(4), lost, text("v")), whole,
			log + "column doc: the log does not carry its value, and the row has been changed since: n is another one (when_changed: error)", true,
		},
		{"the same, and strict", "when_changed: error\nwhen_gone: error", update(num(1), num(5), lost, text("v")), whole, `null {"id":1,"n":5,"doc":"long","v":"v"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := map[int64][]change.Value{}
			if c.now != nil {
				rows[1] = c.now
			}
			table, s := docs(rows)
			out := build(t, c.yaml).Process(t.Context(), steptest.Batch(c.event(table)))
			assert.Equal(t, c.want, strings.Join(shown(t, out), "\n"))
			assert.Equal(t, c.asked, len(s.asked) == 1)
		})
	}
}

// Many events of a batch are filled by few queries, and stay in their order.
func TestBatch(t *testing.T) {
	rows := map[int64][]change.Value{}
	for id := range int64(5) {
		rows[id] = []change.Value{num(id), num(id), text(fmt.Sprint("doc ", id)), text("v")}
	}
	table, s := docs(rows)
	other, so := docs(map[int64][]change.Value{7: {num(7), num(7), text("other"), text("v")}})
	o := steptest.Origin()
	var events []*change.Event
	for i, id := range []int64{3, 1, 3, 0, 9, 2, 4} {
		events = append(events, steptest.Event(o, i+1, change.Update, table, nil, []change.Value{num(id), num(id), lost, text("v")}))
	}
	events = append(events, steptest.Event(o, 8, change.Update, other, nil, []change.Value{num(7), num(7), lost, text("v")}))
	p := build(t, "max_rows: 2")
	out := p.Process(t.Context(), steptest.Batch(events...))
	assert.Equal(t, []string{"3 events [3 1]", "2 events [0 9]", "2 events [2 4]"}, s.asked)
	assert.Equal(t, []string{"1 events [7]"}, so.asked)
	var got []string
	for _, m := range out {
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		doc := "lost"
		if ev.After()[2].Known() {
			doc = string(ev.After()[2].Bytes())
		}
		got = append(got, fmt.Sprint(ev.Index, " ", doc))
	}
	assert.Equal(t, []string{"1 doc 3", "2 doc 1", "3 doc 3", "4 doc 0", "5 lost", "6 doc 2", "7 doc 4", "8 other"}, got)
	p.Close()
	assert.Equal(t, []int{1, 1}, []int{s.closed, so.closed})
}

// The table has another shape now.
func TestOtherShape(t *testing.T) {
	table, s := docs(map[int64][]change.Value{1: {text("v"), num(1), text("new")}})
	s.now = steptest.Table("shop", "docs", change.Column{Name: "v", Type: "text", Nullable: true},
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64}, change.Column{Name: "doc", Type: "text", Nullable: true})
	s.now.Key = []int{1}
	event := func() *change.Event {
		return steptest.Event(steptest.Origin(), 1, change.Update, table, nil, []change.Value{num(1), lost, lost, text("v")})
	}
	assert.Equal(t, []string{`null {"id":1,"n":{"_unchanged":true},"doc":"new","v":"v"}`}, shown(t, build(t, `{}`).Process(t.Context(), steptest.Batch(event()))))
	assert.Equal(t, []string{"deltaforge_reselect: table shop.docs: column n: the log does not carry its value, and the column is not there any more, or has another type (when_gone: error)"},
		shown(t, build(t, `when_gone: error`).Process(t.Context(), steptest.Batch(event()))))
}

func TestFailures(t *testing.T) {
	after := []change.Value{num(1), num(5), lost, text("v")}
	one := func(s *store, table *change.Table) []string {
		_ = s
		return shown(t, build(t, `{}`).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Update, table, nil, after))))
	}
	table, s := docs(map[int64][]change.Value{1: {num(1), num(5), text("x"), text("v")}})
	s.err = errors.New("no connection")
	assert.Equal(t, []string{"deltaforge_reselect: table shop.docs: filling values that the log does not carry: no connection"}, one(s, table))
	s.err, s.inexact = nil, errors.New("no such text")
	assert.Equal(t, []string{"deltaforge_reselect: table shop.docs: filling values that the log does not carry: no such text"}, one(s, table))
	table.Source.Rows = nil
	assert.Equal(t, []string{"deltaforge_reselect: table shop.docs: filling values that the log does not carry: the source that made the event cannot be asked: it is none of this process"}, one(s, table))
}

// What an earlier processor has changed is not undone.
func TestAfterOthers(t *testing.T) {
	table, _ := docs(map[int64][]change.Value{1: {num(1), num(5), text("x"), text("v")}})
	batch := steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Update, table, nil, []change.Value{num(1), num(5), lost, text("v")}))
	batch[0] = batch[0].Copy()
	batch[0].SetBytes([]byte("{}"))
	out := build(t, `{}`).Process(t.Context(), batch)
	require.Len(t, out, 1)
	assert.ErrorContains(t, out[0].GetError(), "deltaforge_reselect: table shop.docs: ")
}

func TestConfig(t *testing.T) {
	for yaml, want := range map[string]string{
		"max_rows: 0": "max_rows: want 1 to 10000, got 0", "timeout: 0s": "timeout: want a positive duration, got 0s", "when_gone: x": `when_gone: want leave, drop or error, got "x"`,
		"when_changed: drop": `when_changed: want fill, leave or error, got "drop"`, "tables: [ x ]": "tables: want a table pattern such as a.b, a.*, a.prefix% or %.b, got x",
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err)
		assert.EqualError(t, (&processor{}).parse(conf), want)
	}
}

// Events that lack nothing cost next to nothing.
func TestAllocations(t *testing.T) {
	table, _ := docs(nil)
	o := steptest.Origin()
	var events []*change.Event
	for i := range 1000 {
		events = append(events, steptest.Event(o, i+1, change.Update, table, nil, []change.Value{num(int64(i)), num(5), text("x"), text("v")}))
	}
	batch, p := steptest.Batch(events...), build(t, `{}`)
	assert.LessOrEqual(t, testing.AllocsPerRun(10, func() { p.Process(t.Context(), batch) }), 20.0)
}
