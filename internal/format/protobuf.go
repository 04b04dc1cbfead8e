package format

import (
	"context"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/envelope/protobuf"
	"github.com/deltaforge/deltaforge/internal/registry"
)

// fieldProtobuf has the options of the format protobuf.
const fieldProtobuf = "protobuf"

func protobufDecimals() []string { return []string{"string", "message"} }

func protobufFields() []*service.ConfigField {
	return append(shapingFields("a message with `before`, `after`, `source`, `op` and the times", "the message of the row alone"),
		enum(fieldDecimals, protobufDecimals(), "How decimals look: `string`; or `message`, with the bytes of the integer, the precision and the scale. A decimal without precision is a string."),
		enum(fieldTimes, timeForms(), "How timestamps with a zone look: `logical`, `google.protobuf.Timestamp`; or `string`, which also has infinities, `0000-00-00` and years before 1 and after "+
			"9999. Dates, times of day and timestamps without a zone are strings."),
		enum(fieldArrays, arrayForms(), "How arrays look: `array`, a message with the elements, of one dimension; or `string`, the JSON of the array."),
		service.NewStringField(fieldPlaceholder).Default(debezium.DefaultPlaceholder).Description("What stands for a text or bytes that the log does not carry, such as "+
			"an unchanged TOAST value."),
	)
}

func parseProtobuf(conf *service.ParsedConfig, log registry.Logger) (change.Format, error) {
	r, err := parseRegistry(conf, formatProtobuf, log)
	if err != nil {
		return nil, err
	}
	f := protobuf.New(r.naming(registry.Protobuf), subjectsOf{numbers{r.client, registry.Protobuf}})
	if f.Shaping, err = parseShaping(conf, fieldProtobuf); err != nil {
		return nil, err
	}
	second := seconds(conf, fieldProtobuf, &err)
	f.DecimalMessage = second(protobufDecimals(), fieldDecimals)
	f.TimeText = second(timeForms(), fieldTimes)
	f.ArrayText = second(arrayForms(), fieldArrays)
	if err == nil {
		f.Placeholder, err = conf.FieldString(fieldProtobuf, fieldPlaceholder)
	}
	return f, err
}

// subjectsOf asks a registry for what subjects have, too.
type subjectsOf struct{ numbers }

// Latest implements protobuf.Registry.
func (s subjectsOf) Latest(ctx context.Context, subject string) (int, string, error) {
	return s.client.Latest(ctx, subject)
}
