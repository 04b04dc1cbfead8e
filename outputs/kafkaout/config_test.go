package kafkaout

import (
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestBadConfigurationNamesTheField(t *testing.T) {
	const good = "seed_brokers: [ localhost:9092 ]\ntopic_prefix: df\n"
	for conf, want := range map[string]string{
		"topic_prefix: df\n":                                                                   "seed_brokers",
		"seed_brokers: []\ntopic_prefix: df\n":                                                 "field seed_brokers: at least one host:port",
		"seed_brokers: [ 'kafka://x:1' ]\ntopic_prefix: df\n":                                  `field seed_brokers: "kafka://x:1" is a URL; give host:port`,
		"seed_brokers: [ 'x:99999' ]\ntopic_prefix: df\n":                                      `field seed_brokers: "x:99999" has no port between 1 and 65535`,
		"seed_brokers: [ 'x:1' ]\n":                                                            "field topic: give either topic or topic_prefix",
		good + "topic: t\n":                                                                    "field topic: topic_prefix is only used to build the default topic",
		"seed_brokers: [ 'x:1' ]\ntopic: a/b\n":                                                `field topic: "a/b" is not a topic name`,
		"seed_brokers: [ 'x:1' ]\ntopic_prefix: a b\n":                                         `field topic: "a b" is not a topic name`,
		"seed_brokers: [ 'x:1' ]\ntopic: '${! nope( }'\n":                                      "field topic: ",
		good + "key: '${! nope( }'\n":                                                          "field key: ",
		good + "headers: { op: x }\n":                                                          `field headers: "op" cannot be set`,
		good + "partitioner: x\n":                                                              `field partitioner: "x" is not one of`,
		good + "compression: x\n":                                                              `field compression: "x" is not one of`,
		good + "max_message_bytes: 1\n":                                                        "field max_message_bytes: 1 is not between 1024 and 536870912",
		good + "max_buffered_bytes: 1\n":                                                       "field max_buffered_bytes: 1 is not between",
		good + "timeout: 1ms\n":                                                                "field timeout: 1ms is shorter than 100ms",
		good + "connect_timeout: x\n":                                                          "field connect_timeout: ",
		good + "sasl: { username: u }\n":                                                       "field sasl: mechanism is none, but username or password is set",
		good + "sasl: { mechanism: PLAIN, username: u }\n":                                     "field sasl: mechanism PLAIN needs username and password",
		good + "sasl: { mechanism: X, username: u, password: hunter2-sesame }\n":               `field sasl: mechanism "X" is not one of`,
		good + "create_topics: { partitions: 0 }\n":                                            "field create_topics: partitions: 0 is neither",
		good + "create_topics: { replication_factor: 99999 }\n":                                "field create_topics: replication_factor: 99999 is neither",
		good + "exactly_once: true\nmax_in_flight: 2\n":                                        "field exactly_once: want max_in_flight 1, got 2",
		good + "exactly_once: true\nbatching: {count: 10}\n":                                   "field exactly_once: remove batching",
		good + "exactly_once: true\ntransaction_timeout: 15s\n":                                "field transaction_timeout: 15s is shorter than twice the timeout of 10s",
		good + "checkpoint_topic: 'a b'\n":                                                     "field checkpoint_topic: \"a b\" is not a topic name",
		good + "max_in_flight: 0\n":                                                            "field max_in_flight: 0 is not between",
		good + "tls: { enabled: true, root_cas_file: /nope }\n":                                "field tls: ",
		good + "batching: { count: 10, period: x }\nmetadata: { include_patterns: [ '(' ] }\n": "field headers: ",
	} {
		_, err := parse(conf)
		if assert.Error(t, err, conf) {
			assert.ErrorContains(t, err, want, conf)
			assert.NotContains(t, err.Error(), "hunter2-sesame")
		}
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		c, err := parse(good + "sasl: { mechanism: " + mechanism + ", username: u, password: p }\ntls: { enabled: true }\n")
		require.NoError(t, err)
		assert.Equal(t, mechanism, c.SASL.Name())
		assert.NotNil(t, c.TLS)
	}
}

func TestDefaultsKeepOrder(t *testing.T) {
	c, err := parse("seed_brokers: [ 'a:1, b:2', c ]\ntopic_prefix: df\n")
	require.NoError(t, err)
	assert.Equal(t, []string{"a:1", "b:2", "c"}, c.Seeds)
	assert.Equal(t, 1, c.maxInFlight)
	assert.Nil(t, c.TLS)
	assert.Nil(t, c.SASL)
	assert.True(t, c.rejectErrored)
	assert.False(t, c.create.enabled)
}

func parse(conf string) (*config, error) {
	p, err := spec().ParseYAML(conf, nil)
	if err != nil {
		return nil, err
	}
	return parseConfig(p)
}

// TestMurmur2 holds the partitioner against the vectors of Apache Kafka's own test (UtilsTest.testMurmur2) and against
// the algorithm as its Utils.murmur2 describes it.
func TestMurmur2(t *testing.T) {
	vectors := map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	}
	p, err := parse("seed_brokers: [ x ]\ntopic_prefix: df\n")
	require.NoError(t, err)
	for key, hash := range vectors {
		require.Equal(t, hash, javaMurmur2([]byte(key)), key)
	}
	for _, key := range []string{"", "1", "12", "123", "1234", `{"id":1}`, `{"id":18446744073709551615}`, "ключ", "\x00\xff\x80", "foobar", "21"} {
		for _, n := range []int{1, 2, 3, 7, 12, 50, 1000} {
			want := int(uint32(javaMurmur2([]byte(key)))&0x7fffffff) % n
			tp := p.partitioner.ForTopic("t")
			r := &kgo.Record{Key: []byte(key)}
			assert.True(t, tp.RequiresConsistency(r))
			assert.Equal(t, want, tp.Partition(r, n), "%q of %d", key, n)
		}
	}
}

