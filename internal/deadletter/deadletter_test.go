package deadletter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func opened(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dlq.db")
	s, err := Open(t.Context(), path, true)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s, path
}

func entry(id string, size int) Entry {
	return Entry{Source: "shop", Table: "shop.orders", Op: "c", EventID: id, Kind: "too_large", Error: "too large: " + id, Payload: make([]byte, size)}
}

func ids(t *testing.T, s *Store) (all []string) {
	t.Helper()
	list, err := s.List(t.Context(), Filter{}, false)
	require.NoError(t, err)
	for _, e := range list {
		all = append(all, e.EventID)
	}
	return all
}

// Entries keep the order in which they first came, and an event has one entry.
func TestKeep(t *testing.T) {
	s, path := opened(t)
	ctx, now := t.Context(), time.UnixMilli(1_700_000_000_000).UTC()
	_, err := s.Keep(ctx, "p", []Entry{entry("a", 1), entry("b", 1)}, Limits{}, now)
	require.NoError(t, err)
	again := entry("a", 2)
	again.Kind, again.Error, again.Metadata = "routing", "no such topic", map[string]string{"k": "v"}
	_, err = s.Keep(ctx, "p", []Entry{entry("c", 1), again}, Limits{}, now.Add(time.Minute))
	require.NoError(t, err)
	_, err = s.Keep(ctx, "other", []Entry{entry("a", 1)}, Limits{}, now)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c", "a"}, ids(t, s))
	got, err := s.Get(ctx, 1)
	require.NoError(t, err)
	again.ID, again.Pipeline, again.Attempts, again.FirstAt, again.LastAt = 1, "p", 2, now, now.Add(time.Minute)
	again.Bytes = int64(2 + len(`{"k":"v"}`) + len(again.Error))
	assert.Equal(t, again, got)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// A message without an id of its own is an entry each time.
	_, err = s.Keep(ctx, "p", []Entry{entry("", 1), entry("", 1)}, Limits{}, now)
	require.NoError(t, err)
	assert.Len(t, ids(t, s), 6)
	_, err = s.Get(ctx, 99)
	require.ErrorIs(t, err, ErrNotFound)

	// A replayed entry that has come back meanwhile stays.
	stale := got
	stale.Attempts = 1
	fresh, err := s.Get(ctx, 2)
	require.NoError(t, err)
	removed, err := s.Delivered(ctx, []Entry{stale, fresh})
	require.NoError(t, err)
	assert.Equal(t, 1, removed)
	pipeline := "p"
	n, err := s.Purge(ctx, Filter{Pipeline: &pipeline, Kind: "routing"})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, []string{"c", "a", "", ""}, ids(t, s))
	list, err := s.List(ctx, Filter{}, false)
	require.NoError(t, err)
	n, err = s.Purge(ctx, Filter{IDs: []int64{list[1].ID, list[2].ID}})
	require.NoError(t, err)
	assert.Equal(t, 2, n)
}

// A full store refuses all of a batch, or makes room by dropping the oldest.
func TestBounds(t *testing.T) {
	s, _ := opened(t)
	ctx, now := t.Context(), time.Now()
	l := Limits{Count: 3}
	keep := func(l Limits, at time.Time, entries ...Entry) (Evicted, error) {
		return s.Keep(ctx, "p", entries, l, at)
	}
	_, err := keep(l, now, entry("a", 1), entry("b", 1), entry("c", 1))
	require.NoError(t, err)
	_, err = keep(l, now, entry("d", 1))
	require.ErrorIs(t, err, ErrFull)
	assert.ErrorContains(t, err, "3 entries of the pipeline; see them with `deltaforge dlq list`")
	assert.Equal(t, []string{"a", "b", "c"}, ids(t, s))
	_, err = keep(l, now, entry("b", 1))
	require.NoError(t, err, "it takes no room of its own")
	_, err = s.Keep(ctx, "other", []Entry{entry("x", 1)}, l, now)
	require.NoError(t, err, "each pipeline has its own bound")

	l.DropOldest = true
	out, err := keep(l, now, entry("d", 1), entry("e", 1))
	require.NoError(t, err)
	assert.Equal(t, Evicted{Full: 2}, out)
	assert.Equal(t, []string{"c", "x", "d", "e"}, ids(t, s))
	out, err = keep(Limits{Bytes: 455, DropOldest: true}, now, entry("f", 400))
	require.NoError(t, err)
	assert.Equal(t, Evicted{Full: 1}, out, "what is dropped is as much as is needed")
	_, err = keep(Limits{Bytes: 500}, now, entry("g", 600))
	require.ErrorIs(t, err, ErrFull)
	assert.ErrorContains(t, err, "500 bytes")

	out, err = keep(Limits{Age: time.Hour}, now.Add(2*time.Hour), entry("h", 1))
	require.NoError(t, err)
	assert.Equal(t, Evicted{Age: 3}, out)
	assert.Equal(t, []string{"x", "h"}, ids(t, s))
	n, out, err := s.Count(ctx, "p", Limits{Age: time.Hour}, now.Add(4*time.Hour))
	require.NoError(t, err)
	assert.Equal(t, Evicted{Age: 1}, out)
	assert.Equal(t, Numbers{}, n)
}

