package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/lag"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/tracing"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/livecopy"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

const (
	// closeTimeout bounds Close, whatever hangs.
	closeTimeout = 5 * time.Second
	// stopTimeout is how long a session may take to end.
	stopTimeout = 2 * time.Second
	// Backoff between sessions that failed without getting anywhere.
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
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
	lag  *lag.Lag
	link link

	loader *snapshot.Loader // loads tables; nil: the log's cannot be
	exact  *exact           // the position is kept by the output; nil: by a store
	growth int              // how many times its usual size a batch may reach while the pipeline is busy

	health  health.Health
	deliver *deliveries             // the books
	opened  atomic.Bool             // the saved position is known
	reading atomic.Pointer[session] // the session that is connected
	saving  atomic.Pointer[saver]   // the saver, once there is one

	mu     sync.Mutex
	closed bool // guarded by mu

	// Used by the engine's reading goroutine, and by Close after it.
	store    *positions
	saver    *saver    // there is one once opened is set, and the workers with it
	workers  []*worker // what sets the gauges of lag
	session  *session  // the running one, or one that did not stop in time; nil when there is none
	failures int       // sessions in a row that failed without progress
	failing  time.Time // since when
	sessions int       // sessions that were started
	order    uint64    // of the newest place; of the batcher
	lost     int       // times in a row that the position was found lost
	lostBy   error     // the newest of them
	tracer   *tracing.Tracer

	taken atomic.Pointer[error] // why this instance has to stop, for good; nil: it has not
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
	i := &Input{
		cfg: cfg, kind: kind, log: log, res: res, st: newStats(res.Metrics(), cfg.Name), lag: lag.New(res.Metrics()),
		tracer: tracing.New(cfg.Name, res), out: out, growth: 1,
	}
	i.deliver = newDeliveries(i)
	if cfg.ExactlyOnce {
		i.exact = newExact(i)
	}
	if s, ok := log.(Snapshotter); ok {
		i.loader = snapshot.New(cfg.Snapshot, s.Snapshots(), out, snapshot.Numbers{
			Rows:    func(table string, n int) { i.st.snapshotRows.Incr(int64(n), table) },
			Ratio:   func(table string, ratio float64) { i.st.snapshotRatio.SetFloat64(ratio, table) },
			Changed: i.rearmSaver,
		})
		if !cfg.ExactlyOnce { // else the one output of the pipeline keeps no copies
			i.loader.Copies(livecopy.Of(res))
		}
	}
	return i, nil
}

// ConnectionTest implements service.ConnectionTestable. It may be called at any time, from any goroutine.
func (i *Input) ConnectionTest(ctx context.Context) service.ConnectionTestResults {
	if c := plane.CleanupOf(ctx); c != nil {
		return i.cleanUp(ctx, c)
	}
	if h := plane.HandoverOf(ctx); h != nil {
		return i.takeOver(ctx, h)
	}
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
		err = i.fenced()
	}
	if err == nil {
		err = i.renewIfLost(ctx)
	}
	if err == nil {
		err = i.connect(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	i.failed(err, !away(err))
	i.st.sourceErrors.Incr(1, string(fault.KindOf(err)))
	wait := i.backoff()
	switch {
	case i.fenced() != nil:
		wait = lostBackoff
	case errors.Is(err, fault.ErrPositionLost):
		wait, err = i.foundLost(err)
	}
	return service.NewErrBackOff(err, wait)
}

// away reports whether an error means that a network or a server is away: those come back.
func away(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.KindConnect || kind == fault.KindTimeout
}

// failed counts a session that got nowhere, or was not even begun.
func (i *Input) failed(err error, stuck bool) {
	if i.failures++; i.failures == 1 {
		i.failing = time.Now()
	}
	if stuck {
		i.health.Trouble(health.Source, i.failing, err)
	} else {
		i.health.Retrying(health.Source, i.failing, err)
	}
}

// endSession ends the session that has failed, if there is one. While its log has not stopped there is no other one. What it has handed
// out stays on its way.
func (i *Input) endSession(ctx context.Context) error {
	s := i.session
	if s == nil {
		return nil
	}
	cause := context.Cause(s.ctx) // nil: Connect itself has failed after the session had begun
	if err := s.stop(ctx); err != nil {
		return err
	}
	i.session = nil
	i.lag.Rewind(i.deliver.resume().seq)
	if s.moved.Load() {
		i.failures, i.lost = 0, 0
	}
	if cause != nil {
		i.failed(cause, true)
	}
	if errors.Is(cause, fault.ErrPositionLost) {
		_, _ = i.foundLost(cause)
	}
	// Without a pause, a log that fails as soon as it streams would be a busy loop.
	return sleep(ctx, i.backoff())
}

func (i *Input) connect(ctx context.Context) error {
	if err := i.open(ctx); err != nil {
		return err
	}
	s := startSession(context.WithoutCancel(ctx), i, i.deliver.resume())
	if err := s.awaitConnected(ctx); err != nil {
		if stopErr := s.stop(context.WithoutCancel(ctx)); stopErr != nil {
			i.session = s // the next Connect, or Close, waits for it again
			return errors.Join(err, stopErr)
		}
		return err
	}
	i.session = s // from here on somebody stops it
	i.reading.Store(s)
	i.sessions++
	if i.sessions > 1 {
		i.st.sourceReconnects.Incr(1)
	}
	switch {
	case !s.from.token.IsZero():
	case s.from.era > 0:
		i.tellRenewed(s.start())
	case i.sessions == 1:
		i.tellFirstStart(s.start())
	}
	i.out.With("position", s.start().String()).Infof("Reading the log of %s from %s", i.cfg.Name, s.start())
	return nil
}

// open opens what outlives sessions: the store, the saver and the gauges.
func (i *Input) open(ctx context.Context) error {
	if i.store == nil {
		store, err := i.openStore(ctx)
		if err != nil {
			return err
		}
		i.store = store
	}
	if i.saver != nil {
		return nil
	}
	from, since, err := i.from(ctx)
	if err != nil {
		return err
	}
	i.lag.Begin(since)
	i.deliver.begin(from)
	if i.exact != nil {
		i.exact.begin(from)
	}
	i.startWorkers(context.WithoutCancel(ctx))
	i.opened.Store(true)
	return nil
}

// openStore opens the store of the position.
func (i *Input) openStore(ctx context.Context) (*positions, error) {
	if i.exact != nil {
		return i.exact.open(ctx)
	}
	store, err := openStore(ctx, i.cfg, i.kind, i.res)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", checkpoint.ErrBroken, err)
	}
	return store, nil
}

