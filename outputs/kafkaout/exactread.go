package kafkaout

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/kafkaconn"
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

// renew makes the producer anew, and reads what the topic has; x.mu is held. From then on no earlier producer can write. The producer sends
// while it is handed more: when a record fails, nothing of its transaction is committed.
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
	begin, cancel := context.WithTimeout(ctx, c.timeout+c.ConnectTimeout)
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

// read returns the newest values of the source's keys, up to the record with the nonce at the offset.
func (x *exact) read(ctx context.Context, nonce string, offset int64) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	cl, err := x.o.client()
	if err != nil {
		return nil, err
	}
	c, key := x.o.conf, x.ledger.Key()
	if err := kafkaconn.AwaitReadable(ctx, cl, c.checkpointTopic, offset); err != nil {
		return nil, classify(err, "reading the positions")
	}
	values := make(map[string][]byte)
	see := func(r *kgo.Record) (more bool) {
		switch k := string(r.Key); {
		case k == key+fenceSuffix:
			return string(r.Value) != nonce
		case r.Value == nil:
			delete(values, k)
		case strings.HasPrefix(k, key):
			values[k] = r.Value
		}
		return true
	}
	opts := clientOptions(c, x.o.log, &sink.Stats{}, newHooks(x.o.log, &sink.Stats{}))
	if err := kafkaconn.ReadTo(ctx, opts, c.checkpointTopic, see); err != nil {
		return nil, classify(err, "reading the positions")
	}
	return values, nil
}

// ensureTopic makes the topic of the positions if it is missing, and refuses one that would forget them.
func (x *exact) ensureTopic(ctx context.Context) error {
	cl, err := x.o.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, x.o.conf.timeout)
	defer cancel()
	err = kafkaconn.EnsureCompacted(ctx, cl, x.o.conf.checkpointTopic, x.o.conf.create.replication)
	if err == nil {
		return nil
	}
	if errors.Is(err, kafkaconn.ErrNotCompacted) {
		return sink.Errorf(sink.Other, "%s: %w", fieldCheckpointTopic, err)
	}
	return classify(err, "preparing the topic of the positions")
}
