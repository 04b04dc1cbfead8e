package jsonschema

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xeipuuv/gojsonschema"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// fake is a registry that numbers what it is asked for.
type fake struct{ subjects, schemas []string }

func (r *fake) ID(_ context.Context, subject, schema string) (int, error) {
	r.subjects, r.schemas = append(r.subjects, subject), append(r.schemas, schema)
	return len(r.schemas), nil
}

func newFormat(row bool) (*Format, *fake) {
	r := &fake{}
	topic := func(t *change.Table) (string, error) { return t.Source.Name + "." + t.FullName(), nil }
	return &Format{Naming: confluent.Naming{Registry: r, Topic: topic, Subject: confluent.SubjectTopic}, Row: row}, r
}

func table() *change.Table {
	return &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop", Version: "v1"}, Database: "db", Name: "t", Key: []int{0},
		Columns: []change.Column{
			{Name: "id", Logical: change.LogicalInt32},
			{Name: "b", Logical: change.LogicalBool, Nullable: true},
			{Name: "u", Logical: change.LogicalUint64, Nullable: true},
			{Name: "q", Logical: change.LogicalInt64, Quoted: true, Nullable: true},
			{Name: "f", Logical: change.LogicalFloat64, Nullable: true},
			{Name: "d", Logical: change.LogicalDecimal, Precision: 5, Scale: 2, Nullable: true},
			{Name: "bin", Logical: change.LogicalBytes, Nullable: true},
			{Name: "j", Logical: change.LogicalJSON, Nullable: true},
			{Name: "a", Logical: change.LogicalArray, Nullable: true},
			{Name: "o", Logical: change.LogicalMap, Nullable: true},
			{Name: "g", Logical: change.LogicalGeometry, Nullable: true},
			{Name: "uuid", Logical: change.LogicalUUID, Nullable: true},
			{Name: "na\"me", Nullable: true},
		},
	}
}

func row(id int64, full bool) []change.Value {
	out := make([]change.Value, 13)
	for i := range out {
		out[i] = change.NullValue()
	}
	if full {
		copy(out[1:], []change.Value{
			change.BoolValue(true), change.UintValue(18446744073709551615), change.DecimalValue([]byte("-9")), change.Float64Value(1.5), change.DecimalValue([]byte("1.50")),
			change.BytesValue([]byte{1}), change.JSONValue([]byte(`{"x":[1]}`)), change.JSONValue([]byte(`[[1],null]`)), change.JSONValue([]byte(`{"k":null}`)),
			change.JSONValue([]byte(`{"wkb":"AQ==","srid":0}`)), change.TextValue([]byte("b01d0e8c-7f6e-4a9b-9a52-1f0b3c0d4e5f")), change.UnavailableValue(),
		})
	}
	out[0] = change.IntValue(id)
	return out
}

func event(t *change.Table, op change.Op, before, after []change.Value) *change.Event {
	tx := &change.Tx{ID: "u:7", GTID: "u:7", Position: "u:7", ServerID: 3, CommitTime: time.UnixMicro(1700000000123456).UTC()}
	return &change.Event{Op: op, Table: t, Origin: &change.Origin{Tx: tx, ReadAt: time.Unix(1700000001, 0), File: "bin.1"}, Index: 4, Images: change.ImagesOf(before, after)}
}

// valid checks that JSON in the wire format has the schema that its number stands for, and returns the JSON.
func (r *fake) valid(t *testing.T, b []byte) string {
	t.Helper()
	require.Greater(t, len(b), 5)
	require.Zero(t, b[0])
	schema := r.schemas[binary.BigEndian.Uint32(b[1:])-1]
	result, err := gojsonschema.Validate(gojsonschema.NewStringLoader(schema), gojsonschema.NewBytesLoader(b[5:]))
	require.NoError(t, err, schema)
	assert.Empty(t, result.Errors(), "%s", b[5:])
	return string(b[5:])
}

