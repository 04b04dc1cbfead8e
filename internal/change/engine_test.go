package change

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEngineKnown(t *testing.T) {
	assert.True(t, engineKnown(), "the engine's message has changed: see engine.go")

	type otherName struct {
		part *enginePart
		err  func(err error)
	}
	type otherOrder struct {
		onErr func(err error)
		part  *enginePart
	}
	type more struct {
		part  *enginePart
		onErr func(err error)
		_     int
	}
	type deeper struct {
		part  *struct{ data, ctx *int }
		onErr func(err error)
	}
	for _, other := range []reflect.Type{
		reflect.TypeFor[otherName](), reflect.TypeFor[otherOrder](), reflect.TypeFor[more](), reflect.TypeFor[deeper](),
	} {
		assert.False(t, sameLayout(reflect.TypeFor[service.Message](), other), other)
	}
	assert.False(t, sameLayout(reflect.TypeFor[map[string]engineValue](), reflect.TypeFor[map[string]any]()))
}

// A message that is laid out by us is the one that the engine would have made.
func TestMakerAgreesWithTheEngine(t *testing.T) {
	src := &Source{Connector: "mysql", Name: "orders", Version: "1"}
	keyed := &Table{Source: src, Database: "shop", Name: "orders", Columns: []Column{{Name: "id"}, {Name: "x"}}, Key: []int{0}}
	bare := &Table{Source: src, Database: "shop", Schema: "public", Name: "log", Columns: []Column{{Name: "x"}}}
	txs := []*Tx{
		{ID: "a:1", Position: "a:1", CommitTime: time.UnixMilli(1700000000123)},
		{Position: "bin.1:4", CommitTime: time.UnixMilli(1700000000124)},
	}
	var events []*Event
	for _, tx := range txs {
		for _, table := range []*Table{keyed, bare} {
			for _, op := range []Op{Create, Update, Delete, Read, Truncate, Message, 'x'} {
				for _, snapshot := range []Snapshot{"", SnapshotFalse, SnapshotTrue} {
					origin := &Origin{Tx: tx, Snapshot: snapshot}
					for range 3 { // the later ones are made after the first
						events = append(events, &Event{Op: op, Table: table, Origin: origin, Index: uint64(len(events))})
					}
				}
			}
		}
	}
	ours, engines := Maker{}, Maker{public: true}
	var messages, wanted service.MessageBatch
	for i, ev := range events {
		payload, key := fmt.Appendf(nil, `{"n":%d}`, i), []byte(nil)
		if len(ev.Table.Key) > 0 && i%5 != 0 {
			key = fmt.Appendf(nil, `{"id":%d}`, i)
		}
		a, b := *ev, *ev
		messages = append(messages, ours.Message(&a, payload, key))
		wanted = append(wanted, engines.Message(&b, payload, key))
	}
	// Changing one, or a copy of it, changes no other.
	for i, m := range messages {
		requireSame(t, wanted[i], m)
		c := m.Copy()
		c.MetaSetMut(MetaTable, "changed")
		c.SetBytes([]byte("changed"))
		c.SetError(errors.New("changed"))
		requireSame(t, wanted[i], m)
		m.MetaSetMut(MetaSource, "changed")
		m.MetaDelete(MetaPosition)
		m.SetError(errors.New("changed"))
		m.SetStructuredMut(map[string]any{"changed": true})
		requireSame(t, wanted[i], Renew(m))
	}
}

func requireSame(t *testing.T, want, got *service.Message) {
	t.Helper()
	metadata := func(m *service.Message) map[string]any {
		all := map[string]any{}
		require.NoError(t, m.MetaWalkMut(func(k string, v any) error { all[k] = v; return nil }))
		return all
	}
	require.Equal(t, metadata(want), metadata(got))
	a, err := want.AsBytes()
	require.NoError(t, err)
	b, err := got.AsBytes()
	require.NoError(t, err)
	require.Equal(t, string(a), string(b))
	require.Equal(t, want.GetError(), got.GetError())
	v, err := got.AsStructured()
	require.NoError(t, err)
	require.IsType(t, map[string]any{}, v)
	x, ok := FromMessage(want)
	require.True(t, ok)
	y, ok := FromMessage(got)
	require.True(t, ok)
	require.Equal(t, x.Index, y.Index)
	require.Equal(t, x.Table, y.Table)
}
