package filter

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func orders() *change.Table {
	return steptest.Table("shop", "orders",
		change.Column{Name: "id", Type: "bigint unsigned", Logical: change.LogicalUint64},
		change.Column{Name: "status", Type: "varchar(9)", Nullable: true},
		change.Column{Name: "total", Type: "decimal(38,10)", Logical: change.LogicalDecimal, Precision: 38, Scale: 10},
		change.Column{Name: "at", Type: "timestamp(6)", Logical: change.LogicalTimestamp, Scale: 6},
		change.Column{Name: "f", Type: "float", Logical: change.LogicalFloat32},
		change.Column{Name: "n", Type: "int", Logical: change.LogicalInt32, Nullable: true},
		change.Column{Name: "on", Type: "tinyint(1)", Logical: change.LogicalBool},
		change.Column{Name: "doc", Type: "json", Logical: change.LogicalJSON},
		change.Column{Name: "bin", Type: "blob", Logical: change.LogicalBytes},
		change.Column{Name: "day", Type: "date", Logical: change.LogicalDate},
		change.Column{Name: "dur", Type: "time", Logical: change.LogicalTime},
	)
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

func row() []change.Value {
	return []change.Value{
		change.UintValue(math.MaxUint64), text("paid"), change.DecimalValue([]byte("12345678901234567890.1000000000")), text("2024-02-29T11:51:30.123456Z"), change.Float32Value(3.3),
		change.IntValue(-5), change.BoolValue(true), change.JSONValue([]byte(`{"a": 1}`)), change.BytesValue([]byte("ab")), text("2024-02-29"), text("-838:59:59.000000"),
	}
}

func set(r []change.Value, column int, v change.Value) []change.Value {
	r[column] = v
	return r
}

func build(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	c, err := parse(conf)
	require.NoError(t, err)
	return &processor{c: c, dropped: service.MockResources().Metrics().NewCounter("processor_dropped_total", "reason")}
}

// Each test of a predicate, on a row as above.
func TestPredicates(t *testing.T) {
	for _, c := range []struct {
		predicate string
		want      bool
	}{
		{`column: status, test: eq, value: paid`, true},
		{`column: status, test: eq, value: Paid`, false},
		{`column: status, test: ne, value: paid`, false},
		{`column: status, test: in, values: [ void, paid ]`, true},
		{`column: status, test: not_in, values: [ void, paid ]`, false},
		{`column: status, test: eq, value: null`, false},
		{`column: status, test: ne, value: null`, true},
		{`column: status, test: exists`, true},
		{`column: nowhere, test: exists`, false},
		{`column: status, test: like, value: "p%d"`, true},
		{`column: status, test: like, value: "p_d"`, false},
		{`column: status, test: like, value: "pai\\d"`, true},
		{`column: status, test: regex, value: "^p.+d$"`, true},
		{`column: status, test: regex, value: "x"`, false},
		{`column: n, test: like, value: "-%"`, true},
		{`column: doc, test: regex, value: '"a": *1'`, true},
		{`column: status, test: gt, value: paic`, true},
		{`column: id, test: eq, value: 18446744073709551615`, true},
		{`column: id, test: eq, value: "18446744073709551615"`, true},
		{`column: id, test: eq, value: 18446744073709551614`, false},
		{`column: id, test: gt, value: 9223372036854775807`, true},
		{`column: id, test: gt, value: -1`, true},
		{`column: total, test: eq, value: "12345678901234567890.1"`, true},
		{`column: total, test: lt, value: "12345678901234567890.10000000001"`, true},
		{`column: total, test: gt, value: "12345678901234567890.0999999999"`, true},
		{`column: total, test: gt, value: "1e19"`, true},
		{`column: total, test: ge, value: 10`, true},
		{`column: at, test: eq, value: "2024-02-29T11:51:30.123456Z"`, true},
		{`column: at, test: eq, value: "2024-02-29 12:51:30.123456000+01:00"`, true},
		{`column: at, test: lt, value: "2024-02-29T11:51:30.2Z"`, true},
		{`column: at, test: gt, value: 2024-02-29`, true},
		{`column: at, test: lt, value: infinity`, true},
		{`column: day, test: eq, value: 2024-02-29`, true},
		{`column: day, test: lt, value: "10000-01-01"`, true},
		{`column: dur, test: lt, value: "-100:00:00"`, true},
		{`column: dur, test: eq, value: "-838:59:59"`, true},
		{`column: f, test: eq, value: 3.3`, true},
		{`column: f, test: lt, value: NaN`, true},
		{`column: n, test: lt, value: -4.5`, true},
		{`column: n, test: le, value: -5`, true},
		{`column: n, test: ge, value: -4`, false},
		{`column: on, test: eq, value: true`, true},
		{`column: on, test: eq, value: "false"`, false},
		{`column: bin, test: eq, value: ab`, true},
		{`column: doc, test: exists`, true},
		{`column: status, test: changed`, true}, // an insert
	} {
		p := build(t, "predicates: [ {"+c.predicate+"} ]")
		keep, _, err := p.keeps(steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, row()))
		require.NoError(t, err, c.predicate)
		assert.Equal(t, c.want, keep, c.predicate)
	}
}

