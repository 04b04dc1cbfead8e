package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// What ends a session is logged with the table that it is about.
func TestErrorNamesItsTable(t *testing.T) {
	rec := newRecorder()
	err := fault.WithTable("shop.orders", fault.WithKind(fault.KindDecode, fmt.Errorf("decoding row 1 of shop.orders")))
	assert.Equal(t, fault.KindDecode, fault.KindOf(err))
	assert.NoError(t, fault.WithTable("x", nil))
	connected := make(chan struct{})
	l := &funcLog{run: func(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
		out <- Segment{Commit: commitText(0)}
		<-connected
		return fmt.Errorf("reading: %w", err)
	}}
	in := newTestInput(t, Config{}, l, newMemStore(), resources(t, rec))
	require.NoError(t, in.Connect(t.Context()))
	close(connected)
	_, _, got := in.ReadBatch(t.Context())
	require.ErrorIs(t, got, service.ErrNotConnected)
	require.NoError(t, in.Close(context.Background()))
	found := map[string]string{}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, line := range rec.lines {
		if line.Level == slog.LevelError {
			line.Attrs(func(a slog.Attr) bool { found[a.Key] = a.Value.String(); return true })
		}
	}
	assert.Equal(t, "shop.orders", found["table"])
	assert.Equal(t, "reading: decoding row 1 of shop.orders", found["error"])
	assert.Contains(t, found, "position")
}
