package coordinator

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// goSafe starts a goroutine of ours. A panic in it is counted, logged with its stack, and becomes the goroutine's error,
// so that it ends this session and no other pipeline. The result of run goes to done, on the same goroutine.
func goSafe(in *Input, component string, run func() error, done func(error)) {
	go func() { done(protect(in, component, run)) }()
}

// protect calls run and turns a panic into an error.
func protect(in *Input, component string, run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			in.st.panics.Incr(1, component)
			in.out.With("error", fmt.Sprint(r), "stack", string(debug.Stack())).
				Errorf("Panic in the %s of %s: %v", component, in.cfg.Name, r)
			err = fmt.Errorf("panic in the %s: %v", component, r)
		}
	}()
	return run()
}

// workerPause is how long a worker that panicked waits before it starts again.
const workerPause = time.Second

// worker is a goroutine that outlives sessions. One that panics starts again: there is no session whose end would do it.
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
