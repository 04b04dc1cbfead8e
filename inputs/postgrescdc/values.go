package postgrescdc

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

	encodingUnknown = "SQL_ASCII"
)

func valueFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldBigint, bigintNumber, bigintString).Default(bigintNumber).Advanced().
			Description("How `bigint` and `xid8` are delivered, in keys, arrays and composites too: as a number with all its digits, or, " +
				"for consumers that read numbers as doubles, as a string. Integers inside json and jsonb stay as they are."),
		service.NewStringEnumField(fieldUndecodable, undecodableError, undecodableBase64).Default(undecodableError).Advanced().
			Description("What becomes of text that is not UTF-8, which a database with the encoding SQL_ASCII can have: `error`, with which " +
				"the message is marked as failed, or `base64`, `{\"_base64\":\"…\"}` as for bytea."),
	}
}

// valueOptions are the parsed options.
type valueOptions struct {
	quoteBigint bool
	base64Text  bool
}

func parseValueOptions(conf *service.ParsedConfig) (o valueOptions, err error) {
	if o.quoteBigint, err = isSecond(conf, fieldBigint, bigintNumber, bigintString); err != nil {
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

// trust says what the text of a database with that encoding is taken for.
func (o valueOptions) trust(encoding string) textTrust {
	switch {
	case encoding != encodingUnknown:
		return textIsUTF8
	case o.base64Text:
		return textOrBase64
	default:
		return textOrError
	}
}
