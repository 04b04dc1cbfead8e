package testenv

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// KafkaServer is an Apache Kafka for tests.
type KafkaServer struct{ *servers.Kafka }

// Kafka returns the shared Apache Kafka.
func Kafka(t testing.TB) *KafkaServer {
	t.Helper()
	return &KafkaServer{sharedServer(t, &shared.kafka, EnvKafka, servers.ConnectKafka, servers.StartKafka)}
}

// StartKafka starts an Apache Kafka for this test alone.
func StartKafka(t testing.TB, opts servers.Options) *KafkaServer {
	t.Helper()
	return &KafkaServer{privateServer(t, opts, servers.StartKafka)}
}

// StartSecondBroker starts another broker of the cluster, with the id 2, for this test alone.
func (s *KafkaServer) StartSecondBroker(t testing.TB) *KafkaServer {
	t.Helper()
	return &KafkaServer{privateServer(t, servers.Options{}, s.Kafka.StartSecondBroker)}
}

// Client connects to the plain listener until the end of the test.
func (s *KafkaServer) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Brokers()...)}, opts...)...)
	if err != nil {
		t.Fatalf("making a Kafka client: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// Topic creates a topic for this test and deletes it at its end.
func (s *KafkaServer) Topic(t testing.TB, partitions int) string {
	t.Helper()
	name := Name(t)
	s.CreateTopic(t, name, partitions)
	return name
}

// CreateTopic creates a topic of a given name and deletes it at the end of the test. Name makes a good prefix.
func (s *KafkaServer) CreateTopic(t testing.TB, name string, partitions int) {
	t.Helper()
	admin := kadm.NewClient(s.Client(t))
	if _, err := admin.CreateTopic(t.Context(), int32(partitions), 1, nil, name); err != nil { //nolint:gosec // a handful
		t.Fatalf("creating the Kafka topic %s: %v", name, err)
	}
	t.Cleanup(func() {
		// The shared broker only: one that the test owns goes away with its topics, and may be stopped by now.
		if !s.External() {
			return
		}
		ctx, cancel := cleanupContext()
		defer cancel()
		if _, err := admin.DeleteTopic(ctx, name); err != nil {
			t.Errorf("deleting the Kafka topic %s: %v", name, err)
		}
	})
}

// Consume reads topics from their beginning, committed records only, until it has n records, and fails the test when they do not
// come. Records of one partition are in their order.
func (s *KafkaServer) Consume(t testing.TB, n int, topics ...string) []*kgo.Record {
	t.Helper()
	client := s.consumer(t, topics)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("consuming %v: %d of %d records came: %v", topics, len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// ConsumeAll reads what a topic holds now, committed records only, and returns it without waiting for more.
func (s *KafkaServer) ConsumeAll(t testing.TB, topic string) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	ends, err := s.ends(ctx, t, topic)
	if err != nil {
		t.Fatalf("asking for the end of %s: %v", topic, err)
	}
	missing := map[int32]int64{} // partition -> offset of the last record to come
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			missing[o.Partition] = o.Offset - 1
		}
	})
	// The last record of a transaction is a marker, which is only delivered on request.
	client := s.consumer(t, []string{topic}, kgo.KeepControlRecords())
	defer client.Close()
	var records []*kgo.Record
	for len(missing) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("consuming %s to its end: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			last, ok := missing[r.Partition]
			if ok && r.Offset >= last {
				delete(missing, r.Partition)
			}
			if ok && r.Offset <= last && !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	return records
}

// ends asks for the ends of a topic's partitions, again while a broker under load has no leader for one.
func (s *KafkaServer) ends(ctx context.Context, t testing.TB, topic string) (kadm.ListedOffsets, error) {
	t.Helper()
	admin := kadm.NewClient(s.Client(t))
	for {
		ends, err := admin.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if shards := new(kadm.ShardErrors); errors.As(err, &shards) && len(shards.Errs) > 0 {
			err = shards.Errs[0].Err
		}
		if !kerr.IsRetriable(err) || ctx.Err() != nil {
			return ends, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *KafkaServer) consumer(t testing.TB, topics []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	return s.Client(t, append([]kgo.Opt{
		kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
}

// RedisServer is a Redis for tests.
type RedisServer struct{ *servers.Redis }

// Redis returns the shared Redis. Tests keep apart by the names of their keys.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	return &RedisServer{sharedServer(t, &shared.redis, EnvRedis, servers.ConnectRedis, servers.StartRedis)}
}

// StartRedis starts a Redis for this test alone.
func StartRedis(t testing.TB, opts servers.Options) *RedisServer {
	t.Helper()
	return &RedisServer{privateServer(t, opts, servers.StartRedis)}
}

// Client connects until the end of the test.
func (s *RedisServer) Client(t testing.TB) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatalf("parsing the Redis URL: %v", err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Stream waits until a stream has n entries and returns all it has, in their order. It fails the test when they do not come.
func (s *RedisServer) Stream(t testing.TB, key string, n int) []redis.XMessage {
	t.Helper()
	client := s.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	for {
		entries, err := client.XRange(ctx, key, "-", "+").Result()
		if err == nil && len(entries) >= n {
			return entries
		}
		select {
		case <-ctx.Done():
			t.Fatalf("reading the Redis stream %s: %d of %d entries came; last answer: %v", key, len(entries), n, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// StartSentinels starts, for this test alone, a Redis with two replicas, and three sentinels that watch them.
func StartSentinels(t testing.TB) (nodes, sentinels []*RedisServer) {
	t.Helper()
	for range 3 {
		nodes = append(nodes, StartRedis(t, servers.Options{Args: []string{"--repl-diskless-sync-delay", "0"}}))
	}
	host, port, _ := strings.Cut(nodes[0].Addr(), ":")
	for _, n := range nodes[1:] {
		if err := n.Client(t).Do(t.Context(), "replicaof", host, port).Err(); err != nil {
			t.Fatalf("making a replica: %v", err)
		}
	}
	for range 3 {
		sentinels = append(sentinels, &RedisServer{privateServer(t, servers.Options{}, func(ctx context.Context, opts servers.Options) (*servers.Redis, error) {
			return servers.StartSentinel(ctx, nodes[0].Redis, 2, opts)
		})})
	}
	for _, s := range sentinels { // the sentinels and the replicas find each other by way of the primary
		await(t, "the sentinels know each other", func() bool {
			known, err := s.Client(t).Do(t.Context(), "sentinel", "ckquorum", servers.SentinelMaster).Text()
			replicas, err2 := s.Client(t).Do(t.Context(), "sentinel", "replicas", servers.SentinelMaster).Slice()
			return err == nil && err2 == nil && strings.HasPrefix(known, "OK 3 ") && len(replicas) == 2
		})
	}
	return nodes, sentinels
}

// StartCluster starts, for this test alone, a Redis Cluster of three primaries that share the slots. The first one has a replica, which is the fourth server.
func StartCluster(t testing.TB) (nodes []*RedisServer) {
	t.Helper()
	var buses []string
	for range 4 {
		bus, err := servers.FreePort()
		if err != nil {
			t.Fatalf("a port for a Redis Cluster: %v", err)
		}
		buses = append(buses, strconv.Itoa(bus))
		nodes = append(nodes, StartRedis(t, servers.Options{Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", buses[len(buses)-1], "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0",
		}}))
	}
	do := func(n *RedisServer, args ...any) string {
		t.Helper()
		text, err := n.Client(t).Do(t.Context(), args...).Text()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return text
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		do(nodes[i], "cluster", "addslotsrange", slots[0], slots[1])
	}
	for i, n := range nodes {
		do(n, "cluster", "set-config-epoch", i+1)
		host, port, _ := strings.Cut(n.Addr(), ":")
		do(nodes[0], "cluster", "meet", host, port, buses[i])
	}
	for _, n := range nodes {
		await(t, "the servers of the Cluster know each other", func() bool {
			return strings.Count(do(n, "cluster", "nodes"), "connected") >= len(nodes) && strings.Contains(do(n, "cluster", "info"), "cluster_state:ok")
		})
	}
	do(nodes[3], "cluster", "replicate", do(nodes[0], "cluster", "myid"))
	await(t, "the replica is in step", func() bool { return strings.Contains(do(nodes[3], "info", "replication"), "master_link_status:up") })
	return nodes
}

// await waits for what other processes have to do.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in two minutes: %s", what)
		}
	}
}
