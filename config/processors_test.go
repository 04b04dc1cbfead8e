package config_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	_ "github.com/deltaforge/deltaforge"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/format"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

// stream is what the tests read of an example.
type stream struct {
	Pipeline struct {
		Processors []yaml.Node `yaml:"processors"`
	} `yaml:"pipeline"`
	Caches []yaml.Node `yaml:"cache_resources"`
}

// run sends events through the processors of an example. It returns what comes out as "table op id" and payload.
func run(t *testing.T, file string, events ...*change.Event) service.MessageBatch {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("processors", file))
	require.NoError(t, err)
	var s stream
	variable := regexp.MustCompile(`\$\{[A-Z_]+(:[^}]*)?\}`) // the binary puts them in
	require.NoError(t, yaml.Unmarshal(variable.ReplaceAll(text, []byte("salt")), &s))
	var processors, caches []string
	for list, to := range map[*[]yaml.Node]*[]string{&s.Pipeline.Processors: &processors, &s.Caches: &caches} {
		for i := range *list {
			one, err := yaml.Marshal(&(*list)[i])
			require.NoError(t, err)
			*to = append(*to, string(one))
		}
	}
	require.NotEmpty(t, processors)
	return steptest.ThroughWith(t, caches, []service.MessageBatch{steptest.Batch(events...)}, processors...)
}

func orders() *change.Table {
	return steptest.Table("shop", "orders",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64},
		change.Column{Name: "status", Type: "varchar(9)"},
		change.Column{Name: "total", Type: "decimal(10,2)", Logical: change.LogicalDecimal, Precision: 10, Scale: 2},
	)
}

func order(id int64, status, total string) []change.Value {
	return []change.Value{change.IntValue(id), change.TextValue([]byte(status)), change.DecimalValue([]byte(total))}
}

// ids returns the numbers of the events of messages, in their transaction.
func ids(t *testing.T, batch service.MessageBatch) (out []uint64) {
	t.Helper()
	for _, m := range batch {
		assert.NoError(t, m.GetError())
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		out = append(out, ev.Index)
	}
	return out
}

// Every example of a processor has a test here.
func TestEveryExampleIsTested(t *testing.T) {
	files, err := filepath.Glob("processors/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	source, err := os.ReadFile("processors_test.go")
	require.NoError(t, err)
	for _, f := range files {
		assert.Contains(t, string(source), `run(t, "`+filepath.Base(f)+`"`)
	}
}

func TestFilter(t *testing.T) {
	o, table := steptest.Origin(), orders()
	out := run(t, "filter.yaml",
		steptest.Event(o, 1, change.Create, table, nil, order(1, "new", "2000.00")),
		steptest.Event(o, 2, change.Update, table, order(1, "new", "2000.00"), order(1, "paid", "2000.00")),
		steptest.Event(o, 3, change.Create, table, nil, order(2, "paid", "999.99")),
		steptest.Event(o, 4, change.Update, table, order(1, "paid", "2000.00"), order(1, "void", "2000.00")),
		steptest.Event(o, 5, change.Truncate, table, nil, nil),
		steptest.Event(o, 6, change.Delete, table, order(3, "shipped", "1000"), nil),
	)
	assert.Equal(t, []uint64{2, 4, 6}, ids(t, out))
}

func TestColumns(t *testing.T) {
	table := steptest.Table("shop", "customers",
		change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64},
		change.Column{Name: "cust_nm", Type: "text"}, change.Column{Name: "email", Type: "text"}, change.Column{Name: "card", Type: "text"}, change.Column{Name: "password_md5", Type: "text"},
	)
	v := func(s string) change.Value { return change.TextValue([]byte(s)) }
	out := run(t, "columns.yaml", steptest.Event(steptest.Origin(), 1, change.Create, table, nil,
		[]change.Value{change.IntValue(1), v("Ann"), v("ann@example.com"), v("4111111111111234"), v("0cc175b9c0f1")}))
	require.Len(t, out, 1)
	assert.Contains(t, steptest.Payload(t, out[0]), `"after":{"id":1,"name":"Ann","email":"8dbf86487e8fb70c73c4a7e24ece98aa58be0c693f69a36bcc5a098f82b26db8","card":"************1234"},`)
}

func TestRoute(t *testing.T) {
	out := run(t, "route.yaml", steptest.Event(steptest.Origin(), 1, change.Delete, orders(), order(7, "paid", "1.00"), nil))
	require.Len(t, out, 1)
	for key, want := range map[string]string{"topic": "all.orders", "key": `{"shard":"shop","id":7}`, "shard": "shop"} {
		got, _, _ := change.Meta(out[0], key, nil)
		assert.Equal(t, want, string(got))
	}
}

