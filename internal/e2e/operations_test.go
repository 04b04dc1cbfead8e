package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// operations are every kind of change, in transactions. What they must become is in wanted.
func operations() [][]string {
	truncate := "TRUNCATE TABLE items"
	insertKeyless := "INSERT INTO keyless (a, b) VALUES (1, 'x'), (1, 'x')"
	return [][]string{
		{"INSERT INTO items (id, name, price) VALUES (1, 'größe \"x\"', 10.00)"},
		{
			"INSERT INTO items (id, name, price) VALUES (2, 'two', 2.50), (3, NULL, 0.01)",
			"UPDATE items SET name = 'zwei' WHERE id = 2", "DELETE FROM items WHERE id = 3",
		},
		{"UPDATE items SET id = 20 WHERE id = 2"}, // the key changes
		{insertKeyless},
		{"UPDATE items SET name = 'never' WHERE id = 1", rollback},
		{truncate},
		{"INSERT INTO items (id, name, price) VALUES (9, 'last', 9.99)"},
	}
}

const rollback = "ROLLBACK"

// want is a whole event but for what no test can know: <tx n> is the position of the nth transaction seen, and source holds
// only its fixed fields.
type want struct {
	Table, Op, Key string
	Before, After  string
	ID             string
	Order          int
}

// wanted is what operations must become. The rows before a change are whole in MySQL, and in PostgreSQL with REPLICA
// IDENTITY FULL.
func wanted() []want {
	one := `{"id":1,"name":"größe \"x\"","price":"10.00"}`
	two, zwei := `{"id":2,"name":"two","price":"2.50"}`, `{"id":2,"name":"zwei","price":"2.50"}`
	three := `{"id":3,"name":null,"price":"0.01"}`
	twenty := `{"id":20,"name":"zwei","price":"2.50"}`
	ax := `{"a":1,"b":"x"}`
	return []want{
		{"items", "c", `{"id":1}`, "null", one, "<tx 1>:1", 1},
		{"items", "c", `{"id":2}`, "null", two, "<tx 2>:1", 1},
		{"items", "c", `{"id":3}`, "null", three, "<tx 2>:2", 2},
		{"items", "u", `{"id":2}`, two, zwei, "<tx 2>:3", 3},
		{"items", "d", `{"id":3}`, three, "null", "<tx 2>:4", 4},
		{"items", "u", `{"id":20}`, zwei, twenty, "<tx 3>:1", 1},
		{"keyless", "c", "", "null", ax, "<tx 4>:1", 1},
		{"keyless", "c", "", "null", ax, "<tx 4>:2", 2},
		{"items", "t", "", "null", "null", "<tx 5>:1", 1},
		{"items", "c", `{"id":9}`, "null", `{"id":9,"name":"last","price":"9.99"}`, "<tx 6>:1", 1},
	}
}

// Every kind of change goes through the real binary to a consumer of the real sink, and the whole event is compared.
func TestOperations(t *testing.T) {
	binary(t)
	for name, open := range sources(t) {
		t.Run(name+"/kafka", func(t *testing.T) {
			dst := kafkaSink(t, testenv.Kafka(t), 1)
			runOperations(t, open(t), dst, func(m delivered) string { return string(m.key) })
		})
		t.Run(name+"/redis", func(t *testing.T) {
			dst := redisSink(t, testenv.Redis(t))
			runOperations(t, open(t), dst, func(m delivered) string { return string(m.key) })
		})
	}
}

