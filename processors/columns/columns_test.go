package columns

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func customers() *change.Table {
	return steptest.Table("shop", "customers",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64},
		change.Column{Name: "email", Type: "varchar(99)", Nullable: true},
		change.Column{Name: "card", Type: "varchar(20)"},
		change.Column{Name: "pin", Type: "int", Logical: change.LogicalInt32},
		change.Column{Name: "photo", Type: "blob", Logical: change.LogicalBytes},
	)
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func row(id int64) []change.Value {
	return []change.Value{change.IntValue(id), text("ann@example.com"), text("4111111111111234"), change.IntValue(7391), change.BytesValue([]byte("binary"))}
}

func build(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	rules, err := parse(conf)
	require.NoError(t, err)
	return &processor{rules: rules}
}

func hash(salt, s string) string {
	h := hmac.New(sha256.New, []byte(salt))
	h.Write([]byte(s))
	return hex.EncodeToString(h.Sum(nil))
}

// images returns before, after and the key of a message, as JSON.
func images(t *testing.T, m *service.Message) string {
	t.Helper()
	require.NoError(t, m.GetError())
	var e struct{ Before, After json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(steptest.Payload(t, m)), &e))
	key, _, _ := change.Meta(m, change.MetaKey, nil)
	return fmt.Sprintf("%s %s %s", e.Before, e.After, key)
}

func TestCases(t *testing.T) {
	id1 := hash("s", "1")
	for _, c := range []struct {
		name, yaml    string
		op            change.Op
		before, after []change.Value
		want          string
	}{
		{"no rule for the table", `rules: [ { tables: [ "shop.others" ], exclude: [ email ] } ]`, change.Create, nil, row(1)[:4], `null {"id":1,"email":"ann@example.com","card":"4111111111111234","pin":7391} {"id":1}`},
		{"exclude", `rules: [ { exclude: [ "p%", card ] } ]`, change.Create, nil, row(1), `null {"id":1,"email":"ann@example.com"} {"id":1}`},
		{"include keeps the key", `rules: [ { include: [ email ] } ]`, change.Delete, row(1), nil, `{"id":1,"email":"ann@example.com"} null {"id":1}`},
		{"rename, the key too", `rules: [ { include: [ email ], rename: { id: ID, email: mail } } ]`, change.Update, row(1), row(2), `{"ID":1,"mail":"ann@example.com"} {"ID":2,"mail":"ann@example.com"} {"ID":2}`},
		{"swapped names", `rules: [ { include: [ email, card ], rename: { email: card, card: email } } ]`, change.Create, nil, row(1), `null {"id":1,"card":"ann@example.com","email":"4111111111111234"} {"id":1}`},
		{"fixed", `rules: [ { include: [ pin ], mask: [ { columns: [ pin ], with: fixed } ] } ]`, change.Create, nil, row(1), `null {"id":1,"pin":"***"} {"id":1}`},
		{"hash, the key too", `rules: [ { include: [ pin ], mask: [ { columns: [ id, pin ], with: hash, salt: s } ] } ]`, change.Create, nil, row(1), `null {"id":"` + id1 + `","pin":"` + hash("s", "7391") + `"} {"id":"` + id1 + `"}`},
		{"keep last", `rules: [ { include: [ card ], mask: [ { columns: [ card ], with: keep_last } ] } ]`, change.Update, row(1), row(1), `{"id":1,"card":"************1234"} {"id":1,"card":"************1234"} {"id":1}`},
		{"keep last of what is short", `rules: [ { include: [ pin ], mask: [ { columns: [ pin ], with: keep_last } ] } ]`, change.Create, nil, row(1), `null {"id":1,"pin":"****"} {"id":1}`},
		{"truncate", `rules: [ { include: [ email, photo ], truncate: [ { columns: [ email ], length: 3 }, { columns: [ photo ], length: 1 } ] } ]`, change.Create, nil, row(1), `null {"id":1,"email":"ann","photo":{"_base64":"Yg=="}} {"id":1}`},
		{
			"NULL and unavailable stay", `rules: [ { include: [ email, card ], mask: [ { columns: [ email, card ], with: fixed } ] } ]`, change.Update, nil,
			[]change.Value{change.IntValue(1), change.NullValue(), change.UnavailableValue()},
			`null {"id":1,"email":null,"card":{"_unchanged":true}} {"id":1}`,
		},
		{"rules one after the other", `rules: [ { include: [ email ], rename: { email: a } }, { mask: [ { columns: [ a ], with: fixed, text: x } ] } ]`, change.Create, nil, row(1), `null {"id":1,"a":"x"} {"id":1}`},
		{"a truncate", `rules: [ { exclude: [ email ] } ]`, change.Truncate, nil, nil, `null null `},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := build(t, c.yaml).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, c.op, customers(), c.before, c.after)))
			require.Len(t, out, 1)
			assert.Equal(t, c.want, images(t, out[0]))
		})
	}
}

