// Package topic keeps values in a compacted Kafka topic.
//
// Whose a key is says a record of its own. Who claims a key registers the transactional id of the key, which refuses what earlier owners still have on
// their way, and writes its owner into that record. A producer that is made anew after a failure looks there first.
package topic

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/kafkaconn"
)

const (
	// ownerSuffix and endSuffix end the keys of the records that say whose a key is, and by which a reader knows the end of the topic.
	ownerSuffix = "\x00owner"
	endSuffix   = "\x00end"
	// mostClaims is how often a key is claimed again in one call, when others claim it at the same time.
	mostClaims = 10
	// timeout bounds the writing of one value.
	timeout = 15 * time.Second
	// readTimeout bounds the reading of the topic.
	readTimeout = time.Minute
)

// Topic is one topic. Its methods may be called concurrently.
type Topic struct {
	conn        kafkaconn.Conn
	name        string
	replication int16
	owner       string // this instance

	mu   sync.Mutex
	keys map[string]*key // guarded by mu
}

// key is a key that this instance has claimed.
type key struct {
	mu    sync.Mutex
	name  string
	cl    *kgo.Client // nil: it is to be made anew; guarded by mu, as are the others
	value []byte
	whose string
}

// Open returns a topic. It connects at first use.
func Open(conn kafkaconn.Conn, name string, replication int16) *Topic {
	return &Topic{conn: conn, name: name, replication: replication, owner: rand.Text(), keys: map[string]*key{}}
}

// String says where the topic is.
func (t *Topic) String() string {
	return fmt.Sprintf("topic %s at %s", t.name, strings.Join(t.conn.Seeds, ","))
}

func (t *Topic) key(name string) *key {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.keys[name]
	if k == nil {
		k = &key{name: name}
		t.keys[name] = k
	}
	return k
}

// Claim makes a key this instance's. The topic is made when it is missing.
func (t *Topic) Claim(ctx context.Context, name string) (err error) {
	k := t.key(name)
	k.mu.Lock()
	defer k.mu.Unlock()
	for range mostClaims {
		if err = t.renew(ctx, k); err == nil {
			err = t.commit(ctx, k, &kgo.Record{Key: []byte(name + ownerSuffix), Value: []byte(t.owner)})
		}
		if err == nil {
			k.whose = t.owner
			return nil
		}
		k.drop()
		if !superseded(err) {
			break
		}
		select { // so that not all of them come again at once
		case <-time.After(time.Duration(mathrand.IntN(500)) * time.Millisecond):
		case <-ctx.Done():
			return t.explain(ctx.Err())
		}
	}
	return t.explain(err)
}

// Write sets the value of a key that this instance has claimed; nil: none. It reports false, and changes nothing, when another instance has claimed the key
// since.
func (t *Topic) Write(ctx context.Context, name string, value []byte) (mine bool, err error) {
	k := t.key(name)
	k.mu.Lock()
	defer k.mu.Unlock()
	for range 2 {
		if k.cl == nil {
			if err := t.renew(ctx, k); err != nil {
				return true, t.explain(err)
			}
		}
		if k.whose != t.owner {
			return false, nil
		}
		if err = t.commit(ctx, k, &kgo.Record{Key: []byte(name), Value: value}); err == nil {
			k.value = value
			return true, nil
		}
		k.drop()
		if !superseded(err) {
			break
		}
	}
	return true, t.explain(err)
}

// superseded reports whether a producer has been made with the same transactional id since.
func superseded(err error) bool {
	return slices.ContainsFunc([]error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState,
		kerr.TransactionAbortable,
	},
		func(target error) bool { return errors.Is(err, target) })
}

// Peek returns the value of a key, nil if there is none. It claims nothing. Of a key that this instance has claimed it is what this instance knows.
func (t *Topic) Peek(ctx context.Context, name string) ([]byte, error) {
	k := t.key(name)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cl != nil {
		return k.value, nil
	}
	all, err := t.all(ctx)
	return all[name], err
}

