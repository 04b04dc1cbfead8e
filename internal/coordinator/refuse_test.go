package coordinator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// picky is an output that refuses some events for good, and counts how often it was sent each.
type picky struct {
	refuses map[string]bool
	names   bool // its error says which
	sent    map[string]int
	taken   []string
}

func (p *picky) answer(b service.MessageBatch) error {
	var wrong error
	var all *service.BatchError
	var ids []string
	for i, m := range b {
		id, _ := m.MetaGet("event_id")
		p.sent[id]++
		ids = append(ids, id)
		if !p.refuses[id] {
			continue
		}
		wrong = errors.New("too large: " + id)
		if p.names {
			if all == nil {
				all = service.NewBatchError(b, wrong)
			}
			all.Failed(i, wrong)
		}
	}
	if all != nil {
		return all
	}
	if wrong == nil {
		p.taken = append(p.taken, ids...)
	}
	return wrong
}

// TestRefusedEventIsIsolated: one event of a large batch is refused for good. What is before it is delivered, nothing is sent again and
// again, the position stands before it, an operator is told; when it is taken, all goes on.
func TestRefusedEventIsIsolated(t *testing.T) {
	for name, c := range map[string]struct {
		names    bool
		refuses  []string
		most     int // how often a neighbour is sent
		position string
	}{
		"the output says which":      {true, []string{"tx5:2"}, 2, "tx4+1"},
		"it does not":                {false, []string{"tx5:2"}, 7, "tx4+1"},
		"the first":                  {false, []string{"tx1:1"}, 7, "tx0"},
		"the last":                   {false, []string{"tx8:4"}, 7, "tx7+3"},
		"several":                    {true, []string{"tx3:3", "tx5:2", "tx5:3"}, 3, "tx2+2"},
		"several, it does not":       {false, []string{"tx3:3", "tx5:2", "tx5:3"}, 8, "tx2+2"},
		"the end of a transaction":   {true, []string{"tx4:4"}, 2, "tx3+3"},
		"the start of a transaction": {true, []string{"tx4:1"}, 2, "tx3"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			res := resources(t, rec)
			synctest.Test(t, func(t *testing.T) {
				segs := []Segment{{Source: "server", Commit: commitText(0)}}
				var want []string
				for n := range 8 {
					var rs []row
					for k := range 4 {
						rs = append(rs, row{at: at{n, k + 1}, size: 20})
						want = append(want, string(commitText(n+1))+":"+itoa(k+1))
					}
					segs = append(segs, Segment{Source: "server", Commit: commitText(n + 1), CommitTime: time.Now(), Rows: &rows{rows: rs}})
				}
				p := &fakePlane{changed: make(chan struct{})}
				res.SetGeneric(plane.Key, p)
				store := newMemStore()
				in := newTestInput(t, Config{MaxEvents: 100, MaxInFlight: 1, RespectTx: true, MaxWait: time.Second}, &funcLog{run: segments(segs...)}, store, res)
				require.NoError(t, in.Connect(t.Context()))
				o := &picky{refuses: map[string]bool{}, names: c.names, sent: map[string]int{}, taken: []string{}}
				for _, id := range c.refuses {
					o.refuses[id] = true
				}
				consume := func(ctx context.Context) {
					for {
						b, ack, err := in.ReadBatch(ctx)
						if err != nil {
							require.ErrorIs(t, err, context.DeadlineExceeded)
							return
						}
						require.NoError(t, ack(t.Context(), o.answer(b)))
					}
				}
				// As many hours as there are refused events: one after the other is mended.
				for n, id := range c.refuses {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					consume(ctx)
					cancel()
					if n == 0 {
						assert.Equal(t, c.position, store.saved(t).String())
						assert.Equal(t, want[:len(o.taken)], o.taken, "in order, up to the one that is refused")
						r := p.asked()
						assert.Equal(t, plane.Failed, r.State)
						assert.Equal(t, "the output refuses event "+id+" of table db.t in fake, sent alone: too large: "+id+"; "+wayOut, r.Cause)
					}
					assert.Greater(t, o.sent[id], 50, "it is tried again, now and then")
					delete(o.refuses, id)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				consume(ctx)
				cancel()
				assert.Equal(t, want, o.taken)
				for _, id := range want {
					if !slices.Contains(c.refuses, id) {
						assert.LessOrEqual(t, o.sent[id], c.most, id)
					}
				}
				assert.Equal(t, plane.Running, p.asked().State)
				require.NoError(t, in.Close(context.Background()))
				assert.Equal(t, "tx8", store.saved(t).String())
			})
			lines := rec.text()
			for _, id := range c.refuses {
				assert.Equal(t, 1, strings.Count(lines, "Event "+id+" of table db.t in fake is refused by the output whenever it is sent"))
			}
		})
	}
}

// TestSplitKeepsPositions: the parts of a batch have the positions that batches cut there would have had.
func TestSplitKeepsPositions(t *testing.T) {
	message := func(tx, n, sub int) *service.Message {
		m := row{at: at{tx - 1, n}}.message(time.Now())
		ev, _ := change.FromMessage(m)
		ev.Sub = sub
		return m
	}
	b := &batch{
		stretch: stretch{
			source: "server", base: fakePlace(0, 1, 1), // the first event of tx1 was sent before
			messages: service.MessageBatch{message(1, 2, 0), message(1, 3, 0), message(2, 1, 0), message(2, 1, 1), message(2, 2, 0), message(4, 1, 0)},
			ends:     []txEnd{{2, commitText(1), 2, 0}, {5, commitText(3), 4, 0}},
		},
		end: fakePlace(3, 1, 4),
	}
	b.base.token.Sent = 0
	var ends []place
	var sizes []int
	for _, part := range b.split([]int{1, 2, 3, 5}) {
		ends = append(ends, part.end)
		ends[len(ends)-1].order = 0
		sizes = append(sizes, len(part.messages))
		for i := range part.messages { // each part can be taken apart again
			if i > 0 && !sub(part.messages[i]) {
				assert.Equal(t, part.after(i), part.split([]int{i})[0].end)
			}
		}
	}
	assert.Equal(t, []int{1, 1, 2, 1, 1}, sizes, "an event without a number of its own stays with the one before it")
	assert.Equal(t, []place{fakePlace(0, 2, 1), fakePlace(1, 0, 2), fakePlace(1, 1, 2), fakePlace(3, 0, 4), fakePlace(3, 1, 4)}, ends)
	assert.Equal(t, fakePlace(1, 0, 2).token, b.after(3).token, "cut before it, the one that it belongs to is sent again")
}

func fakePlace(commit, sent int, seq uint64) place {
	p := place{seq: seq}
	p.token.Source, p.token.Commit, p.token.Sent = "server", commitText(commit), uint64(sent)
	return p
}
