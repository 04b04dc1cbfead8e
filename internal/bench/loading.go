package main

import (
	"context"
	"errors"
	"fmt"
)

// loadingRate is more rows a second than a snapshot into Kafka delivers, so that it lasts as long as the measurement.
const loadingRate = 500_000

// latencyLoadingCase is the latency of the stream while a table is loaded as fast as it can be, against that without a snapshot.
func latencyLoadingCase(ctx context.Context, s *suite, _ map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close(), s.servers.closeKafka()) }()
	seconds := max(int(8*s.scale), 2)
	rows := loadingRate * (seconds + 2)
	if _, err := load.load(ctx, s, ordersMySQL("beside"), rows); err != nil {
		return err
	}
	if err := load.exec(ctx, "ANALYZE TABLE beside", "DROP TABLE IF EXISTS ticks", ordersMySQL("ticks").create("")); err != nil {
		return err
	}
	n := 0
	quantiles := map[string][]sample{}
	of := func(name string, b besides) variant {
		return variant{name, func(ctx context.Context, round int) (sample, error) {
			topic := fmt.Sprintf("%s-%d", name, round)
			_, closeClient, err := s.topic(ctx, topic+".beside")
			if err != nil {
				return sample{}, err
			}
			defer closeClient()
			m, late, err := s.latencyOurs(ctx, load, b, topic, &n, seconds)
			for q, at := range map[string]float64{"p50": 0.5, "p99": 0.99} {
				quantiles[name+" "+q] = append(quantiles[name+" "+q], sample{quantile(late, at), m.cpu, m.rss})
			}
			return m, err
		}}
	}
	loading := besides{config: "mysql_kafka_loading.yaml", tables: benchDB + `.ticks", "` + benchDB + ".beside", loading: rows}
	if _, err = s.alternate(ctx, of("latency_loading", loading), of("latency", besides{config: "mysql_kafka.yaml", tables: benchDB + ".ticks"})); err != nil {
		return err
	}
	s.report("latency_loading p50", "ms", quantiles["latency_loading p50"], quantiles["latency p50"], none())
	s.report("latency_loading p99", "ms", quantiles["latency_loading p99"], quantiles["latency p99"],
		goal{"at most 250 ms above", func(r result) bool { return r.Value <= r.Reference+250 }})
	return nil
}
