package checkpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint/internal/hash"
	"github.com/deltaforge/deltaforge/checkpoint/internal/sqltable"
	"github.com/deltaforge/deltaforge/checkpoint/internal/topic"
	"github.com/deltaforge/deltaforge/internal/kafkaconn"
	"github.com/deltaforge/deltaforge/internal/sink"
)

const (
	cacheName = "deltaforge_checkpoint"

	fieldPath        = "path"
	fieldPostgres    = "postgres"
	fieldMySQL       = "mysql"
	fieldRedis       = "redis"
	fieldKafka       = "kafka"
	fieldDSN         = "dsn"
	fieldTable       = "table"
	fieldURL         = "url"
	fieldPrefix      = "prefix"
	fieldTLS         = "tls"
	fieldTopic       = "topic"
	fieldReplication = "replication_factor"
)

// defaultPath is the file where nothing is configured.
const defaultPath = "deltaforge-checkpoints.db"

const cacheDescription = `Without any field it is a file, ` + "`path`" + `. Or it is one of ` + "`postgres`, `mysql`, `redis` and `kafka`" + `: for a process whose disk does not last, such as a
container without a volume.

== A file

The file is in WAL mode with ` + "`synchronous=FULL`" + `: a save that has returned survives a power cut. It needs no server, and can be read with the ` + "`sqlite3`" + ` shell.
Each key is locked until the resource that uses it stops, so that two processes never save under one key.

A source without a ` + "`checkpoint.cache`" + ` keeps its position in such a file by itself; this resource is for sharing one file between sources under a label, or for
choosing its place once.

== A server

The instance that came last has the key: with its first save it takes it over. An earlier one that still runs is fenced at its next save: it stops, and says so.
A save is one transaction in PostgreSQL, MySQL and Kafka, and one script in Redis.

* ` + "`postgres`, `mysql`" + `: a table. It is made when it is missing. Do not put it among the tables that a source captures: each save would be an event.
* ` + "`redis`" + `: a hash for each key. Redis keeps what it is given as well as its ` + "`appendfsync`" + ` and its replicas do. Use ` + "`noeviction`" + `.
* ` + "`kafka`" + `: a compacted topic of one partition. It is made when it is missing. At a start it is read whole.

Where the output is ` + "`deltaforge_kafka` or `deltaforge_redis`" + `, ` + "`exactly_once`" + ` keeps the position in the sink, in the same transactions as the rows, and needs no
resource.

` + "`deltaforge checkpoint`" + ` shows and resets what is in any of them. Keys never expire; a TTL is ignored.`

func cacheSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Summary("Keeps the positions of sources in a SQLite file, a table, Redis or Kafka.").
		Description(cacheDescription).
		Fields(
			service.NewStringField(fieldPath).Optional().
				Description("The SQLite file; `"+defaultPath+"` where no field is set. It is made when missing; its folder must exist."),
			service.NewObjectField(fieldPostgres,
				service.NewStringField(fieldDSN).Secret().
					Description("The database, as `postgres://user:password@host:port/database?sslmode=verify-full`."),
				tableField(),
			).Optional().Description("A table in PostgreSQL."),
			service.NewObjectField(fieldMySQL,
				service.NewStringField(fieldDSN).Secret().
					Description("The database, as `user:password@tcp(host:port)/database?tls=true`."),
				tableField(),
			).Optional().Description("A table in MySQL or MariaDB."),
			service.NewObjectField(fieldRedis,
				service.NewStringField(fieldURL).Secret().
					Description("The server, as `redis://user:password@host:port/db`, `rediss://` with TLS, or `unix://`."),
				service.NewStringField(fieldPrefix).Default("deltaforge:position:").Description("What the names of the hashes begin with."),
				service.NewTLSToggledField(fieldTLS),
			).Optional().Description("Hashes in Redis."),
			service.NewObjectField(fieldKafka,
				append([]*service.ConfigField{
					kafkaconn.SeedsField(),
					service.NewStringField(fieldTopic).Description("The topic. It must be compacted.").Example("deltaforge_positions"),
					service.NewIntField(fieldReplication).Default(-1).
						Description("How many replicas the topic has when it is made. -1 takes the broker's default."),
				}, kafkaconn.Fields()...)...,
			).Optional().Description("A topic in Kafka."),
		).
		LintRule(`root = if [this.path, this.postgres, this.mysql, this.redis, this.kafka].filter(v -> v != null).length() > 1 {
  [ "want one of path, postgres, mysql, redis and kafka, got more than one" ] }`).
		Example("A shared file", "Two sources keep their positions in one file.", `
cache_resources:
  - label: positions
    deltaforge_checkpoint:
      path: /var/lib/deltaforge/checkpoints.db
`).
		Example("A table", "A container without a volume keeps its positions in PostgreSQL.", `
cache_resources:
  - label: positions
    deltaforge_checkpoint:
      postgres:
        dsn: '${POSITIONS_DSN}'
        table: ops.deltaforge_checkpoints
`)
}

