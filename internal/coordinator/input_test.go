package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// funcLog is a Log out of functions.
type funcLog struct {
	run     func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error
	confirm func(checkpoint.Token)
	bytes   func() (int64, bool)
}

func (l *funcLog) Run(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
	return l.run(ctx, from, out)
}

func (l *funcLog) Confirm(tok checkpoint.Token) {
	if l.confirm != nil {
		l.confirm(tok)
	}
}

func (l *funcLog) LagBytes() (int64, bool) {
	if l.bytes == nil {
		return 0, false
	}
	return l.bytes()
}

// segments returns a Run that sends the segments and then waits.
func segments(segs ...Segment) func(context.Context, checkpoint.Token, chan<- Segment) error {
	return func(ctx context.Context, _ checkpoint.Token, out chan<- Segment) error {
		for _, s := range segs {
			select {
			case out <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// transaction is a segment with transaction n: one event.
func transaction(n int) Segment {
	return Segment{
		Source: "server", Commit: commitText(n), CommitTime: time.Now(), ReadAt: time.Now(),
		Rows: &rows{read: time.Now(), rows: []row{{at: at{n - 1, 1}, size: 40}}},
	}
}

// Close at every stage of an input's life, with everything that may hang hanging.
func TestCloseIsBounded(t *testing.T) {
	begin := Segment{Commit: commitText(0)}
	hanging := func(until chan struct{}, first ...Segment) func(context.Context, checkpoint.Token, chan<- Segment) error {
		return func(_ context.Context, _ checkpoint.Token, out chan<- Segment) error {
			for _, s := range first {
				out <- s
			}
			<-until
			return errFake
		}
	}
	for name, c := range map[string]struct {
		log     func(release chan struct{}) *funcLog
		store   func(release chan struct{}) *memStore
		use     func(t *testing.T, in *Input)
		want    time.Duration // at most
		wantErr string
	}{
		"before Connect": {want: 0},
		"connected": {
			log: func(chan struct{}) *funcLog { return &funcLog{run: segments(begin)} },
			use: func(t *testing.T, in *Input) { require.NoError(t, in.Connect(t.Context())) },
		},
		"Connect cancelled, log deaf before its first segment": {
			log: func(release chan struct{}) *funcLog { return &funcLog{run: hanging(release)} },
			use: func(t *testing.T, in *Input) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				require.ErrorIs(t, in.Connect(ctx), context.DeadlineExceeded)
				require.LessOrEqual(t, time.Since(began), time.Second+stopTimeout)
			},
			want: stopTimeout, wantErr: "the log of fake did not stop in time",
		},
		"log deaf": {
			log:  func(release chan struct{}) *funcLog { return &funcLog{run: hanging(release, begin)} },
			use:  func(t *testing.T, in *Input) { require.NoError(t, in.Connect(t.Context())) },
			want: stopTimeout, wantErr: "the log of fake did not stop in time",
		},
		"output blocked": {
			log: func(chan struct{}) *funcLog {
				segs := []Segment{begin}
				for n := 1; n < 500; n++ {
					segs = append(segs, transaction(n))
				}
				return &funcLog{run: segments(segs...)}
			},
			use: func(t *testing.T, in *Input) {
				require.NoError(t, in.Connect(t.Context()))
				_, _, err := in.ReadBatch(t.Context())
				require.NoError(t, err)
				synctest.Wait()
			},
		},
		"ReadBatch cancelled": {
			log: func(chan struct{}) *funcLog { return &funcLog{run: segments(begin)} },
			use: func(t *testing.T, in *Input) {
				require.NoError(t, in.Connect(t.Context()))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, _, err := in.ReadBatch(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
			},
		},
		"store deaf": {
			log:   func(chan struct{}) *funcLog { return &funcLog{run: segments(begin)} },
			store: func(release chan struct{}) *memStore { s := newMemStore(); s.block = release; return s },
			use: func(t *testing.T, in *Input) {
				require.NoError(t, in.Connect(t.Context()))
				synctest.Wait()
			},
			want: closeTimeout - stopTimeout, wantErr: "checkpoint of fake is still under way",
		},
		"store and log deaf": {
			log:   func(release chan struct{}) *funcLog { return &funcLog{run: hanging(release, begin)} },
			store: func(release chan struct{}) *memStore { s := newMemStore(); s.block = release; return s },
			use: func(t *testing.T, in *Input) {
				require.NoError(t, in.Connect(t.Context()))
				synctest.Wait()
			},
			want: closeTimeout, wantErr: "did not stop in time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				l, store := &funcLog{}, newMemStore()
				if c.log != nil {
					l = c.log(release)
				}
				if c.store != nil {
					store = c.store(release)
				}
				in := newTestInput(t, Config{MaxEvents: 1, RespectTx: true}, l, store, nil)
				if c.use != nil {
					c.use(t, in)
				}
				began := time.Now()
				err := in.Close(context.Background())
				assert.LessOrEqual(t, time.Since(began), c.want)
				if c.wantErr == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, c.wantErr)
				}
				assert.NoError(t, in.Close(context.Background()), "the second time")
				assert.ErrorIs(t, in.Connect(t.Context()), service.ErrEndOfInput)
				_, _, err = in.ReadBatch(t.Context())
				assert.ErrorIs(t, err, service.ErrEndOfInput)
				close(release)
			})
		})
	}
}