// Two users of a file in one process share it, and it is closed with the last one.
func TestShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dlq.db")
	_, err := Open(t.Context(), path, false)
	require.ErrorIs(t, err, os.ErrNotExist)
	a, err := Open(t.Context(), path, true)
	require.NoError(t, err)
	b, err := Open(t.Context(), path, false)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i, s := range []*Store{a, b} {
		wg.Go(func() {
			for n := range 20 {
				_, err := s.Keep(t.Context(), "p", []Entry{entry(fmt.Sprint(i, n), 1)}, Limits{}, time.Now())
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, a.Close())
	assert.Len(t, ids(t, b), 40)
	require.NoError(t, b.Close())
	_, err = b.List(t.Context(), Filter{}, false)
	require.Error(t, err)
}

func event() *change.Event {
	tab := &change.Table{
		Source:   &change.Source{Connector: "mysql", Name: "shop", Tenant: "acme", Version: "1", Format: envelope.Native{}},
		Database: "shop", Name: "orders", Key: []int{0},
		Columns: []change.Column{
			{Name: "id", Type: "bigint unsigned", Logical: change.LogicalUint64},
			{Name: "x", Type: "blob", Logical: change.LogicalBytes, Nullable: true},
			{Name: "o", Type: "json", Logical: change.LogicalJSON, Parts: []change.Column{{Name: "p"}}},
			{Name: "f", Type: "float", Logical: change.LogicalFloat32},
			{Name: "u"},
		},
	}
	at := time.UnixMicro(1_700_000_000_123_456).UTC()
	return &change.Event{
		Op: change.Update, Table: tab, Index: 3, Pos: 77, Row: 2,
		Origin: &change.Origin{
			Tx: &change.Tx{ID: "g:1", Position: "g:1", CommitTime: at, ServerID: 5, GTID: "g:1", File: "b.1", Pos: 9}, ReadAt: at.Add(time.Second),
			Snapshot: change.SnapshotFalse, File: "b.1",
		},
		Images: change.ImagesOf([]change.Value{change.UintValue(1<<64 - 1), change.NullValue(), {}, change.Float32Value(3.3), change.UnavailableValue()},
			[]change.Value{change.UintValue(1<<64 - 1), change.BytesValue([]byte{0, 255}), change.JSONValue([]byte(`{"p":1}`)), change.Float32Value(-0.1), change.UnavailableValue()}),
	}
}

// The message of an entry is what was handed in, with the event in it, whatever the pipeline has made of the payload.
func TestMessageComesBack(t *testing.T) {
	m := envelope.AppendMessages(nil, event())[0]
	before, err := m.AsBytes()
	require.NoError(t, err)
	key, _ := m.MetaGet(change.MetaKey)
	m.MetaSetMut("topic", "t")
	m.MetaDelete(change.MetaTable)
	e, err := NewEntry(m, sink.Errorf(sink.TooLarge, "no"))
	require.NoError(t, err)
	assert.Equal(t, "too_large", e.Kind)
	assert.Equal(t, []string{"shop", "shop.orders", "u", "g:1:3", "g:1"}, []string{e.Source, e.Table, e.Op, e.EventID, e.Position})

	s, _ := opened(t)
	_, err = s.Keep(t.Context(), "", []Entry{e}, Limits{}, time.Now())
	require.NoError(t, err)
	e, err = s.Get(t.Context(), 1)
	require.NoError(t, err)
	back, err := e.Message(true)
	require.NoError(t, err)
	got, err := back.AsBytes()
	require.NoError(t, err)
	assert.JSONEq(t, string(before), string(got))
	want, have := map[string]string{}, map[string]string{}
	for m, into := range map[*service.Message]map[string]string{m: want, back: have} {
		require.NoError(t, m.MetaWalk(func(k, v string) error { into[k] = v; return nil }))
	}
	assert.Equal(t, want, have)
	assert.Equal(t, key, have[change.MetaKey])
	ev, ok := change.FromMessage(back)
	require.True(t, ok)
	assert.Equal(t, event().Before(), ev.Before())
	assert.Equal(t, event().After(), ev.After())
	again := envelope.AppendMessages(nil, ev)[0]
	text, err := again.AsBytes()
	require.NoError(t, err)
	assert.Equal(t, string(before), string(text), "the event is whole")

	m.SetBytes([]byte("mapped"))
	e, err = NewEntry(m, errors.New("broker says no (kind=routing)"))
	require.NoError(t, err)
	assert.Equal(t, "routing", e.Kind)
	back, err = e.Message(true)
	require.NoError(t, err)
	got, err = back.AsBytes()
	require.NoError(t, err)
	assert.Equal(t, "mapped", string(got))
}

// In another format, the payload comes back as it was. Processors could not make it again, and do not get it.
func TestFormatIsNotKept(t *testing.T) {
	ev := event()
	ev.Table.Source.Format = envelope.Row{Deletes: envelope.DeleteKeep}
	m := envelope.AppendMessages(nil, ev)[0]
	want, err := m.AsBytes()
	require.NoError(t, err)
	e, err := NewEntry(m, errors.New("no"))
	require.NoError(t, err)
	back, err := e.Message(false)
	require.NoError(t, err)
	got, err := back.AsBytes()
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
	_, err = e.Message(true)
	require.ErrorContains(t, err, "replay it without --processors")
}

// A key that is no text, as in Avro, comes back byte by byte.
func TestBinaryComesBack(t *testing.T) {
	m := service.NewMessage([]byte{0, 0xff})
	m.MetaSetMut(change.MetaKey, "\x00\x00\x00\x00\x01\xfe")
	m.MetaSetMut("text", "ä")
	e, err := NewEntry(m, errors.New("no"))
	require.NoError(t, err)
	s, _ := opened(t)
	_, err = s.Keep(t.Context(), "", []Entry{e}, Limits{}, time.Now())
	require.NoError(t, err)
	got, err := s.Get(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{change.MetaKey: "\x00\x00\x00\x00\x01\xfe", "text": "ä"}, got.Metadata)
	assert.Equal(t, []byte{0, 0xff}, got.Payload)
}

// A message of another source has no event, and comes back all the same.
func TestForeignMessage(t *testing.T) {
	m := service.NewMessage([]byte{1, 0xff})
	m.MetaSetMut("fallback_error", "it was refused (kind=too_large)")
	m.MetaSetMut("event_id", "e")
	e, err := NewEntry(m, Cause(m))
	require.NoError(t, err)
	assert.Equal(t, Entry{
		Kind: "too_large", Error: "it was refused (kind=too_large)", EventID: "e", Payload: []byte{1, 0xff}, Metadata: map[string]string{"event_id": "e"},
	}, e)
	back, err := e.Message(true)
	require.NoError(t, err)
	got, err := back.AsBytes()
	require.NoError(t, err)
	assert.Equal(t, []byte{1, 0xff}, got)

	_, err = change.Unmarshal([]byte(`{"table":null}`))
	require.Error(t, err)
	_, err = change.Unmarshal([]byte(`{"table":{"Source":{},"Columns":[{}]},"after":[]}`))
	require.ErrorContains(t, err, "0 values for 1 columns")
}

// An output has dead letters where they are asked for, and not by their defaults.
func TestConfig(t *testing.T) {
	spec := service.NewConfigSpec().Field(Field())
	for text, want := range map[string]*Config{
		"{}":              nil,
		"dead_letter: {}": {Path: DefaultPath, Limits: Limits{Count: 100_000, Bytes: 1 << 30}},
		"dead_letter: {path: x/../y.db, max_count: 0, max_bytes: 5, max_age: 2h, when_full: drop_oldest}": {
			Path: "y.db", Limits: Limits{Bytes: 5, Age: 2 * time.Hour, DropOldest: true},
		},
	} {
		p, err := spec.ParseYAML(text, nil)
		require.NoError(t, err)
		got, err := Of(p)
		require.NoError(t, err)
		assert.Equal(t, want, got, text)
	}
	for text, want := range map[string]string{
		"path: ''": "path: wants the name of a file", "max_count: -1": "max_count: -1 is below 0", "max_bytes: -2": "max_bytes: -2 is below 0",
		"max_age: 1ms": "max_age: 1ms is shorter than 1s", "when_full: burn": `when_full: "burn" is neither`,
	} {
		p, err := spec.ParseYAML("dead_letter: {"+text+"}", nil)
		require.NoError(t, err)
		_, err = Of(p)
		require.ErrorContains(t, err, want)
	}
}
