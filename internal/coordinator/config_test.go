package coordinator

import (
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

func parse(t *testing.T, yaml string) (Config, error) {
	spec := service.NewConfigSpec().Fields(Fields()...)
	conf, err := spec.ParseYAML(yaml, nil)
	if err != nil {
		return Config{}, err
	}
	return ParseConfig(conf)
}

func TestParseConfig(t *testing.T) {
	got, err := parse(t, "name: orders")
	require.NoError(t, err)
	defaults, err := change.ParseMetadata(change.DefaultMetadata())
	require.NoError(t, err)
	assert.Equal(t, Config{
		Name: "orders", MaxEvents: 5000, MaxBytes: 4 << 20, MaxWait: 50 * time.Millisecond, RespectTx: true,
		CheckpointKey: "orders", CheckpointPath: "deltaforge-checkpoints.db", CheckpointInterval: 300 * time.Millisecond,
		MaxInFlight: 1, Metadata: defaults,
		OnLost: LostFail, Snapshot: snapshot.Config{Mode: snapshot.Initial, Tables: []string{}, Where: map[string]string{}, ChunkRows: 10_000, Parallel: 2},
	}, got)
	got, err = parse(t, `
name: orders
tenant: acme
decode_workers: 3
max_in_flight: 9
batch: {max_events: 1, max_bytes: 2, max_ms: 0, respect_source_tx: false}
checkpoint: {cache: c, key: k, path: "", interval_ms: 0}
metadata: [table]
snapshot: {mode: never, tables: [a.b], where: {a.b: c}, chunk_rows: 4, max_parallel_chunks: 5, max_rows_per_second: 6, dsn: d, signal_table: a.s}
`)
	require.NoError(t, err)
	one, err := change.ParseMetadata([]string{"table"})
	require.NoError(t, err)
	assert.Equal(t, Config{
		Name: "orders", Tenant: "acme", MaxEvents: 1, MaxBytes: 2, CheckpointCache: "c", CheckpointKey: "k", Decoders: 3, MaxInFlight: 9, Metadata: one,
		OnLost: LostFail, Snapshot: snapshot.Config{
			Mode: snapshot.Never, Tables: []string{"a.b"}, Where: map[string]string{"a.b": "c"}, ChunkRows: 4, Parallel: 5, Rate: 6, DSN: "d", Signal: "a.s",
		},
	}, got)
}

func TestParseConfigErrors(t *testing.T) {
	for yaml, want := range map[string]string{
		"{}":                                             "field 'name' is required",
		`name: ""`:                                       "name: want a name that identifies the source, got an empty string",
		"name: {a: b}":                                   "field 'name'",
		"{name: a, batch: {max_events: 0}}":              "batch.max_events: want at least 1, got 0",
		"{name: a, batch: {max_events: many}}":           "field 'batch': field 'max_events'",
		"{name: a, batch: {max_bytes: -1}}":              "batch.max_bytes: want at least 1, got -1",
		"{name: a, batch: {max_ms: -1}}":                 "batch.max_ms: want at least 0, got -1",
		"{name: a, batch: {respect_source_tx: 3}}":       "field 'batch': field 'respect_source_tx'",
		"{name: a, checkpoint: {path: ''}}":              "checkpoint.path: want a file when checkpoint.cache is empty",
		"{name: a, checkpoint: {interval_ms: -5}}":       "checkpoint.interval_ms: want at least 0, got -5",
		"{name: a, max_in_flight: 0}":                    "max_in_flight: want at least 1, got 0",
		"{name: a, metadata: [nonsense]}":                `metadata: "nonsense" is not a metadata key`,
		"{name: a, decode_workers: -1}":                  "decode_workers: want at least 0, got -1",
		"{name: a, snapshot: {mode: sometimes}}":         `snapshot.mode: want one of never, initial, initial_only, always, got "sometimes"`,
		"{name: a, snapshot: {chunk_rows: 0}}":           "snapshot.chunk_rows: want at least 1, got 0",
		"{name: a, snapshot: {max_parallel_chunks: 0}}":  "snapshot.max_parallel_chunks: want at least 1, got 0",
		"{name: a, snapshot: {max_rows_per_second: -1}}": "snapshot.max_rows_per_second: want at least 0, got -1",
	} {
		_, err := parse(t, yaml)
		assert.ErrorContains(t, err, want, yaml)
	}
}

func TestNewNamesAMissingCache(t *testing.T) {
	_, err := New(Config{CheckpointCache: "redis"}, "fake", nil, service.MockResources())
	assert.EqualError(t, err, `checkpoint.cache: there is no cache resource with the label "redis"`)
	_, err = New(Config{CheckpointCache: "redis"}, "fake", nil, service.MockResources(service.MockResourcesOptAddCache("redis")))
	assert.NoError(t, err)
}
