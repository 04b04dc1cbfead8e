// Package step is what the processors share: batches of messages as changes, tables by patterns, and messages that are made again.
package step

import (
	"context"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// Change is one change and its messages: one, or as many as its format makes of it.
type Change struct {
	// Event is the whole change, nil for a message that is not ours. It must not be changed.
	Event    *change.Event
	Messages service.MessageBatch
}

// Changes calls fn for each change of a batch, in order. A message that cannot be told is marked with its error, and its Event is nil.
func Changes(batch service.MessageBatch, fn func(c Change)) {
	for from := 0; from < len(batch); {
		ev, ok := change.FromMessage(batch[from])
		to := from + 1
		switch {
		case ok:
			ev = ev.Whole()
			for ; to < len(batch); to++ {
				if next, ok := change.FromMessage(batch[to]); !ok || next.Whole() != ev {
					break
				}
			}
		default:
			if err := change.Untold(batch[from]); err != nil {
				batch[from].SetError(err)
			}
			ev = nil
		}
		fn(Change{ev, batch[from:to:to]})
		from = to
	}
}

// Fail marks the messages of a change with an error.
func (c Change) Fail(err error) {
	for _, m := range c.Messages {
		m.SetError(err)
	}
}

// Replaced returns an error if the payload of a message is not that of the change any more.
func (c Change) Replaced() error {
	for _, m := range c.Messages {
		if ev, ok := change.FromMessage(m); ok {
			if err := change.Replaced(m, ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// Maker makes messages again, of derived events. It is for one batch, and one goroutine.
type Maker struct {
	source  *change.Source
	encoder change.Encoder
	made    service.MessageBatch
	buf     []byte
}

// Append appends the messages of a derived event, in the format of its source, in place of those that the change had. Silent messages are
// left out. If the format cannot make messages of the table, they are empty and have the error.
func (k *Maker) Append(ctx context.Context, dst service.MessageBatch, c Change, ev *change.Event) service.MessageBatch {
	failed := change.Prepare(ctx, ev.Table)
	k.make(ev)
	if failed != nil {
		change.SetErrors(k.made, failed)
	}
	return k.replace(dst, c)
}

// Blank returns the messages of a derived event that says nothing about rows, for messages that fail. The format need not be prepared.
func (k *Maker) Blank(c Change, ev *change.Event) service.MessageBatch {
	k.make(ev)
	return k.replace(nil, c)
}

func (k *Maker) make(ev *change.Event) {
	if k.source != ev.Table.Source {
		k.source, k.encoder = ev.Table.Source, envelope.NewEncoder(ev.Table.Source)
	}
	if cap(k.buf)-len(k.buf) < 1024 {
		k.buf = make([]byte, 0, 64<<10)
	}
	k.made, k.buf = k.encoder.AppendMessages(k.made[:0], k.buf, ev)
}

func (k *Maker) replace(dst service.MessageBatch, c Change) service.MessageBatch {
	for i, made := range k.made {
		if e, ok := change.Own(made); ok && e.Silent {
			continue
		}
		m := change.Replace(c.Messages[min(i, len(c.Messages)-1)], made)
		if err := made.GetError(); err != nil {
			m.SetError(err)
		}
		dst = append(dst, m)
	}
	return dst
}

// Cache keeps what a processor has made of a table. It may be used by many goroutines. The zero Cache is ready.
type Cache[T any] struct {
	mu   sync.Mutex
	last *change.Table // guarded by mu, as are the others
	got  T
	all  map[*change.Table]T
}

// most bounds how many versions of tables are kept; each DDL makes one.
const most = 4096

// Get returns what make returned for the table the first time.
func (c *Cache[T]) Get(t *change.Table, make func(*change.Table) T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == t {
		return c.got
	}
	got, ok := c.all[t]
	if !ok {
		got = make(t)
		if c.all == nil || len(c.all) >= most {
			c.all = map[*change.Table]T{}
		}
		c.all[t] = got
	}
	c.last, c.got = t, got
	return got
}