// NULL, what the log does not have, and which image counts.
func TestImages(t *testing.T) {
	null := set(row(), 5, change.NullValue())
	gone := set(row(), 5, change.UnavailableValue())
	other := set(row(), 5, change.IntValue(7))
	for _, c := range []struct {
		name, yaml    string
		op            change.Op
		before, after []change.Value
		want          bool
	}{
		{"NULL is not less", "predicates: [ { column: n, test: lt, value: 9 } ]", change.Create, nil, null, false},
		{"NULL is not equal", "predicates: [ { column: n, test: ne, value: 9 } ]", change.Create, nil, null, true},
		{"NULL does not exist", "predicates: [ { column: n, test: exists } ]", change.Create, nil, null, false},
		{"NULL is null", "predicates: [ { column: n, test: in, values: [ 3, null ] } ]", change.Create, nil, null, true},
		{"not in the log", "predicates: [ { column: n, test: eq, value: 1 } ]", change.Update, nil, gone, true},
		{"not in the log, dropped", "unknown: drop\npredicates: [ { column: n, test: eq, value: 1 } ]", change.Update, nil, gone, false},
		{"unknown, and another decides", "predicates: [ { column: n, test: eq, value: 1 }, { column: status, test: eq, value: void } ]", change.Update, nil, gone, false},
		{"unknown, and another decides, any", "unknown: drop\nmatch: any\npredicates: [ { column: n, test: eq, value: 1 }, { column: status, test: eq, value: paid } ]", change.Update, nil, gone, true},
		{"filled from before", "predicates: [ { column: n, test: eq, value: 7 } ]", change.Update, other, gone, true},
		{"a delete", "predicates: [ { column: n, test: eq, value: 7 } ]", change.Delete, other, nil, true},
		{"after", "predicates: [ { column: n, test: eq, value: 7 } ]", change.Update, other, row(), false},
		{"before", "image: before\npredicates: [ { column: n, test: eq, value: 7 } ]", change.Update, other, row(), true},
		{"before, not in the log", "image: before\nunknown: drop\npredicates: [ { column: n, test: eq, value: -5 } ]", change.Update, nil, row(), false},
		{"either, before", "image: either\npredicates: [ { column: n, test: eq, value: 7 } ]", change.Update, other, row(), true},
		{"either, after", "image: either\npredicates: [ { column: n, test: eq, value: -5 } ]", change.Update, other, row(), true},
		{"either, none", "image: either\npredicates: [ { column: n, test: eq, value: 1 } ]", change.Update, other, row(), false},
		{"changed", "predicates: [ { column: n, test: changed } ]", change.Update, other, row(), true},
		{"not changed", "predicates: [ { column: id, test: changed } ]", change.Update, other, row(), false},
		{"changed, unavailable", "predicates: [ { column: n, test: changed } ]", change.Update, other, gone, false},
		{"changed, before not in the log", "unknown: drop\npredicates: [ { column: n, test: changed } ]", change.Update, nil, row(), false},
		{"a truncate has no row", "predicates: [ { column: n, test: eq, value: 1 } ]", change.Truncate, nil, nil, true},
		{"an op", "ops: [ c ]", change.Update, nil, row(), false},
		{"a table", "tables: { include: [ 'shop.ord%' ], exclude: [ '*.orders' ] }", change.Create, nil, row(), false},
		{"another table's predicate", "predicates: [ { column: nowhere, test: eq, value: 1, tables: [ 'shop.customers' ] } ]", change.Create, nil, row(), true},
		{"any of none", "match: any\npredicates: [ { column: nowhere, test: eq, value: 1, tables: [ 'shop.customers' ] } ]", change.Create, nil, row(), true},
	} {
		keep, _, err := build(t, c.yaml).keeps(steptest.Event(steptest.Origin(), 1, c.op, orders(), c.before, c.after))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, keep, c.name)
	}
}

