package coordinator

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

const (
	// segmentDepth is how many segments wait in front of the workers.
	segmentDepth = 16
	// laneDepth is how many groups of segments wait before and after each decode worker.
	laneDepth = 2
	// maxDecoders is the most workers that decode_workers: 0 chooses.
	maxDecoders = 4
)

// errStopped is the end of a session that its owner wanted.
var errStopped = errors.New("session stopped")

// session is one run of the log, from its connection to its failure:
//
//	Log.Run ─► dispatch ─► lanes of decode workers ─► batcher ─► deliveries ─► ReadBatch
type session struct {
	in   *Input
	from place
	ctx  context.Context //nolint:containedctx // the session's lifetime, which no call has
	end  context.CancelCauseFunc
	wg   sync.WaitGroup
	done chan struct{} // closed when all goroutines have ended

	segments  chan Segment
	connected chan struct{} // closed when the log has sent its first segment
	ready     chan *batch   // cut batches
	asking    atomic.Bool   // the pipeline waits for a batch
	asked     chan struct{} // capacity 1; receives when asking has become true
	waiting   atomic.Int64  // events decoded and not handed out yet
	began     time.Time
	moved     atomic.Bool    // it has got somewhere
	join      *snapshot.Join // puts the chunks of snapshots into the stream; nil: the log has none

	mu    sync.Mutex
	first checkpoint.Token // where the log really started; guarded by mu
}

func startSession(ctx context.Context, in *Input, from place) *session {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &session{
		in: in, from: from, first: from.token, ctx: ctx, end: cancel,
		segments: make(chan Segment, segmentDepth), connected: make(chan struct{}), ready: make(chan *batch, 1),
		asked: make(chan struct{}, 1), began: time.Now(), done: make(chan struct{}),
	}
	if in.loader != nil {
		s.join = in.loader.Session(from.mark, from.token.Commit, from.token.Sent == 0)
		s.load()
	}
	workers := in.cfg.Decoders
	if workers == 0 {
		workers = min(runtime.GOMAXPROCS(0), maxDecoders)
	}
	lanes := make([]lane, workers)
	for n := range lanes {
		lanes[n] = lane{in: make(chan []Segment, laneDepth), out: make(chan decoded, laneDepth)}
		s.start1("decode", func() error { return s.decode(lanes[n]) })
	}
	s.start1("log", func() error {
		if err := in.log.Run(s.ctx, from.token, s.segments); err != nil {
			return err
		}
		return errors.New("the log ended without an error")
	})
	s.start1("dispatch", func() error { return s.dispatch(lanes) })
	s.start1("batch", func() error { return newBatcher(s).run(lanes) })
	goSafe(in, "session", func() error { s.wg.Wait(); return nil }, func(error) { close(s.done) })
	return s
}

// load starts what reads the chunks of snapshots, once the log streams.
func (s *session) load() {
	for n := range 1 + s.in.cfg.Snapshot.Parallel {
		s.start1("snapshot", func() error {
			select {
			case <-s.connected:
			case <-s.ctx.Done():
				return nil
			}
			if n == 0 {
				s.join.List(s.ctx)
			} else {
				s.join.Work(s.ctx)
			}
			return nil
		})
	}
}

// chunkReady receives when a chunk may be due; nil: there are none.
func (s *session) chunkReady() <-chan struct{} {
	if s.join == nil {
		return nil
	}
	return s.join.Ready()
}

// start1 starts one goroutine of the session; its error ends the session.
func (s *session) start1(component string, run func() error) {
	s.wg.Add(1)
	goSafe(s.in, component, run, func(err error) {
		if err != nil {
			s.end(err)
		}
		s.wg.Done()
	})
}