func TestOutbox(t *testing.T) {
	text := func(s string) change.Value { return change.TextValue([]byte(s)) }
	var columns []change.Column
	for _, c := range []string{"id", "aggregatetype", "aggregateid", "type", "payload"} {
		columns = append(columns, change.Column{Name: c, Type: "text"})
	}
	table := steptest.Table("public", "outbox", columns...)
	row := []change.Value{text("e-1"), text("order"), text("7"), text("paid"), text(`{"total":10}`)}
	o := steptest.Origin()
	out := run(t, "outbox.yaml", steptest.Event(o, 1, change.Create, table, nil, row), steptest.Event(o, 2, change.Delete, table, row, nil))
	require.Len(t, out, 1)
	assert.Equal(t, `{"total":10}`, steptest.Payload(t, out[0]))
	for key, want := range map[string]string{"topic": "outbox.event.order", "key": "7", "id": "e-1", "type": "paid", "event_id": "uuid:7:1"} {
		got, _, _ := change.Meta(out[0], key, nil)
		assert.Equal(t, want, string(got))
	}
}

func TestFlatten(t *testing.T) {
	table := steptest.Table("shop", "orders", change.Column{Name: "id", Type: "bigint", Logical: change.LogicalInt64}, change.Column{Name: "attributes", Type: "json", Logical: change.LogicalJSON})
	out := run(t, "flatten.yaml", steptest.Event(steptest.Origin(), 1, change.Create, table, nil,
		[]change.Value{change.IntValue(1), change.JSONValue([]byte(`{"colour":{"name":"red"},"size":42}`))}))
	require.Len(t, out, 1)
	assert.Contains(t, steptest.Payload(t, out[0]), `"after":{"id":1,"attributes_colour_name":"red","attributes_size":42},`)
}

func TestFormat(t *testing.T) {
	o, table := steptest.Origin(), orders()
	out := run(t, "format.yaml", steptest.Event(o, 1, change.Create, table, nil, order(1, "new", "10.00")), steptest.Event(o, 2, change.Delete, table, order(1, "new", "10.00"), nil),
		steptest.Event(o, 3, change.Update, table, order(2, "new", "1.00"), order(2, "paid", "1.00")))
	assert.Equal(t, []uint64{1, 3}, ids(t, out))
	assert.Equal(t, `{"id":1,"status":"new","total":"10.00"}`, steptest.Payload(t, out[0]))
	assert.Equal(t, `{"id":2,"status":"paid","total":"1.00"}`, steptest.Payload(t, out[1]))
}

func TestJavascript(t *testing.T) {
	o, table := steptest.Origin(), orders()
	out := run(t, "javascript.yaml",
		steptest.Event(o, 1, change.Create, table, nil, order(1, "draft", "1.00")),
		steptest.Event(o, 2, change.Create, table, nil, order(2, "paid", "19.99")),
		steptest.Event(o, 3, change.Delete, table, order(2, "paid", "19.99"), nil))
	assert.Equal(t, []uint64{2, 3}, ids(t, out))
	assert.Contains(t, steptest.Payload(t, out[0]), `"after":{"id":2,"status":"paid","total":"19.99","total_cents":1999},`)
}

// The engine's processors work on our events, and each message keeps its own event, whatever was dropped before it.
func TestStock(t *testing.T) {
	o, table := steptest.Origin(), orders()
	out := run(t, "stock.yaml",
		steptest.Event(o, 1, change.Create, table, nil, order(1, "draft", "1.00")),
		steptest.Event(o, 2, change.Create, table, nil, order(2, "paid", "19.99")),
		steptest.Event(o, 3, change.Update, table, order(2, "paid", "19.99"), order(2, "new", "1000.00")),
		steptest.Event(o, 4, change.Delete, table, order(2, "new", "1000.00"), nil),
		steptest.Event(o, 4, change.Delete, table, order(2, "new", "1000.00"), nil)) // again
	assert.Equal(t, []uint64{2, 3, 4}, ids(t, out))
	var got []string
	for _, m := range out {
		v, err := m.AsStructured()
		require.NoError(t, err)
		e := v.(map[string]any)
		topic, _ := m.MetaGet("topic")
		key, _, _ := change.Meta(m, change.MetaKey, nil)
		op, _, _ := change.Meta(m, change.MetaOp, nil)
		after, _ := e["after"].(map[string]any)
		got = append(got, fmt.Sprint(topic, " ", string(key), " ", string(op), " ", e["label"], " ", after["total_cents"], " ", after["status_name"]))
	}
	assert.Equal(t, []string{`orders {"id":2} c there 1999 Paid in full`, `orders.large {"id":2} u there 100000 unknown`, `orders {"id":2} d gone <nil> <nil>`}, got)
}