func tableField() *service.ConfigField {
	return service.NewStringField(fieldTable).Default("deltaforge_checkpoints").
		Description("The table, with `schema.` or `database.` before it if need be.")
}

// opener opens a store. It is called when the store is used for the first time.
type opener func(ctx context.Context) (adding, error)

// adding is a store with all that the engine wants of a cache.
type adding interface {
	Store
	Eraser
	Close() error
	Add(ctx context.Context, key string, value []byte) (added bool, err error)
}

// parseStore reads the fields of a store. Errors name the field, and never show a secret.
func parseStore(p *service.ParsedConfig) (open opener, err error) {
	found := 0
	for field, parse := range map[string]func(*service.ParsedConfig) (opener, error){
		fieldPostgres: parseTable(sqltable.Postgres), fieldMySQL: parseTable(sqltable.MySQL), fieldRedis: parseRedis, fieldKafka: parseKafka,
	} {
		if !p.Contains(field) {
			continue
		}
		found++
		if open, err = parse(p.Namespace(field)); err != nil {
			return nil, fmt.Errorf("field %s: %w", field, err)
		}
	}
	if p.Contains(fieldPath) || found == 0 {
		found++
		open, err = parsePath(p)
	}
	if err == nil && found > 1 {
		err = fmt.Errorf("want one of %s, %s, %s, %s and %s, got %d of them", fieldPath, fieldPostgres, fieldMySQL, fieldRedis, fieldKafka, found)
	}
	return open, err
}

func parsePath(p *service.ParsedConfig) (opener, error) {
	path := defaultPath
	if p.Contains(fieldPath) {
		var err error
		if path, err = p.FieldString(fieldPath); err != nil {
			return nil, err
		}
	}
	if path == "" {
		return nil, fmt.Errorf("field %s: want a file name, got an empty string", fieldPath)
	}
	return func(ctx context.Context) (adding, error) { return OpenSQLite(ctx, path) }, nil
}

func parseTable(parse func(dsn, table string) (sqltable.Opener, error)) func(*service.ParsedConfig) (opener, error) {
	return func(p *service.ParsedConfig) (opener, error) {
		dsn, err := p.FieldString(fieldDSN)
		if err != nil {
			return nil, err
		}
		table, err := p.FieldString(fieldTable)
		if err == nil {
			err = sqltable.CheckName(table)
		}
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", fieldTable, err)
		}
		open, err := parse(dsn, table)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", fieldDSN, err)
		}
		return func(context.Context) (adding, error) { return newShared(open()), nil }, nil
	}
}

func parseRedis(p *service.ParsedConfig) (opener, error) {
	url, err := p.FieldString(fieldURL)
	if err != nil {
		return nil, err
	}
	o, err := hash.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("field %s: %w", fieldURL, err)
	}
	prefix, err := p.FieldString(fieldPrefix)
	if err != nil {
		return nil, err
	}
	dial, err := sink.TLSDial(p, hash.Timeout, fieldTLS)
	if err == nil && dial != nil && o.Network == "unix" {
		err = errors.New("a unix socket has no TLS")
	}
	if err != nil {
		return nil, fmt.Errorf("field %s: %w", fieldTLS, err)
	}
	if dial != nil {
		o.Dialer = dial
	}
	return func(context.Context) (adding, error) { return newShared(hash.Open(o, prefix)), nil }, nil
}

func parseKafka(p *service.ParsedConfig) (opener, error) {
	conn, err := kafkaconn.Parse(p)
	if err != nil {
		return nil, err
	}
	name, err := p.FieldString(fieldTopic)
	if err != nil {
		return nil, err
	}
	replication, err := sink.IntBetween(p, -1, 1000, fieldReplication)
	if err != nil {
		return nil, fmt.Errorf("field %s: %w", fieldReplication, err)
	}
	return func(context.Context) (adding, error) {
		return newShared(topic.Open(conn, name, int16(replication))), nil
	}, nil
}
