package format_test

import (
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/format"
)

func parseFormat(t *testing.T, yaml string) (change.Format, error) {
	t.Helper()
	conf, err := service.NewConfigSpec().Fields(format.Fields()...).ParseYAML(yaml, nil)
	require.NoError(t, err)
	return format.Parse(conf)
}

func TestParse(t *testing.T) {
	for yaml, want := range map[string]change.Format{
		"format: debezium": debezium.Default(),
		"format: debezium\ndebezium: {schemas: true, tombstones: false, truncates: true, decimal: string, time_precision: isostring, binary: hex, bigint_unsigned: precise, interval: string, hstore: map, unavailable_value: gone}": &debezium.Format{
			Schemas: true, Truncates: true, Decimal: debezium.DecimalString, Time: debezium.TimeISO, Binary: debezium.BinaryHex, PreciseUnsigned: true, IntervalText: true, HstoreMap: true, Placeholder: "gone",
		},
		"":                                      envelope.Native{},
		"format: row":                           envelope.Row{Deletes: envelope.DeleteKeep},
		"format: row\nrow: {delete_rows: drop}": envelope.Row{Deletes: envelope.DeleteDrop},
		"format: row\nrow: {delete_rows: null}": envelope.Row{Deletes: envelope.DeleteNull},
		"format: row\nrow: {delete_rows: 'null'}": envelope.Row{Deletes: envelope.DeleteNull},
	} {
		got, err := parseFormat(t, yaml)
		require.NoError(t, err, yaml)
		assert.Equal(t, want, got, yaml)
	}
	for yaml, want := range map[string]string{
		"format: avro": `format: want one of native, row, debezium, got "avro"`,
		"format: debezium\ndebezium: {decimal: money}": `debezium.decimal: want one of precise, string, double, got "money"`,
		"format: row\nrow: {delete_rows: no}":          "row.delete_rows: want keep, null or drop, got no",
	} {
		_, err := parseFormat(t, yaml)
		assert.EqualError(t, err, want, yaml)
	}
}
