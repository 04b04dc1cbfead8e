package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
)

const (
	// closeTimeout bounds Close, whatever hangs.
	closeTimeout = 10 * time.Second
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

	mu     sync.Mutex
	closed bool // guarded by mu

	// Used by the engine's reading goroutine, and by Close after it.
	store    storeCloser
	saver    *saver
	session  *session // the running one, nil when there is none
	failures int      // sessions in a row that failed without progress
	sessions int      // sessions that were started
}

var _ service.BatchInput = (*Input)(nil)

// New returns an input that reads from log. The kind names the database in the saved record, "mysql" or "postgresql". It
// works offline; only Connect opens the checkpoint store and the log.
func New(cfg Config, kind string, log Log, res *service.Resources) (*Input, error) {
	if cfg.CheckpointCache != "" && !res.HasCache(cfg.CheckpointCache) {
		return nil, fmt.Errorf("%s.%s: there is no cache resource with the label %q", fieldCheckpoint, fieldCache,
			cfg.CheckpointCache)
	}
	return &Input{
		cfg: cfg, kind: kind, log: log, res: res, st: newStats(res.Metrics()),
		out: res.Logger().With("source", cfg.Name),
	}, nil
}

// Connect implements service.BatchInput: it starts a session that reads from the saved position, and returns when the log
// has answered.
func (i *Input) Connect(ctx context.Context) error {
	if i.isClosed() {
		return service.ErrEndOfInput
	}
	if i.session != nil {
		i.session.stop()
		i.session.awaitAcks(ctx, drainTimeout)
		i.session.deliver.retire()
		if i.session.progressed() {
			i.failures = 0
		}
		i.saver.flush(ctx)
		i.session = nil
	}
	err := i.connect(ctx)
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

func (i *Input) connect(ctx context.Context) error {
	if i.failures > 0 && i.sessions > 0 {
		// The last session connected and then failed at once: without a pause this would be a busy loop.
		if err := sleep(ctx, i.backoff()); err != nil {
			return err
		}
	}
	if i.store == nil {
		store, err := openStore(ctx, i.cfg, i.res)
		if err != nil {
			return fmt.Errorf("%w: %w", checkpoint.ErrBroken, err)
		}
		i.store = store
	}
	if i.saver == nil {
		from, err := checkpoint.Load(ctx, i.store, i.cfg.CheckpointKey, i.kind)
		if err != nil && !errors.Is(err, checkpoint.ErrNotFound) {
			return err
		}
		i.saver = startSaver(context.WithoutCancel(ctx), i, from)
	}
	from := i.saver.position()
	s := startSession(context.WithoutCancel(ctx), i, from)
	if err := s.awaitConnected(ctx); err != nil {
		s.stop()
		return err
	}
	i.sessions++
	if i.sessions > 1 {
		i.st.sourceReconnects.Incr(1)
	}
	i.session = s
	i.out.With("position", s.start().String()).Infof("Reading the log of %s from %s", i.cfg.Name, s.start())
	return nil
}

func (i *Input) backoff() time.Duration {
	if i.failures == 0 {
		return backoffMin
	}
	return min(backoffMax, backoffMin<<min(i.failures-1, 10))
}

// ReadBatch implements service.BatchInput.
func (i *Input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
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
	if !s.progressed() {
		i.failures++
	}
	i.out.With("position", s.safe().String(), "error", err.Error()).
		Errorf("Session of %s ended, reading again from %s: %v", i.cfg.Name, s.safe(), err)
	return nil, nil, service.ErrNotConnected
}

// Close implements service.BatchInput. It saves and confirms what is acknowledged, ends the session, and returns within
// closeTimeout. It may be called before Connect and more than once.
func (i *Input) Close(ctx context.Context) error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return nil
	}
	i.closed = true
	i.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var errs []error
	if i.saver != nil {
		// Saved and confirmed while the session still runs, so that its last words to the server carry the position.
		errs = append(errs, i.saver.stop(ctx))
	}
	if i.session != nil {
		at := i.session.safe()
		errs = append(errs, i.session.stopWithin(ctx))
		i.out.With("position", at.String()).Infof("Stopped reading the log of %s at %s", i.cfg.Name, at)
	}
	if i.store != nil {
		errs = append(errs, i.store.Close())
	}
	return errors.Join(errs...)
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
