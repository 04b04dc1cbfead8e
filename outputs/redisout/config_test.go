package redisout

import (
	"testing"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadConfigurationNamesTheField(t *testing.T) {
	const good = "url: redis://localhost\nprefix: df\n"
	for conf, want := range map[string]string{
		"prefix: df\n":                                               "url",
		"url: ''\nprefix: df\n":                                      "field url: give redis://host:port",
		"url: http://x\nprefix: df\n":                                "field url: it is not redis://",
		"url: redis://:hunter2-sesame/x@host:1\nprefix: df\n":        "field url: it is not redis://",
		"url: redis://u:hunter2-sesame@host:1/x\nprefix: df\n":       "field url: it is not redis://",
		"url: redis://u:hunter2-sesame@h\nusername: v\nprefix: df\n": "field url: it has credentials, and so has username or password",
		good + "username: u\n":                                       "field url: username is set without password",
		"url: unix:///x\nprefix: df\ntls: { enabled: true }\n":       "field tls: a unix socket has no TLS",
		good + "tls: { enabled: true, root_cas_file: /nope }\n":      "field tls: ",
		good + "write: nope\n":                                       `field write: "nope" is not one of stream, hash`,
		"url: redis://h\n":                                           "field stream: give either stream or prefix",
		good + "stream: s\n":                                         "field stream: prefix is only used to build the default stream",
		"url: redis://h\nstream: '${! nope( }'\n":                    "field stream: ",
		good + "max_len: -1\n":                                       "field max_len: -1 is not between 0",
		good + "exact_max_len: true\n":                               "field exact_max_len: it says how max_len is kept, and max_len is 0",
		good + "min_id: nope\n":                                      `field min_id: "nope" is no id of an entry`,
		good + "max_len: 5\nmin_id: '1'\n":                           "field min_id: a stream is trimmed by it or by max_len: remove one",
		good + "write: hash\nmin_id: '1'\n":                          "field write: hash has no min_id",
		good + "max_message_bytes: 1\n":                              "field max_message_bytes: 1 is not between 1024",
		good + "max_buffered_bytes: 1\n":                             "field max_buffered_bytes: 1 is not between 4096",
		good + "timeout: 1ms\n":                                      "field timeout: 1ms is shorter than 100ms",
		good + "connect_timeout: x\n":                                "field connect_timeout: ",
		good + "max_in_flight: 0\n":                                  "field max_in_flight: 0 is not between",
		good + "exactly_once: true\nmax_in_flight: 2\n":              "field exactly_once: want max_in_flight 1, got 2",
		good + "exactly_once: true\nbatching: {count: 10}\n":         "field exactly_once: remove batching",
	} {
		_, err := parse(conf)
		if assert.Error(t, err, conf) {
			assert.ErrorContains(t, err, want, conf)
			assert.NotContains(t, err.Error(), "hunter2-sesame")
		}
	}
}

func TestServerSettings(t *testing.T) {
	c, err := parse("url: rediss://u:p%40ss@h:1/3\nprefix: df\n")
	require.NoError(t, err)
	assert.Equal(t, "p@ss", c.redis.Password)
	assert.Equal(t, "u", c.redis.Username)
	assert.Equal(t, 3, c.redis.DB)
	assert.Equal(t, "h", c.redis.TLSConfig.ServerName)
	assert.Equal(t, "h:1", c.shown)
	assert.Equal(t, -1, c.redis.MaxRetries)
	assert.Equal(t, 1, c.maxInFlight)

	c, err = parse("url: redis://h\nprefix: df\nusername: u\npassword: 'p@/ss'\ntls: { enabled: true }\n")
	require.NoError(t, err)
	assert.Equal(t, "p@/ss", c.redis.Password)
	assert.True(t, c.encrypted)
	assert.NotNil(t, c.redis.Dialer)

	c, err = parse("url: unix://u:p@/run/redis.sock?db=2\nprefix: df\n")
	require.NoError(t, err)
	assert.Equal(t, "unix", c.redis.Network)
	assert.Equal(t, "/run/redis.sock", c.shown)
}

func TestPasswordInClearTextIsAWarning(t *testing.T) {
	for conf, want := range map[string]string{
		"url: redis://:p@redis-1:6379":                              "The password is sent to redis-1:6379 in clear text: TLS is off. Use a rediss:// URL, or turn tls on",
		"url: redis://redis-1\npassword: p":                         "The password is sent to redis-1:6379 in clear text: TLS is off. Use a rediss:// URL, or turn tls on",
		"url: redis://redis-1":                                      "",
		"url: rediss://:p@redis-1:6379":                             "",
		"url: redis://redis-1\npassword: p\ntls: { enabled: true }": "",
		"url: redis://:p@localhost:6379":                            "",
		"url: redis://:p@127.0.0.1:6379":                            "",
		"url: redis://:p@[::1]:6379":                                "",
		"url: unix://:p@/run/redis.sock":                            "",
	} {
		c, err := parse(conf + "\nprefix: df\n")
		require.NoError(t, err)
		assert.Equal(t, want, c.shownPassword(), conf)
	}
}

func TestSpecLintsItsExamples(t *testing.T) {
	view, ok := service.GlobalEnvironment().GetOutputConfig("deltaforge_redis")
	require.True(t, ok)
	assert.NotEmpty(t, view.Summary())
	assert.NotEmpty(t, view.Description())
	for _, e := range examples() {
		sb := service.NewStreamBuilder()
		sb.SetEnvVarLookupFunc(func(string) (string, bool) { return "secret", true })
		require.NoError(t, sb.SetYAML(e.yaml), e.title)
	}
}
