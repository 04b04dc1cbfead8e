package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// positions is the store of a source's position, and of what belongs to it.
type positions struct {
	checkpoint.Store
	io.Closer
	key, kind string
}

// openStore opens the configured store: the named cache resource, else the embedded one.
func openStore(ctx context.Context, cfg Config, kind string, res *service.Resources) (*positions, error) {
	p := &positions{key: cfg.CheckpointKey, kind: kind}
	if cfg.CheckpointCache != "" {
		p.Store, p.Closer = checkpoint.FromCache(res, cfg.CheckpointCache), unowned{}
		return p, nil
	}
	s, err := checkpoint.OpenSQLite(ctx, cfg.CheckpointPath)
	if err != nil {
		return nil, err
	}
	p.Store, p.Closer = s, s
	return p, nil
}

// unowned is a store that somebody else closes.
type unowned struct{}

// Close implements io.Closer.
func (unowned) Close() error { return nil }

// load reads the saved position, and the time before which everything committed is delivered.
func (p *positions) load(ctx context.Context) (checkpoint.Token, time.Time, error) {
	tok, err := checkpoint.Load(ctx, p, p.key, p.kind)
	return tok, time.Now(), err
}

func (p *positions) save(ctx context.Context, tok checkpoint.Token, now, _ time.Time) error {
	return checkpoint.Save(ctx, p, p.key, p.kind, tok, now)
}

// history reads what a Historian has saved; nil: nothing.
func (p *positions) history(ctx context.Context) ([]byte, error) {
	key := checkpoint.SchemaKey(p.key)
	record, err := p.Get(ctx, key)
	switch {
	case errors.Is(err, checkpoint.ErrNotFound):
		return nil, nil
	case errors.Is(err, checkpoint.ErrLocked):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: reading key %q: %w", checkpoint.ErrBroken, key, err)
	}
	return record, nil
}

func (p *positions) saveHistory(ctx context.Context, record []byte) error {
	key := checkpoint.SchemaKey(p.key)
	if err := p.Set(ctx, key, record); err != nil {
		return fmt.Errorf("saving the schema history under key %q: %w", key, err)
	}
	return nil
}
