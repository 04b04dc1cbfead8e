package mysqlcdc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// typeCase is a column and the JSON of a value in it.
type typeCase struct {
	column string // type and options
	insert string // SQL
	want   string
	only   string // "mysql" or "mariadb"; empty for both
}

func typeCases() []typeCase {
	return []typeCase{
		{column: "TINYINT", insert: "-128", want: "-128"},
		{column: "TINYINT(1)", insert: "1", want: "1"},
		{column: "TINYINT UNSIGNED", insert: "255", want: "255"},
		{column: "SMALLINT", insert: "-32768", want: "-32768"},
		{column: "SMALLINT UNSIGNED", insert: "65535", want: "65535"},
		{column: "MEDIUMINT", insert: "-8388608", want: "-8388608"},
		{column: "MEDIUMINT UNSIGNED", insert: "16777215", want: "16777215"},
		{column: "INT", insert: "-2147483648", want: "-2147483648"},
		{column: "INT UNSIGNED", insert: "4294967295", want: "4294967295"},
		{column: "BIGINT", insert: "-9223372036854775808", want: "-9223372036854775808"},
		{column: "BIGINT UNSIGNED", insert: "18446744073709551615", want: "18446744073709551615"},
		{column: "DECIMAL(65,30)", insert: "-12345678901234567890123456789012345.123456789012345678901234567890", want: `"-12345678901234567890123456789012345.123456789012345678901234567890"`},
		{column: "DECIMAL(10,2)", insert: "10", want: `"10.00"`},
		{column: "DECIMAL(10,2)", insert: "-0.05", want: `"-0.05"`},
		{column: "DECIMAL(9,9)", insert: "0.000000001", want: `"0.000000001"`},
		{column: "DECIMAL(18,0)", insert: "-1000000000", want: `"-1000000000"`},
		{column: "FLOAT", insert: "3.3", want: "3.3"},
		{column: "DOUBLE", insert: "-1.7976931348623157e308", want: "-1.7976931348623157e+308"},
		{column: "DOUBLE", insert: "0.1", want: "0.1"},
		{column: "YEAR", insert: "2155", want: "2155"},
		{column: "YEAR", insert: "0", want: "0"},
		{column: "DATE", insert: "'9999-12-31'", want: `"9999-12-31"`},
		{column: "DATE", insert: "'0000-00-00'", want: `"0000-00-00"`},
		{column: "DATE", insert: "'2024-00-10'", want: `"2024-00-10"`},
		{column: "DATETIME", insert: "'2024-02-29 13:51:30'", want: `"2024-02-29T13:51:30"`},
		{column: "DATETIME(1)", insert: "'1000-01-01 00:00:00.9'", want: `"1000-01-01T00:00:00.9"`},
		{column: "DATETIME(3)", insert: "'2024-02-29 13:51:30.123'", want: `"2024-02-29T13:51:30.123"`},
		{column: "DATETIME(6)", insert: "'9999-12-31 23:59:59.999999'", want: `"9999-12-31T23:59:59.999999"`},
		{column: "DATETIME(2)", insert: "'0000-00-00'", want: `"0000-00-00 00:00:00.00"`},
		{column: "TIMESTAMP NULL", insert: "'2024-02-29 13:51:30'", want: `"2024-02-29T13:51:30Z"`},
		{column: "TIMESTAMP(6) NULL", insert: "'2038-01-19 03:14:07.499999'", want: `"2038-01-19T03:14:07.499999Z"`},
		{column: "TIMESTAMP(3) NULL", insert: "'0000-00-00'", want: `"0000-00-00 00:00:00.000"`},
		{column: "TIME", insert: "'-838:59:59'", want: `"-838:59:59"`},
		{column: "TIME", insert: "'00:00:00'", want: `"00:00:00"`},
		{column: "TIME(1)", insert: "'-00:00:00.1'", want: `"-00:00:00.1"`},
		{column: "TIME(2)", insert: "'-12:34:56.78'", want: `"-12:34:56.78"`},
		{column: "TIME(3)", insert: "'-00:00:01.001'", want: `"-00:00:01.001"`},
		{column: "TIME(4)", insert: "'12:34:56.7891'", want: `"12:34:56.7891"`},
		{column: "TIME(6)", insert: "'-00:00:00.000001'", want: `"-00:00:00.000001"`},
		{column: "TIME(6)", insert: "'838:59:58.999999'", want: `"838:59:58.999999"`},
		{column: "BIT(1)", insert: "b'1'", want: "true"},
		{column: "BIT(8)", insert: "b'101'", want: `"00000101"`},
		{column: "BIT(12)", insert: "b'100000000001'", want: `"100000000001"`},
		{column: "BIT(64)", insert: "b'1'", want: `"` + strings.Repeat("0", 63) + `1"`},
		{column: "CHAR(5)", insert: "'ü '", want: `"ü"`},
		{column: "CHAR(255)", insert: "REPEAT('ü', 255)", want: `"` + strings.Repeat("ü", 255) + `"`},
		{column: "VARCHAR(10)", insert: "'a \\\"\\\\\\n'", want: `"a \"\\\n"`},
		{column: "VARCHAR(300)", insert: "'😀'", want: `"😀"`},
		{column: "VARCHAR(20) CHARACTER SET latin1", insert: "'Zürich €'", want: `"Zürich €"`},
		{column: "VARCHAR(20) CHARACTER SET sjis", insert: "'日本語'", want: `"日本語"`},
		{column: "VARCHAR(20) CHARACTER SET gbk", insert: "'中文'", want: `"中文"`},
		{column: "VARCHAR(20) CHARACTER SET utf16", insert: "'a😀'", want: `"a😀"`},
		{column: "VARCHAR(20) CHARACTER SET utf32", insert: "'a😀'", want: `"a😀"`},
		{column: "VARCHAR(20) CHARACTER SET ucs2", insert: "'añ'", want: `"añ"`},
		{column: "VARCHAR(20) CHARACTER SET cp1251", insert: "'Привет'", want: `"Привет"`},
		{column: "VARCHAR(20) CHARACTER SET koi8r", insert: "'Привет'", want: `"Привет"`},
		{column: "VARCHAR(20) CHARACTER SET swe7", insert: "'Åäé'", want: `"Åäé"`},
		{column: "VARCHAR(20) CHARACTER SET armscii8", insert: "'Հայ'", want: `"Հայ"`},
		{column: "VARCHAR(20) CHARACTER SET ascii", insert: "'a'", want: `"a"`},
		{column: "VARCHAR(20) CHARACTER SET big5", insert: "'中文'", want: `"中文"`},
		{column: "TEXT CHARACTER SET ujis", insert: "'日本語'", want: `"日本語"`},
		{column: "TEXT CHARACTER SET euckr", insert: "'한국'", want: `"한국"`},
		{column: "TINYTEXT", insert: "'t'", want: `"t"`},
		{column: "MEDIUMTEXT", insert: "REPEAT('m', 70000)", want: `"` + strings.Repeat("m", 70000) + `"`},
		{column: "LONGTEXT", insert: "''", want: `""`},
		{column: "BINARY(4)", insert: "x'01'", want: `{"_base64":"AQAAAA=="}`},
		{column: "VARBINARY(4)", insert: "x'01ff'", want: `{"_base64":"Af8="}`},
		{column: "BLOB", insert: "x'00ff'", want: `{"_base64":"AP8="}`},
		{column: "TINYBLOB", insert: "''", want: `{"_base64":""}`},
		{column: "ENUM('a','it''s','ü,x')", insert: "'ü,x'", want: `"ü,x"`},
		{column: "ENUM('a','it''s')", insert: "'it''s'", want: `"it's"`},
		{column: "ENUM('a','b') CHARACTER SET latin1", insert: "''", want: `""`},
		{column: "ENUM('é','ô') CHARACTER SET latin1", insert: "'ô'", want: `"ô"`},
		{column: "SET('x','y','z')", insert: "'z,x'", want: `"x,z"`},
		{column: "SET('x','y','z')", insert: "''", want: `""`},
		{column: "POINT", insert: "ST_GeomFromText('POINT(1 2)')", want: `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":0}`},
		{column: "JSON", insert: `'{"b": 1, "aa": [true, null, "x", -1.5], "a": {}}'`, want: `{"a":{},"b":1,"aa":[true,null,"x",-1.5]}`, only: "mysql"},
		{column: "JSON", insert: `'18446744073709551615'`, want: `18446744073709551615`, only: "mysql"},
		{column: "JSON", insert: `'[-9223372036854775808, 65536, -32769, 1.0, 1e300]'`, want: `[-9223372036854775808,65536,-32769,1.0,1e+300]`, only: "mysql"},
		{column: "JSON", insert: `JSON_ARRAY(CAST(1.10 AS DECIMAL(5,2)), CAST('2024-02-29' AS DATE), CAST('2024-02-29 01:02:03.4' AS DATETIME(6)), CAST('-01:02:03' AS TIME))`, want: `[1.10,"2024-02-29","2024-02-29 01:02:03.400000","-01:02:03.000000"]`, only: "mysql"},
		{column: "JSON", insert: `CONCAT('["', REPEAT('x', 70000), '"]')`, want: `["` + strings.Repeat("x", 70000) + `"]`, only: "mysql"},
		{column: "JSON", insert: `'{"b": 1}'`, want: `"{\"b\": 1}"`, only: "mariadb"},
		{column: "VECTOR(2)", insert: "TO_VECTOR('[1,-2.5]')", want: "[1,-2.5]", only: "mysql"},
		{column: "INT", insert: "NULL", want: "null"},
	}
}

