package mysqlcdc

import (
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
)

// The fields of how values are delivered.
const (
	fieldBigint      = "bigint"
	fieldTinyint1    = "tinyint1"
	fieldZeroDate    = "zero_date"
	fieldUndecodable = "undecodable_text"
)

func valueFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldBigint, row.BigintNumber, row.BigintString).Default(row.BigintNumber).Advanced().
			Description("How `BIGINT` is delivered, in keys too: as a number with all its digits, or, for consumers that read numbers as " +
				"doubles, as a string. Integers inside JSON columns stay as they are."),
		service.NewStringEnumField(fieldTinyint1, row.Tinyint1Number, row.Tinyint1Boolean).Default(row.Tinyint1Number).Advanced().
			Description("How `TINYINT(1)`, which is what `BOOL` makes, is delivered. As a boolean, 0 is false and any other number true."),
		// null is a word of YAML: the linter must let it pass with and without quotes.
		service.NewAnyField(fieldZeroDate).Default(row.ZeroText).Advanced().
			Description("What becomes of dates with a zero month or day, such as `0000-00-00`, which no calendar has: `text`, as the " +
				"server shows them; `null`; or `error`, with which the message is marked as failed.").
			Example(row.ZeroNull).
			LintRule(`root = if ![null, "text", "null", "error"].contains(this) { ["want text, null or error"] }`),
		service.NewStringEnumField(fieldUndecodable, row.UndecodableError, row.UndecodableBase).Default(row.UndecodableError).Advanced().
			Description("What becomes of text whose bytes are not text in the column's character set: `error`, with which the message is " +
				"marked as failed, or `base64`, `{\"_base64\":\"…\"}` as for binary columns."),
	}
}

func parseValueOptions(conf *service.ParsedConfig) (o row.Options, err error) {
	if o.Bigint, err = oneOf(conf, fieldBigint, row.BigintNumber, row.BigintString); err != nil {
		return o, err
	}
	if o.Tinyint1, err = oneOf(conf, fieldTinyint1, row.Tinyint1Number, row.Tinyint1Boolean); err != nil {
		return o, err
	}
	zero, err := conf.FieldAny(fieldZeroDate)
	if err != nil {
		return o, err
	}
	switch zero {
	case nil:
		o.ZeroDate = row.ZeroNull
	case row.ZeroText, row.ZeroNull, row.ZeroError:
		o.ZeroDate = fmt.Sprint(zero)
	default:
		return o, fmt.Errorf("%s: want one of %s, %s, %s, got %v", fieldZeroDate, row.ZeroText, row.ZeroNull, row.ZeroError, zero)
	}
	o.Undecodable, err = oneOf(conf, fieldUndecodable, row.UndecodableError, row.UndecodableBase)
	return o, err
}
