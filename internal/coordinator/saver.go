package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// saveTimeout bounds one save.
const saveTimeout = 10 * time.Second

// saver saves the newest safe position, at most once an interval, and confirms it to the log when it is saved. It
// outlives sessions: a position that was not saved when a session ended is saved all the same.
type saver struct {
	in   *Input
	wake chan struct{} // one pending wish to save
	done chan struct{} // closed when the goroutine has ended
	quit context.CancelFunc

	saveMu sync.Mutex // held while a save is on its way, so that saves are in order

	mu    sync.Mutex
	want  checkpoint.Token // newest safe position; guarded by mu
	since time.Time        // when want first differed from saved; guarded by mu
	dirty bool             // want is not saved; guarded by mu
}

func startSaver(ctx context.Context, in *Input, from checkpoint.Token) *saver {
	ctx, cancel := context.WithCancel(ctx)
	s := &saver{in: in, wake: make(chan struct{}, 1), done: make(chan struct{}), quit: cancel, want: from}
	goSafe(in, "checkpoint", func() error { s.run(ctx); return nil }, func(error) { close(s.done) })
	return s
}

// position returns the newest safe position.
func (s *saver) position() checkpoint.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want
}

// moved notes a new safe position. It does not block.
func (s *saver) moved(tok checkpoint.Token) {
	s.mu.Lock()
	s.want = tok
	if !s.dirty {
		s.dirty, s.since = true, time.Now()
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *saver) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
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

func (s *saver) rearm() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// save saves what is safe now, if it is not saved yet. A failure is counted and logged here.
func (s *saver) save(ctx context.Context) error {
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	s.mu.Lock()
	tok, since, dirty := s.want, s.since, s.dirty
	s.dirty = false
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	began := time.Now()
	in := s.in
	err := checkpoint.Save(ctx, in.store, in.cfg.CheckpointKey, in.kind, tok, began)
	in.st.checkpointLatency.Timing(time.Since(began).Nanoseconds())
	if err != nil {
		in.st.checkpointFailure.Incr(1)
		in.out.With("position", tok.String(), "error", err.Error()).Errorf("Checkpoint of %s not saved: %v", in.cfg.Name, err)
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return err
	}
	in.st.checkpointSuccess.Incr(1)
	in.st.lastCheckpoint.SetFloat64(float64(time.Now().UnixMilli()) / 1e3)
	in.st.stage(stageCommit, triggerNone, time.Since(since))
	in.log.Confirm(tok)
	return nil
}

// flush saves at once. Its failure is logged by save.
func (s *saver) flush(ctx context.Context) { _ = s.save(ctx) }

// stop saves for the last time and ends the goroutine.
func (s *saver) stop(ctx context.Context) error {
	s.quit()
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.save(ctx)
}
