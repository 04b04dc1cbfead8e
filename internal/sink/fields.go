package sink

import (
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// IntBetween reads a number; its error gives the bounds, and the caller adds the field's name.
func IntBetween(p *service.ParsedConfig, low, high int, name string) (int, error) {
	n, err := p.FieldInt(name)
	if err == nil && (n < low || n > high) {
		return 0, fmt.Errorf("%d is not between %d and %d", n, low, high)
	}
	return n, err
}

// DurationAtLeast reads a duration; its error gives the bound, and the caller adds the field's name.
func DurationAtLeast(p *service.ParsedConfig, name string, low time.Duration) (time.Duration, error) {
	d, err := p.FieldDuration(name)
	if err == nil && d < low {
		return 0, fmt.Errorf("%s is shorter than %s", d, low)
	}
	return d, err
}
