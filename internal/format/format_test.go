package format_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/avro"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/envelope/protobuf"
	"github.com/deltaforge/deltaforge/internal/format"
)

func parseFormat(t *testing.T, yaml string) (change.Format, error) {
	t.Helper()
	conf, err := service.NewConfigSpec().Fields(format.Fields()...).ParseYAML(yaml, nil)
	require.NoError(t, err)
	return format.Parse(conf, service.MockResources())
}

func TestParse(t *testing.T) {
	for yaml, want := range map[string]change.Format{
		"format: debezium": debezium.Default(),
		"format: debezium\ndebezium: {schemas: true, tombstones: false, truncates: true, decimal: string, time_precision: isostring, binary: hex, bigint_unsigned: precise, interval: string, hstore: map, unavailable_value: gone}": &debezium.Format{
			Schemas: true, Truncates: true, Decimal: debezium.DecimalString, Time: debezium.TimeISO, Binary: debezium.BinaryHex, PreciseUnsigned: true, IntervalText: true, HstoreMap: true, Placeholder: "gone",
		},
		"format: cloudevents": &envelope.CloudEvents{},
		"format: cloudevents\ncloudevents: {mode: binary, data: row}": &envelope.CloudEvents{Binary: true, Row: true},
		"":                                      envelope.Native{},
		"format: row":                           envelope.Row{Deletes: envelope.DeleteKeep},
		"format: row\nrow: {delete_rows: drop}": envelope.Row{Deletes: envelope.DeleteDrop},
		"format: row\nrow: {delete_rows: null}": envelope.Row{Deletes: envelope.DeleteNull},
		"format: row\nrow: {delete_rows: 'null'}": envelope.Row{Deletes: envelope.DeleteNull},
	} {
		got, err := parseFormat(t, yaml)
		require.NoError(t, err, yaml)
		assert.Equal(t, want, got, yaml)
	}
	for yaml, want := range map[string]string{
		"format: xml":         `format: want one of native, row, debezium, avro, protobuf, json_schema, cloudevents, got "xml"`,
		"format: json_schema": "registry.urls: the format needs a schema registry: set its address",
		"format: avro":        "registry.urls: the format needs a schema registry: set its address",
		"format: avro\nregistry: {urls: ['http://u:hunter2@host:8081']}":                                                   "registry.urls: the URL of host:8081 has a user: set registry.basic_auth",
		"format: avro\nregistry: {urls: ['host:8081']}":                                                                    `registry.urls: want http://host:port or https://host:port, got "host:8081"`,
		"format: avro\nregistry: {urls: ['http://host:1'], bearer_token: t, basic_auth: {username: u, password: hunter2}}": "registry: set basic_auth or bearer_token, not both",
		"format: avro\nregistry: {urls: ['http://host:1'], subject: table}":                                                `registry.subject: want one of topic, record, topic_record, got "table"`,
		"format: avro\nregistry: {urls: ['http://host:1']}\navro: {times: text}":                                           `avro.times: want one of logical, string, got "text"`,
		"format: avro\nregistry: {urls: ['http://host:1']}\navro: {delete_rows: no}":                                       "avro.delete_rows: want keep, null or drop, got no",
		"format: debezium\ndebezium: {decimal: money}":                                                                     `debezium.decimal: want one of precise, string, double, got "money"`,
		"format: row\nrow: {delete_rows: no}":                                                                              "row.delete_rows: want keep, null or drop, got no",
	} {
		_, err := parseFormat(t, yaml)
		assert.EqualError(t, err, want, yaml)
	}
}

