package postgrescdc

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestRegistryFormats: a consumer in Java reads the whole envelope of the formats avro and protobuf by the schemas of a real registry.
func TestRegistryFormats(t *testing.T) {
	d := newDatabase(t)
	reg := testenv.StartRegistry(t)
	d.exec("CREATE TYPE mood AS ENUM ('sad', 'so so')", "CREATE TYPE pair AS (a int, b text)",
		`CREATE TABLE kinds (id int PRIMARY KEY, big bigint, d numeric(10,2), n numeric, f real, yes boolean, day date, t time(3), ts timestamp(3), tz timestamptz, u uuid, bin bytea, j jsonb, m mood, p pair,
		 ints int[], texts text[], "my-col" text, none int)`, "ALTER TABLE kinds REPLICA IDENTITY FULL")
	formats := map[string]struct{ row, after string }{
		"avro": {
			`{"id":7,"big":-9223372036854775808,"d":-12.30,"n":"0.00000000000000000001","f":3.5,"yes":true,"day":"2024-02-29","t":"13:51:30.123","ts":"2024-02-29T13:51:30.123","tz":"2024-02-29T11:51:30.123456Z",` +
				`"u":"3e11fa47-71ca-11e1-9e33-c80aa9429562","bin":"AB","j":"{\"a\": 1}","m":"so so","p":"{\"a\":1,\"b\":\"x\"}","ints":[1,null,3],"texts":["a,","ä"],"my_col":"old","none":null}`,
			`{"id":7,"big":0,"d":-12.30,"n":"0.00000000000000000001","f":3.5,"yes":true,"day":"2024-02-29","t":"13:51:30.123","ts":"2024-02-29T13:51:30.123","tz":"2024-02-29T11:51:30.123456Z",` +
				`"u":"3e11fa47-71ca-11e1-9e33-c80aa9429562","bin":"AB","j":"{\"a\": 1}","m":"so so","p":"{\"a\":1,\"b\":\"x\"}","ints":[],"texts":["a,","ä"],"my_col":"new","none":null}`,
		},
		"protobuf": {
			`{"id":7,"big":"-9223372036854775808","d":"-12.30","n":"0.00000000000000000001","f":3.5,"yes":true,"day":"2024-02-29","t":"13:51:30.123","ts":"2024-02-29T13:51:30.123","tz":"2024-02-29T11:51:30.123456Z",` +
				`"u":"3e11fa47-71ca-11e1-9e33-c80aa9429562","bin":"QUI=","j":"{\"a\": 1}","m":"so so","p":"{\"a\":1,\"b\":\"x\"}","ints":{"elements":[{"value":1},{},{"value":3}]},` +
				`"texts":{"elements":[{"value":"a,"},{"value":"ä"}]},"my-col":"old"}`,
			`{"id":7,"big":"0","d":"-12.30","n":"0.00000000000000000001","f":3.5,"yes":true,"day":"2024-02-29","t":"13:51:30.123","ts":"2024-02-29T13:51:30.123","tz":"2024-02-29T11:51:30.123456Z",` +
				`"u":"3e11fa47-71ca-11e1-9e33-c80aa9429562","bin":"QUI=","j":"{\"a\": 1}","m":"so so","p":"{\"a\":1,\"b\":\"x\"}","ints":{},"texts":{"elements":[{"value":"a,"},{"value":"ä"}]},"my-col":"new"}`,
		},
	}
	streams := map[string]*stream{}
	for format := range formats {
		source, _ := d.source("format: " + format + "\nregistry: {urls: ['" + reg.URL() + "'], topic: '" + format + ".kinds'}\nslot: " + d.name + "_" + format)
		streams[format] = d.run(source, checkpoint.Token{})
	}
	d.exec(`INSERT INTO kinds VALUES (7, -9223372036854775808, -12.3, 1e-20, 3.5, true, '2024-02-29', '13:51:30.123', '2024-02-29 13:51:30.123', '2024-02-29 13:51:30.123456+02',
		'3e11fa47-71ca-11e1-9e33-c80aa9429562', 'AB', '{"a": 1}', 'so so', '(1,x)', '{1,NULL,3}', '{"a,","ä"}', 'old', NULL)`,
		`UPDATE kinds SET "my-col" = 'new', ints = '{}', big = 0`, "DELETE FROM kinds")
	var messages [][]byte
	ids := map[string][]string{}
	order := slices.Sorted(maps.Keys(formats))
	for _, format := range order {
		for i, m := range streams[format].messages(4) {
			require.NoError(t, m.GetError())
			ev, _ := change.Own(m)
			messages = append(messages, ev.Key())
			if i == 3 {
				assert.True(t, ev.Tombstone)
				continue
			}
			messages = append(messages, ev.Payload())
			ids[format] = append(ids[format], string(ev.AppendID(nil)))
		}
	}
	lines := testenv.ReadRegistered(t, reg, messages...)
	require.Len(t, lines, 14)
	for _, format := range order {
		want := formats[format]
		for i, images := range [][2]string{{"null", want.row}, {want.row, want.after}, {want.after, "null"}} {
			got := object(t, lines[2*i+1])
			assert.Equal(t, object(t, `{"before":`+images[0]+`,"after":`+images[1]+`,"op":"`+"cud"[i:i+1]+`","event_id":"`+ids[format][i]+`"}`),
				map[string]any{"before": got["before"], "after": got["after"], "op": got["op"], "event_id": got["event_id"]}, format)
			source, ok := got["source"].(map[string]any)
			require.True(t, ok, format)
			assert.Equal(t, []any{"postgresql", d.name, "public", "kinds"}, []any{source["connector"], source["name"], source["schema"], source["table"]})
		}
		for i := 0; i < 7; i += 2 {
			assert.Equal(t, object(t, `{"id":7}`), object(t, lines[i]))
		}
		lines = lines[7:]
	}
	for _, r := range streams {
		r.stop()
	}
	newColumns(t, d, reg)
}