// A log that hangs after its session failed is not run twice, and does not hang Connect.
func TestOnlyOneRunAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail, release := make(chan struct{}), make(chan struct{})
		runs := 0
		l := &funcLog{run: func(ctx context.Context, _ checkpoint.Token, out chan<- Segment) error {
			if runs++; runs == 1 {
				out <- Segment{Commit: commitText(0)}
				<-fail
				out <- Segment{Rows: &rows{fail: errFake}}
				<-release
			}
			return segments(Segment{})(ctx, checkpoint.Token{}, out)
		}}
		in := newTestInput(t, Config{}, l, newMemStore(), nil)
		require.NoError(t, in.Connect(t.Context()))
		close(fail)
		_, _, err := in.ReadBatch(t.Context())
		require.ErrorIs(t, err, service.ErrNotConnected)
		began := time.Now()
		assert.ErrorContains(t, in.Connect(t.Context()), "did not stop in time")
		assert.Equal(t, stopTimeout, time.Since(began))
		assert.Equal(t, 1, runs)
		close(release)
		require.NoError(t, in.Connect(t.Context()))
		assert.Equal(t, 2, runs)
		require.NoError(t, in.Close(context.Background()))
	})
}

// While the pipeline is busy a batch grows, up to what the sink of the position wants; what comes while it asks goes out when the log is quiet.
func TestBatchGrowsWhileThePipelineIsBusy(t *testing.T) {
	for _, growth := range []int{1, 4} {
		t.Run(fmt.Sprint(growth), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { batchGrows(t, growth) }) })
	}
}

