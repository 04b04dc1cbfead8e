package route

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func orders(database string) *change.Table {
	return steptest.Table(database, "orders_2024",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64},
		change.Column{Name: "region", Type: "text", Nullable: true}, change.Column{Name: "photo", Type: "blob", Logical: change.LogicalBytes},
	)
}

func row(id int64, region change.Value) []change.Value {
	return []change.Value{change.IntValue(id), region, change.BytesValue([]byte{1})}
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func build(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p := &processor{dropped: service.MockResources().Metrics().NewCounter("processor_dropped_total", "reason")}
	require.NoError(t, p.parse(conf))
	return p
}

// said returns what the metadata says, and the error.
func said(t *testing.T, m *service.Message, names ...string) string {
	t.Helper()
	if err := m.GetError(); err != nil {
		return err.Error()
	}
	var out []string
	for _, n := range append([]string{"topic", "key"}, names...) {
		v, _, _ := change.Meta(m, n, nil)
		out = append(out, string(v))
	}
	return strings.Join(out, "|")
}

func TestCases(t *testing.T) {
	for _, c := range []struct {
		name, yaml    string
		op            change.Op
		before, after []change.Value
		want          string
	}{
		{
			"shards to one topic", `rules: [ { tables: [ "shard_%.orders%" ], topic: "all{2}", key_fields: [ { name: shard, value: "{1}" }, { name: id, value: "{row.id}" } ], headers: { s: "{database}" } } ]`,
			change.Create, nil, row(5, text("eu")), `all_2024|{"shard":"7","id":5}|shard_7`,
		},
		{"the first rule counts", `rules: [ { tables: [ "shard_7.*" ], topic: a }, { topic: b } ]`, change.Create, nil, row(5, text("eu")), `a|{"id":5}|`},
		{
			"everything of an event", `rules: [ { topic: "{source}.{database}.{schema}.{table}.{op}.{operation}.{{x}", key: "{row.region}/{row.id}" } ]`, change.Delete, row(5, text("eu")), nil,
			`shop.shard_7..orders_2024.d.delete.{x}|eu/5|`,
		},
		{"what is not after the change is before it", `rules: [ { topic: "{row.region}" } ]`, change.Update, row(5, text("eu")), row(5, change.UnavailableValue()), `eu|{"id":5}|`},
		{"NULL in JSON", `rules: [ { key_fields: [ { name: r, value: "{row.region}" } ] } ]`, change.Create, nil, row(5, change.NullValue()), `|{"r":null}|`},
		{"binary in JSON", `rules: [ { key_fields: [ { name: r, value: "{row.photo}" } ] } ]`, change.Create, nil, row(5, change.NullValue()), `|{"r":{"_base64":"AQ=="}}|`},
		{"a truncate", `rules: [ { topic: t, key: "{row.id}", headers: { s: "{row.id}" } } ]`, change.Truncate, nil, nil, `t||`},
		{"no rule", `rules: [ { tables: [ "x.y" ], topic: t } ]`, change.Create, nil, row(5, text("eu")), `|{"id":5}|`},
		{
			"NULL", `rules: [ { topic: "{row.region}" } ]`, change.Create, nil, row(5, change.NullValue()),
			`deltaforge_route: table shard_7.orders_2024: topic: "{row.region}": column region: it is NULL, which has no text; use another column`,
		},
		{
			"not in the log", `rules: [ { key: "{row.region}" } ]`, change.Update, nil, row(5, change.UnavailableValue()),
			`deltaforge_route: table shard_7.orders_2024: key: "{row.region}": column region: the log does not have its value; set REPLICA IDENTITY FULL (PostgreSQL) or binlog_row_image=FULL (MySQL), or use another column`,
		},
		{
			"binary", `rules: [ { headers: { h: "{row.photo}" } } ]`, change.Create, nil, row(5, text("eu")),
			`deltaforge_route: table shard_7.orders_2024: headers: h: "{row.photo}": column photo: it is binary, which has no text; use another column`,
		},
		{
			"no such column", `rules: [ { headers: { h: "{row.nowhere}" } } ]`, change.Create, nil, row(5, text("eu")),
			"deltaforge_route: table shard_7.orders_2024: \"{row.nowhere}\": there is no column nowhere; mend the template, or limit the rule to other `tables`",
		},
		{
			"no rule, which is an error", `{ unmatched: error, rules: [ { tables: [ "x.y" ], topic: t } ] }`, change.Create, nil, row(5, text("eu")),
			`deltaforge_route: table shard_7.orders_2024: no rule is for it; add one, or set unmatched`,
		},
		{
			"a topic of a row for a truncate", `rules: [ { topic: "{row.id}" } ]`, change.Truncate, nil, nil,
			`deltaforge_route: table shard_7.orders_2024: topic: "{row.id}": column id: the log does not have its value; set REPLICA IDENTITY FULL (PostgreSQL) or binlog_row_image=FULL (MySQL), or use another column`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := build(t, c.yaml).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, c.op, orders("shard_7"), c.before, c.after)))
			require.Len(t, out, 1)
			assert.Equal(t, c.want, said(t, out[0], "s"))
		})
	}
	assert.Empty(t, build(t, `{ unmatched: drop, rules: [ { tables: [ "x.y" ], topic: t } ] }`).Process(t.Context(),
		steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, orders("a"), nil, row(1, text(""))))))
}

