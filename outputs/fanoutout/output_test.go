package fanoutout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithoutLeaks(m)) }

// shelf is an output that a test opens and shuts.
type shelf struct {
	mu   sync.Mutex
	shut bool
	away bool
	got  []string
}

func (s *shelf) Connect(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errors.New("it is away")
	}
	return nil
}
func (*shelf) Close(context.Context) error { return nil }
func (s *shelf) WriteBatch(_ context.Context, batch service.MessageBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return errors.New("it is shut")
	}
	for _, m := range batch {
		b, err := m.AsBytes()
		if err != nil {
			return err
		}
		s.got = append(s.got, string(b))
	}
	return nil
}

func (s *shelf) set(shut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = shut
}

func (s *shelf) have() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// shelves are by the name in their configuration.
var shelves = struct {
	mu  sync.Mutex
	all map[string]*shelf
}{all: map[string]*shelf{}}

func of(name string) *shelf {
	shelves.mu.Lock()
	defer shelves.mu.Unlock()
	if shelves.all[name] == nil {
		shelves.all[name] = &shelf{}
	}
	return shelves.all[name]
}

func init() {
	service.MustRegisterBatchOutput("shelf", service.NewConfigSpec().Field(service.NewStringField("id")),
		func(p *service.ParsedConfig, _ *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			id, err := p.FieldString("id")
			return of(id), service.BatchPolicy{}, 1, err
		})
}

// opened returns the output of a configuration, and what ends it.
func opened(t *testing.T, conf string) (o *output, end func()) {
	t.Helper()
	p, err := spec().ParseYAML(conf, nil)
	require.NoError(t, err)
	o, err = newOutput(p, testenv.Resources())
	require.NoError(t, err)
	require.NoError(t, o.Connect(t.Context()))
	end = sync.OnceFunc(func() { assert.NoError(t, o.Close(context.Background())) })
	t.Cleanup(end)
	return o, end
}

func batch(from, to int) (b service.MessageBatch) {
	for n := from; n < to; n++ {
		b = append(b, service.NewMessage(fmt.Append(nil, n)))
	}
	return b
}

func numbers(from, to int) (all []string) {
	for n := from; n < to; n++ {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

const patience = time.Minute

func arrives(t *testing.T, s *shelf, want []string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.have()) >= len(want) }, patience, 5*time.Millisecond)
	assert.Equal(t, want, s.have())
}

// An output that is not required is late while it is away, also over a restart, and has everything in order in the end.
func TestLateOutputCatchesUp(t *testing.T) {
	me := testenv.Name(t)
	a, b := of(me+"a"), of(me+"b")
	conf := fmt.Sprintf("outputs: [{name: a, output: {shelf: {id: %sa}}}, {name: b, required: false, output: {shelf: {id: %sb}}}]\nspool: {path: %s}\n", me, me,
		filepath.Join(t.TempDir(), "spool.db"))
	o, end := opened(t, conf)
	require.NoError(t, o.WriteBatch(t.Context(), batch(0, 5)))
	assert.Equal(t, numbers(0, 5), a.have())
	arrives(t, b, numbers(0, 5))
	b.set(true)
	for n := 5; n < 50; n += 5 {
		require.NoError(t, o.WriteBatch(t.Context(), batch(n, n+5)))
	}
	assert.Equal(t, numbers(0, 50), a.have())
	assert.Equal(t, numbers(0, 5), b.have())
	end()
	o, _ = opened(t, conf)
	require.NoError(t, o.WriteBatch(t.Context(), batch(50, 55)))
	b.set(false)
	arrives(t, b, numbers(0, 55))
	require.Eventually(t, func() bool {
		events, size, err := o.spool.waiting(t.Context(), "b")
		return assert.NoError(t, err) && events == 0 && size == 0
	}, patience, 5*time.Millisecond)
}

// A required output is waited for; what it refuses goes back to the source.
func TestRequiredOutput(t *testing.T) {
	me := testenv.Name(t)
	a, b := of(me+"a"), of(me+"b")
	o, _ := opened(t, fmt.Sprintf("commit_policy: all\noutputs: [{name: a, output: {shelf: {id: %sa}}}, {name: b, required: false, output: {shelf: {id: %sb}}}]\nspool: {path: %s}\n",
		me, me, filepath.Join(t.TempDir(), "none", "spool.db")))
	a.set(true)
	require.ErrorContains(t, o.WriteBatch(t.Context(), batch(0, 2)), "output a: it is shut")
	a.set(false)
	require.NoError(t, o.WriteBatch(t.Context(), batch(0, 2)))
	assert.Equal(t, numbers(0, 2), a.have())
	assert.Equal(t, slices.Concat(numbers(0, 2), numbers(0, 2)), b.have(), "at least once")
}

