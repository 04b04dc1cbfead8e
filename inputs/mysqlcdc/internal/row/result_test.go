package row

import (
	"encoding/json"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// TestJSONText: what MySQL writes of a document, and what of it the log's document becomes.
func TestJSONText(t *testing.T) {
	for text, want := range map[string]string{
		``:                              `null`,
		`null`:                          `null`,
		`{}`:                            `{}`,
		`{"a": {}, "b": [1, true, ""]}`: `{"a":{},"b":[1,true,""]}`,
		`[-9223372036854775808, 18446744073709551615, -0.0, 1.10, 0.1]`: `[-9223372036854775808,18446744073709551615,-0.0,1.10,0.1]`,
		`[1e300, -1e-300, 1e20, 1e21, 1.5e16]`:                          `[1e+300,-1e-300,100000000000000000000.0,1e+21,15000000000000000.0]`,
		`[0.0000001, 0.000001, -0.0000001, 0.00000010]`:                 `[1e-07,0.000001,-1e-07,0.00000010]`,
		`"a\"\\\b\f\n\r\t\u0001\u00e9/😀"`:                               string(envelope.AppendString(nil, []byte("a\"\\\b\f\n\r\t\u0001é/😀"))),
		`"\ud83d\ude00"`:                                                `"😀"`,
		`"a, b: [c] {d} 1e5"`:                                           `"a, b: [c] {d} 1e5"`,
		"\"base64:type15:AAAA\nBBBB\"":                                  `"base64:type15:AAAABBBB"`,
		`{"1e5": 1e5}`:                                                  `{"1e5":100000.0}`,
	} {
		got, err := appendJSONText(nil, []byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, string(got), text)
		require.True(t, json.Valid(got), text)
	}
	for _, text := range []string{`"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"a\"`} {
		_, err := appendJSONText(nil, []byte(text))
		require.ErrorIs(t, err, errBadJSON, text)
	}
}

// TestResult: values of the binary protocol that the type matrix does not have, since no server sends them.
func TestResult(t *testing.T) {
	l := &Layout{Table: &change.Table{Columns: []change.Column{{Name: "a"}, {Name: "b"}}}, Columns: []Column{{Type: mysql.MYSQL_TYPE_TIME2}, {Type: mysql.MYSQL_TYPE_NEWDECIMAL}}}
	r, err := NewResult(l, []byte{mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_NEWDECIMAL})
	require.NoError(t, err)
	values := make([]change.Value, 2)
	decode := func(row string) (texts [2]string, inexact, err error) {
		_, inexact, err = r.Decode([]byte(row), values, nil)
		return [2]string{string(values[0].Bytes()), string(values[1].Bytes())}, inexact, err
	}
	texts, inexact, err := decode("\x00\x00\x08\x01\x22\x00\x00\x00\x16\x3b\x3b\x060000.5")
	require.NoError(t, err)
	require.NoError(t, inexact)
	require.Equal(t, [2]string{"-838:59:59", "0.5"}, texts)
	_, inexact, err = decode("\x00\x00\x08\x00\x00\x00\x00\x00\x00\x3c\x00\x011")
	require.NoError(t, err)
	require.ErrorContains(t, inexact, "column a: ")
	for _, short := range []string{"", "\x00", "\x00\x00", "\x00\x00\x08\x01", "\x00\x00\x00\x05a", "\x00\x00\x00\xfc\x01", "\x00\x00\x00\xfb"} {
		_, _, err = decode(short)
		require.ErrorIs(t, err, errBadRow, "%q", short)
	}
	raw, err := r.Raw([]byte("\x00\x04\x03abc"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{nil, []byte("abc")}, raw)
	_, err = NewResult(l, []byte{mysql.MYSQL_TYPE_TIME})
	require.ErrorContains(t, err, "the result has 1 columns, the table 2")
	_, err = NewResult(l, []byte{mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_NEWDECIMAL})
	require.ErrorContains(t, err, "column a: the server sends type 3")
}

func FuzzResult(f *testing.F) {
	types := []byte{
		mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_JSON, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_BIT,
		mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_BLOB,
	}
	l := &Layout{Table: &change.Table{Columns: make([]change.Column, len(types))}, Columns: make([]Column, len(types))}
	for i, typ := range types {
		l.Columns[i].Type, l.Columns[i].Meta = typ, 3
	}
	f.Add([]byte("\x00\x00\x00\x01\x02\x03\x04aaaabbbb\x07\xe8\x07\x02\x1d\x01\x02\x03\x00\x04[1]\x09aaaabbbbc\x01a\x00\x01x"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := NewResult(l, types)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]change.Value, len(types))
		if _, inexact, err := r.Decode(p, values, nil); err == nil && inexact == nil {
			for _, v := range values {
				if v.Kind() == change.Absent {
					t.Fatal("a value that nobody has set")
				}
			}
		}
		_, _ = r.Raw(p)
	})
}
