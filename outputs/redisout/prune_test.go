package redisout

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// person is a row of the table that people returns.
func person(id int64, name string) cells {
	return cells{change.IntValue(id), text(name), change.NullValue(), change.NullValue()}
}

func named(name string) *change.Table {
	t := people(0)
	t.Name = name
	return t
}

// writer returns a function that writes events of persons, each with the next index.
func writer(t *testing.T) func(o *output, tab *change.Table, op change.Op, before, after cells) {
	var n uint64
	return func(o *output, tab *change.Table, op change.Op, before, after cells) {
		t.Helper()
		n++
		require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{message(tab, op, n, before, after)}))
	}
}

// At the end of a load what was not shown is gone: what the load did not bring, and the stream neither. Other tables, other prefixes and what a person has put there
// stay, and so does everything if the beginning is not known.
func TestPrune(t *testing.T) {
	for _, write := range []string{"hash", "string"} {
		t.Run(write, func(t *testing.T) {
			s, prefix := testenv.Redis(t), testenv.Name(t)
			cl := s.Client(t)
			conf := fmt.Sprintf("url: %s\nprefix: '%s'\nwrite: %s\nprune: true\n", s.URL(), prefix, write)
			o, put := connected(t, conf), writer(t)
			tab, other, inside := people(0), named("peoples"), named("people:x")
			left := func() []string {
				t.Helper()
				names, err := cl.Keys(t.Context(), prefix+"*").Result()
				require.NoError(t, err)
				for i := range names {
					names[i] = names[i][len(prefix):]
				}
				return names
			}
			for id := range int64(5) {
				put(o, tab, change.Create, nil, person(id, "old"))
			}
			put(o, other, change.Create, nil, person(1, "other"))
			put(o, inside, change.Create, nil, person(1, "inside"))
			require.NoError(t, cl.Set(t.Context(), prefix+"2:shop.people:1", "another prefix", 0).Err())
			stay := []string{":shop.peoples:1", ":shop.people%3Ax:1", "2:shop.people:1", ":loads", ":guard"}

			require.NoError(t, o.prune.Begin(t.Context(), "shop.people", "a"))
			put(o, tab, change.Read, nil, person(0, "loaded"))
			put(o, tab, change.Update, person(1, "old"), person(1, "changed")) // its chunk does not have it
			put(o, tab, change.Create, nil, person(7, "new"))
			put(o, tab, change.Update, person(2, "old"), person(8, "moved"))
			put(o, tab, change.Create, nil, person(9, "short"))
			put(o, tab, change.Delete, person(9, "short"), nil)

			again := connected(t, conf) // the process is another one
			require.NoError(t, again.prune.Begin(t.Context(), "shop.people", "a"))
			put(again, tab, change.Read, nil, person(7, "new"))
			for range 2 { // the second time after a restart
				require.NoError(t, again.prune.End(t.Context(), "shop.people", "a"))
				assert.ElementsMatch(t, append([]string{":shop.people:0", ":shop.people:1", ":shop.people:7", ":shop.people:8"}, stay...), left())
			}
			assert.Equal(t, map[string]string{"shop.people": "a ended"}, cl.HGetAll(t.Context(), prefix+":loads").Val())

			// The load of which another process has not heard the beginning, and one whose keys are lost.
			require.NoError(t, again.prune.End(t.Context(), "shop.people", "b"))
			require.NoError(t, again.prune.Begin(t.Context(), "shop.people", "c"))
			put(again, tab, change.Read, nil, person(0, "loaded"))
			require.NoError(t, cl.Del(t.Context(), prefix+":loads:shop.people").Err())
			put(again, tab, change.Read, nil, person(1, "loaded"))
			require.NoError(t, again.prune.End(t.Context(), "shop.people", "c"))
			all := append([]string{":shop.people:0", ":shop.people:1", ":shop.people:7", ":shop.people:8"}, stay...)
			assert.ElementsMatch(t, all, left())

			// One that was begun anew, after one that has not ended.
			require.NoError(t, again.prune.Begin(t.Context(), "shop.people", "d"))
			put(again, tab, change.Read, nil, person(7, "loaded"))
			require.NoError(t, again.prune.Begin(t.Context(), "shop.people", "e"))
			put(again, tab, change.Read, nil, person(8, "loaded"))
			require.NoError(t, again.prune.End(t.Context(), "shop.people", "e"))
			assert.ElementsMatch(t, append([]string{":shop.people:8"}, stay...), left())

			// A table without rows.
			require.NoError(t, again.prune.Begin(t.Context(), "shop.people", "f"))
			require.NoError(t, again.prune.End(t.Context(), "shop.people", "f"))
			assert.ElementsMatch(t, stay, left())
		})
	}
}

