package redisout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/sink"
)

const (
	oom       = "OOM command not allowed when used memory > 'maxmemory'."
	wrongType = "WRONGTYPE Operation against a key holding the wrong kind of value"
	noPerm    = "NOPERM No permissions to access a key"
	exhausted = "ERR The stream has exhausted the last possible ID, unable to add more items"
)

// onStream is a fault of one stream.
func onStream(stream, answer string) func([]string) string {
	return func(args []string) string {
		if args[1] == stream {
			return answer
		}
		return ""
	}
}

// failures writes b and returns the error of every message that failed.
func failures(t *testing.T, o *output, b service.MessageBatch) map[int]string {
	t.Helper()
	index := b.Index()
	err, _ := engine(t, o, b)
	out := map[int]string{}
	if err == nil {
		return out
	}
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	be.WalkMessagesIndexedBy(index, func(i int, _ *service.Message, err error) bool {
		if err != nil {
			out[i] = err.Error()
		}
		return true
	})
	return out
}

// why writes b, which waits, and returns what the operator is told.
func why(t *testing.T, o *output, b service.MessageBatch) string {
	t.Helper()
	require.ErrorIs(t, o.WriteBatch(t.Context(), b.Copy()), service.ErrNotConnected)
	err := o.Connect(t.Context())
	require.Error(t, err)
	return cause(err).Error()
}

func TestEntryHasTheWholeMessage(t *testing.T) {
	f := startFake(t)
	o := connected(t, f.conf("max_len: 7\n"))
	m := changed("orders", "u", "", "tx:1", "payload")
	m.MetaSetMut("key", 7) // a processor's number
	require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{m}))
	assert.Equal(t, [][]string{{"~", "7", "*", "event_id", "tx:1", "op", "u", "key", "7", "event", "payload"}}, f.streams["df:shop.orders"])
}

// TestEveryEntryIsAddedOnceInOrder: no limit and no failure that passes loses or repeats an entry.
func TestEveryEntryIsAddedOnceInOrder(t *testing.T) {
	long := strings.Repeat("x", 10<<10) // alone larger than a transaction may be
	for name, tc := range map[string]struct {
		fault func(f *fake, times *int)
		told  []string
	}{
		"no failure": {fault: func(*fake, *int) {}},
		"refused by EXEC, one stream": {
			fault: func(f *fake, _ *int) {
				f.run = func(args []string) string {
					if f.execs > 3 {
						return ""
					}
					return onStream("df:shop.orders", "ERR some reason")(args)
				}
			},
			told: []string{
				"adding to stream df:shop.orders: ERR some reason (kind=other)",
			},
		},
		"refused when queued": {
			fault: func(f *fake, times *int) { f.queue = few(times, onStream("df:shop.items", oom)) },
			told: []string{
				"adding to stream df:shop.items: OOM command not allowed when used memory > 'maxmemory'; raise maxmemory, or bound the streams with max_len (kind=out_of_memory)",
			},
		},
		"the reason is in EXECABORT": {
			fault: func(f *fake, times *int) {
				f.direct = few(times, onWord("running exec", "EXECABORT Transaction discarded because of: MISCONF Errors writing to the AOF file: No space left on device"))
			},
			told: []string{
				"connecting to Redis at ADDR: EXECABORT Transaction discarded because of: MISCONF Errors writing to the AOF file: No space left on device; the server cannot write to its disk and refuses writes (kind=readonly)",
				"adding to streams: EXECABORT Transaction discarded because of: MISCONF Errors writing to the AOF file: No space left on device; the server cannot write to its disk and refuses writes (kind=readonly)",
			},
		},
		"a stream set aside, and then no memory": {
			fault: func(f *fake, times *int) {
				f.queue = few(times, func(args []string) string {
					if args[1] == "df:shop.orders" {
						return noPerm
					}
					if len(f.streams["df:shop.items"]) > 1 {
						return oom
					}
					return ""
				})
			},
		},
		"the connection breaks in a transaction": {
			fault: func(f *fake, times *int) { f.queue = few(times, onStream("df:shop.items", "close")) },
			told: []string{
				"adding to streams at ADDR: the server closed the connection (kind=connect)",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			o := connected(t, f.conf("max_buffered_bytes: 4096\n"))
			times := 2 // or so
			f.set(func() { tc.fault(f, &times) })
			f.execs = 0
			batch := numbered(0, 30, "orders", "items")
			batch[9].SetBytes([]byte(long))
			err, causes := engine(t, o, batch)
			require.NoError(t, err)
			var want [2][]string
			for i := range 30 {
				v := fmt.Sprint(i)
				if i == 9 {
					v = long
				}
				want[i%2] = append(want[i%2], v)
			}
			assert.Equal(t, want[0], f.events("df:shop.orders"))
			assert.Equal(t, want[1], f.events("df:shop.items"))
			var told []string
			for _, c := range causes {
				if text := strings.ReplaceAll(cause(c).Error(), f.addr, "ADDR"); !slices.Contains(told, text) {
					told = append(told, text)
				}
			}
			if tc.told != nil {
				assert.Equal(t, tc.told, told)
			}
		})
	}
}

