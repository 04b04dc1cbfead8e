package outbox

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func box() *change.Table {
	return steptest.Table("shop", "outbox",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64},
		change.Column{Name: "aggregatetype", Type: "text"}, change.Column{Name: "aggregateid", Type: "text", Nullable: true},
		change.Column{Name: "type", Type: "text"}, change.Column{Name: "payload", Type: "json", Logical: change.LogicalJSON}, change.Column{Name: "tenant", Type: "text"},
	)
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func row(id int64, aggregate change.Value, payload change.Value) []change.Value {
	return []change.Value{change.IntValue(id), text("order"), aggregate, text("paid"), payload, text("acme")}
}

func logical(prefix, content string) *change.Event {
	t := change.MessageTable(&change.Source{Connector: "postgresql", Name: "shop"}, "shop")
	return steptest.Event(steptest.Origin(), 1, change.Message, t, nil, []change.Value{text(prefix), change.BytesValue([]byte(content))})
}

func build(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	c, err := parse(conf)
	require.NoError(t, err)
	return &processor{config: c, dropped: service.MockResources().Metrics().NewCounter("processor_dropped_total", "reason")}
}

// said returns the message: topic, key, id, type, tenant, op and payload; or its error.
func said(t *testing.T, out service.MessageBatch) string {
	t.Helper()
	if len(out) == 0 {
		return "dropped"
	}
	m := out[0]
	if err := m.GetError(); err != nil {
		return err.Error()
	}
	s := ""
	for _, n := range []string{"topic", "key", "id", "type", "tenant", "op"} {
		v, _, _ := change.Meta(m, n, nil)
		s += string(v) + "|"
	}
	return s + steptest.Payload(t, m)
}

func TestCases(t *testing.T) {
	const one = `tables: [ "shop.outbox" ]` + "\n"
	ins := func(r []change.Value) *change.Event {
		return steptest.Event(steptest.Origin(), 1, change.Create, box(), nil, r)
	}
	good := ins(row(1, text("7"), change.JSONValue([]byte(`{"total": 10}`))))
	other := *good
	other.Op, other.Images = change.Delete, change.ImagesOf(good.After(), nil)
	updated := *good
	updated.Op = change.Update
	truncated := *good
	truncated.Op, truncated.Images = change.Truncate, change.Images{}
	snap := *good
	snap.Op = change.Read
	for name, c := range map[string]struct {
		yaml string
		ev   *change.Event
		want string
	}{
		"a row":                 {one, good, `outbox.event.order|7|1|paid||c|{"total": 10}`},
		"a row of a snapshot":   {one, &snap, `outbox.event.order|7|1|paid||c|{"total": 10}`},
		"text, byte by byte":    {one, ins(row(1, text("7"), text(" not JSON "))), `outbox.event.order|7|1|paid||c| not JSON `},
		"binary":                {one, ins(row(1, text("7"), change.BytesValue([]byte("\x00\x01")))), "outbox.event.order|7|1|paid||c|\x00\x01"},
		"empty":                 {one, ins(row(1, text("7"), text(""))), `outbox.event.order|7|1|paid||c|`},
		"expanded":              {one + "expand_payload: true", good, `outbox.event.order|7|1|paid||c|{"total":10}`},
		"expanded out of text":  {one + "expand_payload: true", ins(row(1, text("7"), text(`"{\"a\": \"{}\"}"`))), `outbox.event.order|7|1|paid||c|{"a":"{}"}`},
		"a string stays one":    {one + "expand_payload: true", ins(row(1, text("7"), text(`"some"`))), `outbox.event.order|7|1|paid||c|"some"`},
		"routed and headed":     {"tables: [ 'shop.out%' ]\ntopic: '{1}.{row.type}'\nkey: '{row.tenant}/{row.aggregateid}'\nheaders: { tenant: '{row.tenant}' }", good, `box.paid|acme/7|1|paid|acme|c|{"total": 10}`},
		"other columns":         {one + "fields: { id: aggregateid, aggregatetype: tenant, aggregateid: type, type: '', payload: id }", good, `outbox.event.acme|paid|7|||c|1`},
		"not JSON":              {one + "expand_payload: true", ins(row(1, text("7"), text("secret"))), "deltaforge_outbox: table shop.outbox: column payload: expand_payload is set, and the payload is not JSON"},
		"no payload":            {one, ins(row(1, text("7"), change.NullValue())), "deltaforge_outbox: table shop.outbox: column payload: the payload is NULL; an outbox row needs one"},
		"no key":                {one, ins(row(1, change.NullValue(), text("x"))), `deltaforge_outbox: table shop.outbox: key: "{row.aggregateid}": column aggregateid: it is NULL, which has no text; use another column`},
		"an update":             {one, &updated, "deltaforge_outbox: table shop.outbox: a row of an outbox was updated, and its message is gone already; insert another row, or set updates: drop"},
		"an update, dropped":    {one + "updates: drop", &updated, "dropped"},
		"a delete":              {one, &other, "dropped"},
		"a truncate":            {one, &truncated, "dropped"},
		"no such column":        {one + "fields: { payload: body }", good, "deltaforge_outbox: table shop.outbox: there is no column body; set fields.payload to the column that has the payload"},
		"no such column either": {one + "topic: '{row.nowhere}'", good, "deltaforge_outbox: table shop.outbox: topic: \"{row.nowhere}\": there is no column nowhere; mend the template, or limit the rule to other `tables`"},
		"a logical message": {
			"message_prefixes: [ 'out%' ]", logical("outbox", `{"id":"a-1","aggregatetype":"order","aggregateid":7,"type":"paid","payload":{"total": 1.0}}`),
			`outbox.event.order|7|a-1|paid||c|{"total": 1.0}`,
		},
		"a logical message, not an object": {
			"message_prefixes: [ outbox ]", logical("outbox", `[1]`),
			`deltaforge_outbox: table pg_logical.message: message with the prefix "outbox": its content is not a JSON object with the fields of an outbox`,
		},
		"a logical message that lacks a field": {
			"message_prefixes: [ outbox ]", logical("outbox", `{"payload":1,"aggregatetype":"a","aggregateid":1,"type":"x"}`),
			"deltaforge_outbox: table pg_logical.message: id: \"{row.id}\": there is no column id; mend the template, or limit the rule to other `tables`",
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, said(t, build(t, c.yaml).Process(t.Context(), steptest.Batch(c.ev))))
		})
	}
	for _, ev := range []*change.Event{logical("audit", "x"), steptest.Event(steptest.Origin(), 1, change.Delete, steptest.Table("shop", "others", change.Column{Name: "id"}), []change.Value{text("1")}, nil)} {
		batch := steptest.Batch(ev)
		out := build(t, one+"message_prefixes: [ outbox ]").Process(t.Context(), batch)
		require.Len(t, out, 1)
		assert.Same(t, batch[0], out[0], "not touched")
	}
}

