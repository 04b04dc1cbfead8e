package envelope

import (
	"fmt"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// The fields of the configuration that say what messages look like.
const (
	fieldFormat     = "format"
	fieldRow        = "row"
	fieldDeleteRows = "delete_rows"
)

// The formats.
const (
	formatNative = "native"
	formatRow    = "row"
)

// Fields are the fields of the configuration that say what messages look like.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldFormat, formatNative, formatRow).Default(formatNative).
			Description("What messages look like. `native`: our envelope, with the row before and after the change, and where it comes from. `row`: the row " +
				"alone, flat; what happened to it is in the metadata `operation`."),
		service.NewObjectField(fieldRow,
			// null is a word of YAML: the linter must let it pass with and without quotes.
			service.NewAnyField(fieldDeleteRows).Default(string(DeleteKeep)).
				Description("What becomes of deletes: `keep`, the row that was there, as far as the log has it; `null`; or `drop`, no message.").
				Example(string(DeleteNull)).
				LintRule(`root = if ![null, "keep", "null", "drop"].contains(this) { ["want keep, null or drop"] }`),
		).Description("Options of the format `row`.").Optional().Advanced(),
	}
}

// ParseFormat reads those fields.
func ParseFormat(conf *service.ParsedConfig) (change.Format, error) {
	name, err := oneOf(conf, []string{formatNative, formatRow}, fieldFormat)
	if err != nil {
		return nil, err
	}
	if name == formatRow {
		return parseRow(conf)
	}
	return Native{}, nil
}

func parseRow(conf *service.ParsedConfig) (Row, error) {
	v, err := conf.FieldAny(fieldRow, fieldDeleteRows)
	if err != nil {
		return Row{}, err
	}
	switch v {
	case nil:
		return Row{DeleteNull}, nil
	case string(DeleteKeep), string(DeleteNull), string(DeleteDrop):
		return Row{DeleteRows(fmt.Sprint(v))}, nil
	default:
		return Row{}, fmt.Errorf("%s.%s: want keep, null or drop, got %v", fieldRow, fieldDeleteRows, v)
	}
}

// oneOf reads an enumeration; the engine checks those only when it lints.
func oneOf(conf *service.ParsedConfig, options []string, path ...string) (string, error) {
	v, err := conf.FieldString(path...)
	if err != nil {
		return "", err
	}
	for _, o := range options {
		if v == o {
			return v, nil
		}
	}
	return "", fmt.Errorf("%s: want one of %s, got %q", strings.Join(path, "."), strings.Join(options, ", "), v)
}

// NewEncoder returns an encoder for the events of a source.
func NewEncoder(s *change.Source) change.Encoder {
	if s.Format == nil {
		return Native{}.NewEncoder()
	}
	return s.Format.NewEncoder()
}

// AppendMessages appends the messages of an event in the format of its source. Callers with many events use an encoder.
func AppendMessages(dst service.MessageBatch, ev *change.Event) service.MessageBatch {
	dst, _ = NewEncoder(ev.Table.Source).AppendMessages(dst, nil, ev)
	return dst
}
