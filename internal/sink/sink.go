// Package sink holds what every DeltaForge output says in the same words: the kinds of its errors and the numbers
// that it reports.
package sink

import (
	"errors"
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// Kind says what went wrong, in one of the words of the metric sink_failures_total.
type Kind string

// The kinds. An error that fits none of them is Other.
const (
	Auth          Kind = "auth"
	Permission    Kind = "permission"
	Connect       Kind = "connect"
	Timeout       Kind = "timeout"
	Serialization Kind = "serialization"
	Routing       Kind = "routing"
	TooLarge      Kind = "too_large"
	Backpressure  Kind = "backpressure"
	UnknownTopic  Kind = "unknown_topic"
	Fenced        Kind = "fenced"
	OutOfMemory   Kind = "out_of_memory"
	ReadOnly      Kind = "readonly"
	Other         Kind = "other"
)

// kinds returns all kinds.
func kinds() []Kind {
	return []Kind{
		Auth, Permission, Connect, Timeout, Serialization, Routing, TooLarge, Backpressure, UnknownTopic, Fenced, OutOfMemory,
		ReadOnly, Other,
	}
}

// Error is an error with a kind. Its text ends with the kind, so that a log line and a metric can be matched.
type Error struct {
	Kind Kind
	Err  error
}

// Errorf formats an error of a kind. It wraps like fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return fmt.Sprintf("%v (kind=%s)", e.Err, e.Kind) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost Error in err's chain, Other when there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Other
}

// Stats are the numbers of one output. The zero value and a nil Metrics count nothing.
type Stats struct {
	events, batches, bytes, failures, retries, reconnects *service.MetricCounter
	panics                                                *service.MetricCounter
	latency                                               *service.MetricTimer
	bufEvents, bufBytes, bufLimit                         *service.MetricGauge
}

// NewStats registers the series of an output and publishes the bound of its buffer.
func NewStats(m *service.Metrics, bufferLimit int64) *Stats {
	s := &Stats{
		events:     m.NewCounter("sink_events_total"),
		batches:    m.NewCounter("sink_batch_total"),
		bytes:      m.NewCounter("sink_bytes_total"),
		failures:   m.NewCounter("sink_failures_total", "kind"),
		retries:    m.NewCounter("sink_retries_total"),
		reconnects: m.NewCounter("sink_reconnects_total"),
		panics:     m.NewCounter("panics_total", "component"),
		latency:    m.NewTimer("sink_latency_ns"),
		bufEvents:  m.NewGauge("sink_buffer_events"),
		bufBytes:   m.NewGauge("sink_buffer_bytes"),
		bufLimit:   m.NewGauge("sink_buffer_limit_bytes"),
	}
	s.bufLimit.Set(bufferLimit)
	s.zero()
	return s
}

// zero makes the series of what should not happen exist before it does, so that its first time is an increase.
func (s *Stats) zero() {
	for _, kind := range kinds() {
		s.failures.Incr(0, string(kind))
	}
	for _, c := range []*service.MetricCounter{s.events, s.batches, s.bytes, s.retries, s.reconnects} {
		c.Incr(0)
	}
	s.Buffered(0, 0)
}

// Go calls f on a goroutine of its own and returns a channel that is closed when f has ended. A panic in f is counted, logged
// with its stack, and goes no further.
func (s *Stats) Go(log *service.Logger, component string, f func()) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Do(log, component, f)
	}()
	return done
}

// Do is Guard for a function of ours that a client library calls on a goroutine of its own, and that returns nothing.
func (s *Stats) Do(log *service.Logger, component string, f func()) {
	_ = s.Guard(log, component, func() error { f(); return nil }) // it has been told
}

// Guard calls f on behalf of the engine, where a panic would end the process. A panic is counted, logged with its stack, and
// becomes an error.
func (s *Stats) Guard(log *service.Logger, component string, f func() error) error {
	err := guard.Do(component, func(n int64) { s.panics.Incr(n, component) }, func(p *guard.Panic) {
		log.With("error", fmt.Sprint(p.Value), "stack", p.Stack).Error(p.Line())
	}, f)
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		return Errorf(Other, "%w", p)
	}
	return err
}

// Delivered counts messages and payload bytes that the server has acknowledged.
func (s *Stats) Delivered(events int, bytes int64) {
	if events == 0 {
		return
	}
	s.events.Incr(int64(events))
	s.bytes.Incr(bytes)
}

// Took records how long one delivery took, whatever its outcome.
func (s *Stats) Took(d time.Duration) { s.latency.Timing(d.Nanoseconds()) }

// Failed counts one failure: a message that failed alone, or an attempt at a batch.
func (s *Stats) Failed(k Kind) { s.failures.Incr(1, string(k)) }

// Retried counts one repetition of a request or of a batch.
func (s *Stats) Retried() { s.retries.Incr(1) }

// Reconnected counts a connection that replaced a broken one.
func (s *Stats) Reconnected() { s.reconnects.Incr(1) }

// Buffered publishes what is held unsent or unacknowledged.
func (s *Stats) Buffered(events, bytes int64) {
	s.bufEvents.Set(events)
	s.bufBytes.Set(bytes)
}
