package redisout

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/exactly"
	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// exactSource numbers its records, and notes with which event each transaction was to end, and which was written.
type exactSource struct {
	ledger *exactly.Ledger
	asked  []string
	saved  []string
	fenced error
}

func newExactSource() *exactSource {
	s := &exactSource{}
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
	value := fmt.Sprintf("record %d: %s", len(s.asked), at)
	return exactly.Prepared{
		Records: []exactly.Record{{Key: "orders.snapshot", Value: []byte("progress")}, {Key: "orders", Value: []byte(value)}},
		Saved:   func() { s.saved = append(s.saved, value) },
	}, nil
}

func (s *exactSource) Fenced(err error) { s.fenced = err }

var exactTables = &change.Source{Connector: "fake", Name: "fake"} //nolint:gochecknoglobals // immutable

// events makes n events; the payload of each is its order.
func (s *exactSource) events(from, n int, tables ...string) service.MessageBatch {
	b := make(service.MessageBatch, n)
	for i := range b {
		k := from + i
		ev := &change.Event{
			Op: change.Create, Table: &change.Table{Source: exactTables, Database: "shop", Name: tables[k%len(tables)], Columns: []change.Column{{Name: "id"}}},
			Origin: &change.Origin{ReadAt: time.Now(), Tx: &change.Tx{Position: "p"}}, Index: uint64(k),
			Mark: &exactly.Mark{Ledger: s.ledger, N: i + 1, Order: uint64(k), Cut: true},
		}
		b[i] = change.NewMessage(ev, []byte(fmt.Sprint(k)), nil)
	}
	return b
}

// exactOutput is a connected output that keeps the position of the source.
func exactOutput(t *testing.T, s *exactSource, conf string) *output {
	t.Helper()
	c, err := parse(conf + "exactly_once: true\n")
	require.NoError(t, err)
	res := testenv.Resources()
	require.NoError(t, exactly.Of(res).Offer(s.ledger))
	o := newOutput(c, res)
	t.Cleanup(func() { require.NoError(t, o.Close(context.Background())) })
	require.NoError(t, o.Connect(t.Context()))
	return o
}

func ints(from, n int) (out []string) {
	for k := range n {
		out = append(out, fmt.Sprint(from+k))
	}
	return out
}

const recordKey = "df:checkpoint:orders"

// What becomes of a transaction whose answer does not come is looked up, and each entry is added once.
func TestExactlyOnceThroughLostAnswers(t *testing.T) {
	once := func(f *fake, answer string) func([]string) string {
		n := 0
		return func(args []string) string {
			if n++; args[0] == "exec" || args[0] == "running exec" {
				if n > 0 {
					n = -1 << 30
					return answer
				}
			}
			return ""
		}
	}
	for name, fault := range map[string]func(*fake){
		"none":                  func(*fake) {},
		"lost on the way there": func(f *fake) { f.direct = once(f, "close") },
		"lost on the way back":  func(f *fake) { f.ran = once(f, "close") },
		"out of memory": func(f *fake) {
			n := 0
			f.queue = func(args []string) string {
				if args[0] == "xadd" {
					if n++; n == 2 {
						return "OOM command not allowed"
					}
				}
				return ""
			}
		},
		"watched key touched, and as it was": func(f *fake) {
			f.queue = func(args []string) string {
				if args[0] == "xadd" {
					f.touch(recordKey)
					f.queue = nil
				}
				return ""
			}
		},
		"no memory for the position": func(f *fake) {
			f.queue = func(args []string) string {
				if args[0] == "set" {
					f.queue = nil
					return "OOM command not allowed"
				}
				return ""
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			s := newExactSource()
			o := exactOutput(t, s, f.conf(""))
			err, _ := engine(t, o, s.events(1, 5, "a"))
			require.NoError(t, err)
			f.set(func() { fault(f) })
			batch := s.events(6, 5, "a")
			err, _ = engine(t, o, batch)
			require.NoError(t, err)
			err, _ = engine(t, o, batch) // sent again by the source
			require.NoError(t, err)
			err, _ = engine(t, o, s.events(11, 5, "a"))
			require.NoError(t, err)
			assert.Equal(t, ints(1, 15), f.events("df:shop.a"))
			f.mu.Lock()
			defer f.mu.Unlock()
			assert.Equal(t, s.saved[len(s.saved)-1], f.values[recordKey])
			assert.Equal(t, "progress", f.values[recordKey+".snapshot"])
			assert.Len(t, s.saved, 3)
		})
	}
}

