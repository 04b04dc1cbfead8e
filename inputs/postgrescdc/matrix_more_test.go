package postgrescdc

import (
	"strings"
)

// moreTypeCases has further extensions, what is left of the server's own types, and arrays of them.
func moreTypeCases() []typeCase {
	return []typeCase{
		{typ: "ltxtquery", literal: "'a & !b@'", want: `"a & !b@"`, needs: "ltree"},
		{typ: "ltree[]", literal: "ARRAY['a.b'::ltree, NULL]", want: `["a.b",null]`, needs: "ltree"},
		{typ: "seg", literal: "'1.0 .. 2.50'", want: `"1.0 .. 2.50"`, needs: "seg"},
		{typ: "isbn", literal: "'0-393-04002-X'", want: `"0-393-04002-X"`, needs: "isn"},
		{typ: "lo", literal: "4294967295", want: `4294967295`, needs: "lo"},
		{typ: "vector", literal: "'[3.4028235e38,-1e-45,0]'", want: `[3.4028235e+38,-1e-45,0]`, needs: "vector"},
		{typ: "vector", literal: "NULL", want: `null`, needs: "vector"},
		{typ: "vector(2)[]", literal: "ARRAY['[1,2]'::vector, NULL]", want: `[[1,2],null]`, needs: "vector"},
		{typ: "halfvec(3)", literal: "'[1,-2.5,65504]'", want: `[1,-2.5,65504]`, needs: "vector"},
		{typ: "sparsevec(5)", literal: "'{1:1.5,3:-2}/5'", want: `"{1:1.5,3:-2}/5"`, needs: "vector"},
		{typ: `"char"`, literal: "''", want: `""`},
		{typ: "name", literal: "repeat('é', 31)", want: `"` + strings.Repeat("é", 31) + `"`},
		{typ: "regtype", literal: "'integer'", want: `"integer"`},
		{typ: "regproc", literal: "'pg_catalog.now'", want: `"now"`},
		{typ: "regprocedure", literal: "'pg_catalog.lower(text)'", want: `"lower(text)"`},
		{typ: "regoperator", literal: "'pg_catalog.+(int4,int4)'", want: `"+(integer,integer)"`},
		{typ: "regrole", literal: "'postgres'", want: `"postgres"`},
		{typ: "regnamespace", literal: "'pg_catalog'", want: `"pg_catalog"`},
		{typ: "regconfig", literal: "'simple'", want: `"simple"`},
		{typ: "txid_snapshot", literal: "'10:20:10,14'", want: `"10:20:10,14"`},
		{typ: "aclitem", literal: "'postgres=r/postgres'", want: `"postgres=r/postgres"`},
		{typ: "int8multirange", literal: "'{[-9223372036854775808,1),[5,)}'", want: `"{[-9223372036854775808,1),[5,)}"`},
		{typ: "nummultirange", literal: "'{}'", want: `"{}"`},
		{typ: "tstzmultirange", literal: "'{[2024-02-29 13:00:00+02,infinity)}'", want: `"{[\"2024-02-29 11:00:00+00\",infinity)}"`},
		{typ: "datemultirange", literal: "'{[2024-02-28,2024-02-29]}'", want: `"{[2024-02-28,2024-03-01)}"`},
		{typ: "smallint[]", literal: "'{-32768,32767}'", want: `[-32768,32767]`},
		{typ: "real[]", literal: "'{3.3,NaN,-Infinity}'", want: `[3.3,"NaN","-Infinity"]`, misfit: true},
		{typ: "money[]", literal: "ARRAY['-$1,234.50'::money]", want: `["-$1,234.50"]`},
		{typ: "char(3)[]", literal: "ARRAY['a']", want: `["a  "]`},
		{typ: "varchar(3)[]", literal: "ARRAY['', ' ']", want: `[""," "]`},
		{typ: "time(3)[]", literal: "'{24:00:00,00:00:00.1}'", want: `["24:00:00.000","00:00:00.100"]`},
		{typ: "timetz[]", literal: "'{13:51:30.5-05:30}'", want: `["13:51:30.500000-05:30"]`},
		{typ: "timestamp[]", literal: "'{infinity,0044-03-15 00:00:00 BC}'", want: `["infinity","0044-03-15 00:00:00 BC"]`},
		{typ: "date[]", literal: "'{-infinity,0044-03-15 BC}'", want: `["-infinity","0044-03-15 BC"]`, misfit: true},
		{typ: "inet[]", literal: "'{10.0.0.1,2001:db8::1/64}'", want: `["10.0.0.1","2001:db8::1/64"]`},
		{typ: "macaddr[]", literal: "'{08:00:2b:01:02:03}'", want: `["08:00:2b:01:02:03"]`},
		{typ: "varbit[]", literal: "'{101,NULL}'", want: `["101",null]`},
		{typ: "tsvector[]", literal: `ARRAY[$$a:1 'b c'$$]::tsvector[]`, want: `["'a':1 'b c'"]`},
		{typ: "xid8[]", literal: "'{18446744073709551615}'", want: `[18446744073709551615]`},
		{typ: "oid[]", literal: "'{4294967295}'", want: `[4294967295]`},
		{typ: "pg_lsn[]", literal: "'{FFFFFFFF/FFFFFFFF}'", want: `["FFFFFFFF/FFFFFFFF"]`},
		{typ: "tstzrange[]", literal: "ARRAY['[2024-02-29 13:00:00+02,)'::tstzrange]", want: `["[\"2024-02-29 11:00:00+00\",)"]`},
		{typ: "circle[]", literal: "ARRAY['<(1,2),3>'::circle]", want: `["<(1,2),3>"]`},
		{
			typ: "labels", literal: `ROW('a,b', ARRAY[$$q"'\$$, 'sad']::mood[], '[1.5,2.5]', '\x00ff', '{"a": [1]}')`,
			want: `{"m":"a,b","l":["q\"'\\","sad"],"r":"[1.5,2.5]","b":{"_base64":"AP8="},"j":{"a": [1]}}`,
		},
		{typ: "pairs", literal: "ARRAY[ROW(1, 'x')::pair]", want: `[{"n":1,"t":"x"}]`},
		{typ: "couple", literal: "ROW(1, NULL)", want: `{"n":1,"t":null}`},
		{typ: "couple[]", literal: `ARRAY[ROW(1, '"')::couple]`, want: `[{"n":1,"t":"\""}]`},
		{typ: "cheap", literal: "9.99", want: `"9.99"`},
		{typ: "feeling", literal: "'so so'", want: `"so so"`},
	}
}

// newerTypeCases need PostgreSQL 17.
func newerTypeCases() []typeCase {
	return []typeCase{
		{typ: "interval", literal: "'infinity'", want: `"infinity"`},
		{typ: "interval[]", literal: "'{-infinity,1 day}'", want: `["-infinity","P1D"]`},
	}
}