// Any two of three are enough, and the third has everything later.
func TestQuorum(t *testing.T) {
	me := testenv.Name(t)
	c := of(me + "c")
	one := func(name string) string {
		return fmt.Sprintf("{name: %s, output: {shelf: {id: %s}}}", name, me+name)
	}
	o, _ := opened(t, fmt.Sprintf("commit_policy: quorum(2)\noutputs: [%s, %s, %s]\nspool: {path: %s}\n", one("a"), one("b"), one("c"), filepath.Join(t.TempDir(), "s.db")))
	c.set(true)
	for n := range 5 {
		require.NoError(t, o.WriteBatch(t.Context(), batch(n, n+1)))
	}
	assert.Equal(t, numbers(0, 5), of(me+"a").have())
	assert.Equal(t, numbers(0, 5), of(me+"b").have())
	of(me + "b").set(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, o.WriteBatch(ctx, batch(5, 6)), context.DeadlineExceeded)
	c.set(false)
	arrives(t, c, numbers(0, 6))
}

// A full spool drops the oldest, and says how many.
func TestFullSpool(t *testing.T) {
	me := testenv.Name(t)
	b := of(me + "b")
	b.set(true)
	o, _ := opened(t, fmt.Sprintf("outputs: [{name: a, output: {shelf: {id: %sa}}}, {name: b, required: false, output: {shelf: {id: %sb}}}]\nspool: {path: %s, max_bytes: 2000}\n",
		me, me, filepath.Join(t.TempDir(), "s.db")))
	for n := range 30 {
		require.NoError(t, o.WriteBatch(t.Context(), batch(n, n+1)))
	}
	events, size, err := o.spool.waiting(t.Context(), "b")
	require.NoError(t, err)
	assert.LessOrEqual(t, size, int64(2000))
	assert.Less(t, events, int64(30))
	b.set(false)
	arrives(t, b, numbers(30-int(events), 30))
}

func TestConfig(t *testing.T) {
	for conf, want := range map[string]string{
		"outputs: []": "field outputs: there is none",
		"outputs: [{name: a, output: {shelf: {id: x}}}, {name: a, output: {shelf: {id: x}}}]": `field outputs.1.name: "a" is empty, or the name of another one`,
		"outputs: [{name: a, required: false, output: {shelf: {id: x}}}]":                     "none has required: true",
		"commit_policy: quorum(2)\noutputs: [{name: a, output: {shelf: {id: x}}}]":            "quorum(2) of 1 outputs",
		"commit_policy: some\noutputs: [{name: a, output: {shelf: {id: x}}}]":                 `"some" is not all, required or quorum(n)`,
		"commit_policy: quorum(x)\noutputs: [{name: a, output: {shelf: {id: x}}}]":            `"quorum(x)" is not quorum(n)`,
		"spool: {max_bytes: 3}\noutputs: [{name: a, output: {shelf: {id: x}}}]":               "spool.max_bytes: 3 is below 1024",
	} {
		p, err := spec().ParseYAML(conf, nil)
		require.NoError(t, err)
		_, err = newOutput(p, testenv.Resources())
		require.ErrorContains(t, err, want, conf)
	}
}

// An output that cannot connect does not hold up the end, and delivers nothing later.
func TestCloseWhileAway(t *testing.T) {
	me := testenv.Name(t)
	b := of(me + "b")
	b.away = true
	o, end := opened(t, fmt.Sprintf("outputs: [{name: a, output: {shelf: {id: %sa}}}, {name: b, required: false, output: {shelf: {id: %sb}}}]\nspool: {path: %s}\n",
		me, me, filepath.Join(t.TempDir(), "s.db")))
	require.NoError(t, o.WriteBatch(t.Context(), batch(0, 3)))
	require.Eventually(t, func() bool { events, _, err := o.spool.waiting(t.Context(), "b"); return err == nil && events == 3 }, patience, 5*time.Millisecond)
	end() // and no goroutine is left, says TestMain
	assert.Empty(t, b.have())
}