// few lets a fault happen so many times.
func few(times *int, fault func([]string) string) func([]string) string {
	return func(args []string) string {
		if *times == 0 {
			return ""
		}
		e := fault(args)
		if e != "" {
			*times--
		}
		return e
	}
}

func onWord(word, answer string) func([]string) string {
	return func(args []string) string {
		if args[0] == word {
			return answer
		}
		return ""
	}
}

// TestRefusedForGoodFailsAlone: the others of its batch are added, and it does not count as delivered.
func TestRefusedForGoodFailsAlone(t *testing.T) {
	for answer, want := range map[string]string{
		wrongType: "adding to stream df:shop.items: " + wrongType + "; a key of another type has the name of the stream: rename one of them (kind=routing)",
		exhausted: "adding to stream df:shop.items: " + exhausted + "; its last id is the largest there is: delete or rename the stream (kind=routing)",
		"ERR Elements are too large to be stored": "adding to stream df:shop.items: ERR Elements are too large to be stored (kind=too_large)",
	} {
		f := startFake(t)
		o := connected(t, f.conf(""))
		f.set(func() { f.run = onStream("df:shop.items", answer) })
		assert.Equal(t, map[int]string{1: want, 3: want}, failures(t, o, numbered(0, 5, "orders", "items")))
		assert.Equal(t, []string{"0", "2", "4"}, f.events("df:shop.orders"))
		assert.Empty(t, failures(t, o, numbered(10, 1, "orders")), "nothing stays of it")
	}
}

// TestTooLargeForTheServerFailsAlone: known before where the server tells its limit, else by its answer, with which it closes the
// connection.
func TestTooLargeForTheServerFailsAlone(t *testing.T) {
	f := startFake(t)
	o := connected(t, f.conf(""))
	f.set(func() {
		f.queue = func(args []string) string {
			if len(args[len(args)-1]) > 100 {
				return "ERR Protocol error: invalid bulk length"
			}
			return ""
		}
	})
	b := numbered(0, 5, "orders")
	b[2].SetBytes([]byte(strings.Repeat("x", 200)))
	assert.Equal(t, map[int]string{
		2: "adding to stream df:shop.orders: ERR Protocol error: invalid bulk length; raise proto-max-bulk-len, or lower max_message_bytes (kind=too_large)",
	}, failures(t, o, b))
	assert.Equal(t, []string{"0", "1", "3", "4"}, f.events("df:shop.orders"))

	o.bulk.Store(150)
	assert.Equal(t, map[int]string{
		2: "entry for stream df:shop.orders has a field of 200 bytes and the server's proto-max-bulk-len is 150 (kind=too_large)",
	}, failures(t, o, b))
}

