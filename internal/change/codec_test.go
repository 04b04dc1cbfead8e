package change

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A message that is one of several of its change is kept as what it is.
func TestPartsAreKept(t *testing.T) {
	src := &Source{Connector: "mysql", Name: "shop"}
	table := &Table{Source: src, Database: "shop", Name: "orders", Columns: []Column{{Name: "id", Logical: LogicalInt32}}, Key: []int{0}}
	whole := &Event{Op: Update, Table: table, Origin: &Origin{Tx: &Tx{Position: "tx"}}, Index: 3, Images: ImagesOf([]Value{IntValue(1)}, []Value{IntValue(2)})}
	var parts Parts
	tombstone := parts.Next(whole, 1)
	tombstone.Op, tombstone.Tombstone, tombstone.Headers = Delete, true, []Header{{Name: "newkey", Value: []byte(`{"id":2}`)}}
	NewMessage(tombstone, nil, []byte(`{"id":1}`))
	data, err := tombstone.Marshal(nil)
	require.NoError(t, err)
	saved, err := Unmarshal(data)
	require.NoError(t, err)
	m := NewMessage(saved.Event, saved.Payload, saved.Key)
	payload, err := m.AsBytes()
	require.NoError(t, err)
	assert.Nil(t, payload)
	ev, ok := FromMessage(m)
	require.True(t, ok)
	assert.Equal(t, "tx:3-1", string(ev.AppendID(nil)))
	assert.True(t, ev.Tombstone)
	assert.Equal(t, tombstone.Headers, ev.Headers)
	assert.Equal(t, `{"id":1}`, string(ev.Key()))
	key, _ := m.MetaGet("newkey")
	assert.Equal(t, `{"id":2}`, key)
}
