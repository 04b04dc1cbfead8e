package snapshot

import (
	"context"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/internal/livecopy"
)

// # Outputs that keep copies
//
// An output that keeps a copy of each row cannot see from the rows of a load which others it has to remove. So it is told: before the first chunk is
// read, and when all rows of the load are delivered. In between, whatever it writes is there. A row that a chunk does not have, since the stream
// brings it, is in the stream after the chunk's place, and so is written after the beginning. A load of only some rows removes nothing.

// Copies names where the outputs that keep copies are found. Called once, before Begin.
func (l *Loader) Copies(p *livecopy.Pipeline) { l.copies = p }

// keep tells the outputs that a load begins. It reports whether there are any.
func (j *Join) keep(ctx context.Context, r *reading) (bool, error) {
	if j.l.copies == nil || r.where != "" {
		return false, nil
	}
	keepers, err := j.l.copies.Keepers(ctx)
	for _, k := range keepers {
		if err = k.Begin(ctx, r.table, r.id); err != nil {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("preparing the copy of it: %w", err)
	}
	return len(keepers) > 0, nil
}

// finish tells the outputs that all rows of a load are delivered, and ends the load.
func (j *Join) finish(ctx context.Context, r *reading) error {
	l := j.l
	var err error
	if l.copies != nil {
		var keepers []livecopy.Keeper
		keepers, err = l.copies.Keepers(ctx)
		for _, k := range keepers {
			if err = k.End(ctx, r.table, r.id); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("removing rows that it does not have from the copy of it: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.rec.find(r.table)
	if d == nil || d.ID != r.id || d.State != Pruning {
		return errStale
	}
	d.Problem = ""
	l.end(d)
	l.numbers.Ratio(d.Table, d.ratio())
	l.touch()
	l.look()
	return nil
}

// delivered notes that all rows of a load are delivered; l.mu is held.
func (l *Loader) delivered(d *load) {
	if d.Kept {
		d.State = Pruning
		return
	}
	l.end(d)
}

// end ends a load that is whole; l.mu is held.
func (l *Loader) end(d *load) {
	d.State, d.Ended = Done, time.Now().UTC()
	took := d.Ended.Sub(d.Began)
	l.out.With("table", d.Table).Infof("Snapshot of %s is done: %d rows in %s (%.0f rows/s)", d.Table, d.Rows, took.Round(time.Millisecond),
		float64(d.Rows)/max(took.Seconds(), 1e-3))
	if l.join != nil {
		l.join.forget(d.Table)
	}
}
