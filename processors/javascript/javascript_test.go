package javascript

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func orders() *change.Table {
	return steptest.Table("shop", "orders",
		change.Column{Name: "id", Type: "bigint unsigned", Logical: change.LogicalUint64},
		change.Column{Name: "name", Type: "text", Nullable: true},
		change.Column{Name: "total", Type: "decimal(30,2)", Logical: change.LogicalDecimal, Precision: 30, Scale: 2},
		change.Column{Name: "n", Type: "int", Logical: change.LogicalInt32},
		change.Column{Name: "f", Type: "float", Logical: change.LogicalFloat32},
		change.Column{Name: "doc", Type: "json", Logical: change.LogicalJSON},
		change.Column{Name: "bin", Type: "blob", Logical: change.LogicalBytes},
		change.Column{Name: "ok", Type: "boolean", Logical: change.LogicalBool},
	)
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func row(id uint64) []change.Value {
	return []change.Value{
		change.UintValue(id), text("é\"😀"), change.DecimalValue([]byte("12345678901234567890.10")), change.IntValue(-5), change.Float32Value(3.3),
		change.JSONValue([]byte(`{"big": 12345678901234567890}`)), change.BytesValue([]byte{0, 255}), change.BoolValue(true),
	}
}

// unchangedRow is that row in the envelope.
const unchangedRow = `"name":"é\"😀","total":"12345678901234567890.10","n":-5,"f":3.3,"doc":{"big": 12345678901234567890},"bin":{"_base64":"AP8="},"ok":true`

func build(t testing.TB, script, more string) *processor {
	t.Helper()
	if !strings.Contains(more, "timeout") {
		more += "\ntimeout: 60s" // whatever else the machine does
	}
	quoted, err := json.Marshal(script)
	require.NoError(t, err)
	conf, err := spec().ParseYAML(fmt.Sprintf("script: %s\n%s", quoted, more), nil)
	require.NoError(t, err)
	p, err := parse(conf, service.MockResources().Metrics().NewCounter("processor_dropped_total", "reason"))
	require.NoError(t, err)
	return p
}

// each is a script that does something with each event.
func each(body string) string {
	return "function processBatch(events) { for (const e of events) { " + body + " } return events; }"
}

func create(id uint64) *change.Event {
	return steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, row(id))
}

// after returns the row after the change, the key and the metadata x of a message, or its error.
func after(t testing.TB, m *service.Message) string {
	t.Helper()
	if err := m.GetError(); err != nil {
		return err.Error()
	}
	var e struct{ After json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(steptest.Payload(t, m)), &e))
	key, _, _ := change.Meta(m, change.MetaKey, nil)
	x, _ := m.MetaGet("x")
	return fmt.Sprintf("%s %s %s", e.After, key, x)
}