// TestAnotherBatchIsNotTakenForTheParkedOne although it has the same keys and no event ids.
func TestAnotherBatchIsNotTakenForTheParkedOne(t *testing.T) {
	f := startFake(t)
	o := connected(t, f.conf("max_in_flight: 2\n"))
	full := true
	f.set(func() {
		f.queue = func([]string) string {
			if full {
				return oom
			}
			return ""
		}
	})
	one := service.MessageBatch{changed("orders", "u", "1", "", "one")}
	for name, other := range map[string]*service.Message{
		"payload": changed("orders", "u", "1", "", "two"), "key": changed("orders", "u", "2", "", "one"),
		"op": changed("orders", "d", "1", "", "one"), "stream": changed("items", "u", "1", "", "one"), "id": changed("orders", "u", "1", "7", "one"),
	} {
		f.set(func() { full, f.streams = true, map[string][][]string{} })
		require.ErrorIs(t, o.WriteBatch(t.Context(), one.Copy()), service.ErrNotConnected)
		require.Error(t, o.Connect(t.Context()))
		require.ErrorIs(t, o.WriteBatch(t.Context(), service.MessageBatch{other.Copy()}), service.ErrNotConnected)
		require.Error(t, o.Connect(t.Context()))
		assert.Equal(t, 2, o.parked.Len(), name)
		f.set(func() { full = false })
		require.NoError(t, o.WriteBatch(t.Context(), service.MessageBatch{other.Copy()}))
		require.NoError(t, o.WriteBatch(t.Context(), one.Copy()))
		assert.Equal(t, 2, len(f.events("df:shop.orders"))+len(f.events("df:shop.items")), name)
		assert.Zero(t, o.parked.Len(), name)
	}
}

func TestGuard(t *testing.T) {
	f := startFake(t)
	o := connected(t, f.conf(""))
	assert.Equal(t, map[string]int{"df:guard": 1}, f.guards)
	before := len(f.commands)
	require.NoError(t, o.WriteBatch(t.Context(), numbered(0, 2, "orders")))
	assert.Equal(t, []string{"multi", "xadd df:shop.orders", "xadd df:shop.orders", "exec", "watch df:guard"}, f.commands[before:])

	// Another writer connects: nothing was run, and the transaction is sent again.
	connected(t, f.conf(""))
	before = len(f.commands)
	require.NoError(t, o.WriteBatch(t.Context(), numbered(2, 1, "orders")))
	want := []string{"multi", "xadd df:shop.orders", "exec", "watch df:guard"}
	assert.Equal(t, append(want, want...), f.commands[before:])
	assert.Equal(t, []string{"0", "1", "2"}, f.events("df:shop.orders"))

	// Others connect all the time.
	stop := false
	f.set(func() {
		f.queue = func([]string) string {
			for c := range f.conns {
				c.dirty = !stop
			}
			return ""
		}
	})
	assert.Equal(t, "the guard key df:guard at "+f.addr+" was raised 21 times in a row: other writers connect again and again; give each "+
		"pipeline a guard_key of its own (kind=other)", why(t, o, numbered(3, 1, "orders")))
	f.set(func() { stop = true })
	require.NoError(t, o.WriteBatch(t.Context(), numbered(3, 1, "orders")))
	assert.Equal(t, []string{"0", "1", "2", "3"}, f.events("df:shop.orders"))

	// The watch is refused: what was run is not sent again, and the connection is not used again.
	f.set(func() {
		f.queue, f.direct = nil, onWord("watch", "NOPERM User u has no permissions to run the 'watch' command")
	})
	first := o.cl
	assert.Equal(t, "raising the guard key df:guard at "+f.addr+": NOPERM User u has no permissions to run the 'watch' command; run ACL SETUSER default "+
		"+incr +watch ~df:guard (kind=permission)", func() string {
		require.ErrorIs(t, o.WriteBatch(t.Context(), numbered(4, 1, "orders")), service.ErrNotConnected)
		assert.Nil(t, o.cl)
		return o.Connect(t.Context()).Error()
	}())
	f.set(func() { f.direct = nil })
	err, _ := engine(t, o, numbered(4, 1, "orders"))
	require.NoError(t, err)
	assert.NotSame(t, first, o.cl)
	assert.Equal(t, []string{"0", "1", "2", "3", "4"}, f.events("df:shop.orders"))
}

func TestGuardKeys(t *testing.T) {
	for conf, want := range map[string]string{
		"prefix: df":                            "df:guard",
		"prefix: '{df}'":                        "{df}:guard",
		"stream: changes":                       "{changes}:guard",
		"stream: 'a{b}c'":                       "a{b}c:guard",
		"stream: 'a{}c'":                        "{a{}c}:guard",
		"stream: '${! metadata(\"table\") }'":   "deltaforge:guard",
		"prefix: df\nguard_key: one":            "one",
		"stream: changes\nguard_key: '{chan}g'": "{chan}g",
	} {
		c, err := parse("url: redis://h\n" + conf + "\n")
		require.NoError(t, err)
		assert.Equal(t, want, c.guardKey, conf)
	}
}

