package redisout

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestEntriesCarryTheWholeChange(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: %s\n", s.URL(), prefix))
	pg := changed("orders", "c", `{"id":2}`, "0/16:1", `{"a":1}`)
	pg.MetaSetMut("schema_name", "sales")
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{
		changed("orders", "d", `{"id":1}`, "tx:1", `{"before":1}`), pg, changed("orders", "t", "", "tx:2", ``),
	}))
	got := s.Stream(t, prefix+":shop.orders", 2)
	require.Len(t, got, 2)
	assert.Equal(t, map[string]any{"event_id": "tx:1", "op": "d", "key": `{"id":1}`, "event": `{"before":1}`}, got[0].Values)
	assert.Equal(t, map[string]any{"event_id": "tx:2", "op": "t", "key": "", "event": ""}, got[1].Values)
	got = s.Stream(t, prefix+":sales.orders", 1)
	assert.Equal(t, map[string]any{"event_id": "0/16:1", "op": "c", "key": `{"id":2}`, "event": `{"a":1}`}, got[0].Values)
}

func TestSchemaChangeIsAnEntryOfItsTable(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: %s\n", s.URL(), prefix))
	table := &change.Table{
		Source: &change.Source{Connector: "mysql", Name: "shop"}, Database: "shop", Name: "orders",
		Columns: []change.Column{{Name: "id", Type: "int", Logical: change.LogicalInt32}}, Key: []int{0},
	}
	m := envelope.AppendMessages(nil, &change.Event{
		Op: change.Schema, Table: table, Origin: &change.Origin{Tx: &change.Tx{ID: "tx", Position: "tx"}}, Index: 1,
		Change: &change.SchemaChange{DDL: "CREATE TABLE orders (id INT PRIMARY KEY)", New: table},
	})[0]
	payload, err := m.AsBytes()
	require.NoError(t, err)
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{m}))
	got := s.Stream(t, prefix+":shop.orders", 1)
	assert.Equal(t, map[string]any{"event_id": "tx:1", "op": "s", "key": `{"db":"shop","table":"orders"}`, "event": string(payload)}, got[0].Values)
}

func TestStreamsAreTrimmed(t *testing.T) {
	s := testenv.Redis(t)
	stream := testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nstream: %s\nmax_len: 10\nexact_max_len: true\n", s.URL(), stream))
	require.NoError(t, o.WriteBatch(t.Context(), numbered(0, 1000, "orders")))
	got := s.Stream(t, stream, 10)
	require.Len(t, got, 10)
	assert.Equal(t, "990", got[0].Values["event"])

	stream += "_about"
	o = connected(t, fmt.Sprintf("url: %s\nstream: %s\nmax_len: 10\n", s.URL(), stream))
	require.NoError(t, o.WriteBatch(t.Context(), numbered(0, 1000, "orders")))
	got = s.Stream(t, stream, 10)
	assert.Less(t, len(got), 1000)
	assert.Equal(t, "999", got[len(got)-1].Values["event"])
}

// TestStreamsAreTrimmedByAge: entries with a smaller id go; a message that makes no id fails alone.
func TestStreamsAreTrimmedByAge(t *testing.T) {
	s := testenv.Redis(t)
	stream := testenv.Name(t)
	for n := range 1000 {
		require.NoError(t, s.Client(t).XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: fmt.Sprintf("%d-1", n+1), Values: []string{"event", "old"}}).Err())
	}
	o := connected(t, fmt.Sprintf("url: %s\nstream: %s\nmin_id: '${! content() }'\n", s.URL(), stream))
	err := o.WriteBatch(t.Context(), service.MessageBatch{service.NewMessage([]byte("900")), service.NewMessage([]byte("none"))})
	require.ErrorContains(t, err, `interpolating min_id: "none" is no id of an entry`)
	entries, err := s.Client(t).XRange(t.Context(), stream, "-", "+").Result()
	require.NoError(t, err)
	assert.Less(t, len(entries), 300, "the server may keep some more")
	assert.GreaterOrEqual(t, len(entries), 102, "from 900-0 on, and the new one")
	assert.Equal(t, "900", entries[len(entries)-1].Values["event"])
}

