// Command guest is what somebody has who already runs the engine: its command line, DeltaForge by one import, and a component of
// their own, a rate limit that asks a Redis.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	_ "github.com/deltaforge/deltaforge"
	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
)

func main() { service.RunCLI(context.Background()) }

const (
	fieldURL = "url"
	fieldKey = "key"
)

func init() {
	spec := service.NewConfigSpec().Fields(service.NewStringField(fieldURL).Secret(), service.NewStringField(fieldKey))
	service.MustRegisterRateLimit("guest_redis", spec, newLimit)
}

// limit lets one event through in a hundredth of a second, over all processes that use the key.
type limit struct {
	client *redis.Client
	key    string
}

func newLimit(conf *service.ParsedConfig, _ *service.Resources) (service.RateLimit, error) {
	address, err := conf.FieldString(fieldURL)
	if err != nil {
		return nil, err
	}
	opts, err := redis.ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("field %s is no Redis URL", fieldURL) // which the parser's error would repeat
	}
	l := &limit{client: redis.NewClient(opts)}
	l.key, err = conf.FieldString(fieldKey)
	return l, err
}

// Access implements service.RateLimit.
func (l *limit) Access(ctx context.Context) (time.Duration, error) {
	const step = 10 * time.Millisecond
	free, err := l.client.SetNX(ctx, l.key, "", step).Result()
	if err != nil {
		return 0, fmt.Errorf("asking Redis for %s: %w", l.key, err)
	}
	if free {
		return 0, nil
	}
	return step, nil
}

// Close implements service.RateLimit.
func (l *limit) Close(context.Context) error { return l.client.Close() }
