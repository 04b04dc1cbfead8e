package kafkaout

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/deltaforge/deltaforge/internal/deadletter"
)

// What can never be written is kept, and the rest of its batch is delivered. Without room it is tried again, and nothing is delivered twice.
func TestDeadLetters(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "df.shop.orders"))
	path := filepath.Join(t.TempDir(), "dlq.db")
	o := connected(t, c.ListenAddrs(), "topic_prefix: df\nmax_message_bytes: 2000\ndead_letter: {path: "+path+", max_count: 1}\n")
	large := func(id string) *service.Message {
		return changed("orders", "c", id, "tx"+id, strings.Repeat("x", 3000))
	}
	require.NoError(t, o.WriteBatch(t.Context(), append(numbered("orders", 0, 3, 1), large("10"))))
	full := append(numbered("orders", 3, 3, 1), large("11"))
	require.ErrorIs(t, o.WriteBatch(t.Context(), full), service.ErrNotConnected)
	require.ErrorContains(t, o.Connect(t.Context()), "1 events cannot be delivered and cannot be kept: the dead letters are full")

	s, err := deadletter.Open(t.Context(), path, false)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	list, err := s.List(t.Context(), deadletter.Filter{}, true)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "too_large", list[0].Kind)
	assert.Contains(t, string(list[0].Payload), strings.Repeat("x", 3000))
	_, err = s.Purge(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	require.NoError(t, o.Connect(t.Context()))
	require.NoError(t, o.WriteBatch(t.Context(), full))
	require.NoError(t, o.Close(t.Context()))
	assert.Len(t, consume(t, c.ListenAddrs(), 6, "df.shop.orders"), 6)
}
