package sink

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestErrorsKeepTheirKindAndCause(t *testing.T) {
	err := fmt.Errorf("outside: %w", Errorf(TooLarge, "record of %d bytes: %w", 7, io.EOF))
	assert.Equal(t, TooLarge, KindOf(err))
	require.ErrorIs(t, err, io.EOF)
	assert.EqualError(t, err, "outside: record of 7 bytes: EOF (kind=too_large)")
	assert.Equal(t, Other, KindOf(io.EOF))
	assert.Equal(t, Other, KindOf(nil))
}

func TestGateTellsTheReasonOnceAndWaitsLonger(t *testing.T) {
	var g Gate
	require.NoError(t, g.Pass())
	reason := errors.New("no memory")
	var waits []time.Duration
	for range 6 {
		require.ErrorIs(t, g.Shut(reason), service.ErrNotConnected)
		var b *service.ErrBackOff
		require.ErrorAs(t, g.Pass(), &b)
		require.ErrorIs(t, b.Err, reason)
		waits = append(waits, b.Wait)
		require.NoError(t, g.Pass())
	}
	const ms = time.Millisecond
	assert.Equal(t, []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 5000 * ms, 5000 * ms}, waits)
	g.Open()
	_ = g.Shut(reason)
	var b *service.ErrBackOff
	require.ErrorAs(t, g.Pass(), &b)
	assert.Equal(t, 500*ms, b.Wait)
}
