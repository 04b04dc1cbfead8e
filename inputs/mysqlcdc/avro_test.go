package mysqlcdc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// ask sends a request to a schema registry and returns the answer.
func ask(t *testing.T, reg *servers.Registry, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, reg.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Close = true
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s %s: %s", method, path, answer)
	return string(answer)
}

// TestAvro: a consumer in Java reads the format avro by the schemas of a real registry: every kind of value, a table that is altered while it is
// written to, a registry that refuses, and one that is away.
func TestAvro(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	reg := testenv.StartRegistry(t)
	proxy := testenv.NewProxy(t, strings.TrimPrefix(strings.TrimSuffix(reg.URL(), servers.RegistryPath), "http://"))
	ask(t, reg, http.MethodPut, "/config", `{"compatibility":"BACKWARD"}`)
	b.exec(t, "CREATE TABLE kinds (id INT PRIMARY KEY, `my-col` VARCHAR(20), d DECIMAL(10,2), u BIGINT UNSIGNED, day DATE, t3 TIME(3), t6 TIME(6), ts TIMESTAMP(6), dt DATETIME(3), "+
		"e ENUM('a','b c'), bin VARBINARY(4), j JSON, f FLOAT, b1 BIT(1), none INT)", "CREATE TABLE moves (id INT PRIMARY KEY, n INT, v VARCHAR(10))")
	yaml := "format: avro\nregistry: {urls: ['http://" + proxy.Addr() + servers.RegistryPath + "']}\navro: {shape: row, nullability: always}"
	r := start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t)
	b.exec(t, "INSERT INTO kinds VALUES (7, 'ä\"', -12.34, 18446744073709551615, '2024-02-29', '13:51:30.123', '13:51:30.123456', '2024-02-29 13:51:30.123456', '2024-02-29 13:51:30.123', "+
		"'b c', 'AB', '{\"a\":1}', 3.3, 1, NULL)")
	ev, _ := change.Own(r.messages(t, 1)[0])
	messages := [][]byte{ev.Payload(), ev.Key()}
	zone := b.query(t, "SELECT UNIX_TIMESTAMP('2024-02-29 13:51:30')")
	var seconds int64
	_, err := fmt.Sscan(zone, &seconds)
	require.NoError(t, err)
	want := []string{
		`{"id": 7, "my_col": "ä\"", "d": -12.34, "u": 18446744073709551615, "day": "2024-02-29", "t3": "13:51:30.123", "t6": "13:51:30.123456", "ts": "` +
			time.Unix(seconds, 123456000).UTC().Format("2006-01-02T15:04:05.000000Z") + `", "dt": "2024-02-29T13:51:30.123", "e": "b c", "bin": "AB", "j": "{\"a\":1}", "f": 3.3, "b1": true, "none": null}`,
		`{"id": 7}`,
	}
	messages = append(messages, alterUnderLoad(t, b, r, "ADD COLUMN a INT", "DROP COLUMN v", "RENAME COLUMN n TO m", "MODIFY m BIGINT")...)

	b.exec(t, "ALTER TABLE moves MODIFY m VARCHAR(10)", "INSERT INTO moves VALUES (-9, 'x', 1)")
	before := r.tok
	var refused error
	for refused == nil {
		if seg := r.segment(t); seg.Rows != nil {
			_, refused = seg.Rows.Decode(t.Context(), nil)
		}
	}
	require.ErrorContains(t, refused, "registering the schema of table "+b.db+".moves: subject test_"+b.db+"."+b.db+".moves-value of the schema registry at http://"+proxy.Addr())
	require.ErrorContains(t, refused, "it answers 409: ")
	require.ErrorContains(t, refused, "reader union lacking writer type: LONG")
	ask(t, reg, http.MethodPut, "/config", `{"compatibility":"NONE"}`)
	r.stop(t)

	proxy.Refuse()
	back := time.AfterFunc(time.Second, proxy.Pass)
	defer back.Stop()
	r = start(t, b.newLog(t, yaml), before).connected(t)
	ev, _ = change.Own(r.messages(t, 1)[0])
	lines := testenv.ReadRegistered(t, reg, append(messages, ev.Payload())...)
	require.Len(t, lines, len(messages)+1)
	assert.Equal(t, want, lines[:2])
	assert.Equal(t, `{"id": -9, "m": "x", "a": 1}`, lines[len(messages)])
	assertAltered(t, lines[2:len(messages)], `{"id": -1, "n": null, "v": null, "a": 0}`, `{"id": -2, "n": null, "a": 1}`, `{"id": -3, "m": null, "a": 2}`, `{"id": -4, "m": null, "a": 3}`)
	var versions []int
	require.NoError(t, json.Unmarshal([]byte(ask(t, reg, http.MethodGet, "/subjects/test_"+b.db+"."+b.db+".moves-value/versions", "")), &versions))
	assert.Contains(t, [][]int{{1, 2, 3, 4, 5}, {1, 2, 3, 4, 5, 6}}, versions, "each version of the table is one of the subject; the first has no row if the load began later")
	jsonSchema(t, b, reg)
	newColumns(t, b, reg)
}

