package kafkaout

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// exactSource numbers its records, and notes with which event each transaction was to end, and which was written.
type exactSource struct {
	name   string
	ledger *exactly.Ledger
	asked  []string
	saved  []string
	fenced error
}

func newExactSource(name string) *exactSource {
	s := &exactSource{name: name}
	s.ledger = exactly.NewLedger("orders", s)
	s.ledger.Arm()
	return s
}

func (s *exactSource) Prepare(last *exactly.Mark) (exactly.Prepared, error) {
	at := "stays"
	if last != nil {
		at = fmt.Sprint(last.Order)
	}
	s.asked = append(s.asked, at)
	value := fmt.Sprintf("%s %d: %s", s.name, len(s.asked), at)
	return exactly.Prepared{
		Records: []exactly.Record{{Key: "orders.snapshot", Value: []byte("progress")}, {Key: "orders", Value: []byte(value)}},
		Saved:   func() { s.saved = append(s.saved, value) },
	}, nil
}

func (s *exactSource) Fenced(err error) { s.fenced = err }

var exactTable = &change.Table{ //nolint:gochecknoglobals // immutable
	Source: &change.Source{Connector: "fake", Name: "fake"}, Database: "shop", Name: "a", Columns: []change.Column{{Name: "id"}},
}

// events makes n events; the payload of each is its order.
func (s *exactSource) events(from, n int) service.MessageBatch {
	b := make(service.MessageBatch, n)
	for i := range b {
		k := from + i
		ev := &change.Event{
			Op: change.Create, Table: exactTable, Index: uint64(k),
			Origin: &change.Origin{ReadAt: time.Now(), Tx: &change.Tx{Position: "p", CommitTime: time.Now()}},
			Mark:   &exactly.Mark{Ledger: s.ledger, N: i + 1, Order: uint64(k), Cut: true},
		}
		b[i] = change.NewMessage(ev, []byte(fmt.Sprint(k)), []byte("key"))
	}
	return b
}

const exactConf = "topic_prefix: df\nexactly_once: true\ncompression: none\n"

// exactOutput is a connected output that keeps the position of the source.
func exactOutput(t *testing.T, s *exactSource, addrs []string, conf string) *output {
	t.Helper()
	p, err := spec().ParseYAML(fmt.Sprintf("seed_brokers: [ %q ]\n", strings.Join(addrs, ","))+conf, nil)
	require.NoError(t, err)
	c, err := parseConfig(p)
	require.NoError(t, err)
	res := testenv.Resources()
	require.NoError(t, exactly.Of(res).Offer(s.ledger))
	o := newOutput(c, res)
	t.Cleanup(func() { require.NoError(t, o.Close(context.Background())) })
	require.Eventually(t, func() bool { return o.Connect(t.Context()) == nil }, 2*time.Minute, 20*time.Millisecond)
	return o
}

// committed reads the values of a topic that a consumer with read_committed sees, up to the last one that is wanted.
func committed(t *testing.T, addrs []string, topic, last string) (got []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for len(got) == 0 || got[len(got)-1] != last {
		f := cl.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "have %v", got)
		f.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func ints(from, n int) (out []string) {
	for k := range n {
		out = append(out, fmt.Sprint(from+k))
	}
	return out
}

func exactCluster(t *testing.T) *kfake.Cluster {
	t.Helper()
	c := fake(t)
	require.NoError(t, c.CreateTopic("df.shop.a", 1, map[string]string{"max.message.bytes": "5000"}))
	return c
}

// What became of a transaction whose answer was lost is told by the position, and each row is written once.
func TestExactlyOnceThroughLostAnswers(t *testing.T) {
	for name, written := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			c := exactCluster(t)
			s := newExactSource("one")
			o := exactOutput(t, s, c.ListenAddrs(), exactConf)
			err, _ := engine(t, o, s.events(1, 5))
			require.NoError(t, err)

			// A transaction whose outcome the output does not know.
			batch := s.events(6, 5)
			a, _ := o.begin(batch)
			x := o.exact
			tx, err := s.ledger.Rows(t.Context(), &exactly.Mark{Order: 10})
			require.NoError(t, err)
			lost := &transaction{tx: tx}
			for i := range a.recs {
				ev, _ := change.FromMessage(batch[i])
				lost.recs, lost.marks = append(lost.recs, &a.recs[i]), append(lost.marks, ev.Mark)
			}
			if written {
				require.NoError(t, x.send(t.Context(), lost))
			}
			x.mu.Lock()
			x.open = lost
			x.drop()
			x.mu.Unlock()

			err, _ = engine(t, o, batch)
			require.NoError(t, err)
			err, _ = engine(t, o, s.events(11, 5))
			require.NoError(t, err)
			assert.Equal(t, ints(1, 15), committed(t, c.ListenAddrs(), "df.shop.a", "15"))
			assert.Equal(t, []string{"one 1: 5", "one 2: 10", "one 3: 15"}, s.saved)
			values, err := x.Load(t.Context(), "orders", "orders.schema_history", "orders.snapshot")
			require.NoError(t, err)
			assert.Equal(t, [][]byte{[]byte("one 3: 15"), nil, []byte("progress")}, values)
		})
	}
}