// The shape of the table follows: in the metadata schema, in its fingerprint, and in events about it.
func TestShape(t *testing.T) {
	table := steptest.With(customers(), nil, change.MetadataKeys()...)
	ev := steptest.Event(steptest.Origin(), 1, change.Schema, table, nil, nil)
	ev.Change = &change.SchemaChange{DDL: "ALTER TABLE customers ADD x int", Old: table, New: table}
	batch := steptest.Batch(ev, steptest.Event(ev.Origin, 2, change.Create, table, nil, row(1)))
	out := build(t, `rules: [ { include: [ pin ], mask: [ { columns: [ pin ], with: hash, salt: s } ] } ]`).Process(t.Context(), batch)
	require.Len(t, out, 2)
	shape := `{"db":"shop","table":"customers","columns":[{"name":"id","type":"bigint","nullable":false},{"name":"pin","type":"char(64)","nullable":false}],"key":["id"],"schema_version":"%s"}`
	version := table.With([]change.Column{table.Columns[0], {Name: "pin", Type: "char(64)"}}, []int{0}).Fingerprint()
	shape = fmt.Sprintf(shape, version)
	assert.Contains(t, steptest.Payload(t, out[0]), `{"ddl":"ALTER TABLE customers ADD x int","old":`+shape+`,"new":`+shape+`}`)
	assert.Contains(t, steptest.Payload(t, out[1]), `"schema_version":"`+version+`"`)
	s, ok := out[1].MetaGetMut(change.MetaSchema)
	require.True(t, ok)
	assert.Len(t, s.(map[string]any)["children"], 2)
	assert.NotContains(t, fmt.Sprint(s), "email")
}

func TestErrors(t *testing.T) {
	for yaml, want := range map[string]string{
		`rules: [ { exclude: [ nowhere ] } ]`:                                                 "deltaforge_columns: table shop.customers: there is no column nowhere; mend the rule, limit it to other `tables`, or write a pattern such as nowhere%",
		`rules: [ { exclude: [ id ] } ]`:                                                      "deltaforge_columns: table shop.customers: column id: it is part of the key, and without it rows cannot be told apart; mask it with hash in place of taking it out",
		`rules: [ { mask: [ { columns: [ id ], with: fixed } ] } ]`:                           "deltaforge_columns: table shop.customers: column id: it is part of the key, and masked with fixed rows cannot be told apart; mask it with hash",
		`rules: [ { mask: [ { columns: [ photo ], with: keep_last } ] } ]`:                    "deltaforge_columns: table shop.customers: column photo: its type is blob, which has no characters; mask it with hash or fixed",
		`rules: [ { truncate: [ { columns: [ pin ], length: 1 } ] } ]`:                        "deltaforge_columns: table shop.customers: column pin: its type is int, and only text and binary data can be shortened",
		`rules: [ { rename: { email: card } } ]`:                                              "deltaforge_columns: table shop.customers: column card: another column has the name \"card\" already; mend rename",
		`rules: [ { include: [ email ] }, { mask: [ { columns: [ card ], with: fixed } ] } ]`: "deltaforge_columns: table shop.customers: there is no column card; mend the rule, limit it to other `tables`, or write a pattern such as card%",
	} {
		out := build(t, yaml).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, customers(), nil, row(1))))
		require.Len(t, out, 1)
		assert.EqualError(t, out[0].GetError(), want)
		assert.True(t, strings.HasPrefix(steptest.Payload(t, out[0]), `{"before":null,"after":null,`), steptest.Payload(t, out[0]))
	}
	for yaml, want := range map[string]string{
		`rules: []`: "want at least one",
		`rules: [ { mask: [ { columns: [ a ], with: hash } ] } ]`:             "hash wants one",
		`rules: [ { mask: [ { columns: [ a ], with: rot13 } ] } ]`:            `got "rot13"`,
		`rules: [ { mask: [ { columns: [], with: fixed } ] } ]`:               "want at least one",
		`rules: [ { tables: [ x ], exclude: [ a ] } ]`:                        "want a table pattern",
		`rules: [ { truncate: [ { columns: [ a ], length: -1 } ] } ]`:         "want at least 0",
		`rules: [ { mask: [ { columns: [ a ], with: keep_last, keep: -1 }]}]`: "want at least 0",
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err, yaml)
		_, err = parse(conf)
		assert.ErrorContains(t, err, want, yaml)
	}
}

