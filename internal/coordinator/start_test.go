package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// rememberingLog is a log whose server knows something of an earlier run.
type rememberingLog struct {
	*funcLog
	memory Memory
	err    error
}

func (l *rememberingLog) Remember(context.Context) (Memory, error) { return l.memory, l.err }

// TestStartWithoutPosition: it is a first start only where nothing says otherwise, and then one line says what is skipped.
func TestStartWithoutPosition(t *testing.T) {
	for name, c := range map[string]struct {
		memory  Memory
		err     error
		require bool
		from    string
		lost    bool
		want    string // the error, or the warning
	}{
		"first start": {
			from: "start", want: `No position of fake is saved under key "fake" in the test's store: this is taken for its first start. Reading begins at tx5; ` +
				"changes before that are not delivered. If it is not the first start, stop it, and restore the store; `require_position: true` refuses such a start",
		},
		"refused": {
			require: true, lost: true,
			want: `position lost: no position of fake is saved under key "fake" in the test's store, and ` + "`require_position: true` refuses a first start: restore the store, " +
				"or start once without it",
		},
		"the server says where nothing is lost": {
			memory: Memory{Trace: `slot "x" has confirmed tx3`, Resume: commitText(3)}, require: true, from: "tx3",
			want: `No position of fake is saved under key "fake" in the test's store, though slot "x" has confirmed tx3: unless that was made for this start, the store has lost its content, or is another one. ` +
				"Nothing is lost: reading goes on at tx3, and what was delivered after that comes again",
		},
		"the server says that it was here": {
			memory: Memory{Trace: "there is a mark", Way: "`DROP the mark`"}, lost: true,
			want: `position lost: no position of fake is saved under key "fake" in the test's store, though there is a mark: the store has lost its content, or is another ` +
				"one: restore it; or, to start as if for the first time, `DROP the mark`",
		},
		"the server cannot be asked": {
			err: errors.New("no route"), want: `no position of fake is saved under key "fake" in the test's store; asking the server whether the source has been here: no route`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			res := resources(t, rec)
			from := make(chan string, 1)
			l := &rememberingLog{memory: c.memory, err: c.err, funcLog: &funcLog{run: func(ctx context.Context, tok checkpoint.Token, out chan<- Segment) error {
				from <- tok.String()
				first := Segment{Source: "s"}
				if tok.IsZero() {
					first.Commit = commitText(5)
				}
				return segments(first)(ctx, tok, out)
			}}}
			in := newTestInput(t, Config{RequirePosition: c.require}, l, newMemStore(), res)
			in.store.name = "the test's store"
			err := in.Connect(t.Context())
			if c.from == "" {
				var back *service.ErrBackOff
				require.ErrorAs(t, err, &back)
				require.EqualError(t, back.Err, c.want)
				assert.Equal(t, c.lost, errors.Is(back.Err, fault.ErrPositionLost))
			} else {
				require.NoError(t, err)
				assert.Equal(t, c.from, <-from)
				warnings, _ := rec.logged(slog.LevelWarn)
				assert.Equal(t, []string{c.want}, warnings)
			}
			require.NoError(t, in.Close(context.Background()))
		})
	}
}

// TestVolatileStoreIsSaid at the start.
func TestVolatileStoreIsSaid(t *testing.T) {
	rec := newRecorder()
	in := newTestInput(t, Config{}, &funcLog{run: segments(Segment{})}, newMemStore(), resources(t, rec))
	require.NoError(t, checkpoint.Save(t.Context(), in.store, "fake", "fake", checkpoint.Token{Commit: commitText(1)}, time.Now()))
	in.store.name, in.store.volatile = `cache "positions"`, "it keeps what it is given in the memory of this process"
	require.NoError(t, in.Connect(t.Context()))
	require.NoError(t, in.Close(context.Background()))
	warnings, _ := rec.logged(slog.LevelWarn)
	assert.Equal(t, []string{`Positions of fake are kept in cache "positions", and it keeps what it is given in the memory of this process: after a restart the source ` +
		"starts as if for the first time, and changes in between are lost. Choose a cache that lasts, or the embedded store"}, warnings)
}

// TestKnownLateAfterARestart: the lag goes on where it was, until the server says otherwise.
func TestKnownLateAfterARestart(t *testing.T) {
	store := newMemStore()
	r, err := checkpoint.NewRecord("fake", checkpoint.Token{Commit: commitText(1)}, time.Now())
	require.NoError(t, err)
	r.DeliveredTo = time.Now().Add(-time.Hour)
	require.NoError(t, checkpoint.SaveRecord(t.Context(), store, "fake", r))
	in := newTestInput(t, Config{}, &funcLog{run: func(context.Context, checkpoint.Token, chan<- Segment) error { return errFake }}, store, nil)
	require.Error(t, in.Connect(t.Context()))
	lag, _ := in.lag.Seconds(time.Now())
	assert.InDelta(t, 3600, lag, 60)
	require.NoError(t, in.Close(context.Background()))
}
