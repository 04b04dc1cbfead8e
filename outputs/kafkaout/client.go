package kafkaout

import (
	"math"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// clientOptions makes an idempotent producer with acks=all (the client's defaults) that never gives up on a record by itself: no retry limit,
// no delivery timeout. Its record and byte limits are lifted because an attempt bounds what it hands over.
func clientOptions(c *config, log *service.Logger, stats *sink.Stats, h *hooks) []kgo.Opt {
	return append(c.Options(),
		kgo.WithLogger(demoted{log, stats}),
		kgo.WithHooks(h),
		// A batch refused by a broker that is no longer the leader waits for this long before it finds the new one.
		kgo.MetadataMinAge(250*time.Millisecond),
		// The partitions of a topic that got more of them are used after this time at the latest.
		kgo.MetadataMaxAge(30*time.Second),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(c.partitioner),
		kgo.ProducerBatchCompression(c.codec, kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.maxMessageBytes)),
		kgo.BrokerMaxWriteBytes(int32(max(100<<20, c.maxMessageBytes+1<<20))),
		kgo.MaxBufferedRecords(math.MaxInt32),
		kgo.ProducerOnDataLossDetected(h.lost),
	)
}

// demoted passes the client's log on at a level at which it does not disturb: what matters comes back as errors.
type demoted struct {
	log   *service.Logger
	stats *sink.Stats
}

func (demoted) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (d demoted) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	d.stats.Do(d.log, logComponent, func() {
		d.log.With(append([]any{"client", "franz-go"}, keyvals...)...).Debug(msg)
	})
}
