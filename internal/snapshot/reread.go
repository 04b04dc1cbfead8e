package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// ErrKey means that no row of a table can have a key: its columns are others now.
var ErrKey = errors.New("no row can have the key")

// Rereader is a change.RowReader: it reads rows by their keys, as chunks do.
type Rereader struct {
	// Open opens a connection. After is the place in the log up to which events have come.
	Open  func(ctx context.Context) (Reader, error)
	After func(events []*change.Event) (checkpoint.Position, error)

	reader Reader // nil: not connected
}

var _ change.RowReader = (*Rereader)(nil)

// ReadRows implements change.RowReader. A connection that has failed since it was used is opened anew.
func (r *Rereader) ReadRows(ctx context.Context, t *change.Table, events []*change.Event, keys [][]change.Value, add func(*change.Table, []change.Value, error)) error {
	after, err := r.After(events)
	if err != nil {
		return fmt.Errorf("the place of the events of %s in the log: %w", t.FullName(), err)
	}
	for {
		used := r.reader != nil
		found, err := r.read(ctx, t, after, keys)
		if err != nil {
			r.Close()
		}
		switch {
		case errors.Is(err, ErrGone), errors.Is(err, ErrAnew), errors.Is(err, ErrKey):
			return nil
		case err != nil && used && ctx.Err() == nil:
			continue
		case err != nil:
			return err
		}
		for _, f := range found {
			add(f.table, f.values, f.inexact)
		}
		return nil
	}
}

type foundRow struct {
	table   *change.Table
	values  []change.Value
	inexact error
}

func (r *Rereader) read(ctx context.Context, t *change.Table, after checkpoint.Position, keys [][]change.Value) (found []foundRow, err error) {
	if r.reader == nil {
		if r.reader, err = r.Open(ctx); err != nil {
			return nil, fmt.Errorf("connecting to read rows of %s: %w", t.FullName(), err)
		}
	}
	if _, err := r.reader.Begin(ctx, t.FullName(), after); err != nil {
		return nil, err
	}
	_, err = r.reader.Read(ctx, Chunk{Table: t.FullName(), Keys: keys}, func(now *change.Table, values []change.Value, inexact error) {
		found = append(found, foundRow{now, values, inexact})
	})
	if len(found) > 0 && !slices.Equal(keyNames(found[0].table), keyNames(t)) {
		return nil, ErrKey
	}
	return found, err
}

func keyNames(t *change.Table) (names []string) {
	for _, c := range t.Key {
		names = append(names, t.Columns[c].Name)
	}
	return names
}

// Close implements change.RowReader.
func (r *Rereader) Close() {
	if r.reader != nil {
		r.reader.Close()
		r.reader = nil
	}
}
