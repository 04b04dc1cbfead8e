package kafkaout

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// fenceSuffix ends the key of the record by which a new producer knows the end of the topic.
const fenceSuffix = ".fence"

// pinned is a partitioner for all topics but one, whose records say themselves where they go.
type pinned struct {
	kgo.Partitioner
	topic string
}

// ForTopic implements kgo.Partitioner.
func (p pinned) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.topic {
		return kgo.ManualPartitioner().ForTopic(topic)
	}
	return p.Partitioner.ForTopic(topic)
}

// renew makes the producer anew, and reads what the topic has; x.mu is held. From then on no earlier producer can write.
func (x *exact) renew(ctx context.Context) error {
	x.drop()
	c := x.o.conf
	if err := x.ensureTopic(ctx); err != nil {
		return err
	}
	opts := append(clientOptions(c, x.o.log, x.o.stats, x.o.hooks),
		kgo.TransactionalID(x.id()), kgo.TransactionTimeout(c.txTimeout), kgo.RecordPartitioner(pinned{c.partitioner, c.checkpointTopic}))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return classify(err, "making a Kafka client")
	}
	x.cl = cl
	err = x.fence(ctx, cl)
	if err != nil {
		x.drop()
	}
	return err
}

// fence shuts earlier producers out and reads the topic up to a record of its own.
func (x *exact) fence(ctx context.Context, cl *kgo.Client) error {
	c := x.o.conf
	begin, cancel := context.WithTimeout(ctx, c.timeout+c.connectTimeout)
	defer cancel()
	if _, _, err := cl.ProducerID(begin); err != nil {
		return x.explain(err, "registering the transactional id "+x.id())
	}
	nonce := rand.Text()
	mark := &kgo.Record{Topic: c.checkpointTopic, Key: []byte(x.ledger.Key() + fenceSuffix), Value: []byte(nonce)}
	if errs, err := x.commitRecords(begin, cl, []*kgo.Record{mark}); err != nil {
		for _, cause := range errs {
			err = cause
		}
		return x.explain(err, "writing to the topic "+c.checkpointTopic)
	}
	values, err := x.read(ctx, nonce, mark.Offset)
	if err != nil {
		return err
	}
	x.values, x.dirty = values, false
	return nil
}

// readTimeout bounds the reading of the topic.
const readTimeout = time.Minute

// readable returns when consumers see the record with the offset: the brokers answer a commit before that.
func (x *exact) readable(ctx context.Context, offset int64) error {
	cl, err := x.o.client()
	if err != nil {
		return err
	}
	adm, topic := kadm.NewClient(cl), x.o.conf.checkpointTopic
	for {
		ends, err := adm.ListCommittedOffsets(ctx, topic)
		if end, ok := ends.Lookup(topic, 0); err == nil && ok && end.Err == nil && end.Offset > offset {
			return nil
		}
		select {
		case <-time.After(loadPoll):
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
			return classify(err, "waiting for what is committed to the topic "+topic)
		}
	}
}

// stalled is how long a consumer may get nothing of what is there before another one is made.
const stalled = 3 * time.Second

// read returns the newest values of the source's keys, up to the record with the nonce at the offset.
func (x *exact) read(ctx context.Context, nonce string, offset int64) (values map[string][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := x.readable(ctx, offset); err != nil {
		return nil, err
	}
	for values == nil && err == nil {
		values, err = x.consume(ctx, nonce)
	}
	return values, err
}

// consume reads the topic with a consumer of its own. It returns nil when that gets nothing more.
func (x *exact) consume(ctx context.Context, nonce string) (map[string][]byte, error) {
	c := x.o.conf
	opts := append(clientOptions(c, x.o.log, &sink.Stats{}, newHooks(x.o.log, &sink.Stats{})),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.checkpointTopic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, classify(err, "making a Kafka client")
	}
	defer cl.Close()
	key := x.ledger.Key()
	values := make(map[string][]byte)
	for {
		wait, cancel := context.WithTimeout(ctx, stalled)
		fetches := cl.PollFetches(wait)
		cancel()
		for _, e := range fetches.Errors() {
			if c := classify(e.Err, "reading the topic "+x.o.conf.checkpointTopic); ctx.Err() != nil || c.Kind == sink.Permission {
				return nil, c
			}
		}
		if fetches.NumRecords() == 0 && wait.Err() != nil {
			return nil, nil
		}
		for _, r := range fetches.Records() {
			k := string(r.Key)
			switch {
			case k == key+fenceSuffix:
				if string(r.Value) == nonce {
					return values, nil
				}
			case strings.HasPrefix(k, key):
				if values[k] = r.Value; r.Value == nil {
					delete(values, k)
				}
			}
		}
	}
}

// ensureTopic makes the topic of the positions if it is missing, and refuses one that would forget them.
func (x *exact) ensureTopic(ctx context.Context) error {
	c := x.o.conf
	cl, err := x.o.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	name := c.checkpointTopic
	found, err := adm.ListTopics(ctx, name)
	if err != nil {
		return classify(err, "looking up topic "+name)
	}
	if d, ok := found[name]; !ok || isUnknown(d.Err) {
		text := func(s string) *string { return &s }
		made, err := adm.CreateTopic(ctx, 1, c.create.replication, map[string]*string{
			"cleanup.policy": text("compact"), "segment.ms": text("3600000"), "min.cleanable.dirty.ratio": text("0.1"),
		}, name)
		if err == nil {
			err = made.Err
		}
		if err != nil && !isExists(err) {
			return classify(err, "creating topic "+name+" for the positions, with cleanup.policy=compact")
		}
		return nil
	} else if d.Err != nil {
		return classify(d.Err, "looking up topic "+name)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil //nolint:nilerr // a user may be forbidden to ask
	}
	for _, rc := range configs {
		for _, one := range rc.Configs {
			if one.Key == "cleanup.policy" && one.MaybeValue() != "compact" {
				return sink.Errorf(sink.Other, "topic %s keeps the positions and has cleanup.policy=%s, which deletes them: set it to compact, or choose another %s", name,
					one.MaybeValue(), fieldCheckpointTopic)
			}
		}
	}
	return nil
}
