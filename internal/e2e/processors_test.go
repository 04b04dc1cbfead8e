package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Several processors in one stream, as the binary runs them. What is masked is in nothing that the process has written: the end of the run looks
// for it in logs, pages, stores and outputs.
func TestProcessors(t *testing.T) {
	const secret = "ann.masked.7391@example.com"
	hide(t, "a masked value", secret)
	src := mysqlSource(t, testenv.MySQL(t))
	_, err := src.db.ExecContext(t.Context(), "CREATE TABLE customers (id BIGINT UNSIGNED PRIMARY KEY, email VARCHAR(99), plan VARCHAR(9), doc JSON)")
	require.NoError(t, err)
	p := newProcess(t, src.input+fmt.Sprintf(`
pipeline:
  threads: 1
  processors:
    - deltaforge_filter: { tables: { include: [ "%s.customers" ] }, image: either, predicates: [ { column: plan, test: ne, value: free } ] }
    - deltaforge_columns: { rules: [ { mask: [ { columns: [ email ], with: keep_last, keep: 3 } ] } ] }
    - deltaforge_flatten: { columns: [ doc ] }
    - deltaforge_javascript: { timeout: 1m, script: "function processBatch(events) { for (const e of events) { if (e.after) { e.after.next = e.after.id + 1n; } } return events; }" }
    - deltaforge_route: { rules: [ { topic: "t.{operation}", key: "{table}/{row.id}" } ] }
    - mapping: 'root = [ @topic, @key, this.before, this.after ]'
output:
  file: { path: out.jsonl, codec: lines }
`, src.slug))
	p.start()
	awaitSaved(t, p)
	for _, q := range []string{
		"INSERT INTO customers VALUES (1, '" + secret + `', 'free', '{}'), (18446744073709551614, '` + secret + `', 'paid', '{"a":{"b":1.50}}')`,
		"UPDATE customers SET plan = 'free' WHERE id = 18446744073709551614",
		"DELETE FROM customers WHERE id = 1",
		"DELETE FROM customers WHERE id = 18446744073709551614",
		"INSERT INTO customers VALUES (9223372036854775808, NULL, 'paid', NULL)",
	} {
		_, err := src.db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	masked := strings.Repeat("*", len(secret)-3) + "com"
	row := func(plan string) string {
		return `{"doc.a.b":1.5,"email":"` + masked + `","id":18446744073709551614,%s"plan":"` + plan + `"}`
	}
	want := []string{
		`["t.insert","customers/18446744073709551614",null,` + fmt.Sprintf(row("paid"), `"next":"18446744073709551615",`) + `]`,
		`["t.update","customers/18446744073709551614",` + fmt.Sprintf(row("paid"), "") + `,` + fmt.Sprintf(row("free"), `"next":"18446744073709551615",`) + `]`,
		`["t.insert","customers/9223372036854775808",null,{"doc":null,"email":null,"id":9223372036854775808,"next":"9223372036854775809","plan":"paid"}]`,
	}
	var got string
	eventually(t, time.Minute, "the rows delivered", func() bool {
		text, _ := os.ReadFile(filepath.Join(p.dir, "out.jsonl"))
		got = string(text)
		return strings.Count(got, "\n") >= len(want)
	})
	assert.Equal(t, strings.Join(want, "\n")+"\n", got)
	v, ok := p.metric("deltaforge_processor_dropped_total", `processor="root.pipeline.processors.0"`, `reason="predicate"`)
	assert.True(t, ok)
	assert.InDelta(t, 3, v, 0)
	p.stop()
}

// Values that the log does not carry are read from the tables, and a consumer of Debezium's messages gets no placeholder.
func TestReselect(t *testing.T) {
	sources := sources(t)
	for name, c := range map[string]struct{ create, insert, want string }{
		"postgres": {
			"CREATE TABLE docs (id int PRIMARY KEY, n int, doc text); ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL; ALTER TABLE docs OWNER TO deltaforge",
			"INSERT INTO docs VALUES (1, 0, repeat('0123456789', 500))", `{"id":1,"n":1,"doc":"` + strings.Repeat("0123456789", 500) + `"}`,
		},
		"mysql": {
			"CREATE TABLE docs (id INT PRIMARY KEY, n INT, doc TEXT)", "INSERT INTO docs VALUES (1, 0, 'long'); SET SESSION binlog_row_image = NOBLOB",
			`{"id":1,"n":1,"doc":"long"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := sources[name](t)
			conn, err := src.db.Conn(t.Context())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			exec := func(statements ...string) {
				for _, q := range statements {
					_, err := conn.ExecContext(t.Context(), q)
					require.NoError(t, err)
				}
			}
			exec(strings.Split(c.create, "; ")...)
			p := newProcess(t, strings.Replace(src.input, "    snapshot:", "    format: debezium\n    snapshot:", 1)+`
pipeline:
  threads: 1
  processors:
    - deltaforge_reselect: { when_gone: error, when_changed: error }
    - mapping: 'root = this.after'
output:
  file: { path: out.jsonl, codec: lines }
`)
			p.start()
			awaitSaved(t, p)
			exec(append(strings.Split(c.insert, "; "), "UPDATE docs SET n = 1")...)
			var got []string
			eventually(t, time.Minute, "the rows delivered", func() bool {
				text, _ := os.ReadFile(filepath.Join(p.dir, "out.jsonl"))
				got = strings.Split(strings.TrimSpace(string(text)), "\n")
				return len(got) >= 2
			})
			require.Len(t, got, 2)
			assert.JSONEq(t, c.want, got[1])
			p.stop()
		})
	}
}
