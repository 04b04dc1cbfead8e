package mysqlcdc

import (
	"database/sql"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// serverJSON is a document of the table c as the server prints it, without the spaces that it puts after commas and colons.
func (b *bench) serverJSON(t *testing.T, column string) string {
	t.Helper()
	var s sql.NullString
	require.NoError(t, b.sql.QueryRowContext(t.Context(), "SELECT CAST("+column+" AS CHAR) FROM c WHERE id = 1").Scan(&s))
	if !s.Valid {
		return "null"
	}
	var out strings.Builder
	quoted := false
	for i := 0; i < len(s.String); i++ {
		ch := s.String[i]
		switch {
		case ch == '\\' && quoted:
			out.WriteByte(ch)
			i++
			ch = s.String[i]
		case ch == '"':
			quoted = !quoted
		case ch == ' ' && !quoted:
			continue
		}
		out.WriteByte(ch)
	}
	return out.String()
}

// TestPartialJSON applies every kind of difference, one and several at a time, and compares with the document that the server has
// then. Without the document in the before image the value is one that is not there.
func TestPartialJSON(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	b.exec(t, "SET NAMES utf8mb4", "CREATE TABLE c (id INT PRIMARY KEY, j JSON, k JSON, n INT)")
	r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
	b.exec(t, "SET SESSION binlog_row_value_options = PARTIAL_JSON", `INSERT INTO c VALUES (1, CONCAT('{"a": 1, "bb": [1, {"x": 1.50, "y": []}, 3], "q\\"t.[": {"é😀": "\\n"}, `+
		`"big": 9223372036854775807, "long": "', REPEAT('x', 300), '"}'), '[1]', 5)`)
	r.take(t, 1)
	for _, change := range []string{
		"j = JSON_SET(j, '$.a', 2)",
		"j = JSON_SET(j, '$.a', 18446744073709551615, '$.bb[1].x', CAST('2.50' AS DECIMAL(5,2)))",
		"j = JSON_SET(j, '$.zz', 'new', '$.b', NULL)",
		"j = JSON_SET(j, '$.bb[3]', JSON_OBJECT('k', CAST('2024-02-29' AS DATE)))",
		"j = JSON_SET(j, '$.bb[99]', TRUE)",
		"j = JSON_REMOVE(j, '$.bb[0]')",
		"j = JSON_REMOVE(j, '$.a', '$.zz')",
		"j = JSON_REPLACE(j, '$.bb[0].y', JSON_ARRAY(1, 'two', NULL))",
		`j = JSON_SET(j, '$."q\\"t.["."é😀"', 'quote " and \\ and 😀', '$."q\\"t.["."a b"', 1.0e10)`,
		`j = JSON_REMOVE(j, '$."q\\"t.["')`,
		"j = JSON_SET(j, '$.b', JSON_OBJECT()), k = JSON_SET(k, '$[1]', 2)",
		"j = JSON_SET(j, '$.b.c', JSON_ARRAY()), n = n + 1",
		"k = JSON_REPLACE(k, '$[0]', JSON_ARRAY())",
		"j = JSON_SET(j, '$.b', 1), k = NULL",
		"j = NULL, k = '{}'",
		"j = JSON_OBJECT('whole', REPEAT('y', 100))",
		"n = 0",
	} {
		b.exec(t, "UPDATE c SET "+change)
		got := r.take(t, 1)[0]
		require.NoError(t, got.err, change)
		var after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(part(got.raw, "after")), &after))
		require.Equal(t, b.serverJSON(t, "j"), string(after["j"]), change)
		require.Equal(t, b.serverJSON(t, "k"), string(after["k"]), change)
	}
	b.exec(t, "SET SESSION binlog_row_image = MINIMAL", "UPDATE c SET j = JSON_SET(j, '$.whole', REPEAT('z', 10))")
	require.Equal(t, []string{`u {"id":1} {"id":1} {"j":{"_unchanged":true}}`}, rows(t, r.take(t, 1)))
}

// TestImagesOfHiddenColumns: invisible and generated columns are columns like any other.
func TestImagesOfHiddenColumns(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (a INT PRIMARY KEY, s INT INVISIBLE DEFAULT 7, g INT AS (a + 1) STORED, v INT AS (a + 2) VIRTUAL, z INT)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c (a, z) VALUES (1, 9)", "UPDATE c SET z = 10", "UPDATE c SET a = 2", "DELETE FROM c")
		require.Equal(t, []string{
			`c {"a":1} - {"a":1,"s":7,"g":2,"v":3,"z":9}`,
			`u {"a":1} {"a":1,"s":7,"g":2,"v":3,"z":9} {"a":1,"s":7,"g":2,"v":3,"z":10}`,
			`u {"a":2} {"a":1,"s":7,"g":2,"v":3,"z":10} {"a":2,"s":7,"g":3,"v":4,"z":10}`,
			`d {"a":2} {"a":2,"s":7,"g":3,"v":4,"z":10} -`,
		}, rows(t, r.take(t, 4)))
	})
}