// A second instance takes over: the first one writes nothing any more. One that has only been started does not stop it.
func TestExactlyOnceFenced(t *testing.T) {
	c := exactCluster(t)
	first := newExactSource("first")
	o := exactOutput(t, first, c.ListenAddrs(), exactConf)
	err, _ := engine(t, o, first.events(1, 5))
	require.NoError(t, err)

	second := newExactSource("second")
	o2 := exactOutput(t, second, c.ListenAddrs(), exactConf) // its producer shuts the first one out, which comes back
	err, _ = engine(t, o, first.events(6, 5))
	require.NoError(t, err)

	values, err := o2.exact.Load(t.Context(), "orders")
	require.NoError(t, err)
	o2.exact.mu.Lock()
	o2.exact.dirty = true // it was read before the first one came back
	o2.exact.mu.Unlock()
	values, err = o2.exact.Load(t.Context(), "orders")
	require.NoError(t, err)
	assert.Equal(t, "first 2: 10", string(values[0]))
	second.ledger.Know(values[0])
	require.NoError(t, o2.exact.Save(t.Context(), func(ctx context.Context) (*exactly.Tx, error) { return second.ledger.Rows(ctx, nil) }))

	for range 2 {
		err, _ := engine(t, o, first.events(11, 5))
		require.ErrorIs(t, err, exactly.ErrFenced)
		assert.Equal(t, sink.Fenced, sink.KindOf(err))
	}
	require.ErrorIs(t, first.fenced, exactly.ErrFenced)
	err, _ = engine(t, o2, second.events(11, 5))
	require.NoError(t, err)
	assert.Equal(t, ints(1, 15), committed(t, c.ListenAddrs(), "df.shop.a", "15"))
	assert.NoError(t, second.fenced)
}

// A record that the broker refuses for good fails alone, is not passed by the position, and is not in the way of the others.
func TestExactlyOnceRefusedForGood(t *testing.T) {
	c := exactCluster(t)
	s := newExactSource("one")
	o := exactOutput(t, s, c.ListenAddrs(), exactConf)
	batch := s.events(1, 6)
	ev, _ := change.FromMessage(batch[2])
	batch[2] = change.NewMessage(ev, []byte(strings.Repeat("x", 6000)), []byte("key"))
	for range 2 { // the source sends it again
		err, _ := engine(t, o, batch)
		var all *service.BatchError
		require.ErrorAs(t, err, &all)
		var failed []int
		all.WalkMessages(func(i int, _ *service.Message, err error) bool {
			if err != nil {
				failed = append(failed, i)
				assert.Equal(t, sink.TooLarge, sink.KindOf(err))
			}
			return true
		})
		assert.Equal(t, []int{2}, failed)
	}
	assert.Equal(t, []string{"1", "2", "4", "5", "6"}, committed(t, c.ListenAddrs(), "df.shop.a", "6"))
	assert.Equal(t, []string{"6", "2", "stays", "3"}, s.asked)
	assert.Equal(t, []string{"one 2: 2", "one 3: stays"}, s.saved)
}

// A topic of positions that forgets them is refused.
func TestExactlyOnceNeedsACompactedTopic(t *testing.T) {
	c := exactCluster(t)
	require.NoError(t, c.CreateTopic("forgets", 1, map[string]string{"cleanup.policy": "delete"}))
	p, err := spec().ParseYAML(fmt.Sprintf("seed_brokers: [ %q ]\ncheckpoint_topic: forgets\n", strings.Join(c.ListenAddrs(), ","))+exactConf, nil)
	require.NoError(t, err)
	conf, err := parseConfig(p)
	require.NoError(t, err)
	res := testenv.Resources()
	require.NoError(t, exactly.Of(res).Offer(newExactSource("one").ledger))
	o := newOutput(conf, res)
	defer func() { require.NoError(t, o.Close(context.Background())) }()
	require.ErrorContains(t, o.Connect(t.Context()), "topic forgets keeps the positions and has cleanup.policy=delete, which deletes them: set it to compact, or choose another topic")
}

func TestExactlyOnceLint(t *testing.T) {
	lint := func(more string) string {
		l := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter()
		found, err := l.LintYAML([]byte("input: {generate: {mapping: 'root = {}'}}\noutput:\n  deltaforge_kafka:\n    seed_brokers: [ a ]\n    topic_prefix: df\n    exactly_once: true\n" + more))
		require.NoError(t, err)
		var texts []string
		for _, f := range found {
			texts = append(texts, f.Error())
		}
		return strings.Join(texts, "\n")
	}
	assert.NotContains(t, lint(""), "exactly_once")
	assert.Contains(t, lint("    max_in_flight: 4\n"), "exactly_once: want max_in_flight 1")
	assert.Contains(t, lint("    batching: {count: 100}\n"), "exactly_once: remove batching")
}
