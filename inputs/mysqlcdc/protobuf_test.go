package mysqlcdc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestProtobuf: a consumer in Java reads the format protobuf by the schemas of a real registry: every kind of value, a table that is altered
// while it is written to, a process that begins anew, and a registry that refuses.
func TestProtobuf(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	reg := testenv.StartRegistry(t)
	ask(t, reg, http.MethodPut, "/config", `{"compatibility":"BACKWARD"}`)
	b.exec(t, "CREATE TABLE kinds (id INT PRIMARY KEY, `my-col` VARCHAR(20), d DECIMAL(10,2), u BIGINT UNSIGNED, day DATE, t6 TIME(6), ts TIMESTAMP(6), dt DATETIME(3), "+
		"e ENUM('a','b c'), bin VARBINARY(4), j JSON, f FLOAT, b1 BIT(1), g GEOMETRY, none INT)", "CREATE TABLE moves (id INT PRIMARY KEY, n INT, v VARCHAR(10))")
	yaml := "format: protobuf\nregistry: {urls: ['" + reg.URL() + "'], topic: '${! metadata(\"table\") }'}\nprotobuf: {shape: row}"
	r := start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t)
	b.exec(t, "SET time_zone = '+00:00'", "INSERT INTO kinds VALUES (7, 'ä\"', -12.34, 18446744073709551615, '2024-02-29', '-13:51:30.123456', '2024-02-29 13:51:30.123456', '2024-02-29 13:51:30.123', "+
		"'b c', 'AB', '{\"a\":1}', 3.3, 1, POINT(1, 2), NULL)")
	ev, _ := change.Own(r.messages(t, 1)[0])
	messages := [][]byte{ev.Payload(), ev.Key()}
	alters := []string{"ADD COLUMN a INT", "DROP COLUMN v", "RENAME COLUMN n TO m"}
	messages = append(messages, alterUnderLoad(t, b, r, alters...)...)

	b.exec(t, "ALTER TABLE moves MODIFY m VARCHAR(10)", "INSERT INTO moves VALUES (-9, 'x', 1)")
	before := r.tok
	var refused error
	for refused == nil {
		if seg := r.segment(t); seg.Rows != nil {
			_, refused = seg.Rows.Decode(t.Context(), nil)
		}
	}
	require.ErrorContains(t, refused, "registering the schema of table "+b.db+".moves: subject moves-value of the schema registry at "+reg.URL()+": it answers 409: ")
	require.ErrorContains(t, refused, "not backward compatible")
	ask(t, reg, http.MethodPut, "/config", `{"compatibility":"NONE"}`)
	r.stop(t)
	r = start(t, b.newLog(t, yaml), before).connected(t)
	ev, _ = change.Own(r.messages(t, 1)[0])
	lines := testenv.ReadRegistered(t, reg, append(messages, ev.Payload())...)
	require.Len(t, lines, len(messages)+1)
	assert.Equal(t, []string{
		`{"id":7,"my-col":"ä\"","d":"-12.34","u":"18446744073709551615","day":"2024-02-29","t6":"-13:51:30.123456","ts":"2024-02-29T13:51:30.123456Z","dt":"2024-02-29T13:51:30.123",` +
			`"e":"b c","bin":"QUI=","j":"{\"a\":1}","f":3.3,"b1":true,"g":{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA"}}`,
		`{"id":7}`,
	}, lines[:2])
	assert.Equal(t, `{"id":-9,"a":1,"m":"x"}`, lines[len(messages)])
	assertAltered(t, lines[2:len(messages)], `{"id":-1,"a":0}`, `{"id":-2,"a":1}`, `{"id":-3,"a":2}`)

	var newest struct{ Schema string }
	require.NoError(t, json.Unmarshal([]byte(ask(t, reg, http.MethodGet, "/subjects/moves-value/versions/latest", "")), &newest))
	assert.Equal(t, "syntax = \"proto3\";\npackage moves;\n\nmessage Value {\n  optional int32 id = 1;\n  optional int32 n = 2;\n  optional string v = 3;\n  optional int32 a = 4;\n"+
		"  optional string m = 5;\n}\n", newest.Schema, "each column that there was has its number")
}

// alterations inserts a row by each shape of the table moves.
func alterations(t *testing.T, b *bench, alters []string) {
	t.Helper()
	for i, alter := range alters {
		b.exec(t, "ALTER TABLE moves "+alter, fmt.Sprintf("INSERT INTO moves (id, a) VALUES (%d, %d)", -1-i, i))
	}
}
