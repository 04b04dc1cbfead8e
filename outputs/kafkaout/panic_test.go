package kafkaout

import (
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
	"github.com/deltaforge/deltaforge/internal/testenv/plant"
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

// A panic in what the client calls is told, and goes no further. Those that a broker in this process can bring about, and those in
// what the engine calls, are in the tests of the binary.
func TestPanicInTheNewsOfLostRecords(t *testing.T) {
	res, caught := plant.Resources(t, "panics_total@"+lossComponent, "panics_total@"+hookComponent)
	h := &hooks{stats: sink.NewStats(res.Metrics(), 1), log: res.Logger(), up: map[int32]bool{}}
	h.lost("orders", 3)
	h.lost("orders", 4)
	h.OnBrokerConnect(kgo.BrokerMetadata{NodeID: 1}, 0, nil, nil)
	h.OnBrokerConnect(kgo.BrokerMetadata{NodeID: 1}, 0, nil, nil)
	assert.Equal(t, map[int32]bool{1: true}, h.up)
	for _, one := range []string{lossComponent, hookComponent} {
		assert.Equal(t, int64(1), caught.Count(one), one)
		assert.Contains(t, caught.Log(), "Panic in the "+one+": planted")
	}
	assert.Contains(t, caught.Log(), "kafkaout.(*hooks).lost", "the stack")
	assert.Contains(t, caught.Log(), "partition=4")
	assert.NotContains(t, caught.Log(), "partition=3")
}