// Without rows the position is saved in the same way, after what is not finished.
func TestExactlyOnceSavesWithoutRows(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf(""))
	save := func() error {
		return o.exact.Save(t.Context(), func(ctx context.Context) (*exactly.Tx, error) { return s.ledger.Rows(ctx, nil) })
	}
	require.NoError(t, save())
	require.NoError(t, o.exact.Save(t.Context(), func(context.Context) (*exactly.Tx, error) { return nil, nil }), "nothing to write")
	f.set(func() {
		f.ran = func([]string) string { f.ran = nil; return "close" }
	})
	require.Error(t, save())
	require.NoError(t, save())
	values, err := o.exact.Load(t.Context(), "orders", "orders.schema_history", "orders.snapshot")
	require.NoError(t, err)
	assert.Equal(t, [][]byte{[]byte("record 3: stays"), nil, []byte("progress")}, values)
	assert.Equal(t, []string{"record 1: stays", "record 2: stays", "record 3: stays"}, s.saved)
}

// Whoever finds another position than its own writes nothing any more.
func TestExactlyOnceFenced(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf(""))
	require.NoError(t, o.WriteBatch(t.Context(), s.events(1, 5, "a")))
	f.set(func() { f.values[recordKey] = "another's"; f.touch(recordKey) })
	for range 2 {
		err := o.WriteBatch(t.Context(), s.events(6, 5, "a"))
		require.ErrorIs(t, err, exactly.ErrFenced)
		assert.Equal(t, sink.Fenced, sink.KindOf(err))
	}
	require.ErrorIs(t, s.fenced, exactly.ErrFenced)
	assert.Equal(t, ints(1, 5), f.events("df:shop.a"))
}

// An event that can never be added fails alone, is not passed by the position, and is not in the way of the others.
func TestExactlyOnceRefusedForGood(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf(""))
	f.set(func() { f.values["df:shop.b"] = "a string" })
	batch := s.events(1, 6, "a")
	batch[2] = s.events(3, 1, "b")[0]
	for range 2 { // the source sends it again
		err := o.WriteBatch(t.Context(), batch)
		var all *service.BatchError
		require.ErrorAs(t, err, &all)
		var failed []int
		all.WalkMessages(func(i int, _ *service.Message, err error) bool {
			if err != nil {
				failed = append(failed, i)
				assert.ErrorContains(t, err, "adding to stream df:shop.b: the key is a string")
			}
			return true
		})
		assert.Equal(t, []int{2}, failed)
	}
	assert.Equal(t, []string{"1", "2", "4", "5", "6"}, f.events("df:shop.a"))
	assert.Equal(t, []string{"2", "stays"}, s.asked)
}

// An entry that fails inside a transaction that was run, since its stream has become something else meanwhile, is not taken for delivered: it is refused until it can be
// added, and is added then.
func TestExactlyOnceFailsInsideATransaction(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf(""))
	f.set(func() {
		f.run = func(args []string) string {
			if args[0] == "xadd" && args[1] == "df:shop.b" {
				return "WRONGTYPE Operation against a key holding the wrong kind of value"
			}
			return ""
		}
	})
	batch := s.events(1, 6, "a")
	batch[2] = s.events(3, 1, "b")[0]
	for range 3 { // the source sends it again
		err := o.WriteBatch(t.Context(), batch)
		var all *service.BatchError
		require.ErrorAs(t, err, &all)
		assert.Equal(t, 1, all.IndexedErrors())
		assert.ErrorContains(t, err, "adding to stream df:shop.b: WRONGTYPE")
	}
	f.set(func() { f.run = nil })
	require.NoError(t, o.WriteBatch(t.Context(), batch))
	require.NoError(t, o.WriteBatch(t.Context(), batch))
	assert.Equal(t, []string{"1", "2", "4", "5", "6"}, f.events("df:shop.a"))
	assert.Equal(t, []string{"3"}, f.events("df:shop.b"))
}