// What does not fit is said at the first row of the table, with table, column and the way out, and never with a value of the row.
func TestErrors(t *testing.T) {
	for predicate, want := range map[string]string{
		`column: nowhere, test: eq, value: 1`: "deltaforge_filter: table shop.orders: column nowhere: there is no such column; mend the predicate, or limit it to other tables with `tables`",
		`column: n, test: eq, value: some`:    `deltaforge_filter: table shop.orders: column n: its type is int, and the value "some" of the predicate is not a number`,
		`column: on, test: eq, value: maybe`:  `deltaforge_filter: table shop.orders: column on: its type is tinyint(1), and the value "maybe" of the predicate is neither true nor false`,
		`column: at, test: eq, value: soon`:   `deltaforge_filter: table shop.orders: column at: its type is timestamp(6), and the value "soon" of the predicate is not a date or time such as 2024-02-29T13:51:30Z or 13:51:30`,
		`column: doc, test: eq, value: 1`:     `deltaforge_filter: table shop.orders: column doc: its type is json, which can be tested with exists, changed, like and regex only`,
	} {
		keep, _, err := build(t, "predicates: [ {"+predicate+"} ]").keeps(steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, row()))
		assert.True(t, keep)
		assert.EqualError(t, err, want)
	}
	_, _, err := build(t, "predicates: [ { column: total, test: eq, value: 1 } ]").keeps(
		steptest.Event(steptest.Origin(), 1, change.Create, orders(), nil, set(row(), 2, change.DecimalValue([]byte("secret")))))
	assert.EqualError(t, err, "deltaforge_filter: table shop.orders: column total: the row has a value that cannot be compared as what its type is")
	for yaml, want := range map[string]string{
		"predicates: [ { column: a, test: eq } ]":                                "the test eq of a wants one value",
		"predicates: [ { column: a, test: in, value: 1 } ]":                      "the test in of a wants values",
		"predicates: [ { column: a, test: changed, value: 1 } ]":                 "the test changed of a takes no value",
		"predicates: [ { column: a, test: regex, value: '(' } ]":                 "missing closing )",
		"predicates: [ { column: a, test: eq, value: 12345678901234567.5 } ]":    "must be in quotes",
		"predicates: [ { column: a, test: eq, value: { b: 1 } } ]":               "want a text, a number, a truth value or null",
		"predicates: [ { column: a, test: eq, value: 1, tables: [ nowhere ] } ]": "want a table pattern",
		"ops: [ x ]": `got "x"`,
	} {
		conf, err := spec().ParseYAML(yaml, nil)
		require.NoError(t, err, yaml)
		_, err = parse(conf)
		assert.ErrorContains(t, err, want, yaml)
	}
}

