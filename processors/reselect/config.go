package reselect

import (
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/step"
)

const (
	fieldMaxRows     = "max_rows"
	fieldTimeout     = "timeout"
	fieldWhenGone    = "when_gone"
	fieldWhenChanged = "when_changed"

	// What is done where a row is not as the event left it.
	leave = "leave"
	drop  = "drop"
	fail  = "error"
	fill  = "fill"
)

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Mapping").
		Version("0.1.0").
		Summary("Fills the values that the log does not carry, by reading the row.").
		Description(`
An update of PostgreSQL lacks large values that it has not changed, unless the table has `+"`REPLICA IDENTITY FULL`. An update of MySQL lacks columns with `binlog_row_image` `MINIMAL` or `NOBLOB`"+`.
Where the setting can be changed, change it: then the values come from the log, and are those of the event.

The processor looks for inserts and updates that lack values in the row after the change. It reads their rows by key, many in one query, over one connection of the source that has made them, with the
settings of that source: the same `+"`dsn`, or `snapshot.dsn`"+` where that is set. The account needs `+"`SELECT`"+` on the tables. Events that lack nothing cost nothing. A value that `+"`before`"+` has is taken
from there. `+"`before`"+` itself is never filled.

What is read is what the row holds now. It is never older than the event: the query waits until it sees the event's transaction. It may be newer, and then the event has a value that it did not have. An
event that follows has that value, too, so whoever applies all events comes to the right state. Known values tell whether a row has changed since: if they are not those of the event, it has.
A change of the filled column alone does not show.

Put it before `+"`deltaforge_columns`, `deltaforge_flatten` and `deltaforge_javascript`"+`, and after `+"`deltaforge_filter`"+`. An event that cannot be filled because the database cannot be reached goes on
with an error that names the table. Our outputs refuse it, and the batch is tried again.
`).
		Fields(
			step.TablesField("are read"),
			service.NewIntField(fieldMaxRows).Default(200).LintRule(`root = if this < 1 || this > 10000 { ["want 1 to 10000"] }`).
				Description("How many rows one query reads at most. They are in memory with all their columns."),
			service.NewDurationField(fieldTimeout).Default("30s").Description("How long the rows of one batch may take."),
			service.NewStringEnumField(fieldWhenGone, leave, drop, fail).Default(leave).
				Description("What becomes of an event whose row is not there any more under its key, or whose column or table is gone. `leave`: the value stays one that is not there. `drop`: the event is left out, and counted in "+
					"`processor_dropped_total` with the reason `gone`; the event that has deleted or moved the row follows. `error`: the event goes on with an error. A table without a key has no rows that could be read: "+
					"its events are treated in the same way."),
			service.NewStringEnumField(fieldWhenChanged, fill, leave, fail).Default(fill).
				Description("What becomes of an event whose row has been changed since. `fill`: it gets the value of now. `leave`: the value stays one that is not there; the event that has changed the row follows, and is filled. "+
					"`error`: the event goes on with an error."),
		).
		Example("Debezium's messages without placeholders", "", `
pipeline:
  processors:
    - deltaforge_reselect:
        tables: [ "public.documents" ]
`)
}

func init() {
	step.Register("deltaforge_reselect", spec(), func(conf *service.ParsedConfig, res *service.Resources) (*processor, error) {
		p := &processor{dropped: step.Dropped(res)}
		return p, p.parse(conf)
	})
}

func (p *processor) parse(conf *service.ParsedConfig) (err error) {
	if p.tables, err = step.ParseTables(conf, step.FieldTables); err != nil {
		return err
	}
	if p.maxRows, err = conf.FieldInt(fieldMaxRows); err != nil {
		return err
	}
	if p.maxRows < 1 || p.maxRows > 10000 {
		return fmt.Errorf("%s: want 1 to 10000, got %d", fieldMaxRows, p.maxRows)
	}
	if p.timeout, err = conf.FieldDuration(fieldTimeout); err != nil {
		return err
	}
	if p.timeout < time.Millisecond {
		return fmt.Errorf("%s: want a positive duration, got %s", fieldTimeout, p.timeout)
	}
	for field, to := range map[string]*string{fieldWhenGone: &p.whenGone, fieldWhenChanged: &p.whenChanged} {
		if *to, err = conf.FieldString(field); err != nil {
			return err
		}
	}
	if p.whenGone != leave && p.whenGone != drop && p.whenGone != fail {
		return fmt.Errorf("%s: want leave, drop or error, got %q", fieldWhenGone, p.whenGone)
	}
	if p.whenChanged != leave && p.whenChanged != fill && p.whenChanged != fail {
		return fmt.Errorf("%s: want fill, leave or error, got %q", fieldWhenChanged, p.whenChanged)
	}
	return nil
}
