// Package postgrescdc is the input deltaforge_postgres: it streams row changes out of PostgreSQL through a logical
// replication slot and the pgoutput plugin.
package postgrescdc

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/dsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/history"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/format"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
	"github.com/deltaforge/deltaforge/internal/version"
)

const (
	componentName = "deltaforge_postgres"
	// connector is the kind of the source in events and in saved records.
	connector = "postgresql"

	fieldDSN               = "dsn"
	fieldSlot              = "slot"
	fieldPublication       = "publication"
	fieldTables            = "tables"
	fieldInclude           = "include"
	fieldExclude           = "exclude"
	fieldTLS               = "tls"
	fieldStatusInterval    = "status_interval"
	fieldReadTimeout       = "read_timeout"
	fieldCreateSlot        = "create_slot"
	fieldCreatePublication = "create_publication"
	fieldMessages          = "messages"
	fieldCleartext         = "allow_cleartext_password"
)

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		LintRule(format.ChangesRule).
		Summary("Loads the tables of PostgreSQL 14 to 18, and streams their row changes by logical replication.").
		Description("Reads a logical replication slot with the pgoutput plugin, and makes slot and publication when they are " +
			"missing. The slot is only ever told positions that are delivered and saved.\n\n" +
			"Of all tables that match the patterns, the source's own publication names those whose updates and deletes the server does not " +
			"refuse for it (they need a replica identity); the log says which it does not name, and what to do. A table that is made, renamed, " +
			"attached or detached later is added within seconds. What it held before is loaded as `snapshot` says. With `snapshot.mode: never` the " +
			"log names the position from which on its changes are captured. " +
			"For a superuser there is a second publication with the inserts and truncates of whole schemas (`shop.*`, PostgreSQL 15 and later) " +
			"or of everything, so that no insert of a new table is missing.").
		Field(service.NewStringField(fieldDSN).
			Description("How to connect: a `postgres://` URL or `keyword=value` pairs. In a URL, characters of user and password that have a " +
				"meaning there are written `%40` (@), `%2F` (/), `%3F` (?), `%23` (#) and `%25` (%); in pairs, a value with blanks or quotes is written in quotes: " +
				"`password='it\\'s'`. The role needs REPLICATION and LOGIN; SELECT on the tables that are loaded; and, for " +
				"the source to make the publication, CREATE on the database and ownership of the tables.").
			Example("postgres://deltaforge:${PG_PASSWORD}@localhost:5432/shop").Secret()).
		Field(service.NewObjectField(fieldTables,
			service.NewStringListField(fieldInclude).LintRule(tablefilter.Rule).Description("Patterns of the tables to capture. Empty: all tables.").
				Default([]any{}).Example([]any{"public.orders", "shop.*", "public.event_%", "%.audit"}),
			service.NewStringListField(fieldExclude).LintRule(tablefilter.Rule).Description("Patterns of tables to leave out of those included.").
				Default([]any{}),
		).Description("The tables to capture: `schema.table`, `schema.*`, `schema.prefix%`, `%.table`. System schemas are never " +
			"captured. Partitioned tables appear under the name of their root.").Optional()).
		Field(service.NewStringField(fieldSlot).
			Description("The replication slot. Empty: `deltaforge_<name>`, with `_` for characters that a slot's name cannot have.").
			Default("")).
		Field(service.NewStringField(fieldPublication).
			Description("The publication. Empty: `deltaforge_<name>`. One that was not made by the source is never changed.").
			Default("")).
		Field(service.NewBoolField(fieldCreateSlot).Description("Make the slot when it is missing and no position is saved. On PostgreSQL 17 and later it is made with `failover`, so that a standby can have it.").
			Default(true).Advanced()).
		Field(service.NewBoolField(fieldCreatePublication).Description("Make the publication when it is missing, and add tables to " +
			"one that the source made.").Default(true).Advanced()).
		Field(service.NewBoolField(fieldMessages).Description("Deliver logical messages (`pg_logical_emit_message`) as events with " +
			"the operation `m` on the table `pg_logical.message`.").Default(true).Advanced()).
		Field(service.NewDurationField(fieldStatusInterval).Description("The longest time between two status updates to the server. " +
			"Must be shorter than the server's `wal_sender_timeout`. The server is also asked as often whether we are at its end, which " +
			"`source_lag_seconds` tells.").Default("5s").Advanced()).
		Field(service.NewDurationField(fieldReadTimeout).Description("How long the server may be silent before the connection counts " +
			"as dead. The server is asked for an answer every `status_interval`, so this must be longer; but some versions are also " +
			"silent while they decode a large transaction on tables that are not captured.").Default("60s").Advanced()).
		Field(coordinator.SchemaChangesField("The log has no DDL statements. So the event has no statement, and comes before the first row that " +
			"has the new shape. A change that leaves columns, their types and the key as they were makes no event.")).
		Field(service.NewTLSToggledField(fieldTLS)).
		Field(service.NewBoolField(fieldCleartext).Description("Whether the password may be sent as it is over a connection without TLS, when the " +
			"server asks for that (the method `password` in `pg_hba.conf`). Whoever is on the way can read it.").Default(false).Advanced()).
		Fields(value.Fields()...).
		Fields(format.Fields()...).
		Fields(coordinator.Fields()...)
}

