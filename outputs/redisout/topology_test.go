package redisout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestKindNamesWhatItLacks(t *testing.T) {
	for conf, want := range map[string]string{
		"url: 'redis://a,redis://b'\nprefix: df\n":                                                "field kind: kind is simple, and url has 2 servers",
		"url: redis://a\nprefix: df\nkind: failover\n":                                            "field kind: failover wants master",
		"url: redis://a\nprefix: df\nmaster: m\n":                                                 "field kind: master, sentinel_username and sentinel_password are for failover",
		"url: unix:///x\nprefix: df\nkind: cluster\n":                                             "field kind: cluster does not go with a unix socket",
		"url: 'redis://u:hunter2-sesame@a,redis://b'\nprefix: '{df}'\nkind: cluster\n":            "field kind: the servers of url have different credentials",
		"url: 'redis://a/1,redis://b/2'\nprefix: df\nkind: failover\nmaster: m\n":                 "field kind: the servers of url have different databases",
		"url: redis://a/1\nprefix: '{df}'\nkind: cluster\n":                                       "field kind: a Cluster has the database 0 only, and url names 1",
		"url: redis://a\nprefix: df\nkind: cluster\n":                                             `and "df:checkpoint:key" is not in that of the guard key "df:guard": give prefix a hash tag, such as {shop}`,
		"url: redis://a\nstream: 's${! json() }'\nkind: cluster\n":                                `is not in that of the guard key "deltaforge:guard"`,
		"url: redis://a\nstream: s\nguard_key: g\nkind: cluster\n":                                `is not in that of the guard key "g"`,
		"url: redis://a\nstream: s\nguard_key: '{x}g'\nkind: cluster\n":                           `and "s" is not in that of the guard key "{x}g"`,
		"url: 'redis://a,redis://:hunter2-sesame/x@b:1'\nprefix: df\nkind: failover\nmaster: m\n": "field url: it is not redis://",
		"url: redis://a\nprefix: '{df}'\nkind: cluster\nsentinel_password: hunter2-sesame\n":      "field kind: master, sentinel_username and sentinel_password are for failover",
	} {
		_, err := parse(conf)
		if assert.Error(t, err, conf) {
			assert.ErrorContains(t, err, want, conf)
			assert.NotContains(t, err.Error(), "hunter2-sesame")
		}
	}
	for conf, shown := range map[string]string{
		"url: 'rediss://u:p@a,rediss://u:p@b:1'\nprefix: df\nkind: failover\nmaster: m\n": `the primary "m" of the sentinels a:6379, b:1`,
		"url: redis://a\nprefix: '{df}'\nkind: cluster\n":                                 "the Cluster of a:6379",
		"url: redis://a\nprefix: 'x{df}y'\nkind: cluster\nexactly_once: true\n":           "the Cluster of a:6379",
		"url: redis://a\nstream: s\nkind: cluster\n":                                      "the Cluster of a:6379",
		"url: redis://a\nstream: '{s}${! json() }'\nguard_key: '{s}'\nkind: cluster\n":    "the Cluster of a:6379",
	} {
		c, err := parse(conf)
		if assert.NoError(t, err, conf) {
			assert.Equal(t, shown, c.shown)
		}
	}
}

func TestHashTag(t *testing.T) {
	for key, want := range map[string]string{"a": "a", "{a}b": "a", "x{a}{b}": "a", "{}a": "{}a", "{a": "{a", "a}{b}": "b", "{{a}}": "{a"} {
		assert.Equal(t, want, hashTag(key), key)
	}
}

func addresses(nodes []*testenv.RedisServer) (list string) {
	for i, n := range nodes {
		if i > 0 {
			list += ","
		}
		list += n.URL()
	}
	return list
}

// once leaves out what was added again.
func once(entries []redis.XMessage) (events []string) {
	for _, e := range entries {
		if text := e.Values["event"].(string); !slices.Contains(events, text) {
			events = append(events, text)
		}
	}
	return events
}

