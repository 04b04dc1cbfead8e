package postgrescdc

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// randomType is a type whose values at random are compared with what the server itself makes of them.
type randomType struct {
	typ   string
	value func(r *rand.Rand) string // SQL
	// json is SQL for the JSON that an expression, which is not NULL, has to become. It uses the server's output and its own JSON
	// functions only.
	json func(c string) string
}

// orNull is t.json also for NULL. A composite of NULLs is not NULL.
func (t randomType) orNull(c string) string {
	return "CASE WHEN " + c + " IS NOT DISTINCT FROM NULL THEN 'null'::json ELSE (" + t.json(c) + ")::json END"
}

func (t randomType) valueOrNull(r *rand.Rand) string {
	if r.IntN(6) == 0 {
		return "NULL::" + t.typ
	}
	return t.value(r)
}

// randomText has what text, array, composite and JSON syntax care about.
func randomText(r *rand.Rand) string {
	letters := []rune("ab \"\"\\\\'',,(){}[]=>:\n\t\x01\x7f€😀日NULL")
	var s strings.Builder
	for range r.IntN(10) {
		s.WriteRune(letters[r.IntN(len(letters))])
	}
	if r.IntN(20) == 0 {
		return "NULL"
	}
	return s.String()
}

func randomTypes() []randomType {
	itself := func(c string) string { return "to_json(" + c + ")" }
	text := func(c string) string { return "to_json(" + c + "::text)" }
	literal := func(typ, format string, args ...any) string {
		return publication.Literal(fmt.Sprintf(format, args...)) + "::" + typ
	}
	of := func(typ string, list ...string) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return literal(typ, "%s", list[r.IntN(len(list))]) }
	}
	signed := func(typ string, bits int) randomType {
		return randomType{typ, func(r *rand.Rand) string {
			return literal(typ, "%d", int64(r.Uint64())>>(64-bits)>>r.IntN(bits))
		}, itself}
	}
	float := func(typ string, bits int) randomType {
		return randomType{typ, func(r *rand.Rand) string {
			f := math.Float64frombits(r.Uint64())
			if bits == 32 {
				f = float64(math.Float32frombits(r.Uint32()))
			}
			return literal(typ, "%s", strconv.FormatFloat(f, 'g', -1, bits))
		}, itself}
	}
	word := func(typ string) randomType {
		return randomType{typ, func(r *rand.Rand) string { return literal(typ, "%s", randomText(r)) }, itself}
	}
	date := func(r *rand.Rand) string {
		return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(9998), 1+r.IntN(12), 1+r.IntN(28))
	}
	clock := func(r *rand.Rand) string {
		return fmt.Sprintf("%02d:%02d:%02d.%06d", r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000000))
	}
	moment := func(typ, form string) randomType {
		return randomType{
			typ, func(r *rand.Rand) string { return literal(typ, "%s %s+%02d", date(r), clock(r), r.IntN(15)) },
			func(c string) string { return "to_json(to_char(" + c + ", '" + form + "'))" },
		}
	}
	return []randomType{
		signed("smallint", 16), signed("int", 32), signed("bigint", 64), float("real", 32), float("double precision", 64),
		word("text"), word("varchar(40)"), word("char(12)"), word("note"),
		{"boolean", of("boolean", "t", "f"), itself},
		{"numeric", func(r *rand.Rand) string {
			return literal("numeric", "%d.%020d", int64(r.Uint64()), r.Uint64()>>r.IntN(64))
		}, text},
		{"numeric(12,3)", func(r *rand.Rand) string { return literal("numeric(12,3)", "%d.%d", r.IntN(1e8), r.IntN(1e5)) }, text},
		{"numeric", of("numeric", "NaN", "Infinity", "-Infinity", "0", "-0.00", "1e-100"), text},
		{"bytea", func(r *rand.Rand) string {
			octets := make([]byte, r.IntN(80))
			for i := range octets {
				octets[i] = byte(r.Uint32())
			}
			return literal("bytea", `\x%s`, hex.EncodeToString(octets))
		}, func(c string) string {
			return "json_build_object('_base64', translate(encode(" + c + ", 'base64'), E'\\n', ''))"
		}},
		{"date", func(r *rand.Rand) string { return literal("date", "%s", date(r)) }, text},
		{"date", of("date", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"), text},
		moment("timestamp", `YYYY-MM-DD"T"HH24:MI:SS.US`), moment("timestamp(3)", `YYYY-MM-DD"T"HH24:MI:SS.MS`), moment("timestamptz", `YYYY-MM-DD"T"HH24:MI:SS.US"Z"`),
		moment("timestamptz(0)", `YYYY-MM-DD"T"HH24:MI:SS"Z"`),
		{"time", func(r *rand.Rand) string { return literal("time", "%s", clock(r)) }, func(c string) string {
			return "to_json(to_char(date '2000-01-01' + " + c + ", 'HH24:MI:SS.US'))"
		}},
		{"interval", func(r *rand.Rand) string {
			return literal("interval", "%d months %d days %d microseconds", int32(r.Uint32())/9, int32(r.Uint32()), int64(r.Uint64())>>8)
		}, text},
		{"uuid", func(r *rand.Rand) string { return literal("uuid", "%016x%016x", r.Uint64(), r.Uint64()) }, text},
		{"inet", func(r *rand.Rand) string { return literal("inet", "%d.2.3.4/%d", r.IntN(256), r.IntN(33)) }, itself}, // a cast to text writes /32
		{"macaddr8", func(r *rand.Rand) string { return literal("macaddr8", "%016x", r.Uint64()) }, text},
		{"bit(1)", of("bit(1)", "0", "1"), func(c string) string { return "to_json(" + c + " = B'1')" }},
		{"bit(64)", func(r *rand.Rand) string { return literal("bit(64)", "%064b", r.Uint64()) }, text},
		{"varbit", func(r *rand.Rand) string { return literal("varbit", "%b", r.Uint64()>>r.IntN(64)) }, text},
		{"json", func(r *rand.Rand) string {
			b, _ := json.Marshal(map[string]any{randomText(r): []any{r.Uint64(), randomText(r), nil, true}})
			return literal("json", " %s ", b)
		}, itself},
		{"jsonb", func(r *rand.Rand) string {
			b, _ := json.Marshal([]any{r.Uint64(), map[string]any{randomText(r): randomText(r), "x": 1.5}})
			return literal("jsonb", "%s", b)
		}, itself},
		{"mood", of("mood", "sad", "so so", "a,b", `q"'\`, ""), text},
		{"int8range", func(r *rand.Rand) string { return fmt.Sprintf("int8range(%d, %d, '[]')", -r.Int64(), r.Int64()) }, text},
		{"tstzrange", func(r *rand.Rand) string { return literal("tstzrange", "(%s,infinity]", date(r)) }, text},
		{"numrange[]", of("numrange[]", `{"[1.10,2)",NULL,empty}`, "{}"), func(c string) string { return "to_json(" + c + "::text[])" }},
		{"int[]", of("int[]", "{{1,2},{3,NULL}}", "[0:1]={1,2}", "{}", "{{{1}}}"), itself},
		{"text[]", of("text[]", `{{"a\"b",NULL},{"NULL","\\"}}`, `[2:3]={"",x}`), itself},
		{"hstore", func(r *rand.Rand) string {
			return fmt.Sprintf("hstore(ARRAY[%s, 'n'], ARRAY[%s, NULL])", publication.Literal("k"+randomText(r)), publication.Literal(randomText(r)))
		}, func(c string) string { return "hstore_to_json(" + c + ")" }},
		{"tsvector", func(r *rand.Rand) string {
			return "array_to_tsvector(ARRAY[" + publication.Literal("a"+randomText(r)) + ", 'b'])"
		}, text},
		{"xml", of("xml", "<a/>", `<a b="c">é&amp;</a>`), text},
	}
}

// listOf is an array of a type, or the type when it is one: arrays in arrays are dimensions.
func listOf(t randomType) randomType {
	if strings.HasSuffix(t.typ, "[]") {
		return t
	}
	return randomType{t.typ + "[]", func(r *rand.Rand) string {
		elements := make([]string, r.IntN(4))
		for i := range elements {
			elements[i] = t.valueOrNull(r)
		}
		return "ARRAY[" + strings.Join(elements, ", ") + "]::" + t.typ + "[]"
	}, func(c string) string {
		return "SELECT coalesce(json_agg(" + t.orNull("(q.list)[s.i]") + " ORDER BY s.i), '[]') " +
			"FROM (SELECT " + c + " AS list) q, LATERAL generate_subscripts(q.list, 1) AS s(i)"
	}}
}

// rowOf is a composite of types, and the statement that makes it.
func rowOf(name string, fields []randomType) (randomType, string) {
	var columns []string
	for i, f := range fields {
		columns = append(columns, fmt.Sprintf(`"f %d" %s`, i, f.typ))
	}
	return randomType{name, func(r *rand.Rand) string {
		var values []string
		for _, f := range fields {
			values = append(values, f.valueOrNull(r))
		}
		return "ROW(" + strings.Join(values, ", ") + ")::" + name
	}, func(c string) string {
		var pairs []string
		for i, f := range fields {
			pairs = append(pairs, fmt.Sprintf("'f %d', ", i)+f.orNull(fmt.Sprintf(`(%s)."f %d"`, c, i)))
		}
		return "json_build_object(" + strings.Join(pairs, ", ") + ")"
	}}, "CREATE TYPE " + name + " AS (" + strings.Join(columns, ", ") + ")"
}

// TestRandomRows compares rows at random, of tables at random, with what the server itself says of them: when they are inserted, and as the
// images of an update and a deletion.
func TestRandomRows(t *testing.T) {
	const tables, rows = 15, 6
	seed := testenv.Seed(t)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible
	d := newDatabase(t)
	d.exec("CREATE EXTENSION hstore", typesOfCases()[0], "CREATE DOMAIN note AS text")
	types := randomTypes()
	var shuffled []randomType
	pick := func() randomType { // every type has its turn
		if len(shuffled) == 0 {
			shuffled = slices.Clone(types)
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		}
		one := shuffled[0]
		shuffled = shuffled[1:]
		return one
	}
	columns := make([][]randomType, tables)
	for n := range tables {
		list := []randomType{pick(), pick(), listOf(pick())}
		made, ddl := rowOf(fmt.Sprintf("row%d", n), []randomType{pick(), listOf(pick()), pick()})
		outer, outerDDL := rowOf(fmt.Sprintf("outer%d", n), []randomType{made, pick(), listOf(made)})
		d.exec(ddl, outerDDL)
		list = append(list, made, listOf(made), outer, listOf(outer))
		columns[n] = list
		definition := ""
		for i, c := range list {
			definition += fmt.Sprintf(", c%d %s", i, c.typ)
		}
		d.exec(fmt.Sprintf("CREATE TABLE t%d (id int PRIMARY KEY%s)", n, definition), fmt.Sprintf("ALTER TABLE t%d REPLICA IDENTITY FULL", n))
	}
	source, _ := d.source("")
	s := d.run(source, checkpoint.Token{})
	config := source.cfg.conn.Copy()
	config.RuntimeParams["jit"] = "off"
	conn, err := pgx.ConnectConfig(t.Context(), config) // with the settings that decide how values are printed
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	seen := 0
	for n, list := range columns {
		insert, set := make([]string, rows), make([]string, 0, len(list))
		for i := range rows {
			insert[i] = fmt.Sprintf("(%d", i)
			for _, c := range list {
				insert[i] += ", " + c.valueOrNull(r)
			}
			insert[i] += ")"
		}
		for i, c := range list {
			if r.IntN(3) > 0 {
				set = append(set, fmt.Sprintf("c%d = %s", i, c.valueOrNull(r)))
			}
		}
		set = append(set, "id = id + 100")
		d.exec(fmt.Sprintf("INSERT INTO t%d VALUES %s", n, strings.Join(insert, ", ")))
		first := serverRows(t, conn, n, list)
		d.exec(fmt.Sprintf("UPDATE t%d SET %s", n, strings.Join(set, ", ")))
		second := serverRows(t, conn, n, list)
		d.exec(fmt.Sprintf("DELETE FROM t%d", n))
		require.Len(t, first, rows)
		for i, m := range append(s.events(rows), append(s.events(rows), s.events(rows)...)...) {
			require.NoError(t, m.GetError())
			text, err := m.AsBytes()
			require.NoError(t, err)
			images := readJSON(t, text).(map[string]any)
			before, after := [][]any{nil, first, second}[i/rows], [][]any{first, second, nil}[i/rows]
			for name, want := range map[string][]any{"before": before, "after": after} {
				if want == nil {
					require.Nil(t, images[name])
					continue
				}
				got, ok := images[name].(map[string]any)
				require.True(t, ok, "%s", text)
				j := slices.IndexFunc(want, func(row any) bool { return equalJSON(row.(map[string]any)["id"], got["id"]) })
				require.GreaterOrEqual(t, j, 0, "%s", text)
				if !equalJSON(want[j], got) {
					require.Equal(t, want[j], got, "seed %d, table %d, %s of event %d", seed, n, name, i)
					require.Fail(t, "not equal")
				}
				seen++
			}
		}
	}
	require.Equal(t, 4*tables*rows, seen)
}

// serverRows are the rows of a table, made by the server.
func serverRows(t *testing.T, conn *pgx.Conn, n int, list []randomType) []any {
	t.Helper()
	pairs := "'id', id"
	for i, c := range list {
		pairs += fmt.Sprintf(", 'c%d', ", i) + c.orNull(fmt.Sprintf("c%d", i))
	}
	result, err := conn.Query(t.Context(), fmt.Sprintf("SELECT json_build_object(%s)::text FROM t%d ORDER BY id", pairs, n))
	require.NoError(t, err)
	texts, err := pgx.CollectRows(result, pgx.RowTo[string])
	require.NoError(t, err)
	var out []any
	for _, text := range texts {
		out = append(out, readJSON(t, []byte(text)))
	}
	return out
}

func readJSON(t *testing.T, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	require.NoError(t, d.Decode(&v), "%s", text)
	return v
}

// equalJSON compares numbers by their exact value: 1e+21 and 1000000000000000000000 are one number.
func equalJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, equalJSON)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equalJSON)
	case json.Number:
		b, ok := b.(json.Number)
		x, okX := new(big.Rat).SetString(a.String())
		y, okY := new(big.Rat).SetString(b.String())
		return ok && okX && okY && x.Cmp(y) == 0
	default:
		return a == b
	}
}