// Through the engine: order, events and messages stay together, what is kept is not touched, and errors go on with their messages.
func TestThroughTheEngine(t *testing.T) {
	for name, keys := range map[string][]string{"default metadata": nil, "none": {}} {
		t.Run(name, func(t *testing.T) {
			table, other := steptest.With(orders(), nil, keys...), steptest.With(steptest.Table("shop", "others", change.Column{Name: "id", Logical: change.LogicalInt64}), nil, keys...)
			origin := steptest.Origin()
			var events []*change.Event
			for i := range 200 {
				r := set(row(), 5, change.IntValue(int64(i)))
				if i%10 == 9 {
					events = append(events, steptest.Event(origin, i, change.Create, other, nil, []change.Value{change.IntValue(int64(i))}))
					continue
				}
				events = append(events, steptest.Event(origin, i, change.Create, table, nil, r))
			}
			batch := steptest.Batch(events...)
			var want []string
			for i, m := range batch {
				if i%10 == 9 || i >= 100 {
					want = append(want, steptest.Payload(t, m))
				}
			}
			out := steptest.Through(t, []service.MessageBatch{batch}, `deltaforge_filter: { predicates: [ { column: n, test: ge, value: 100 } ] }`)
			require.Len(t, out, len(want))
			for i, m := range out {
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				assert.Equal(t, want[i], steptest.Payload(t, m))
				assert.Contains(t, want[i], `"total_order":`+strconv.FormatUint(ev.Index, 10)+"}")
				if ev.Table == other {
					assert.ErrorContains(t, m.GetError(), "table shop.others: column n: there is no such column")
				} else {
					assert.NoError(t, m.GetError())
				}
			}
		})
	}
}

// All messages of a change stay together, also through the engine, which loses track of contexts.
func TestEveryFormat(t *testing.T) {
	for name, format := range map[string]change.Format{"native": envelope.Native{}, "row": envelope.Row{Deletes: envelope.DeleteNull}, "debezium": debezium.Default()} {
		t.Run(name, func(t *testing.T) {
			table, o := steptest.With(orders(), format), steptest.Origin()
			moved := set(row(), 0, change.UintValue(7))
			batch := steptest.Batch(
				steptest.Event(o, 1, change.Create, table, nil, row()), steptest.Event(o, 2, change.Update, table, row(), moved),
				steptest.Event(o, 3, change.Create, table, nil, row()), steptest.Event(o, 4, change.Delete, table, moved, nil))
			var want, got []string
			for _, m := range batch {
				if ev, _ := change.FromMessage(m); !ev.Silent && ev.Whole().Op != change.Create {
					want = append(want, fmt.Sprint(ev.Index, ev.Part, ev.Tombstone, steptest.Payload(t, m)))
				}
			}
			for _, m := range steptest.Through(t, []service.MessageBatch{batch}, "deltaforge_filter: { ops: [ u, d ] }") {
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				got = append(got, fmt.Sprint(ev.Index, ev.Part, ev.Tombstone, steptest.Payload(t, m)))
			}
			assert.Equal(t, want, got)
			assert.GreaterOrEqual(t, len(got), 2)
		})
	}
}

// The comparison of numbers agrees with big.Rat.
func TestNumbersAgainstRationals(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	spell := func() string {
		s := ""
		for range r.IntN(24) {
			s += strconv.Itoa(r.IntN(3) * r.IntN(10) / 2)
		}
		if r.IntN(2) == 0 || s == "" {
			s += "." + strconv.Itoa(r.IntN(1000))
		}
		if r.IntN(3) == 0 {
			s += "e" + strconv.Itoa(r.IntN(40)-20)
		}
		return []string{"", "-", "+"}[r.IntN(3)] + s
	}
	for range 5_000 {
		a, b := spell(), spell()
		if r.IntN(4) == 0 {
			b = "0" + a
			if a[0] == '-' || a[0] == '+' {
				b = a[:1] + "00" + a[1:]
			}
		}
		na, ok := parseNumber([]byte(a))
		require.True(t, ok, a)
		nb, ok := parseNumber([]byte(b))
		require.True(t, ok, b)
		ra, _ := new(big.Rat).SetString(a)
		rb, _ := new(big.Rat).SetString(b)
		require.Equal(t, ra.Cmp(rb), na.compare(&nb), "%s and %s", a, b)
		require.Equal(t, -ra.Cmp(rb), nb.compare(&na), "%s and %s", b, a)
	}
}

