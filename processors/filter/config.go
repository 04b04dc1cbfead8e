// Package filter is the processor deltaforge_filter: it keeps the events that a configuration describes.
package filter

import (
	"fmt"
	"slices"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

const (
	fieldOps        = "ops"
	fieldTables     = "tables"
	fieldInclude    = "include"
	fieldExclude    = "exclude"
	fieldPredicates = "predicates"
	fieldColumn     = "column"
	fieldTest       = "test"
	fieldValue      = "value"
	fieldValues     = "values"
	fieldMatch      = "match"
	fieldImage      = "image"
	fieldUnknown    = "unknown"
)

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Filtering").
		Version("0.1.0").
		Summary("Keeps the events of some operations, tables and rows, and drops the others.").
		Description(description).
		Fields(
			service.NewStringListField(fieldOps).Default([]any{}).
				LintRule(`root = if this.type() == "string" && !["c","u","d","r","t","m","s"].contains(this) { ["want one of c, u, d, r, t, m, s, got " + this] }`).
				Description("The operations to keep: `c` insert, `u` update, `d` delete, `r` row of a snapshot, `t` truncate, `m` logical message, `s` change of a table's shape. Empty: all.").
				Example([]string{"c", "u", "d", "r"}),
			service.NewObjectField(fieldTables,
				service.NewStringListField(fieldInclude).Default([]any{}).LintRule(tablefilter.Rule).Description("Patterns of the tables to keep, such as `shop.orders`, `shop.*`, `shop.order_%`. Empty: all."),
				service.NewStringListField(fieldExclude).Default([]any{}).LintRule(tablefilter.Rule).Description("Patterns of the tables to drop, even if they are included."),
			).Description("The tables to keep."),
			service.NewObjectListField(fieldPredicates, predicateFields()...).Default([]any{}).
				Description("What a row must have. Truncates and changes of a table's shape have no row: no predicate applies to them."),
			service.NewStringEnumField(fieldMatch, "all", "any").Default("all").Description("Whether all predicates that apply to a table must hold, or one of them."),
			service.NewStringAnnotatedEnumField(fieldImage, map[string]string{
				"after":  "The row after the change; for a delete, the row that was there.",
				"before": "The row before the change; for an insert and a row of a snapshot, the row itself.",
				"either": "The event is kept if one of both matches. So consumers see the update with which a row leaves the filter.",
			}).Default("after").Description("Which row image the predicates look at.").Advanced(),
			service.NewStringEnumField(fieldUnknown, "keep", "drop").Default("keep").
				Description("What becomes of an event when the log does not have the value that decides: unchanged TOAST, row image `MINIMAL`, no `REPLICA IDENTITY FULL`.").Advanced(),
		).
		Example("Paid orders above a limit", "The decimal is compared exactly. Deletes are judged by the row that was there.", `
pipeline:
  processors:
    - deltaforge_filter:
        ops: [ c, u, d, r ]
        tables: { include: [ "shop.orders" ] }
        predicates:
          - { column: status, test: in, values: [ paid, shipped ] }
          - { column: total, test: ge, value: "1000.00" }
`)
}

func predicateFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(fieldColumn).Description("The column. A table without it is an error, unless the test is `exists`."),
		service.NewStringAnnotatedEnumField(fieldTest, map[string]string{
			"eq": "Equal to `value`; `null` is a value.", "ne": "Not equal to `value`.",
			"in": "One of `values`.", "not_in": "None of `values`.",
			"gt": "Greater than `value`. NULL is not.", "ge": "Greater or equal.", "lt": "Less than `value`. NULL is not.", "le": "Less or equal.",
			"exists":  "The table has the column, and it is not NULL.",
			"changed": "The change has changed the column. Inserts, deletes and rows of a snapshot change all columns.",
			"like":    "The text matches `value`, in which `%` is any text, `_` is any character, and a backslash takes the next character as it is.",
			"regex":   "The text has a match of `value`, in the syntax of RE2.",
		}).Description("What must hold."),
		service.NewAnyField(fieldValue).Optional().Description("What the column is compared with. Write numbers of more than 15 digits in quotes.").Example("paid").Example(10).Example("2024-02-29T13:51:30Z"),
		service.NewAnyListField(fieldValues).Optional().Description("For `in` and `not_in`."),
		step.TablesField("the predicate applies to").Advanced(),
	}
}