func TestGeneratedInvisiblePrimaryKey(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			b := newBench(t, testenv.MySQL(t))
			b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "SET SESSION sql_generate_invisible_primary_key = ON", "CREATE TABLE c (a INT)")
			r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
			b.exec(t, "INSERT INTO c VALUES (5), (6)", "UPDATE c SET a = 7 WHERE a = 6", "DELETE FROM c WHERE a = 5")
			require.Equal(t, []string{
				`c {"my_row_id":1} - {"my_row_id":1,"a":5}`, `c {"my_row_id":2} - {"my_row_id":2,"a":6}`,
				`u {"my_row_id":2} {"my_row_id":2,"a":6} {"my_row_id":2,"a":7}`, `d {"my_row_id":1} {"my_row_id":1,"a":5} -`,
			}, rows(t, r.take(t, 4)))
		})
	}
}

// TestImagesOfBlobs: NOBLOB leaves out every type that is a blob inside, MINIMAL everything that did not change.
func TestImagesOfBlobs(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, a INT, t TEXT, b BLOB, v VARCHAR(20))",
			"CREATE TABLE k (a INT, t TEXT)", "CREATE TABLE w (id INT PRIMARY KEY, t TEXT NOT NULL)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "SET SESSION binlog_row_image = NOBLOB", "INSERT INTO c VALUES (1, 2, 't', 'b', 'v')",
			"UPDATE c SET a = 3", "UPDATE c SET t = 'new'", "UPDATE c SET t = NULL", "DELETE FROM c",
			"INSERT INTO k VALUES (1, 't')", "UPDATE k SET a = 2", "SET SESSION binlog_row_image = MINIMAL",
			"INSERT INTO c (id, v) VALUES (2, 'v')", "UPDATE c SET v = NULL, a = 4", "UPDATE c SET id = 3", "UPDATE k SET a = 3", "DELETE FROM k",
			"INSERT INTO w VALUES (1, 't')", "DELETE FROM w")
		const gone = `{"_unchanged":true}`
		require.Equal(t, []string{
			`c {"id":1} - {"id":1,"a":2,"t":"t","b":{"_base64":"Yg=="},"v":"v"}`,
			`u {"id":1} {"id":1,"a":2,"t":` + gone + `,"b":` + gone + `,"v":"v"} {"id":1,"a":3,"t":` + gone + `,"b":` + gone + `,"v":"v"}`,
			`u {"id":1} {"id":1,"a":3,"t":` + gone + `,"b":` + gone + `,"v":"v"} {"id":1,"a":3,"t":"new","b":` + gone + `,"v":"v"}`,
			`u {"id":1} {"id":1,"a":3,"t":` + gone + `,"b":` + gone + `,"v":"v"} {"id":1,"a":3,"t":null,"b":` + gone + `,"v":"v"}`,
			`d {"id":1} {"id":1,"a":3,"t":` + gone + `,"b":` + gone + `,"v":"v"} -`,
			`c  - {"a":1,"t":"t"}`,
			`u  {"a":1,"t":"t"} {"a":2,"t":"t"}`,
			`c {"id":2} - {"id":2,"v":"v"}`,
			`u {"id":2} {"id":2} {"a":4,"v":null}`,
			`u {"id":3} {"id":2} {"id":3}`,
			`u  {"a":2,"t":"t"} {"a":3,"t":"t"}`,
			`d  {"a":3,"t":"t"} -`,
			`c {"id":1} - {"id":1,"t":"t"}`,
			`d {"id":1} {"id":1,"t":` + gone + `} -`, // looks like NOBLOB
		}, rows(t, r.take(t, 14)))
	})
}

// TestImageWithoutColumns: with MINIMAL, a row of nothing but defaults has no bytes in MySQL's log, and still is a row. MariaDB writes
// all columns.
func TestImageWithoutColumns(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (a INT DEFAULT 5, b INT DEFAULT 6)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "SET SESSION binlog_row_image = MINIMAL", "BEGIN", "INSERT INTO c () VALUES ()", "UPDATE c SET a = NULL, b = NULL", "COMMIT")
		after, last := `{}`, `{"a":null,"b":null}`
		if b.srv.IsMariaDB() {
			after = `{"a":5,"b":6}`
		}
		got := r.take(t, 2)
		require.Equal(t, []string{`c  - ` + after, `u  {"a":5,"b":6} ` + last}, rows(t, got))
		require.Equal(t, uint64(2), got[1].event.Index)
	})
}
