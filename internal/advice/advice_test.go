package advice

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOf finds things where they are.
func TestOf(t *testing.T) {
	found, err := Of([]byte(`
input:
  broker:
    inputs:
      - deltaforge_postgres: {name: shop, checkpoint: {cache: positions}}
    batching: {count: 10}
buffer:
  memory: {}
pipeline:
  processors:
    - label: once
      dedupe: {cache: seen, key: x}
cache_resources:
  - label: seen
    memory: {}
  - label: positions
    ttlru: {}
output:
  deltaforge_kafka: {batching: {count: 100}}
`))
	require.NoError(t, err)
	at := map[string]int{}
	for _, f := range found {
		at[f.Path] = f.Line
	}
	assert.Equal(t, map[string]int{
		"input.broker.batching": 6, "buffer.memory": 8, "pipeline.processors.0.dedupe": 12, "cache_resources.1.ttlru": 17, "output.deltaforge_kafka.batching": 19,
	}, at)
}

// TestNothingOfOurs: streams without a source of ours are nobody's business.
func TestNothingOfOurs(t *testing.T) {
	for _, config := range []string{
		"", "# nothing", "[]", "a", "input: {generate: {}}\nbuffer: {memory: {}}\noutput: {drop: {}}",
		"input: {deltaforge_mysql: {}}\npipeline: {processors: [ {mapping: 'root.dedupe = 1'} ]}\noutput: {deltaforge_redis: {batching: {count: 10, period: 1s}}}",
	} {
		found, err := Of([]byte(config))
		require.NoError(t, err)
		assert.Empty(t, found, config)
	}
	_, err := Of([]byte("a: [ b"))
	require.Error(t, err)
}
