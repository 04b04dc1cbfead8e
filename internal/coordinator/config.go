package coordinator

import (
	"fmt"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// The fields that every source has.
const (
	fieldName       = "name"
	fieldTenant     = "tenant"
	fieldBatch      = "batch"
	fieldMaxEvents  = "max_events"
	fieldMaxBytes   = "max_bytes"
	fieldMaxMs      = "max_ms"
	fieldRespectTx  = "respect_source_tx"
	fieldCheckpoint = "checkpoint"
	fieldCache      = "cache"
	fieldKey        = "key"
	fieldPath       = "path"
	fieldIntervalMs = "interval_ms"
	fieldExactly    = "exactly_once"
	fieldInFlight   = "max_in_flight"
	fieldDecoders   = "decode_workers"
	fieldMetadata   = "metadata"
	fieldRequire    = "require_position"
	fieldOnLost     = "on_position_lost"
	fieldTx         = "transactions"
)

// Config is what every source has in common.
type Config struct {
	// Name identifies the source: consumers see it in every event, and the checkpoint is kept under it unless
	// CheckpointKey says otherwise.
	Name   string
	Tenant string
	// Type is the name of the input's component, which the input sets.
	Type string

	MaxEvents int
	MaxBytes  int
	MaxWait   time.Duration
	RespectTx bool

	CheckpointCache    string
	CheckpointKey      string
	CheckpointPath     string
	CheckpointInterval time.Duration
	// ExactlyOnce says that the output keeps the position, in the transactions that write the rows.
	ExactlyOnce bool
	// RequirePosition refuses a start without a saved position.
	RequirePosition bool
	// OnLost is what happens when the position is lost.
	OnLost OnLost

	// MaxInFlight is how many batches may be on their way through the pipeline at a time.
	MaxInFlight int

	// Metadata are the keys that messages have.
	Metadata change.Metadata

	// Snapshot is how tables are loaded.
	Snapshot snapshot.Config

	// Transactions says that begins and ends of transactions are events.
	Transactions bool

	// Decoders is the number of decode workers; 0 chooses.
	Decoders int
}

// Fields returns the configuration fields that every source has. Inputs add them to their own.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(fieldName).
			Description("The name of the source. Consumers see it as `source.name` in every event and in the metadata key " +
				"`source` where that is asked for; the checkpoint is saved under it. Two sources must not share a name.").
			LintRule(`root = if this == "" { ["want a name that identifies the source, got an empty string"] }`).
			Example("orders"),
		service.NewStringField(fieldTenant).
			Description("The tenant that the rows belong to, `tenant_id` in every event.").
			Default("").Optional(),
		service.NewObjectField(fieldBatch,
			service.NewIntField(fieldMaxEvents).LintRule(atLeast(1)).Description("The most events in a batch. "+
				"Exactly once into Kafka, a batch that waits for the commit of the one before it grows to four times as many, and to four times `max_bytes`.").Default(5000),
			service.NewIntField(fieldMaxBytes).LintRule(atLeast(1)).Description("The most payload bytes in a batch. One event that is larger is "+
				"a batch of its own.").Default(4<<20),
			service.NewIntField(fieldMaxMs).LintRule(atLeast(0)).Description("The longest time, in milliseconds, that an event waits for its "+
				"batch to fill while more is arriving. A batch goes out at once when the log has nothing more to give.").Default(50),
			service.NewBoolField(fieldRespectTx).Description("Cut batches between transactions only, unless one "+
				"transaction alone exceeds the limits.").Default(true),
		).Description("How changes are gathered into batches.").Optional().Advanced(),
		service.NewObjectField(fieldCheckpoint,
			service.NewStringField(fieldCache).Description("The label of a Benthos cache resource to keep the position in. "+
				"Empty: the embedded store at `path`. The cache must keep what it is given until it is told otherwise: one in memory, with a TTL "+
				"or with a bounded size makes a restart look like a first start.").Default(""),
			service.NewStringField(fieldKey).Description("The key that the position is saved under. Empty: the source's "+
				"`name`.").Default(""),
			service.NewStringField(fieldPath).Description("The file of the embedded store, used when `cache` is empty. "+
				"Sources may share it. It must outlive the process: in a container it belongs on a volume. SQLite keeps files with the endings `-wal` and `-shm` "+
				"beside it, and DeltaForge those with `.lock` and `.keys`: they belong together, on a backup too.").Default("deltaforge-checkpoints.db"),
			service.NewIntField(fieldIntervalMs).LintRule(atLeast(0)).Description("The shortest time, in milliseconds, between two saves. The "+
				"position is also saved when the source stops.").Default(300),
			service.NewBoolField(fieldExactly).Default(false).Description("The output keeps the position, in the transactions that write the rows: a crash at any "+
				"moment leaves both or neither, and no row is delivered twice. It takes an output with `exactly_once: true`, and `max_in_flight: 1`. `cache` "+
				"and `path` are not used then; `key` is the name of the position in the sink."),
		).Description("Where the position is kept.").Optional().Advanced().LintRule(exactlyRule),
		service.NewBoolField(fieldRequire).Default(false).Description("Refuses to start when no position is saved: the source then stops with " +
			"`position lost` instead of taking it for its first start. Set it once the source has started for the first time, so that a lost volume or another " +
			"store does not pass over changes."),
		onLostField(),
		service.NewIntField(fieldInFlight).LintRule(atLeast(1)).Description("The most batches on their way through the pipeline at " +
			"a time. With 1 the order of the log holds whatever the pipeline does, also when it has several threads. The next batch is " +
			"gathered and decoded meanwhile, so more than 1 pays only when processors or the output work on several batches at once; " +
			"then their order is up to them. An output that gathers batches of its own needs a `period`.").
			Default(1).Advanced(),
		service.NewIntField(fieldDecoders).LintRule(atLeast(0)).Description("Goroutines that decode rows; order is kept. 0 chooses by the number " +
			"of processors.").Default(0).Advanced(),
		service.NewBoolField(fieldTx).Default(false).Description("Whether the begin and the end of each transaction are events, too, on the table `deltaforge.transaction`. " +
			"The end has the number of events, in all and by table. See [Transactions](../events.md#transactions).").Advanced(),
		snapshot.Field(),
		service.NewStringListField(fieldMetadata).Default(change.DefaultMetadata()).LintRule(metadataRule()).
			Description("The metadata keys that messages have, of `" + strings.Join(change.MetadataKeys(), "`, `") + "`. The default are seven " +
				"strings, which every output can take. `key` and `event_id` differ from row to row and are the expensive ones: without them all " +
				"rows of a stretch share their metadata, and a row costs about a third less. `deltaforge_kafka` and `deltaforge_redis` need none " +
				"of them: what is not there they read from the event. Keep `event_id` where a processor changes payloads: a message that has neither " +
				"its payload nor its id cannot be told from others, and they refuse it. `schema` is the table for encoders that look for one, an object and " +
				"not a string; outputs that send all metadata may not take it.").
			Example([]string{"database", "table", "operation"}).Advanced(),
	}
}

