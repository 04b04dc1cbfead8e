package change

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Passage tells a source when a batch of its own has come out of the processors. The source puts it into the first
// message; the output that gets the batch first says so with Reached. It may be used from any goroutine.
type Passage struct{ nanos atomic.Int64 }

// passageKey is the context key under which a message carries its passage.
type passageKey struct{}

// With returns the message with the passage in it.
func (p *Passage) With(m *service.Message) *service.Message {
	return m.WithContext(context.WithValue(m.Context(), passageKey{}, p))
}

// Time returns when the batch reached an output, or false when no output has said so: it is a foreign one, or a
// processor has dropped the first message of the batch.
func (p *Passage) Time() (time.Time, bool) {
	n := p.nanos.Load()
	return time.Unix(0, n), n != 0
}

// Reached is called by an output with a batch that it is about to deliver, before anything else. Repetitions count for
// nothing.
func Reached(batch service.MessageBatch) {
	if len(batch) == 0 {
		return
	}
	if p, ok := batch[0].Context().Value(passageKey{}).(*Passage); ok {
		p.nanos.CompareAndSwap(0, time.Now().UnixNano())
	}
}