// With every format, each message keeps its event and its payload through the engine's processors.
func TestStockAnyFormat(t *testing.T) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.Error(w, `{"error_code":40401}`, http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, `{"id":1}`)
	}))
	defer registry.Close()
	const insert, update, gone = `insert uuid:7:1 sales ann there orders`, `update uuid:7:2 sales ann there orders`, `delete uuid:7:4 sales ann gone orders.gone`
	tombstone := strings.Replace(gone, ":4", ":4-1", 1)
	for name, want := range map[string][]string{
		"native":      {insert, update, gone},
		"row":         {insert, update, gone},
		"debezium":    {insert, update, gone, tombstone},
		"cloudevents": {insert, update, gone},
		"avro":        {insert, update, gone, tombstone},
		"protobuf":    {insert, update, gone, tombstone},
		"json_schema": {insert, update, gone},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := service.NewConfigSpec().Fields(format.Fields()...).ParseYAML(fmt.Sprintf("format: %s\nregistry: {urls: [%q]}", name, registry.URL), nil)
			require.NoError(t, err)
			f, err := format.Parse(conf, service.MockResources())
			require.NoError(t, err)
			o, table := steptest.Origin(), steptest.With(orders(), f)
			require.NoError(t, change.Prepare(t.Context(), table))
			events := []*change.Event{
				steptest.Event(o, 1, change.Create, table, nil, order(1, "paid", "19.99")),
				steptest.Event(o, 2, change.Update, table, order(1, "paid", "19.99"), order(1, "new", "1000.00")),
				steptest.Event(o, 2, change.Update, table, order(1, "paid", "19.99"), order(1, "new", "1000.00")), // again
				steptest.Event(o, 3, change.Truncate, table, nil, nil),
				steptest.Event(o, 4, change.Delete, table, order(1, "new", "1000.00"), nil),
			}
			payloads := map[string]string{}
			for _, m := range steptest.Batch(events...) {
				id, _ := m.MetaGet(change.MetaEventID)
				payloads[id] = steptest.Payload(t, m)
			}
			var got []string
			for _, m := range run(t, "stock-any-format.yaml", events...) {
				require.NoError(t, m.GetError())
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				text := ev.Op.Name()
				for _, key := range []string{change.MetaEventID, "team", "owner", "kind", "topic"} {
					v, _, _ := change.Meta(m, key, nil)
					text += " " + string(v)
				}
				got = append(got, text)
				if want := payloads[string(ev.AppendID(nil))]; json.Valid([]byte(want)) {
					assert.JSONEq(t, want, steptest.Payload(t, m)) // workflow sorts the names
				} else {
					assert.Equal(t, want, steptest.Payload(t, m))
				}
			}
			assert.Equal(t, want, got)
		})
	}
}

// rowsNow are the rows that a table holds now, by the number that is their key.
type rowsNow map[int64][]change.Value

func (r rowsNow) OpenRows() change.RowReader { return r }
func (rowsNow) Close()                       {}

func (r rowsNow) ReadRows(_ context.Context, t *change.Table, _ []*change.Event, keys [][]change.Value, add func(*change.Table, []change.Value, error)) error {
	for _, key := range keys {
		if row := r[key[0].Int()]; row != nil {
			add(t, row, nil)
		}
	}
	return nil
}

func TestReselect(t *testing.T) {
	o, table := steptest.Origin(), orders()
	now := rowsNow{1: order(1, "paid", "2000.00")}
	table.Source.Rows = &now
	lacks := func(id int64) []change.Value {
		return []change.Value{change.IntValue(id), change.UnavailableValue(), change.DecimalValue([]byte("2000.00"))}
	}
	out := run(t, "reselect.yaml", steptest.Event(o, 1, change.Update, table, nil, lacks(1)), steptest.Event(o, 2, change.Update, table, nil, lacks(2)),
		steptest.Event(o, 3, change.Delete, table, order(2, "new", "2000.00"), nil))
	assert.Equal(t, []uint64{1, 3}, ids(t, out))
	assert.Contains(t, steptest.Payload(t, out[0]), `"after":{"id":1,"status":"paid","total":"2000.00"},`)
}
