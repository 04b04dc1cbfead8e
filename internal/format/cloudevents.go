package format

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// The fields of the format cloudevents.
const (
	fieldCloud = "cloudevents"
	fieldMode  = "mode"
	fieldData  = "data"
)

func modes() []string { return []string{"structured", "binary"} }
func datas() []string { return []string{"envelope", "row"} }

func cloudFields() []*service.ConfigField {
	return []*service.ConfigField{
		enum(fieldMode, modes(), "Where the attributes are: `structured`, in the payload, an object with the attributes and `data`; or `binary`, in headers `ce_…`, and the payload is the data."),
		enum(fieldData, datas(), "What the data is: `envelope`, the native envelope; or `row`, the row after the change, or before a delete."),
	}
}

func parseCloud(conf *service.ParsedConfig) (change.Format, error) {
	mode, err := oneOf(conf, modes(), fieldCloud, fieldMode)
	if err != nil {
		return nil, err
	}
	data, err := oneOf(conf, datas(), fieldCloud, fieldData)
	return &envelope.CloudEvents{Binary: mode == modes()[1], Row: data == datas()[1]}, err
}
