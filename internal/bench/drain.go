package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// drain is one measurement: the binary reads a log that holds total rows, until a consumer has them all.
type drain struct {
	config string // of the pipeline, in the config folder
	env    map[string]string
	total  int
	// delivered counts the rows at the consumer. Nil: the engine's own count of what its output has acknowledged.
	delivered func(ctx context.Context) (int64, error)
	// began tells that the database has started to send, where it can tell; it starts the clock. Nil: the clock starts when
	// the consumer was last seen without a row.
	began func(ctx context.Context) (bool, error)
	// limit bounds the measurement.
	limit   time.Duration
	profile string // name of the profile
}

// profileSeconds is how long a profile takes. A drain that is over earlier waits for it.
const profileSeconds = 3

const deliveredMetric = "deltaforge_sink_events_total"

// run starts the binary and waits for the last row. The rate is that from the start of the clock, so the start of the
// process does not count; its CPU time does.
func (d drain) run(ctx context.Context, s *suite) (_ sample, err error) {
	limit := d.limit
	if limit == 0 {
		limit = 90 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, err := s.start(ctx, []string{"run", s.config(d.config)}, d.env)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	delivered := d.delivered
	if delivered == nil {
		delivered = func(ctx context.Context) (int64, error) { return p.metric(ctx, deliveredMetric), nil }
	}
	clock, err := d.awaitStart(ctx, p, delivered)
	if err != nil {
		return sample{}, err
	}
	if s.profile != "" && d.profile != "" {
		var profiling sync.WaitGroup
		profiling.Go(func() { s.cpuProfile(ctx, p, d.profile, profileSeconds) })
		defer profiling.Wait()
	}
	for {
		n, err := delivered(ctx)
		took := time.Since(clock)
		if err == nil {
			err = errors.Join(p.alive(), ctx.Err())
		}
		if err != nil {
			return sample{}, fmt.Errorf("%d of %d rows delivered: %w; %s", n, d.total, err, p.tail())
		}
		if n > int64(d.total) {
			return sample{}, fmt.Errorf("%d rows delivered of %d", n, d.total)
		}
		if n == int64(d.total) {
			cpu, rss, err := p.usage()
			return sample{value: float64(d.total) / took.Seconds(), cpu: cpu, rss: rss}, err
		}
		// Looking costs the measured process something, so it is done often only near the end.
		left := time.Duration(float64(took) * float64(int64(d.total)-n) / float64(max(n, 1)))
		pause(ctx, min(max(left/2, 5*time.Millisecond), 200*time.Millisecond))
	}
}

// awaitStart returns when the clock starts.
func (d drain) awaitStart(ctx context.Context, p *process, delivered func(context.Context) (int64, error)) (time.Time, error) {
	for {
		now := time.Now()
		started := false
		var err error
		if d.began != nil {
			started, err = d.began(ctx)
			now = time.Now()
		} else {
			var n int64
			n, err = delivered(ctx)
			if started = n > 0; !started {
				p.zero = now
			}
			now = p.zero
		}
		if err = errors.Join(err, p.alive(), ctx.Err()); err != nil {
			return now, fmt.Errorf("waiting for the first row: %w; %s", err, p.tail())
		}
		if started {
			return now, nil
		}
		pause(ctx, 3*time.Millisecond)
	}
}

// alternate runs the variants in turn, round after round, so that what disturbs the machine disturbs all of them.
func (s *suite) alternate(ctx context.Context, variants ...variant) (map[string][]sample, error) {
	out := map[string][]sample{}
	for round := range s.rounds {
		for _, v := range variants {
			m, err := v.run(ctx, round)
			if err != nil {
				return out, fmt.Errorf("%s, round %d: %w", v.name, round+1, err)
			}
			s.note("  %-28s round %d: %10.0f a second, %5.2f s of CPU, %4.0f MB", v.name, round+1, m.value, m.cpu, m.rss)
			out[v.name] = append(out[v.name], m)
		}
	}
	return out, nil
}

// variant is one of the things that are compared.
type variant struct {
	name string
	run  func(ctx context.Context, round int) (sample, error)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
