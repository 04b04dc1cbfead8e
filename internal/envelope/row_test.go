package envelope

import (
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
)

// told is what a test sees of a message.
type told struct {
	Payload, Key, Operation, ID string
	Null, Silent                bool
}

// tell makes the messages of an event, and makes each again as for another attempt.
func tell(t *testing.T, f change.Format, ev *change.Event) (out []told) {
	t.Helper()
	messages, _ := f.NewEncoder().AppendMessages(nil, []byte("before"), ev)
	for i, m := range messages {
		out = append(out, toldBy(t, m))
		require.Equal(t, out[i], toldBy(t, change.Renew(m)))
	}
	return out
}

func toldBy(t *testing.T, m *service.Message) (x told) {
	t.Helper()
	payload, err := m.AsBytes()
	require.NoError(t, err)
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	x.Payload, x.Null, x.Silent = string(payload), payload == nil, ev.Silent
	x.Key, _ = m.MetaGet(change.MetaKey)
	x.Operation, _ = m.MetaGet(change.MetaOperation)
	x.ID, _ = m.MetaGet(change.MetaEventID)
	return x
}

func TestRow(t *testing.T) {
	const my, pg = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23:1", "0/1A2B3C8:7"
	for name, want := range map[string]told{
		"mysql_update":     {Payload: `{"id":1,"em\"ail":"","f":3.3,"data":{"_base64":"AP8="}}`, Key: `{"id":1}`, Operation: "update", ID: my},
		"mysql_key_change": {Payload: `{"id":2,"em\"ail":"a","f":3.3,"data":{"_base64":"AP8="}}`, Key: `{"id":2}`, Operation: "update", ID: my},
		"mysql_delete":     {Payload: `{"id":1,"em\"ail":"a","f":3.3,"data":{"_base64":"AP8="}}`, Key: `{"id":1}`, Operation: "delete", ID: my},
		"mysql_keyless":    {Payload: `{"id":1,"em\"ail":"a","f":3.3,"data":{"_base64":"AP8="}}`, Operation: "insert", ID: my},
		"mysql_minimal":    {Payload: `{"em\"ail":"b"}`, Key: `{"id":5}`, Operation: "update", ID: my},
		"mysql_truncate":   {Payload: `null`, Operation: "truncate", ID: my},
		"mysql_snapshot":   {Payload: `{"id":1,"em\"ail":"a","f":3.3,"data":{"_base64":"AP8="}}`, Key: `{"id":1}`, Operation: "read", ID: "binlog.000003:4:1"},
		"postgres_update": {
			Payload: `{"id":1,"em\"ail":"a","f":"-Infinity","data":{"_unchanged":true}}`, Key: `{"id":1,"em\"ail":"a"}`, Operation: "update", ID: pg,
		},
		"postgres_message": {Payload: `{"prefix":"audit","content":{"_base64":"aGVsbG8="}}`, Key: `{"prefix":"audit"}`, Operation: "message", ID: pg},
		"mysql_schema_dropped": {
			Payload: "{\"ddl\":\"DROP TABLE `customers`\",\"old\":" + string(appendTable(nil, mysqlTable(0))) + `,"new":null}`,
			Key:     `{"db":"shop","table":"customers"}`, Operation: "schema", ID: my,
		},
	} {
		assert.Equal(t, []told{want}, tell(t, Row{DeleteKeep}, events()[name]), name)
	}
	null := told{Payload: "null", Key: `{"id":1}`, Operation: "delete", ID: my}
	assert.Equal(t, []told{null}, tell(t, Row{DeleteNull}, events()["mysql_delete"]))
	dropped := told{Key: `{"id":1}`, Operation: "delete", ID: my, Silent: true}
	assert.Equal(t, []told{dropped}, tell(t, Row{DeleteDrop}, events()["mysql_delete"]))
}
