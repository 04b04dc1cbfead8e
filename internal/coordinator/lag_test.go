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

// scene is an input between a database and an output that do what the test tells them to. The engine is played by run.
type scene struct {
	t     *testing.T
	rec   *recorder
	in    *Input
	store *memStore
	plane *fakePlane
	feed  chan Segment
	began time.Time

	mu     sync.Mutex
	down   error                // the database cannot be reached; guarded by mu
	stuck  error                // it fails at the first row after the hello; guarded by mu
	answer func() (error, bool) // of the output; false: it does not answer; guarded by mu
	held   []service.AckFunc    // what was not answered; guarded by mu
	bytes  int64                // guarded by mu
	full   error                // what a save gets; guarded by mu
	ctx    context.Context      //nolint:containedctx // of run
	stop   context.CancelFunc   // ends run
	done   chan struct{}        // closed when run has ended
}

func newScene(t *testing.T, rec *recorder, res *service.Resources) *scene {
	s := &scene{
		t: t, rec: rec, store: newMemStore(), feed: make(chan Segment), began: time.Now(), bytes: 100,
		plane: &fakePlane{changed: make(chan struct{})}, answer: func() (error, bool) { return nil, true }, done: make(chan struct{}),
	}
	res.SetGeneric(plane.Key, s.plane)
	s.store.onSet = func(checkpoint.Record) error { s.mu.Lock(); defer s.mu.Unlock(); return s.full }
	l := &funcLog{run: s.log, bytes: func() (int64, bool) { s.mu.Lock(); defer s.mu.Unlock(); return s.bytes, true }}
	s.in = newTestInput(t, Config{MaxEvents: 1, MaxInFlight: 1, RespectTx: true}, l, s.store, res)
	s.ctx, s.stop = context.WithCancel(t.Context())
	go s.run()
	return s
}

func (s *scene) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