// TestTypes writes a row with a column of every type and compares the JSON of each, with and without names in the log.
func TestTypes(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "SET SESSION sql_mode = ''", "SET time_zone = '+00:00'",
					"SET NAMES utf8mb4")
				columns, values, want := []string{"id INT PRIMARY KEY"}, []string{"1"}, []string{`"id":1`}
				for i, c := range typeCases() {
					if c.only != "" && (c.only == "mariadb") != b.srv.IsMariaDB() {
						continue
					}
					columns = append(columns, fmt.Sprintf("c%d %s", i, c.column))
					values = append(values, c.insert)
					want = append(want, fmt.Sprintf(`"c%d":%s`, i, c.want))
				}
				b.exec(t, "CREATE TABLE c ("+strings.Join(columns, ", ")+") ROW_FORMAT=DYNAMIC")
				r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO c VALUES ("+strings.Join(values, ", ")+")")
				got := r.take(t, 1)
				require.NoError(t, got[0].err)
				after := strings.TrimSuffix(strings.TrimPrefix(part(got[0].raw, "after"), "{"), "}")
				for _, w := range want {
					if !strings.HasPrefix(after, w) {
						name, _, _ := strings.Cut(w, ":")
						require.FailNow(t, "column "+name, "want %.200s\ngot  %.200s", w, after)
					}
					after = strings.TrimPrefix(strings.TrimPrefix(after, w), ",")
				}
				require.Empty(t, after)
			})
		})
	}
}