// A transaction that would be too large ends where the source can go on, and nowhere else.
func TestExactlyOnceCutsBatches(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf("max_buffered_bytes: 4096\n"))
	write := func(batch service.MessageBatch, cut func(i int) bool) {
		for i, m := range batch {
			ev, _ := change.FromMessage(m)
			ev.Mark.Cut = cut(i)
		}
		require.NoError(t, o.WriteBatch(t.Context(), batch))
	}
	write(s.events(1, 60, "a"), func(i int) bool { return i%10 == 4 || i >= 40 }) // 15 of them fit
	assert.Equal(t, []string{"15", "25", "35", "50", "60"}, s.asked)
	write(s.events(61, 40, "a"), func(i int) bool { return i == 29 })
	assert.Equal(t, []string{"90", "100"}, s.asked[5:])
	assert.Equal(t, ints(1, 100), f.events("df:shop.a"))
}

// What is no event of the source has no place, and is not written.
func TestExactlyOnceForeignMessages(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf(""))
	for name, m := range map[string]*service.Message{
		"made by a processor": changed("a", "c", "", "1", "x"),
		"of another source":   newExactSource().events(1, 1, "a")[0],
	} {
		require.Equal(t, service.ErrNotConnected, o.WriteBatch(t.Context(), service.MessageBatch{m}), name)
		require.ErrorContains(t, cause(o.Connect(t.Context())), "exactly_once: message 0 of the batch is not an event of the source that keeps its position here")
	}
	assert.Empty(t, f.events("df:shop.a"))
}

// An output without its source says so, and so does a second output.
func TestExactlyOnceNeedsItsSource(t *testing.T) {
	f := startFake(t)
	s := newExactSource()
	o := exactOutput(t, s, f.conf(""))
	c, err := parse(f.conf("exactly_once: true\n"))
	require.NoError(t, err)
	second := newOutput(c, testenv.Resources())
	second.exact.pipeline = o.exact.pipeline
	defer func() { require.NoError(t, second.Close(context.Background())) }()
	require.ErrorIs(t, second.Connect(t.Context()), exactly.ErrSinks)

	alone := newOutput(c, testenv.Resources())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, alone.Connect(ctx), context.DeadlineExceeded)
	require.NoError(t, alone.Close(context.Background()))
}

// The key of the position is beside the streams: the same permission, and in a Cluster the same slot.
func TestCheckpointKeys(t *testing.T) {
	for conf, want := range map[string]string{
		"prefix: df":               "df:checkpoint:orders",
		"prefix: '{df}'":           "{df}:checkpoint:orders",
		"stream: changes":          "{changes}:checkpoint:orders",
		"stream: 'x:{y}:z'":        "x:{y}:z:checkpoint:orders",
		"stream: 'a:${! meta() }'": "deltaforge:checkpoint:orders",
	} {
		c, err := parse("url: redis://h\nexactly_once: true\n" + conf + "\n")
		require.NoError(t, err)
		assert.Equal(t, want, c.checkpointKey("orders"), conf)
	}
}

func TestExactlyOnceLint(t *testing.T) {
	lint := func(more string) string {
		l := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter()
		found, err := l.LintYAML([]byte("input: {generate: {mapping: 'root = {}'}}\noutput:\n  deltaforge_redis:\n    url: redis://h\n    prefix: df\n    exactly_once: true\n" + more))
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