// log plays the database.
func (s *scene) log(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
	s.mu.Lock()
	down, stuck := s.down, s.stuck
	s.mu.Unlock()
	if down != nil {
		return down
	}
	hello := Segment{Source: "server"}
	if from.IsZero() {
		hello.Commit = commitText(0)
	}
	out <- hello
	if stuck != nil {
		row := transaction(99)
		row.Rows = &rows{fail: stuck}
		row.CommitTime = s.began
		out <- row
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var seg Segment
		select {
		case seg = <-s.feed:
		case <-tick.C:
			s.mu.Lock()
			down := s.down
			s.mu.Unlock()
			if down != nil {
				return down
			}
			if stuck != nil {
				continue
			}
			seg = Segment{CaughtUp: true, ReadAt: time.Now()}
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case out <- seg:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run plays the engine.
func (s *scene) run() {
	defer close(s.done)
	for s.ctx.Err() == nil {
		if err := s.in.Connect(s.ctx); err != nil {
			if back, ok := errors.AsType[*service.ErrBackOff](err); ok {
				_ = sleep(s.ctx, back.Wait)
			}
			continue
		}
		for {
			_, ack, err := s.in.ReadBatch(s.ctx)
			if err != nil {
				break
			}
			s.mu.Lock()
			answer := s.answer
			s.mu.Unlock()
			if err, ok := answer(); ok {
				require.NoError(s.t, ack(s.ctx, err))
			} else {
				s.set(func() { s.held = append(s.held, ack) })
			}
		}
	}
}

// close stops the pipeline.
func (s *scene) close() {
	s.stop()
	<-s.done
	require.NoError(s.t, s.in.Close(context.Background()))
}

// wait lets time pass and asks as the control plane does.
func (s *scene) wait(d time.Duration) plane.Report {
	time.Sleep(d - time.Millisecond)
	r := s.plane.asked()
	time.Sleep(time.Millisecond)
	return r
}

// lagTruth is what an operator sees.
type lagTruth struct {
	lag, read, table float64
	bytes            int64
	state            plane.State
}

// TestLagTruth is what the numbers say a while after something has happened to a pipeline that was at the end of its database: a row is
// committed, in most cases, and a minute later somebody looks.
func TestLagTruth(t *testing.T) {
	commit := func(s *scene) {
		go func() {
			select {
			case s.feed <- transaction(2):
			case <-s.ctx.Done():
			}
		}()
	}
	unreachable := fault.WithKind(fault.KindConnect, errFake)
	for name, c := range map[string]struct {
		event func(s *scene)
		after time.Duration
		want  lagTruth
		cause string
	}{
		"idle":      {func(*scene) {}, time.Minute, lagTruth{0, 0, 0, 100, plane.Running}, ""},
		"delivered": {commit, time.Minute, lagTruth{0, 0, 0, 100, plane.Running}, ""},
		"network gone": {
			func(s *scene) { s.set(func() { s.down = unreachable }) }, time.Minute,
			lagTruth{60, 60, 60, 100, plane.Retrying},
			"the fake log fails",
		},
		"network gone for an hour": {
			func(s *scene) { s.set(func() { s.down = unreachable }) }, time.Hour,
			lagTruth{3600, 3600, 3600, 100, plane.Retrying},
			"the fake log fails",
		},
		"network back": {
			func(s *scene) {
				s.set(func() { s.down = unreachable })
				go func() { time.Sleep(20 * time.Second); s.set(func() { s.down = nil }) }()
			}, time.Minute, lagTruth{0, 0, 0, 100, plane.Running}, "",
		},
		"sink away": {
			func(s *scene) { s.set(func() { s.answer = func() (error, bool) { return nil, false } }); commit(s) }, 50 * time.Second,
			lagTruth{50, 0, 50, 100, plane.Running},
			"",
		},
		"sink away for longer than a batch may take": {
			func(s *scene) { s.set(func() { s.answer = func() (error, bool) { return nil, false } }); commit(s) }, 2 * time.Minute,
			lagTruth{120, 0, 120, 100, plane.Retrying},
			"the output has not answered the batch up to tx2 for 1m59s",
		},
		"sink slow": {
			func(s *scene) {
				s.set(func() { s.answer = func() (error, bool) { time.Sleep(20 * time.Second); return nil, true } })
				commit(s)
			}, 15 * time.Second, lagTruth{15, 0, 15, 100, plane.Running}, "",
		},
		"paused": {
			func(s *scene) { s.plane.set(true); commit(s) }, time.Minute, lagTruth{60, 0, 60, 100, plane.Running}, "",
		},
		"paused with nothing to deliver": {
			func(s *scene) { s.plane.set(true) }, time.Minute, lagTruth{0, 0, 0, 100, plane.Running}, "",
		},
		"stopped":             {(*scene).close, time.Minute, lagTruth{60, 60, 60, 100, plane.Closed}, ""},
		"stopped for an hour": {(*scene).close, time.Hour, lagTruth{3600, 3600, 3600, 100, plane.Closed}, ""},
		"stopped with a row on its way": {
			func(s *scene) {
				s.set(func() { s.answer = func() (error, bool) { return nil, false } })
				commit(s)
				time.Sleep(10 * time.Second)
				s.close()
			}, 50 * time.Second, lagTruth{60, 50, 60, 100, plane.Closed}, "",
		},
		"position lost": {
			func(s *scene) { s.set(func() { s.down = fault.ErrPositionLost }) }, time.Minute,
			lagTruth{60, 60, 60, 100, plane.Failed},
			"position lost",
		},
		"refused record": {
			func(s *scene) {
				s.set(func() { s.answer = func() (error, bool) { return errors.New("too large"), true } })
				commit(s)
			}, time.Minute, lagTruth{60, 0, 60, 100, plane.Retrying}, "the output refuses event tx2:1 of table db.t in fake, sent alone: too large; " + wayOut,
		},
		"refused record, for longer than the bound": {
			func(s *scene) {
				s.set(func() { s.answer = func() (error, bool) { return errors.New("too large"), true } })
				commit(s)
			}, 3 * time.Minute, lagTruth{180, 0, 180, 100, plane.Failed}, "the output refuses event tx2:1 of table db.t in fake, sent alone: too large; " + wayOut,
		},
		"source stuck on a row": {
			func(s *scene) {
				s.set(func() { s.stuck, s.began, s.down = errors.New("no such column"), time.Now(), unreachable })
				time.Sleep(time.Second)
				s.set(func() { s.down = nil })
			}, 59 * time.Second, lagTruth{60, 60, 60, 100, plane.Retrying}, "no such column",
		},
		"source stuck on a row, for longer than the bound": {
			func(s *scene) {
				s.set(func() { s.stuck, s.began, s.down = errors.New("no such column"), time.Now(), unreachable })
				time.Sleep(time.Second)
				s.set(func() { s.down = nil })
			}, 5*time.Minute - time.Second, lagTruth{300, 300, 300, 100, plane.Failed}, "no such column",
		},
		"store away": {
			func(s *scene) {
				s.set(func() { s.full = errors.New("disk full") })
				commit(s)
			}, time.Minute, lagTruth{60, 0, 60, 100, plane.Retrying}, `the position cannot be saved: saving position tx2 under key "fake": disk full`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			res := resources(t, rec)
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, rec, res)
				s.feed <- transaction(1)
				s.wait(5*time.Second + time.Millisecond) // between two ticks of the clock
				require.Equal(t, lagTruth{0, 0, 0, 100, plane.Running}, s.sees(s.plane.asked()))
				c.event(s)
				r := s.wait(c.after)
				got := s.sees(r)
				assert.InDelta(t, c.want.lag, got.lag, 1.5)
				assert.InDelta(t, c.want.read, got.read, 1.5)
				assert.InDelta(t, c.want.table, got.table, 1.5)
				assert.InDelta(t, c.want.lag, r.LagSeconds, 1.5)
				got.lag, got.read, got.table = c.want.lag, c.want.read, c.want.table
				assert.Equal(t, c.want, got)
				assert.Equal(t, c.cause, r.Cause)
				assert.Equal(t, int64(100), r.LagBytes)
				if c.want.state != plane.Closed {
					s.set(func() {
						s.full = nil
						for _, ack := range s.held {
							_ = ack(context.Background(), nil)
						}
					})
					s.close()
				}
			})
		})
	}
}

func (s *scene) sees(r plane.Report) lagTruth {
	return lagTruth{
		s.rec.value("source_lag_seconds"), s.rec.value("source_read_lag_seconds"), s.rec.value("source_table_lag_seconds", "db.t"),
		int64(s.rec.value("source_lag_bytes")), r.State,
	}
}

// TestIdleSeconds: the time since the last row.
func TestIdleSeconds(t *testing.T) {
	rec := newRecorder()
	res := resources(t, rec)
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, rec, res)
		s.wait(2*time.Second + time.Millisecond)
		assert.InDelta(t, 2, rec.value("source_idle_seconds"), 0.01)
		s.feed <- transaction(1)
		s.wait(time.Second)
		assert.Zero(t, rec.value("source_idle_seconds"), "rows flow")
		s.wait(10 * time.Second)
		assert.InDelta(t, 11, rec.value("source_idle_seconds"), 1)
		s.close()
	})
}
