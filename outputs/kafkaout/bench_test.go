package kafkaout

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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

// BenchmarkCompression compresses events of our envelope, a megabyte at a time.
func BenchmarkCompression(b *testing.B) {
	var batch bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; batch.Len() < 1_000_000; i++ {
		fmt.Fprintf(&batch, `{"before":null,"after":{"id":%d,"customer":%d,"status":"%s","total":"%d.%02d","note":"%x","at":"2024-02-29T21:%02d:%02d.%06dZ"},`+
			`"source":{"version":"v1.0.0","connector":"mysql","name":"bench","ts_ms":1709208000000,"snapshot":"false","db":"bench","table":"orders",`+
			`"server_id":1,"gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:%d","file":"binlog.000003","pos":%d,"row":%d},"op":"c","ts_ms":1709208000123,`+
			`"transaction":{"id":"3e11fa47-71ca-11e1-9e33-c80aa9429562:%d","total_order":%d},"event_id":"3e11fa47-71ca-11e1-9e33-c80aa9429562:%d:%d",`+
			`"tenant_id":null,"schema_version":"9f86d081884c7d65"}`,
			i, r.IntN(100_000), []string{"new", "paid", "shipped"}[r.IntN(3)], r.IntN(10_000), r.IntN(100), r.Uint64(), r.IntN(60), r.IntN(60), r.IntN(1_000_000),
			i/1000, i*160, i%1000, i/1000, i%1000, i/1000, i%1000)
	}
	for _, name := range []string{"snappy", "lz4", "zstd", "gzip"} {
		b.Run(name, func(b *testing.B) {
			c, err := parse("seed_brokers: [ 'x:1' ]\ntopic_prefix: df\ncompression: " + name + "\n")
			require.NoError(b, err)
			compressor, err := kgo.DefaultCompressor(c.codec)
			require.NoError(b, err)
			b.SetBytes(int64(batch.Len()))
			var dst bytes.Buffer
			size := 0
			for b.Loop() {
				dst.Reset()
				out, _ := compressor.Compress(&dst, batch.Bytes())
				size = len(out)
			}
			b.ReportMetric(float64(batch.Len())/float64(size), "times-smaller")
		})
	}
}
