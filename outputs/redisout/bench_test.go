package redisout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// BenchmarkWriteBatch delivers to a real server, over TCP.
func BenchmarkWriteBatch(b *testing.B) {
	const size = 5000
	s := testenv.Redis(b)
	o := connected(b, fmt.Sprintf("url: %s\nprefix: %s\nmax_len: 10000\n", s.URL(), testenv.Name(b)))
	payload := strings.Repeat("0123456789", 50)
	batch := make(service.MessageBatch, size)
	for i := range batch {
		batch[i] = changed("orders", "c", fmt.Sprintf(`{"id":%d}`, i), fmt.Sprintf("3e11fa47:%d:1", i), payload)
	}
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, o.WriteBatch(b.Context(), batch))
	}
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkHash keeps rows as hashes in a real server, over TCP.
func BenchmarkHash(b *testing.B) {
	const size = 5000
	s := testenv.Redis(b)
	o := connected(b, fmt.Sprintf("url: %s\nprefix: %s\nwrite: hash\n", s.URL(), testenv.Name(b)))
	tab, batch := people(0), make(service.MessageBatch, size)
	for i := range batch {
		batch[i] = message(tab, change.Create, uint64(i), nil, cells{
			change.IntValue(int64(i)), text(strings.Repeat("name", 10)), change.BytesValue([]byte("photo")), change.JSONValue([]byte(`{"a":1}`)),
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, o.WriteBatch(b.Context(), batch))
	}
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPlainPipeline adds the same entries without transactions.
func BenchmarkPlainPipeline(b *testing.B) {
	const size = 5000
	s := testenv.Redis(b)
	cl := s.Client(b)
	stream := testenv.Name(b)
	payload := []byte(strings.Repeat("0123456789", 50))
	b.ReportAllocs()
	for b.Loop() {
		pipe := cl.Pipeline()
		for i := range size {
			pipe.XAdd(b.Context(), &redis.XAddArgs{
				Stream: stream, MaxLen: 10000, Approx: true,
				Values: []any{"event_id", "3e11fa47:1:1", "op", "c", "key", i, "event", payload},
			})
		}
		_, err := pipe.Exec(b.Context())
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "entries/s")
}
