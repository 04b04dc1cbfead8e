// Package mysqlcdc is the input deltaforge_mysql: the row changes of a MySQL or MariaDB server, read from its binlog.
package mysqlcdc

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/history"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/format"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
	"github.com/deltaforge/deltaforge/internal/version"
)

// The fields of the configuration, besides those that every source has.
const (
	fieldDSN         = "dsn"
	fieldFlavor      = "flavor"
	fieldTables      = "tables"
	fieldInclude     = "include"
	fieldExclude     = "exclude"
	fieldTLS         = "tls"
	fieldPublicKey   = "server_public_key_file"
	fieldCleartext   = "allow_cleartext_password"
	fieldServerID    = "server_id"
	fieldStart       = "start"
	fieldUseGTID     = "use_gtid"
	fieldHeartbeat   = "heartbeat_interval"
	fieldReadTimeout = "read_timeout"
	fieldKeys        = "keys"
	fieldOnDDL       = "on_unparseable_ddl"
)

// The values of use_gtid.
const (
	useGTIDAuto   = "auto"
	useGTIDAlways = "true"
	useGTIDNever  = "false"
)

// The values of on_unparseable_ddl.
const (
	onDDLStop   = "stop"
	onDDLReload = "reload"
)

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		LintRule(format.ChangesRule).
		Summary("Loads the tables of a MySQL or MariaDB server, and streams their row changes.").
		Description("Reads the binlog as a replica does: MySQL 8.0 to 9.x and MariaDB 10.11 and later, with `binlog_format=ROW`. The "+
			"account needs `REPLICATION SLAVE`, `REPLICATION CLIENT`, and `SELECT` on the captured tables and on those that "+
			"become captured by `RENAME` or `LIKE`. To load tables of a MySQL without GTIDs, it should have `PROCESS`.\n\n"+
			"Positions are GTID sets where the server has GTIDs, and a place in its files: file, position, and when the file was made. On the "+
			"same server the source reads on from the place, after a fail-over from the GTIDs. A log that was reset, put back or restored is "+
			"`position lost`.\n\n"+
			"Every row is decoded with the shape that its table had when it was written. The input reads the shapes at its first start, "+
			"follows each DDL statement of the log, and keeps this history with the checkpoint, under its key with `.schema_history` after "+
			"it. A start at `latest` reads shapes and position together. When it starts further back (`earliest`, a given position, or no "+
			"history saved) tables are taken as they are now until the log says otherwise. Rows from before a later change of their table "+
			"are then an error if number, types or sizes of the columns differ. If only names have changed, nothing tells. With "+
			"`binlog_row_metadata=FULL` the log says what its rows are.").
		Fields(coordinator.Fields()...).
		Fields(
			service.NewStringField(fieldDSN).Secret().
				Description("Server and account, `user:password@tcp(host:port)/` or `user:password@unix(/path/to/socket)/`.").
				Example("cdc:${MYSQL_PASSWORD}@tcp(localhost:3306)/"),
			service.NewStringEnumField(fieldFlavor, product.Auto, product.MySQL, product.MariaDB).
				Description("The product. `auto` asks the server; the others make sure that it is what was expected.").
				Default(product.Auto).Advanced(),
			service.NewObjectField(fieldTables,
				service.NewStringListField(fieldInclude).LintRule(tablefilter.Rule).Default([]any{}).
					Description("The tables to capture: `db.table`, `db.*`, `db.prefix%` or `%.table`. Empty: all but those of "+
						"`mysql`, `information_schema`, `performance_schema` and `sys`.").
					Example([]string{"shop.*"}),
				service.NewStringListField(fieldExclude).LintRule(tablefilter.Rule).Default([]any{}).
					Description("Tables to leave out of those, in the same form."),
			).Description("Which tables are captured.").Optional(),
			service.NewTLSToggledField(fieldTLS),
			service.NewStringField(fieldPublicKey).Default("").
				Description("A copy of the server's `public_key.pem`, to encrypt the password with where there is no TLS. Without it, an account with "+
					"`caching_sha2_password` or `sha256_password` is refused on a connection that has no TLS and leaves the machine: the "+
					"key would come from whoever answers.").Advanced(),
			service.NewBoolField(fieldCleartext).Default(false).
				Description("Without TLS: send the password as it is to a server that asks for it so (`mysql_clear_password`), or encrypted with "+
					"whatever key the server sends. Whoever can get between can then read the password.").Advanced(),
			service.NewIntField(fieldServerID).Default(0).
				Description("The id under which the input replicates; no server and no other replica may have it. 0 derives one from "+
					"the source's `name`.").Advanced(),
			service.NewStringField(fieldStart).Default(startLatest).
				Description("Where the stream starts when no position is saved: `latest`, `earliest` (the oldest binlog the server has), or a "+
					"position: a GTID set, or `file:position`. Tables are loaded as `snapshot` says, wherever it starts.").
				Example("earliest").Example("binlog.000003:157").Example("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"),
			service.NewStringEnumField(fieldUseGTID, useGTIDAuto, useGTIDAlways, useGTIDNever).Default(useGTIDAuto).
				Description("Whether positions have GTIDs, besides their place in the server's files. `auto`: when the server has them. `true`: a "+
					"first start is refused when it has none. `false`: never, also when a position with GTIDs is saved, of which the place is used "+
					"then; such positions mean nothing after a fail-over.").Advanced(),
			service.NewDurationField(fieldHeartbeat).Default("5s").
				Description("How often the server tells that it has nothing new.").Advanced(),
			service.NewDurationField(fieldReadTimeout).Default("20s").
				Description("How long nothing may arrive, not even a heartbeat, before the connection counts as broken.").Advanced(),
			service.NewStringMapField(fieldKeys).Default(map[string]any{}).
				Description("The columns that identify a row, by `db.table` and separated by commas, where they shall be others than "+
					"those of the primary key.").Example(map[string]string{"shop.events": "tenant,number"}).Advanced(),
			service.NewStringEnumField(fieldOnDDL, onDDLStop, onDDLReload).Default(onDDLStop).
				Description("What happens when a DDL statement on a captured table is not understood, or does not fit the shape that the "+
					"table is known to have: `stop` with an error that names statement and position, or `reload` the table's shape from "+
					"`information_schema`, which is right when nothing else has changed the table since.").Advanced(),
			coordinator.SchemaChangesField("The events come from the CREATE, ALTER, RENAME and DROP statements of the log. A statement "+
				"that changes nothing of that, such as one that adds an index, makes no event."),
		).
		Fields(row.Fields()...).
		Fields(format.Fields()...)
}