func TestEntriesThatCannotBeAddedFailAlone(t *testing.T) {
	s := testenv.Redis(t)
	prefix := testenv.Name(t)
	require.NoError(t, s.Client(t).Set(t.Context(), prefix+":shop.taken", "a string", 0).Err())
	o := connected(t, fmt.Sprintf("url: %s\nprefix: %s\nmax_message_bytes: 2000\n", s.URL(), prefix))
	errored := changed("orders", "c", "", "", "errored")
	errored.SetError(fmt.Errorf("poison value"))
	b := service.MessageBatch{
		changed("orders", "c", "", "", "one"),
		changed("taken", "c", "", "", "wrong type"),
		service.NewMessage([]byte("no table")),
		changed("orders", "c", "", "", strings.Repeat("x", 2000)),
		errored,
		changed("orders", "c", "", "", "two"),
		changed("taken", "c", "", "", "wrong type"),
	}
	index := b.Index()
	err, causes := engine(t, o, b)
	assert.Empty(t, causes)
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	kinds := map[int]sink.Kind{}
	be.WalkMessagesIndexedBy(index, func(i int, _ *service.Message, err error) bool {
		if err != nil {
			kinds[i] = sink.KindOf(err)
		}
		return true
	})
	assert.Equal(t, map[int]sink.Kind{
		1: sink.Routing, 2: sink.Routing, 3: sink.TooLarge, 4: sink.Serialization, 6: sink.Routing,
	}, kinds)
	assert.Equal(t, []string{"one", "two"}, events(s.Stream(t, prefix+":shop.orders", 2)))
}

func events(entries []redis.XMessage) []string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Values["event"].(string)
	}
	return out
}

// assertWritten holds the streams of three tables against n numbered changes. Where duplicates are allowed, an entry
// may only be followed by one that is new and next, or by one that has been there before.
func assertWritten(t *testing.T, cl *redis.Client, prefix string, n int, duplicates bool) (repeated int) {
	t.Helper()
	for k, table := range tables {
		entries, err := cl.XRange(t.Context(), prefix+":shop."+table, "-", "+").Result()
		require.NoError(t, err)
		next := k
		for _, e := range events(entries) {
			var v int
			_, err := fmt.Sscan(e, &v)
			require.NoError(t, err)
			if v != next && duplicates && v < next {
				repeated++
				continue
			}
			require.Equal(t, next, v, "stream of %s: one is missing, or was overtaken", table)
			next += len(tables)
		}
		assert.GreaterOrEqual(t, next, n, "stream of %s ends early", table)
	}
	return repeated
}

var tables = []string{"orders", "customers", "items"} //nolint:gochecknoglobals // constant

// load writes n numbered changes in batches, and more until the operator has seen a kind of failure. It returns how many that were, and the
// kinds that the operator saw meanwhile.
func load(t *testing.T, o *output, n int, until sink.Kind) (written int, kinds map[sink.Kind]int) {
	t.Helper()
	const size = 600 // as many to each of the tables
	kinds = map[sink.Kind]int{}
	for end := time.Now().Add(3 * time.Minute); written < n || kinds[until] == 0; written += size {
		require.True(t, time.Now().Before(end), "%d written, %v seen", written, kinds)
		err, causes := engine(t, o, numbered(written, size, tables...))
		require.NoError(t, err)
		for _, c := range causes {
			kinds[sink.KindOf(cause(c))]++
		}
	}
	return written, kinds
}

// meanwhile makes trouble again and again until the returned function is called. In between it waits, each time for longer: on a machine
// on which nothing can be done before the next trouble, something can be done later.
func meanwhile(t *testing.T, wait time.Duration, trouble func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ctx.Err() == nil; wait = min(wait+wait/10, time.Second) {
			time.Sleep(wait)
			trouble(ctx)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func TestOutOfMemoryForAWhileKeepsOrder(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	admin := s.Client(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: df\nmax_buffered_bytes: 20000\n", s.URL()))
	stop := meanwhile(t, 4*time.Millisecond, func(ctx context.Context) {
		admin.ConfigSet(ctx, "maxmemory", "1")
		time.Sleep(3 * time.Millisecond)
		admin.ConfigSet(context.WithoutCancel(ctx), "maxmemory", "0")
	})
	n, kinds := load(t, o, 40_000, sink.OutOfMemory)
	stop()
	assert.Len(t, kinds, 1, "%v", kinds)
	assert.Zero(t, assertWritten(t, admin, "df", n, false), "nothing is added twice: a refused transaction was not run")
}

// TestPlainPipelineIsOvertaken shows that the fault above does what it is meant to: a pipeline loses entries in its
// middle to it.
func TestPlainPipelineIsOvertaken(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	admin := s.Client(t)
	stop := meanwhile(t, 4*time.Millisecond, func(ctx context.Context) {
		admin.ConfigSet(ctx, "maxmemory", "1")
		time.Sleep(3 * time.Millisecond)
		admin.ConfigSet(context.WithoutCancel(ctx), "maxmemory", "0")
	})
	defer stop()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		pipe := s.Client(t).Pipeline()
		for i := range 5000 {
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "plain", Values: []any{"n", i}})
		}
		cmds, _ := pipe.Exec(t.Context())
		failed := false
		for _, c := range cmds {
			if c.Err() != nil {
				failed = true
			} else if failed {
				return
			}
		}
	}
	t.Fatal("no entry was added after one that was refused")
}