// awaitConnected returns when the log has sent something, or why it will not.
func (s *session) awaitConnected(ctx context.Context) error {
	select {
	case <-s.connected:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start returns where the log really started reading.
func (s *session) start() checkpoint.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// wait adds n, which may be negative, to the events that wait for the pipeline.
func (s *session) wait(n int) { s.in.st.channelDepth.Set(s.waiting.Add(int64(n))) }

// stop ends the session and waits until its goroutines have ended, at most for stopTimeout: a log that hangs is named and
// left behind.
func (s *session) stop(ctx context.Context) error {
	s.end(errStopped)
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the log of %s did not stop in time: %w", s.in.cfg.Name, ctx.Err())
	}
}

// lane is one decode worker's way. Group n travels on lane n modulo the number of lanes, on both sides, which keeps the
// order without a lock.
type lane struct {
	in  chan []Segment
	out chan decoded
}

// A group is what a worker gets at once: the segments that are there, so that small transactions do not cost a hand-over
// each. These are its bounds; one segment may be larger.
const (
	groupSegments = 64
	groupBytes    = 32 << 10
)

// decoded is a group of segments after its worker.
type decoded struct {
	segments []Segment // without their rows
	counts   []int     // messages of each segment
	messages service.MessageBatch
	sizes    []int // payload bytes of each message
	silent   bool  // some messages are not for the pipeline
	took     time.Duration
}

// dispatch deals the segments to the lanes.
func (s *session) dispatch(lanes []lane) error {
	for n := 0; ; {
		var seg Segment
		select {
		case seg = <-s.segments:
		case <-s.ctx.Done():
			return nil
		}
		group := s.gather(seg)
		select {
		case <-s.connected:
		default:
			s.noteStart(&group[0])
			close(s.connected)
		}
		select {
		case lanes[n].in <- group:
		case <-s.ctx.Done():
			return nil
		}
		if n++; n == len(lanes) {
			n = 0
		}
	}
}

// gather makes a group of a segment and of those after it that are there already.
func (s *session) gather(seg Segment) []Segment {
	group := make([]Segment, 0, 1+min(len(s.segments), groupSegments-1))
	bytes := 0
	for {
		if seg.ReadAt.IsZero() {
			seg.ReadAt = time.Now()
		}
		s.in.noteRead(&seg)
		if seg.CaughtUp {
			s.progress()
		}
		bytes += seg.Bytes
		group = append(group, seg)
		if len(group) == groupSegments || bytes >= groupBytes {
			break
		}
		select {
		case seg = <-s.segments:
			continue
		default:
		}
		break
	}
	if bytes > 0 {
		s.in.st.sourceBytes.Incr(int64(bytes))
	}
	return group
}

// noteStart remembers where the log started, from its first segment.
func (s *session) noteStart(seg *Segment) {
	if s.from.token.IsZero() && seg.Rows == nil {
		s.mu.Lock()
		s.first = checkpoint.Token{Source: seg.Source, Commit: seg.Commit}
		s.mu.Unlock()
	}
}

// decode is one worker.
func (s *session) decode(l lane) error {
	for {
		var group []Segment
		select {
		case group = <-l.in:
		case <-s.ctx.Done():
			return nil
		}
		d, err := decodeGroup(s.ctx, group)
		if s.ctx.Err() != nil {
			return nil //nolint:nilerr // the end of the session
		}
		if err != nil {
			return fault.OrKind(fault.KindDecode, err)
		}
		select {
		case l.out <- d:
		case <-s.ctx.Done():
			return nil
		}
	}
}

func decodeGroup(ctx context.Context, group []Segment) (decoded, error) {
	d := decoded{segments: group, counts: make([]int, len(group))}
	began := time.Now()
	for n := range group {
		if group[n].Rows == nil {
			continue
		}
		before := len(d.messages)
		var err error
		if d.messages, err = group[n].Rows.Decode(ctx, d.messages); err != nil {
			return d, err
		}
		group[n].Rows = nil
		d.counts[n] = len(d.messages) - before
	}
	d.measure()
	d.took = time.Since(began)
	return d, nil
}

// measure notes how large the messages are, and whether some are not for the pipeline.
func (d *decoded) measure() {
	d.sizes = make([]int, len(d.messages))
	for n, m := range d.messages {
		if b, err := m.AsBytes(); err == nil {
			d.sizes[n] = len(b)
		}
		d.silent = d.silent || silent(m)
	}
}

// progress notes that the session has got somewhere: there is something new for the pipeline, or the server says that there is nothing. It
// ends the trouble of the sessions before.
func (s *session) progress() {
	if !s.moved.Swap(true) {
		s.in.health.Clear(health.Source)
	}
}

// ask tells the batcher that the pipeline waits for a batch.
func (s *session) ask() {
	if s.asking.Swap(true) {
		return
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// next hands out the next batch: one that was rejected, else a new one.
func (s *session) next(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	d := s.in.deliver
	for {
		paused, turned := s.in.link.paused()
		if paused {
			select {
			case <-turned:
				continue
			case <-s.ctx.Done():
				return nil, nil, context.Cause(s.ctx)
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		a, wait, busy := d.again()
		if a != nil {
			return d.result(a)
		}
		ready := s.ready
		begun := s.in.begun(s)
		if busy || begun != nil {
			ready = nil
		} else {
			s.ask()
		}
		var resume <-chan time.Time
		if wait > 0 {
			resume = time.After(wait)
		}
		select {
		case <-s.in.loaded():
			return nil, nil, service.ErrEndOfInput
		case b := <-ready:
			s.asking.Store(false)
			s.wait(-len(b.messages))
			s.progress()
			if a := d.offer(b); a != nil {
				return d.result(a)
			}
		case <-begun:
		case <-resume:
		case <-turned:
		case <-d.changed:
		case <-s.ctx.Done():
			return nil, nil, context.Cause(s.ctx)
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
