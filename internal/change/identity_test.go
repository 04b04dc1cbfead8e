package change_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

// through sends a batch through processors of the engine and returns what comes out.
func through(t *testing.T, batch service.MessageBatch, processors ...string) service.MessageBatch {
	t.Helper()
	return steptest.Through(t, []service.MessageBatch{batch}, processors...)
}

func numbered(n int, keys ...string) service.MessageBatch {
	src := &change.Source{Name: "shop"}
	if keys != nil {
		src.Metadata, _ = change.ParseMetadata(keys)
	}
	table := &change.Table{Source: src, Name: "orders"}
	origin := &change.Origin{Tx: &change.Tx{Position: "p"}}
	batch := make(service.MessageBatch, n)
	for i := range n {
		batch[i] = change.NewMessage(&change.Event{Op: change.Create, Table: table, Origin: origin, Index: uint64(i)}, fmt.Appendf(nil, `{"n":%d}`, i), nil)
	}
	steptest.Keep(batch)
	return batch
}

// The engine gives what comes out of a processor of batches the contexts of what went in, by place.
func TestEventGoesWithItsMessage(t *testing.T) {
	const drop, edit = `mapping: 'root = if this.n % 3 == 0 { deleted() }'`, `mapping: 'root.n = this.n'`
	for name, c := range map[string]struct {
		keys  []string // of the source; nil for the default
		steps []string
		n     int
	}{
		"nothing dropped":          {nil, []string{edit}, 10},
		"dropped":                  {nil, []string{drop}, 10},
		"dropped twice":            {nil, []string{drop, `mapping: 'root = if this.n == 4 { deleted() }'`}, 10},
		"dropped and changed":      {nil, []string{drop, edit}, 10},
		"no metadata":              {[]string{}, []string{drop}, 1000},
		"no metadata, most of it":  {[]string{}, []string{`mapping: 'root = if this.n % 200 != 199 { deleted() }'`}, 1000},
		"no metadata, other order": {[]string{}, []string{`group_by_value: { value: '${! json("n") % 7 }' }`}, 1000},
		"id of the user":           {nil, []string{drop, `mapping: 'meta event_id = "mine"'`}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			out := through(t, numbered(c.n, c.keys...), c.steps...)
			require.NotEmpty(t, out)
			for _, m := range out {
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				payload, err := m.AsBytes()
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf(`{"n":%d}`, ev.Index), string(payload))
				require.NoError(t, change.Untold(m))
			}
		})
	}
	for _, m := range through(t, numbered(10, change.MetaTable), drop, edit) {
		_, ok := change.FromMessage(m)
		assert.False(t, ok)
		assert.ErrorIs(t, change.Untold(m), change.ErrUntold)
	}
	for _, m := range through(t, numbered(2), "mapping: |\n  root = {}\n  meta = {}") {
		_, ok := change.FromMessage(m)
		assert.False(t, ok, "a message that a processor has made")
		assert.NoError(t, change.Untold(m))
	}
	// What has no payload is told by its metadata.
	src := &change.Source{}
	src.Metadata, _ = change.ParseMetadata([]string{})
	table := &change.Table{Source: src}
	batch := service.MessageBatch{}
	for i := range 5 {
		batch = append(batch, change.NewMessage(&change.Event{Table: table, Origin: &change.Origin{Tx: &change.Tx{}}, Index: uint64(i)}, nil, nil))
	}
	steptest.Keep(batch)
	for _, m := range through(t, batch, `mapping: 'root = if @event_id == ":0" { deleted() }'`) {
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		id, _ := m.MetaGet(change.MetaEventID)
		assert.Equal(t, string(ev.AppendID(nil)), id)
	}
}

// What a processor of ours makes of an event is found wherever its message is, and the source still finds its own.
func TestReplace(t *testing.T) {
	for name, keys := range map[string][]string{"default": nil, "none": {}, "all": change.MetadataKeys()} {
		t.Run(name, func(t *testing.T) {
			batch := numbered(4, keys...)
			out := make(service.MessageBatch, 0, 3)
			for i, m := range batch[1:] {
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				if i == 1 {
					m = m.Copy()
					m.MetaSetMut(change.MetaEventID, "of the user")
				}
				d := ev.Derive()
				d.Table = &change.Table{Source: ev.Table.Source, Name: ev.Table.Name, Columns: []change.Column{{Name: "only"}}}
				if i == 2 { // twice
					m, d = change.Replace(m, change.NewMessage(d, []byte("x"), []byte("k"))), d.Derive()
				}
				out = append(out, change.Replace(m, change.NewMessage(d, fmt.Appendf(nil, `{"derived":%d}`, d.Index), fmt.Appendf(nil, "key %d", d.Index))))
			}
			for i, m := range through(t, out, `mapping: 'root.derived = this.derived'`) {
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				own, _ := change.Own(batch[i+1])
				assert.Same(t, own, ev.Root())
				assert.NotSame(t, own, ev)
				key, _, ok := change.Meta(m, change.MetaKey, nil)
				assert.True(t, ok)
				assert.Equal(t, fmt.Sprintf("key %d", i+1), string(key))
				id, _, _ := change.Meta(m, change.MetaEventID, nil)
				want := fmt.Sprintf("p:%d", i+1)
				if i == 1 {
					want = "of the user"
				}
				assert.Equal(t, want, string(id))
				if v, ok := m.MetaGetMut(change.MetaSchema); ok {
					assert.Contains(t, fmt.Sprint(v), "only")
				}
				again := change.Renew(batch[i+1])
				payload, err := again.AsBytes()
				require.NoError(t, err)
				assert.True(t, strings.HasPrefix(string(payload), `{"n":`), "the source's own is what it was")
			}
		})
	}
}

// Events that were decoded together lie in one piece of memory, and are handed out with others. What is handed out later does not keep what was
// handed out before.
func TestSiblingsAreLetGo(t *testing.T) {
	batch := numbered(10)
	first := weak.Make(change.NewSiblings(batch[:6]))
	second := change.NewSiblings(batch[6:])
	runtime.GC()
	assert.Nil(t, first.Value())
	runtime.KeepAlive(second)
	runtime.KeepAlive(batch)
}