func batchGrows(t *testing.T, growth int) {
	feed := make(chan Segment)
	log := &funcLog{run: func(ctx context.Context, _ checkpoint.Token, out chan<- Segment) error {
		out <- Segment{Source: "server", Commit: commitText(0)}
		for {
			select {
			case seg := <-feed:
				out <- seg
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}}
	in := newTestInput(t, Config{MaxEvents: 3, MaxWait: 50 * time.Millisecond, MaxInFlight: 1, RespectTx: true}, log, newMemStore(), nil)
	in.growth = growth
	require.NoError(t, in.Connect(t.Context()))
	read := func() (int, service.AckFunc) {
		b, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		return len(b), ack
	}
	began := time.Now()
	feed <- transaction(1)
	n, ack := read()
	assert.Equal(t, 1, n)
	assert.Equal(t, quiet, time.Since(began), "nothing more was there")
	for tx := 2; tx <= 3; tx++ {
		feed <- transaction(tx)
		time.Sleep(time.Minute) // long after the log is quiet, and any limit of time
	}
	require.NoError(t, ack(t.Context(), nil))
	began = time.Now()
	n, ack = read()
	assert.Equal(t, 2, n)
	assert.Zero(t, time.Since(began), "it had waited for the pipeline only")
	for tx := 4; tx <= 3*growth+4; tx++ {
		feed <- transaction(tx)
	}
	time.Sleep(time.Minute)
	require.NoError(t, ack(t.Context(), nil))
	n, ack = read()
	assert.Equal(t, 3*growth, n, "full")
	require.NoError(t, ack(t.Context(), nil))
	n, ack = read()
	assert.Equal(t, 1, n)
	require.NoError(t, ack(t.Context(), nil))

	asked := make(chan int)
	go func() {
		b, ack, err := in.ReadBatch(t.Context())
		assert.NoError(t, err)
		assert.NoError(t, ack(t.Context(), nil))
		asked <- len(b)
	}()
	synctest.Wait()
	began = time.Now()
	for i := range 3 {
		feed <- transaction(3*growth + 5 + i)
	}
	assert.Equal(t, 3, <-asked)
	assert.Zero(t, time.Since(began), "who asks has it as soon as it has its usual size")
	require.NoError(t, in.Close(t.Context()))
}

// However much of the log is filtered away after a blocked batch, little is kept.
func TestFilteredLogAfterBlockedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segs := []Segment{{Commit: commitText(0)}, transaction(1)}
		for n := 2; n <= 10_000; n++ {
			segs = append(segs, Segment{Commit: commitText(n)})
		}
		store := newMemStore()
		in := newTestInput(t, Config{RespectTx: true}, &funcLog{run: segments(segs...)}, store, nil)
		require.NoError(t, in.Connect(t.Context()))
		_, ack, err := in.ReadBatch(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second)
		assert.Len(t, in.deliver.pending, 1)
		assert.Equal(t, at{0, 0}, atOf(t, store.saved(t)))
		require.NoError(t, ack(t.Context(), nil))
		require.NoError(t, in.Close(context.Background()))
		assert.Equal(t, at{10_000, 0}, atOf(t, store.saved(t)))
	})
}

// The pipeline changes what it gets; what it gets the second time is as it was.
func TestRedeliveryIsUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newTestInput(t, Config{RespectTx: true}, &funcLog{run: segments(Segment{Commit: commitText(0)}, transaction(1))}, newMemStore(), nil)
		require.NoError(t, in.Connect(t.Context()))
		var got []string
		for n := range 3 {
			b, ack, err := in.ReadBatch(t.Context())
			require.NoError(t, err)
			data, err := b[0].AsBytes()
			require.NoError(t, err)
			table, _ := b[0].MetaGet("table")
			got = append(got, string(data)+table)
			b[0].SetBytes([]byte("changed"))
			b[0].MetaSetMut("table", "changed")
			b[0].SetError(errFake)
			if n < 2 {
				require.NoError(t, ack(t.Context(), errors.New("no")))
			}
		}
		assert.Equal(t, got[0], got[1])
		assert.Equal(t, got[0], got[2])
		require.NoError(t, in.Close(context.Background()))
	})
}

// A failed read of the checkpoint is never taken for a start from scratch.
func TestConnectNeedsAReadableCheckpoint(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		want   error
	}{
		"garbage":             {"\x00\x01", checkpoint.ErrBroken},
		"of a newer version":  {`{"version":9,"kind":"fake","position":"tx1"}`, checkpoint.ErrIncompatible},
		"of another database": {`{"version":1,"kind":"mysql","position":"tx1"}`, checkpoint.ErrIncompatible},
	} {
		t.Run(name, func(t *testing.T) {
			store := newMemStore()
			store.data["fake"] = []byte(c.record)
			in := newTestInput(t, Config{}, &funcLog{run: segments()}, store, nil)
			err := in.Connect(t.Context())
			var back *service.ErrBackOff
			require.ErrorAs(t, err, &back)
			require.ErrorIs(t, back.Err, c.want)
			require.NoError(t, in.Close(context.Background()))
			assert.Equal(t, c.record, string(store.data["fake"]))
		})
	}
}