// exactlyRule is a lint rule of the checkpoint.
const exactlyRule = `root = if this.exactly_once.or(false) && this.cache.or("") != "" { ["exactly_once: the output keeps the position; remove cache"] }`

// checkExactly refuses what exactly-once delivery does not go with.
func (c *Config) checkExactly() error {
	switch {
	case !c.ExactlyOnce:
		return nil
	case c.CheckpointCache != "":
		return fmt.Errorf("%s.%s: the output keeps the position; remove %s.%s, got %q", fieldCheckpoint, fieldExactly, fieldCheckpoint, fieldCache, c.CheckpointCache)
	case c.MaxInFlight != 1:
		return fmt.Errorf("%s.%s: want %s: 1, got %d: the order of several batches is not kept", fieldCheckpoint, fieldExactly, fieldInFlight, c.MaxInFlight)
	}
	return nil
}

// metadataRule is the lint rule of the list of metadata keys, and of each of its elements.
func metadataRule() string {
	return fmt.Sprintf(`root = if this.type() == "string" && !%s.contains(this) { ["want a metadata key, got " + this] }`,
		strings.ReplaceAll(fmt.Sprintf("%q", change.MetadataKeys()), " ", ", "))
}

// fieldSchemaChanges is a field of the sources that can deliver changes of shapes.
const fieldSchemaChanges = "schema_changes"

