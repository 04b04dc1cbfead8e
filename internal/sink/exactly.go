package sink

import (
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// ExactlyField is the field that turns exactly-once delivery on. The output says how it keeps the position.
func ExactlyField(name, how string) *service.ConfigField {
	return service.NewBoolField(name).Default(false).
		Description("Keep the position of the source in the sink, in the transactions that write the rows, so that a crash at any moment leaves both or neither. " + how +
			" It takes one source of DeltaForge with `checkpoint: {exactly_once: true}`, `max_in_flight: 1`, no `batching`, and no broker around the output.")
}

// ExactlyRule is the lint rule of an output with ExactlyField.
const ExactlyRule = `root = if this.exactly_once.or(false) { [
  if this.max_in_flight.or(1) != 1 { "exactly_once: want max_in_flight 1: with more, batches can be written in another order than that of the log" },
  if this.batching.count.or(0) > 1 || this.batching.byte_size.or(0) > 0 || this.batching.period.or("") != "" || this.batching.check.or("") != "" {
    "exactly_once: remove batching: a batch of several source batches has no position of its own"
  },
].filter(e -> e != null) }`

// CheckExactly refuses what exactly-once delivery does not go with.
func CheckExactly(inFlight int, batching service.BatchPolicy) error {
	switch {
	case inFlight != 1:
		return fmt.Errorf("want max_in_flight 1, got %d: with more, batches can be written in another order than that of the log", inFlight)
	case !batching.IsNoop():
		return errors.New("remove batching: a batch of several source batches has no position of its own")
	}
	return nil
}