// newColumns: a registry takes columns that are NOT NULL under BACKWARD, and who reads older rows by the new schema sees what SELECT shows.
func newColumns(t *testing.T, b *bench, reg *servers.Registry) {
	t.Helper()
	b.exec(t, "CREATE TABLE added (id INT PRIMARY KEY)")
	yaml := "format: avro\nregistry: {urls: ['" + reg.URL() + "'], topic: '${! metadata(\"table\") }'}\navro: {shape: row}\nserver_id: 77004"
	r := start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t)
	b.exec(t, "INSERT INTO added VALUES (1)", "ALTER TABLE added ADD v VARCHAR(10) NOT NULL DEFAULT 'it''s', ADD n INT NOT NULL DEFAULT -7, ADD d DECIMAL(10,2) NOT NULL DEFAULT 12.5, "+
		"ADD f DOUBLE NOT NULL DEFAULT 1.5, ADD e ENUM('a','b') NOT NULL DEFAULT 'b', ADD day DATE NOT NULL DEFAULT '2024-02-29', "+
		"ADD at DATETIME(3) NOT NULL DEFAULT '2024-02-29 13:51:30.5', ADD u BIGINT UNSIGNED NOT NULL DEFAULT 18446744073709551615", "INSERT INTO added (id) VALUES (2)")
	next := func() []byte {
		m := r.messages(t, 1)[0]
		require.NoError(t, m.GetError())
		ev, _ := change.Own(m)
		return ev.Payload()
	}
	old, now := next(), next()
	testenv.RequireDefaults(t, reg, old, now)
	r.stop(t)

	r = start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t) // which reads the shape from the catalogue
	b.exec(t, "INSERT INTO added (id) VALUES (3)")
	assert.Equal(t, now[:5], next()[:5], "the catalogue and the statement say the same")
}

// jsonSchema: the registry takes the schemas of JSON, and a column that is added under BACKWARD.
func jsonSchema(t *testing.T, b *bench, reg *servers.Registry) {
	t.Helper()
	ask(t, reg, http.MethodPut, "/config", `{"compatibility":"BACKWARD"}`)
	b.exec(t, "CREATE TABLE docs (id INT PRIMARY KEY, j JSON)")
	yaml := "format: json_schema\nregistry: {urls: ['" + reg.URL() + "'], topic: '${! metadata(\"table\") }', subject: topic_record}\njson_schema: {data: row}\nserver_id: 77003"
	r := start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t)
	b.exec(t, "INSERT INTO docs VALUES (1, '[]')", "ALTER TABLE docs ADD COLUMN d DATE NOT NULL DEFAULT '2024-02-29'", "INSERT INTO docs (id) VALUES (2)")
	var rows []string
	for _, m := range r.messages(t, 2) {
		require.NoError(t, m.GetError())
		ev, _ := change.Own(m)
		rows = append(rows, string(ev.Payload()[5:]), string(ev.Key()[5:]))
	}
	assert.Equal(t, []string{`{"id":1,"j":[]}`, `{"id":1}`, `{"id":2,"j":null,"d":"2024-02-29"}`, `{"id":2}`}, rows)
	assert.Equal(t, "[1,2]", ask(t, reg, http.MethodGet, "/subjects/docs-docs.Value/versions", ""))
	assert.Equal(t, "[1]", ask(t, reg, http.MethodGet, "/subjects/docs-docs.Key/versions", ""))
}

const load = 100

// alterUnderLoad alters a table while rows come in, and returns the payloads.
func alterUnderLoad(t *testing.T, b *bench, r *run, alters ...string) (payloads [][]byte) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range load {
			_, err := b.sql.ExecContext(t.Context(), "INSERT INTO moves (id) VALUES (?)", i)
			assert.NoError(t, err)
		}
	})
	alterations(t, b, alters)
	wg.Wait()
	for _, m := range r.messages(t, load+len(alters)) {
		ev, _ := change.Own(m)
		require.NoError(t, m.GetError())
		payloads = append(payloads, ev.Payload())
	}
	return payloads
}

// assertAltered checks that a consumer reads each row of alterUnderLoad once, by the schema that it was written with.
func assertAltered(t *testing.T, lines []string, altered ...string) {
	t.Helper()
	seen := map[int]int{}
	fields := map[int]string{}
	for _, line := range lines {
		var row map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &row), line)
		id := int(row["id"].(float64))
		seen[id]++
		fields[id] = line
	}
	want := map[int]int{}
	for i := -len(altered); i < load; i++ {
		want[i] = 1
	}
	assert.Equal(t, want, seen)
	for i, want := range altered {
		assert.Equal(t, want, fields[-1-i])
	}
}