// SchemaChangesField is the field of a source that can deliver changes of its tables' shapes as events. The input says in
// details what its log makes of them.
func SchemaChangesField(details string) *service.ConfigField {
	return service.NewBoolField(fieldSchemaChanges).Default(false).Advanced().
		Description("Whether schema changes of captured tables are delivered too, as events with `op` `s`, in their place between the rows. Such an event " +
			"has the columns, their types and whether they may be null, and the key, before and after the change. " + details)
}

// ParseSchemaChanges reads the field that SchemaChangesField returns.
func ParseSchemaChanges(conf *service.ParsedConfig) (bool, error) {
	return conf.FieldBool(fieldSchemaChanges)
}

// atLeast is a lint rule for a number.
func atLeast(least int) string {
	return fmt.Sprintf(`root = if this < %d { ["want at least %d, got " + this.string()] }`, least, least)
}

// ParseConfig reads the fields that Fields returns. It works offline; an error names the field and what it wants.
func ParseConfig(conf *service.ParsedConfig) (Config, error) {
	var c Config
	var err error
	get := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	str := func(dst *string, path ...string) {
		get(func() (e error) { *dst, e = conf.FieldString(path...); return e })
	}
	num := func(dst *int, least int, path ...string) {
		get(func() (e error) {
			if *dst, e = conf.FieldInt(path...); e == nil && *dst < least {
				e = fmt.Errorf("%s: want at least %d, got %d", strings.Join(path, "."), least, *dst)
			}
			return e
		})
	}
	var waitMs, intervalMs int
	str(&c.Name, fieldName)
	str(&c.Tenant, fieldTenant)
	num(&c.MaxEvents, 1, fieldBatch, fieldMaxEvents)
	num(&c.MaxBytes, 1, fieldBatch, fieldMaxBytes)
	num(&waitMs, 0, fieldBatch, fieldMaxMs)
	get(func() (e error) { c.RespectTx, e = conf.FieldBool(fieldBatch, fieldRespectTx); return e })
	str(&c.CheckpointCache, fieldCheckpoint, fieldCache)
	str(&c.CheckpointKey, fieldCheckpoint, fieldKey)
	str(&c.CheckpointPath, fieldCheckpoint, fieldPath)
	num(&intervalMs, 0, fieldCheckpoint, fieldIntervalMs)
	get(func() (e error) { c.ExactlyOnce, e = conf.FieldBool(fieldCheckpoint, fieldExactly); return e })
	get(func() (e error) { c.RequirePosition, e = conf.FieldBool(fieldRequire); return e })
	get(func() (e error) { c.OnLost, e = parseOnLost(conf); return e })
	get(func() (e error) { c.Transactions, e = conf.FieldBool(fieldTx); return e })
	num(&c.MaxInFlight, 1, fieldInFlight)
	num(&c.Decoders, 0, fieldDecoders)
	get(func() error {
		keys, err := conf.FieldStringList(fieldMetadata)
		if err == nil {
			c.Metadata, err = change.ParseMetadata(keys)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", fieldMetadata, err)
		}
		return nil
	})
	get(func() (e error) { c.Snapshot, e = snapshot.ParseConfig(conf); return e })
	if err != nil {
		return Config{}, err
	}
	if c.Name == "" {
		return Config{}, fmt.Errorf("%s: want a name that identifies the source, got an empty string", fieldName)
	}
	if c.CheckpointCache == "" && c.CheckpointPath == "" {
		return Config{}, fmt.Errorf("%s.%s: want a file when %s.%s is empty", fieldCheckpoint, fieldPath, fieldCheckpoint, fieldCache)
	}
	if err := c.checkExactly(); err != nil {
		return Config{}, err
	}
	if c.CheckpointKey == "" {
		c.CheckpointKey = c.Name
	}
	if checkpoint.IsSchemaKey(c.CheckpointKey) || checkpoint.IsSnapshotKey(c.CheckpointKey) {
		return Config{}, fmt.Errorf("%s.%s: want a key that does not end like that of a schema history or of a snapshot, got %q", fieldCheckpoint, fieldKey,
			c.CheckpointKey)
	}
	c.MaxWait = time.Duration(waitMs) * time.Millisecond
	c.CheckpointInterval = time.Duration(intervalMs) * time.Millisecond
	return c, nil
}
