package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// clientOptions makes an idempotent producer with acks=all (the client's defaults) that sends only when flushed and
// never gives up on a record by itself: no retry limit, no delivery timeout. Its record and byte limits are lifted
// because an attempt bounds what it hands over.
func clientOptions(c *config, log *service.Logger, stats *sink.Stats) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.seeds...),
		kgo.ClientID(c.clientID),
		kgo.WithLogger(demoted{log}),
		kgo.WithHooks(&hooks{stats: stats, log: log, up: map[int32]bool{}}),
		kgo.DisableClientMetrics(),
		// A batch refused by a broker that is no longer the leader waits for this long before it finds the new one.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.DialTimeout(c.connectTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(c.partitioner),
		kgo.ProducerBatchCompression(c.codec, kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.maxMessageBytes)),
		kgo.BrokerMaxWriteBytes(int32(max(100<<20, c.maxMessageBytes+1<<20))),
		kgo.MaxBufferedRecords(math.MaxInt32),
		kgo.ManualFlushing(),
		kgo.ProducerOnDataLossDetected(func(topic string, partition int32) {
			defer stats.Caught(log, clientComponent)
			log.With("topic", topic, "partition", partition).
				Warn("The broker has lost records that it had acknowledged; going on with a new producer epoch")
		}),
	}
	if c.tls != nil {
		opts = append(opts, kgo.DialTLSConfig(c.tls))
	}
	if c.sasl != nil {
		opts = append(opts, kgo.SASL(c.sasl))
	}
	return opts
}

// demoted passes the client's log on at a level at which it does not disturb: what matters comes back as errors.
type demoted struct{ log *service.Logger }

func (demoted) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (d demoted) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	d.log.With(append([]any{"client", "franz-go"}, keyvals...)...).Debug(msg)
}

// hooks counts what the client does by itself. The client calls them from many goroutines.
type hooks struct {
	stats *sink.Stats
	log   *service.Logger

	mu sync.Mutex
	up map[int32]bool // broker: true when its connection works, false when it broke; guarded by mu
}

const produceKey = 0 // Kafka protocol, API key of Produce

// OnBrokerConnect counts a connection that follows a broken one.
func (h *hooks) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	defer h.stats.Caught(h.log, clientComponent)
	h.mu.Lock()
	defer h.mu.Unlock()
	up, seen := h.up[meta.NodeID]
	switch {
	case err == nil && seen && !up:
		h.stats.Reconnected()
		fallthrough
	case err == nil:
		h.up[meta.NodeID] = true
	case seen:
		h.up[meta.NodeID] = false
	}
}

// OnBrokerE2E counts a produce request that broke, which the client repeats.
func (h *hooks) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	defer h.stats.Caught(h.log, clientComponent)
	if e2e.WriteErr == nil && e2e.ReadErr == nil {
		return
	}
	if key == produceKey {
		h.stats.Retried()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up[meta.NodeID] = false
}

var (
	_ kgo.HookBrokerConnect = (*hooks)(nil)
	_ kgo.HookBrokerE2E     = (*hooks)(nil)
	_ kgo.Logger            = demoted{}
)

// topics knows which topics exist. Records of a topic that does not are not given to the client: it would fail those
// that it has and send those that come while the topic is being created.
type topics struct {
	conf topicCreation

	mu    sync.Mutex
	known map[string]bool // topics that exist: whether the client has loaded them too; guarded by mu
}

// forget has a topic looked up again before anything more is written to it. The client keeps the identity of a topic
// that it has seen, and refuses one that was deleted and created again, until it is purged.
func (t *topics) forget(cl *kgo.Client, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, name)
	cl.PurgeTopicsFromProducing(name)
}

// unknown returns those topics of the work that have not been seen to exist.
func (t *topics) unknown(a *attempt) []string {
	return t.without(a, a.work, func(known, _ bool) bool { return known })
}