func init() {
	service.MustRegisterBatchInput(componentName, spec(), func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
		return newInput(conf, res)
	})
}

// config is the parsed configuration.
type config struct {
	name              string
	checkpointKey     string                      // empty: the name
	conn              *pgx.ConnConfig             // of an ordinary connection
	readTLS           func() (*tls.Config, error) // nil: the connection has no TLS of the field
	replica           *pgx.ConnConfig             // of one for chunks; nil: the same server
	loads             bool                        // tables are loaded without being asked for
	slot, publication string
	filter            publication.Filter
	createSlot        bool
	createPublication bool
	messages          bool
	schemaChanges     bool
	transactions      bool // begins and ends of transactions are events
	statusInterval    time.Duration
	readTimeout       time.Duration
	values            value.Options
}

// parseConfig reads the fields of this component. It works offline.
func parseConfig(conf *service.ParsedConfig, name string) (c config, err error) {
	c.name = name
	get := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	var text string
	var include, exclude []string
	get(func() (e error) { text, e = conf.FieldString(fieldDSN); return e })
	get(func() (e error) { c.slot, e = conf.FieldString(fieldSlot); return e })
	get(func() (e error) { c.publication, e = conf.FieldString(fieldPublication); return e })
	get(func() (e error) { include, e = conf.FieldStringList(fieldTables, fieldInclude); return e })
	get(func() (e error) { exclude, e = conf.FieldStringList(fieldTables, fieldExclude); return e })
	get(func() (e error) { c.createSlot, e = conf.FieldBool(fieldCreateSlot); return e })
	get(func() (e error) { c.createPublication, e = conf.FieldBool(fieldCreatePublication); return e })
	get(func() (e error) { c.messages, e = conf.FieldBool(fieldMessages); return e })
	get(func() (e error) { c.statusInterval, e = conf.FieldDuration(fieldStatusInterval); return e })
	get(func() (e error) { c.readTimeout, e = conf.FieldDuration(fieldReadTimeout); return e })
	get(func() (e error) {
		c.filter.Include, e = publication.ParsePatterns(fieldTables+"."+fieldInclude, include)
		return e
	})
	get(func() (e error) {
		c.filter.Exclude, e = publication.ParsePatterns(fieldTables+"."+fieldExclude, exclude)
		return e
	})
	get(func() (e error) { c.conn, e = dsn.Parse(text); return e })
	get(func() error {
		tlsConf, on, e := conf.FieldTLSToggled(fieldTLS)
		if e == nil && on {
			useTLS(&c.conn.Config, tlsConf)
			c.readTLS = func() (*tls.Config, error) { again, _, e := conf.FieldTLSToggled(fieldTLS); return again, e }
		}
		return e
	})
	var cleartext bool
	get(func() (e error) { cleartext, e = conf.FieldBool(fieldCleartext); return e })
	get(func() error { wire.ProtectPassword(c.conn, cleartext); return nil })
	get(func() error { return c.parseSnapshot(conf, cleartext) })
	get(func() (e error) { c.values, e = value.ParseOptions(conf); return e })
	get(func() (e error) { c.schemaChanges, e = coordinator.ParseSchemaChanges(conf); return e })
	get(c.complete)
	return c, err
}

