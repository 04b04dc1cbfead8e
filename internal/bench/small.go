package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The load of the latency case: so many rows in each transaction, so often.
const (
	latencyRows  = 10
	latencyEvery = 5 * time.Millisecond
)

// latencyCase is the time from the commit in MySQL to the arrival at a consumer of Kafka, at 2,000 rows a second. The
// reference produces the same payloads at the same rate, to a consumer of its own: what the consumer adds is in both.
func latencyCase(ctx context.Context, s *suite, _ map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close(), s.servers.closeKafka()) }()
	if err := load.exec(ctx, "DROP TABLE IF EXISTS ticks", ordersMySQL("ticks").create("")); err != nil {
		return err
	}
	seconds := max(int(8*s.scale), 2)
	n := 0
	topic := func(round int) string { return fmt.Sprintf("latency-%d", round) }
	quantiles := map[string][]sample{}
	_, err = s.alternate(ctx,
		variant{"latency", func(ctx context.Context, round int) (sample, error) {
			m, late, err := s.latencyOurs(ctx, load, besides{config: "mysql_kafka.yaml", tables: benchDB + ".ticks"}, topic(round), &n, seconds)
			quantiles["p50"] = append(quantiles["p50"], sample{quantile(late, 0.5), m.cpu, m.rss})
			quantiles["p99"] = append(quantiles["p99"], sample{quantile(late, 0.99), m.cpu, m.rss})
			return m, err
		}},
		variant{"kgo", func(ctx context.Context, round int) (sample, error) {
			late, err := s.latencyReference(ctx, topic(round), seconds)
			quantiles["ref p50"] = append(quantiles["ref p50"], sample{value: quantile(late, 0.5)})
			quantiles["ref p99"] = append(quantiles["ref p99"], sample{value: quantile(late, 0.99)})
			return sample{value: float64(len(late) / seconds)}, err
		}})
	if err != nil {
		return err
	}
	above := func(ms float64) goal {
		return goal{fmt.Sprintf("at most %g ms above", ms), func(r result) bool { return r.Value <= r.Reference+ms }}
	}
	s.report("latency p50", "ms", quantiles["p50"], quantiles["ref p50"], above(3))
	s.report("latency p99", "ms", quantiles["p99"], quantiles["ref p99"], above(15))
	return nil
}

// besides is what a process does while the latency of its rows is measured.
type besides struct {
	config, tables string
	loading        int // rows of a table that is loaded from before the first row is measured until after the last one; 0: none
}

// await returns when the load is under way.
func (b besides) await(ctx context.Context, p *process) error {
	for b.loading > 0 && p.metric(ctx, deliveredMetric) == 0 {
		if err := errors.Join(p.alive(), ctx.Err()); err != nil {
			return fmt.Errorf("waiting for the first row of the load: %w; %s", err, p.tail())
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}

// lasted returns an error when the load is over.
func (b besides) lasted(ctx context.Context, p *process) error {
	if n := p.metric(ctx, deliveredMetric); b.loading > 0 && n >= int64(b.loading) {
		return fmt.Errorf("the load of %d rows did not last as long as the measurement: %d rows were delivered", b.loading, n)
	}
	return nil
}

// latencyOurs commits rows at the rate and returns how long each was on its way, in milliseconds.
func (s *suite) latencyOurs(ctx context.Context, load *mysqlLoader, b besides, topic string, n *int, seconds int) (m sample, late []float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds+30)*time.Second)
	defer cancel()
	_, closeClient, err := s.topic(ctx, topic)
	if err != nil {
		return m, nil, err
	}
	defer closeClient()
	from, err := load.position(ctx)
	if err != nil {
		return m, nil, err
	}
	d := mysqlDrain(load.server, b.config, from, b.tables, 0)
	d.env["KAFKA_BROKERS"], d.env["TOPIC"] = s.servers.kafka.Addr(), topic
	p, err := s.start(ctx, []string{"run", s.config(d.config)}, d.env)
	if err != nil {
		return m, nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	if err := b.await(ctx, p); err != nil {
		return m, nil, err
	}
	t := ordersMySQL("ticks")
	query := fmt.Sprintf("INSERT INTO ticks SELECT %s FROM (SELECT ? + i AS n FROM numbers WHERE i < %d) AS batch", join(t.values), latencyRows)
	insert := func() error {
		_, err := load.db.ExecContext(ctx, query, *n)
		*n += latencyRows
		return err
	}
	warm := int(time.Second / latencyEvery) // the first second is that of a process that has just started
	ticks := warm + seconds*int(time.Second/latencyEvery)
	received := make(chan error, 1)
	go func() {
		seen := 0
		received <- watch(ctx, s.servers.kafka.Brokers(), topic, ticks*latencyRows, func(r *kgo.Record, at time.Time) error {
			if seen++; seen <= warm*latencyRows {
				return nil
			}
			committed, err := commitTime(r.Value)
			late = append(late, at.Sub(committed).Seconds()*1000)
			return err
		})
	}()
	if err := every(ctx, latencyEvery, ticks, insert); err != nil {
		cancel()
		<-received //nolint:errcheck // the other error is the reason
		return m, nil, err
	}
	if err := <-received; err != nil {
		return m, nil, errors.Join(err, p.alive())
	}
	if err := b.lasted(ctx, p); err != nil {
		return m, nil, err
	}
	m.cpu, m.rss, err = p.usage()
	m.value = float64(len(late) / seconds)
	return m, late, err
}

// commitTime is when the database committed, from the envelope.
func commitTime(payload []byte) (time.Time, error) {
	var event struct {
		Source struct {
			Millis int64 `json:"ts_ms"`
			Micros int64 `json:"ts_us"`
		} `json:"source"`
	}
	if err := json.Unmarshal(payload, &event); err != nil {
		return time.Time{}, fmt.Errorf("reading an event: %w", err)
	}
	if event.Source.Micros != 0 {
		return time.UnixMicro(event.Source.Micros), nil
	}
	return time.UnixMilli(event.Source.Millis), nil
}

// watch calls f for each record as it arrives.
func watch(ctx context.Context, brokers []string, topic string, n int, f func(*kgo.Record, time.Time) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	for n > 0 {
		fetches := client.PollFetches(ctx)
		now := time.Now()
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			return fmt.Errorf("waiting for %d more records of %s: %w", n, topic, err)
		}
		for _, r := range fetches.Records() {
			if err := f(r, now); err != nil {
				return err
			}
			n--
		}
	}
	return nil
}