// without returns the topics of segments that are not as they should be.
func (t *topics) without(a *attempt, segs []segment, should func(known, loaded bool) bool) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names map[string]struct{}
	a.eachTopic(segs, func(name string) {
		loaded, known := t.known[name]
		if should(known, loaded) {
			return
		}
		if names == nil {
			names = make(map[string]struct{})
		}
		names[name] = struct{}{}
	})
	return slices.Sorted(maps.Keys(names))
}

// loadPoll is how often the client is asked whether it has loaded a topic, which happens once for each.
const loadPoll = time.Millisecond

// awaitLoaded returns when the client shows the partitions of every topic of what it was handed, or an error of theirs: from
// then on every record lies in the queue of its partition. It gives up at the end of ctx; then order depends on nothing
// being refused.
func (t *topics) awaitLoaded(ctx context.Context, cl *kgo.Client, a *attempt) {
	for _, name := range t.without(a, []segment{a.sent}, func(_, loaded bool) bool { return loaded }) {
		for a.pending.Load() > 0 {
			leader, _, err := cl.PartitionLeader(name, 0)
			if leader >= 0 || err != nil {
				break
			}
			select {
			case <-time.After(loadPoll):
			case <-ctx.Done():
				return
			}
		}
		t.mu.Lock()
		if _, known := t.known[name]; known {
			t.known[name] = true
		}
		t.mu.Unlock()
	}
}

// ensure looks the names up, creates what is missing where that is asked for, and returns an error for each topic that
// cannot be written to yet.
func (t *topics) ensure(ctx context.Context, cl *kgo.Client, names []string) map[string]error {
	bad := make(map[string]error)
	adm := kadm.NewClient(cl)
	found, err := adm.ListTopics(ctx, names...)
	if err != nil {
		for _, name := range names {
			bad[name] = classify(err, "looking up topic "+name)
		}
		return bad
	}
	var missing []string
	for _, name := range names {
		switch d, ok := found[name]; {
		case ok && d.Err == nil:
		case !ok || isUnknown(d.Err):
			missing = append(missing, name)
		default:
			bad[name] = classify(d.Err, "looking up topic "+name)
		}
	}
	if len(missing) > 0 {
		t.createAll(ctx, adm, missing, bad)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		if bad[name] == nil {
			t.known[name] = false
		}
	}
	return bad
}

func (t *topics) createAll(ctx context.Context, adm *kadm.Client, missing []string, bad map[string]error) {
	if !t.conf.enabled {
		for _, name := range missing {
			bad[name] = sink.Errorf(sink.UnknownTopic, "topic %s does not exist; %s", name, unknownTopicHint)
		}
		return
	}
	made, err := adm.CreateTopics(ctx, t.conf.partitions, t.conf.replication, t.conf.config, missing...)
	for _, name := range missing {
		e, detail := err, ""
		if e == nil {
			if r, ok := made[name]; ok {
				e, detail = r.Err, r.ErrMessage
			} else {
				e = errors.New("the broker did not answer for it")
			}
		}
		if e == nil || isExists(e) {
			continue
		}
		if detail != "" {
			e = fmt.Errorf("%w (%s)", e, detail)
		}
		c := classify(e, "creating topic "+name)
		if c.Kind == sink.Other {
			c = sink.Errorf(sink.UnknownTopic, "%w; check create_topics.partitions, replication_factor and config", c.Err)
		}
		bad[name] = c
	}
}

// firstOf returns one of the errors, always the same, with the names of all topics it stands for.
func firstOf(bad map[string]error) error {
	names := slices.Sorted(maps.Keys(bad))
	first := bad[names[0]]
	if len(names) == 1 {
		return first
	}
	rest := names[1:]
	more := ""
	if len(rest) > 10 {
		rest, more = rest[:10], ", ..."
	}
	return sink.Errorf(sink.KindOf(first), "%w; and %d more topics: %s%s", first, len(names)-1, strings.Join(rest, ", "), more)
}

func isUnknown(err error) bool {
	k, _ := kindOf(err)
	return k == sink.UnknownTopic
}

func isExists(err error) bool { return errors.Is(err, kerr.TopicAlreadyExists) }
