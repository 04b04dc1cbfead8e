package postgrescdc

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// typeCases are types, literals and the JSON that consumers get, written by hand from the table in the documentation.
var typeCases = []struct{ typ, literal, want string }{
	{"smallint", "-32768", `-32768`},
	{"int", "2147483647", `2147483647`},
	{"bigint", "-9223372036854775808", `-9223372036854775808`},
	{"oid", "4294967295", `4294967295`},
	{"numeric", "123456789012345678901234567890.1234567890", `"123456789012345678901234567890.1234567890"`},
	{"numeric(10,2)", "10", `"10.00"`},
	{"numeric", "'NaN'", `"NaN"`},
	{"numeric", "'-Infinity'", `"-Infinity"`},
	{"money", "'$1,234.50'", `"$1,234.50"`},
	{"real", "3.3", `3.3`},
	{"double precision", "0.1", `0.1`},
	{"double precision", "'Infinity'", `"Infinity"`},
	{"real", "'NaN'", `"NaN"`},
	{"boolean", "true", `true`},
	{"boolean", "NULL", `null`},
	{"text", `E'a"b\\c\n\u00e9'`, `"a\"b\\c\né"`},
	{"varchar(10)", "''", `""`},
	{"char(4)", "'ab'", `"ab  "`},
	{`"char"`, "'x'", `"x"`},
	{"name", "'n'", `"n"`},
	{"bytea", `'\x00ff10'`, `{"_base64":"AP8Q"}`},
	{"json", `'{"b": 1,  "a": [1.10]}'`, `{"b": 1,  "a": [1.10]}`},
	{"jsonb", `'{"b": 1,  "a": [1.10]}'`, `{"a": [1.10], "b": 1}`},
	{"date", "'2024-02-29'", `"2024-02-29"`},
	{"date", "'infinity'", `"infinity"`},
	{"date", "'0044-03-15 BC'", `"0044-03-15 BC"`},
	{"time", "'13:51:30.5'", `"13:51:30.500000"`},
	{"time(0)", "'13:51:30.5'", `"13:51:31"`},
	{"time(3)", "'13:51:30.1'", `"13:51:30.100"`},
	{"timetz", "'13:51:30.5+02'", `"13:51:30.500000+02"`},
	{"timestamp", "'2024-02-29 13:51:30'", `"2024-02-29T13:51:30.000000"`},
	{"timestamp(3)", "'2024-02-29 13:51:30.12'", `"2024-02-29T13:51:30.120"`},
	{"timestamp(0)", "'2024-02-29 13:51:30'", `"2024-02-29T13:51:30"`},
	{"timestamp", "'12024-02-29 13:51:30'", `"12024-02-29T13:51:30.000000"`},
	{"timestamptz", "'2024-02-29 13:51:30.123456+02'", `"2024-02-29T11:51:30.123456Z"`},
	{"timestamptz", "'-infinity'", `"-infinity"`},
	{"timestamptz", "'0044-03-15 00:00:00+00 BC'", `"0044-03-15 00:00:00+00 BC"`},
	{"interval", "'1 year 2 months 3 days 4:05:06.78'", `"P1Y2M3DT4H5M6.78S"`},
	{"uuid", "'3e11fa47-71ca-11e1-9e33-c80aa9429562'", `"3e11fa47-71ca-11e1-9e33-c80aa9429562"`},
	{"inet", "'10.0.0.1/8'", `"10.0.0.1/8"`},
	{"cidr", "'10.0.0.0/8'", `"10.0.0.0/8"`},
	{"macaddr", "'08:00:2b:01:02:03'", `"08:00:2b:01:02:03"`},
	{"xml", "'<a>1</a>'", `"<a>1</a>"`},
	{"bit", "B'1'", `true`},
	{"bit(4)", "B'0101'", `"0101"`},
	{"varbit", "B'101'", `"101"`},
	{"int4range", "'[1,5)'", `"[1,5)"`},
	{"int4multirange", "'{[1,5)}'", `"{[1,5)}"`},
	{"tsvector", "'a:1 b'", `"'a':1 'b'"`},
	{"point", "'(1,2)'", `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":0}`},
	{"mood", "'so so'", `"so so"`},
	{"positive", "7", `7`},
	{"pair", `ROW(1, 'a "b", c')`, `{"n":1,"t":"a \"b\", c"}`},
	{"pair", `ROW(NULL, '')`, `{"n":null,"t":""}`},
	{"int[]", "'{1,NULL,3}'", `[1,null,3]`},
	{"int[]", "'{{1,2},{3,4}}'", `[[1,2],[3,4]]`},
	{"int[]", "'[0:1]={1,2}'", `[1,2]`},
	{"int[]", "'{}'", `[]`},
	{"text[]", `ARRAY['1','a"b','c,d','NULL',NULL,'','{x}',E'\\']`, `["1","a\"b","c,d","NULL",null,"","{x}","\\"]`},
	{"numeric(5,1)[]", "'{1,2.5}'", `["1.0","2.5"]`},
	{"bytea[]", `ARRAY['\x01'::bytea]`, `[{"_base64":"AQ=="}]`},
	{"timestamptz[]", "ARRAY['2024-02-29 13:51:30+02'::timestamptz]", `["2024-02-29T11:51:30.000000Z"]`},
	{"jsonb[]", `ARRAY['{"a":1}'::jsonb]`, `[{"a": 1}]`},
	{"mood[]", "ARRAY['so so','happy']::mood[]", `["so so","happy"]`},
	{"positive[]", "ARRAY[1,2]::positive[]", `[1,2]`},
	{"pair[]", `ARRAY[ROW(1,'x')::pair, NULL]`, `[{"n":1,"t":"x"},null]`},
	{"nested", `ROW(ROW(1,'q"')::pair, ARRAY['a','b'])`, `{"p":{"n":1,"t":"q\""},"l":["a","b"]}`},
	{"box[]", "ARRAY[box '(1,2),(0,1)', box '(3,3),(2,2)']", `["(1,2),(0,1)","(3,3),(2,2)"]`},
	{"int2vector", "'1 2 3'", `[1,2,3]`},
	{"pg_lsn", "'0/16B3748'", `"0/16B3748"`},
}