// every calls f n times, at a fixed rate.
func every(ctx context.Context, period time.Duration, n int, f func() error) error {
	next := time.Now()
	for range n {
		if err := errors.Join(f(), ctx.Err()); err != nil {
			return err
		}
		next = next.Add(period)
		pause(ctx, time.Until(next))
	}
	return nil
}

// latencyReference produces the payloads of a topic at the rate, and returns how long each was on its way.
func (s *suite) latencyReference(ctx context.Context, from string, seconds int) (late []float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds+30)*time.Second)
	defer cancel()
	to := from + ".reference"
	_, closeClient, err := s.topic(ctx, to)
	if err != nil {
		return nil, err
	}
	defer closeClient()
	brokers := s.servers.kafka.Brokers()
	payloads, err := consume(ctx, brokers[0], from, latencyRows*100)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(to))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ticks := (seconds + 1) * int(time.Second/latencyEvery)
	received := make(chan error, 1)
	go func() {
		seen := 0
		received <- watch(ctx, brokers, to, ticks*latencyRows, func(r *kgo.Record, at time.Time) error {
			if seen++; seen <= int(time.Second/latencyEvery)*latencyRows {
				return nil
			}
			sent, err := strconv.ParseInt(string(r.Headers[len(r.Headers)-1].Value), 10, 64)
			late = append(late, at.Sub(time.UnixMicro(sent)).Seconds()*1000)
			return err
		})
	}()
	n := 0
	err = every(ctx, latencyEvery, ticks, func() error {
		now := []byte(strconv.FormatInt(time.Now().UnixMicro(), 10))
		for range latencyRows {
			r := payloads[n%len(payloads)]
			n++
			client.Produce(ctx, &kgo.Record{
				Key: r.Key, Value: r.Value, Headers: append(slices.Clone(r.Headers), kgo.RecordHeader{Key: "sent", Value: now}),
			}, nil)
		}
		return nil
	})
	if err != nil {
		cancel()
	}
	return late, errors.Join(err, <-received)
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[min(int(float64(len(v))*q), len(v)-1)]
}

// idleCase is what pipelines cost that have nothing to do: one, and a hundred in one process.
func idleCase(ctx context.Context, s *suite, _ map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	if err := load.exec(ctx, "DROP TABLE IF EXISTS silent", ordersMySQL("silent").create("")); err != nil {
		return err
	}
	for _, c := range []struct {
		pipelines        int
		percent, megabyt float64
	}{{1, 1, 60}, {100, 10, 400}} {
		var samples []sample
		for range min(s.rounds, 2) { // each takes its time, and they hardly differ
			m, err := s.idle(ctx, load, c.pipelines)
			if err != nil {
				return fmt.Errorf("%d idle pipelines: %w", c.pipelines, err)
			}
			samples = append(samples, m)
		}
		cpu := goal{fmt.Sprintf("cpu < %g %%", c.percent), func(r result) bool { return r.Value < c.percent }}
		s.report(fmt.Sprintf("idle, %d", c.pipelines), "% of a CPU", samples, nil, cpu.and(rssUnder(c.megabyt)))
	}
	return nil
}

// idle starts pipelines in one process and measures it over some seconds, when all of them are connected.
func (s *suite) idle(ctx context.Context, load *mysqlLoader, pipelines int) (m sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp(s.dir, "streams-")
	if err != nil {
		return m, err
	}
	stream, err := os.ReadFile(s.config("idle_stream.yaml"))
	if err != nil {
		return m, fmt.Errorf("reading the stream: %w", err)
	}
	for i := range pipelines {
		name := fmt.Sprintf("idle%03d", i)
		text := strings.ReplaceAll(string(stream), "NAME", name)
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			return m, err
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return m, err
	}
	p, err := s.start(ctx, append([]string{"streams", "-o", s.config("idle.yaml")}, files...), map[string]string{
		"MYSQL_DSN": load.server.UserDSN(""), "TABLES": benchDB + ".silent",
	})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	for p.metric(ctx, "deltaforge_checkpoint_success_total") < int64(pipelines) {
		if err := errors.Join(p.alive(), ctx.Err()); err != nil {
			return m, fmt.Errorf("waiting for the pipelines to connect: %w; %s", err, p.tail())
		}
		pause(ctx, 100*time.Millisecond)
	}
	pause(ctx, 2*time.Second)
	before, _, err := p.usage()
	if err != nil {
		return m, err
	}
	began := time.Now()
	pause(ctx, time.Duration(max(10*s.scale, 2)*float64(time.Second)))
	m.cpu, m.rss, err = p.usage()
	m.value = (m.cpu - before) / time.Since(began).Seconds() * 100
	return m, errors.Join(err, p.alive(), ctx.Err())
}