const description = `
An event is kept if its operation is one of ` + "`ops`" + `, its table one of ` + "`tables`" + `, and its row satisfies the ` + "`predicates`" + `. What is kept is not changed. Messages that no
DeltaForge source made are kept.

Values are compared as what the column holds: integers of any width and decimals exactly, dates and times by their instant, floating-point numbers at the width of the
column, text byte by byte. ` + "`NaN`" + ` is the greatest number. JSON, arrays and composites can be tested with ` + "`exists`, `changed`, `like` and `regex`" + ` only, the last two on their text.

A predicate that does not fit a table (no such column, a value that is no number) is an error of the events of that table. They go on with the error and without being
dropped; our outputs refuse them.

Dropped events are counted in ` + "`processor_dropped_total`" + `, with the reason ` + "`op`, `table` or `predicate`" + `.
`

// config is the configuration, parsed.
type config struct {
	ops        []byte
	include    step.Tables
	exclude    step.Tables
	predicates []predicate
	any        bool
	image      string
	keep       bool // what is unknown
}

// predicate is one test of a column.
type predicate struct {
	column, test string
	values       []operand
	pattern      matchText // of like and regex
	tables       step.Tables
}

func parse(conf *service.ParsedConfig) (*config, error) {
	c := &config{}
	ops, err := conf.FieldStringList(fieldOps)
	if err != nil {
		return nil, err
	}
	for _, op := range ops {
		if len(op) != 1 || !slices.Contains([]byte("cudrtms"), op[0]) {
			return nil, fmt.Errorf("%s: want some of c, u, d, r, t, m, s, got %q", fieldOps, op)
		}
		c.ops = append(c.ops, op[0])
	}
	if c.include, err = step.ParseTables(conf, fieldTables, fieldInclude); err != nil {
		return nil, err
	}
	if c.exclude, err = step.ParseTables(conf, fieldTables, fieldExclude); err != nil {
		return nil, err
	}
	for field, to := range map[string]func(string){
		fieldMatch: func(s string) { c.any = s == "any" }, fieldImage: func(s string) { c.image = s }, fieldUnknown: func(s string) { c.keep = s == "keep" },
	} {
		s, err := conf.FieldString(field)
		if err != nil {
			return nil, err
		}
		if !slices.Contains([]string{"all", "any", "after", "before", "either", "keep", "drop"}, s) {
			return nil, fmt.Errorf("%s: unknown option %q", field, s)
		}
		to(s)
	}
	list, err := conf.FieldObjectList(fieldPredicates)
	if err != nil {
		return nil, err
	}
	for i, pc := range list {
		p, err := parsePredicate(pc)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", fieldPredicates, i, err)
		}
		c.predicates = append(c.predicates, p)
	}
	return c, nil
}

func parsePredicate(conf *service.ParsedConfig) (p predicate, err error) {
	if p.column, err = conf.FieldString(fieldColumn); err != nil {
		return p, err
	}
	if p.test, err = conf.FieldString(fieldTest); err != nil {
		return p, err
	}
	if p.tables, err = step.ParseTables(conf, step.FieldTables); err != nil {
		return p, err
	}
	var values []any
	if conf.Contains(fieldValues) {
		list, err := conf.FieldAnyList(fieldValues)
		if err != nil {
			return p, err
		}
		for _, v := range list {
			a, err := v.FieldAny()
			if err != nil {
				return p, err
			}
			values = append(values, a)
		}
	}
	single := conf.Contains(fieldValue)
	if single {
		v, err := conf.FieldAny(fieldValue)
		if err != nil {
			return p, err
		}
		values = append(values, v)
	}
	if err := checkValues(p, single, len(values)); err != nil {
		return p, err
	}
	for _, v := range values {
		o, err := newOperand(v)
		if err != nil {
			return p, fmt.Errorf("%s of %s: %w", fieldValue, p.column, err)
		}
		p.values = append(p.values, o)
	}
	if p.test == "like" || p.test == "regex" {
		if p.pattern, err = newPattern(p.test, p.values[0]); err != nil {
			return p, fmt.Errorf("%s of %s: %w", fieldValue, p.column, err)
		}
	}
	return p, nil
}

// checkValues reports a test with too many or too few values.
func checkValues(p predicate, single bool, n int) error {
	switch p.test {
	case "exists", "changed":
		if n > 0 {
			return fmt.Errorf("the test %s of %s takes no value", p.test, p.column)
		}
	case "in", "not_in":
		if single || n == 0 {
			return fmt.Errorf("the test %s of %s wants %s", p.test, p.column, fieldValues)
		}
	case "eq", "ne", "gt", "ge", "lt", "le", "like", "regex":
		if !single || n != 1 {
			return fmt.Errorf("the test %s of %s wants one %s", p.test, p.column, fieldValue)
		}
	default:
		return fmt.Errorf("unknown test %q", p.test)
	}
	return nil
}

// rowOf returns the images that decide, the one that counts first.
func rowOf(ev *change.Event) (row, other []change.Value) {
	if ev.After() != nil {
		return ev.After(), ev.Before()
	}
	return ev.Before(), nil
}