// Changes of shapes are refused by the linter, and at the start, where a format has no form for them.
func TestChanges(t *testing.T) {
	spec := service.NewConfigSpec().Fields(append(format.Fields(), service.NewBoolField("schema_changes").Default(false))...).LintRule(format.ChangesRule)
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterInput("linted", spec, func(*service.ParsedConfig, *service.Resources) (service.Input, error) { return nil, nil })) //nolint:nilnil // never made
	for yaml, want := range map[string]string{
		"format: avro":        "schema_changes: changes of shapes have no form in the format avro: leave it off, or read them by a source with another format",
		"format: protobuf":    "schema_changes: changes of shapes have no form in the format protobuf: leave it off, or read them by a source with another format",
		"format: json_schema": "schema_changes: changes of shapes have no form in the format json_schema: leave it off, or read them by a source with another format",
		"format: native":      "",
		"":                    "",
	} {
		for _, on := range []bool{true, false} {
			text := fmt.Sprintf("%s\nschema_changes: %t\nregistry: {urls: ['http://localhost:1']}", yaml, on)
			lints, err := env.NewComponentConfigLinter().LintInputYAML([]byte("linted:\n  " + strings.ReplaceAll(text, "\n", "\n  ")))
			require.NoError(t, err)
			conf, err := spec.ParseYAML(text, nil)
			require.NoError(t, err)
			_, err = format.Parse(conf, service.MockResources())
			if want == "" || !on {
				assert.Empty(t, lints, text)
				assert.NoError(t, err, text)
				continue
			}
			require.Len(t, lints, 1, text)
			assert.Contains(t, lints[0].Error(), want)
			assert.EqualError(t, err, want)
		}
	}
}

// The format protobuf asks for the newest schema of a subject first.
func TestProtobuf(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error_code":40401}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":1}`)
	}))
	defer s.Close()
	f, err := parseFormat(t, "format: protobuf\nregistry: {urls: ['"+s.URL+"'], subject: topic_record}\nprotobuf: {shape: row, decimals: message, times: string, arrays: string, delete_rows: drop, tombstones: false, unavailable_value: gone}")
	require.NoError(t, err)
	got, ok := f.(*protobuf.Format)
	require.True(t, ok)
	require.NoError(t, change.Prepare(t.Context(), &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop", Format: f}, Database: "db", Name: "t", Columns: []change.Column{{Name: "id"}},
	}))
	assert.Equal(t, []string{"GET /subjects/shop.db.t-shop.db.t.Value/versions/latest", "POST /subjects/shop.db.t-shop.db.t.Value"}, asked)
	assert.Equal(t, confluent.Shaping{Shape: confluent.ShapeRow, Deletes: confluent.DeleteDrop}, got.Shaping)
	assert.Equal(t, []any{true, true, true, "gone"}, []any{got.DecimalMessage, got.TimeText, got.ArrayText, got.Placeholder})
}

// The format avro asks the registry for subjects that are made of the table's topic.
func TestAvro(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Path)
		_, _ = io.WriteString(w, `{"id":1}`)
	}))
	defer s.Close()
	for topic, want := range map[string][]string{
		"":                                   {"/subjects/shop.db.t-value", "/subjects/shop.db.t-key"},
		`, topic: '${! metadata("table") }'`: {"/subjects/t-value", "/subjects/t-key"},
	} {
		f, err := parseFormat(t, "format: avro\nregistry: {urls: ['"+s.URL+"']"+topic+"}\navro: {shape: row, nullability: always, decimals: string, times: string, arrays: string, enums: enum, delete_rows: null}")
		require.NoError(t, err)
		got, ok := f.(*avro.Format)
		require.True(t, ok)
		tab := &change.Table{
			Source: &change.Source{Connector: "mysql", Name: "shop", Format: f}, Database: "db", Name: "t", Key: []int{0},
			Columns: []change.Column{{Name: "id", Logical: change.LogicalInt32}},
		}
		require.NoError(t, change.Prepare(t.Context(), tab))
		assert.Equal(t, want, asked)
		asked = nil
		got.Registry, got.Topic = nil, nil
		assert.Equal(t, &avro.Format{
			Shaping: confluent.Shaping{Shape: confluent.ShapeRow, Deletes: confluent.DeleteNull, Tombstones: true}, Naming: confluent.Naming{Subject: confluent.SubjectTopic}, Optional: true, DecimalText: true, TimeText: true, ArrayText: true, Enums: true,
			Placeholder: debezium.DefaultPlaceholder,
		}, got)
	}
	f, err := parseFormat(t, "format: avro\nregistry: {urls: ['"+s.URL+`'], topic: '${! metadata("operation") }'}`)
	require.NoError(t, err)
	err = change.Prepare(t.Context(), &change.Table{Source: &change.Source{Format: f}, Database: "db", Name: "t", Columns: make([]change.Column, 1)})
	assert.EqualError(t, err, "the schema of table db.t: registry.topic is empty for it: it may use the metadata source, database, schema_name and table")
}
