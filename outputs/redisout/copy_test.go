package redisout

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// cells is a row of the table that people returns.
type cells = []change.Value

func people(key ...int) *change.Table {
	return &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop"}, Database: "shop", Name: "people", Key: key,
		Columns: []change.Column{{Name: "id", Logical: change.LogicalInt64}, {Name: "name"}, {Name: "photo", Logical: change.LogicalBytes}, {Name: "tags", Logical: change.LogicalJSON}},
	}
}

func message(t *change.Table, op change.Op, index uint64, before, after cells) *service.Message {
	ev := &change.Event{
		Op: op, Table: t, Index: index, Images: change.ImagesOf(before, after),
		Origin: &change.Origin{Tx: &change.Tx{ID: "tx", Position: "tx", CommitTime: time.Unix(1, 0)}, ReadAt: time.Unix(2, 0)},
	}
	return envelope.AppendMessages(nil, ev)[0]
}

func text(s string) change.Value { return change.TextValue([]byte(s)) }

// keys returns what Redis has under a prefix, hashes and strings.
func keys(t *testing.T, cl *redis.Client, prefix string) map[string]any {
	t.Helper()
	out := map[string]any{}
	names, err := cl.Keys(t.Context(), globEscape(prefix)+":shop.*").Result()
	require.NoError(t, err)
	for _, name := range names {
		short := strings.TrimPrefix(name, prefix+":")
		if kind := cl.Type(t.Context(), name).Val(); kind == "hash" {
			out[short] = cl.HGetAll(t.Context(), name).Val()
		} else {
			out[short] = cl.Get(t.Context(), name).Val()
		}
	}
	return out
}

// A hash is what the row is, whatever the log carries of it.
func TestHash(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t) + "[*]"
	o := connected(t, fmt.Sprintf("url: %s\nprefix: '%s'\nwrite: hash\n", s.URL(), prefix))
	tab := people(0)
	id := func(n int64) change.Value { return change.IntValue(n) }
	write := func(b ...*service.Message) {
		t.Helper()
		require.NoError(t, o.WriteBatch(t.Context(), b))
	}
	write(
		message(tab, change.Create, 1, nil, cells{id(1), text(`a "b":`), change.BytesValue([]byte{0, 255}), change.JSONValue([]byte(`["x"]`))}),
		message(tab, change.Read, 2, nil, cells{id(-2), change.NullValue(), change.NullValue(), change.JSONValue([]byte(`"y"`))}),
		message(tab, change.Update, 3, cells{id(1), text("a"), {}, {}}, cells{id(1), text(""), change.UnavailableValue(), change.NullValue()}),
	)
	want := map[string]any{
		"shop.people:1":  map[string]string{"id": "1", "name": "", "photo": "\x00\xff"},
		"shop.people:-2": map[string]string{"id": "-2", "tags": `"y"`},
	}
	assert.Equal(t, want, keys(t, s.Client(t), prefix))
	write(
		message(tab, change.Update, 4, cells{id(1), text(""), {}, {}}, cells{id(3), text("z"), change.NullValue(), change.NullValue()}),
		message(tab, change.Delete, 5, cells{id(-2), {}, {}, {}}, nil),
	)
	assert.Equal(t, map[string]any{"shop.people:3": map[string]string{"id": "3", "name": "z"}}, keys(t, s.Client(t), prefix))

	// A truncate is of its own table, and of what was before it.
	other := people(0)
	other.Name = "peoples"
	var many service.MessageBatch
	for i := range int64(2500) {
		many = append(many, message(tab, change.Create, uint64(10+i), nil, cells{id(100 + i), text("x"), change.NullValue(), change.NullValue()}))
	}
	many = append(many, message(other, change.Create, 3000, nil, cells{id(1), text("o"), change.NullValue(), change.NullValue()}),
		message(tab, change.Truncate, 3001, nil, nil), message(tab, change.Create, 3002, nil, cells{id(9), text("n"), change.NullValue(), change.NullValue()}))
	write(many...)
	assert.Equal(t, map[string]any{
		"shop.people:9": map[string]string{"id": "9", "name": "n"}, "shop.peoples:1": map[string]string{"id": "1", "name": "o"},
	}, keys(t, s.Client(t), prefix))
}

