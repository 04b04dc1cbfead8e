package javascript

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// prelude bounds what a single call of a built-in function can make, since the engine cannot stop in the middle of one.
//
//go:embed prelude.js
var prelude string

// machine is an engine with the script in it. It is used by one goroutine at a time.
type machine struct {
	*goja.Runtime
	function    goja.Callable
	stringify   goja.Callable
	unavailable *goja.Object
	strings     bool
}

const (
	// stackDepth bounds recursion.
	stackDepth = 2048
	// tick is how often the limits are looked at.
	tick = 5 * time.Millisecond
	// grace is how long a script may take to stop: it stops between two of its own operations only.
	grace = 2 * time.Second
	// mostAbandoned is how many scripts may be on their way that did not stop.
	mostAbandoned = 2
)

var (
	errMemory   = errors.New("the script was stopped: the memory of the process has grown by more than memory_limit while it ran")
	errFunction = errors.New("the script has no function processBatch(events)")
)

// start returns an engine that has run the script.
func (p *processor) start(ctx context.Context) (*machine, error) {
	m := &machine{Runtime: goja.New(), strings: p.strings}
	m.SetMaxCallStackSize(stackDepth)
	if _, err := m.RunScript("prelude", prelude); err != nil {
		return nil, fmt.Errorf("preparing the engine: %w", err)
	}
	m.unavailable = m.NewObject()
	if err := m.Set("UNAVAILABLE", m.unavailable); err != nil {
		return nil, err
	}
	m.stringify, _ = goja.AssertFunction(m.Get("JSON").ToObject(m.Runtime).Get("stringify"))
	if err := p.limited(ctx, m, func() error { _, err := m.RunProgram(p.program); return err }); err != nil {
		return nil, err
	}
	var ok bool
	if m.function, ok = goja.AssertFunction(m.Get("processBatch")); !ok {
		return nil, errFunction
	}
	return m, nil
}

// limited runs a part of the script within the limits. After an error nobody may use the machine any more: it may still run.
func (p *processor) limited(ctx context.Context, m *machine, run func() error) error {
	if n := p.running.Load(); n >= mostAbandoned {
		return fmt.Errorf("%d earlier runs of the script have not stopped yet, each inside one call of a built-in function; mend the script, and restart the pipeline", n)
	}
	ended := make(chan error, 1)
	p.running.Add(1)
	go func() {
		_ = guard.Do("script", nil, nil, func() error {
			err := guard.Do("script", nil, nil, run)
			p.running.Add(-1)
			ended <- err
			return nil
		})
	}()
	ticker, deadline := time.NewTicker(tick), time.NewTimer(p.timeout)
	defer ticker.Stop()
	defer deadline.Stop()
	limit := heap() + p.memory
	for {
		var why error
		select {
		case err := <-ended:
			return told(err)
		case <-ticker.C:
			if heap() <= limit {
				continue
			}
			why = errMemory
		case <-deadline.C:
			why = fmt.Errorf("the script was stopped: it took longer than %s (%s) for a batch; it may loop", fieldTimeout, p.timeout)
		case <-ctx.Done():
			why = ctx.Err()
		}
		m.Interrupt(why)
		select {
		case <-ended: //nolint:errcheck // that it was stopped is the error
		case <-time.After(grace):
		}
		return why
	}
}

// told returns the error of a script with the place in it, and without the engine's types.
func told(err error) error {
	var thrown *goja.Exception
	var deep *goja.StackOverflowError
	switch {
	case errors.As(err, &thrown):
		return fmt.Errorf("the script has thrown: %s", line(thrown.String()))
	case errors.As(err, &deep):
		return fmt.Errorf("the script calls more than %d functions inside each other: %s", stackDepth, line(deep.String()))
	default:
		return err
	}
}

// line puts a message and the places in the script into one line.
func line(s string) string { return strings.Join(strings.Fields(s), " ") }

// heap returns how much memory the objects of the process take.
func heap() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