// written is what a process writes, as far as it can be seen from inside: the log and everything that an output gets.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// message writes all that an output can see of a message.
func (w *written) message(m *service.Message) {
	payload, _ := m.AsBytes()
	fmt.Fprintf(w, "%s\n%v\n", payload, m.GetError())
	_ = m.MetaWalkMut(func(k string, v any) error {
		fmt.Fprintf(w, "%s=%v\n", k, v)
		return nil
	})
	for _, k := range change.MetadataKeys() {
		v, _, _ := change.Meta(m, k, nil)
		fmt.Fprintf(w, "%s=%s\n", k, v)
	}
	if ev, ok := change.FromMessage(m); ok {
		fmt.Fprintf(w, "%s\n", ev.AppendID(nil))
		for _, row := range [][]change.Value{ev.Before(), ev.After()} {
			for _, v := range row {
				fmt.Fprintf(w, "%s %d\n", v.Bytes(), v.Int())
			}
		}
	}
}

// Nothing that comes out, and nothing in the log at its finest, has a masked value, whatever goes wrong on the way.
func TestMaskedStaysMasked(t *testing.T) {
	secrets := []string{"ann@example.com", "4111111111111234", "7391", "900719", "YmluYXJ5"}
	const all = `{ columns: [ id, email, pin, photo ], with: hash, salt: pepper }, { columns: [ card ], with: keep_last }`
	good := `deltaforge_columns: { rules: [ { mask: [ ` + all + ` ] } ] }`
	bad := `deltaforge_columns: { rules: [ { mask: [ ` + all + `, { columns: [ nowhere ], with: fixed } ] } ] }`
	for name, c := range map[string]struct {
		steps  []string
		failed bool
	}{
		"as it should be":               {[]string{good}, false},
		"after a drop":                  {[]string{`mapping: 'root = if this.op == "d" { deleted() }'`, good}, false},
		"before a mapping":              {[]string{good, `mapping: 'root = this.without("source")'`}, false},
		"before a lost id":              {[]string{good, "mapping: |\n  root = this.without(\"source\")\n  meta = {}"}, false},
		"a column is missing":           {[]string{bad}, true},
		"the payload was changed":       {[]string{`mapping: 'root = this.without("source")'`, good}, true},
		"the metadata is gone":          {[]string{"mapping: |\n  root = this.without(\"source\")\n  meta = {}", good}, true},
		"twice":                         {[]string{good, `deltaforge_columns: { rules: [ { rename: { pin: number } } ] }`}, false},
		"a processor after it has none": {[]string{good, `deltaforge_columns: { rules: [ { exclude: [ nowhere ] } ] }`}, true},
	} {
		for _, keys := range [][]string{nil, {}, change.MetadataKeys()} {
			t.Run(fmt.Sprint(name, len(keys)), func(t *testing.T) {
				table := steptest.With(customers(), nil, keys...)
				origin := steptest.Origin()
				snap := steptest.Event(&change.Origin{Tx: &change.Tx{Position: "snapshot-1:shop.customers:0"}, Snapshot: change.SnapshotTrue}, 0, change.Read, table, nil, row(900719))
				snap.Ident = []byte("900719")
				batch := steptest.Batch(
					steptest.Event(origin, 1, change.Delete, table, row(900719), nil),
					steptest.Event(origin, 2, change.Create, table, nil, row(900719)),
					steptest.Event(origin, 3, change.Update, table, row(900719), row(900719)),
					snap,
				)
				w := &written{}
				log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
				out := steptest.ThroughLogged(t, log, []service.MessageBatch{batch}, c.steps...)
				require.NotEmpty(t, out)
				for _, m := range out {
					w.message(m)
					assert.Equal(t, c.failed, m.GetError() != nil, "%v", m.GetError())
				}
				for _, s := range secrets {
					assert.NotContains(t, w.b.String(), s)
				}
				for _, m := range batch { // they are there to be found
					w.message(m)
				}
				for _, s := range secrets {
					assert.Contains(t, w.b.String(), s)
				}
			})
		}
	}
}