// A column that is dropped leaves a hash with the next event of its row, and a row that is loaded is what the hash has.
func TestHashOfAlteredTable(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t)
	conf := fmt.Sprintf("url: %s\nprefix: %s\nwrite: hash\n", s.URL(), prefix)
	o := connected(t, conf)
	id := func(n int64) change.Value { return change.IntValue(n) }
	whole, less, more := people(0), people(0), people(0)
	less.Columns = []change.Column{whole.Columns[0], whole.Columns[2]}
	more.Columns = []change.Column{whole.Columns[0], whole.Columns[1], {Name: "age", Logical: change.LogicalInt64}}
	row := cells{id(1), text("a"), change.BytesValue([]byte("p")), change.JSONValue([]byte("1"))}
	for n := range uint64(2) {
		require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{
			message(whole, change.Create, 1+10*n, nil, row),
			message(whole, change.Create, 2+10*n, nil, cells{id(2), text("b"), change.NullValue(), change.JSONValue([]byte("2"))}),
			message(less, change.Update, 3+10*n, nil, cells{id(1), change.UnavailableValue()}),
			message(more, change.Update, 4+10*n, nil, cells{id(2), text("b"), id(7)}),
		}))
		assert.Equal(t, map[string]any{
			"shop.people:1": map[string]string{"id": "1", "photo": "p"}, "shop.people:2": map[string]string{"id": "2", "name": "b", "age": "7"},
		}, keys(t, s.Client(t), prefix))
	}
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{message(whole, change.Create, 30, nil, row)}))
	again := connected(t, conf) // it does not know what there was
	require.NoError(t, again.WriteBatch(t.Context(), service.MessageBatch{message(more, change.Read, 31, nil, cells{id(1), change.NullValue(), id(8)})}))
	assert.Equal(t, map[string]string{"id": "1", "age": "8"}, keys(t, s.Client(t), prefix)["shop.people:1"])
}

// A random history leaves in Redis what it leaves in a map, with repetitions from any place.
func TestHashFollowsAnyHistory(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: %s\nwrite: hash\nmax_buffered_bytes: 4096\n", s.URL(), prefix))
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	tab, rows := people(1, 0), map[string]cells{}
	var all service.MessageBatch
	names := []string{"a", "b:c", "b%3Ac", "%"}
	keyOf := func(c cells) string { k, err := rowKey("", tab, c); require.NoError(t, err); return k }
	for n := range 3000 {
		row := cells{change.IntValue(int64(r.IntN(20))), text(names[r.IntN(len(names))]), change.NullValue(), change.JSONValue(fmt.Append(nil, n))}
		k := keyOf(row)
		old, there := rows[k]
		switch {
		case r.IntN(500) == 0:
			all = append(all, message(tab, change.Truncate, uint64(n), nil, nil))
			clear(rows)
		case !there:
			for from, moved := range rows { // an update that changes the key
				if r.IntN(3) == 0 {
					all = append(all, message(tab, change.Update, uint64(n), moved, row))
					delete(rows, from)
					rows[k] = row
				}
				break
			}
			if _, there := rows[k]; !there {
				all = append(all, message(tab, change.Create, uint64(n), nil, row))
				rows[k] = row
			}
		case r.IntN(3) == 0:
			all = append(all, message(tab, change.Delete, uint64(n), old, nil))
			delete(rows, k)
		default:
			all = append(all, message(tab, change.Update, uint64(n), old, row))
			rows[k] = row
		}
	}
	for at := 0; at < len(all); {
		to := min(len(all), at+1+r.IntN(400))
		require.NoError(t, o.WriteBatch(t.Context(), all[at:to].Copy()))
		if at = to; r.IntN(3) == 0 {
			at = max(0, at-r.IntN(300)) // as after a crash
		}
	}
	want := map[string]any{}
	for k, row := range rows {
		want["shop.people:"+k] = map[string]string{"id": plain(row[0]), "name": plain(row[1]), "tags": plain(row[3])}
	}
	assert.Equal(t, want, keys(t, s.Client(t), prefix), "seed %d", seed)
}

