package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// topics knows which topics exist. Records of a missing topic are not given to the client: it would fail the records
// that it has, and send those that come while the topic is being created.
type topics struct {
	conf topicCreation

	mu      sync.Mutex
	known   map[string]bool    // topics that exist: whether the client has loaded them too; guarded by mu
	refused map[string]refusal // topics that cannot be, for a while; guarded by mu
	limits  map[string]limits  // what topics take, for a while; guarded by mu
}

// refusal is why a topic cannot exist, and until when nobody asks again.
type refusal struct {
	err   error
	until time.Time
}

// askAgain is how long an answer about a topic is believed.
const askAgain = 10 * time.Second

func newTopics(conf topicCreation) topics {
	return topics{conf: conf, known: map[string]bool{}, refused: map[string]refusal{}, limits: map[string]limits{}}
}

// gone returns the topics that the client was handed records of and that the broker does not know, with an error for one of
// them; or an error that says why they cannot be written to.
func (t *topics) gone(ctx context.Context, cl *kgo.Client, a *attempt, wait time.Duration) (map[string]bool, *sink.Error) {
	names := t.without(a, []segment{a.sent}, func(bool, bool) bool { return false })
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	found, err := kadm.NewClient(cl).ListTopics(ctx, names...)
	if err != nil {
		return nil, classify(err, "looking up the topics")
	}
	gone := make(map[string]bool)
	var cause *sink.Error
	for _, name := range names {
		d, ok := found[name]
		switch {
		case !ok || isUnknown(d.Err):
			gone[name] = true
			cause = sink.Errorf(sink.UnknownTopic, "topic %s is gone; %s", name, t.goneHint())
		case cause != nil:
		case d.Err != nil:
			cause = classify(d.Err, "looking up topic "+name)
		default:
			for _, p := range d.Partitions.Sorted() {
				if p.Err != nil && cause == nil {
					cause = classify(p.Err, fmt.Sprintf("partition %d of topic %s", p.Partition, name))
				}
			}
		}
	}
	return gone, cause
}

func (t *topics) goneHint() string {
	if t.conf.enabled {
		return "it is created again"
	}
	return unknownTopicHint
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

// without returns the topics of segments for which should reports false.
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

// ensure looks the names up and creates missing topics if that is configured. It returns an error for each topic that
// cannot be written to yet or ever; see never.
func (t *topics) ensure(ctx context.Context, cl *kgo.Client, names []string) map[string]error {
	bad := make(map[string]error)
	t.mu.Lock()
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		r, refused := t.refused[name]
		if refused = refused && time.Now().Before(r.until); refused {
			bad[name] = r.err
		}
		return refused
	})
	t.mu.Unlock()
	if len(names) == 0 {
		return bad
	}
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
		switch err := bad[name]; {
		case err == nil:
			t.known[name] = false
		case never(err):
			if len(t.refused) >= maxTopicsNamed {
				clear(t.refused)
			}
			t.refused[name] = refusal{err, time.Now().Add(askAgain)}
		}
	}
	return bad
}

// never says that no topic of this name can exist: its records fail, and those of other topics go on.
func never(err error) bool { return sink.KindOf(err) == sink.Routing }

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
		c := classify(e, "creating topic "+name)
		if detail != "" { // the broker's own words say more than the code's
			kind, hint := kindOf(e)
			c = sink.Explain(kind, "creating topic "+name, said{detail, e}, hint)
		}
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

// said is an error in the broker's words.
type said struct {
	words string
	error
}

func (s said) Error() string { return s.words }
func (s said) Unwrap() error { return s.error }

func isUnknown(err error) bool {
	k, _ := kindOf(err)
	return k == sink.UnknownTopic
}

func isExists(err error) bool { return errors.Is(err, kerr.TopicAlreadyExists) }