// javaMurmur2 follows org.apache.kafka.common.utils.Utils.murmur2 in Java's int arithmetic.
func javaMurmur2(data []byte) int32 {
	const m, r = 0x5bd1e995, 24
	length := len(data)
	seed := uint32(0x9747b28c)
	h := int32(seed ^ uint32(length))
	for i := range length / 4 {
		i4 := i * 4
		k := int32(data[i4]) + int32(data[i4+1])<<8 + int32(data[i4+2])<<16 + int32(data[i4+3])<<24
		k *= m
		k ^= int32(uint32(k) >> r)
		k *= m
		h *= m
		h ^= k
	}
	base := length &^ 3
	switch length % 4 {
	case 3:
		h ^= int32(data[base+2]) << 16
		fallthrough
	case 2:
		h ^= int32(data[base+1]) << 8
		fallthrough
	case 1:
		h ^= int32(data[base])
		h *= m
	}
	h ^= int32(uint32(h) >> 13)
	h *= m
	h ^= int32(uint32(h) >> 15)
	return h
}

func TestPasswordInClearTextIsAWarning(t *testing.T) {
	for conf, want := range map[string]string{
		"sasl: { mechanism: PLAIN, username: u, password: p }": "The password is sent to kafka-1:9092 in clear text: sasl.mechanism is PLAIN, and tls is off. Turn tls on, " +
			"or use a SCRAM mechanism",
		"sasl: { mechanism: PLAIN, username: u, password: p }\ntls: { enabled: true }": "",
		"sasl: { mechanism: SCRAM-SHA-512, username: u, password: p }":                 "",
		"client_id: x": "",
	} {
		assert.Equal(t, want, newTestOutput(t, []string{"localhost:9092", "kafka-1:9092"}, "topic_prefix: df\n"+conf+"\n").conf.ShownPassword(), conf)
		assert.Empty(t, newTestOutput(t, []string{"127.0.0.1:9092"}, "topic_prefix: df\n"+conf+"\n").conf.ShownPassword(), conf)
	}
}

func TestSpecLintsItsExamples(t *testing.T) {
	view, ok := service.GlobalEnvironment().GetOutputConfig("deltaforge_kafka")
	require.True(t, ok)
	assert.NotEmpty(t, view.Summary())
	assert.NotEmpty(t, view.Description())
	for _, e := range examples() {
		sb := service.NewStreamBuilder()
		sb.SetEnvVarLookupFunc(func(string) (string, bool) { return "secret", true })
		require.NoError(t, sb.SetYAML(e.yaml), e.title)
	}
}