// nextOrder returns the order of the next place.
func (i *Input) nextOrder() uint64 {
	i.order++
	return i.order
}

// loaded is closed when tables were to be loaded and nothing else, and all is delivered and saved; nil: that is not so.
func (i *Input) loaded() <-chan struct{} {
	if i.loader == nil {
		return nil
	}
	return i.loader.Done()
}

// begun returns what is closed when the position of a first start is saved; nil: it is, or the start is none. Nothing is handed out before: without it, a crash
// would be followed by another first start, at a later place.
func (i *Input) begun(s *session) <-chan struct{} {
	if !s.from.token.IsZero() || s.start().Commit == nil {
		return nil
	}
	begun := i.saver.firstSave()
	select {
	case <-begun:
		return nil
	default:
		return begun
	}
}

// rearmSaver has what is new in the progress of snapshots saved.
func (i *Input) rearmSaver() {
	if s := i.saving.Load(); s != nil {
		s.rearm()
	}
}

func (i *Input) startWorkers(ctx context.Context) {
	i.saver = startSaver(ctx, i)
	i.saving.Store(i.saver)
	i.workers = append(i.workers, startWorker(ctx, i, "lag", i.watchLag))
	if p, ok := i.log.(LagProber); ok {
		i.workers = append(i.workers, startWorker(ctx, i, "lag probe", func(ctx context.Context) { i.probeLag(ctx, p) }))
	}
}

func (i *Input) backoff() time.Duration {
	return min(backoffMax, backoffMin<<min(max(i.failures-1, 0), 10))
}

// ReadBatch implements service.BatchInput.
func (i *Input) ReadBatch(ctx context.Context) (batch service.MessageBatch, ack service.AckFunc, err error) {
	panicked := protect(i, "read", func() error { batch, ack, err = i.read(ctx); return nil })
	if panicked == nil {
		if err == nil {
			i.deliver.reached()
		}
		return batch, ack, err
	}
	i.deliver.takeBack()
	i.st.sourceErrors.Incr(1, string(fault.KindOther))
	i.reading.Store(nil)
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
	if err == nil || ctx.Err() != nil || errors.Is(err, service.ErrEndOfInput) {
		return batch, ack, err
	}
	i.reading.Store(nil)
	// The engine does not log the cause of ErrNotConnected, so this is the one place that does.
	i.st.sourceErrors.Incr(1, string(fault.KindOf(err)))
	safe := i.deliver.position()
	out := i.out.With("position", safe.String(), "error", err.Error())
	if table := fault.TableOf(err); table != "" {
		out = out.With("table", table)
	}
	out.Errorf("Session of %s ended, everything up to %s is delivered: %v", i.cfg.Name, safe, err)
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
	var errs []error
	for _, w := range i.workers {
		errs = append(errs, w.stop(ctx))
	}
	i.lag.Close()
	if i.link.gate == nil { // else the control plane has what is left shown, and takes it off the page
		i.lag.Withdraw()
	}
	return errors.Join(errs...)
}

func (i *Input) closeSession(ctx context.Context) error {
	i.deliver.close()
	if i.session == nil {
		return nil
	}
	err := i.session.stop(ctx)
	if err != nil {
		// The engine throws away what Close returns.
		i.out.With("error", err.Error()).Warnf("Stopped %s without its log: %v", i.cfg.Name, err)
	}
	at := i.deliver.position()
	if i.saver != nil {
		at = i.saver.position() // and not what has been read since
	}
	i.out.With("position", at.String()).Infof("Stopped reading the log of %s at %s", i.cfg.Name, at)
	return err
}

func (i *Input) closeStore(context.Context) error {
	if i.store == nil {
		if i.exact != nil {
			return i.exact.Close() // it may have been offered
		}
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
