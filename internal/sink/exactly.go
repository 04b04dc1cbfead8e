package sink

import (
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Transactions counts the transactions of an output that delivers exactly once.
type Transactions struct{ commits, aborts *service.MetricCounter }

// NewTransactions registers the series.
func NewTransactions(m *service.Metrics) *Transactions {
	t := &Transactions{commits: m.NewCounter("sink_txn_commits_total"), aborts: m.NewCounter("sink_txn_aborts_total")}
	t.commits.Incr(0)
	t.aborts.Incr(0)
	return t
}

// Committed counts a transaction that is in the sink.
func (t *Transactions) Committed() { t.commits.Incr(1) }

// Aborted counts an attempt at a transaction of which nothing is in the sink.
func (t *Transactions) Aborted() { t.aborts.Incr(1) }

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