func TestReadOnlyForAWhileKeepsOrder(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	admin := s.Client(t)
	o := connected(t, fmt.Sprintf("url: %s\nprefix: df\nmax_buffered_bytes: 20000\n", s.URL()))
	stop := meanwhile(t, 20*time.Millisecond, func(ctx context.Context) {
		admin.Do(ctx, "replicaof", "127.0.0.1", "1")
		time.Sleep(3 * time.Millisecond)
		admin.Do(context.WithoutCancel(ctx), "replicaof", "no", "one")
	})
	n, kinds := load(t, o, 20_000, sink.ReadOnly)
	stop()
	t.Log(kinds)
	// Turning into a replica drops clients that are inside a transaction, whose answer is then unknown.
	assertWritten(t, admin, "df", n, true)
}

func TestConnectionLostInsideAPipelineKeepsOrder(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	proxy := testenv.NewProxy(t, s.Addr())
	o := connected(t, fmt.Sprintf("url: redis://%s\nprefix: df\nmax_buffered_bytes: 20000\n", proxy.Addr()))
	stop := meanwhile(t, 15*time.Millisecond, func(context.Context) { proxy.Cut() })
	n, kinds := load(t, o, 20_000, sink.Connect)
	stop()
	t.Log(kinds)
	t.Logf("%d entries repeated", assertWritten(t, s.Client(t), "df", n, true))
}

func TestServerStoppedAndStartedUnderLoad(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	o := connected(t, fmt.Sprintf("url: %s\nprefix: df\ntimeout: 1s\n", s.URL()))
	stop := meanwhile(t, 300*time.Millisecond, func(ctx context.Context) {
		if ctx.Err() == nil {
			assert.NoError(t, s.Kill())
			time.Sleep(300 * time.Millisecond)
			assert.NoError(t, s.Start(context.WithoutCancel(ctx)))
		}
	})
	n, kinds := load(t, o, 60_000, sink.Connect)
	stop()
	t.Log(kinds)
	assertWritten(t, s.Client(t), "df", n, true)
}

func TestSilentServerTimesOutAndGoesOn(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	o := connectedAtLast(t, fmt.Sprintf("url: %s\nprefix: df\ntimeout: 200ms\nconnect_timeout: 200ms\n", s.URL()))
	require.NoError(t, s.Pause())
	b := numbered(0, 10, tables...)
	require.ErrorIs(t, o.WriteBatch(t.Context(), b), service.ErrNotConnected)
	err := o.Connect(t.Context())
	assert.Equal(t, sink.Timeout, sink.KindOf(cause(err)), "%v", err)
	require.NoError(t, s.Resume())
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assertWritten(t, s.Client(t), "df", 10, true)
}