func TestBadConfiguration(t *testing.T) {
	for yaml, want := range map[string]string{
		`{}`:                                     "want tables or message_prefixes",
		`tables: [ a ]`:                          "want a table pattern",
		"tables: [ a.b ]\ntopic: '{x}'":          "{x} is not known",
		"tables: [ a.b ]\nheaders: { topic: x }": "has a meaning of its own",
		"tables: [ a.b ]\nfields: { id: '' }":    "want a column",
		"tables: [ a.b ]\nupdates: maybe":        `got "maybe"`,
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err, yaml)
		_, err = parse(conf)
		assert.ErrorContains(t, err, want, yaml)
	}
}

// Through the engine: the messages of an outbox and other events keep their order and their ids.
func TestThroughTheEngine(t *testing.T) {
	for _, keys := range [][]string{nil, {}} {
		table := steptest.With(box(), nil, keys...)
		other := steptest.With(steptest.Table("shop", "others", change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64}), nil, keys...)
		origin := steptest.Origin()
		var events []*change.Event
		var want []string
		for i := range 60 {
			switch i % 3 {
			case 0:
				events = append(events, steptest.Event(origin, i, change.Create, table, nil, row(int64(i), text(fmt.Sprint("k", i)), text(fmt.Sprint("p", i)))))
				want = append(want, fmt.Sprintf("uuid:7:%d k%d", i, i))
			case 1:
				events = append(events, steptest.Event(origin, i, change.Delete, table, row(int64(i), text("k"), text("p")), nil))
			default:
				events = append(events, steptest.Event(origin, i, change.Create, other, nil, []change.Value{change.IntValue(int64(i))}))
				want = append(want, fmt.Sprintf(`uuid:7:%d {"id":%d}`, i, i))
			}
		}
		var got []string
		for _, m := range steptest.Through(t, []service.MessageBatch{steptest.Batch(events...)}, `deltaforge_outbox: { tables: [ "shop.outbox" ] }`) {
			require.NoError(t, m.GetError())
			id, _, _ := change.Meta(m, change.MetaEventID, nil)
			key, _, _ := change.Meta(m, change.MetaKey, nil)
			got = append(got, string(id)+" "+string(key))
		}
		assert.Equal(t, want, got)
	}
}

// Expanding agrees with the library: what comes out is what the JSON in the string, in the string and so on, says.
func TestExpandAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		var v any = map[string]any{"a": r.IntN(100), "b": []any{"x", nil, r.Float64()}}
		if r.IntN(4) == 0 {
			v = r.IntN(1000)
		}
		want, err := json.Marshal(v)
		require.NoError(t, err)
		in := want
		for range r.IntN(3) {
			in, err = json.Marshal(string(in))
			require.NoError(t, err)
		}
		got, err := expand(append([]byte(" \n"), in...))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(`{"id":1,"payload":{"a":1}}`)
	f.Add(`{"id":null} x`)
	f.Add(`{"a":"b"`)
	f.Fuzz(func(t *testing.T, s string) {
		p := &processor{config: &config{payload: "payload"}}
		ev, err := p.unpack(logical("outbox", s))
		var m map[string]json.RawMessage
		if valid := json.Unmarshal([]byte(s), &m) == nil && m != nil; valid != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && len(ev.Table.Columns) < len(m) {
			t.Fatalf("%q: fields are missing", s)
		}
	})
}

func benchBatch(n int) service.MessageBatch {
	table, origin := box(), steptest.Origin()
	var events []*change.Event
	for i := range n {
		events = append(events, steptest.Event(origin, i, change.Create, table, nil, row(int64(i), text("7"), change.JSONValue([]byte(`{"total": 10}`)))))
	}
	return steptest.Batch(events...)
}

func TestAllocations(t *testing.T) {
	p, batch := build(t, `tables: [ "shop.outbox" ]`), benchBatch(100)
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() { _ = p.Process(t.Context(), batch) }), 3500.0)
}

func BenchmarkOutbox(b *testing.B) {
	p, batch := build(b, `tables: [ "shop.outbox" ]`), benchBatch(1000)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Process(b.Context(), batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/row")
}
