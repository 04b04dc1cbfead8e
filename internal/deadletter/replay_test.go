package deadletter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// picky is an output that refuses what it is told to.
type picky struct {
	mu  sync.Mutex
	got []string
	bad map[string]bool
}

func (*picky) Connect(context.Context) error { return nil }
func (*picky) Close(context.Context) error   { return nil }
func (p *picky) Write(_ context.Context, m *service.Message) error {
	b, err := m.AsBytes()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad[string(b)] {
		return errors.New("refused again (kind=routing)")
	}
	p.got = append(p.got, string(b))
	return nil
}

var sinkOfReplays = &picky{} //nolint:gochecknoglobals // the engine makes outputs by name

func init() {
	service.MustRegisterOutput("picky", service.NewConfigSpec().Field(service.NewAnyMapField("dead_letter").Optional()),
		func(*service.ParsedConfig, *service.Resources) (service.Output, int, error) {
			return sinkOfReplays, 1, nil
		})
}

// A replay goes in order; what is delivered is removed, and what is refused again stays with its new error.
func TestReplay(t *testing.T) {
	*sinkOfReplays = picky{bad: map[string]bool{"B": true}}
	s, _ := opened(t)
	ctx := t.Context()
	text := func(id, payload string) Entry { e := entry(id, 0); e.Payload = []byte(payload); return e }
	_, err := s.Keep(ctx, "p", []Entry{text("a", "a"), text("b", "b"), text("c", "c")}, Limits{}, time.Now())
	require.NoError(t, err)
	r := Replay{Processors: true, Config: []byte(`
input: {deltaforge_mysql: {dsn: unused}}
pipeline: {processors: [{mapping: 'root = content().uppercase()'}]}
output: {fallback: [{picky: {dead_letter: {}}}, {deltaforge_dlq: {path: nowhere}}]}
metrics: {nonsense: {}}
`)}
	out, err := r.Run(ctx, s, Filter{})
	require.NoError(t, err)
	assert.Equal(t, Result{Delivered: 2, Failed: 1}, out)
	assert.Equal(t, []string{"A", "C"}, sinkOfReplays.got)
	left, err := s.List(ctx, Filter{}, true)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, "b", string(left[0].Payload))
	assert.Equal(t, "routing", left[0].Kind)
	assert.Equal(t, 2, left[0].Attempts)
	assert.Contains(t, left[0].Error, "refused again")

	r.Processors = false
	out, err = r.Run(ctx, s, Filter{})
	require.NoError(t, err)
	assert.Equal(t, Result{Delivered: 1}, out)
	assert.Equal(t, []string{"A", "C", "b"}, sinkOfReplays.got)
	assert.Empty(t, ids(t, s))

	_, err = s.Keep(ctx, "p", []Entry{text("", "B")}, Limits{}, time.Now())
	require.NoError(t, err)
	out, err = r.Run(ctx, s, Filter{})
	require.NoError(t, err)
	assert.Equal(t, Result{Failed: 1}, out)
	assert.Len(t, ids(t, s), 1, "one entry, also without an id of its own")
	_, err = Replay{Config: []byte("input: {}")}.Run(ctx, s, Filter{})
	require.ErrorContains(t, err, "the configuration: it has no output")
}
