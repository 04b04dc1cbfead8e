package coordinator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// fakePlane is a control plane with one source.
type fakePlane struct {
	mu      sync.Mutex
	paused  bool
	changed chan struct{}
	report  func() plane.Report
	explode func(where string) // may panic; nil: nothing
	gone    int
}

func (p *fakePlane) Attach(_, source string, s plane.Source) (plane.Gate, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.explode != nil {
		p.explode("connect")
	}
	if source == "fake" {
		p.report = s.Report
	}
	return func() (bool, <-chan struct{}) {
		if p.explode != nil {
			p.explode("read")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.paused, p.changed
	}, func() { p.gone++ }
}

// asked returns the word of the source.
func (p *fakePlane) asked() plane.Report {
	p.mu.Lock()
	report := p.report
	p.mu.Unlock()
	return report()
}

func (p *fakePlane) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = paused
	close(p.changed)
	p.changed = make(chan struct{})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePlane{changed: make(chan struct{})}
		res := service.MockResources()
		res.SetGeneric(plane.Key, p)
		runs := 0
		send := make(chan Segment)
		l := &funcLog{run: func(ctx context.Context, _ checkpoint.Token, out chan<- Segment) error {
			runs++
			for {
				select {
				case seg := <-send:
					out <- seg
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}}
		in := newTestInput(t, Config{}, l, newMemStore(), res)
		assert.Nil(t, p.report, "a constructor does not attach")
		go func() { send <- transaction(1) }()
		require.NoError(t, in.Connect(t.Context()))
		batch, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		assert.Len(t, batch, 1)
		require.NoError(t, ack(t.Context(), nil))
		time.Sleep(time.Second)
		assert.Equal(t, plane.Report{Position: "tx1", LagSeconds: p.report().LagSeconds, LagBytes: -1, State: plane.Running}, p.report())

		// Paused while ReadBatch waits: what comes is held, the session goes on.
		got := make(chan int, 1)
		go func() {
			b, _, _ := in.ReadBatch(t.Context())
			got <- len(b)
		}()
		synctest.Wait()
		p.set(true)
		synctest.Wait()
		send <- transaction(2)
		time.Sleep(time.Minute)
		select {
		case n := <-got:
			t.Fatalf("a batch of %d while paused", n)
		default:
		}
		p.set(false)
		assert.Equal(t, 1, <-got)
		assert.Equal(t, 1, runs, "the source has kept its session")

		p.set(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, _, err = in.ReadBatch(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
		require.NoError(t, in.Close(context.Background()))
		assert.Equal(t, 1, p.gone)
	})
}

func TestPlaneHearsOfALostPosition(t *testing.T) {
	p := &fakePlane{changed: make(chan struct{})}
	res := service.MockResources()
	res.SetGeneric(plane.Key, p)
	in := newTestInput(t, Config{}, &funcLog{run: func(context.Context, checkpoint.Token, chan<- Segment) error { return fault.ErrPositionLost }}, newMemStore(), res)
	require.Error(t, in.Connect(t.Context()))
	assert.Equal(t, plane.Failed, p.report().State)
	assert.Equal(t, "position lost", p.report().Cause)
	require.NoError(t, in.Close(context.Background()))
}

// waitingLog waits before it streams, and leaves something behind.
type waitingLog struct {
	*fakeLog
	since time.Time
}

func (l waitingLog) Waiting() (string, time.Time) { return "waiting for pid 7", l.since }

func (waitingLog) Leftovers(_ context.Context, drop bool) ([]plane.Leftover, error) {
	left := []plane.Leftover{{What: "the slot", How: "DROP", Dropped: drop}}
	if drop {
		return left, errors.New("one more is there")
	}
	return left, nil
}

// TestWaiting tells what a log waits for as the cause.
func TestWaiting(t *testing.T) {
	since := time.Unix(1, 0)
	i := &Input{log: waitingLog{since: since}}
	i.deliver = newDeliveries(i)
	state, cause, at := i.state(time.Unix(2, 0))
	require.Equal(t, plane.Retrying, state)
	require.Equal(t, "waiting for pid 7", cause)
	require.Equal(t, since, at)
}

// TestCleanup is a connection test that asks for leftovers instead.
func TestCleanup(t *testing.T) {
	res := service.MockResources()
	i, err := New(Config{Name: "fake"}, "fake", waitingLog{}, res)
	require.NoError(t, err)
	for _, drop := range []bool{false, true} {
		var got []plane.Leftover
		results := i.ConnectionTest(plane.WithCleanup(t.Context(), &plane.Cleanup{Drop: drop, Add: func(source string, l plane.Leftover) {
			require.Equal(t, "fake", source)
			got = append(got, l)
		}}))
		require.Len(t, results, 1)
		require.Equal(t, []plane.Leftover{{What: "the slot", How: "DROP", Dropped: drop}}, got)
		require.Equal(t, drop, results[0].Err != nil)
	}
	i, err = New(Config{Name: "fake"}, "fake", &fakeLog{}, res)
	require.NoError(t, err)
	results := i.ConnectionTest(plane.WithCleanup(t.Context(), &plane.Cleanup{Drop: true}))
	require.NoError(t, results[0].Err, "nothing is left")
	require.ErrorIs(t, i.ConnectionTest(t.Context())[0].Err, service.ErrConnectionTestNotSupported)
}