func TestPermissions(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	admin := s.Client(t)
	user := func(rules ...any) {
		t.Helper()
		require.NoError(t, admin.Do(t.Context(), append([]any{"acl", "setuser", "df", "reset", "on", ">pa/ss"}, rules...)...).Err())
	}
	conf := fmt.Sprintf("url: redis://%s\nusername: df\npassword: 'pa/ss'\nprefix: df\n", s.Addr())

	user("+xadd", "+incr", "+watch", "~*")
	err := newTestOutput(t, conf).Connect(t.Context())
	assert.Equal(t, sink.Permission, sink.KindOf(err), "without multi: %v", err)

	user("+multi", "+exec", "+xadd", "~df:shop.orders")
	err = newTestOutput(t, conf).Connect(t.Context())
	assert.Equal(t, sink.Permission, sink.KindOf(err), "without the guard: %v", err)
	assert.ErrorContains(t, err, "; run ACL SETUSER df +incr +watch ~df:guard (kind=permission)")

	err = newTestOutput(t, strings.Replace(conf, "pa/ss", "wrong", 1)).Connect(t.Context())
	assert.Equal(t, sink.Auth, sink.KindOf(err), "%v", err)
	assert.NotContains(t, err.Error(), "wrong'")

	// One stream is out of bounds: the others go on, it waits, and then it goes on where it stopped.
	user("+multi", "+exec", "+xadd", "~df:shop.orders", "~df:shop.items", "+incr", "+watch", "~df:guard")
	o := connected(t, conf+"max_buffered_bytes: 4096\n")
	b := numbered(0, 300, tables...)
	require.ErrorIs(t, o.WriteBatch(t.Context(), b), service.ErrNotConnected)
	assert.Len(t, s.Stream(t, "df:shop.orders", 100), 100)
	assert.Len(t, s.Stream(t, "df:shop.items", 100), 100)
	err = o.Connect(t.Context())
	require.Error(t, err)
	assert.Equal(t, sink.Permission, sink.KindOf(cause(err)))
	assert.ErrorContains(t, err, "df:shop.customers")
	user("+multi", "+exec", "+xadd", "+incr", "+watch", "~df:*")
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assert.Zero(t, assertWritten(t, admin, "df", 300, false))

	// MULTI is taken away while connected, and given back.
	user("+exec", "+xadd", "+incr", "+watch", "~df:*")
	b = numbered(300, 300, tables...)
	require.ErrorIs(t, o.WriteBatch(t.Context(), b), service.ErrNotConnected)
	err = o.Connect(t.Context())
	assert.Equal(t, sink.Permission, sink.KindOf(cause(err)), "%v", err)
	user("+multi", "+exec", "+xadd", "+incr", "+watch", "~df:*")
	err, _ = engine(t, o, b)
	require.NoError(t, err)
	assertWritten(t, admin, "df", 600, true)
}

func TestTLS(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{TLS: true, Password: "hunter2-sesame"})
	o := connected(t, fmt.Sprintf("url: rediss://%s\npassword: hunter2-sesame\nprefix: df\ntls: { enabled: true, root_cas_file: %s }\n", s.TLSAddr(), s.TLSCA()))
	require.NoError(t, o.WriteBatch(t.Context(), numbered(0, 3, tables...)))
	require.NoError(t, o.ConnectionTest(t.Context())[0].Err)

	o = newTestOutput(t, fmt.Sprintf("url: rediss://:hunter2-sesame@%s\nprefix: df\n", s.TLSAddr()))
	err := o.Connect(t.Context())
	require.Error(t, err, "its certificate is not known")
	assert.NotContains(t, err.Error(), "hunter2-sesame")
	require.Error(t, o.ConnectionTest(t.Context())[0].Err)
}

func TestLifecycle(t *testing.T) {
	o := newTestOutput(t, "url: redis://127.0.0.1:1\nprefix: df\n")
	require.ErrorIs(t, o.WriteBatch(t.Context(), numbered(0, 1, tables...)), service.ErrNotConnected)
	err := o.Connect(t.Context())
	assert.Equal(t, sink.Connect, sink.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, "127.0.0.1:1")
	require.NoError(t, o.Close(t.Context()))
	require.NoError(t, o.Close(t.Context()))
	require.ErrorIs(t, o.Connect(t.Context()), service.ErrEndOfInput)

	s := testenv.Redis(t)
	o = connected(t, fmt.Sprintf("url: %s\nprefix: df\n", s.URL()))
	cl := o.cl
	require.NoError(t, o.Connect(t.Context()))
	assert.Same(t, cl, o.cl)
	require.NoError(t, o.Close(t.Context()))
}