// Keys returns the keys that have a value, in order.
func (t *Topic) Keys(ctx context.Context) (keys []string, err error) {
	all, err := t.all(ctx)
	for k := range all {
		if !strings.HasSuffix(k, ownerSuffix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys, err
}

// all reads the whole topic. It marks its end with a record of its own, for which it needs no transaction.
func (t *Topic) all(ctx context.Context) (map[string][]byte, error) {
	cl, err := kgo.NewClient(append(t.conn.Options(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return nil, fmt.Errorf("making a Kafka client: %w", err)
	}
	defer cl.Close()
	begin, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := kafkaconn.EnsureCompacted(begin, cl, t.name, t.replication); err != nil {
		return nil, t.explain(err)
	}
	end := &kgo.Record{Topic: t.name, Key: []byte(endSuffix), Value: []byte(rand.Text())}
	if err := cl.ProduceSync(begin, end).FirstErr(); err != nil {
		return nil, t.explain(err)
	}
	all, err := t.read(ctx, cl, end)
	return all, t.explain(err)
}

// read returns the newest values of all keys, up to a record.
func (t *Topic) read(ctx context.Context, cl *kgo.Client, end *kgo.Record) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := kafkaconn.AwaitReadable(ctx, cl, t.name, end.Offset); err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	return values, kafkaconn.ReadTo(ctx, t.conn.Options(), t.name, func(r *kgo.Record) bool {
		switch k := string(r.Key); {
		case strings.HasSuffix(k, endSuffix):
			return string(r.Value) != string(end.Value)
		case r.Value == nil:
			delete(values, k)
		default:
			values[k] = r.Value
		}
		return true
	})
}

// renew makes the producer of a key anew, and reads its value and whose it is; k.mu is held. From then on no earlier producer can write.
func (t *Topic) renew(ctx context.Context, k *key) error {
	k.drop()
	cl, err := kgo.NewClient(append(t.conn.Options(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.TransactionalID("deltaforge-checkpoint-"+t.name+"-"+k.name), kgo.TransactionTimeout(2*timeout))...)
	if err != nil {
		return fmt.Errorf("making a Kafka client: %w", err)
	}
	k.cl = cl
	if err := t.look(ctx, k); err != nil {
		k.drop()
		return err
	}
	return nil
}

func (t *Topic) look(ctx context.Context, k *key) error {
	begin, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := kafkaconn.EnsureCompacted(begin, k.cl, t.name, t.replication); err != nil {
		return err
	}
	if _, _, err := k.cl.ProducerID(begin); err != nil {
		return fmt.Errorf("registering the transactional id deltaforge-checkpoint-%s-%s: %w", t.name, k.name, err)
	}
	end := &kgo.Record{Key: []byte(k.name + endSuffix), Value: []byte(rand.Text())}
	if err := t.commit(begin, k, end); err != nil {
		return err
	}
	values, err := t.read(ctx, k.cl, end)
	if err != nil {
		return err
	}
	k.value, k.whose = values[k.name], string(values[k.name+ownerSuffix])
	return nil
}

// commit writes one record in a transaction; k.mu is held.
func (t *Topic) commit(ctx context.Context, k *key, r *kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r.Topic = t.name
	if err := k.cl.BeginTransaction(); err != nil {
		return err
	}
	if err := k.cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		return err
	}
	if err := kafkaconn.AwaitShown(ctx, k.cl, t.name); err != nil {
		return err
	}
	return k.cl.EndTransaction(ctx, kgo.TryCommit)
}

func (k *key) drop() {
	if k.cl != nil {
		k.cl.Close()
		k.cl = nil
	}
}

// Close ends the connections.
func (t *Topic) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.keys {
		k.mu.Lock()
		k.drop()
		k.mu.Unlock()
	}
	return nil
}

func (t *Topic) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", t, err)
}