func init() {
	service.MustRegisterBatchInput("deltaforge_mysql", spec(),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			return newInput(conf, res)
		})
}

// config is the parsed configuration.
type config struct {
	coordinator coordinator.Config
	server      wire.Server
	flavor      string
	filter      filter.Filter
	serverID    uint32
	replicaUUID string
	// excerptUUID is that of a second connection beside the replica's.
	excerptUUID string
	start       string
	startAt     *gtid.Position // nil for latest and earliest
	useGTID     string
	heartbeat   time.Duration
	readTimeout time.Duration
	keys        map[string][]string
	values      row.Options
	reloadDDL   bool
	// schemaChanges: changes of shapes are events.
	schemaChanges bool
	// snapshotWanted: a first start is where all that is before it is visible to queries, so that a snapshot misses nothing.
	snapshotWanted bool
	// replica is where the tables are read from; nil for server.
	replica *wire.Server
	source  *change.Source
}

// queryTimeout bounds the answers of everything but the binlog.
const queryTimeout = time.Minute

func parseConfig(conf *service.ParsedConfig, version string, res *service.Resources) (c config, err error) {
	if c.coordinator, err = coordinator.ParseConfig(conf); err != nil {
		return c, err
	}
	c.coordinator.Type = "deltaforge_mysql"
	dsn, err := conf.FieldString(fieldDSN)
	if err != nil {
		return c, err
	}
	if c.server, err = wire.ParseDSN(dsn); err != nil {
		return c, err
	}
	c.server.ReadTimeout = queryTimeout
	if c.server.AllowClear, err = conf.FieldBool(fieldCleartext); err != nil {
		return c, err
	}
	if c.server.PublicKeyFile, err = conf.FieldString(fieldPublicKey); err != nil {
		return c, err
	}
	tlsConf, tlsOn, err := conf.FieldTLSToggled(fieldTLS)
	if err != nil {
		return c, err
	}
	if tlsOn {
		c.server.TLS = tlsConf
		c.server.ReadTLS = func() (*tls.Config, error) { again, _, err := conf.FieldTLSToggled(fieldTLS); return again, err }
	}
	if c.flavor, err = oneOf(conf, fieldFlavor, product.Auto, product.MySQL, product.MariaDB); err != nil {
		return c, err
	}
	if c.useGTID, err = oneOf(conf, fieldUseGTID, useGTIDAuto, useGTIDAlways, useGTIDNever); err != nil {
		return c, err
	}
	onDDL, err := oneOf(conf, fieldOnDDL, onDDLStop, onDDLReload)
	if err != nil {
		return c, err
	}
	c.reloadDDL = onDDL == onDDLReload
	if c.schemaChanges, err = coordinator.ParseSchemaChanges(conf); err != nil {
		return c, err
	}
	if err := c.parseTables(conf); err != nil {
		return c, err
	}
	if err := c.parseServerID(conf); err != nil {
		return c, err
	}
	if err := c.parseStart(conf); err != nil {
		return c, err
	}
	if err := c.parseTimes(conf); err != nil {
		return c, err
	}
	if c.values, err = row.ParseOptions(conf); err != nil {
		return c, err
	}
	if err := c.parseSnapshot(); err != nil {
		return c, err
	}
	messages, err := format.Parse(conf, res)
	if err != nil {
		return c, err
	}
	c.source = &change.Source{
		Connector: history.Kind, Name: c.coordinator.Name, Tenant: c.coordinator.Tenant, Version: version, Metadata: c.coordinator.Metadata, Format: messages,
	}
	return c, nil
}

