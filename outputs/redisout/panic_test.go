package redisout

import (
	"fmt"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A panic in WriteBatch, which the engine's goroutine calls, is a reason to write the batch again.
func TestPanicWhileWriting(t *testing.T) {
	s := testenv.Redis(t)
	stream := testenv.Name(t)
	o := connected(t, fmt.Sprintf("url: %s\nstream: %s\n", s.URL(), stream))
	require.NoError(t, o.WriteBatch(t.Context(), numbered(0, 5, "orders")))
	sound := o.build.conf
	o.build.conf = nil
	require.ErrorIs(t, o.WriteBatch(t.Context(), numbered(5, 5, "orders")), service.ErrNotConnected)
	assert.Nil(t, o.cl, "a connection in an unknown state was kept")
	o.build.conf = sound
	err, causes := engine(t, o, numbered(5, 5, "orders"))
	require.NoError(t, err)
	require.Len(t, causes, 1)
	assert.ErrorContains(t, causes[0], "panic in the redis output: ")
	assert.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, events(s.Stream(t, stream, 10)))
}
