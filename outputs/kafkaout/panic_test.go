package kafkaout

import (
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A panic in WriteBatch, which the engine's goroutine calls, is a reason to write the batch again.
func TestPanicWhileWriting(t *testing.T) {
	c := fake(t)
	require.NoError(t, c.CreateTopic("orders", 1, nil))
	o := connected(t, c.ListenAddrs(), "topic: orders\n")
	require.NoError(t, o.WriteBatch(t.Context(), numbered("orders", 0, 5, 2)))
	sound := o.build.conf
	o.build.conf = nil
	require.ErrorIs(t, o.WriteBatch(t.Context(), numbered("orders", 5, 5, 2)), service.ErrNotConnected)
	o.build.conf = sound
	var reason *service.ErrBackOff // which the engine logs, and waits
	require.ErrorAs(t, o.Connect(t.Context()), &reason)
	assert.ErrorContains(t, reason.Err, "panic in the kafka output: ")
	require.NoError(t, o.Connect(t.Context()))
	require.NoError(t, o.WriteBatch(t.Context(), numbered("orders", 5, 5, 2)))
	assert.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, values(consume(t, c.ListenAddrs(), 10, "orders"), 0))
}
