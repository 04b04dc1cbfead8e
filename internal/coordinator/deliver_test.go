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
)

func newTestDeliveries(t *testing.T) *deliveries {
	in := newTestInput(t, Config{}, &fakeLog{t: t}, newMemStore(), nil)
	in.saver = &saver{in: in, wake: make(chan struct{}, 1), begun: make(chan struct{})}
	in.deliver.begin(checkpoint.Token{Commit: commitText(0)})
	return in.deliver
}

func testBatch(d *deliveries, n int) *batch {
	b := &batch{
		stretch: stretch{messages: service.MessageBatch{service.NewMessage(nil)}}, end: place{token: checkpoint.Token{Commit: commitText(n)}},
	}
	d.cut(b)
	return b
}

// With max_in_flight 1 a batch goes out when the one before it is acknowledged, and a rejected one goes out alone.
func TestOneInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDeliveries(t)
		d.in.cfg.MaxInFlight = 1
		one := d.offer(testBatch(d, 1))
		a, _, busy := d.again()
		assert.Nil(t, a)
		assert.True(t, busy, "one is out")
		d.resolve(one, nil)
		_, _, busy = d.again()
		assert.False(t, busy)
		d.resolve(d.offer(testBatch(d, 2)), errors.New("no"))
		time.Sleep(resendMin)
		a, _, _ = d.again()
		require.NotNil(t, a)
		assert.Equal(t, commitText(2), a.dl.batch.end.token.Commit)
		_, _, busy = d.again()
		assert.True(t, busy, "the rejected one is out again")
		d.resolve(a, nil)
		assert.Equal(t, commitText(2), d.position().Commit)
	})
}

// Each line is a moment at which a new batch may meet a rejected one.
func TestNewBatchWaitsForRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDeliveries(t)
		one, two := d.offer(testBatch(d, 1)), d.offer(testBatch(d, 2))
		d.resolve(one, errors.New("no"))
		assert.Nil(t, d.offer(testBatch(d, 3)), "rejected, and an attempt is still under way")
		a, _, busy := d.again()
		assert.Nil(t, a)
		assert.True(t, busy)
		d.resolve(two, nil)
		assert.Nil(t, d.offer(testBatch(d, 4)), "rejected, and the pause has not passed")
		a, wait, busy := d.again()
		assert.Nil(t, a)
		assert.Equal(t, resendMin, wait)
		assert.True(t, busy)
		time.Sleep(wait)
		a, _, _ = d.again()
		assert.Equal(t, commitText(1), a.dl.batch.end.token.Commit)
		none, _, busy := d.again()
		assert.Nil(t, none)
		assert.True(t, busy, "what was rejected goes out alone")
		d.resolve(a, nil)
		for n := 2; n <= 4; n++ {
			a, _, _ := d.again()
			require.NotNil(t, a, n)
			assert.Equal(t, commitText(n), a.dl.batch.end.token.Commit)
			if n == 2 {
				assert.Nil(t, d.offer(testBatch(d, 5)), "one is on its way again, two wait")
			}
		}
		assert.Equal(t, commitText(1), d.position().Commit, "the acceptance of batch 2 counts no more")
		a, _, _ = d.again()
		assert.Equal(t, commitText(5), a.dl.batch.end.token.Commit)
		a, _, busy = d.again()
		assert.Nil(t, a)
		assert.False(t, busy)
		assert.NotNil(t, d.offer(testBatch(d, 6)))
	})
}

func TestAnswersToEarlierAttemptsHaveNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDeliveries(t)
		first := d.offer(testBatch(d, 1))
		d.resolve(first, errors.New("no"))
		time.Sleep(resendMin)
		second, _, _ := d.again()
		d.resolve(first, nil)
		assert.Equal(t, commitText(0), d.position().Commit)
		assert.Equal(t, 1, d.out)
		d.resolve(first, errors.New("no"))
		assert.False(t, d.rejected)
		d.resolve(second, nil)
		d.resolve(second, errors.New("too late"))
		assert.Equal(t, commitText(1), d.position().Commit)
		assert.Equal(t, 0, d.out)
		assert.False(t, d.rejected)
	})
}

func TestResendPauseGrowsUntilSomethingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDeliveries(t)
		head := d.offer(testBatch(d, 1))
		var got []time.Duration
		for range 13 {
			d.resolve(head, errors.New("no"))
			_, wait, _ := d.again()
			got = append(got, wait)
			time.Sleep(wait)
			head, _, _ = d.again()
		}
		want := []time.Duration{}
		for w := resendMin; len(want) < 13; w = min(aloneMax, 2*w) {
			want = append(want, w)
		}
		assert.Equal(t, want, got)
		d.resolve(head, nil)
		d.resolve(d.offer(testBatch(d, 2)), errors.New("no"))
		_, wait, _ := d.again()
		assert.Equal(t, resendMin, wait)
	})
}

func TestAnswersAfterCloseSaveNothing(t *testing.T) {
	d := newTestDeliveries(t)
	a := d.offer(testBatch(d, 1))
	d.close()
	d.resolve(a, nil)
	assert.Equal(t, commitText(0), d.position().Commit)
}

// A part of a large transaction that is delivered is not delivered again after a restart.
func TestResumeInsideTransaction(t *testing.T) {
	for _, filtered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var tx []row
			for n := range 25 {
				tx = append(tx, row{at: at{0, n + 1}, filtered: filtered && n%2 == 0})
			}
			log := &fakeLog{t: t, txs: [][]row{tx}, r: newRand(1)}
			store := newMemStore()
			read := func(batches int) (got []string) {
				in := newTestInput(t, Config{MaxEvents: 5, RespectTx: true}, log, store, nil)
				require.NoError(t, in.Connect(t.Context()))
				for range batches {
					b, ack, err := in.ReadBatch(t.Context())
					require.NoError(t, err)
					for _, m := range b {
						id, _ := m.MetaGet("event_id")
						got = append(got, id)
					}
					require.NoError(t, ack(t.Context(), nil))
				}
				require.NoError(t, in.Close(context.Background()))
				return got
			}
			var want []string
			for _, r := range tx {
				if !r.filtered {
					want = append(want, "tx1:"+itoa(r.at.sent))
				}
			}
			assert.Equal(t, want[:5], read(1))
			assert.Equal(t, "tx0+"+want[4][len("tx1:"):], store.saved(t).String())
			assert.Equal(t, want[5:10], read(1))
			assert.Equal(t, "tx0+"+want[9][len("tx1:"):], store.saved(t).String())
		})
	}
}

// TestPanicAroundAHandOver: whatever panics while a batch is handed out or answered, the books stay right and the batch comes again, or does not.
func TestPanicAroundAHandOver(t *testing.T) {
	for name, series := range map[string]string{"while it is handed out": "batches_in_flight", "while it is answered": "e2e_latency_ns"} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			res := resources(t, rec)
			synctest.Test(t, func(t *testing.T) {
				l := &funcLog{run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
					if from.IsZero() {
						return segments(Segment{Commit: commitText(0)}, transaction(1))(ctx, from, out)
					}
					return segments(Segment{})(ctx, from, out)
				}}
				in := newTestInput(t, Config{MaxInFlight: 1, RespectTx: true}, l, newMemStore(), res)
				require.NoError(t, in.Connect(t.Context()))
				var boom sync.Once
				rec.set(func(s string) {
					if s == series {
						boom.Do(func() { panic("on purpose") })
					}
				})
				_, ack, err := in.ReadBatch(t.Context())
				if name == "while it is handed out" {
					require.ErrorIs(t, err, service.ErrNotConnected)
					require.NoError(t, in.Connect(t.Context()))
					_, ack, err = in.ReadBatch(t.Context())
				}
				require.NoError(t, err)
				require.NoError(t, ack(t.Context(), nil))
				assert.Equal(t, "tx1", in.deliver.position().String())
				assert.Zero(t, in.deliver.out)
				assert.Zero(t, in.deliver.due)
				require.NoError(t, in.Close(context.Background()))
			})
			assert.Equal(t, 1.0, rec.value("panics_total", "read")+rec.value("panics_total", "acknowledgement"))
		})
	}
}