// A primary is killed under Sentinel. The output goes on with the new one, and what the replicas had is there, in order. With exactly_once, what only the old
// primary had is seen to be gone: the position in the new one is that of its entries.
func TestSentinelFailOver(t *testing.T) {
	nodes, sentinels := testenv.StartSentinels(t)
	conf := fmt.Sprintf("url: '%s'\nprefix: df\nkind: failover\nmaster: %s\ntimeout: 1s\nconnect_timeout: 2s\n", addresses(sentinels), servers.SentinelMaster)
	o := connected(t, conf)
	write := func(from int) {
		err, causes := engine(t, o, numbered(from, 10, "a"))
		require.NoError(t, err)
		for _, c := range causes {
			require.Regexp(t, `kind=(connect|timeout|readonly)\)`, c.Error())
		}
	}
	for n := range 10 {
		write(n * 10)
	}
	require.Equal(t, int64(2), nodes[0].Client(t).Wait(t.Context(), 2, time.Minute).Val(), "replicas that have it")
	require.NoError(t, nodes[0].Kill())
	for n := range 10 {
		write(100 + n*10)
	}
	primary := sentinelPrimary(t, sentinels, nodes)
	assert.Equal(t, ints(0, 200), once(primary.Client(t).XRange(t.Context(), "df:shop.a", "-", "+").Val()))

	// The replica that is left gets no more, and the primary acknowledges all the same.
	source := newExactSource()
	exact := exactOutput(t, source, conf)
	require.NoError(t, exact.WriteBatch(t.Context(), source.events(1, 5, "b")))
	require.Equal(t, int64(1), primary.Client(t).Wait(t.Context(), 1, time.Minute).Val(), "replicas that have it")
	left := nodes[1]
	if left == primary {
		left = nodes[2]
	}
	require.NoError(t, left.Pause())
	require.NoError(t, primary.Client(t).Do(t.Context(), "client", "kill", "type", "replica").Err())
	require.NoError(t, exact.WriteBatch(t.Context(), source.events(6, 5, "b")))
	require.NoError(t, primary.Kill())
	require.NoError(t, left.Resume())
	err, _ := engine(t, exact, source.events(11, 5, "b"))
	require.ErrorIs(t, err, exactly.ErrFenced)
	require.ErrorContains(t, err, "the sink has lost what came after it, as in a fail-over to a replica that was late")
	require.ErrorIs(t, source.fenced, exactly.ErrFenced)
	// What there is, is whole: an instance that is started again goes on after it.
	cl := left.Client(t)
	assert.Equal(t, ints(1, 5), once(cl.XRange(t.Context(), "df:shop.b", "-", "+").Val()))
	assert.Equal(t, source.saved[0], cl.Get(t.Context(), recordKey).Val())
}

func sentinelPrimary(t *testing.T, sentinels, nodes []*testenv.RedisServer) *testenv.RedisServer {
	t.Helper()
	addr, err := sentinels[0].Client(t).Do(t.Context(), "sentinel", "get-master-addr-by-name", servers.SentinelMaster).StringSlice()
	require.NoError(t, err)
	for _, n := range nodes {
		if n.Addr() == addr[0]+":"+addr[1] {
			return n
		}
	}
	require.Fail(t, "an unknown primary", "%v", addr)
	return nil
}

// The primary of the output's slot is killed in a Cluster. The output goes on with the replica, and what that had is there, in order. Exactly-once works there, too, and
// a stream of another slot fails alone.
func TestClusterFailOver(t *testing.T) {
	nodes := testenv.StartCluster(t)
	tag := tagIn(0, 5460)
	conf := fmt.Sprintf("url: '%s'\nkind: cluster\ntimeout: 1s\nconnect_timeout: 2s\nguard_key: '{%s}:guard'\n", addresses(nodes[1:2]), tag)
	o := connected(t, conf+"stream: '${! if content() == \"lost\" { \"elsewhere\" } else { \"{"+tag+"}:a\" } }'\n")
	source := newExactSource()
	exact := exactOutput(t, source, conf+"prefix: '{"+tag+"}'\n")
	require.NoError(t, exact.WriteBatch(t.Context(), source.events(1, 5, "b")))
	for n := range 10 {
		err, _ := engine(t, o, numbered(n*10, 10, "a"))
		require.NoError(t, err)
	}
	err, _ := engine(t, o, service.MessageBatch{changed("x", "u", "", "1", "lost")})
	require.ErrorContains(t, err, `in a Cluster all keys of the output have to be in one slot, and "elsewhere" does not have the hash tag {`+tag+`}`)
	require.Equal(t, int64(1), nodes[0].Client(t).Wait(t.Context(), 1, time.Minute).Val(), "replicas that have it")
	require.NoError(t, nodes[0].Kill())
	for n := range 10 {
		err, _ := engine(t, o, numbered(100+n*10, 10, "a"))
		require.NoError(t, err)
	}
	err, _ = engine(t, exact, source.events(6, 5, "b"))
	require.NoError(t, err)
	cl := nodes[3].Client(t)
	assert.Equal(t, ints(0, 200), once(cl.XRange(t.Context(), "{"+tag+"}:a", "-", "+").Val()))
	var events []string
	for _, e := range cl.XRange(t.Context(), "{"+tag+"}:shop.b", "-", "+").Val() {
		events = append(events, e.Values["event"].(string))
	}
	assert.Equal(t, ints(1, 10), events, "each once")
}

// tagIn finds a hash tag whose slot is in a range.
func tagIn(from, to uint16) string {
	for n := 0; ; n++ {
		if slot := slotOf(fmt.Sprint("t", n)); from <= slot && slot <= to {
			return fmt.Sprint("t", n)
		}
	}
}

// slotOf is CRC-16/XMODEM, as Redis Cluster takes it of a key.
func slotOf(key string) (crc uint16) {
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}
