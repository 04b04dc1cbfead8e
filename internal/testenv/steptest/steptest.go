// Package steptest makes events and sends them through processors, for the tests of processors.
package steptest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // the engine's processors

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// Table returns a table of MySQL, by its full name, with the key in its first column.
func Table(database, name string, columns ...change.Column) *change.Table {
	src := &change.Source{Connector: "mysql", Name: "shop", Version: "1"}
	return &change.Table{Source: src, Database: database, Name: name, Columns: columns, Key: []int{0}}
}

// With returns the table as one of a source with metadata keys of its own, and a format; nil is the native one.
func With(t *change.Table, format change.Format, keys ...string) *change.Table {
	src := *t.Source
	src.Format = format
	if keys != nil {
		m, err := change.ParseMetadata(keys)
		if err != nil {
			panic(err)
		}
		src.Metadata = m
	}
	return &change.Table{Source: &src, Database: t.Database, Schema: t.Schema, Name: t.Name, Columns: t.Columns, Key: t.Key}
}

// Origin is what the events of Event share.
func Origin() *change.Origin {
	return &change.Origin{Tx: &change.Tx{ID: "uuid:7", Position: "uuid:7", GTID: "uuid:7", CommitTime: time.UnixMilli(1700000000123).UTC()}, ReadAt: time.UnixMilli(1700000000200), File: "binlog.1"}
}

// Event returns an event of one transaction.
func Event(origin *change.Origin, index int, op change.Op, t *change.Table, before, after []change.Value) *change.Event {
	return &change.Event{Op: op, Table: t, Origin: origin, Index: uint64(index), Images: change.ImagesOf(before, after)}
}

// kept are the siblings of batches, which their source keeps.
var kept sync.Map //nolint:gochecknoglobals // for as long as the test runs

// Keep does for a batch what its source does while it is on its way.
func Keep(batch service.MessageBatch) { kept.Store(batch[0], change.NewSiblings(batch)) }

// Batch returns the messages of events, as a source hands them out.
func Batch(events ...*change.Event) service.MessageBatch {
	var batch service.MessageBatch
	for _, ev := range events {
		batch = envelope.AppendMessages(batch, ev)
	}
	Keep(batch)
	return batch
}

// Through sends batches through processors, each in YAML, and returns what comes out.
func Through(t testing.TB, batches []service.MessageBatch, processors ...string) service.MessageBatch {
	t.Helper()
	return ThroughWith(t, nil, batches, processors...)
}

// ThroughWith is Through with cache resources.
func ThroughWith(t testing.TB, caches []string, batches []service.MessageBatch, processors ...string) service.MessageBatch {
	t.Helper()
	return run(t, func(b *service.StreamBuilder) {
		require.NoError(t, b.SetLoggerYAML("level: none"))
		for _, c := range caches {
			require.NoError(t, b.AddCacheYAML(c))
		}
	}, batches, processors)
}

// ThroughLogged is Through with a logger.
func ThroughLogged(t testing.TB, log *slog.Logger, batches []service.MessageBatch, processors ...string) service.MessageBatch {
	t.Helper()
	return run(t, func(b *service.StreamBuilder) { b.SetLogger(log) }, batches, processors)
}

func run(t testing.TB, configure func(*service.StreamBuilder), batches []service.MessageBatch, processors []string) (out service.MessageBatch) {
	t.Helper()
	b := service.NewStreamBuilder()
	configure(b)
	b.SetThreads(1)
	for _, p := range processors {
		require.NoError(t, b.AddProcessorYAML(p))
	}
	produce, err := b.AddBatchProducerFunc()
	require.NoError(t, err)
	require.NoError(t, b.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		out = append(out, batch...)
		return nil
	}))
	s, err := b.Build()
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	for _, batch := range batches {
		require.NoError(t, produce(t.Context(), batch))
	}
	require.NoError(t, s.StopWithin(time.Minute))
	require.NoError(t, <-ended)
	return out
}

// Payload returns the payload of a message.
func Payload(t testing.TB, m *service.Message) string {
	t.Helper()
	b, err := m.AsBytes()
	require.NoError(t, err)
	return string(b)
}
