package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// keepEvery is how often the store is asked whether it still has what was saved.
const keepEvery = time.Minute

// positions is the store of a source's position, and of what belongs to it. It is used by Connect until the position is loaded, and by the
// goroutine that saves after that.
type positions struct {
	checkpoint.Store
	io.Closer
	key, kind string
	name      string // for a person
	cache     bool   // somebody else's cache, of which nothing is known
	volatile  string // why what it is given does not outlive the process; empty: it does, or nobody knows

	record  []byte // as it is saved; nil: not yet, in this process
	history []byte // as it is saved; nil: there is none
	moved   bool   // the history is under the key of an earlier version
	loads   []byte // the progress of snapshots, as it is saved; nil: there is none
}

// openStore opens the configured store: the named cache resource, else the embedded one.
func openStore(ctx context.Context, cfg Config, kind string, res *service.Resources) (*positions, error) {
	p := &positions{key: cfg.CheckpointKey, kind: kind}
	if cfg.CheckpointCache != "" {
		c := checkpoint.FromCache(res, cfg.CheckpointCache)
		p.Store, p.Closer, p.cache, p.volatile = c, unowned{}, true, c.Volatile(ctx)
		p.name = fmt.Sprintf("cache %q", cfg.CheckpointCache)
		return p, nil
	}
	s, err := checkpoint.OpenSQLite(ctx, cfg.CheckpointPath)
	if err != nil {
		return nil, err
	}
	p.Store, p.Closer, p.name = s, s, "file "+cfg.CheckpointPath
	return p, nil
}

// unowned is a store that somebody else closes.
type unowned struct{}

// Close implements io.Closer.
func (unowned) Close() error { return nil }

// load reads the saved record.
func (p *positions) load(ctx context.Context) (checkpoint.Record, error) {
	return checkpoint.LoadRecord(ctx, p, p.key, p.kind)
}

// loadHistory reads what a Historian has saved, and says under which key; nil when nothing is saved.
func (p *positions) loadHistory(ctx context.Context, r checkpoint.Record) ([]byte, string, error) {
	history, at, err := checkpoint.LoadHistory(ctx, p, p.key, r)
	if err != nil {
		return nil, at, err
	}
	p.history, p.moved = history, at != checkpoint.SchemaKey(p.key)
	return history, at, nil
}

// loadSnapshot reads the progress of snapshots.
func (p *positions) loadSnapshot(ctx context.Context, r checkpoint.Record) (progress []byte, err error) {
	p.loads, err = checkpoint.LoadSnapshot(ctx, p, p.key, r)
	return p.loads, err
}

// saveSnapshot writes the progress of snapshots.
func (p *positions) saveSnapshot(ctx context.Context, progress []byte) error {
	key := checkpoint.SnapshotKey(p.key)
	if err := p.Set(ctx, key, progress); err != nil {
		return fmt.Errorf("saving the progress of snapshots under key %q: %w", key, err)
	}
	p.loads = progress
	return nil
}

// save writes a position, after everything that belongs to it.
func (p *positions) save(ctx context.Context, tok checkpoint.Token, now, deliveredTo time.Time) error {
	if p.moved && p.history != nil {
		if err := p.saveHistory(ctx, p.history); err != nil {
			return err
		}
	}
	r, err := checkpoint.NewRecord(p.kind, tok, now)
	if err != nil {
		return err
	}
	r.History, r.Snapshot, r.DeliveredTo = p.history != nil, p.loads != nil, deliveredTo.UTC()
	record, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := p.Set(ctx, p.key, record); err != nil {
		return fmt.Errorf("saving position %s under key %q: %w", tok, p.key, err)
	}
	if p.record == nil && p.cache {
		if back, err := p.Get(ctx, p.key); err != nil || !bytes.Equal(back, record) {
			return fmt.Errorf("saving position %s under key %q: %s does not keep what it is given: choose another one", tok, p.key, p.name)
		}
	}
	p.record = record
	return nil
}

// saveHistory writes what a Historian knows.
func (p *positions) saveHistory(ctx context.Context, history []byte) error {
	key := checkpoint.SchemaKey(p.key)
	if err := p.Set(ctx, key, history); err != nil {
		return fmt.Errorf("saving the schema history under key %q: %w", key, err)
	}
	p.history, p.moved = history, false
	return nil
}

// keep makes sure that the store still has what was saved. A missing record is saved again, and is an error. In a foreign cache every record
// is saved again in any case, so that no time to live runs out while the source runs.
func (p *positions) keep(ctx context.Context) error {
	if p.record == nil {
		return nil
	}
	lost := p.check(ctx, p.key, p.record)
	if p.history != nil && !p.moved {
		lost = errors.Join(lost, p.check(ctx, checkpoint.SchemaKey(p.key), p.history))
	}
	if p.loads != nil {
		lost = errors.Join(lost, p.check(ctx, checkpoint.SnapshotKey(p.key), p.loads))
	}
	return lost
}

func (p *positions) check(ctx context.Context, key string, want []byte) error {
	have, err := p.Get(ctx, key)
	switch {
	case err == nil && bytes.Equal(have, want):
		if p.cache {
			err = p.Set(ctx, key, want)
		}
		return err
	case err == nil:
		return fmt.Errorf("%s has something else under key %q than what was saved: does another source use the key?", p.name, key)
	case !errors.Is(err, checkpoint.ErrNotFound) && !errors.Is(err, checkpoint.ErrLost):
		return err
	}
	lost := fmt.Errorf("%s does not have any more what was saved under key %q: it was emptied, or keeps things for a time only (a TTL, a bounded size). "+
		"It is saved again; if it is gone when the source starts, that looks like a first start", p.name, key)
	if err := p.Set(ctx, key, want); err != nil {
		return fmt.Errorf("%w: saving it again: %w", lost, err)
	}
	return lost
}
