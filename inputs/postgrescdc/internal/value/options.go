package value

import (
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The options of how values are delivered.
const (
	fieldBigint      = "bigint"
	fieldUndecodable = "undecodable_text"

	bigintNumber, bigintString          = "number", "string"
	undecodableError, undecodableBase64 = "error", "base64"

	EncodingUnknown = "SQL_ASCII"
)

// Fields returns the configuration fields of the options.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldBigint, bigintNumber, bigintString).Default(bigintNumber).Advanced().
			Description("How `bigint` and `xid8` are delivered, in keys, arrays and composites too: as a number with all its digits, or, " +
				"for consumers that read numbers as doubles, as a string. Integers inside json and jsonb stay as they are."),
		service.NewStringEnumField(fieldUndecodable, undecodableError, undecodableBase64).Default(undecodableError).Advanced().
			Description("What becomes of text that is not UTF-8, which a database with the encoding SQL_ASCII can have: `error`, with which " +
				"the message is marked as failed, or `base64`, `{\"_base64\":\"…\"}` as for bytea."),
	}
}

// Options are the parsed options.
type Options struct {
	QuoteBigint bool
	base64Text  bool
}

// ParseOptions reads the fields that Fields returns.
func ParseOptions(conf *service.ParsedConfig) (o Options, err error) {
	if o.QuoteBigint, err = isSecond(conf, fieldBigint, bigintNumber, bigintString); err != nil {
		return o, err
	}
	o.base64Text, err = isSecond(conf, fieldUndecodable, undecodableError, undecodableBase64)
	return o, err
}

// isSecond reads one of two words; the engine checks those only when it lints.
func isSecond(conf *service.ParsedConfig, field, first, second string) (bool, error) {
	v, err := conf.FieldString(field)
	if err == nil && v != first && v != second {
		err = fmt.Errorf("%s: want %s or %s, got %q", field, first, second, v)
	}
	return v == second, err
}

// Trust says what the text of a database with that encoding is taken for.
func (o Options) Trust(encoding string) Trust {
	switch {
	case encoding != EncodingUnknown:
		return IsUTF8
	case o.base64Text:
		return OrBase64
	default:
		return OrError
	}
}
