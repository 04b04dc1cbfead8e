package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

// The fields of a source that say how it loads tables.
const (
	fieldSnapshot = "snapshot"
	fieldMode     = "mode"
	fieldTables   = "tables"
	fieldWhere    = "where"
	fieldRows     = "chunk_rows"
	fieldParallel = "max_parallel_chunks"
	fieldRate     = "max_rows_per_second"
	fieldDSN      = "dsn"
	fieldSignal   = "signal_table"
)

// Mode says which tables are loaded without being asked for.
type Mode string

// The modes.
const (
	// Never loads nothing, unless it is asked for.
	Never Mode = "never"
	// Initial loads the tables at the first start, and each one that is added later.
	Initial Mode = "initial"
	// InitialOnly loads the tables, and ends the input when all is delivered.
	InitialOnly Mode = "initial_only"
	// Always loads all tables at each start.
	Always Mode = "always"
)

func modes() []string {
	return []string{string(Never), string(Initial), string(InitialOnly), string(Always)}
}

// Config is how a source loads tables.
type Config struct {
	Mode Mode
	// Tables are patterns of those that are loaded without being asked for; empty: all that are captured.
	Tables []string
	// Where has conditions by the full name of a table.
	Where map[string]string
	// ChunkRows is how many rows are read in one transaction.
	ChunkRows int
	// Parallel is how many chunks are read at a time.
	Parallel int
	// Rate bounds the rows read in a second, of all tables; 0: no bound.
	Rate int
	// DSN is the server that chunks are read from; empty: the source's own.
	DSN string
	// Signal is the table whose inserts are requests, as its full name; empty: none.
	Signal string
}

// Field returns the field `snapshot`, which every source has that can load tables.
func Field() *service.ConfigField {
	return service.NewObjectField(fieldSnapshot,
		service.NewStringEnumField(fieldMode, modes()...).Default(string(Initial)).
			Description("Which tables are loaded by themselves. `initial`: those that are there at the first start, and each one that is captured "+
				"later. `initial_only`: the same, and the input ends when the last row is delivered. `always`: all of them at each start. `never`: "+
				"none; a request loads them (`deltaforge snapshot start`). A source that has a saved position from a time without snapshots loads nothing with `initial`."),
		service.NewStringListField(fieldTables).Default([]string{}).LintRule(tablefilter.Rule).
			Description("Patterns of the captured tables that are loaded by themselves, such as `shop.orders` or `shop.%`. Empty: all of them.").
			Example([]string{"shop.orders", "shop.customers"}),
		service.NewStringMapField(fieldWhere).Default(map[string]any{}).
			Description("A condition in SQL for a table, by its full name: only the rows that meet it are loaded. The stream is not filtered by it.").
			Example(map[string]any{"shop.orders": "created_at >= '2025-01-01'"}),
		service.NewIntField(fieldRows).Default(10_000).LintRule(atLeast(1)).
			Description("The most rows of a chunk. A chunk is read in one short transaction, and held in memory until the stream has come to it."),
		service.NewIntField(fieldParallel).Default(2).LintRule(atLeast(1)).
			Description("The most chunks that are read at a time, of one table or of several. Each takes a connection."),
		service.NewIntField(fieldRate).Default(0).LintRule(atLeast(0)).
			Description("The most rows that are read in a second, of all tables together. 0: as fast as it goes."),
		service.NewStringField(fieldDSN).Default("").Secret().
			Description("A replica to read the chunks from, in the form of the source's `dsn`. The source makes sure that it is a replica of its own server. "+
				"Empty: the source's server."),
		service.NewStringField(fieldSignal).Default("").
			Description("The full name of a captured table whose new rows are requests, for people who can reach only the database. Its columns are `id`, `type` and "+
				"`data`; `type` is `execute-snapshot`, `stop-snapshot`, `pause-snapshot` or `resume-snapshot`, and `data` a JSON object such as "+
				"`{\"data-collections\": [\"shop.orders\"]}`. Empty: none.").
			Example("shop.signals"),
	).Description("How the rows are loaded that the tables hold already. They come as events with `op` `r`, while the log is streamed. Nothing is locked, and no " +
		"transaction is longer than one chunk.").Optional()
}

func atLeast(least int) string {
	return fmt.Sprintf(`root = if this < %d { ["want at least %d, got " + this.string()] }`, least, least)
}

// ParseConfig reads the field that Field returns. An error names the field and what it wants.
func ParseConfig(conf *service.ParsedConfig) (c Config, err error) {
	conf = conf.Namespace(fieldSnapshot)
	mode, err := conf.FieldString(fieldMode)
	if err != nil {
		return c, err
	}
	if c.Mode = Mode(mode); !slices.Contains(modes(), mode) {
		return c, fmt.Errorf("%s.%s: want one of %s, got %q", fieldSnapshot, fieldMode, strings.Join(modes(), ", "), mode)
	}
	if c.Tables, err = conf.FieldStringList(fieldTables); err != nil {
		return c, err
	}
	if c.Where, err = conf.FieldStringMap(fieldWhere); err != nil {
		return c, err
	}
	for _, n := range []struct {
		name  string
		least int
		to    *int
	}{{fieldRows, 1, &c.ChunkRows}, {fieldParallel, 1, &c.Parallel}, {fieldRate, 0, &c.Rate}} {
		if *n.to, err = conf.FieldInt(n.name); err != nil {
			return c, err
		}
		if *n.to < n.least {
			return c, fmt.Errorf("%s.%s: want at least %d, got %d", fieldSnapshot, n.name, n.least, *n.to)
		}
	}
	if c.DSN, err = conf.FieldString(fieldDSN); err != nil {
		return c, err
	}
	c.Signal, err = conf.FieldString(fieldSignal)
	return c, err
}
