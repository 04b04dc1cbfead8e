package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/go-sql-driver/mysql" // the driver
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// serverSet starts each server when a case first asks for it. Nothing else uses them.
type serverSet struct {
	mysql    *servers.MySQL
	postgres *servers.Postgres
	kafka    *servers.Kafka
	redis    *servers.Redis
}

func (s *serverSet) close() error {
	var errs []error
	if s.mysql != nil {
		errs = append(errs, s.mysql.Close())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	errs = append(errs, s.closeKafka(), s.closeRedis())
	return errors.Join(errs...)
}

// closeKafka ends the broker, which otherwise takes CPU from what is measured next.
func (s *serverSet) closeKafka() (err error) {
	if s.kafka != nil {
		err = s.kafka.Close()
		s.kafka = nil
	}
	return err
}

func (s *serverSet) closeRedis() (err error) {
	if s.redis != nil {
		err = s.redis.Close()
		s.redis = nil
	}
	return err
}

// benchDB is the database or schema with the tables.
const benchDB = "bench"

func (s *suite) mysql(ctx context.Context) (*servers.MySQL, error) {
	if s.servers.mysql != nil {
		return s.servers.mysql, nil
	}
	s.note("starting MySQL")
	server, err := servers.StartMySQL(ctx, servers.Options{NoSync: true, Args: []string{
		"--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=2G", "--max-binlog-size=1G", "--innodb-doublewrite=OFF",
	}})
	if err != nil {
		return nil, err
	}
	s.servers.mysql = server
	db, err := sql.Open("mysql", server.DSN(""))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+benchDB); err != nil {
		return nil, fmt.Errorf("creating the database: %w", err)
	}
	return server, nil
}

func (s *suite) postgres(ctx context.Context) (*servers.Postgres, error) {
	if s.servers.postgres != nil {
		return s.servers.postgres, nil
	}
	s.note("starting PostgreSQL")
	server, err := servers.StartPostgres(ctx, servers.Options{NoSync: true, Args: []string{
		"shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off",
	}})
	if err != nil {
		return nil, err
	}
	s.servers.postgres = server
	conn, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+benchDB); err != nil {
		return nil, fmt.Errorf("creating the database: %w", err)
	}
	return server, nil
}

func (s *suite) kafka(ctx context.Context) (*servers.Kafka, error) {
	if s.servers.kafka != nil {
		return s.servers.kafka, nil
	}
	s.note("starting Kafka")
	server, err := servers.StartKafka(ctx, servers.Options{})
	if err != nil {
		return nil, err
	}
	s.servers.kafka = server
	return server, nil
}

func (s *suite) redis(ctx context.Context) (*servers.Redis, error) {
	if s.servers.redis != nil {
		return s.servers.redis, nil
	}
	s.note("starting Redis")
	server, err := servers.StartRedis(ctx, servers.Options{})
	if err != nil {
		return nil, err
	}
	s.servers.redis = server
	return server, nil
}

// topic makes a topic of one partition and returns how to count what it holds.
func (s *suite) topic(ctx context.Context, name string) (count func(context.Context) (int64, error), closeClient func(), err error) {
	server, err := s.kafka(ctx)
	if err != nil {
		return nil, nil, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Brokers()...))
	if err != nil {
		return nil, nil, err
	}
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, name); err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("creating the topic %s: %w", name, err)
	}
	return func(ctx context.Context) (int64, error) {
		offsets, err := admin.ListEndOffsets(ctx, name)
		if err = errors.Join(err, offsets.Error()); err != nil {
			return 0, fmt.Errorf("asking for the end of %s: %w", name, err)
		}
		o, _ := offsets.Lookup(name, 0)
		return o.Offset, nil
	}, client.Close, nil
}

// stream returns how to count the entries of a Redis stream.
func (s *suite) stream(ctx context.Context, name string) (count func(context.Context) (int64, error), closeClient func() error, err error) {
	server, err := s.redis(ctx)
	if err != nil {
		return nil, nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	return func(ctx context.Context) (int64, error) { return client.XLen(ctx, name).Result() }, client.Close, nil
}

// config is the path of a pipeline's configuration.
func (s *suite) config(name string) string {
	dir, err := os.Getwd()
	if err != nil {
		dir = "." // the binary then says what it did not find
	}
	return filepath.Join(dir, "internal", "bench", "config", name)
}