func TestCases(t *testing.T) {
	whole := `{"id":18446744073709551615,` + unchangedRow + `} {"id":18446744073709551615} `
	with := func(column, value string) string {
		return "e.after = Object.assign(e.after, { " + column + ": " + value + " });"
	}
	only := func(column string) string {
		return "for (const k in e.after) { if (k !== 'id' && k !== '" + column + "') { delete e.after[k]; } }"
	}
	for _, c := range []struct{ name, body, more, want string }{
		{"nothing", "", "", whole},
		{
			"values", `e.metadata.x = [typeof e.after.id, e.after.id.toString(), e.after.name, e.after.total, e.after.n, e.after.f, JSON.parse(e.after.doc).big, new Uint8Array(e.after.bin)[1], e.after.ok, e.op, e.table, e.event_id].join("|")`, "",
			whole + "bigint|18446744073709551615|é\"😀|12345678901234567890.10|-5|3.3|12345678901234567000|255|true|c|orders|uuid:7:1",
		},
		{"integers as strings", `e.metadata.x = typeof e.after.id`, "bigint: string", whole + "string"},
		{"a text", only("name") + with("name", "'a'"), "", `{"id":18446744073709551615,"name":"a"} {"id":18446744073709551615} `},
		{"a decimal", only("total") + with("total", "'-1.50'"), "", `{"id":18446744073709551615,"total":"-1.50"} {"id":18446744073709551615} `},
		{"a decimal of a BigInt", only("total") + with("total", "10n ** 25n"), "", `{"id":18446744073709551615,"total":"10000000000000000000000000"} {"id":18446744073709551615} `},
		{"the key", only("x") + "e.after.id = e.after.id - 1n", "", `{"id":18446744073709551614} {"id":18446744073709551614} `},
		{"the key, out of a string", only("x") + "e.after.id = '7'", "bigint: string", `{"id":7} {"id":7} `},
		{"JSON of an object", only("doc") + "e.after.doc = { a: [1, null] }", "", `{"id":18446744073709551615,"doc":{"a":[1,null]}} {"id":18446744073709551615} `},
		{"binary", only("bin") + "new Uint8Array(e.after.bin)[0] = 7", "", `{"id":18446744073709551615,"bin":{"_base64":"B/8="}} {"id":18446744073709551615} `},
		{"NULL", only("name") + "e.after.name = null", "", `{"id":18446744073709551615,"name":null} {"id":18446744073709551615} `},
		{"unavailable", only("name") + "e.after.name = UNAVAILABLE", "", `{"id":18446744073709551615,"name":{"_unchanged":true}} {"id":18446744073709551615} `},
		{
			"new columns", only("x") + "Object.assign(e.after, { a: 1, b: 1.5, c: 'x', d: true, e: { f: 1 }, g: 2n ** 64n, h: null })", "",
			`{"id":18446744073709551615,"a":1,"b":1.5,"c":"x","d":true,"e":{"f":1},"g":"18446744073709551616","h":null} {"id":18446744073709551615} `,
		},
		{"metadata of an object", "e.metadata.x = { a: 1 }", "", whole + `{"a":1}`},
		{"a fraction for an integer", "e.after.n = 1.5", "", "deltaforge_javascript: table shop.orders: column n: its type is int, and the script has set it to something else"},
		{"too large", "e.after.n = 2147483648", "", "deltaforge_javascript: table shop.orders: column n: its type is int, and the script has set it to something else"},
		{"negative", "e.after.id = -1", "", "deltaforge_javascript: table shop.orders: column id: its type is bigint unsigned, and the script has set it to something else"},
		{"not a decimal", "e.after.total = '1e5'", "", "deltaforge_javascript: table shop.orders: column total: its type is decimal(30,2), and the script has set it to something else"},
		{"not JSON", "e.after.doc = '{'", "", "deltaforge_javascript: table shop.orders: column doc: the script has set it to a string that is not JSON; set an object, or JSON.stringify it"},
		{"the key is gone", "delete e.after.id", "", "deltaforge_javascript: table shop.orders: column id: it is part of the key, and the script has deleted it"},
		{"a row out of nothing", "e.before = {}", "", "deltaforge_javascript: table shop.orders: the script has set before, which the event has as null; only the columns in it can be changed"},
		{"a row gone", "e.after = null", "", "deltaforge_javascript: table shop.orders: the script has set after, which the event has as a row; only the columns in it can be changed"},
		{"an id", "e.metadata.event_id = 1", "", "deltaforge_javascript: table shop.orders: metadata event_id is the event's own; choose another name"},
		{"it throws", "undefined.x", "", "deltaforge_javascript: the script has thrown: TypeError: Cannot read property 'x' of undefined at processBatch (script:1:"},
		{"recursion", "(function f() { f() })()", "", "deltaforge_javascript: the script calls more than 2048 functions inside each other: at f (script:1:"},
		{"much out of little", "'x'.repeat(1e9)", "", "deltaforge_javascript: the script has thrown: RangeError: repeat of more than 16777216 is refused by deltaforge_javascript"},
		{"a huge array", "new Array(1e9).fill(0)", "", "deltaforge_javascript: the script has thrown: RangeError: Array of more than 16777216 is refused by deltaforge_javascript"},
		{"a huge result", "e.after.name = 'x'.repeat(2000000)", "memory_limit: 1048576\ntimeout: 60s", "memory_limit"},
		{"an endless loop in a getter", "Object.defineProperty(e.after, 'name', { get() { for (;;) {} }, enumerable: true })", "timeout: 50ms", "deltaforge_javascript: the script was stopped: it took longer than timeout (50ms) for a batch; it may loop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			batch := steptest.Batch(create(math.MaxUint64))
			was := steptest.Payload(t, batch[0])
			out := build(t, each(c.body), c.more).Process(t.Context(), batch)
			require.Len(t, out, 1)
			if out[0].GetError() != nil {
				assert.Contains(t, out[0].GetError().Error(), c.want)
				assert.Equal(t, was, steptest.Payload(t, out[0]), "unchanged")
				return
			}
			assert.Equal(t, c.want, after(t, out[0]))
		})
	}
}

