package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
)

// saveTimeout bounds one save.
const saveTimeout = 10 * time.Second

// saver saves the newest safe position, at most once an interval, and confirms it to the log when it is saved. It
// outlives sessions: a position that was not saved when a session ended is saved all the same.
type saver struct {
	in     *Input
	wake   chan struct{} // one pending wish to save
	worker *worker       // the only one that saves, until it has ended

	confirming sync.Mutex // held while the log is told; before mu

	mu     sync.Mutex
	want   place         // newest safe position; guarded by mu, as are all the others
	last   place         // that was saved, by this process or before it
	since  time.Time     // when want first differed from what is saved
	moves  uint64        // how often want has moved
	saved  uint64        // the moves that the last save covers
	wrotes uint64        // order of the newest place that is saved with its rows
	failed time.Time     // when saving began to fail; zero: it does not
	era    uint64        // of the log that is read
	begun  chan struct{} // closed when something of that is saved
}

func startSaver(ctx context.Context, in *Input) *saver {
	from := place{token: in.deliver.position()}
	s := &saver{in: in, wake: make(chan struct{}, 1), begun: make(chan struct{}), want: from, last: from}
	s.worker = startWorker(ctx, in, "checkpoint", s.run)
	return s
}

// moved notes a new safe position. It does not block.
func (s *saver) moved(p place) {
	s.mu.Lock()
	s.want = p
	if s.moves == s.saved {
		s.since = time.Now()
	}
	s.moves++
	if s.in.exact != nil && p.order <= s.wrotes {
		s.saved = s.moves
	}
	s.mu.Unlock()
	s.rearm()
}

func (s *saver) rearm() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *saver) run(ctx context.Context) {
	s.rearm() // for what a panic left unsaved
	look := time.NewTicker(keepEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.keep(ctx)
			continue
		case <-s.wake:
			if !s.pending() {
				continue
			}
		}
		if s.save(ctx) != nil {
			// Nobody else retries, and the next position may be long in coming.
			s.rearm()
		}
		if sleep(ctx, max(s.in.cfg.CheckpointInterval, time.Millisecond)) != nil {
			return
		}
	}
}

// pending reports whether something is not saved.
func (s *saver) pending() bool {
	s.mu.Lock()
	p, moved := s.want, s.moves != s.saved
	s.mu.Unlock()
	if s.in.fenced() != nil {
		return false // what there is to save, another instance saves
	}
	return moved || s.in.loader != nil && p.token.Commit != nil && s.in.loader.Pending(p.mark)
}

// save saves what is safe now, if it is not saved yet. A failure is counted and logged here.
func (s *saver) save(parent context.Context) error {
	s.mu.Lock()
	p, since, moves, saved := s.want, s.since, s.moves, s.saved
	s.mu.Unlock()
	if err := s.in.fenced(); err != nil {
		return err
	}
	if moves == saved && !s.pending() {
		return nil
	}
	ctx, cancel := context.WithTimeout(parent, saveTimeout)
	defer cancel()
	began := time.Now()
	in := s.in
	err := s.write(ctx, p, began)
	if err != nil && errors.Is(parent.Err(), context.Canceled) {
		return err // given up for the last save, which comes next
	}
	in.st.checkpointLatency.Timing(time.Since(began).Nanoseconds())
	if err != nil {
		s.failure(p.token, began, err)
		return err
	}
	s.mu.Lock()
	if p.era == s.era {
		select {
		case <-s.begun:
		default:
			close(s.begun)
		}
	}
	s.saved, s.failed = max(s.saved, moves), time.Time{}
	if s.moves != moves {
		s.since = began
	}
	s.mu.Unlock()
	in.health.Clear(health.Store)
	in.st.stage(stageCommit, triggerNone, time.Since(since))
	if in.exact == nil {
		s.done(p)
	}
	return nil
}

// write saves a place, after everything that belongs to it.
func (s *saver) write(ctx context.Context, p place, now time.Time) error {
	if s.in.exact != nil {
		return s.in.exact.save(ctx, p)
	}
	if err := s.saveHistory(ctx); err != nil {
		return err
	}
	if err := s.saveSnapshot(ctx, p.mark); err != nil {
		return err
	}
	return s.in.store.save(ctx, p.token, now, s.in.lag.AsOf(p.seq))
}

