package coordinator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// historianLog is a fake log with something to remember: what it has sent.
type historianLog struct {
	*fakeLog
	known    string // what Restore gave
	broken   error
	marks    []uint64
	recorded uint64
}

func (l *historianLog) Restore(record []byte) error {
	l.known = string(record)
	return l.broken
}

func (l *historianLog) Record() ([]byte, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recorded++
	if l.recorded > 1 {
		return nil, 0, nil // nothing new
	}
	return []byte("history"), l.recorded, nil
}

func (l *historianLog) Saved(mark uint64) { l.marks = append(l.marks, mark) }

// orderedStore notes which keys were set, and refuses some.
type orderedStore struct {
	*memStore
	keys   []string
	refuse map[string]bool
}

func (s *orderedStore) Set(ctx context.Context, key string, value []byte) error {
	if s.refuse[key] {
		return errors.New("disk full")
	}
	s.keys = append(s.keys, key)
	return s.memStore.Set(ctx, key, value)
}

// TestHistoryBeforePosition: the record of a Historian is saved before the position that may need it, and only when it has changed.
func TestHistoryBeforePosition(t *testing.T) {
	store := &orderedStore{memStore: newMemStore(), refuse: map[string]bool{"fake.schema_history": true}}
	l := &historianLog{fakeLog: &fakeLog{t: t, r: newRand(1)}}
	in := newTestInput(t, Config{}, l, store, nil)
	s := &saver{in: in, wake: make(chan struct{}, 1), begun: make(chan struct{})}
	s.moved(place{token: checkpoint.Token{Commit: commitText(1)}})
	require.ErrorContains(t, s.save(t.Context()), `saving the schema history under key "fake.schema_history": disk full`)
	require.Empty(t, store.keys, "no position without the history that it needs")
	require.Empty(t, l.marks)

	store.refuse, l.recorded = nil, 0
	require.NoError(t, s.save(t.Context()))
	require.Equal(t, []string{"fake.schema_history", "fake"}, store.keys)
	require.Equal(t, []uint64{1}, l.marks)
	s.moved(place{token: checkpoint.Token{Commit: commitText(2)}})
	require.NoError(t, s.save(t.Context()))
	require.Equal(t, []string{"fake.schema_history", "fake", "fake"}, store.keys)
}

// TestHistoryRestored: the record comes back with the position, and only with it.
func TestHistoryRestored(t *testing.T) {
	for name, c := range map[string]struct {
		position, history bool
		broken            error
		want              string
	}{
		"both":             {position: true, history: true, want: "history"},
		"history only":     {history: true},
		"position only":    {position: true},
		"cannot be read":   {position: true, history: true, broken: checkpoint.ErrBroken, want: "history"},
		"of another world": {position: true, history: true, broken: checkpoint.ErrIncompatible, want: "history"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newMemStore()
			ctx := t.Context()
			if c.position {
				require.NoError(t, checkpoint.Save(ctx, store, "fake", "fake", checkpoint.Token{Commit: commitText(0)}, time.Now()))
			}
			if c.history {
				require.NoError(t, store.Set(ctx, checkpoint.SchemaKey("fake"), []byte("history")))
			}
			l := &historianLog{fakeLog: &fakeLog{t: t, r: newRand(1)}}
			if c.broken != nil {
				l.broken = fmt.Errorf("entry 3 of 3: %w", c.broken)
			}
			in := newTestInput(t, Config{}, l, store, nil)
			err := in.open(ctx)
			require.Equal(t, c.want, l.known)
			if c.broken != nil {
				require.ErrorIs(t, err, c.broken)
				require.ErrorContains(t, err, `key "fake.schema_history": entry 3 of 3`)
				require.Equal(t, fault.KindSchema, fault.KindOf(err))
				require.Nil(t, in.saver, "a source does not start without it")
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, in.Close(context.WithoutCancel(ctx)))
		})
	}
}
