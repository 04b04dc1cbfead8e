package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicPartitions is the number of partitions of each topic: enough to see that the order of a row is kept.
const topicPartitions = 3

// broker is the Kafka inside this process and its consumer. What has been consumed is deleted, so that a demo that runs for
// a day does not fill the memory.
type broker struct {
	cluster *kfake.Cluster
	client  *kgo.Client
	topics  []string
	first   chan []byte // the first event; has room for it

	mu       sync.Mutex
	replay   *replay        // guarded by mu
	offsets  map[spot]int64 // the next offset to consume; guarded by mu
	records  int            // guarded by mu
	position string         // of the newest event; guarded by mu
}

// spot is a partition.
type spot struct {
	topic     string
	partition int32
}

func startBroker(topics []string) (*broker, error) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(topicPartitions, topics...))
	if err != nil {
		return nil, fmt.Errorf("starting Kafka in this process: %w", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		cluster.Close()
		return nil, fmt.Errorf("connecting a consumer to Kafka: %w", err)
	}
	return &broker{
		cluster: cluster, client: client, topics: topics, first: make(chan []byte, 1),
		replay: newReplay(), offsets: map[spot]int64{},
	}, nil
}

func (b *broker) addr() string { return b.cluster.ListenAddrs()[0] }

// close ends a consume as well.
func (b *broker) close() {
	b.client.Close()
	b.cluster.Close()
}

// consume takes every event until ctx ends or the broker is closed.
func (b *broker) consume(ctx context.Context) error {
	trimmed := time.Now()
	for {
		fetches := b.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil //nolint:nilerr // that is how it is stopped
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consuming from Kafka: %w", err)
		}
		b.take(fetches)
		if time.Since(trimmed) > 10*time.Second {
			if err := b.trim(); err != nil {
				return err
			}
			trimmed = time.Now()
		}
	}
}

func (b *broker) take(fetches kgo.Fetches) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fetches.EachRecord(func(r *kgo.Record) {
		if b.records == 0 {
			b.first <- r.Value
		}
		b.records++
		b.offsets[spot{r.Topic, r.Partition}] = r.Offset + 1
		ev, err := parseEvent(r.Topic, r.Key, r.Value)
		if err != nil {
			b.replay.fault("%v", err)
			return
		}
		b.replay.apply(ev)
		b.position = ev.position
	})
}

// trim deletes what has been consumed.
func (b *broker) trim() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at, offset := range b.offsets {
		if err := b.cluster.DeleteRecords(at.topic, at.partition, offset); err != nil {
			return fmt.Errorf("deleting consumed records of %s/%d: %w", at.topic, at.partition, err)
		}
	}
	return nil
}

// received returns the number of records consumed, their counts and the position of the newest.
func (b *broker) received() (records int, counts tally, position string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts = tally{}
	counts.add(b.replay.counts)
	return b.records, counts, b.position
}

// atEnd reports whether everything in the topics has been consumed.
func (b *broker) atEnd() (bool, error) {
	var produced int64
	for _, topic := range b.topics {
		partitions := b.cluster.PartitionInfos(topic)
		if len(partitions) != topicPartitions {
			return false, fmt.Errorf("topic %s has %d partitions, not %d", topic, len(partitions), topicPartitions)
		}
		for _, p := range partitions {
			produced += p.HighWatermark
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return produced == int64(b.records), nil
}

// compare is compare with what was received.
func (b *broker) compare(written tally, tables map[string]map[string]row) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return compare(written, tables, b.replay)
}
