package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// rememberTimeout bounds the question whether the server knows of an earlier run.
const rememberTimeout = 30 * time.Second

// from returns where the source begins, and the time before which everything committed is delivered. The zero token means a first start, for
// which the input's own start configuration applies.
func (i *Input) from(ctx context.Context) (checkpoint.Token, time.Time, error) {
	if i.store.volatile != "" {
		i.out.Warnf("Positions of %s are kept in %s, and %s: after a restart the source starts as if for the first time, and changes in between are lost. "+
			"Choose a cache that lasts, or the embedded store", i.cfg.Name, i.store.name, i.store.volatile)
	}
	r, err := i.store.load(ctx)
	if errors.Is(err, checkpoint.ErrNotFound) {
		tok, err := i.unsaved(ctx)
		if err == nil && i.loader != nil {
			err = i.loader.Begin(nil, true) // also where the server remembers a place: nothing says that the rows were delivered
			if i.lostBy != nil {
				i.loader.Renew("", i.lostBy.Error())
			}
		}
		return tok, time.Now(), err
	}
	if err != nil {
		return checkpoint.Token{}, time.Time{}, err
	}
	if err := i.restoreHistory(ctx, r); err != nil {
		return checkpoint.Token{}, time.Time{}, err
	}
	if err := i.restoreSnapshot(ctx, r); err != nil {
		return checkpoint.Token{}, time.Time{}, err
	}
	tok := r.Token()
	i.log.Confirm(tok)
	since := r.DeliveredTo
	if since.IsZero() {
		since = r.SavedAt
	}
	return tok, since, nil
}

// restoreHistory hands the record that belongs to the saved position to a Historian.
func (i *Input) restoreHistory(ctx context.Context, r checkpoint.Record) error {
	h, ok := i.log.(Historian)
	if !ok {
		return nil
	}
	record, key, err := i.store.loadHistory(ctx, r)
	if err != nil {
		return fault.WithKind(fault.KindSchema, err)
	}
	if record == nil {
		return nil
	}
	if err := h.Restore(record); err != nil {
		return fault.WithKind(fault.KindSchema, fmt.Errorf("key %q: %w", key, err))
	}
	return nil
}

// restoreSnapshot hands the progress that belongs to the saved position to the loader.
func (i *Input) restoreSnapshot(ctx context.Context, r checkpoint.Record) error {
	if i.loader == nil {
		return nil
	}
	progress, err := i.store.loadSnapshot(ctx, r)
	if err != nil {
		return err
	}
	if err := i.loader.Begin(progress, false); err != nil {
		return fmt.Errorf("key %q: %w", checkpoint.SnapshotKey(i.store.key), err)
	}
	return nil
}

// unsaved returns where a source without a saved position begins. It is a first start only if nothing says otherwise.
func (i *Input) unsaved(ctx context.Context) (checkpoint.Token, error) {
	nothing := fmt.Sprintf("no position of %s is saved under key %q in %s", i.cfg.Name, i.store.key, i.store.name)
	if r, ok := i.log.(Rememberer); ok {
		ctx, cancel := context.WithTimeout(ctx, rememberTimeout)
		defer cancel()
		m, err := r.Remember(ctx)
		switch {
		case err != nil:
			return checkpoint.Token{}, fmt.Errorf("%s; asking the server whether the source has been here: %w", nothing, err)
		case m.Resume != nil:
			i.out.With("position", m.Resume.String()).Warnf("%s, though %s: unless that was made for this start, the store has lost its content, or is another one. Nothing is lost: "+
				"reading goes on at %s, and what was delivered after that comes again", capital(nothing), m.Trace, m.Resume)
			return checkpoint.Token{Commit: m.Resume}, nil
		case m.Trace != "" && i.mayRenew() && !i.cfg.RequirePosition:
			return checkpoint.Token{}, i.renewUnsaved(ctx, nothing, m.Trace)
		case m.Trace != "":
			return checkpoint.Token{}, fmt.Errorf("%w: %s, though %s: the store has lost its content, or is another one: restore it; or, to start as if for the "+
				"first time, %s", fault.ErrPositionLost, nothing, m.Trace, cmp.Or(m.Way, "remove what says so"))
		}
	}
	if i.cfg.RequirePosition {
		return checkpoint.Token{}, fmt.Errorf("%w: %s, and `%s: true` refuses a first start: restore the store, or start once without it", fault.ErrPositionLost, nothing,
			fieldRequire)
	}
	return checkpoint.Token{}, nil
}

// tellFirstStart says what a first start passes over.
func (i *Input) tellFirstStart(at checkpoint.Token) {
	loads := ""
	if i.loader != nil && i.loader.Wanted() {
		loads = "; the rows that the tables hold are loaded"
	}
	i.out.With("position", at.String()).Warnf("No position of %s is saved under key %q in %s: this is taken for its first start. Reading begins at %s; "+
		"changes before that are not delivered%s. If it is not the first start, stop it, and restore the store; `%s: true` refuses such a start", i.cfg.Name, i.store.key,
		i.store.name, at, loads, fieldRequire)
}

func capital(s string) string { return string(s[0]&^0x20) + s[1:] }
