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

// lastPeriod is how long an output keeps rows that fill no batch, where its policy does not say.
const lastPeriod = "1s"

// Batching reads a batch policy. A policy that counts and has no period would keep the last rows until more come, even when
// the process ends. Such a policy gets a period.
func Batching(p *service.ParsedConfig, name string) (service.BatchPolicy, error) {
	b, err := p.FieldBatchPolicy(name)
	if err == nil && b.Period == "" && (b.Count > 1 || b.ByteSize > 0 || b.Check != "") {
		b.Period = lastPeriod
	}
	return b, err
}

// BatchingField is the field that Batching reads.
func BatchingField(name string) *service.ConfigField {
	return service.NewBatchPolicyField(name).
		Description("Batches of the output's own, besides those of the source. Rows that fill none of them go out after `period`, or after " + lastPeriod +
			" where it is not set. The sources of DeltaForge gather batches themselves: leave this out with them.")
}