// TestWhatConnectSays: a server that is there and cannot be written to is named, with the way out.
func TestWhatConnectSays(t *testing.T) {
	for answer, want := range map[string]string{
		"LOADING Redis is loading the dataset in memory":                                   "connecting to Redis at ADDR: LOADING Redis is loading the dataset in memory; it will answer when it has read its data (kind=connect)",
		"READONLY You can't write against a read only replica.":                            "connecting to Redis at ADDR: READONLY You can't write against a read only replica; point url at the primary (kind=readonly)",
		"MISCONF Redis is configured to save RDB snapshots.":                               "connecting to Redis at ADDR: MISCONF Redis is configured to save RDB snapshots; the server cannot write to its disk and refuses writes (kind=readonly)",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "connecting to Redis at ADDR: MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'; point url at the primary (kind=connect)",
		"NOREPLICAS Not enough good replicas to write.":                                    "connecting to Redis at ADDR: NOREPLICAS Not enough good replicas to write; the server has fewer replicas than min-replicas-to-write (kind=backpressure)",
		"MOVED 1 10.0.0.1:6379":                                                            "connecting to Redis at ADDR: MOVED 1 10.0.0.1:6379; the server is part of a Redis Cluster: set kind to cluster; where it is set, the output looks again for the primary of its keys (kind=other)",
		"NOAUTH Authentication required.":                                                  "connecting to Redis at ADDR: NOAUTH Authentication required; set username and password (kind=auth)",
		"BUSY Redis is busy running a script.":                                             "connecting to Redis at ADDR: BUSY Redis is busy running a script; a script keeps the server busy (kind=timeout)",
		oom:                                                                                "connecting to Redis at ADDR: OOM command not allowed when used memory > 'maxmemory'; raise maxmemory, or bound the streams with max_len (kind=out_of_memory)",
		wrongType:                                                                          "raising the guard key df:guard at ADDR: " + wrongType + "; something else has that key: set guard_key (kind=routing)",
		"ERR value is not an integer or out of range":                                      "raising the guard key df:guard at ADDR: ERR value is not an integer or out of range; something else has that key: set guard_key (kind=routing)",
		"ERR max number of clients reached":                                                "connecting to Redis at ADDR: ERR max number of clients reached; raise maxclients (kind=connect)",
		"close":                                                                            "connecting to Redis at ADDR: the server closed the connection (kind=connect)",
	} {
		f := startFake(t)
		f.direct = func(args []string) string {
			if args[0] == "incr" {
				return answer
			}
			return ""
		}
		err := newTestOutput(t, f.conf("")).Connect(t.Context())
		require.Error(t, err, answer)
		assert.Equal(t, want, strings.ReplaceAll(err.Error(), f.addr, "ADDR"))
	}
	f := startFake(t)
	f.direct = onWord("multi", "NOPERM this user has no permissions to run the 'multi' command")
	err := newTestOutput(t, f.conf("")).Connect(t.Context())
	assert.EqualError(t, err, "connecting to Redis at "+f.addr+": NOPERM this user has no permissions to run the 'multi' command; "+
		"grant +multi +exec +xadd +incr +watch and the keys of the streams to this user (kind=permission)")
	assert.EqualError(t, newTestOutput(t, "url: redis://127.0.0.1:1\nprefix: df\n").Connect(t.Context()),
		"connecting to Redis at 127.0.0.1:1: connection refused (kind=connect)")
}

func TestMultiRefusedWhileConnected(t *testing.T) {
	f := startFake(t)
	o := connected(t, f.conf(""))
	f.set(func() { f.direct = onWord("multi", noPerm) })
	assert.Equal(t, "starting a transaction at "+f.addr+": "+noPerm, strings.Split(func() string {
		require.ErrorIs(t, o.WriteBatch(t.Context(), numbered(0, 1, "orders")), service.ErrNotConnected)
		f.set(func() { f.direct = nil })
		return cause(o.Connect(t.Context())).Error()
	}(), ";")[0])
	err, _ := engine(t, o, numbered(0, 1, "orders"))
	require.NoError(t, err)
}