func TestBadConfiguration(t *testing.T) {
	for yaml, want := range map[string]string{
		`rules: []`:                       "want at least one",
		`rules: [ { topic: "{tabel}" } ]`: "{tabel} is not known",
		`rules: [ { topic: "{1}" } ]`:     "a table pattern has 0 wildcards only",
		`rules: [ { tables: [ "a.b%", "%.c%" ], topic: "{2}" } ]`:      "a table pattern has 1 wildcards only",
		`rules: [ { topic: "a{table" } ]`:                              "a { has no }",
		`rules: [ { key: "{row.}" } ]`:                                 "{row.} is not known",
		`rules: [ { key: a, key_fields: [ { name: a, value: b } ] } ]`: "got both",
		`rules: [ { headers: { key: a } } ]`:                           "has a meaning of its own",
		`{ rules: [ { topic: a } ], unmatched: maybe }`:                `got "maybe"`,
		`rules: [ { tables: [ a ], topic: a } ]`:                       "want a table pattern",
		`rules: [ { key_fields: [ { name: a, value: "{x}" } ] } ]`:     "{x} is not known",
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err, yaml)
		assert.ErrorContains(t, (&processor{}).parse(conf), want, yaml)
	}
}

// Through the engine, with and without metadata of the source: the payload is untouched, and each message has its own key.
func TestThroughTheEngine(t *testing.T) {
	for _, keys := range [][]string{nil, {}} {
		table := steptest.With(orders("shard_3"), nil, keys...)
		var events []*change.Event
		for i := range 50 {
			events = append(events, steptest.Event(steptest.Origin(), i, change.Create, table, nil, row(int64(i), text("eu"))))
		}
		batch := steptest.Batch(events...)
		out := steptest.Through(t, []service.MessageBatch{batch}, `mapping: 'root = if this.after.id % 2 == 0 { deleted() }'`,
			`deltaforge_route: { rules: [ { tables: [ "shard_%.*" ], topic: "t{1}", key: "{row.id}" } ] }`)
		require.Len(t, out, 25)
		for i, m := range out {
			assert.Equal(t, fmt.Sprintf("t3|%d", 2*i+1), said(t, m))
			assert.Equal(t, steptest.Payload(t, batch[2*i+1]), steptest.Payload(t, m))
		}
	}
}

// Templates agree with a replacement by a regular expression, and JSON keys with the encoder of the library.
func TestAgainstNaiveTemplates(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	pieces := []string{"{table}", "{database}", "{op}", "{row.id}", "{row.region}", "x", "é\"", "{{", "}", "{1}"}
	ev := steptest.Event(steptest.Origin(), 1, change.Create, orders("db_9"), nil, row(12, text("e\"u")))
	values := map[string]string{"{table}": "orders_2024", "{database}": "db_9", "{op}": "c", "{row.id}": "12", "{row.region}": "e\"u", "{1}": "9", "{{": "{"}
	places := regexp.MustCompile(`\{\{|\{[^{}]*\}`)
	for range 500 {
		s := ""
		for range r.IntN(7) {
			s += pieces[r.IntN(len(pieces))]
		}
		want := places.ReplaceAllStringFunc(s, func(p string) string { return values[p] })
		tmpl, err := step.ParseTemplate(s, 1)
		require.NoError(t, err, s)
		got, err := tmpl.Append(nil, ev, []string{"9"})
		require.NoError(t, err)
		require.Equal(t, want, string(got), s)
		js, err := tmpl.AppendJSON(nil, ev, []string{"9"})
		require.NoError(t, err)
		var back any
		require.NoError(t, json.Unmarshal(js, &back))
		if s == "{row.id}" {
			require.InDelta(t, 12, back, 0)
		} else {
			require.Equal(t, want, back)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("a{table}{{")
	f.Add("{row.id}{1}")
	f.Add("{")
	ev := steptest.Event(steptest.Origin(), 1, change.Create, orders("db"), nil, row(1, text("eu")))
	f.Fuzz(func(t *testing.T, s string) {
		tmpl, err := step.ParseTemplate(s, 1)
		if err != nil || tmpl.Check(ev.Table) != nil {
			return
		}
		got, err := tmpl.Append(nil, ev, []string{"x"})
		if !strings.Contains(s, "{") && (err != nil || string(got) != s) {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}

const benchYAML = `rules: [ { tables: [ "shard_%.*" ], topic: "t{1}", key_fields: [ { name: shard, value: "{1}" }, { name: id, value: "{row.id}" } ] } ]`

func benchBatch(n int) service.MessageBatch {
	table, origin := orders("shard_7"), steptest.Origin()
	var events []*change.Event
	for i := range n {
		events = append(events, steptest.Event(origin, i, change.Create, table, nil, row(int64(i), text("eu"))))
	}
	return steptest.Batch(events...)
}

func TestAllocations(t *testing.T) {
	p, batch := build(t, benchYAML), benchBatch(100)
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() { _ = p.Process(t.Context(), batch) }), 2000.0)
}

func BenchmarkRoute(b *testing.B) {
	p, batch := build(b, benchYAML), benchBatch(1000)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Process(b.Context(), batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/row")
}
