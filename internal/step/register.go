package step

import (
	"context"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// Processor is what a processor of ours does with a batch. It returns what goes on, marks what has failed with its error, and changes no
// message that it is given. The engine calls it from many goroutines.
type Processor interface {
	Process(ctx context.Context, batch service.MessageBatch) service.MessageBatch
}

// Failing is implemented by a processor that must not let messages pass as they are when it has failed on them.
type Failing interface {
	Failed(batch service.MessageBatch, err error) service.MessageBatch
}

// Closing is implemented by a processor that has something to close. No batch is processed any more then.
type Closing interface {
	Close()
}

// Register registers a processor with the engine. A panic becomes the error of the batch.
func Register[P Processor](name string, spec *service.ConfigSpec, make func(*service.ParsedConfig, *service.Resources) (P, error)) {
	service.MustRegisterBatchProcessor(name, spec, func(conf *service.ParsedConfig, res *service.Resources) (service.BatchProcessor, error) {
		p, err := make(conf, res)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &guarded{p, name, res.Metrics().NewCounter("panics_total", "component"), res.Logger()}, nil
	})
}

// Dropped returns the counter of what a processor drops, by reason.
func Dropped(res *service.Resources) *service.MetricCounter {
	return res.Metrics().NewCounter("processor_dropped_total", "reason")
}

// guarded is a processor as the engine sees it.
type guarded struct {
	Processor
	name   string
	panics *service.MetricCounter
	log    *service.Logger
}

// guard runs a function, and turns a panic into an error.
func (g *guarded) guard(f func() error) error {
	const component = "processor"
	return guard.Do(component, func(n int64) { g.panics.Incr(n, component) }, func(p *guard.Panic) {
		g.log.With("error", fmt.Sprint(p.Value), "stack", p.Stack).Error(p.Line())
	}, f)
}

// ProcessBatch implements service.BatchProcessor.
func (g *guarded) ProcessBatch(ctx context.Context, batch service.MessageBatch) (out []service.MessageBatch, err error) {
	err = g.guard(func() error {
		if kept := g.Process(ctx, batch); len(kept) > 0 {
			out = []service.MessageBatch{kept}
		}
		return nil
	})
	if err == nil {
		return out, nil
	}
	err = fmt.Errorf("%s: %w", g.name, err)
	if f, ok := g.Processor.(Failing); ok {
		return []service.MessageBatch{f.Failed(batch, err)}, nil
	}
	return nil, err
}

// Close implements service.BatchProcessor.
func (g *guarded) Close(context.Context) error {
	return g.guard(func() error {
		if c, ok := g.Processor.(Closing); ok {
			c.Close()
		}
		return nil
	})
}
