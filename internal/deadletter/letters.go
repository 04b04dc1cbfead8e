package deadletter

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/stored"
)

// fallbackError is the metadata key under which the engine's fallback output says why the output before it has failed.
const fallbackError = "fallback_error"

// lookEvery is how often the numbers of the entries are published.
const lookEvery = 5 * time.Second

// Letters are the dead letters of one output. A nil Letters keeps nothing.
type Letters struct {
	conf     Config
	pipeline string
	log      *service.Logger
	stats    *sink.Stats

	kept, evicted          *service.MetricCounter
	entries, bytes, oldest *service.MetricGauge

	mu    sync.Mutex
	store *Store // nil until it is needed, and after Close; guarded by mu
	stop  context.CancelFunc
	ended <-chan struct{}
	shut  bool
}

// New returns the dead letters of an output, which opens them when it connects.
func New(c Config, res *service.Resources, stats *sink.Stats) *Letters {
	m := res.Metrics()
	l := &Letters{
		conf: c, pipeline: res.StreamID(), log: res.Logger(), stats: stats,
		kept:    m.NewCounter("dead_letter_events_total"),
		evicted: m.NewCounter("dead_letter_evicted_total", "reason"),
		entries: m.NewGauge("dead_letter_entries"),
		bytes:   m.NewGauge("dead_letter_bytes"),
		oldest:  m.NewGauge("dead_letter_oldest_seconds"),
	}
	l.kept.Incr(0)
	l.count(Evicted{})
	return l
}

func (l *Letters) count(out Evicted) {
	l.evicted.Incr(int64(out.Age), "age")
	l.evicted.Incr(int64(out.Full), "full")
	if n := out.Age + out.Full; n > 0 {
		l.log.With("pipeline", l.pipeline, "path", l.conf.Path).Warnf("Dead letters dropped: %d that were older than max_age, %d to make room", out.Age, out.Full)
	}
}

// Open opens the file. It does nothing when it is open.
func (l *Letters) Open(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store != nil || l.shut {
		return nil
	}
	s, err := Open(ctx, l.conf.Path, true)
	if err != nil {
		return sink.Errorf(sink.Other, "%w", err)
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.store = s
	l.ended = l.stats.Go(l.log, "dead letters", func() { l.look(ctx, s) })
	register(l)
	return nil
}

// Close closes the file.
func (l *Letters) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	s, stop, ended := l.store, l.stop, l.ended
	l.store, l.shut = nil, true
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	unregister(l)
	stop()
	<-ended
	return s.Close()
}

// look publishes the numbers of the entries, and drops those that are too old, until ctx ends.
func (l *Letters) look(ctx context.Context, s *Store) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		l.publish(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Letters) publish(ctx context.Context, s *Store) {
	now := time.Now()
	n, out, err := s.Count(ctx, l.pipeline, l.conf.Limits, now)
	if err != nil {
		if ctx.Err() == nil {
			l.log.With("error", err.Error()).Warn("Looking at the dead letters")
		}
		return
	}
	l.count(out)
	l.entries.Set(int64(n.Entries))
	l.bytes.Set(n.Bytes)
	age := 0.0
	if !n.Oldest.IsZero() {
		age = max(0, now.Sub(n.Oldest).Seconds())
	}
	l.oldest.SetFloat64(age)
}