// A panic lets nothing through either.
func TestFailed(t *testing.T) {
	w := &written{}
	batch := steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, customers(), nil, row(1)))
	for _, m := range build(t, `rules: [ { exclude: [ email ] } ]`).Failed(batch, assert.AnError) {
		assert.ErrorIs(t, m.GetError(), assert.AnError)
		w.message(m)
	}
	assert.NotContains(t, w.b.String(), "ann@example.com")
}

// The masks agree with ones that are written for reading.
func FuzzMasks(f *testing.F) {
	f.Add("4111111111111234", 4)
	f.Add("é\xff日本", 2)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > 1000 {
			return
		}
		runes := []rune(s)
		want := strings.Repeat("*", len(runes))
		if len(runes) > n {
			want = strings.Repeat("*", len(runes)-n) + string(runes[len(runes)-n:])
		}
		if got := string(keepLast([]byte(s), n)); utf8.ValidString(s) && got != want {
			t.Fatalf("%q: got %q, want %q", s, got, want)
		}
		if got := string(shorten(n)(text(s)).Bytes()); utf8.ValidString(s) && got != string(runes[:min(n, len(runes))]) {
			t.Fatalf("%q: %q", s, got)
		}
	})
}

const benchYAML = `rules: [ { exclude: [ photo ], rename: { pin: number }, mask: [ { columns: [ email ], with: fixed }, { columns: [ card ], with: keep_last } ] } ]`

func benchBatch(n int) service.MessageBatch {
	table, origin := customers(), steptest.Origin()
	var events []*change.Event
	for i := range n {
		events = append(events, steptest.Event(origin, i, change.Create, table, nil, row(int64(i))))
	}
	return steptest.Batch(events...)
}

func TestAllocations(t *testing.T) {
	p, batch := build(t, benchYAML), benchBatch(100)
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() { _ = p.Process(t.Context(), batch) }), 1600.0)
}

func BenchmarkColumns(b *testing.B) {
	p, batch := build(b, benchYAML), benchBatch(1000)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Process(b.Context(), batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/row")
}

// Random rules agree with a row as a list of names and values, of which one after the other is taken out.
func TestAgainstNaiveRows(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	names := []string{"id", "a", "b", "c", "d", "e"}
	for range 150 {
		var columns []change.Column
		var values []change.Value
		type cell struct{ name, value string }
		var want []cell
		pick := func() (out []string) {
			for _, n := range names[1:] {
				if r.IntN(3) == 0 {
					out = append(out, n)
				}
			}
			return out
		}
		include, exclude, masked, renamed := pick(), pick(), pick(), pick()
		for i, n := range names {
			columns = append(columns, change.Column{Name: n, Type: "text"})
			values = append(values, text(fmt.Sprint("v", i)))
			c := cell{n, fmt.Sprint("v", i)}
			if slices.Contains(masked, n) {
				c.value = "***"
			}
			if slices.Contains(exclude, n) || len(include) > 0 && !slices.Contains(include, n) && n != "id" {
				continue
			}
			if slices.Contains(renamed, n) {
				c.name = "new_" + n
			}
			want = append(want, c)
		}
		rename := map[string]string{}
		for _, n := range renamed {
			rename[n] = "new_" + n
		}
		list := func(s []string) string { b, _ := json.Marshal(append([]string{}, s...)); return string(b) }
		names, _ := json.Marshal(rename)
		mask := "[]"
		if len(masked) > 0 {
			mask = "[ { columns: " + list(masked) + ", with: fixed } ]"
		}
		yaml := fmt.Sprintf("rules: [ { include: %s, exclude: %s, rename: %s, mask: %s } ]", list(include), list(exclude), names, mask)
		var row strings.Builder
		for i, c := range want {
			fmt.Fprintf(&row, `%s"%s":"%s"`, map[bool]string{true: "{", false: ","}[i == 0], c.name, c.value)
		}
		out := build(t, yaml).Process(t.Context(), steptest.Batch(steptest.Event(steptest.Origin(), 1, change.Create, steptest.Table("shop", "t", columns...), nil, values)))
		require.Equal(t, "null "+row.String()+`} {"id":"v0"}`, images(t, out[0]), yaml)
	}
}