// oneOf reads an enumeration; the engine checks those only when it lints.
func oneOf(conf *service.ParsedConfig, field string, options ...string) (string, error) {
	v, err := conf.FieldString(field)
	if err == nil && !slices.Contains(options, v) {
		err = fmt.Errorf("%s: want one of %s, got %q", field, strings.Join(options, ", "), v)
	}
	return v, err
}

func (c *config) parseTables(conf *service.ParsedConfig) error {
	include, err := conf.FieldStringList(fieldTables, fieldInclude)
	if err != nil {
		return err
	}
	exclude, err := conf.FieldStringList(fieldTables, fieldExclude)
	if err != nil {
		return err
	}
	if c.filter, err = filter.New(include, exclude); err != nil {
		return err
	}
	keys, err := conf.FieldStringMap(fieldKeys)
	if err != nil {
		return err
	}
	if c.keys, err = filter.ParseKeys(keys); err != nil {
		return fmt.Errorf("%s%w", fieldKeys, err)
	}
	return nil
}

func (c *config) parseServerID(conf *service.ParsedConfig) error {
	id, err := conf.FieldInt(fieldServerID)
	if err != nil {
		return err
	}
	if id < 0 || id > 1<<32-1 {
		return fmt.Errorf("%s: want 0 to 4294967295, got %d", fieldServerID, id)
	}
	c.serverID, c.replicaUUID, c.excerptUUID = wire.ReplicaIdentity(c.coordinator.Name, uint32(id))
	return nil
}

func (c *config) parseStart(conf *service.ParsedConfig) (err error) {
	if c.start, err = conf.FieldString(fieldStart); err != nil {
		return err
	}
	if c.start == startLatest || c.start == startEarliest {
		return nil
	}
	if c.startAt, err = gtid.ParseLoosely(c.start); err != nil {
		return fmt.Errorf("%s: want latest, earliest, a GTID set or file:position: %w", fieldStart, err)
	}
	return nil
}

func (c *config) parseTimes(conf *service.ParsedConfig) (err error) {
	if c.heartbeat, err = conf.FieldDuration(fieldHeartbeat); err != nil {
		return err
	}
	if c.readTimeout, err = conf.FieldDuration(fieldReadTimeout); err != nil {
		return err
	}
	if c.heartbeat < 10*time.Millisecond || c.heartbeat > time.Hour {
		return fmt.Errorf("%s: want 10ms to 1h, got %s", fieldHeartbeat, c.heartbeat)
	}
	if c.readTimeout < 2*c.heartbeat {
		return fmt.Errorf("%s: want at least twice %s (%s), got %s", fieldReadTimeout, fieldHeartbeat, c.heartbeat, c.readTimeout)
	}
	return nil
}

func newInput(conf *service.ParsedConfig, res *service.Resources) (*coordinator.Input, error) {
	c, err := parseConfig(conf, version.String(), res)
	if err != nil {
		return nil, err
	}
	return coordinator.New(c.coordinator, history.Kind, newLog(c, res), res)
}
