package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // the engine's own parts of a stream
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestErrorsKeepTheirKindAndCause(t *testing.T) {
	err := fmt.Errorf("outside: %w", Errorf(TooLarge, "record of %d bytes: %w", 7, io.EOF))
	assert.Equal(t, TooLarge, KindOf(err))
	require.ErrorIs(t, err, io.EOF)
	assert.EqualError(t, err, "outside: record of 7 bytes: EOF (kind=too_large)")
	assert.Equal(t, Other, KindOf(io.EOF))
	assert.Equal(t, Other, KindOf(nil))
}

func TestGateTellsTheReasonOnceAndWaitsLonger(t *testing.T) {
	var g Gate
	require.NoError(t, g.Pass())
	reason := errors.New("no memory")
	var waits []time.Duration
	for range 6 {
		require.ErrorIs(t, g.Shut(reason), service.ErrNotConnected)
		var b *service.ErrBackOff
		require.ErrorAs(t, g.Pass(), &b)
		require.ErrorIs(t, b.Err, reason)
		waits = append(waits, b.Wait)
		require.NoError(t, g.Pass())
	}
	const ms = time.Millisecond
	assert.Equal(t, []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 5000 * ms, 5000 * ms}, waits)
	g.Open()
	_ = g.Shut(reason)
	var b *service.ErrBackOff
	require.ErrorAs(t, g.Pass(), &b)
	assert.Equal(t, 500*ms, b.Wait)
}

func TestPanicIsCaught(t *testing.T) {
	var log bytes.Buffer
	counted := make(chan string, 1)
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterMetricsExporter("panics", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) {
			return panics{counted}, nil
		}))
	require.NoError(t, env.RegisterInput("once", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, res *service.Resources) (service.Input, error) {
			<-NewStats(res.Metrics(), 1).Go(res.Logger(), "client", func() { panic("planted") })
			return nil, errors.New("enough")
		}))
	b := env.NewStreamBuilder()
	b.SetLogger(slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, b.SetMetricsYAML("panics: {}"))
	require.NoError(t, b.AddInputYAML("once: {}"))
	require.NoError(t, b.AddConsumerFunc(func(context.Context, *service.Message) error { return nil }))
	s, err := b.Build()
	require.NoError(t, err)
	require.ErrorContains(t, s.Run(t.Context()), "enough")
	assert.Equal(t, "client", <-counted)
	assert.Contains(t, log.String(), "Panic in the client: planted")
	assert.Contains(t, log.String(), "sink.TestPanicIsCaught", "the stack")
}

// panics tells of the components whose panics are counted.
type panics struct{ counted chan string }

type ignored struct{}

func (ignored) Incr(int64)   {}
func (ignored) Set(int64)    {}
func (ignored) Timing(int64) {}

type panicked struct {
	panics
	component string
}

func (p panicked) Incr(n int64) {
	if n > 0 {
		p.counted <- p.component
	}
}

func (p panics) NewCounterCtor(name string, _ ...string) service.MetricsExporterCounterCtor {
	return func(labels ...string) service.MetricsExporterCounter {
		if name == "panics_total" {
			return panicked{p, labels[len(labels)-1]}
		}
		return ignored{}
	}
}

func (panics) NewTimerCtor(string, ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return ignored{} }
}

func (panics) NewGaugeCtor(string, ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return ignored{} }
}

func (panics) Close(context.Context) error { return nil }

func TestParking(t *testing.T) {
	type delivery struct{ of, n int }
	p := Parking[delivery]{Limit: 2, Same: func(a, b delivery) bool { return a.of == b.of }}
	a, resumed := p.Take(delivery{of: 1, n: 1})
	assert.False(t, resumed)
	assert.Equal(t, delivery{of: 1, n: 1}, a)
	for of := range 3 {
		p.Keep(delivery{of: of + 1, n: 1})
	}
	assert.Equal(t, 2, p.Len(), "the oldest one made room")
	for of, want := range map[int]delivery{1: {1, 2}, 2: {2, 1}, 3: {3, 1}} {
		a, resumed = p.Take(delivery{of: of, n: 2})
		assert.Equal(t, want, a)
		assert.Equal(t, want.n == 1, resumed)
	}
	assert.Zero(t, p.Len(), "what was taken is not kept")
	p.Close()
	p.Keep(delivery{})
	assert.Zero(t, p.Len())
}

func TestFinished(t *testing.T) {
	batch := service.MessageBatch{service.NewMessage(nil), service.NewMessage(nil), service.NewMessage(nil)}
	var s Stats
	require.NoError(t, s.Finished(batch, nil))
	index := batch.Index()
	err := s.Finished(batch, map[int]error{1: Errorf(TooLarge, "large")})
	var be *service.BatchError
	require.ErrorAs(t, err, &be)
	got := map[int]Kind{}
	be.WalkMessagesIndexedBy(index, func(i int, _ *service.Message, err error) bool {
		if err != nil {
			got[i] = KindOf(err)
		}
		return true
	})
	assert.Equal(t, map[int]Kind{1: TooLarge}, got)
}

func TestBatchingHasAPeriod(t *testing.T) {
	for conf, want := range map[string]string{
		"{}": "", "{ count: 1 }": "", "{ count: 2 }": "1s", "{ byte_size: 9 }": "1s", "{ check: 'true' }": "1s", "{ count: 2, period: 5s }": "5s", "{ period: 3s }": "3s",
	} {
		p, err := service.NewConfigSpec().Fields(BatchingField("batching")).ParseYAML("batching: "+conf, nil)
		require.NoError(t, err)
		b, err := Batching(p, "batching")
		require.NoError(t, err)
		assert.Equal(t, want, b.Period, conf)
	}
}
