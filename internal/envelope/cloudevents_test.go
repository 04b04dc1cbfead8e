package envelope

import (
	"encoding/json"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
)

func cloudEvent(op change.Op, connector, source string) *change.Event {
	t := &change.Table{
		Source: &change.Source{Connector: connector, Name: source, Version: "v1"}, Database: "db", Name: "t", Key: []int{0},
		Columns: []change.Column{{Name: "id", Type: "int", Logical: change.LogicalInt32}, {Name: "v", Type: "text", Nullable: true}},
	}
	if connector == "postgresql" {
		t.Schema = "public"
	}
	tx := &change.Tx{ID: "u:7", GTID: "u:7", Position: "u:7", ServerID: 3, CommitTime: time.UnixMicro(1700000000123456).UTC()}
	ev := &change.Event{Op: op, Table: t, Origin: &change.Origin{Tx: tx, ReadAt: time.Unix(1700000001, 0), File: "bin.1"}, Index: 4}
	row := []change.Value{change.IntValue(1), change.TextValue([]byte("ä"))}
	switch op {
	case change.Delete:
		ev.Images = change.ImagesOf(row, nil)
	case change.Truncate:
	case change.Schema:
		ev.Change = &change.SchemaChange{DDL: "ALTER", Old: t, New: t}
	default:
		ev.Images = change.ImagesOf(nil, row)
	}
	return ev
}

// cloud makes the message of an event, and returns its payload, key and headers.
func cloud(t *testing.T, f *CloudEvents, ev *change.Event) (payload, key string, headers map[string]string) {
	t.Helper()
	batch, _ := f.NewEncoder().AppendMessages(nil, []byte("before"), ev)
	require.Len(t, batch, 1)
	own, ok := change.FromMessage(batch[0])
	require.True(t, ok)
	assert.Same(t, ev, own.Whole())
	assert.Empty(t, ev.Headers, "the change has none: another format would send them")
	headers = map[string]string{}
	for _, h := range own.Headers {
		headers[h.Name] = string(h.Value)
		v, _ := batch[0].MetaGet(h.Name)
		assert.Equal(t, string(h.Value), v)
	}
	return string(own.Payload()), string(own.Key()), headers
}

func TestCloudEvents(t *testing.T) {
	binary := map[string]string{
		"content-type": "application/json", "ce_specversion": "1.0", "ce_id": "u:7:4", "ce_source": "/deltaforge/mysql/my%20shop", "ce_type": "io.deltaforge.change.insert",
		"ce_subject": "db.t", "ce_time": "2023-11-14T22:13:20.123456Z",
	}
	structured := map[string]string{"content-type": "application/cloudevents+json; charset=UTF-8"}
	native, _ := Native{}.NewEncoder().AppendMessages(nil, nil, cloudEvent(change.Create, "mysql", "my shop"))
	whole, err := native[0].AsBytes()
	require.NoError(t, err)
	const attributes = `{"specversion":"1.0","id":"u:7:4","source":"/deltaforge/mysql/my%20shop","type":"io.deltaforge.change.insert","subject":"db.t","time":"2023-11-14T22:13:20.123456Z",` +
		`"datacontenttype":"application/json","data":`
	for _, c := range []struct {
		format  *CloudEvents
		payload string
		headers map[string]string
	}{
		{&CloudEvents{}, attributes + string(whole) + "}", structured},
		{&CloudEvents{Row: true}, attributes + `{"id":1,"v":"ä"}}`, structured},
		{&CloudEvents{Binary: true}, string(whole), binary},
		{&CloudEvents{Binary: true, Row: true}, `{"id":1,"v":"ä"}`, binary},
	} {
		payload, key, headers := cloud(t, c.format, cloudEvent(change.Create, "mysql", "my shop"))
		assert.Equal(t, c.payload, payload)
		assert.Equal(t, `{"id":1}`, key)
		assert.Equal(t, c.headers, headers)
	}
}

// conformant checks the attributes of an event by the rules of CloudEvents 1.0.
func conformant(t *testing.T, attributes map[string]string) {
	t.Helper()
	name := regexp.MustCompile(`^[a-z0-9]{1,20}$`)
	for k, v := range attributes {
		assert.Regexp(t, name, k, "attributes have letters and digits")
		assert.NotEmpty(t, v, k)
		assert.NotContains(t, v, "\x00", k)
	}
	assert.Equal(t, "1.0", attributes["specversion"])
	for _, required := range []string{"id", "source", "type"} {
		assert.NotEmpty(t, attributes[required], required)
	}
	_, err := url.Parse(attributes["source"])
	require.NoError(t, err, "source is a URI reference")
	assert.NotContains(t, attributes["source"], " ")
	_, err = time.Parse(time.RFC3339Nano, attributes["time"])
	require.NoError(t, err, "time is RFC 3339")
	if content, ok := attributes["datacontenttype"]; ok {
		_, _, err := mime.ParseMediaType(content)
		require.NoError(t, err, "datacontenttype is a media type")
	}
}

// TestCloudEventsConformance checks every operation of both connectors, in both modes, by the rules of the core specification, the JSON format and the
// Kafka protocol binding.
func TestCloudEventsConformance(t *testing.T) {
	ids := map[string]bool{}
	for _, connector := range []string{"mysql", "postgresql"} {
		for _, op := range []change.Op{change.Create, change.Update, change.Delete, change.Read, change.Truncate, change.Message, change.Schema} {
			for _, row := range []bool{false, true} {
				name := "shop \"ä\" " + string(op)
				payload, _, headers := cloud(t, &CloudEvents{Row: row}, cloudEvent(op, connector, name))
				media, params, err := mime.ParseMediaType(headers["content-type"])
				require.NoError(t, err)
				assert.Equal(t, "application/cloudevents+json", media, "a consumer tells the mode by it")
				assert.Equal(t, map[string]string{"charset": "UTF-8"}, params)
				assert.Len(t, headers, 1, "no attribute is a header in structured mode")
				var event map[string]json.RawMessage
				require.NoError(t, json.Unmarshal([]byte(payload), &event))
				data := event["data"]
				assert.NotEmpty(t, data)
				assert.NotContains(t, event, "data_base64", "data has one form")
				delete(event, "data")
				attributes := map[string]string{}
				for k, v := range event {
					var s string
					require.NoError(t, json.Unmarshal(v, &s), "attributes are strings")
					attributes[k] = s
				}
				conformant(t, attributes)
				if !row {
					ids[attributes["source"]+" "+attributes["id"]] = true
				}

				payload, _, headers = cloud(t, &CloudEvents{Row: row, Binary: true}, cloudEvent(op, connector, name))
				assert.Equal(t, string(data), payload, "the payload is the data")
				again := map[string]string{"datacontenttype": headers["content-type"]}
				delete(headers, "content-type")
				for k, v := range headers {
					k, ok := strings.CutPrefix(k, "ce_")
					assert.True(t, ok, "attributes have the prefix ce_")
					again[k] = v
				}
				conformant(t, again)
				assert.Equal(t, attributes, again, "both modes say the same")
			}
		}
	}
	assert.Len(t, ids, 14, "source and id tell events apart")
}

// A row costs no more allocations in structured mode than in the native format.
func TestCloudEventsAllocations(t *testing.T) {
	for f, most := range map[*CloudEvents]float64{{}: 7, {Binary: true}: 24} {
		e, ev := f.NewEncoder(), cloudEvent(change.Create, "mysql", "shop")
		buf, batch := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1)
		assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { batch, _ = e.AppendMessages(batch[:0], buf, ev) }), most, "%+v", f)
	}
}
