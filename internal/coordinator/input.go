package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"go.opentelemetry.io/otel/trace"

	"github.com/deltaforge/deltaforge/checkpoint"
)

const (
	// closeTimeout bounds Close, whatever hangs.
	closeTimeout = 10 * time.Second
	// stopTimeout is how long a session may take to end.
	stopTimeout = 5 * time.Second
	// drainTimeout is how long a new session waits for the batches of the old one to be acknowledged, so that they
	// are not sent twice.
	drainTimeout = 5 * time.Second
	// Backoff between sessions that failed without getting anywhere.
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
	// lostBackoff is how often a source that has lost its position looks whether somebody has brought it back.
	lostBackoff = time.Minute
)

// Input is the service.BatchInput over a Log.
//
// The engine calls Connect and ReadBatch from one goroutine, acknowledgements from any, and Close when no ReadBatch is
// active and no acknowledgement is expected any more.
type Input struct {
	cfg  Config
	kind string
	log  Log
	res  *service.Resources
	out  *service.Logger
	st   *stats
	lag  *lag
	link link

	mu     sync.Mutex
	closed bool // guarded by mu

	// Used by the engine's reading goroutine, and by Close after it.
	store    storeCloser
	saver    *saver
	gauges   *worker      // sets the gauges of lag; there is one when there is a saver
	session  *session     // the running one, or one that did not stop in time; nil when there is none
	failures int          // sessions in a row that failed without progress
	sessions int          // sessions that were started
	tracer   trace.Tracer // makes a span of each batch; nil: tracing is off
}

var (
	_ service.BatchInput         = (*Input)(nil)
	_ service.ConnectionTestable = (*Input)(nil)
)

// New returns an input that reads from log. The kind names the database in the saved record, "mysql" or "postgresql". It
// works offline; only Connect opens the checkpoint store and the log.
func New(cfg Config, kind string, log Log, res *service.Resources) (*Input, error) {
	if cfg.CheckpointCache != "" && !res.HasCache(cfg.CheckpointCache) {
		return nil, fmt.Errorf("%s.%s: there is no cache resource with the label %q", fieldCheckpoint, fieldCache,
			cfg.CheckpointCache)
	}
	out := res.Logger().With("source", cfg.Name)
	if id := res.StreamID(); id != "" {
		out = out.With("pipeline", id)
	}
	return &Input{
		cfg: cfg, kind: kind, log: log, res: res, st: newStats(res.Metrics()), lag: newLag(),
		tracer: res.OtelTracer().Tracer(tracerName), out: out,
	}, nil
}

// ConnectionTest implements service.ConnectionTestable. It may be called at any time, from any goroutine.
func (i *Input) ConnectionTest(ctx context.Context) service.ConnectionTestResults {
	t, ok := i.log.(Tester)
	if !ok {
		return service.ConnectionTestNotSupported().AsList()
	}
	if err := protect(i, "connection test", func() error { return t.Test(ctx) }); err != nil {
		return service.ConnectionTestFailed(err).AsList()
	}
	return service.ConnectionTestSucceeded().AsList()
}

// Connect implements service.BatchInput: it starts a session that reads from the saved position, and returns when the log
// has answered.
func (i *Input) Connect(ctx context.Context) error {
	return protect(i, "connect", func() error { return i.begin(ctx) })
}

func (i *Input) begin(ctx context.Context) error {
	if i.isClosed() {
		return service.ErrEndOfInput
	}
	i.link.attach(i, i.res)
	err := i.endSession(ctx)
	if err == nil {
		err = i.connect(ctx)
	}
	i.link.note(i.saver, err)
	if err == nil || ctx.Err() != nil {
		return err
	}
	i.failures++
	i.st.sourceErrors.Incr(1, string(KindOf(err)))
	wait := i.backoff()
	if errors.Is(err, ErrPositionLost) {
		wait = lostBackoff
	}
	return service.NewErrBackOff(err, wait)
}

// endSession ends the session that has failed, if there is one. While its log has not stopped there is no other one.
func (i *Input) endSession(ctx context.Context) error {
	s := i.session
	if s == nil {
		return nil
	}
	if err := s.stop(ctx); err != nil {
		return err
	}
	s.deliver.awaitResolved(ctx, drainTimeout)
	s.deliver.retire()
	i.session = nil
	if s.deliver.moved() {
		i.failures = 0
	} else {
		i.failures++
	}
	// Without a pause, a log that fails as soon as it streams would be a busy loop.
	return sleep(ctx, i.backoff())
}

func (i *Input) connect(ctx context.Context) error {
	if err := i.open(ctx); err != nil {
		return err
	}
	s := startSession(context.WithoutCancel(ctx), i, i.saver.position())
	if err := s.awaitConnected(ctx); err != nil {
		if stopErr := s.stop(context.WithoutCancel(ctx)); stopErr != nil {
			i.session = s // the next Connect, or Close, waits for it again
			return errors.Join(err, stopErr)
		}
		return err
	}
	i.session = s // from here on somebody stops it
	i.sessions++
	if i.sessions > 1 {
		i.st.sourceReconnects.Incr(1)
	}
	i.out.With("position", s.start().String()).Infof("Reading the log of %s from %s", i.cfg.Name, s.start())
	return nil
}

