package kafkaconn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// poll is how often a broker is asked for something that it does not tell.
	poll = 5 * time.Millisecond
	// stalled is how long a consumer may get nothing of what is there before another one is made.
	stalled = 3 * time.Second
)

// ErrNotCompacted means that a topic deletes what is old.
var ErrNotCompacted = errors.New("the topic is not compacted")

// EnsureCompacted makes a compacted topic of one partition if it is missing, and refuses one that deletes records for their age.
func EnsureCompacted(ctx context.Context, cl *kgo.Client, name string, replication int16) error {
	adm := kadm.NewClient(cl)
	found, err := adm.ListTopics(ctx, name)
	if err != nil {
		return fmt.Errorf("looking up topic %s: %w", name, err)
	}
	d, ok := found[name]
	if !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition) || errors.Is(d.Err, kerr.UnknownTopicID) {
		return makeCompacted(ctx, adm, name, replication)
	}
	if d.Err != nil {
		return fmt.Errorf("looking up topic %s: %w", name, d.Err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil //nolint:nilerr // a user may be forbidden to ask
	}
	for _, rc := range configs {
		for _, one := range rc.Configs {
			if one.Key == "cleanup.policy" && one.MaybeValue() != "compact" {
				return fmt.Errorf("%w: topic %s keeps the positions and has cleanup.policy=%s, which deletes them: set it to compact, or choose another topic",
					ErrNotCompacted, name, one.MaybeValue())
			}
		}
	}
	return nil
}

func makeCompacted(ctx context.Context, adm *kadm.Client, name string, replication int16) error {
	text := func(s string) *string { return &s }
	made, err := adm.CreateTopic(ctx, 1, replication, map[string]*string{
		"cleanup.policy": text("compact"), "segment.ms": text("3600000"), "min.cleanable.dirty.ratio": text("0.1"),
	}, name)
	if err == nil {
		err = made.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating topic %s for the positions, with cleanup.policy=compact: %w", name, err)
	}
	return nil
}

// AwaitShown returns when a producer shows a partition of a topic. A producer that is told to commit before that finds that nothing was written, gives the
// transaction up, and returns no error.
func AwaitShown(ctx context.Context, cl *kgo.Client, topic string) error {
	for {
		if leader, _, err := cl.PartitionLeader(topic, 0); leader >= 0 || err != nil {
			return nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the partitions of topic %s: %w", topic, ctx.Err())
		}
	}
}

// AwaitReadable returns when consumers see the record with an offset in a topic's first partition: brokers answer a commit before that.
func AwaitReadable(ctx context.Context, cl *kgo.Client, topic string, offset int64) error {
	adm := kadm.NewClient(cl)
	for {
		ends, err := adm.ListCommittedOffsets(ctx, topic)
		if end, ok := ends.Lookup(topic, 0); err == nil && ok && end.Err == nil && end.Offset > offset {
			return nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
			return fmt.Errorf("waiting for what is committed to the topic %s: %w", topic, err)
		}
	}
}

// ReadTo reads a topic's first partition from its beginning with a client of its own, and calls see for each committed record until it returns false.
// The record for which it does so must be readable.
func ReadTo(ctx context.Context, opts []kgo.Opt, topic string, see func(r *kgo.Record) bool) error {
	for {
		done, err := readOnce(ctx, opts, topic, see)
		if done || err != nil {
			return err
		}
	}
}

// readOnce is ReadTo with one client. Done is false when it gets nothing more.
func readOnce(ctx context.Context, opts []kgo.Opt, topic string, see func(r *kgo.Record) bool) (done bool, err error) {
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return false, fmt.Errorf("making a Kafka client: %w", err)
	}
	defer cl.Close()
	for {
		wait, cancel := context.WithTimeout(ctx, stalled)
		fetches := cl.PollFetches(wait)
		cancel()
		for _, e := range fetches.Errors() {
			if ctx.Err() != nil || forbidden(e.Err) {
				return false, fmt.Errorf("reading the topic %s: %w", topic, e.Err)
			}
		}
		if fetches.NumRecords() == 0 && wait.Err() != nil {
			return false, nil
		}
		for _, r := range fetches.Records() {
			if !see(r) {
				return true, nil
			}
		}
	}
}

// forbidden reports whether an error stays until somebody grants a right.
func forbidden(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.Is(err, kerr.SaslAuthenticationFailed)
}
