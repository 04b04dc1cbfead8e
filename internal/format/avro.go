package format

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/avro"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/registry"
)

// The fields of the format avro. Several have names that other formats use, too.
const (
	fieldAvro        = "avro"
	fieldShape       = "shape"
	fieldNullability = "nullability"
	fieldDecimals    = "decimals"
	fieldTimes       = "times"
	fieldArrays      = "arrays"
	fieldEnums       = "enums"
)

// The values of options, the defaults first.
func shapes() []string        { return texts(avro.ShapeEnvelope, avro.ShapeRow) }
func avroDeletes() []string   { return texts(avro.DeleteKeep, avro.DeleteNull, avro.DeleteDrop) }
func nullabilities() []string { return []string{"column", "always"} }
func decimalForms() []string  { return []string{"bytes", "string"} }
func timeForms() []string     { return []string{"logical", "string"} }
func arrayForms() []string    { return []string{"array", "string"} }
func enumForms() []string     { return []string{"string", "enum"} }

func avroFields() []*service.ConfigField {
	return []*service.ConfigField{
		enum(fieldShape, shapes(), "What a message holds. `envelope`: a record with `before`, `after`, `source`, `op` and the times, as Debezium's Avro has it. `row`: the record of the row alone."),
		service.NewAnyField(fieldDeleteRows).Default(avroDeletes()[0]).Description("What becomes of deletes with `shape: row`: `keep`, the row that was there; `null`, a message " +
			"without payload, by which a compacted topic forgets the key; or `drop`, no message.").
			Example("null").LintRule(`root = if ![null, "keep", "null", "drop"].contains(this) { ["want keep, null or drop"] }`),
		service.NewBoolField(fieldTombstones).Default(true).Description("Whether a delete is followed by a message without payload, with `shape: envelope`."),
		enum(fieldNullability, nullabilities(), "Which columns of a row can be null in the schema. `column`: those that can be in the table. `always`: all, so that columns can be added and "+
			"dropped whatever compatibility the registry asks for. The key has no nulls."),
		enum(fieldDecimals, decimalForms(), "How decimals look: `bytes`, Avro's decimal with the precision and scale of the column; or `string`. A decimal without precision is a string."),
		enum(fieldTimes, timeForms(), "How dates and times look: Avro's `logical` types, or `string`, which also has infinities, `0000-00-00`, and times of more than a day."),
		enum(fieldArrays, arrayForms(), "How arrays look: `array`, of one dimension; or `string`, the JSON of the array."),
		enum(fieldEnums, enumForms(), "How enumerations of MySQL look: `string`, or Avro's `enum`, whose symbols are the labels, made valid."),
		service.NewStringField(fieldPlaceholder).Default(debezium.DefaultPlaceholder).Description("What stands for a text or bytes that the log does not carry, such as " +
			"an unchanged TOAST value."),
	}
}

func parseAvro(conf *service.ParsedConfig, log registry.Logger) (change.Format, error) {
	r, err := parseRegistry(conf, log)
	if err != nil {
		return nil, err
	}
	f := &avro.Format{Naming: r.naming(registry.Avro)}
	second := func(options []string, field string) (is bool) {
		var v string
		if err == nil {
			v, err = oneOf(conf, options, fieldAvro, field)
			is = v == options[1]
		}
		return is
	}
	f.Shape = avro.ShapeEnvelope
	if second(shapes(), fieldShape) {
		f.Shape = avro.ShapeRow
	}
	f.Optional = second(nullabilities(), fieldNullability)
	f.DecimalText = second(decimalForms(), fieldDecimals)
	f.TimeText = second(timeForms(), fieldTimes)
	f.ArrayText = second(arrayForms(), fieldArrays)
	f.Enums = second(enumForms(), fieldEnums)
	if err == nil {
		f.Tombstones, err = conf.FieldBool(fieldAvro, fieldTombstones)
	}
	if err == nil {
		f.Placeholder, err = conf.FieldString(fieldAvro, fieldPlaceholder)
	}
	if err != nil {
		return nil, err
	}
	deletes, err := deleteRows(conf, fieldAvro, fieldDeleteRows)
	f.Deletes = avro.Deletes(deletes)
	return f, err
}
