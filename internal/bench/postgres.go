package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// postgresLog is a filled table, and where its log ends.
type postgresLog struct {
	server *servers.Postgres
	admin  *pgx.Conn
	table  string
	rows   int
	end    string
}

// slotName is the slot of one measurement: each has its own, from before the first row.
func slotName(table, variant string, round int) string {
	return fmt.Sprintf("%s_%s_%d", table, variant, round)
}

// logPostgres fills a table with slots for the variants.
func (s *suite) logPostgres(ctx context.Context, t table, rows, perTx int, variants ...string) (l *postgresLog, err error) {
	var slots []string
	for round := range s.rounds {
		for _, v := range variants {
			slots = append(slots, slotName(t.name, v, round))
		}
	}
	l = &postgresLog{table: t.name, rows: rows}
	l.end, err = loadPostgres(ctx, s, t, rows, slots, func(conn *pgx.Conn) error { return insertPostgres(ctx, conn, t, rows, perTx) })
	if err != nil {
		return nil, err
	}
	l.server = s.servers.postgres
	l.admin, err = pgx.Connect(ctx, l.server.DSN(benchDB))
	return l, err
}

// active reports whether the server streams from the slot: the clock of our input and of pg_recvlogical starts there.
func (l *postgresLog) active(ctx context.Context, slot string) (active bool, err error) {
	err = l.admin.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&active)
	return active, err
}

// drop removes a slot when its user has let go of it.
func (l *postgresLog) drop(ctx context.Context, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		_, err := l.admin.Exec(ctx, "SELECT pg_drop_replication_slot($1)", slot)
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("dropping the slot %s: %w", slot, err)
		}
	}
}

func (l *postgresLog) drain(config, slot string) drain {
	return drain{
		config: config, total: l.rows, profile: strings.TrimSuffix(config, ".yaml"),
		began: func(ctx context.Context) (bool, error) { return l.active(ctx, slot) },
		env: map[string]string{
			"POSTGRES_DSN": l.server.UserDSN(benchDB), "SLOT": slot, "PUBLICATION": l.table, "TABLES": "public." + l.table,
		},
	}
}

func (s *suite) postgresDrop(l *postgresLog, name string) variant {
	return variant{name, func(ctx context.Context, round int) (sample, error) {
		slot := slotName(l.table, "drop", round)
		m, err := l.drain("postgres_drop.yaml", slot).run(ctx, s)
		return m, errors.Join(err, l.drop(ctx, slot))
	}}
}

func (s *suite) postgresKafka(l *postgresLog) variant {
	return variant{"postgres_kafka", func(ctx context.Context, round int) (sample, error) {
		slot := slotName(l.table, "kafka", round)
		m, err := s.kafkaDrain(ctx, l.drain("postgres_kafka.yaml", slot), "postgres-"+slot)
		return m, errors.Join(err, l.drop(ctx, slot))
	}}
}

// recvlogical is PostgreSQL's own client, writing what it receives to /dev/null.
func (s *suite) recvlogical(l *postgresLog) variant {
	return variant{"pg_recvlogical", func(ctx context.Context, round int) (sample, error) {
		slot := slotName(l.table, "ref", round)
		m, err := l.recvlogical(ctx, slot)
		return m, errors.Join(err, l.drop(ctx, slot))
	}}
}

func (l *postgresLog) recvlogical(ctx context.Context, slot string) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "pg_recvlogical", "--dbname="+l.server.DSN(benchDB), "--slot="+slot, "--start", "--no-loop",
		"--file=/dev/null", "--endpos="+l.end, "--option=proto_version=1", "--option=messages=true", "--option=publication_names="+l.table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return sample{}, fmt.Errorf("starting pg_recvlogical: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	clock := time.Now()
	for active := false; !active; pause(ctx, 3*time.Millisecond) {
		var err error
		if active, err = l.active(ctx, slot); err != nil {
			cancel()
			return sample{}, errors.Join(err, <-ended)
		}
		clock = time.Now()
		if len(ended) > 0 {
			break // it was quicker than our eye; the clock is late then, which is to its advantage
		}
	}
	if err := <-ended; err != nil {
		return sample{}, fmt.Errorf("running pg_recvlogical: %w\n%s", err, stderr.Bytes())
	}
	took := time.Since(clock)
	m := sample{value: float64(l.rows) / took.Seconds(), cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.rss = float64(u.Maxrss) / 1024
	}
	return m, nil
}

