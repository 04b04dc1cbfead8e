package postgrescdc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/typematrix"
)

// TestTypes writes every row of the matrix, and compares the JSON of each, also with what the schema metadata says.
func TestTypes(t *testing.T) {
	testTypes(t, newDatabase(t), slices.Concat(typeCases(), moreTypeCases()), "")
}

// TestTypesNewer does it on a newer server than the installed one.
func TestTypesNewer(t *testing.T) {
	d := newDatabaseOn(t, testenv.StartNewPostgres(t))
	t.Log(d.queryText("SELECT version()"))
	testTypes(t, d, slices.Concat(typeCases(), moreTypeCases(), newerTypeCases()), "")
}

// typesPerTable keeps rows below the size of a page where their values are not stored outside.
const typesPerTable = 60

func testTypes(t *testing.T, d *database, all []typeCase, yaml string) {
	t.Helper()
	var cases []typeCase
	missing := map[string]bool{}
	for _, c := range all {
		if c.needs != "" && !missing[c.needs] {
			if d.queryText("SELECT count(*)::text FROM pg_available_extensions WHERE name = '"+c.needs+"'") == "0" {
				missing[c.needs] = true
				require.Equal(t, "vector", c.needs, "every other extension comes with PostgreSQL")
				t.Logf("NOT TESTED on this server: it has no extension %s", c.needs)
			} else {
				d.exec("CREATE EXTENSION IF NOT EXISTS " + c.needs)
			}
		}
		if !missing[c.needs] {
			cases = append(cases, c)
		}
	}
	d.exec(typesOfCases()...)
	d.exec("ALTER DATABASE " + d.name + " SET DateStyle = 'SQL, DMY'")
	chunks := slices.Collect(slices.Chunk(cases, typesPerTable))
	for i, chunk := range chunks {
		columns := "id int PRIMARY KEY"
		for j, c := range chunk {
			columns += fmt.Sprintf(", c%d %s", j, c.typ)
		}
		d.exec(fmt.Sprintf("CREATE TABLE types%d (%s)", i, columns))
	}
	r, log := d.source(yaml)
	s := d.run(r, checkpoint.Token{})
	for i, chunk := range chunks {
		values := "1"
		for _, c := range chunk {
			values += ", " + c.literal
		}
		d.exec(fmt.Sprintf("INSERT INTO types%d VALUES (%s)", i, values))
	}
	reader := openReader(t, r)
	for i, m := range s.events(len(chunks)) {
		checkTypes(t, chunks[i], m)
		rows, _ := readChunk(t, reader, snapshot.Chunk{Table: fmt.Sprintf("public.types%d", i), Limit: 10})
		require.Empty(t, rows.Errs)
		sameRow(t, m, messagesOf(rows.Events)[0])
	}
	assert.NotContains(t, log.all(), "has the type mood")
	assert.Contains(t, log.all()+yaml, "has the type box[]")
}

func checkTypes(t *testing.T, cases []typeCase, m *service.Message) {
	t.Helper()
	text := short(t, m)
	_, text, ok := strings.Cut(text, `"after":{"id":1`)
	require.True(t, ok, text)
	ev, _ := change.FromMessage(m)
	common, err := typematrix.Read(ev.Table.CommonSchema())
	require.NoError(t, err)
	for j, c := range cases {
		want := fmt.Sprintf(`,"c%d":%s`, j, c.want)
		if !strings.HasPrefix(text, want) {
			require.FailNow(t, c.typ, "%.60s: want %.200s\ngot  %.200s", c.literal, want, text)
		}
		text = strings.TrimPrefix(text, want)
		dec := json.NewDecoder(strings.NewReader(c.want))
		dec.UseNumber()
		var value any
		require.NoError(t, dec.Decode(&value), c.typ)
		if err := typematrix.Conforms(common.Children[1+j], value); c.misfit {
			require.Error(t, err, "%s with %.60s", c.typ, c.literal)
		} else {
			require.NoError(t, err, "%s with %.60s", c.typ, c.literal)
		}
	}
	require.Equal(t, "}}", text)
}

func TestTypesOptions(t *testing.T) {
	cases := []typeCase{
		{typ: "bigint", literal: "-9223372036854775808", want: `"-9223372036854775808"`},
		{typ: "bigint NOT NULL", literal: "9223372036854775807", want: `"9223372036854775807"`},
		{typ: "bigint", literal: "NULL", want: `null`},
		{typ: "xid8", literal: "'18446744073709551615'", want: `"18446744073709551615"`},
		{typ: "bigint[]", literal: "'{1,NULL,-3}'", want: `["1",null,"-3"]`},
		{typ: "big", literal: "5", want: `"5"`},
		{typ: "has", literal: "ROW(7, 8)", want: `{"b":"7","i":8}`},
		{typ: "int", literal: "1", want: `1`},
		{typ: "jsonb", literal: "'[9007199254740993]'", want: `[9007199254740993]`},
	}
	d := newDatabase(t)
	d.exec("CREATE DOMAIN big AS bigint", "CREATE TYPE has AS (b bigint, i int)")
	testTypes(t, d, cases, "bigint: string\n# has the type box[]")
}

// TestTypesSQLASCII: a database that does not know its encoding can have any bytes as text.
func TestTypesSQLASCII(t *testing.T) {
	server := testenv.Postgres(t)
	const row = `(1, E'\\xff', E'a\\xc3\\xa9', ARRAY[E'\\xfe', 'b'], '{"a": "x"}')`
	for _, c := range []struct{ option, want string }{
		{"error", ""},
		{"base64", `c odd {"before":null,"after":{"id":1,"bad":{"_base64":"/w=="},"good":"aé","list":[{"_base64":"/g=="},"b"],"doc":{"a": "x"}}}`},
	} {
		t.Run(c.option, func(t *testing.T) {
			d := newASCIIDatabase(t, server)
			d.exec("CREATE TABLE odd (id int PRIMARY KEY, bad text, good text, list text[], doc json)")
			r, _ := d.source("undecodable_text: " + c.option)
			s := d.run(r, checkpoint.Token{})
			d.exec("SET client_encoding = 'SQL_ASCII'", "INSERT INTO odd VALUES "+strings.ReplaceAll(row, `\\x`, `\x`), "INSERT INTO odd VALUES (2, 'x')")
			batch := s.events(2)
			if c.want != "" {
				require.Equal(t, c.want, short(t, batch[0]))
			} else {
				require.ErrorIs(t, batch[0].GetError(), value.ErrNotUTF8)
				require.ErrorContains(t, batch[0].GetError(), "decoding a change of public.odd at ")
			}
			require.NoError(t, batch[1].GetError())
		})
	}
}

// newASCIIDatabase makes a database with the encoding SQL_ASCII.
func newASCIIDatabase(t *testing.T, server *testenv.PostgresServer) *database {
	t.Helper()
	d := newDatabaseOn(t, server)
	name := d.name + "_ascii"
	d.exec("CREATE DATABASE " + name + " ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
	ascii := &database{t: t, name: name, dsn: server.DSN(name), server: server}
	t.Cleanup(func() {
		pool := server.Pool(t, "")
		for _, q := range []string{
			"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '" + name + "' AND NOT active",
			"DROP DATABASE " + name + " WITH (FORCE)",
		} {
			_, err := pool.Exec(context.Background(), q)
			assert.NoError(t, err, q)
		}
	})
	ascii.conn = ascii.connect()
	return ascii
}