// TestTypeText compares the type that is worked out from the log with the type that the server shows.
func TestTypeText(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	columns := []string{"id INT PRIMARY KEY"}
	for i, c := range typeCases() {
		if c.only != "mariadb" && c.column != "TINYINT(1)" && c.column != "POINT" && !strings.HasPrefix(c.column, "VECTOR") {
			columns = append(columns, fmt.Sprintf("c%d %s", i, c.column))
		}
	}
	b.exec(t, "CREATE TABLE c ("+strings.Join(columns, ", ")+") ROW_FORMAT=DYNAMIC")
	types := func(metadata string) (out []string) {
		b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata)
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c (id) VALUES (1)", "DELETE FROM c")
		for _, col := range r.take(t, 2)[0].event.Table.Columns {
			out = append(out, fmt.Sprintf("%+v", col))
		}
		return out
	}
	require.Equal(t, types("MINIMAL"), types("FULL"))
}

func TestDDL(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "CREATE TABLE c (id INT PRIMARY KEY, a INT)")
				l := b.newLog(t, "")
				r := start(t, l, checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO c VALUES (1, 2)")
				one := r.take(t, 1)
				b.exec(t, "ALTER TABLE c ADD b BIGINT UNSIGNED FIRST", "INSERT INTO c VALUES (18446744073709551615, 2, 3)")
				two := r.take(t, 1)
				b.exec(t, "ALTER TABLE c RENAME COLUMN a TO z", "INSERT INTO c VALUES (1, 3, 4)")
				three := r.take(t, 1)
				require.Equal(t, []string{
					`c {"id":1} - {"id":1,"a":2}`, `c {"id":2} - {"b":18446744073709551615,"id":2,"a":3}`,
					`c {"id":3} - {"b":1,"id":3,"z":4}`,
				}, rows(t, append(append(one, two...), three...)))
				tok := r.tok
				r.stop(t)

				// Rows of another shape than the table has now.
				b.exec(t, "INSERT INTO c VALUES (5, 5, 5)", "ALTER TABLE c DROP COLUMN b")
				r = start(t, l, reparsed(tok))
				if metadata == "FULL" {
					require.Equal(t, []string{`c {"id":5} - {"b":5,"id":5,"z":5}`}, rows(t, r.connected(t).take(t, 1)))
					return
				}
				err := r.fail(t)
				require.Equal(t, coordinator.KindSchema, coordinator.KindOf(err))
				require.ErrorContains(t, err, b.db+".c at bin.")
				require.ErrorContains(t, err, "its rows in the log have 3 columns, the table has 2 now")
			})
		})
	}
}