// Payloads and keys are the native JSON, have the schema that is registered, and nothing else has it.
func TestFormat(t *testing.T) {
	for _, c := range []struct {
		op            change.Op
		before, after []change.Value
	}{
		{change.Create, nil, row(1, true)},
		{change.Update, row(1, false), row(1, true)},
		{change.Delete, row(1, true), nil},
		{change.Read, nil, row(1, false)},
		{change.Delete, append([]change.Value{change.IntValue(1)}, make([]change.Value, 12)...), nil},
	} {
		for _, flat := range []bool{false, true} {
			f, r := newFormat(flat)
			tab := table()
			require.NoError(t, f.Prepare(t.Context(), tab))
			require.NoError(t, f.Prepare(t.Context(), tab))
			assert.Equal(t, []string{"shop.db.t-value", "shop.db.t-key"}, r.subjects)
			batch, _ := f.NewEncoder().AppendMessages(nil, []byte("before"), event(tab, c.op, c.before, c.after))
			require.Len(t, batch, 1)
			own, _ := change.Own(batch[0])
			var want change.Format = envelope.Native{}
			if flat {
				want = envelope.Row{Deletes: envelope.DeleteKeep}
			}
			native, _ := want.NewEncoder().AppendMessages(nil, nil, event(tab, c.op, c.before, c.after))
			text, err := native[0].AsBytes()
			require.NoError(t, err)
			assert.Equal(t, string(text), r.valid(t, own.Payload()))
			assert.Equal(t, `{"id":1}`, r.valid(t, own.Key()))
		}
	}
	f, r := newFormat(true)
	require.NoError(t, f.Prepare(t.Context(), table()))
	for _, wrong := range []string{`{"id":"1"}`, `{"other":1}`, `{"id":1,"b":1}`, `{"id":null}`, `{"id":1,"bin":"x"}`, `1`} {
		result, err := gojsonschema.Validate(gojsonschema.NewStringLoader(r.schemas[0]), gojsonschema.NewStringLoader(wrong))
		require.NoError(t, err)
		assert.NotEmpty(t, result.Errors(), wrong)
	}
}

func TestSchema(t *testing.T) {
	tab := table().With(table().Columns[:2], []int{0})
	f, r := newFormat(true)
	f.Subject = confluent.SubjectRecord
	require.NoError(t, f.Prepare(t.Context(), tab))
	assert.Equal(t, []string{"shop.db.t.Value", "shop.db.t.Key"}, r.subjects)
	assert.Equal(t, []string{
		schemaHead + `"shop.db.t.Value","type":"object","properties":{"id":{"anyOf":[{"type":"integer"},` + unchanged + `]},"b":{"anyOf":[{"type":"boolean"},{"type":"null"},` + unchanged +
			`]}},"additionalProperties":false}`,
		schemaHead + `"shop.db.t.Key","type":"object","properties":{"id":{"anyOf":[{"type":"integer"}]}},"additionalProperties":false}`,
	}, r.schemas)
}

// What has no schema has no bytes.
func TestNone(t *testing.T) {
	f, _ := newFormat(true)
	tab := table()
	batch, buf := f.NewEncoder().AppendMessages(nil, nil, event(tab, change.Create, nil, row(1, false)))
	require.EqualError(t, batch[0].GetError(), "table db.t: its schema is not registered")
	assert.Empty(t, buf)
	require.NoError(t, f.Prepare(t.Context(), tab))
	batch, _ = f.NewEncoder().AppendMessages(nil, nil, event(tab, change.Schema, nil, nil))
	require.EqualError(t, batch[0].GetError(), "a change of the shape of table db.t: it has no form in the format json_schema: leave schema_changes off, or read it by a source with another format")
	batch, _ = f.NewEncoder().AppendMessages(nil, nil, event(tab, change.Truncate, nil, nil))
	own, _ := change.Own(batch[0])
	assert.True(t, own.Silent)
	keyless := table().With(table().Columns, nil)
	require.NoError(t, f.Prepare(t.Context(), keyless))
	batch, _ = f.NewEncoder().AppendMessages(nil, nil, event(keyless, change.Create, nil, row(1, false)))
	own, _ = change.Own(batch[0])
	assert.Empty(t, own.Key())
}

// The messages of a row cost no more allocations than those of the native format.
func TestAllocations(t *testing.T) {
	f, _ := newFormat(false)
	tab := table()
	require.NoError(t, f.Prepare(t.Context(), tab))
	e, ev := f.NewEncoder(), event(tab, change.Create, nil, row(1, true))
	buf, batch := make([]byte, 0, 4096), make(service.MessageBatch, 0, 1)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { batch, _ = e.AppendMessages(batch[:0], buf, ev) }), 5.0)
}
