package format

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/jsonschema"
	"github.com/deltaforge/deltaforge/internal/registry"
)

// fieldJSON has the options of the format json_schema.
const fieldJSON = "json_schema"

func jsonFields() []*service.ConfigField {
	return []*service.ConfigField{
		enum(fieldData, datas(), "What a payload is: `envelope`, the native envelope; or `row`, the row after the change, or before a delete."),
	}
}

func parseJSON(conf *service.ParsedConfig, log registry.Logger) (change.Format, error) {
	data, err := oneOf(conf, datas(), fieldJSON, fieldData)
	if err != nil {
		return nil, err
	}
	r, err := parseRegistry(conf, formatJSON, log)
	return &jsonschema.Format{Naming: r.naming(registry.JSONSchema), Row: data == datas()[1]}, err
}