func TestTypes(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy')", "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
		"CREATE TYPE pair AS (n int, t text)", "CREATE TYPE nested AS (p pair, l text[])")
	columns, values := "id int PRIMARY KEY", "1"
	want := `c types {"before":null,"after":{"id":1`
	for i, c := range typeCases {
		name := "c" + xidText(uint32(i))
		columns += ", " + name + " " + c.typ
		values += ", " + c.literal
		want += `,"` + name + `":` + c.want
	}
	d.exec("CREATE TABLE types ("+columns+")", "ALTER DATABASE "+d.name+" SET DateStyle = 'SQL, DMY'")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec("INSERT INTO types VALUES (" + values + ")")
	require.Equal(t, want+"}}", short(t, s.events(1)[0]))
	assert.Contains(t, log.all(), "has the type box[]")
	assert.NotContains(t, log.all(), "has the type mood")
}

func TestHstore(t *testing.T) {
	d := newDatabase(t)
	if d.queryText("SELECT count(*)::text FROM pg_available_extensions WHERE name = 'hstore'") == "0" {
		t.Skip("NOT TESTED, the server has no hstore")
	}
	d.exec("CREATE EXTENSION hstore", "CREATE TABLE h (id int PRIMARY KEY, v hstore)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec(`INSERT INTO h VALUES (1, 'a=>1, b=>NULL, "c d"=>"x\"y, z"'), (2, '')`)
	require.Equal(t, []string{
		`c h {"before":null,"after":{"id":1,"v":{"a":"1","b":null,"c d":"x\"y, z"}}}`,
		`c h {"before":null,"after":{"id":2,"v":{}}}`,
	}, shorts(t, s.events(2)))
}
