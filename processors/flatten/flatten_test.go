package flatten

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func orders() *change.Table {
	return steptest.Table("shop", "orders",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64},
		change.Column{Name: "doc", Type: "json", Logical: change.LogicalJSON, Nullable: true},
		change.Column{Name: "tags", Type: "text[]", Logical: change.LogicalArray, Parts: []change.Column{{Type: "text"}}},
	)
}

func doc(s string) change.Value { return change.JSONValue([]byte(s)) }

func row(d change.Value) []change.Value {
	return []change.Value{change.IntValue(1), d, doc(`["x","y"]`)}
}

func build(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p := &processor{}
	require.NoError(t, p.parse(conf))
	return p
}

// images returns before, after and the key of a message, or its error.
func images(t testing.TB, m *service.Message) string {
	t.Helper()
	if err := m.GetError(); err != nil {
		return err.Error()
	}
	var e struct{ Before, After json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(steptest.Payload(t, m)), &e))
	key, _, _ := change.Meta(m, change.MetaKey, nil)
	return fmt.Sprintf("%s %s %s", e.Before, e.After, key)
}

func TestCases(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 150) + "1" + strings.Repeat("}", 150)
	for _, c := range []struct{ name, yaml, doc, want string }{
		{"nested", `{}`, `{"a":{"b":1.50,"c":"x"},"d":[1,{"e":2}]}`, `null {"id":1,"doc.a.b":1.50,"doc.a.c":"x","doc.d":[1,{"e":2}],"tags":["x","y"]} {"id":1}`},
		{"lists", `lists: index`, `{"d":[1,{"e":null}]}`, `null {"id":1,"doc.d.0":1,"doc.d.1.e":null,"tags.0":"x","tags.1":"y"} {"id":1}`},
		{"separator and depth", "separator: _\ndepth: 1", `{"a":{"b":{"c":1}},"d":true}`, `null {"id":1,"doc_a":{"b":{"c":1}},"doc_d":true,"tags":["x","y"]} {"id":1}`},
		{"empty objects", `{}`, `{"a":{},"b":[]}`, `null {"id":1,"doc.a":{},"doc.b":[],"tags":["x","y"]} {"id":1}`},
		{"an empty document", `{}`, `{}`, `null {"id":1,"doc":{},"tags":["x","y"]} {"id":1}`},
		{"a scalar document", `{}`, ` 7`, `null {"id":1,"doc":7,"tags":["x","y"]} {"id":1}`},
		{"names that need care", `{}`, `{"":1,"\"é":2,"a.b":3}`, `null {"id":1,"doc.":1,"doc.\"é":2,"doc.a.b":3,"tags":["x","y"]} {"id":1}`},
		{"other columns", `columns: [ tag% ]`, `{"a":1}`, `null {"id":1,"doc":{"a":1},"tags":["x","y"]} {"id":1}`},
		{"other tables", `tables: [ "shop.others" ]`, `{"a":1}`, `null {"id":1,"doc":{"a":1},"tags":["x","y"]} {"id":1}`},
		{"the first counts", `collisions: first`, `{"a.b":1,"a":{"b":2}}`, `null {"id":1,"doc.a.b":1,"tags":["x","y"]} {"id":1}`},
		{"a collision", `{}`, `{"a.b":1,"a":{"b":2}}`, "deltaforge_flatten: table shop.orders: column doc: two columns would have the name \"doc.a.b\"; choose another `separator`, or set collisions: first"},
		{"a field twice", `{}`, `{"a":1,"a":2}`, "deltaforge_flatten: table shop.orders: column doc: two columns would have the name \"doc.a\"; choose another `separator`, or set collisions: first"},
		{"no such column", `columns: [ nowhere ]`, `{}`, "deltaforge_flatten: table shop.orders: there is no column nowhere; mend `columns`, limit `tables`, or write a pattern such as nowhere%"},
		{"too many", `lists: index`, "[" + strings.Repeat("0,", most) + "0]", "deltaforge_flatten: table shop.orders: column doc: the row would have more than 2000 columns; bound `depth`, or leave columns out"},
		{"too deep", `{}`, deep, `null {"id":1,"doc` + strings.Repeat(".a", 100) + `":` + strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50) + `,"tags":["x","y"]} {"id":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := build(t, c.yaml).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, row(doc(c.doc)))))
			require.Len(t, out, 1)
			assert.Equal(t, c.want, images(t, out[0]))
		})
	}
}

// The rows before and after a change have one shape; NULL and what the log does not have stay in a column of the old name.
func TestBothImages(t *testing.T) {
	for _, c := range []struct {
		before, after change.Value
		want          string
	}{
		{doc(`{"a":1,"b":2}`), doc(`{"b":3,"c":4}`), `{"id":1,"doc.a":1,"doc.b":2,"tags":["x","y"]} {"id":1,"doc.b":3,"doc.c":4,"tags":["x","y"]} {"id":1}`},
		{change.NullValue(), doc(`{"c":4}`), `{"id":1,"doc":null,"tags":["x","y"]} {"id":1,"doc.c":4,"tags":["x","y"]} {"id":1}`},
		{doc(`{"a":1}`), change.UnavailableValue(), `{"id":1,"doc.a":1,"tags":["x","y"]} {"id":1,"doc":{"_unchanged":true},"tags":["x","y"]} {"id":1}`},
		{doc(`{"a":1}`), change.Value{}, `{"id":1,"doc.a":1,"tags":["x","y"]} {"id":1,"tags":["x","y"]} {"id":1}`},
	} {
		out := build(t, `{}`).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Update, orders(), row(c.before), row(c.after))))
		assert.Equal(t, c.want, images(t, out[0]))
	}
	p := build(t, `{}`)
	table := orders()
	same := func(d string) *change.Table {
		ev, ok := change.FromMessage(p.Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, table, nil, row(doc(d)))))[0])
		require.True(t, ok)
		return ev.Table
	}
	assert.Same(t, same(`{"a":1}`), same(`{"a":2}`), "rows with the same fields share a table")
	assert.NotEqual(t, same(`{"a":1}`).Fingerprint(), same(`{"b":1}`).Fingerprint())
	minimal := steptest.Event(steptest.Origin(), 1, change.Update, table, nil, []change.Value{{}, doc(`{"a":1}`), {}})
	assert.Equal(t, `null {"doc.a":1} `, images(t, p.Process(t.Context(), steptest.Batch(minimal))[0]))
}

func TestBadConfiguration(t *testing.T) {
	for yaml, want := range map[string]string{
		`depth: -1`: "want at least 0", `lists: x`: `got "x"`, `collisions: x`: `got "x"`, `tables: [ x ]`: "want a table pattern",
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err, yaml)
		assert.ErrorContains(t, (&processor{}).parse(conf), want, yaml)
	}
}

// random returns a random document.
func random(r *rand.Rand, depth int) any {
	switch n := r.IntN(6); {
	case n < 2 && depth > 0:
		m := map[string]any{}
		for range r.IntN(4) {
			m[string(rune('a'+r.IntN(5)))] = random(r, depth-1)
		}
		return m
	case n == 2 && depth > 0:
		l := []any{}
		for range r.IntN(3) {
			l = append(l, random(r, depth-1))
		}
		return l
	case n == 3:
		return nil
	case n == 4:
		return fmt.Sprint(r.IntN(100))
	default:
		return json.Number(fmt.Sprint(r.Int64()))
	}
}

// naive flattens a document that the library has read.
func naive(out map[string]any, name string, v any, index bool, depth int) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 && depth > 0 {
			for k, e := range v {
				naive(out, name+"."+k, e, index, depth-1)
			}
			return
		}
	case []any:
		if len(v) > 0 && depth > 0 && index {
			for k, e := range v {
				naive(out, fmt.Sprint(name, ".", k), e, index, depth-1)
			}
			return
		}
	}
	out[name] = v
}

func TestAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 200 {
		index, depth := r.IntN(2) == 0, 1+r.IntN(4)
		v := random(r, 4)
		text, err := json.Marshal(v)
		require.NoError(t, err)
		want := map[string]any{"id": 1}
		naive(want, "doc", v, index, depth)
		wanted, err := json.Marshal(want)
		require.NoError(t, err)
		p := build(t, fmt.Sprintf("columns: [ doc ]\ndepth: %d\nlists: %s", depth, map[bool]string{true: "index", false: "keep"}[index]))
		out := p.Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, row(doc(string(text)))[:2])))
		require.NoError(t, out[0].GetError())
		var e struct{ After json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(steptest.Payload(t, out[0])), &e))
		require.JSONEq(t, string(wanted), string(e.After))
	}
}

func FuzzFlatten(f *testing.F) {
	f.Add(`{"a":{"b":[1,2,{"c":"\ud800"}]}}`)
	f.Add(`[[],{},""]`)
	f.Add(`{"":{"":1}}`)
	p := &processor{separator: ".", depth: 100, index: true, first: true}
	f.Fuzz(func(t *testing.T, s string) {
		if !json.Valid([]byte(s)) {
			return
		}
		batch := steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, row(doc(s))))
		for _, m := range p.Process(t.Context(), batch) {
			if payload := steptest.Payload(t, m); m.GetError() == nil && !json.Valid([]byte(payload)) {
				t.Fatalf("%s became %s", s, payload)
			}
		}
	})
}

func benchBatch(n int) service.MessageBatch {
	table, origin := orders(), steptest.Origin()
	var events []*change.Event
	for i := range n {
		events = append(events, steptest.Event(origin, i, change.Create, table, nil, row(doc(`{"a":{"b":1,"c":"text"},"d":[1,2]}`))))
	}
	return steptest.Batch(events...)
}

func TestAllocations(t *testing.T) {
	p, batch := build(t, `{}`), benchBatch(100)
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() { _ = p.Process(t.Context(), batch) }), 8500.0)
}

func BenchmarkFlatten(b *testing.B) {
	p, batch := build(b, `{}`), benchBatch(1000)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Process(b.Context(), batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/row")
}