func TestString(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: %s\nwrite: string\nttl: 1h\n", s.URL(), prefix))
	tab := people(0, 1)
	row := cells{change.IntValue(1), text("a:%"), change.BytesValue([]byte{1}), change.NullValue()}
	part := cells{change.IntValue(2), text("b"), change.UnavailableValue(), change.NullValue()}
	err, _ := engine(t, o, service.MessageBatch{
		message(tab, change.Create, 1, nil, row), message(tab, change.Update, 2, nil, part), message(people(), change.Create, 3, nil, row),
		service.NewMessage([]byte("no event")), message(tab, change.Schema, 4, nil, nil),
	})
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	assert.Equal(t, 3, be.IndexedErrors())
	key := prefix + ":shop.people:1:a%3A%25"
	assert.Equal(t, map[string]any{"shop.people:1:a%3A%25": `{"id":1,"name":"a:%","photo":{"_base64":"AQ=="},"tags":null}`}, keys(t, s.Client(t), prefix))
	ttl := s.Client(t).PTTL(t.Context(), key).Val()
	assert.Greater(t, ttl, 50*time.Minute)
	assert.LessOrEqual(t, ttl, time.Hour)
}

// The other modes: a key is deleted, an event is appended, an event is published.
func TestOtherModes(t *testing.T) {
	s := testenv.Redis(t)
	cl, prefix := s.Client(t), testenv.Name(t)
	conf := func(write string) string {
		return fmt.Sprintf("url: %s\nprefix: %s\nwrite: %s\n", s.URL(), prefix, write)
	}
	for _, k := range []string{"1", "2", "3"} {
		require.NoError(t, cl.Set(t.Context(), prefix+":shop.people:"+k, "cached", 0).Err())
	}
	row := func(n int64) cells {
		return cells{change.IntValue(n), text("a"), change.NullValue(), change.NullValue()}
	}
	update := message(people(0), change.Update, 1, row(1), row(2))
	require.NoError(t, connected(t, conf("invalidate")).WriteBatch(t.Context(), service.MessageBatch{update}))
	assert.Equal(t, map[string]any{"shop.people:3": "cached"}, keys(t, cl, prefix))

	payload, err := update.AsBytes()
	require.NoError(t, err)
	require.NoError(t, connected(t, conf("list")).WriteBatch(t.Context(), service.MessageBatch{update, update.Copy()}))
	assert.Equal(t, []string{string(payload), string(payload)}, cl.LRange(t.Context(), prefix+":shop.people", 0, -1).Val())

	sub := cl.Subscribe(t.Context(), prefix+":shop.people")
	defer func() { assert.NoError(t, sub.Close()) }()
	_, err = sub.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, connected(t, conf("publish")).WriteBatch(t.Context(), service.MessageBatch{update}))
	got, err := sub.ReceiveMessage(t.Context())
	require.NoError(t, err)
	assert.Equal(t, string(payload), got.Payload)
}

func TestWriteConfig(t *testing.T) {
	for conf, want := range map[string]string{
		"write: set\nprefix: x":                       `field write: "set" is not one of stream, hash, string, invalidate, list, publish`,
		"write: hash\nstream: x":                      "field write: hash needs prefix",
		"write: list\nprefix: x\nkey: '${! json() }'": "field write: list has no key",
		"write: hash\nprefix: x\nkey: fixed":          "field write: key is the same for every row",
		"write: hash\nkey: '${! json() }'":            "field stream: give either stream or prefix",
		"write: invalidate\nprefix: x\nprune: true":   "field write: invalidate has no prune",
		"write: hash\nprefix: x\nmax_len: 5":          "field write: hash has no max_len",
		"write: hash\nprefix: x\nexactly_once: true":  "field write: hash has no exactly_once",
		"write: list\nprefix: x\nttl: 1s":             "field write: list has no ttl",
		"write: string\nprefix: x\nttl: 1us":          "ttl of 1µs is shorter than 1ms",
	} {
		_, err := parse("url: redis://localhost\n" + conf)
		require.ErrorContains(t, err, want, conf)
	}
}

// What is larger than the bound fails alone.
func TestCopyTooLarge(t *testing.T) {
	s := testenv.Redis(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: %s\nwrite: hash\nmax_message_bytes: 1500\n", s.URL(), testenv.Name(t)))
	err, _ := engine(t, o, service.MessageBatch{
		message(people(0), change.Create, 1, nil, cells{change.IntValue(1), text(strings.Repeat("x", 2000)), change.NullValue(), change.NullValue()}),
		message(people(0), change.Create, 2, nil, cells{change.IntValue(2), text("y"), change.NullValue(), change.NullValue()}),
	})
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	be.WalkMessages(func(i int, _ *service.Message, err error) bool {
		if err != nil {
			assert.Equal(t, sink.TooLarge, sink.KindOf(err))
		}
		return true
	})
	assert.Equal(t, 1, be.IndexedErrors())
}