// TestBytesOfALostConnectionAddNothing: what a connection had on its way when it was given up reaches the server after newer
// entries were added, held by a proxy or by the server's own kernel, with and without the process that sent it.
func TestBytesOfALostConnectionAddNothing(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{})
	for name, restart := range map[string]bool{"same process": false, "another process": true} {
		for _, where := range []string{"prefix: %s", "stream: %s", "stream: '%s${! metadata(\"none\").or(\"\") }'"} {
			t.Run(name+", "+where, func(t *testing.T) {
				proxy := testenv.NewProxy(t, s.Addr())
				stream := testenv.Name(t)
				conf := fmt.Sprintf("url: redis://%s\ntimeout: 300ms\nconnect_timeout: 2s\n"+where+"\n", proxy.Addr(), stream)
				if strings.HasPrefix(where, "prefix") {
					stream += ":shop.orders"
				}
				one := service.MessageBatch{changed("orders", "c", `{"id":1}`, "tx:1", "v1")}
				two := service.MessageBatch{changed("orders", "u", `{"id":1}`, "tx:2", "v2")}
				o := connectedAtLast(t, conf)
				proxy.Hold()
				require.ErrorIs(t, o.WriteBatch(t.Context(), one), service.ErrNotConnected)
				assert.Equal(t, sink.Timeout, sink.KindOf(cause(o.Connect(t.Context()))))
				if restart {
					require.NoError(t, o.Close(t.Context()))
					o = connectedAtLast(t, conf)
				}
				for _, b := range []service.MessageBatch{one, two} {
					err, _ := engine(t, o, b)
					require.NoError(t, err)
				}
				proxy.Pass()
				require.Eventually(t, func() bool { return proxy.Connections() == 1 }, time.Minute, time.Millisecond,
					"the held connection has been passed on to its end")
				assert.Equal(t, []string{"v1", "v2"}, events(s.Stream(t, stream, 2)))
			})
		}
	}
	t.Run("server paused", func(t *testing.T) {
		o := connectedAtLast(t, fmt.Sprintf("url: %s\nprefix: paused\ntimeout: 200ms\nconnect_timeout: 200ms\n", s.URL()))
		require.NoError(t, s.Pause())
		one := numbered(0, 1, "orders")
		require.ErrorIs(t, o.WriteBatch(t.Context(), one), service.ErrNotConnected)
		require.Error(t, o.Connect(t.Context()))
		require.NoError(t, s.Resume())
		err, _ := engine(t, o, one)
		require.NoError(t, err)
		err, _ = engine(t, o, numbered(1, 1, "orders"))
		require.NoError(t, err)
		got := events(s.Stream(t, "paused:shop.orders", 2))
		assert.Equal(t, "1", got[len(got)-1], "%v", got)
	})
}

// TestRealRefusalsForGoodFailAlone: a stream of which the last id is the largest there is, and an entry that the server's limit does not
// allow, with and without the right to ask for the limit.
func TestRealRefusalsForGoodFailAlone(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{Args: []string{"--proto-max-bulk-len", "1mb"}})
	admin := s.Client(t)
	require.NoError(t, admin.XAdd(t.Context(), &redis.XAddArgs{
		Stream: "df:shop.full", ID: "18446744073709551615-18446744073709551615", Values: []any{"n", 1},
	}).Err())
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "df", "reset", "on", ">pass", "+multi", "+exec", "+xadd", "+incr", "+watch", "~df:*").Err())
	for n, user := range []string{"", "username: df\npassword: pass\n"} {
		o := connected(t, fmt.Sprintf("url: redis://%s\nprefix: df\n%s", s.Addr(), user))
		b := service.MessageBatch{
			changed("orders", "c", "", "", "one"), changed("full", "c", "", "", "no id left"),
			changed("orders", "c", "", "", strings.Repeat("x", 3<<20)), changed("orders", "c", "", "", "two"),
		}
		got := failures(t, o, b)
		require.Len(t, got, 2)
		assert.Equal(t, "adding to stream df:shop.full: "+exhausted+"; its last id is the largest there is: delete or rename the stream (kind=routing)", got[1])
		if n == 0 {
			assert.Equal(t, "entry for stream df:shop.orders has a field of 3145728 bytes and the server's proto-max-bulk-len is 1048576 (kind=too_large)", got[2])
		} else {
			assert.Equal(t, "adding to stream df:shop.orders: ERR Protocol error: invalid bulk length; raise proto-max-bulk-len, or lower max_message_bytes (kind=too_large)", got[2])
		}
	}
	assert.Equal(t, []string{"one", "two", "one", "two"}, events(s.Stream(t, "df:shop.orders", 4)))
}
