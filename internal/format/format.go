// Package format is the configuration of what messages look like.
package format

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
)

// The fields of the configuration that say what messages look like.
const (
	fieldFormat     = "format"
	fieldRow        = "row"
	fieldDeleteRows = "delete_rows"

	fieldDebezium       = "debezium"
	fieldSchemas        = "schemas"
	fieldTombstones     = "tombstones"
	fieldTruncates      = "truncates"
	fieldDecimal        = "decimal"
	fieldTimePrecision  = "time_precision"
	fieldBinary         = "binary"
	fieldBigintUnsigned = "bigint_unsigned"
	fieldInterval       = "interval"
	fieldHstore         = "hstore"
	fieldPlaceholder    = "unavailable_value"
)

// The formats.
const (
	formatNative   = "native"
	formatRow      = "row"
	formatDebezium = "debezium"
	formatAvro     = "avro"
	formatCloud    = "cloudevents"
	formatJSON     = "json_schema"
	formatProtobuf = "protobuf"
)

// The values of the options of the format debezium, the defaults first.
func decimals() []string {
	return texts(debezium.DecimalPrecise, debezium.DecimalString, debezium.DecimalDouble)
}

func precisions() []string {
	return texts(debezium.TimeAdaptive, debezium.TimeConnect, debezium.TimeMicroseconds, debezium.TimeNanoseconds, debezium.TimeISO)
}

func binaries() []string {
	return texts(debezium.BinaryBytes, debezium.BinaryBase64, debezium.BinaryBase64URL, debezium.BinaryHex)
}

func bigints() []string   { return []string{"long", "precise"} }
func intervals() []string { return []string{"numeric", "string"} }
func hstores() []string   { return []string{"json", "map"} }

func texts[S ~string](values ...S) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// Fields are the fields of the configuration that say what messages look like.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringEnumField(fieldFormat, formats()...).Default(formatNative).
			Description("What messages look like. `native`: our envelope, with the row before and after the change, and where it comes from. `row`: the row " +
				"alone, flat; what happened to it is in the metadata `operation`. `debezium`: what Debezium's JSON converter writes, for consumers that " +
				"are there already. `avro`: Avro with a schema registry, in Confluent's wire format. `protobuf`: Protocol Buffers with a schema registry. `json_schema`: JSON with a schema registry. `cloudevents`: CloudEvents 1.0. See [Formats](../formats.md)."),
		service.NewObjectField(fieldRow,
			// null is a word of YAML: the linter must let it pass with and without quotes.
			service.NewAnyField(fieldDeleteRows).Default(string(envelope.DeleteKeep)).
				Description("What becomes of deletes: `keep`, the row that was there, as far as the log has it; `null`; or `drop`, no message.").
				Example(string(envelope.DeleteNull)).
				LintRule(`root = if ![null, "keep", "null", "drop"].contains(this) { ["want keep, null or drop"] }`),
		).Description("Options of the format `row`.").Optional().Advanced(),
		service.NewObjectField(fieldDebezium, debeziumFields()...).Description("Options of the format `debezium`. The defaults are Debezium's.").Optional().Advanced(),
		service.NewObjectField(fieldJSON, jsonFields()...).Description("Options of the format `json_schema`.").Optional().Advanced(),
		service.NewObjectField(fieldCloud, cloudFields()...).Description("Options of the format `cloudevents`.").Optional().Advanced(),
		service.NewObjectField(fieldAvro, avroFields()...).Description("Options of the format `avro`.").Optional().Advanced(),
		service.NewObjectField(fieldProtobuf, protobufFields()...).Description("Options of the format `protobuf`.").Optional().Advanced(),
		service.NewObjectField(fieldRegistry, registryFields()...).Description("The schema registry of the formats `avro`, `protobuf` and `json_schema`.").Optional().Advanced(),
	}
}

// enum is a field with a list of values, the default first.
func enum(name string, values []string, what string) *service.ConfigField {
	return service.NewStringEnumField(name, values...).Default(values[0]).Description(what)
}

func debeziumFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewBoolField(fieldSchemas).Default(false).Description("Whether each payload and key has its schema beside it, `{\"schema\":…,\"payload\":…}`, as with " +
			"`schemas.enable=true` of the JSON converter. A message is then several times as large."),
		service.NewBoolField(fieldTombstones).Default(true).Description("Whether a delete is followed by a message without payload, by which a compacted " +
			"topic forgets the key. Leave `tombstones` of `deltaforge_kafka` alone: it adds none where there is one. Redis has no use for them."),
		service.NewBoolField(fieldTruncates).Default(false).Description("Whether truncates are delivered. They have no key, so a consumer that reads several " +
			"partitions cannot tell which rows came before."),
		enum(fieldDecimal, decimals(), "How decimals and `money` look: `precise`, the bytes of an integer in base64, of which the schema has the scale; `string`; or "+
			"`double`, a number that can lose digits."),
		enum(fieldTimePrecision, precisions(), "How dates and times without a zone look. `adaptive`: numbers of milliseconds or microseconds, as precise as the column. "+
			"`connect`: milliseconds, which can lose digits. `isostring`: text."),
		enum(fieldBinary, binaries(), "How bytes look. `bytes` and `base64` are the same text."),
		enum(fieldBigintUnsigned, bigints(), "How `BIGINT UNSIGNED` of MySQL looks: `long`, a signed integer, which is negative from 2^63 on; or `precise`, as a `precise` decimal."),
		enum(fieldInterval, intervals(), "How `interval` of PostgreSQL looks: `numeric`, microseconds, with months of 30.4375 days; or `string`, ISO 8601."),
		enum(fieldHstore, hstores(), "How `hstore` of PostgreSQL looks: `json`, a string with an object in it; or `map`, an object."),
		service.NewStringField(fieldPlaceholder).Default(debezium.DefaultPlaceholder).Description("What stands for a value that the log does not carry, such as " +
			"an unchanged TOAST value."),
	}
}

func formats() []string {
	return []string{formatNative, formatRow, formatDebezium, formatAvro, formatProtobuf, formatJSON, formatCloud}
}

// Parse reads those fields.
func Parse(conf *service.ParsedConfig, res *service.Resources) (change.Format, error) {
	name, err := oneOf(conf, formats(), fieldFormat)
	switch {
	case err != nil:
		return nil, err
	case name == formatRow:
		return parseRow(conf)
	case name == formatDebezium:
		return parseDebezium(conf)
	case name == formatAvro:
		return parseAvro(conf, res.Logger())
	case name == formatProtobuf:
		return parseProtobuf(conf, res.Logger())
	case name == formatJSON:
		return parseJSON(conf, res.Logger())
	case name == formatCloud:
		return parseCloud(conf)
	default:
		return envelope.Native{}, nil
	}
}

func parseDebezium(conf *service.ParsedConfig) (*debezium.Format, error) {
	f := debezium.Default()
	var err error
	flag := func(dst *bool, field string) {
		if err == nil {
			*dst, err = conf.FieldBool(fieldDebezium, field)
		}
	}
	enum := func(options []string, field string) (v string) {
		if err == nil {
			v, err = oneOf(conf, options, fieldDebezium, field)
		}
		return v
	}
	flag(&f.Schemas, fieldSchemas)
	flag(&f.Tombstones, fieldTombstones)
	flag(&f.Truncates, fieldTruncates)
	f.Decimal = debezium.Decimal(enum(decimals(), fieldDecimal))
	f.Time = debezium.TimePrecision(enum(precisions(), fieldTimePrecision))
	f.Binary = debezium.Binary(enum(binaries(), fieldBinary))
	f.PreciseUnsigned = enum(bigints(), fieldBigintUnsigned) == bigints()[1]
	f.IntervalText = enum(intervals(), fieldInterval) == intervals()[1]
	f.HstoreMap = enum(hstores(), fieldHstore) == hstores()[1]
	if err == nil {
		f.Placeholder, err = conf.FieldString(fieldDebezium, fieldPlaceholder)
	}
	return f, err
}

func parseRow(conf *service.ParsedConfig) (envelope.Row, error) {
	v, err := deleteRows(conf, fieldRow, fieldDeleteRows)
	return envelope.Row{Deletes: envelope.DeleteRows(v)}, err
}

// deleteRows reads what becomes of deletes. null is a word of YAML.
func deleteRows(conf *service.ParsedConfig, path ...string) (string, error) {
	v, err := conf.FieldAny(path...)
	if err != nil {
		return "", err
	}
	switch v {
	case nil:
		return string(envelope.DeleteNull), nil
	case string(envelope.DeleteKeep), string(envelope.DeleteNull), string(envelope.DeleteDrop):
		return fmt.Sprint(v), nil
	default:
		return "", fmt.Errorf("%s: want keep, null or drop, got %v", strings.Join(path, "."), v)
	}
}

// oneOf reads an enumeration; the engine checks those only when it lints.
func oneOf(conf *service.ParsedConfig, options []string, path ...string) (string, error) {
	v, err := conf.FieldString(path...)
	if err != nil {
		return "", err
	}
	if slices.Contains(options, v) {
		return v, nil
	}
	return "", fmt.Errorf("%s: want one of %s, got %q", strings.Join(path, "."), strings.Join(options, ", "), v)
}
