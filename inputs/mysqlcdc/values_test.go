package mysqlcdc

import (
	"strings"
	"testing"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/typematrix"
)

// the output of a configuration to lint

// onBothMetadata runs a test on both products, with and without names in the log.
func onBothMetadata(t *testing.T, test func(t *testing.T, b *bench)) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata)
				b.lax(t)
				test(t, b)
			})
		})
	}
}

func TestTypesOptions(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		b.checkTypes(t, []typeCase{
			{column: "BIGINT", insert: "-9223372036854775808", want: `"-9223372036854775808"`},
			{column: "BIGINT", insert: "9223372036854775807", want: `"9223372036854775807"`},
			{column: "BIGINT", insert: "NULL", want: `null`},
			{column: "BIGINT UNSIGNED", insert: "18446744073709551615", want: `"18446744073709551615"`},
			{column: "INT UNSIGNED", insert: "4294967295", want: `4294967295`},
			{column: "BOOL", insert: "TRUE", want: `true`},
			{column: "TINYINT(1)", insert: "0", want: `false`},
			{column: "TINYINT(1)", insert: "-128", want: `true`},
			{column: "TINYINT(1)", insert: "NULL", want: `null`},
			{column: "TINYINT", insert: "1", want: `1`},
			{column: "TINYINT UNSIGNED", insert: "1", want: `1`},
			{column: "DATE NOT NULL", insert: "'0000-00-00'", want: `null`},
			{column: "DATE", insert: "'2024-00-10'", want: `null`},
			{column: "DATE", insert: "'2024-02-00'", want: `null`},
			{column: "DATE", insert: "'2024-02-29'", want: `"2024-02-29"`},
			{column: "DATETIME(3)", insert: "'0000-00-00'", want: `null`},
			{column: "DATETIME", insert: "'2024-10-01 00:00:00'", want: `"2024-10-01T00:00:00"`},
			{column: "TIMESTAMP NULL", insert: "'0000-00-00'", want: `null`},
			{column: "TIMESTAMP(6) NULL", insert: "'2000-10-10 00:00:00'", want: `"2000-10-10T00:00:00.000000Z"`},
			{column: "TIME", insert: "'00:00:00'", want: `"00:00:00"`},
			{column: "YEAR", insert: "0", want: `0`},
		}, "bigint: string\ntinyint1: boolean\nzero_date: null")
	})
}

// TestTypesQuotedKey: the key has the same form as the row.
func TestTypesQuotedKey(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id BIGINT UNSIGNED PRIMARY KEY)")
		r := start(t, b.newLog(t, "bigint: string"), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (18446744073709551615)")
		require.Equal(t, []string{`c {"id":"18446744073709551615"} - {"id":"18446744073709551615"}`}, rows(t, r.take(t, 1)))
	})
}

// TestTypesBadValues: a value that cannot be delivered marks its message with column, table and place; the others go on.
func TestTypesBadValues(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v VARBINARY(9), d DATE)")
		l := b.newLog(t, "zero_date: error")
		r := start(t, l, checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (2, 'x', '0000-00-00'), (3, 'y', '2024-02-29')")
		got := r.take(t, 2)
		require.ErrorIs(t, got[0].err, row.ErrZeroDate)
		require.ErrorContains(t, got[0].err, "decoding row 0 of "+b.db+".c at bin.")
		require.ErrorContains(t, got[0].err, "column d: a date with a zero month or day: 0000-00-00")
		require.NoError(t, got[1].err)
	})
}

func TestValueOptions(t *testing.T) {
	parse := func(yaml string) (row.Options, error) {
		conf, err := spec().ParseYAML("name: n\ndsn: u@tcp(h:1)/\n"+yaml, nil)
		if err != nil {
			return row.Options{}, err
		}
		return row.ParseOptions(conf)
	}
	o, err := parse("")
	require.NoError(t, err)
	require.Equal(t, row.Options{Bigint: "number", Tinyint1: "number", ZeroDate: "text", Undecodable: "error"}, o)
	o, err = parse("bigint: string\ntinyint1: boolean\nzero_date: null\nundecodable_text: base64")
	require.NoError(t, err)
	require.Equal(t, row.Options{Bigint: "string", Tinyint1: "boolean", ZeroDate: "null", Undecodable: "base64"}, o)
	o, err = parse(`zero_date: "null"`)
	require.NoError(t, err)
	require.Equal(t, "null", o.ZeroDate)
	for _, bad := range []string{"bigint: text", "tinyint1: bool", "zero_date: zero", "zero_date: 1", "undecodable_text: skip"} {
		_, err = parse(bad)
		require.ErrorContains(t, err, strings.Split(bad, ":")[0]+": want", bad)
	}
}

// TestZeroDateLints: null is a word of YAML, and means the same with and without quotes.
func TestZeroDateLints(t *testing.T) {
	linter := service.NewEnvironment().FullConfigSchema("", "").NewStreamConfigLinter()
	for yaml, ok := range map[string]bool{"null": true, `"null"`: true, "text": true, "error": true, "zero": false} {
		lints, err := linter.LintYAML([]byte("input:\n  deltaforge_mysql:\n    name: n\n    dsn: u@tcp(h:1)/\n    zero_date: " + yaml + "\noutput:\n  drop: {}\n"))
		require.NoError(t, err)
		require.Equal(t, ok, len(lints) == 0, "%s: %v", yaml, lints)
	}
}

// TestSchemaOfSigns: what the schema metadata says of integers by their signs and sizes.
func TestSchemaOfSigns(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	b.exec(t, "CREATE TABLE c (a INT, b INT UNSIGNED, c BIGINT, d BIGINT UNSIGNED, e VECTOR(2), f POINT)")
	r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
	b.exec(t, "INSERT INTO c VALUES (1, 2, 3, 4, TO_VECTOR('[1,2]'), NULL)")
	common, err := typematrix.Read(r.take(t, 1)[0].event.Table.CommonSchema())
	require.NoError(t, err)
	var types []string
	for _, c := range common.Children {
		types = append(types, c.Type.String())
	}
	require.Equal(t, []string{"INT32", "INT64", "INT64", "DECIMAL", "ARRAY", "OBJECT"}, types)
}