// Keep saves the messages that have failed for good, by their index in the batch. It returns those that are not kept: all of them for a nil
// Letters. An error means that the output has to wait: there is no room, or the file cannot be written.
func (l *Letters) Keep(ctx context.Context, batch service.MessageBatch, failed map[int]error) (left map[int]error, err error) {
	if l == nil || len(failed) == 0 {
		return failed, nil
	}
	entries := make([]Entry, 0, len(failed))
	for i, m := range batch {
		if cause := failed[i]; cause != nil {
			e, err := NewEntry(m, cause)
			if err != nil {
				return failed, sink.Errorf(sink.Serialization, "keeping a dead letter: %w", err)
			}
			entries = append(entries, e)
		}
	}
	l.mu.Lock()
	s := l.store
	l.mu.Unlock()
	if s == nil {
		return failed, service.ErrNotConnected
	}
	out, err := s.Keep(ctx, l.pipeline, entries, l.conf.Limits, time.Now())
	if err != nil {
		kind := sink.Other
		if errors.Is(err, ErrFull) {
			kind = sink.Backpressure
		}
		return failed, sink.Errorf(kind, "%d events cannot be delivered and cannot be kept: %w", len(entries), err)
	}
	l.count(out)
	l.kept.Incr(int64(len(entries)))
	first := entries[0]
	l.log.With("pipeline", l.pipeline, "path", l.conf.Path, "event_id", first.EventID, "table", first.Table, "error", first.Error).
		Errorf("%d events cannot be delivered and are kept as dead letters; see `deltaforge dlq list`", len(entries))
	l.publish(ctx, s)
	return nil, nil
}

// kindText is how the kind stands in the text of an error that has lost its type on its way.
var kindText = regexp.MustCompile(`\(kind=([a-z_]+)\)`)

func kindOf(err error) string {
	if _, typed := errors.AsType[*sink.Error](err); !typed {
		if found := kindText.FindStringSubmatch(err.Error()); found != nil {
			return found[1]
		}
	}
	return string(sink.KindOf(err))
}

// Cause returns why a message has failed before it came to an output that keeps dead letters.
func Cause(m *service.Message) error {
	if err := m.GetError(); err != nil {
		return err
	}
	if text, ok := m.MetaGet(fallbackError); ok {
		return errors.New(text)
	}
	return errors.New("sent to the dead letters by the pipeline")
}

// NewEntry returns the entry of a message that has failed. It is the message as it is now: with what processors have done to it.
func NewEntry(m *service.Message, cause error) (Entry, error) {
	e := Entry{Kind: kindOf(cause), Error: cause.Error()}
	s, ev, err := stored.Of(m)
	if err != nil {
		return e, err
	}
	delete(s.Metadata, fallbackError)
	e.Payload, e.Metadata, e.Event = s.Payload, s.Metadata, s.Event
	if ev != nil {
		e.Source, e.Table, e.Op = ev.Table.Source.Name, ev.Table.FullName(), string(rune(ev.Op))
		e.EventID, e.Position = string(ev.AppendID(nil)), ev.Tx.Position
		return e, nil
	}
	e.EventID, e.Op = e.Metadata[change.MetaEventID], e.Metadata[change.MetaOp]
	e.Source, e.Table = e.Metadata[change.MetaSource], e.Metadata[change.MetaTable]
	return e, nil
}

// Message returns the message of an entry again, as it was, but for its error. With typed it is for processors, which need the event in its format.
func (e Entry) Message(typed bool) (*service.Message, error) {
	m, err := stored.Message{Payload: e.Payload, Metadata: e.Metadata, Event: e.Event}.Restore(typed)
	switch {
	case errors.Is(err, stored.ErrFormat):
		return nil, fmt.Errorf("dead letter %d: %w: replay it without --processors", e.ID, err)
	case err != nil:
		return nil, fmt.Errorf("dead letter %d: %w", e.ID, err)
	}
	return m, nil
}

// process are the dead letters that are open in this process, for its control plane.
var process struct { //nolint:gochecknoglobals // the control plane and an output do not know each other
	mu   sync.Mutex
	open []*Letters
}

func register(l *Letters) {
	process.mu.Lock()
	defer process.mu.Unlock()
	process.open = append(process.open, l)
}

func unregister(l *Letters) {
	process.mu.Lock()
	defer process.mu.Unlock()
	for i, other := range process.open {
		if other == l {
			process.open = append(process.open[:i:i], process.open[i+1:]...)
			return
		}
	}
}

// Paths returns the files of dead letters that the outputs of a pipeline have open.
func Paths(pipeline string) (paths []string) {
	process.mu.Lock()
	defer process.mu.Unlock()
	for _, l := range process.open {
		if l.pipeline == pipeline {
			paths = append(paths, l.conf.Path)
		}
	}
	return paths
}
