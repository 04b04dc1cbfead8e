package redisout

import (
	"fmt"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/plant"
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

// A panic in each other call of the engine's, and of the client's, is told, and the next call works.
func TestPanicsOutsideOfWriting(t *testing.T) {
	c, err := parse(fmt.Sprintf("url: %s\nstream: %s\n", testenv.Redis(t).URL(), testenv.Name(t)))
	require.NoError(t, err)
	res, caught := plant.Resources(t, "panics_total@"+component, "panics_total@"+testComponent, "panics_total@"+closeComponent,
		"panics_total@"+logComponent)
	o := newOutput(c, res)
	demoted{o.log, o.stats}.Printf(t.Context(), "a word")
	demoted{o.log, o.stats}.Printf(t.Context(), "a word")
	require.ErrorContains(t, o.ConnectionTest(t.Context())[0].Err, "panic in the redis connection test: planted")
	require.NoError(t, o.ConnectionTest(t.Context())[0].Err)
	require.ErrorContains(t, o.Connect(t.Context()), "panic in the redis output: planted")
	require.NoError(t, o.Connect(t.Context()))
	require.ErrorContains(t, o.Close(t.Context()), "panic in the redis output close: planted")
	require.NoError(t, o.Close(t.Context()))
	for _, one := range []string{component, testComponent, closeComponent, logComponent} {
		assert.Equal(t, int64(1), caught.Count(one), one)
		assert.Contains(t, caught.Log(), "Panic in the "+one+": planted")
	}
	assert.Contains(t, caught.Log(), "redisout.demoted.Printf", "the stack")
}
