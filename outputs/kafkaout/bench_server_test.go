package kafkaout

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// BenchmarkRealBroker compares batches that are acknowledged one after the other with a producer that never waits,
// both on Apache Kafka.
func BenchmarkRealBroker(b *testing.B) {
	s := testenv.Kafka(b)
	prefix := testenv.Name(b)
	s.CreateTopic(b, prefix+".shop.orders", 4)
	batch := benchMessages()
	b.Run("output", func(b *testing.B) {
		o := connected(b, s.Brokers(), "topic_prefix: "+prefix+"\n")
		require.NoError(b, o.WriteBatch(b.Context(), batch))
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, o.WriteBatch(b.Context(), batch))
		}
		b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("raw", func(b *testing.B) {
		cl := s.Client(b, kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		o := newTestOutput(b, s.Brokers(), "topic_prefix: "+prefix+"\n")
		a := newAttempt()
		o.build.build(a, batch)
		first := a.recs[0]
		require.NoError(b, cl.ProduceSync(b.Context(), &first).FirstErr())
		b.ReportAllocs()
		for b.Loop() {
			for i := range a.recs {
				r := a.recs[i]
				cl.Produce(b.Context(), &r, nil)
			}
		}
		require.NoError(b, cl.Flush(b.Context()))
		b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "records/s")
	})
}
