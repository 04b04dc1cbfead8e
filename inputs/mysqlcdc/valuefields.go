package mysqlcdc

import (
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"
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
		service.NewStringEnumField(fieldBigint, bigintNumber, bigintString).Default(bigintNumber).Advanced().
			Description("How `BIGINT` is delivered, in keys too: as a number with all its digits, or, for consumers that read numbers as " +
				"doubles, as a string. Integers inside JSON columns stay as they are."),
		service.NewStringEnumField(fieldTinyint1, tinyint1Number, tinyint1Boolean).Default(tinyint1Number).Advanced().
			Description("How `TINYINT(1)`, which is what `BOOL` makes, is delivered. As a boolean, 0 is false and any other number true."),
		// null is a word of YAML: the linter must let it pass with and without quotes.
		service.NewAnyField(fieldZeroDate).Default(zeroText).Advanced().
			Description("What becomes of dates with a zero month or day, such as `0000-00-00`, which no calendar has: `text`, as the " +
				"server shows them; `null`; or `error`, with which the message is marked as failed.").
			Example(zeroNull).
			LintRule(`root = if ![null, "text", "null", "error"].contains(this) { ["want text, null or error"] }`),
		service.NewStringEnumField(fieldUndecodable, undecodableError, undecodableBase).Default(undecodableError).Advanced().
			Description("What becomes of text whose bytes are not text in the column's character set: `error`, with which the message is " +
				"marked as failed, or `base64`, `{\"_base64\":\"…\"}` as for binary columns."),
	}
}

func parseValueOptions(conf *service.ParsedConfig) (o valueOptions, err error) {
	if o.bigint, err = oneOf(conf, fieldBigint, bigintNumber, bigintString); err != nil {
		return o, err
	}
	if o.tinyint1, err = oneOf(conf, fieldTinyint1, tinyint1Number, tinyint1Boolean); err != nil {
		return o, err
	}
	zero, err := conf.FieldAny(fieldZeroDate)
	if err != nil {
		return o, err
	}
	switch zero {
	case nil:
		o.zeroDate = zeroNull
	case zeroText, zeroNull, zeroError:
		o.zeroDate = fmt.Sprint(zero)
	default:
		return o, fmt.Errorf("%s: want one of %s, %s, %s, got %v", fieldZeroDate, zeroText, zeroNull, zeroError, zero)
	}
	o.undecodable, err = oneOf(conf, fieldUndecodable, undecodableError, undecodableBase)
	return o, err
}
