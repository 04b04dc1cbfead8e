package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// mysqlDrain is the measurement of one table with one configuration.
func mysqlDrain(server *servers.MySQL, config, from, tables string, rows int) drain {
	return drain{config: config, total: rows, profile: strings.TrimSuffix(config, ".yaml"), env: map[string]string{
		"MYSQL_DSN": server.UserDSN(""), "START": from, "TABLES": tables,
	}}
}

// goMySQL is the reference of what reads a binlog: go-mysql, or mysql-raw.
func (s *suite) goMySQL(name string, server *servers.MySQL, from string, rows int) variant {
	return variant{name, func(ctx context.Context, _ int) (sample, error) {
		return s.reference(ctx, name, "-addr", server.Addr(), "-user", servers.User, "-password", servers.Password, "-from", from,
			"-rows", strconv.Itoa(rows))
	}}
}

func mysqlCases(ctx context.Context, s *suite, wanted map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	var errs []error
	if wanted["mysql_drop"] || wanted["mysql_kafka"] {
		rows := s.rows(2_000_000)
		from, err := load.load(ctx, s, ordersMySQL("orders"), rows)
		if err != nil {
			return err
		}
		if wanted["mysql_drop"] {
			errs = append(errs, s.mysqlDrop(ctx, load.server, from, rows))
		}
		if wanted["mysql_kafka"] {
			errs = append(errs, s.mysqlKafka(ctx, load.server, from, rows))
		}
	}
	if wanted["mysql_redis"] {
		rows := s.rows(500_000)
		from, err := load.load(ctx, s, ordersMySQL("orders_redis"), rows)
		if err == nil {
			err = s.mysqlRedis(ctx, load.server, from, rows)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *suite) mysqlDrop(ctx context.Context, server *servers.MySQL, from string, rows int) error {
	d := mysqlDrain(server, "mysql_drop.yaml", from, benchDB+".orders", rows)
	ours := func(ctx context.Context, _ int) (sample, error) { return d.run(ctx, s) }
	variants := []variant{s.goMySQL("go-mysql", server, from, rows), {"mysql_drop", ours}}
	if s.control {
		variants = append(variants, variant{"mysql_drop again", ours})
	}
	got, err := s.alternate(ctx, variants...)
	if err != nil {
		return err
	}
	s.report("mysql_drop", "rows/s", got["mysql_drop"], got["go-mysql"], ratioAtLeast(2))
	if s.control {
		s.report("control (mysql_drop, A/A)", "rows/s", got["mysql_drop again"], got["mysql_drop"], none())
	}
	return nil
}

// kafkaDrain is a drain into a topic of its own.
func (s *suite) kafkaDrain(ctx context.Context, d drain, topic string) (sample, error) {
	count, closeClient, err := s.topic(ctx, topic)
	if err != nil {
		return sample{}, err
	}
	defer closeClient()
	d.env["KAFKA_BROKERS"], d.env["TOPIC"] = s.servers.kafka.Addr(), topic
	d.delivered = count
	return d.run(ctx, s)
}

// kafkaReference produces what is in one topic into another.
func (s *suite) kafkaReference(ctx context.Context, from string, rows int) (sample, error) {
	to := from + ".reference"
	count, closeClient, err := s.topic(ctx, to)
	if err != nil {
		return sample{}, err
	}
	defer closeClient()
	m, err := s.reference(ctx, "kgo", "-addr", s.servers.kafka.Addr(), "-from", from, "-to", to, "-rows", strconv.Itoa(rows))
	if err != nil {
		return sample{}, err
	}
	if n, err := count(ctx); err != nil || n != int64(rows) {
		return sample{}, fmt.Errorf("the reference produced %d of %d records: %w", n, rows, err)
	}
	return m, nil
}

func (s *suite) mysqlKafka(ctx context.Context, server *servers.MySQL, from string, rows int) (err error) {
	defer func() { err = errors.Join(err, s.servers.closeKafka()) }()
	topic := func(round int) string { return fmt.Sprintf("mysql-%d", round) }
	got, err := s.alternate(ctx,
		variant{"mysql_kafka", func(ctx context.Context, round int) (sample, error) {
			return s.kafkaDrain(ctx, mysqlDrain(server, "mysql_kafka.yaml", from, benchDB+".orders", rows), topic(round))
		}},
		variant{"kgo", func(ctx context.Context, round int) (sample, error) { return s.kafkaReference(ctx, topic(round), rows) }},
	)
	if err != nil {
		return err
	}
	s.report("mysql_kafka", "rows/s", got["mysql_kafka"], got["kgo"], ratioAtLeast(0.7))
	return nil
}

func (s *suite) mysqlRedis(ctx context.Context, server *servers.MySQL, from string, rows int) (err error) {
	defer func() { err = errors.Join(err, s.servers.closeRedis()) }()
	name := func(round int) string { return fmt.Sprintf("bench:%d", round) }
	got, err := s.alternate(ctx,
		variant{"mysql_redis", func(ctx context.Context, round int) (sample, error) {
			count, closeClient, err := s.stream(ctx, name(round))
			if err != nil {
				return sample{}, err
			}
			d := mysqlDrain(server, "mysql_redis.yaml", from, benchDB+".orders_redis", rows)
			d.delivered, d.env["REDIS_URL"], d.env["STREAM"] = count, s.servers.redis.URL(), name(round)
			m, err := d.run(ctx, s)
			return m, errors.Join(err, closeClient())
		}},
		variant{"go-redis", func(ctx context.Context, round int) (sample, error) {
			to := name(round) + ":reference"
			count, closeClient, err := s.stream(ctx, to)
			if err != nil {
				return sample{}, err
			}
			m, err := s.reference(ctx, "go-redis", "-addr", s.servers.redis.Addr(), "-from", name(round), "-to", to, "-rows", strconv.Itoa(rows))
			if err == nil {
				var n int64
				if n, err = count(ctx); err == nil && n != int64(rows) {
					err = fmt.Errorf("the reference added %d of %d entries", n, rows)
				}
			}
			return m, errors.Join(err, closeClient())
		}},
	)
	if err != nil {
		return err
	}
	s.report("mysql_redis", "rows/s", got["mysql_redis"], got["go-redis"], ratioAtLeast(0.7))
	return nil
}

// otherShapes are tables of other shapes than orders, for information.
func otherShapes(ctx context.Context, s *suite, wanted map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	for _, c := range []struct {
		name string
		t    table
		rows int
	}{{"mysql_wide", wideMySQL(), 100_000}, {"mysql_4k", bigMySQL(), 40_000}} {
		if !wanted[c.name] {
			continue
		}
		rows := s.rows(c.rows)
		from, err := load.load(ctx, s, c.t, rows)
		if err != nil {
			return err
		}
		d := mysqlDrain(load.server, "mysql_drop.yaml", from, benchDB+"."+c.t.name, rows)
		d.profile = c.name
		got, err := s.alternate(ctx, s.goMySQL("go-mysql", load.server, from, rows),
			variant{c.name, func(ctx context.Context, _ int) (sample, error) { return d.run(ctx, s) }})
		if err != nil {
			return err
		}
		s.report(c.name, "rows/s", got[c.name], got["go-mysql"], none())
	}
	return nil
}

// dropRate is the rate that cases about the shape of the log are compared with; it is measured when it has not been.
func (s *suite) dropRate(ctx context.Context, name string, measure func(ctx context.Context, s *suite, wanted map[string]bool) error) ([]sample, error) {
	if s.rates[name] == 0 {
		if err := measure(ctx, s, map[string]bool{name: true}); err != nil {
			return nil, err
		}
	}
	return []sample{{value: s.rates[name]}}, nil
}

// hugeCase is one transaction of 5 million rows.
func hugeCase(ctx context.Context, s *suite, _ map[string]bool) (err error) {
	reference, err := s.dropRate(ctx, "mysql_drop", mysqlCases)
	if err != nil {
		return err
	}
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	rows := s.rows(5_000_000)
	t := ordersMySQL("huge")
	began := time.Now()
	if err := load.exec(ctx, "DROP TABLE IF EXISTS huge", t.create("")); err != nil {
		return err
	}
	from, err := load.position(ctx)
	if err != nil {
		return err
	}
	insert := fmt.Sprintf("INSERT INTO huge SELECT %s FROM (SELECT a.i * 1000000 + b.i * 1000 + c.i AS n FROM numbers a, numbers b, numbers c "+
		"WHERE a.i < %d AND a.i * 1000 + b.i < %d) AS batch", join(t.values), (rows+999_999)/1_000_000, rows/1000)
	if err := load.exec(ctx, insert); err != nil {
		return err
	}
	s.note("loaded %d rows into huge in %.1f s", rows, time.Since(began).Seconds())
	d := mysqlDrain(load.server, "mysql_drop.yaml", from, benchDB+".huge", rows)
	d.profile = "huge_tx"
	got, err := s.alternate(ctx, variant{"huge_tx", func(ctx context.Context, _ int) (sample, error) { return d.run(ctx, s) }})
	if err != nil {
		return err
	}
	within := goal{"ratio >= 0.85", func(r result) bool { return r.Ratio >= 0.85 }}
	s.report("huge_tx", "rows/s", got["huge_tx"], reference, within.and(rssUnder(250)))
	return nil
}

// manyTablesCase spreads rows over 10,000 tables.
func manyTablesCase(ctx context.Context, s *suite, _ map[string]bool) (err error) {
	reference, err := s.dropRate(ctx, "mysql_drop", mysqlCases)
	if err != nil {
		return err
	}
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	tables := max(int(10_000*s.scale), 10)
	began := time.Now()
	if err := load.exec(ctx, "CREATE DATABASE IF NOT EXISTS many"); err != nil {
		return err
	}
	const workers, perTable = 2, 50
	err = together(workers, func(worker int) error {
		for i := worker; i < tables; i += workers {
			t := ordersMySQL(fmt.Sprintf("many.t%05d", i))
			if err := load.exec(ctx, t.create(" STATS_PERSISTENT=0 STATS_AUTO_RECALC=0")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	from, err := load.position(ctx)
	if err != nil {
		return err
	}
	err = together(workers, func(worker int) error {
		for i := worker; i < tables; i += workers {
			t := ordersMySQL(fmt.Sprintf("many.t%05d", i))
			insert := fmt.Sprintf("INSERT INTO %s SELECT %s FROM (SELECT i AS n FROM numbers WHERE i < %d) AS batch", t.name, join(t.values), perTable)
			if err := load.exec(ctx, insert); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	rows := tables * perTable
	s.note("loaded %d rows into %d tables in %.1f s", rows, tables, time.Since(began).Seconds())
	d := mysqlDrain(load.server, "mysql_drop.yaml", from, "many.*", rows)
	d.profile = "many_tables"
	got, err := s.alternate(ctx, variant{"many_tables", func(ctx context.Context, _ int) (sample, error) { return d.run(ctx, s) }})
	if err != nil {
		return err
	}
	s.report("many_tables", "rows/s", got["many_tables"], reference, ratioAtLeast(0.7))
	return nil
}
