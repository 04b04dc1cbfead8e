// Package stored makes messages last: on a disk, in another process.
package stored

import (
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// ErrFormat means that a source has a format in which a restored event cannot be made again.
var ErrFormat = errors.New("its source has a format other than native, in which processors cannot make it again")

// Message is what a message is made of, as it is now: with what processors have done to it.
type Message struct {
	Payload  []byte
	Metadata map[string]string
	// Event is what change.Event.Marshal returns; nil for a message of another source.
	Event []byte
	// Failure is the error that the message carries; empty: none.
	Failure string
}

// Of returns what a message is made of, and its event; nil: it has none.
func Of(m *service.Message) (s Message, ev *change.Event, err error) {
	if s.Payload, err = m.AsBytes(); err != nil {
		return s, nil, fmt.Errorf("the payload: %w", err)
	}
	s.Metadata = map[string]string{}
	if err := m.MetaWalk(func(key, value string) error {
		s.Metadata[key] = value
		return nil
	}); err != nil {
		return s, nil, fmt.Errorf("the metadata: %w", err)
	}
	if failure := m.GetError(); failure != nil {
		s.Failure = failure.Error()
	}
	ev, ok := change.FromMessage(m)
	if !ok {
		return s, nil, nil
	}
	if s.Event, err = ev.Marshal(envelope.Native{}); err != nil {
		return s, nil, fmt.Errorf("the event: %w", err)
	}
	return s, ev, nil
}

// Restore returns the message again. With typed it is for processors, which need the event in its format; else ErrFormat is not returned.
func (s Message) Restore(typed bool) (*service.Message, error) {
	m := service.NewMessage(nil)
	if s.Event != nil {
		e, err := change.Unmarshal(s.Event)
		if err != nil {
			return nil, err
		}
		if typed && e.Formatted {
			return nil, ErrFormat
		}
		m = change.NewMessage(e.Event, e.Payload, e.Key)
		var gone []string
		_ = m.MetaWalk(func(k, _ string) error { // the function does not fail
			if _, there := s.Metadata[k]; !there {
				gone = append(gone, k)
			}
			return nil
		})
		for _, k := range gone {
			m.MetaDelete(k)
		}
	}
	m.SetBytes(s.Payload)
	for k, v := range s.Metadata {
		if old, there := m.MetaGet(k); !there || old != v {
			m.MetaSetMut(k, v)
		}
	}
	if s.Failure != "" {
		m.SetError(errors.New(s.Failure))
	}
	return m, nil
}
