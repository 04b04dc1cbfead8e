package envelope

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// NewEncoder returns an encoder for the events of a source.
func NewEncoder(s *change.Source) change.Encoder {
	if s.Format == nil {
		return Native{}.NewEncoder()
	}
	return s.Format.NewEncoder()
}

// AppendMessages appends the messages of an event in the format of its source. Callers with many events use an encoder.
func AppendMessages(dst service.MessageBatch, ev *change.Event) service.MessageBatch {
	dst, _ = NewEncoder(ev.Table.Source).AppendMessages(dst, nil, ev)
	return dst
}
