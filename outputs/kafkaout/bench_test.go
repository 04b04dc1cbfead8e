package kafkaout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const benchBatch = 5000

func benchMessages() service.MessageBatch {
	payload := strings.Repeat("0123456789", 50)
	b := make(service.MessageBatch, benchBatch)
	for i := range b {
		b[i] = changed("orders", "c", fmt.Sprintf(`{"id":%d}`, i), fmt.Sprintf("3e11fa47:%d:1", i), payload)
	}
	return b
}

// BenchmarkWriteBatch delivers to an in-process broker, whose work is counted too. Compare with BenchmarkRawProducer.
func BenchmarkWriteBatch(b *testing.B) {
	c := fake(b, kfake.BlackholeProduce(), kfake.SeedTopics(4, "df.shop.orders"))
	o := connected(b, c.ListenAddrs(), "topic_prefix: df\n")
	batch := benchMessages()
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, o.WriteBatch(b.Context(), batch))
	}
	b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkRawProducer gives ready records to the client and waits for all of them once.
func BenchmarkRawProducer(b *testing.B) {
	c := fake(b, kfake.BlackholeProduce(), kfake.SeedTopics(4, "df.shop.orders"))
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ProducerBatchCompression(kgo.SnappyCompression()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	require.NoError(b, err)
	defer cl.Close()
	o := newTestOutput(b, c.ListenAddrs(), "topic_prefix: df\n")
	a := newAttempt()
	o.build.build(a, benchMessages())
	b.ReportAllocs()
	for b.Loop() {
		for i := range a.recs {
			r := a.recs[i]
			cl.Produce(b.Context(), &r, nil)
		}
	}
	require.NoError(b, cl.Flush(b.Context()))
	b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkBuild turns messages into records.
func BenchmarkBuild(b *testing.B) {
	o := newTestOutput(b, []string{"localhost:9092"}, "topic_prefix: df\n")
	batch := benchMessages()
	a := newAttempt()
	b.ReportAllocs()
	for b.Loop() {
		o.build.build(a, batch)
		require.Len(b, a.recs, benchBatch)
		a.drop()
	}
	b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "records/s")
}
