package row

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The fields of how values are delivered.
const (
	fieldBigint      = "bigint"
	fieldTinyint1    = "tinyint1"
	fieldZeroDate    = "zero_date"
	fieldUndecodable = "undecodable_text"
)

// Fields are the fields of the configuration that say how values are delivered.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldBigint, BigintNumber, BigintString).Default(BigintNumber).Advanced().
			Description("How `BIGINT` is delivered, in keys too: as a number with all its digits, or, for consumers that read numbers as " +
				"doubles, as a string. Integers inside JSON columns stay as they are."),
		service.NewStringEnumField(fieldTinyint1, Tinyint1Number, Tinyint1Boolean).Default(Tinyint1Number).Advanced().
			Description("How `TINYINT(1)`, which is what `BOOL` makes, is delivered. As a boolean, 0 is false and any other number true."),
		// null is a word of YAML: the linter must let it pass with and without quotes.
		service.NewAnyField(fieldZeroDate).Default(ZeroText).Advanced().
			Description("What becomes of dates with a zero month or day, such as `0000-00-00`, which no calendar has: `text`, as the " +
				"server shows them; `null`; or `error`, with which the message is marked as failed.").
			Example(ZeroNull).
			LintRule(`root = if ![null, "text", "null", "error"].contains(this) { ["want text, null or error"] }`),
		service.NewStringEnumField(fieldUndecodable, UndecodableError, UndecodableBase).Default(UndecodableError).Advanced().
			Description("What becomes of text whose bytes are not text in the column's character set: `error`, with which the message is " +
				"marked as failed, or `base64`, `{\"_base64\":\"…\"}` as for binary columns."),
	}
}

// ParseOptions reads those fields.
func ParseOptions(conf *service.ParsedConfig) (o Options, err error) {
	if o.Bigint, err = oneOf(conf, fieldBigint, BigintNumber, BigintString); err != nil {
		return o, err
	}
	if o.Tinyint1, err = oneOf(conf, fieldTinyint1, Tinyint1Number, Tinyint1Boolean); err != nil {
		return o, err
	}
	zero, err := conf.FieldAny(fieldZeroDate)
	if err != nil {
		return o, err
	}
	switch zero {
	case nil:
		o.ZeroDate = ZeroNull
	case ZeroText, ZeroNull, ZeroError:
		o.ZeroDate = fmt.Sprint(zero)
	default:
		return o, fmt.Errorf("%s: want one of %s, %s, %s, got %v", fieldZeroDate, ZeroText, ZeroNull, ZeroError, zero)
	}
	o.Undecodable, err = oneOf(conf, fieldUndecodable, UndecodableError, UndecodableBase)
	return o, err
}

// oneOf reads an enumeration; the engine checks those only when it lints.
func oneOf(conf *service.ParsedConfig, field string, options ...string) (string, error) {
	v, err := conf.FieldString(field)
	if err == nil && !slices.Contains(options, v) {
		err = fmt.Errorf("%s: want one of %s, got %q", field, strings.Join(options, ", "), v)
	}
	return v, err
}
