package exactly

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Sink is an output that keeps the position of its source.
type Sink interface {
	// Load returns what the sink has under the keys, nil for one that it does not have.
	Load(ctx context.Context, keys ...string) ([][]byte, error)
	// Save writes the transaction without rows that begin returns, which is nil when there is nothing to write. A transaction whose outcome is not
	// known when Save returns is finished by the next call, or before the next rows.
	Save(ctx context.Context, begin func(context.Context) (*Tx, error)) error
	// Growth is how many times its usual size a batch may reach while the transaction before it is under way: more than 1 where a transaction
	// costs much more than its rows.
	Growth() int
}

// Pipeline is where the source and the output of a pipeline find each other. Each belongs to one only.
type Pipeline struct {
	mu      sync.Mutex
	ledger  *Ledger       // guarded by mu, as are the others
	sink    Sink          //
	changed chan struct{} // closed and made anew when something is set
}

// pipelineKey is the key of a pipeline among the engine's generic values.
type pipelineKey struct{ stream string }

// Of returns the pipeline of a component.
func Of(res *service.Resources) *Pipeline {
	v, _ := res.GetOrSetGeneric(pipelineKey{res.StreamID()}, &Pipeline{changed: make(chan struct{})})
	return v.(*Pipeline)
}

// meetTimeout is how long one side waits for the other.
const meetTimeout = 10 * time.Second

// The errors of a pipeline with one side only, or with more than two.
var (
	ErrNoSource = errors.New("no source of this pipeline keeps its position in the output: give it `checkpoint: {exactly_once: true}`")
	ErrNoSink   = errors.New("no output of this pipeline with `exactly_once: true` is connected")
	ErrSources  = errors.New("two sources of this pipeline keep their position in the output: an exactly-once pipeline has one source")
	ErrSinks    = errors.New("two outputs of this pipeline have `exactly_once: true`: an exactly-once pipeline has one output, which is not part of a broker")
)

func (p *Pipeline) set(f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := f(); err != nil {
		return err
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// Offer sets the ledger of the pipeline's source. Repetitions count for nothing.
func (p *Pipeline) Offer(l *Ledger) error {
	return p.set(func() error {
		if p.ledger != nil && p.ledger != l {
			return ErrSources
		}
		p.ledger = l
		return nil
	})
}

// Withdraw takes back what Offer has set.
func (p *Pipeline) Withdraw(l *Ledger) {
	_ = p.set(func() error {
		if p.ledger == l {
			p.ledger = nil
		}
		return nil
	})
}

// Attach sets the pipeline's sink. Repetitions count for nothing.
func (p *Pipeline) Attach(s Sink) error {
	return p.set(func() error {
		if p.sink != nil && p.sink != s {
			return ErrSinks
		}
		p.sink = s
		return nil
	})
}

// Detach takes back what Attach has set.
func (p *Pipeline) Detach(s Sink) {
	_ = p.set(func() error {
		if p.sink == s {
			p.sink = nil
		}
		return nil
	})
}

// Ledger returns the ledger of the pipeline's source. It waits for it for a while.
func (p *Pipeline) Ledger(ctx context.Context) (l *Ledger, err error) {
	return l, p.await(ctx, ErrNoSource, func() bool { l = p.ledger; return l != nil })
}

// Sink returns the pipeline's sink. It waits for it for a while.
func (p *Pipeline) Sink(ctx context.Context) (s Sink, err error) {
	return s, p.await(ctx, ErrNoSink, func() bool { s = p.sink; return s != nil })
}

func (p *Pipeline) await(ctx context.Context, missing error, there func() bool) error {
	t := time.NewTimer(meetTimeout)
	defer t.Stop()
	for {
		p.mu.Lock()
		ok, changed := there(), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-t.C:
			return missing
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