// open opens what outlives sessions: the store, the saver and the gauges.
func (i *Input) open(ctx context.Context) error {
	if i.store == nil {
		store, err := openStore(ctx, i.cfg, i.res)
		if err != nil {
			return fmt.Errorf("%w: %w", checkpoint.ErrBroken, err)
		}
		i.store = store
	}
	if i.saver != nil {
		return nil
	}
	from, err := checkpoint.Load(ctx, i.store, i.cfg.CheckpointKey, i.kind)
	if err != nil && !errors.Is(err, checkpoint.ErrNotFound) {
		return err
	}
	if err == nil {
		if err := i.restoreHistory(ctx); err != nil {
			return err
		}
	}
	i.saver = startSaver(context.WithoutCancel(ctx), i, from)
	i.gauges = startWorker(context.WithoutCancel(ctx), i, "lag", func(ctx context.Context) { i.lag.run(ctx, i) })
	return nil
}

// restoreHistory hands the record that belongs to the saved position to a Historian.
func (i *Input) restoreHistory(ctx context.Context) error {
	h, ok := i.log.(Historian)
	if !ok {
		return nil
	}
	key := checkpoint.SchemaKey(i.cfg.CheckpointKey)
	record, err := i.store.Get(ctx, key)
	switch {
	case errors.Is(err, checkpoint.ErrNotFound):
		return nil
	case errors.Is(err, checkpoint.ErrLocked):
		return err
	case err != nil:
		return fmt.Errorf("%w: reading key %q: %w", checkpoint.ErrBroken, key, err)
	}
	if err := h.Restore(record); err != nil {
		return WithKind(KindSchema, fmt.Errorf("key %q: %w", key, err))
	}
	return nil
}

func (i *Input) backoff() time.Duration {
	return min(backoffMax, backoffMin<<min(max(i.failures-1, 0), 10))
}

// ReadBatch implements service.BatchInput.
func (i *Input) ReadBatch(ctx context.Context) (batch service.MessageBatch, ack service.AckFunc, err error) {
	panicked := protect(i, "read", func() error { batch, ack, err = i.read(ctx); return nil })
	if panicked == nil {
		return batch, ack, err
	}
	i.st.sourceErrors.Incr(1, string(KindOther))
	if i.session != nil {
		i.session.end(panicked)
	}
	return nil, nil, service.ErrNotConnected
}

func (i *Input) read(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	if i.isClosed() {
		return nil, nil, service.ErrEndOfInput
	}
	s := i.session
	if s == nil {
		return nil, nil, service.ErrNotConnected
	}
	batch, ack, err := s.next(ctx)
	if err == nil || ctx.Err() != nil {
		return batch, ack, err
	}
	// The engine does not log the cause behind ErrNotConnected, so this is the one place that does.
	i.st.sourceErrors.Incr(1, string(KindOf(err)))
	safe := s.deliver.safe()
	out := i.out.With("position", safe.String(), "error", err.Error())
	if table := tableOf(err); table != "" {
		out = out.With("table", table)
	}
	out.Errorf("Session of %s ended, reading again from %s: %v", i.cfg.Name, safe, err)
	return nil, nil, service.ErrNotConnected
}

// Close implements service.BatchInput. It saves and confirms what is acknowledged, ends the session, and returns within
// closeTimeout. It may be called before Connect and more than once.
func (i *Input) Close(ctx context.Context) error {
	i.mu.Lock()
	first := !i.closed
	i.closed = true
	i.mu.Unlock()
	if !first {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var errs []error
	// Whatever becomes of one step, the others are done: what is left open would keep the next session out.
	for _, step := range []func(context.Context) error{
		func(context.Context) error { i.link.close(); return nil },
		// Saved and confirmed while the session still runs, so that its last words to the server carry the position.
		i.closeSaver, i.closeGauges, i.closeSession, i.closeStore,
	} {
		errs = append(errs, protect(i, "close", func() error { return step(ctx) }))
	}
	return errors.Join(errs...)
}

func (i *Input) closeSaver(ctx context.Context) error {
	if i.saver == nil {
		return nil
	}
	saveCtx, cancel := context.WithTimeout(ctx, closeTimeout-stopTimeout)
	defer cancel()
	return i.saver.stop(saveCtx)
}

func (i *Input) closeGauges(ctx context.Context) error {
	if i.gauges == nil {
		return nil
	}
	err := i.gauges.stop(ctx)
	i.lag.withdraw(i.st)
	return err
}

func (i *Input) closeSession(ctx context.Context) error {
	if i.session == nil {
		return nil
	}
	i.session.deliver.retire()
	err := i.session.stop(ctx)
	if err != nil {
		// The engine throws away what Close returns.
		i.out.With("error", err.Error()).Warnf("Stopped %s without its log: %v", i.cfg.Name, err)
	}
	at := i.session.deliver.safe()
	i.out.With("position", at.String()).Infof("Stopped reading the log of %s at %s", i.cfg.Name, at)
	return err
}

func (i *Input) closeStore(context.Context) error {
	if i.store == nil {
		return nil
	}
	return i.store.Close()
}

func (i *Input) isClosed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.closed
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
