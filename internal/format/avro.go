package format

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/avro"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
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
func shapes() []string { return texts(confluent.ShapeEnvelope, confluent.ShapeRow) }

func rowDeletes() []string {
	return texts(confluent.DeleteKeep, confluent.DeleteNull, confluent.DeleteDrop)
}
func nullabilities() []string { return []string{"column", "always"} }
func decimalForms() []string  { return []string{"bytes", "string"} }
func timeForms() []string     { return []string{"logical", "string"} }
func arrayForms() []string    { return []string{"array", "string"} }
func enumForms() []string     { return []string{"string", "enum"} }

// shapingFields say which messages an event has.
func shapingFields(envelope, row string) []*service.ConfigField {
	return []*service.ConfigField{
		enum(fieldShape, shapes(), "What a message holds. `envelope`: "+envelope+". `row`: "+row+"."),
		service.NewAnyField(fieldDeleteRows).Default(rowDeletes()[0]).Description("What becomes of deletes with `shape: row`: `keep`, the row that was there; `null`, a message " +
			"without payload, by which a compacted topic forgets the key; or `drop`, no message.").
			Example("null").LintRule(`root = if ![null, "keep", "null", "drop"].contains(this) { ["want keep, null or drop"] }`),
		service.NewBoolField(fieldTombstones).Default(true).Description("Whether a delete is followed by a message without payload, with `shape: envelope`."),
	}
}

func parseShaping(conf *service.ParsedConfig, name string) (s confluent.Shaping, err error) {
	shape, err := oneOf(conf, shapes(), name, fieldShape)
	if err != nil {
		return s, err
	}
	s.Shape = confluent.Shape(shape)
	if s.Tombstones, err = conf.FieldBool(name, fieldTombstones); err != nil {
		return s, err
	}
	deletes, err := deleteRows(conf, name, fieldDeleteRows)
	s.Deletes = confluent.Deletes(deletes)
	return s, err
}

// seconds returns a function that reports whether a field has the second of its values, which is not the default.
func seconds(conf *service.ParsedConfig, name string, err *error) func(options []string, field string) bool {
	return func(options []string, field string) bool {
		if *err != nil {
			return false
		}
		var v string
		v, *err = oneOf(conf, options, name, field)
		return v == options[1]
	}
}

func avroFields() []*service.ConfigField {
	return append(shapingFields("a record with `before`, `after`, `source`, `op` and the times, as Debezium's Avro has it", "the record of the row alone"),
		enum(fieldNullability, nullabilities(), "Which columns of a row can be null in the schema. `column`: those that can be in the table. `always`: all, so that columns can be added and "+
			"dropped whatever compatibility the registry asks for. The key has no nulls."),
		enum(fieldDecimals, decimalForms(), "How decimals look: `bytes`, Avro's decimal with the precision and scale of the column; or `string`. A decimal without precision is a string."),
		enum(fieldTimes, timeForms(), "How dates and times look: Avro's `logical` types, or `string`, which also has infinities, `0000-00-00`, and times of more than a day."),
		enum(fieldArrays, arrayForms(), "How arrays look: `array`, of one dimension; or `string`, the JSON of the array."),
		enum(fieldEnums, enumForms(), "How enumerations of MySQL look: `string`, or Avro's `enum`, whose symbols are the labels, made valid."),
		service.NewStringField(fieldPlaceholder).Default(debezium.DefaultPlaceholder).Description("What stands for a text or bytes that the log does not carry, such as "+
			"an unchanged TOAST value."),
	)
}

func parseAvro(conf *service.ParsedConfig, log registry.Logger) (change.Format, error) {
	r, err := parseRegistry(conf, formatAvro, log)
	if err != nil {
		return nil, err
	}
	f := &avro.Format{Naming: r.naming(registry.Avro)}
	if f.Shaping, err = parseShaping(conf, fieldAvro); err != nil {
		return nil, err
	}
	second := seconds(conf, fieldAvro, &err)
	f.Optional = second(nullabilities(), fieldNullability)
	f.DecimalText = second(decimalForms(), fieldDecimals)
	f.TimeText = second(timeForms(), fieldTimes)
	f.ArrayText = second(arrayForms(), fieldArrays)
	f.Enums = second(enumForms(), fieldEnums)
	if err == nil {
		f.Placeholder, err = conf.FieldString(fieldAvro, fieldPlaceholder)
	}
	return f, err
}