func runOperations(t *testing.T, src source, dst sink, key func(delivered) string) {
	dollars := src.slot != ""
	for _, ddl := range []string{
		"CREATE TABLE items (id INT NOT NULL PRIMARY KEY, name VARCHAR(50), price DECIMAL(10,2) NOT NULL)",
		"CREATE TABLE keyless (a INT, b VARCHAR(10))",
	} {
		execSQL(t, src.db, ddl)
	}
	if dollars {
		for _, table := range []string{"items", "keyless"} {
			execSQL(t, src.db, "ALTER TABLE "+table+" REPLICA IDENTITY FULL")
			execSQL(t, src.db, "ALTER TABLE "+table+" OWNER TO "+servers.User)
		}
	}
	p := newProcess(t, strings.Replace(src.input, "name: ", "tenant: acme\n    name: ", 1)+dst.output)
	p.start()
	awaitSaved(t, p)
	began := time.Now()
	for _, tx := range operations() {
		transaction(t, src.db, tx)
	}
	wants := wanted()
	eventually(t, 30*time.Second, "all events delivered", func() bool { return len(dst.all(t)) >= len(wants) })
	time.Sleep(300 * time.Millisecond) // what must not come would come now
	messages := dst.all(t)
	require.Len(t, messages, len(wants))
	ids := txNames{}
	for i, m := range messages {
		got := wholeEvent(t, src, m.value, began, ids)
		got.Key = key(m)
		assert.Equal(t, wants[i], got, "event %d: %s", i, m.value)
	}
	for op, n := range map[string]float64{"c": 6, "u": 2, "d": 1, "t": 1} {
		v, ok := p.metric("deltaforge_source_events_total", `op="`+op+`"`)
		assert.True(t, ok)
		assert.InDelta(t, n, v, 0, "events of kind %s", op)
	}
	p.stop()
}

func execSQL(t *testing.T, db *sql.DB, q string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), q)
	require.NoError(t, err, "%s", q)
}

func transaction(t *testing.T, db *sql.DB, statements []string) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, q := range statements {
		if q == rollback {
			require.NoError(t, tx.Rollback())
			return
		}
		_, err := tx.ExecContext(context.WithoutCancel(t.Context()), q)
		require.NoError(t, err, "%s", q)
	}
	require.NoError(t, tx.Commit())
}

// txNames gives each transaction the number of its first appearance.
type txNames map[string]string

func (n txNames) of(position string) string {
	if _, ok := n[position]; !ok {
		n[position] = fmt.Sprintf("<tx %d>", len(n)+1)
	}
	return n[position]
}

// wholeEvent checks every field of an event that is not in want, and returns the rest. The regular expression fixes the
// order of the fields, and that there are no others.
func wholeEvent(t *testing.T, src source, payload []byte, began time.Time, ids txNames) want {
	t.Helper()
	pattern := regexp.MustCompile(`^\{"before":(.*),"after":(.*),"source":(\{.*?\}),"op":"(.)","ts_ms":(\d+),` +
		`"transaction":(\{.*?\}),"event_id":"([^"]*)","tenant_id":"acme","schema_version":"[0-9a-f]{16}"\}$`)
	m := pattern.FindSubmatch(payload)
	require.NotNil(t, m, "%s", payload)

	var s map[string]any
	require.NoError(t, json.Unmarshal(m[3], &s))
	committed := time.UnixMilli(int64(s["ts_ms"].(float64)))
	assert.WithinRange(t, committed, began.Add(-2*time.Second), time.Now().Add(time.Second), "source.ts_ms")
	assert.Equal(t, "false", s["snapshot"])
	assert.Equal(t, src.slug, s["name"])
	assert.Equal(t, src.slug, s["db"])
	assert.NotEmpty(t, s["version"])
	if src.slot != "" {
		assert.Equal(t, "postgresql", s["connector"])
		assert.Equal(t, "public", s["schema"])
		assert.Positive(t, s["txId"])
		assert.Positive(t, s["lsn"])
	} else {
		assert.Equal(t, "mysql", s["connector"])
		assert.NotContains(t, s, "schema")
		assert.Positive(t, s["server_id"])
		assert.Positive(t, s["pos"])
		assert.Regexp(t, `^[a-z-]+\.\d{6}$`, s["file"])
		assert.Contains(t, s, "row")
	}
	var tx struct {
		ID         string `json:"id"`
		TotalOrder int    `json:"total_order"`
	}
	require.NoError(t, json.Unmarshal(m[6], &tx))
	assert.NotEmpty(t, tx.ID)
	id := string(m[7])
	at := strings.LastIndexByte(id, ':')
	require.Positive(t, at, "event id %q", id)
	return want{
		Table: s["table"].(string), Op: string(m[4]), Before: string(m[1]), After: string(m[2]),
		ID: ids.of(id[:at]) + id[at:], Order: tx.TotalOrder,
	}
}