// Batches agree with a filter that says, for each row, what the predicates say in Go.
func TestAgainstNaiveFilter(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	tests := map[string]func(a, b int) bool{
		"eq": func(a, b int) bool { return a == b }, "ne": func(a, b int) bool { return a != b }, "gt": func(a, b int) bool { return a > b },
		"ge": func(a, b int) bool { return a >= b }, "lt": func(a, b int) bool { return a < b }, "le": func(a, b int) bool { return a <= b },
	}
	names := []string{"eq", "ne", "gt", "ge", "lt", "le"}
	for range 100 {
		yaml, anyOf := "predicates:\n", r.IntN(2) == 0
		var holds []func(n int) bool
		for range 1 + r.IntN(3) {
			name, v := names[r.IntN(len(names))], r.IntN(7)
			yaml += fmt.Sprintf(" - { column: n, test: %s, value: %d }\n", name, v)
			holds = append(holds, func(n int) bool { return tests[name](n, v) })
		}
		if anyOf {
			yaml += "match: any\n"
		}
		p := build(t, yaml)
		var events []*change.Event
		var want []uint64
		table, origin := orders(), steptest.Origin()
		for i := range 40 {
			n := r.IntN(7)
			events = append(events, steptest.Event(origin, i, change.Create, table, nil, set(row(), 5, change.IntValue(int64(n)))))
			yes := 0
			for _, h := range holds {
				if h(n) {
					yes++
				}
			}
			if anyOf && yes > 0 || yes == len(holds) {
				want = append(want, uint64(i))
			}
		}
		var got []uint64
		for _, m := range p.Process(t.Context(), steptest.Batch(events...)) {
			ev, _ := change.FromMessage(m)
			got = append(got, ev.Index)
		}
		require.Equal(t, want, got, yaml)
	}
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0.00", "1e3", "-1.5E-2", "NaN", "Infinity", "+7", "1e999999999", ".", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parseNumber([]byte(s))
		if !ok || n.special != 0 {
			return
		}
		if n.compare(&n) != 0 {
			t.Fatalf("%q is not itself", s)
		}
		if rat, ok := new(big.Rat).SetString(s); len(s) > 40 || !ok {
			return
		} else if zero, _ := parseNumber([]byte("0")); rat.Sign() != n.compare(&zero) {
			t.Fatalf("%q has another sign", s)
		}
	})
}

func FuzzMoment(f *testing.F) {
	for _, s := range []string{"2024-02-29T13:51:30.1Z", "0044-03-15 BC", "-838:59:59", "infinity", "0000-00-00", "2024-02-29 1:2+02", "T:", "2024-02-29 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, ok := parseMoment([]byte(s)); ok && m.compare(&m) != 0 {
			t.Fatalf("%q is not itself", s)
		}
	})
}

func benchBatch(n int) service.MessageBatch {
	table, origin := orders(), steptest.Origin()
	var events []*change.Event
	for i := range n {
		events = append(events, steptest.Event(origin, i, change.Create, table, nil, set(row(), 5, change.IntValue(int64(i)))))
	}
	return steptest.Batch(events...)
}

const benchYAML = "ops: [ c, u, d, r ]\ntables: { include: [ 'shop.%' ] }\npredicates: [ { column: n, test: ge, value: 0 }, { column: total, test: gt, value: '1.5' }, { column: status, test: in, values: [ void, paid ] } ]"

// A batch costs what it is returned in, and nothing for a row.
func TestAllocations(t *testing.T) {
	p, batch := build(t, benchYAML), benchBatch(100)
	assert.LessOrEqual(t, testing.AllocsPerRun(20, func() { _ = p.Process(t.Context(), batch) }), 8.0)
}

func BenchmarkFilter(b *testing.B) {
	p, batch := build(b, benchYAML), benchBatch(1000)
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Process(b.Context(), batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/row")
}
