package deltaforge_test

import (
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"

	_ "github.com/deltaforge/deltaforge"
	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
)

// The bundle registers these components and no others. The engine lets a second registration of a name replace the first
// without a word, so every name of ours begins with deltaforge.
func TestRegistry(t *testing.T) {
	env := service.GlobalEnvironment()
	got := map[string][]string{}
	walk := func(kind string, walk func(func(string, *service.ConfigView))) {
		walk(func(name string, _ *service.ConfigView) {
			if strings.HasPrefix(name, "deltaforge") {
				got[kind] = append(got[kind], name)
			}
		})
	}
	walk("input", env.WalkInputs)
	walk("processor", env.WalkProcessors)
	walk("output", env.WalkOutputs)
	walk("cache", env.WalkCaches)
	walk("metrics", env.WalkMetrics)
	assert.Equal(t, map[string][]string{
		"input":     {"deltaforge_mysql", "deltaforge_postgres"},
		"processor": {"deltaforge_columns", "deltaforge_filter", "deltaforge_flatten", "deltaforge_format", "deltaforge_javascript", "deltaforge_outbox", "deltaforge_reselect", "deltaforge_route"},
		"output":    {"deltaforge_dlq", "deltaforge_fanout", "deltaforge_kafka", "deltaforge_redis"},
		"cache":     {"deltaforge_checkpoint"},
		"metrics":   {"deltaforge"},
	}, got)
}