// What a script returns is a part of what it got, in its order.
func TestReturned(t *testing.T) {
	const bad = "deltaforge_javascript: processBatch must return an array of the events that it was given, each at most once, in their order"
	for script, want := range map[string]string{
		"return events.filter(e => e.after.id !== 2)": "1 3", "return []": "", "return events.reverse()": bad, "return [events[0], events[0]]": bad,
		"return events.map(e => ({...e}))": bad, "return undefined": bad, "return { length: 1, 0: events[0] }": bad, "return [null]": bad, "return [1]": bad,
	} {
		out := build(t, "function processBatch(events) { "+script+" }", "").Process(t.Context(), steptest.Batch(create(1), create(2), create(3)))
		got := ""
		for _, m := range out {
			if err := m.GetError(); err != nil {
				assert.EqualError(t, err, want, script)
				got = want
				continue
			}
			ev, _ := change.FromMessage(m)
			got += map[bool]string{true: "", false: " "}[got == ""] + fmt.Sprint(ev.After()[0].Uint())
		}
		assert.Equal(t, want, got, script)
	}
}

func TestBadConfiguration(t *testing.T) {
	for yaml, want := range map[string]string{
		"script: 'function ('": "SyntaxError", "script: 'var a = 1'": "no function processBatch", "script: 'throw new Error(\"no\")'": "Error: no",
		"script: 'for (;;) {}'\ntimeout: 50ms":                      "took longer than timeout",
		"script: 'function processBatch(e) {}'\ntimeout: 0s":        "want more than 0",
		"script: 'function processBatch(e) {}'\nbigint: number":     `got "number"`,
		"script: 'function processBatch(e) {}'\nmemory_limit: 1000": "want at least 1048576",
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err, yaml)
		_, err = parse(conf, nil)
		assert.ErrorContains(t, err, want, yaml)
	}
}

// A loop that never ends is stopped, memory that grows without end too, the batch fails and the next one runs. What a script remembers is
// lost with it.
func TestStopped(t *testing.T) {
	const script = `let seen = 0;
function processBatch(events) {
  for (const e of events) {
    e.metadata.x = ++seen;
    if (e.after.id === 2) { for (;;) {} }
    if (e.after.id === 3) { const all = []; for (;;) { all.push("some text " + all.length); } }
  }
  return events;
}`
	p := build(t, script, "timeout: 3s")
	one := func(id uint64) string { return after(t, p.Process(t.Context(), steptest.Batch(create(id)))[0]) }
	good := func(id, seen int) string {
		return fmt.Sprintf(`{"id":%d,%s} {"id":%d} %d`, id, unchangedRow, id, seen)
	}
	assert.Equal(t, good(1, 1), one(1))
	assert.Equal(t, good(1, 2), one(1), "variables live on")
	assert.Equal(t, "deltaforge_javascript: the script was stopped: it took longer than timeout (3s) for a batch; it may loop", one(2))
	assert.Equal(t, good(1, 1), one(1))
	p = build(t, script, "timeout: 10m\nmemory_limit: 16777216")
	assert.Equal(t, "deltaforge_javascript: the script was stopped: the memory of the process has grown by more than memory_limit while it ran", one(3))
	assert.Eventually(t, func() bool { return p.running.Load() == 0 }, time.Minute, time.Millisecond)
}