// complete fills in defaults that depend on other fields, and checks.
func (c *config) complete() error {
	if c.slot == "" {
		c.slot = defaultName(c.name)
	}
	if c.publication == "" {
		c.publication = defaultName(c.name)
	}
	if len(c.slot) > maxName || strings.Trim(c.slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("%s: want up to %d of the characters a-z, 0-9 and _, got %q", fieldSlot, maxName, c.slot)
	}
	if len(c.publication) > maxName {
		return fmt.Errorf("%s: want up to %d bytes, got %q", fieldPublication, maxName, c.publication)
	}
	if c.statusInterval <= 0 {
		return fmt.Errorf("%s: want a positive duration, got %s", fieldStatusInterval, c.statusInterval)
	}
	if c.readTimeout <= c.statusInterval {
		return fmt.Errorf("%s: want more than %s (%s), got %s", fieldReadTimeout, fieldStatusInterval, c.statusInterval, c.readTimeout)
	}
	return nil
}

// maxName is the longest name that PostgreSQL keeps (NAMEDATALEN - 1).
const maxName = 63

func defaultName(source string) string {
	name := []byte("deltaforge_" + strings.ToLower(source))
	for i, b := range name {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') {
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), maxName)])
}

// useTLS puts a configuration in place of what sslmode made, for every host of the DSN.
func useTLS(c *pgconn.Config, conf *tls.Config) {
	forHost := func(host string) *tls.Config {
		if strings.HasPrefix(host, "/") {
			return nil // a Unix socket
		}
		t := conf.Clone()
		if t.ServerName == "" {
			t.ServerName = host
		}
		return t
	}
	c.TLSConfig = forHost(c.Host)
	seen := map[string]bool{fmt.Sprint(c.Host, c.Port): true}
	var fallbacks []*pgconn.FallbackConfig
	for _, f := range c.Fallbacks {
		if id := fmt.Sprint(f.Host, f.Port); !seen[id] {
			seen[id] = true
			fallbacks = append(fallbacks, &pgconn.FallbackConfig{Host: f.Host, Port: f.Port, TLSConfig: forHost(f.Host)})
		}
	}
	c.Fallbacks = fallbacks
}

// fresh returns the settings of a connection, with the certificates and authorities that are on disk now: what was replaced there is used
// by the next connection.
func (c *config) fresh() (*pgx.ConnConfig, error) {
	conn := c.conn.Copy()
	if c.readTLS == nil {
		return conn, nil
	}
	conf, err := c.readTLS()
	if err != nil {
		return nil, fmt.Errorf("reading the files of %s: %w", fieldTLS, err)
	}
	useTLS(&conn.Config, conf)
	return conn, nil
}

// connect opens a connection for queries.
func (c *config) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := c.fresh()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, conn)
}

func newInput(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
	common, err := coordinator.ParseConfig(conf)
	if err != nil {
		return nil, err
	}
	common.Type = componentName
	c, err := parseConfig(conf, common.Name)
	if err != nil {
		return nil, err
	}
	messages, err := format.Parse(conf, res)
	if err != nil {
		return nil, err
	}
	source := &change.Source{
		Connector: connector, Name: common.Name, Tenant: common.Tenant, Version: version.String(), Metadata: common.Metadata, Format: messages,
	}
	changes := res.Metrics().NewCounter("source_schema_changes_total", "table")
	c.checkpointKey, c.transactions = common.CheckpointKey, common.Transactions
	log := newReplication(c, source, res.Logger(), func(table string) { changes.Incr(1, table) })
	log.guard = coordinator.NewGuard(common.Name, res)
	return coordinator.New(common, connector, log, res)
}

// newReplication returns a log that is not connected.
func newReplication(c config, source *change.Source, log logger, schemaChanged func(table string)) *replication {
	r := &replication{cfg: c, logger: log, kick: make(chan struct{}, 1), warned: map[string]bool{}, history: history.New()}
	settings := shape.Settings{
		Source: source, Database: c.conn.Database, Slot: c.slot, Filter: &r.cfg.filter, Values: r.cfg.values,
		Warn: func(table, column, typ string) {
			r.warnOnce(fmt.Sprintf("column %s of %s has the type %s, which is delivered as the database prints it", column, table, typ))
		},
		Changed: schemaChanged,
	}
	r.schemas = shape.New(settings)
	r.chunks = r.newChunks(settings)
	source.Rows = r
	return r
}