func TestMessagesThatCannotBeEntriesFailAlone(t *testing.T) {
	f := startFake(t)
	errored := changed("orders", "c", "", "", "errored")
	errored.SetError(errors.New("poison value"))
	o := connected(t, f.conf("max_message_bytes: 2000\n"))
	got := failures(t, o, service.MessageBatch{
		changed("orders", "c", "", "", "one"), service.NewMessage([]byte("no table")), errored,
		changed("orders", "c", "", "", strings.Repeat("x", 2000)), changed("orders", "c", "", "", "two"),
	})
	assert.Equal(t, map[int]string{
		1: `the default stream needs the metadata table and schema_name or database, and this message has table="", schema or database=""; set stream (kind=routing)`,
		2: "message carries an error of an earlier step: poison value; route it with a switch on errored(), clear it with a catch processor, or set reject_errored: false (kind=serialization)",
		3: "entry for stream df:shop.orders has 2271 bytes and max_message_bytes is 2000 (kind=too_large)",
	}, got)
	assert.Equal(t, []string{"one", "two"}, f.events("df:shop.orders"))

	o = connected(t, "url: redis://"+f.addr+"\nstream: '${! metadata(\"to\").or(\"\") }'\nreject_errored: false\n")
	errored.MetaSetMut("to", "bad")
	assert.Equal(t, map[int]string{0: "stream is empty for this message (kind=routing)"},
		failures(t, o, service.MessageBatch{changed("orders", "c", "", "", "nowhere"), errored}))
	assert.Equal(t, []string{"errored"}, f.events("bad"))
}

func TestKindsOfUnknownErrors(t *testing.T) {
	kind, hint := kindOf(errors.New("something"))
	assert.Equal(t, sink.Other, kind)
	assert.Empty(t, hint)
}

// TestRowsThatFillNoBatchGoOut, while the pipeline runs and when it ends.
func TestRowsThatFillNoBatchGoOut(t *testing.T) {
	f := startFake(t)
	b := service.NewStreamBuilder()
	require.NoError(t, b.SetYAML("logger: { level: OFF }\noutput:\n  deltaforge_redis:\n    url: redis://"+f.addr+"\n    prefix: df\n    batching: { count: 100 }\n"))
	send, err := b.AddProducerFunc()
	require.NoError(t, err)
	stream, err := b.Build()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(t.Context()) }()
	require.NoError(t, send(t.Context(), changed("orders", "c", "1", "", "the only one")), "it waits for the answer")
	assert.Equal(t, []string{"the only one"}, f.events("df:shop.orders"))
	require.NoError(t, stream.Stop(t.Context()))
	require.NoError(t, <-done)
}

// TestWhatIsSetAsideIsNotLost: one stream without permission, and then the server has no memory.
func TestWhatIsSetAsideIsNotLost(t *testing.T) {
	f := startFake(t)
	o := connected(t, f.conf("max_buffered_bytes: 4096\n"))
	bad := true
	f.set(func() {
		f.queue = func(args []string) string {
			switch {
			case bad && args[1] == "df:shop.orders":
				return noPerm
			case bad && len(f.streams["df:shop.items"]) > 0:
				return oom
			}
			return ""
		}
	})
	b := numbered(0, 60, "orders", "items")
	assert.Contains(t, why(t, o, b), "OOM command not allowed")
	f.set(func() { bad = false })
	require.NoError(t, o.WriteBatch(t.Context(), b.Copy()))
	var want [2][]string
	for i := range b {
		want[i%2] = append(want[i%2], fmt.Sprint(i))
	}
	assert.Equal(t, want[0], f.events("df:shop.orders"))
	assert.Equal(t, want[1], f.events("df:shop.items"))
}

// TestNumbersOfAnAttempt: what failed is not delivered; exactly the server's limit is allowed.
func TestNumbersOfAnAttempt(t *testing.T) {
	a := &attempt{entries: []entry{{message: 0, event: "12345", size: entryOverhead + 5}, {message: 1, event: "123456", size: entryOverhead + 6}}, messages: 2}
	a.begin()
	events, size := a.waiting()
	assert.Equal(t, []int64{2, 2*entryOverhead + 11}, []int64{events, size})
	a.bound(6)
	assert.Empty(t, a.failed)
	a.bound(5)
	assert.EqualError(t, a.failed[1], "entry for stream  has a field of 6 bytes and the server's proto-max-bulk-len is 5 (kind=too_large)")
	assert.Equal(t, []int{0}, a.queue)
	messages, size := a.delivered()
	assert.Equal(t, 1, messages)
	assert.Equal(t, int64(5), size)
}
