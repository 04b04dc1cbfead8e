package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// exactlyCases measure exactly-once delivery against the same pipeline without it, and the live copy against a client that sets the same hashes.
func exactlyCases(ctx context.Context, s *suite, wanted map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	rows := s.rows(500_000)
	from, err := load.load(ctx, s, ordersMySQL("orders_eos"), rows)
	if err != nil {
		return err
	}
	var errs []error
	if wanted["mysql_kafka_eos"] {
		errs = append(errs, s.kafkaEOS(ctx, load.server, from, rows))
	}
	if wanted["mysql_redis_eos"] {
		errs = append(errs, s.redisEOS(ctx, load.server, from, rows))
	}
	if wanted["redis_hash"] {
		errs = append(errs, s.redisHash(ctx, load.server, from, rows))
	}
	return errors.Join(errs...)
}

func (s *suite) kafkaEOS(ctx context.Context, server *servers.MySQL, from string, rows int) (err error) {
	defer func() { err = errors.Join(err, s.servers.closeKafka()) }()
	of := func(config string) func(ctx context.Context, round int) (sample, error) {
		return func(ctx context.Context, round int) (sample, error) {
			topic := fmt.Sprintf("%s-%d", config, round)
			_, closeClient, err := s.topic(ctx, topic)
			if err != nil {
				return sample{}, err
			}
			defer closeClient()
			d := mysqlDrain(server, config+".yaml", from, benchDB+".orders_eos", rows)
			d.env["KAFKA_BROKERS"], d.env["TOPIC"] = s.servers.kafka.Addr(), topic
			return d.run(ctx, s) // by the engine's count: a topic has more offsets than records, one for each transaction
		}
	}
	got, err := s.alternate(ctx, variant{"mysql_kafka_eos", of("mysql_kafka_eos")}, variant{"mysql_kafka", of("mysql_kafka")})
	if err != nil {
		return err
	}
	s.report("mysql_kafka_eos", "rows/s", got["mysql_kafka_eos"], got["mysql_kafka"], ratioAtLeast(0.9))
	return nil
}

func (s *suite) redisEOS(ctx context.Context, server *servers.MySQL, from string, rows int) (err error) {
	defer func() { err = errors.Join(err, s.servers.closeRedis()) }()
	of := func(config string) func(ctx context.Context, round int) (sample, error) {
		return func(ctx context.Context, round int) (sample, error) {
			name := fmt.Sprintf("%s-%d", config, round)
			count, closeClient, err := s.stream(ctx, name)
			if err != nil {
				return sample{}, err
			}
			d := mysqlDrain(server, config+".yaml", from, benchDB+".orders_eos", rows)
			d.delivered, d.env["REDIS_URL"], d.env["STREAM"] = count, s.servers.redis.URL(), name
			m, err := d.run(ctx, s)
			return m, errors.Join(err, closeClient())
		}
	}
	got, err := s.alternate(ctx, variant{"mysql_redis_eos", of("mysql_redis_eos")}, variant{"mysql_redis", of("mysql_redis")})
	if err != nil {
		return err
	}
	s.report("mysql_redis_eos", "rows/s", got["mysql_redis_eos"], got["mysql_redis"], ratioAtLeast(0.85))
	return nil
}

func (s *suite) redisHash(ctx context.Context, server *servers.MySQL, from string, rows int) (err error) {
	defer func() { err = errors.Join(err, s.servers.closeRedis()) }()
	name := func(round int) string { return fmt.Sprintf("hash-%d", round) }
	got, err := s.alternate(ctx,
		variant{"redis_hash", func(ctx context.Context, round int) (sample, error) {
			_, closeClient, err := s.stream(ctx, name(round))
			if err != nil {
				return sample{}, err
			}
			d := mysqlDrain(server, "redis_hash.yaml", from, benchDB+".orders_eos", rows)
			d.env["REDIS_URL"], d.env["STREAM"] = s.servers.redis.URL(), name(round)
			m, err := d.run(ctx, s)
			return m, errors.Join(err, closeClient())
		}},
		variant{"hset", func(ctx context.Context, round int) (sample, error) {
			return s.reference(ctx, "hset", "-addr", s.servers.redis.Addr(), "-from", name(round)+":"+benchDB+".orders_eos:", "-to", name(round)+".reference:",
				"-rows", strconv.Itoa(rows))
		}},
	)
	if err != nil {
		return err
	}
	s.report("redis_hash", "rows/s", got["redis_hash"], got["hset"], ratioAtLeast(0.7))
	return nil
}

// setHashes sets hashes with what others have, over and over, each under a key of its own, in pipelines.
func setHashes(ctx context.Context, addr, from, to string, rows int) (measured, error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = client.Close() }() // it has nothing on its way
	var values [][]any
	for n := 1; n <= min(rows, samplePayloads); n++ {
		fields, err := client.HGetAll(ctx, from+strconv.Itoa(n)).Result()
		if err != nil {
			return measured{}, fmt.Errorf("reading %s%d: %w", from, n, err)
		}
		if len(fields) == 0 {
			continue
		}
		var hash []any
		for field, v := range fields {
			hash = append(hash, field, v)
		}
		values = append(values, hash)
	}
	if len(values) == 0 {
		return measured{}, fmt.Errorf("there are no hashes under %s", from)
	}
	cpu, began := cpuSeconds(), time.Now()
	for n := 0; n < rows; {
		pipe := client.Pipeline()
		for range min(pipelineDepth, rows-n) {
			pipe.HSet(ctx, to+strconv.Itoa(n), values[n%len(values)]...)
			n++
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return measured{}, fmt.Errorf("setting hashes: %w", err)
		}
	}
	return measured{Rows: rows, Seconds: time.Since(began).Seconds(), CPU: cpuSeconds() - cpu}, nil
}