// The constants of the host are not there.
func TestNothingFromOutside(t *testing.T) {
	for _, name := range []string{"require", "process", "fetch", "XMLHttpRequest", "console", "Deno", "module", "setTimeout"} {
		out := build(t, each("e.metadata.x = typeof "+name), "").Process(t.Context(), steptest.Batch(create(1)))
		x, _ := out[0].MetaGet("x")
		assert.Equal(t, "undefined", x, name)
	}
}

// Through the engine, with and without metadata of the source, and with events of other kinds.
func TestThroughTheEngine(t *testing.T) {
	for _, keys := range [][]string{nil, {}} {
		table := steptest.With(orders(), nil, keys...)
		var events []*change.Event
		for i := range 40 {
			ev := steptest.Event(steptest.Origin(), i, change.Update, table, row(uint64(i)), row(uint64(i)))
			if i%8 == 7 {
				ev.Op, ev.Images = change.Truncate, change.Images{}
			}
			events = append(events, ev)
		}
		out := steptest.Through(t, []service.MessageBatch{steptest.Batch(events...)},
			`deltaforge_javascript: { timeout: 60s, script: "function processBatch(events) { return events.filter(e => e.op === 't' || e.after.id % 2 === 0).map(e => { if (e.after) { e.after.n = e.after.id + 1; } return e; }); }" }`)
		require.Len(t, out, 25)
		for _, m := range out {
			require.NoError(t, m.GetError())
			ev, ok := change.FromMessage(m)
			require.True(t, ok)
			if ev.Op == change.Update {
				assert.Equal(t, int64(ev.Index)+1, ev.After()[3].Int())
				assert.Equal(t, int64(-5), ev.Before()[3].Int())
			}
			assert.Contains(t, steptest.Payload(t, m), fmt.Sprintf(`"total_order":%d}`, ev.Index))
		}
	}
}

// Arithmetic in the script agrees with Go's, at the edges of what a number holds exactly.
func TestNumbersAgainstGo(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, more := range []string{"bigint: bigint", "bigint: string"} {
		p := build(t, each("e.after.id = (BigInt(e.after.id) ^ 5n)"), more)
		for range 300 {
			n := r.Uint64() >> r.IntN(64)
			out := p.Process(t.Context(), steptest.Batch(create(n)))
			require.NoError(t, out[0].GetError())
			ev, _ := change.FromMessage(out[0])
			require.Equal(t, n^5, ev.After()[0].Uint())
		}
	}
}

// Any text survives the way into the script and back.
func FuzzText(f *testing.F) {
	p := build(f, each("e.after.name = e.after.name + ''; e.after.doc = { s: e.after.name }"), "timeout: 60s")
	for _, s := range []string{"", "é\"\\", "\x00\u2028", "😀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		valid, err := json.Marshal(s)
		if err != nil {
			t.Skip()
		}
		_ = json.Unmarshal(valid, &s) // UTF-8 only, as the inputs deliver
		r := row(1)
		r[1] = text(s)
		out := p.Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, r)))
		ev, _ := change.FromMessage(out[0])
		var doc struct{ S string }
		if err := json.Unmarshal(ev.After()[5].Bytes(), &doc); err != nil || out[0].GetError() != nil || string(ev.After()[1].Bytes()) != s || doc.S != s {
			t.Fatalf("%q became %q and %q, %v", s, ev.After()[1].Bytes(), doc.S, out[0].GetError())
		}
	})
}

func benchBatch(n int) service.MessageBatch {
	table, origin := orders(), steptest.Origin()
	var events []*change.Event
	for i := range n {
		events = append(events, steptest.Event(origin, i, change.Create, table, nil, row(uint64(i))))
	}
	return steptest.Batch(events...)
}

func TestAllocations(t *testing.T) {
	p, batch := build(t, each("e.after.n = 1"), "timeout: 60s"), benchBatch(100)
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() { _ = p.Process(t.Context(), batch) }), 16000.0)
}

func BenchmarkJavascript(b *testing.B) {
	p, batch := build(b, each("e.after.n = 1"), "timeout: 60s"), benchBatch(1000)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Process(b.Context(), batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/row")
}