// What the stream writes while keys are being removed stays.
func TestPruneBesideTheStream(t *testing.T) {
	s, prefix := testenv.Redis(t), testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: '%s'\nwrite: hash\nprune: true\n", s.URL(), prefix))
	tab := people(0)
	batch := func(from, n int64, name string) service.MessageBatch {
		var b service.MessageBatch
		for id := from; id < from+n; id++ {
			b = append(b, message(tab, change.Create, uint64(id), nil, person(id, name)))
		}
		return b
	}
	require.NoError(t, o.WriteBatch(t.Context(), batch(0, 8000, "old")))
	require.NoError(t, o.prune.Begin(t.Context(), "shop.people", "a"))
	want := map[string]any{}
	stop, begun, writing := make(chan struct{}), make(chan struct{}), sync.WaitGroup{}
	writing.Go(func() {
		for id := int64(0); ; id += 97 { // some of those that are there, and new ones
			if !assert.NoError(t, o.WriteBatch(t.Context(), batch(id, 3, "new"))) {
				return
			}
			for n := id; n < id+3; n++ {
				want[fmt.Sprint("shop.people:", n)] = map[string]string{"id": fmt.Sprint(n), "name": "new"}
			}
			if id == 0 {
				close(begun)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	<-begun
	require.NoError(t, o.prune.End(t.Context(), "shop.people", "a"))
	close(stop)
	writing.Wait()
	assert.Equal(t, want, keys(t, s.Client(t), prefix))
}

// An output without a connection has the source wait.
func TestPruneWithoutAServer(t *testing.T) {
	o := newTestOutput(t, "url: redis://127.0.0.1:1\nprefix: x\nwrite: hash\nprune: true\n")
	require.ErrorIs(t, o.prune.Begin(t.Context(), "a.b", "x"), service.ErrNotConnected)
	require.ErrorIs(t, o.prune.End(t.Context(), "a.b", "x"), service.ErrNotConnected)
	require.Error(t, o.Connect(t.Context()))
	found, err := o.prune.pipeline.Keepers(t.Context())
	require.NoError(t, err)
	assert.Len(t, found, 1)
	require.NoError(t, o.Close(context.Background()))
	found, err = o.prune.pipeline.Keepers(t.Context())
	require.NoError(t, err)
	assert.Empty(t, found)
}

// A key of one's own is kept through updates, deletes, truncates and prunes.
func TestOwnKey(t *testing.T) {
	s, prefix := testenv.Redis(t), testenv.Name(t)
	cl := s.Client(t)
	own := prefix + `-${! metadata("table") }-${! json("name").uppercase() }`
	o, put := connected(t, fmt.Sprintf("url: %s\nprefix: '%s'\nwrite: hash\nprune: true\nkey: '%s'\n", s.URL(), prefix, own)), writer(t)
	tab, other := people(0), named("other")
	left := func() map[string]map[string]string {
		t.Helper()
		names, err := cl.Keys(t.Context(), prefix+"-*").Result()
		require.NoError(t, err)
		rows := map[string]map[string]string{}
		for _, name := range names {
			rows[name[len(prefix):]] = cl.HGetAll(t.Context(), name).Val()
		}
		return rows
	}
	row := func(id, name string) map[string]string { return map[string]string{"id": id, "name": name} }
	members := func(table string) []string { return cl.ZRange(t.Context(), prefix+":keys:"+table, 0, -1).Val() }

	put(o, tab, change.Create, nil, person(1, "a"))
	put(o, tab, change.Create, nil, person(2, "b"))
	put(o, tab, change.Create, nil, person(3, "c"))
	put(o, other, change.Create, nil, person(3, "c"))
	put(o, tab, change.Update, person(1, "a"), person(1, "z")) // the key of the row is another one, its primary key is not
	put(o, tab, change.Update, person(2, "b"), cells{change.IntValue(2), change.UnavailableValue(), change.NullValue(), change.JSONValue([]byte("1"))})
	put(o, tab, change.Delete, person(3, "c"), nil)
	assert.Equal(t, map[string]map[string]string{
		"-people-Z": row("1", "z"), "-people-B": {"id": "2", "name": "b", "tags": "1"}, "-other-C": row("3", "c"),
	}, left())
	assert.ElementsMatch(t, []string{prefix + "-people-Z", prefix + "-people-B"}, members("shop.people"))

	require.NoError(t, o.prune.Begin(t.Context(), "shop.people", "a"))
	put(o, tab, change.Read, nil, person(4, "d"))
	put(o, tab, change.Read, nil, person(1, "y")) // it has changed while nobody followed the log
	require.NoError(t, o.prune.End(t.Context(), "shop.people", "a"))
	assert.Equal(t, map[string]map[string]string{"-people-Y": row("1", "y"), "-people-D": row("4", "d"), "-other-C": row("3", "c")}, left())
	assert.ElementsMatch(t, []string{prefix + "-people-Y", prefix + "-people-D"}, members("shop.people"))

	put(o, tab, change.Truncate, nil, nil)
	assert.Equal(t, map[string]map[string]string{"-other-C": row("3", "c")}, left())
	assert.Empty(t, members("shop.people"))
}

// Where the log does not have what a key is made of, the event fails alone, and says what to do. A key that is made of the primary key alone needs nothing else.
func TestOwnKeyOfWhatTheLogLacks(t *testing.T) {
	tab := people(0)
	none := cells{change.IntValue(1), {}, {}, {}}
	for name, c := range map[string]struct {
		key    string
		m      *service.Message
		now    string
		old    string
		failed string
	}{
		"delete":               {`${! json("name") }`, message(tab, change.Delete, 1, none, nil), "", "", "key is made of a column of shop.people that the log does not carry for this row, such as name"},
		"update, no old row":   {`${! json("name") }`, message(tab, change.Update, 1, nil, person(1, "b")), "", "", "REPLICA IDENTITY FULL"},
		"update, half a row":   {`${! json("name") }`, message(tab, change.Update, 1, none, cells{change.IntValue(1), {}, {}, text("t")}), "", "", "binlog_row_image=FULL"},
		"primary key, delete":  {`k${! json("id") }`, message(tab, change.Delete, 1, none, nil), "k1", "k1", ""},
		"primary key, update":  {`k${! json("id") }`, message(tab, change.Update, 1, nil, person(1, "b")), "k1", "k1", ""},
		"primary key, another": {`k${! json("id") }`, message(tab, change.Update, 1, cells{change.IntValue(5), {}, {}, {}}, person(1, "b")), "k1", "k5", ""},
		"empty":                {`${! json("name") }`, message(tab, change.Create, 1, nil, person(1, "")), "", "", "key is empty for a row of shop.people"},
		"an error":             {`${! json("id").uppercase() }`, message(tab, change.Create, 1, nil, person(1, "a")), "", "", "interpolating key for a row of shop.people"},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := parse("url: redis://localhost\nprefix: p\nwrite: hash\nkey: '" + c.key + "'\n")
			require.NoError(t, err)
			b := builder{conf: conf}
			ev, ok := change.FromMessage(c.m)
			require.True(t, ok)
			now, old, err := b.keysOf(c.m, ev)
			if c.failed != "" {
				require.ErrorContains(t, err, c.failed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []string{c.now, c.old}, []string{now, old})
		})
	}
}

// Keys that expire leave the set that remembers them, too.
func TestOwnKeyExpires(t *testing.T) {
	conf, err := parse("url: redis://localhost\nprefix: p\nwrite: hash\nttl: 1h\nkey: 'k${! json(\"id\") }'\n")
	require.NoError(t, err)
	b := builder{conf: conf, columns: map[string]*columns{}}
	entries, err := b.row(message(people(0), change.Create, forgetEvery, nil, person(1, "a")))
	require.NoError(t, err)
	var got [][]any
	for _, e := range entries {
		for i, arg := range e.args {
			if p, ok := arg.(*string); ok {
				e.args[i] = *p
			}
		}
		got = append(got, e.args)
	}
	read := time.Unix(2, 0)
	assert.Equal(t, [][]any{
		{"zadd", "p:keys:shop.people", read.Add(time.Hour).UnixMilli(), "k1"},
		{"zremrangebyscore", "p:keys:shop.people", 1, read.Add(-time.Hour).UnixMilli()},
		{"hset", "k1", "id", "1", "name", "a"},
		{"hdel", "k1", "photo", "tags"},
		{"pexpire", "k1", time.Hour.Milliseconds()},
	}, got)

	conf, err = parse("url: redis://localhost\nprefix: p\nwrite: invalidate\nkey: 'k${! json(\"id\") }'\n")
	require.NoError(t, err)
	b = builder{conf: conf}
	_, err = b.row(message(people(0), change.Truncate, 1, nil, nil))
	require.ErrorContains(t, err, "table shop.people was truncated, and invalidate with key does not know which keys its rows have had")
}