func postgresCases(ctx context.Context, s *suite, wanted map[string]bool) (err error) {
	slots := []string{"ref"}
	if wanted["postgres_drop"] {
		slots = append(slots, "drop")
	}
	if wanted["postgres_kafka"] {
		slots = append(slots, "kafka")
	}
	l, err := s.logPostgres(ctx, ordersPostgres("orders"), s.rows(1_000_000), txRows, slots...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.admin.Close(ctx), s.servers.closeKafka()) }()
	variants := []variant{s.recvlogical(l)}
	if wanted["postgres_drop"] {
		variants = append(variants, s.postgresDrop(l, "postgres_drop"))
	}
	if wanted["postgres_kafka"] {
		if _, err := s.kafka(ctx); err != nil {
			return err
		}
		variants = append(variants, s.postgresKafka(l))
	}
	got, err := s.alternate(ctx, variants...)
	if err != nil {
		return err
	}
	if wanted["postgres_drop"] {
		s.report("postgres_drop", "rows/s", got["postgres_drop"], got["pg_recvlogical"], ratioAtLeast(0.97).and(noMoreCPU()))
	}
	if wanted["postgres_kafka"] {
		s.report("postgres_kafka", "rows/s", got["postgres_kafka"], got["pg_recvlogical"], ratioAtLeast(0.85))
	}
	return nil
}

// singleRowCases are autocommit transactions of one row.
func singleRowCases(ctx context.Context, s *suite, wanted map[string]bool) error {
	var errs []error
	if wanted["mysql_single_row_tx"] {
		errs = append(errs, s.mysqlSingleRows(ctx))
	}
	if wanted["postgres_single_row_tx"] {
		errs = append(errs, s.postgresSingleRows(ctx))
	}
	return errors.Join(errs...)
}

const singleRows = 200_000

func (s *suite) mysqlSingleRows(ctx context.Context) (err error) {
	reference, err := s.dropRate(ctx, "mysql_drop", mysqlCases)
	if err != nil {
		return err
	}
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	rows, t := s.rows(singleRows), ordersMySQL("singles")
	began := time.Now()
	err = load.exec(ctx, "DROP TABLE IF EXISTS singles", t.create(""), "DROP PROCEDURE IF EXISTS singles_fill",
		fmt.Sprintf(`CREATE PROCEDURE singles_fill(first INT, step INT, total INT) BEGIN
			DECLARE m INT DEFAULT first;
			WHILE m < total DO
				INSERT INTO singles SELECT %s FROM (SELECT m AS n) AS one;
				SET m = m + step;
			END WHILE;
		END`, join(t.values)))
	if err != nil {
		return err
	}
	from, err := load.position(ctx)
	if err != nil {
		return err
	}
	const workers = 4
	err = together(workers, func(worker int) error {
		return load.exec(ctx, fmt.Sprintf("CALL singles_fill(%d, %d, %d)", worker, workers, rows))
	})
	if err != nil {
		return err
	}
	s.note("loaded %d rows into singles in %.1f s", rows, time.Since(began).Seconds())
	d := mysqlDrain(load.server, "mysql_drop.yaml", from, benchDB+".singles", rows)
	const name = "mysql_single_row_tx"
	d.profile = name
	got, err := s.alternate(ctx, s.goMySQL("mysql-raw", load.server, from, rows),
		variant{name, func(ctx context.Context, _ int) (sample, error) { return d.run(ctx, s) }})
	if err != nil {
		return err
	}
	s.report(name, "rows/s", got[name], reference, ratioAtLeast(0.5))
	// What bounds it: as many transactions as the server can send to a client that looks at none of them.
	s.report("control (the server alone)", "rows/s", got[name], got["mysql-raw"], none())
	return nil
}

func (s *suite) postgresSingleRows(ctx context.Context) (err error) {
	reference, err := s.dropRate(ctx, "postgres_drop", postgresCases)
	if err != nil {
		return err
	}
	l, err := s.logPostgres(ctx, ordersPostgres("singles"), s.rows(singleRows), 1, "drop")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.admin.Close(ctx)) }()
	const name = "postgres_single_row_tx"
	got, err := s.alternate(ctx, s.postgresDrop(l, name))
	if err != nil {
		return err
	}
	s.report(name, "rows/s", got[name], reference, ratioAtLeast(0.5))
	return nil
}
