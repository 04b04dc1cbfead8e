package coordinator

import (
	"context"
	"io"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// storeCloser is a checkpoint store that the input owns.
type storeCloser interface {
	checkpoint.Store
	io.Closer
}

// openStore opens the configured store: the named cache resource, else the embedded one.
func openStore(ctx context.Context, cfg Config, res *service.Resources) (storeCloser, error) {
	if cfg.CheckpointCache != "" {
		return unowned{checkpoint.FromCache(res, cfg.CheckpointCache)}, nil
	}
	return checkpoint.OpenSQLite(ctx, cfg.CheckpointPath)
}

// unowned is a store that somebody else closes.
type unowned struct{ checkpoint.Store }

// Close implements io.Closer.
func (unowned) Close() error { return nil }
