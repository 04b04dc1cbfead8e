// Package livecopy tells the outputs that keep copies of rows when the load of a table begins and when all of it is delivered, so that they can
// remove what the table does not have any more.
package livecopy

import (
	"context"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Keeper is an output that removes what the load of a table has not shown. The source calls it from any goroutine, for several tables at a time, and
// again with the same load after an error or a restart.
type Keeper interface {
	// Begin is called before the first row of a table is read. What the output writes from then on counts as shown.
	Begin(ctx context.Context, table, load string) error
	// End is called when all rows of the load are delivered. The output removes what has not been shown since Begin.
	End(ctx context.Context, table, load string) error
}

// Pipeline is where a source and the keepers of its pipeline find each other.
type Pipeline struct {
	mu       sync.Mutex
	keepers  []Keeper             // guarded by mu, as are the others
	expected map[Keeper]time.Time // those that were made, and until when they are waited for
	changed  chan struct{}        // closed and made anew when something is set
}

// pipelineKey is the key of a pipeline among the engine's generic values.
type pipelineKey struct{ stream string }

// expectFor is how long a source waits for an output that was made to be begun.
const expectFor = 10 * time.Second

// Of returns the pipeline of a component.
func Of(res *service.Resources) *Pipeline {
	v, _ := res.GetOrSetGeneric(pipelineKey{res.StreamID()}, New())
	return v.(*Pipeline)
}

// New returns a pipeline without keepers.
func New() *Pipeline {
	return &Pipeline{expected: map[Keeper]time.Time{}, changed: make(chan struct{})}
}

func (p *Pipeline) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Expect announces a keeper, when it is made: an output that is made and never begun is not closed either, and is forgotten after a while.
func (p *Pipeline) Expect(k Keeper) {
	p.set(func() { p.expected[k] = time.Now().Add(expectFor) })
}

// Join adds a keeper. Repetitions count for nothing.
func (p *Pipeline) Join(k Keeper) {
	p.set(func() {
		delete(p.expected, k)
		for _, o := range p.keepers {
			if o == k {
				return
			}
		}
		p.keepers = append(p.keepers[:len(p.keepers):len(p.keepers)], k)
	})
}

// Leave takes back what Expect and Join have done.
func (p *Pipeline) Leave(k Keeper) {
	p.set(func() {
		delete(p.expected, k)
		var kept []Keeper
		for _, o := range p.keepers {
			if o != k {
				kept = append(kept, o)
			}
		}
		p.keepers = kept
	})
}

// Keepers returns the keepers of the pipeline. It waits for those that are expected.
func (p *Pipeline) Keepers(ctx context.Context) ([]Keeper, error) {
	for {
		p.mu.Lock()
		keepers, changed := p.keepers, p.changed
		var wait time.Duration
		for k, until := range p.expected {
			if left := time.Until(until); left > 0 {
				wait = max(wait, left)
			} else {
				delete(p.expected, k)
			}
		}
		p.mu.Unlock()
		if wait == 0 {
			return keepers, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
		t.Stop()
	}
}
