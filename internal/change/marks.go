package change

import (
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/exactly"
)

// Marks returns the places of the messages' events. An output that keeps the position calls it; an error names a message that has no place in
// the ledger.
func Marks(batch service.MessageBatch, l *exactly.Ledger) ([]*exactly.Mark, error) {
	marks := make([]*exactly.Mark, len(batch))
	for i, m := range batch {
		ev, err := Told(m)
		if err != nil {
			return nil, fmt.Errorf("message %d of the batch: %w", i, err)
		}
		if ev == nil || ev.Mark == nil || ev.Mark.Ledger != l {
			return nil, fmt.Errorf("message %d of the batch is not an event of the source that keeps its position here: a processor has made it, or it comes from "+
				"another input", i)
		}
		marks[i] = ev.Mark
	}
	return marks, nil
}