func TestPositionLostIsLookedForSlowly(t *testing.T) {
	l := &funcLog{run: func(context.Context, checkpoint.Token, chan<- Segment) error { return fault.ErrPositionLost }}
	in := newTestInput(t, Config{}, l, newMemStore(), nil)
	var back *service.ErrBackOff
	require.ErrorAs(t, in.Connect(t.Context()), &back)
	assert.Equal(t, lostBackoff, back.Wait)
	require.NoError(t, in.Close(context.Background()))
}

// A panic in any goroutine is counted and logged with its stack, and the source goes on.
func TestPanics(t *testing.T) {
	for _, component := range []string{"log", "dispatch", "decode", "batch", "checkpoint", "lag", "connect", "read", "acknowledgement"} {
		t.Run(component, func(t *testing.T) {
			rec := newRecorder()
			res := resources(t, rec)
			synctest.Test(t, func(t *testing.T) {
				var boom sync.Once // panics the first time
				explode := func(where string) {
					if where == component {
						boom.Do(func() { panic("on purpose") })
					}
				}
				rec.onIncr = func(name string) {
					switch name {
					case "source_bytes_total":
						explode("dispatch")
					case "e2e_latency_ns":
						explode("acknowledgement")
					}
				}
				res.SetGeneric(plane.Key, &fakePlane{changed: make(chan struct{}), explode: explode})
				store := newMemStore()
				store.onSet = func(checkpoint.Record) error { explode("checkpoint"); return nil }
				l := &funcLog{
					run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
						explode("log")
						segs := []Segment{{Commit: commitText(0)}, transaction(1)}
						if !from.IsZero() {
							segs[0] = Segment{}
						}
						segs[1].Rows, segs[1].Bytes = panickingRows{segs[1].Rows, explode}, 1
						return segments(segs...)(ctx, from, out)
					},
					bytes: func() (int64, bool) { explode("lag"); return 7, true },
				}
				in := newTestInput(t, Config{RespectTx: true}, l, store, res)
				for {
					if err := in.Connect(t.Context()); err != nil {
						require.ErrorContains(t, err, "panic in the "+component)
						continue
					}
					_, ack, err := in.ReadBatch(t.Context())
					if err == nil {
						require.NoError(t, ack(t.Context(), nil))
						break
					}
					require.ErrorIs(t, err, service.ErrNotConnected)
				}
				time.Sleep(3 * time.Second)
				assert.Equal(t, "tx1", store.saved(t).String())
				assert.Equal(t, 7.0, rec.value("source_lag_bytes"))
				require.NoError(t, in.Close(context.Background()))
			})
			assert.Equal(t, 1.0, rec.value("panics_total", component))
			errs, stack := rec.logged(slog.LevelError)
			assert.Contains(t, strings.Join(errs, "\n"), "Panic in the "+component+" of fake: ")
			assert.Contains(t, stack, "internal/coordinator.")
		})
	}
}

// panickingRows panic while they are decoded, or let the batcher panic.
type panickingRows struct {
	Rows
	explode func(string)
}

func (p panickingRows) Decode(ctx context.Context, dst service.MessageBatch) (batch service.MessageBatch, err error) {
	p.explode("decode")
	batch, err = p.Rows.Decode(ctx, dst)
	defer func() {
		if recover() != nil {
			ev, _ := change.FromMessage(batch[0])
			ev.Table = nil
		}
	}()
	p.explode("batch")
	return batch, err
}
