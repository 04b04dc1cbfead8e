package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// goSafe starts a goroutine of ours. A panic in it is counted, logged with its stack, and becomes the goroutine's error,
// so that it ends this session and no other pipeline. The result of run goes to done, on the same goroutine.
func goSafe(in *Input, component string, run func() error, done func(error)) {
	go protect(in, component, func() error { //nolint:errcheck // done has it
		err := protect(in, component, run)
		done(err)
		return nil
	})
}

// protect calls run and turns a panic into an error.
func protect(in *Input, component string, run func() error) error {
	return Guard{in.st.panics, in.out, in.cfg.Name}.Do(component, run)
}

// Guard catches panics in functions of a log that others call on goroutines of theirs. The zero value neither counts nor logs them.
type Guard struct {
	panics *service.MetricCounter
	out    *service.Logger
	name   string
}

// NewGuard returns the guard of a log. The name is that of the source.
func NewGuard(name string, res *service.Resources) Guard {
	return Guard{res.Metrics().NewCounter("panics_total", "component"), res.Logger().With("source", name), name}
}

// Do calls run. A panic in it is counted, logged with its stack, and returned as an error.
func (g Guard) Do(component string, run func() error) error {
	return guard.Do(component, func(n int64) { g.panics.Incr(n, component) }, func(p *guard.Panic) {
		if g.out != nil {
			g.out.With("error", fmt.Sprint(p.Value), "stack", p.Stack).Errorf("Panic in the %s of %s: %v", component, g.name, p.Value)
		}
	}, run)
}

// workerPause is how long a worker that panicked waits before it starts again.
const workerPause = time.Second

// worker is a goroutine that outlives sessions. It starts again after a panic, since no new session would start it.
type worker struct {
	quit context.CancelFunc
	done chan struct{} // closed when the goroutine has ended
}

// startWorker calls run, which returns when its context ends, on a goroutine of its own.
func startWorker(ctx context.Context, in *Input, component string, run func(context.Context)) *worker {
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{quit: cancel, done: make(chan struct{})}
	goSafe(in, component, func() error {
		for ctx.Err() == nil {
			err := protect(in, component, func() error { run(ctx); return nil })
			if err != nil && sleep(ctx, workerPause) != nil {
				return nil //nolint:nilerr // protect has told of it, and the worker is to end
			}
		}
		return nil
	}, func(error) { close(w.done) })
	return w
}

// stop ends the goroutine and waits for it until ctx ends.
func (w *worker) stop(ctx context.Context) error {
	w.quit()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
