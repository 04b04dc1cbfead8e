package coordinator

import (
	"context"
	"errors"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Input is the service.BatchInput over a Log.
type Input struct{}

var _ service.BatchInput = (*Input)(nil)

// New returns an input that reads from log. The kind names the database in the saved record, "mysql" or "postgresql". It
// works offline; only Connect opens the checkpoint store and the log.
func New(_ Config, _ string, _ Log, _ *service.Resources) (*Input, error) {
	return nil, errors.New("not built yet")
}

// Connect implements service.BatchInput.
func (*Input) Connect(context.Context) error { return errors.New("not built yet") }

// ReadBatch implements service.BatchInput.
func (*Input) ReadBatch(context.Context) (service.MessageBatch, service.AckFunc, error) {
	return nil, nil, errors.New("not built yet")
}

// Close implements service.BatchInput.
func (*Input) Close(context.Context) error { return nil }