// newColumns: a registry takes columns that are NOT NULL under BACKWARD, and who reads older rows by the new schema sees what SELECT shows.
func newColumns(t *testing.T, d *database, reg *servers.Registry) {
	t.Helper()
	d.exec("CREATE TABLE added (id int PRIMARY KEY)")
	source, _ := d.source("format: avro\nregistry: {urls: ['" + reg.URL() + "'], topic: '${! metadata(\"table\") }'}\navro: {shape: row}\nslot: " + d.name + "_added")
	r := d.run(source, checkpoint.Token{})
	d.exec("INSERT INTO added VALUES (1)", `ALTER TABLE added ADD v varchar(10) NOT NULL DEFAULT 'it''s', ADD n int NOT NULL DEFAULT -7, ADD d numeric(10,2) NOT NULL DEFAULT 12.5,
		ADD f float8 NOT NULL DEFAULT 1.5, ADD yes boolean NOT NULL DEFAULT true, ADD day date NOT NULL DEFAULT '2024-02-29', ADD at timestamp(3) NOT NULL DEFAULT '2024-02-29 13:51:30.5',
		ADD u uuid NOT NULL DEFAULT '3e11fa47-71ca-11e1-9e33-c80aa9429562', ADD computed int NOT NULL DEFAULT 2 * 3`, "INSERT INTO added (id) VALUES (2)")
	var payloads [][]byte
	for _, m := range r.messages(2) {
		require.NoError(t, m.GetError())
		ev, _ := change.Own(m)
		payloads = append(payloads, ev.Payload())
	}
	testenv.RequireDefaults(t, reg, payloads[0], payloads[1])
}

// object reads a JSON object, numbers as they are written.
func object(t *testing.T, line string) (o map[string]any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(line)))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&o), line)
	return o
}