// wrote notes that the output has a place, which it has written with the rows or for save.
func (s *saver) wrote(p place) {
	s.mu.Lock()
	s.wrotes = max(s.wrotes, p.order)
	if s.want.order <= s.wrotes {
		s.saved, s.failed = s.moves, time.Time{}
	}
	s.mu.Unlock()
	s.done(p)
}

// done tells everybody that a place is saved.
func (s *saver) done(p place) {
	in := s.in
	s.mu.Lock()
	s.last = p
	s.mu.Unlock()
	in.lag.Saved(p.seq)
	in.st.checkpointSuccess.Incr(1)
	in.st.lastCheckpoint.SetFloat64(float64(time.Now().UnixMilli()) / 1e3)
	s.confirm(p)
}

// position returns what is saved: where the next process begins.
func (s *saver) position() checkpoint.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.token
}

// confirm tells the log what is saved, unless the log is another one by now.
func (s *saver) confirm(p place) {
	s.confirming.Lock() // and not mu: who answers a batch takes that, and may hold what Confirm wants
	defer s.confirming.Unlock()
	if p.era == s.era {
		s.in.log.Confirm(p.token)
	}
}

// turn goes to an era: until something of it is saved, nothing is confirmed and nothing counts as begun.
func (s *saver) turn(era uint64) {
	s.confirming.Lock()
	defer s.confirming.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.era, s.begun = era, make(chan struct{})
}

// firstSave returns what is closed when something of the present era is saved.
func (s *saver) firstSave() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// keep looks whether the store still has what was saved.
func (s *saver) keep(parent context.Context) {
	if s.in.exact != nil {
		return // each transaction looks
	}
	ctx, cancel := context.WithTimeout(parent, saveTimeout)
	defer cancel()
	err := s.in.store.keep(ctx)
	s.mu.Lock()
	tok, failing := s.want.token, s.moves != s.saved
	s.mu.Unlock()
	switch {
	case parent.Err() != nil:
	case err != nil:
		s.failure(tok, time.Now(), err)
	case !failing:
		s.mu.Lock()
		s.failed = time.Time{}
		s.mu.Unlock()
		s.in.health.Clear(health.Store)
	}
}

// failure counts and logs a save that failed.
func (s *saver) failure(tok checkpoint.Token, began time.Time, err error) {
	in := s.in
	s.mu.Lock()
	if s.failed.IsZero() {
		s.failed = began
	}
	failed := s.failed
	s.mu.Unlock()
	in.health.Trouble(health.Store, failed, fmt.Errorf("the position cannot be saved: %w", err))
	in.st.checkpointFailure.Incr(1)
	in.out.With("position", tok.String(), "error", err.Error()).Errorf("Checkpoint of %s not saved: %v", in.cfg.Name, err)
	if errors.Is(err, checkpoint.ErrFenced) {
		in.fence(err)
	}
}

// saveHistory saves what a Historian knows, which has to be there before the position is.
func (s *saver) saveHistory(ctx context.Context) error {
	h, ok := s.in.log.(Historian)
	if !ok {
		return nil
	}
	record, mark, err := h.Record()
	if err != nil || record == nil {
		return err
	}
	if err := s.in.store.saveHistory(ctx, record); err != nil {
		return err
	}
	h.Saved(mark)
	return nil
}

// saveSnapshot saves the progress of snapshots when everything up to a mark is delivered. It has what a later position must not pass, such as rows that are to be
// read again, and so is saved before.
func (s *saver) saveSnapshot(ctx context.Context, mark uint64) error {
	if s.in.loader == nil {
		return nil
	}
	progress, changes, err := s.in.loader.Record(mark)
	if err != nil || progress == nil {
		return err
	}
	if err := s.in.store.saveSnapshot(ctx, progress); err != nil {
		return err
	}
	s.in.loader.Saved(changes)
	return nil
}

// stop ends the goroutine and saves for the last time.
func (s *saver) stop(ctx context.Context) error {
	if err := s.worker.stop(ctx); err != nil {
		return fmt.Errorf("a save of the checkpoint of %s is still under way: %w", s.in.cfg.Name, err)
	}
	done := make(chan error, 1)
	goSafe(s.in, "checkpoint", func() error { return s.save(ctx) }, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // a store need not heed it
		return fmt.Errorf("the last save of the checkpoint of %s is still under way: %w", s.in.cfg.Name, ctx.Err())
	}
}
