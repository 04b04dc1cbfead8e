package mysqlcdc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/resolve"
)

// codes are the byte strings of a charset that are tried: SQL that gives them for the numbers n from 0 to 65535.
func codes(charset string) []string {
	list := []string{"UNHEX(LPAD(HEX(n), 4, '0'))", "UNHEX(HEX(n & 255))"}
	switch charset {
	case "ujis", "eucjpms":
		list = append(list, "CONCAT(x'8f', UNHEX(LPAD(HEX(n), 4, '0')))")
	case "gb18030":
		for lead := 0x81; lead <= 0x84; lead++ {
			list = append(list, fmt.Sprintf("CONCAT(x'%02x', CHAR(0x30 + (n DIV 1260)), CHAR(0x81 + (n MOD 1260) DIV 10), CHAR(0x30 + n MOD 10))", lead))
		}
		list = append(list, "CONCAT(x'90', CHAR(0x30 + (n DIV 1260)), CHAR(0x81 + (n MOD 1260) DIV 10), CHAR(0x30 + n MOD 10))")
	case "utf32":
		list = []string{"UNHEX(LPAD(HEX(n * 17), 8, '0'))"}
	case "ucs2":
		list = list[:1]
	case "utf16":
		list = append(list[:1], "CONCAT(x'd83d', UNHEX(LPAD(HEX(n), 4, '0')))")
	case "utf16le":
		list = append(list[:1], "CONCAT(x'3dd8', UNHEX(LPAD(HEX(n), 4, '0')))")
	}
	return list
}

// TestTypesCharsets compares, for every charset of the servers and every character in it, our text with the server's.
func TestTypesCharsets(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "SET NAMES utf8mb4", "CREATE TABLE numbers (n INT PRIMARY KEY)", "CREATE TABLE digits (d INT)",
			"INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9),(10),(11),(12),(13),(14),(15)",
			"INSERT INTO numbers SELECT a.d * 4096 + b.d * 256 + c.d * 16 + e.d FROM digits a, digits b, digits c, digits e")
		s := &resolve.Schemas{Catalog: &catalog.Catalog{Server: &b.newLog(t, "").cfg.server}, Flavor: product.MySQL}
		t.Cleanup(s.Catalog.Close)
		if b.srv.IsMariaDB() {
			s.Flavor = product.MariaDB
		}
		var err error
		s.Charsets, err = s.Catalog.Charsets(t.Context(), s.Flavor)
		require.NoError(t, err)
		for name := range s.Charsets.Widths {
			if name == "binary" {
				continue
			}
			t.Run(name, func(t *testing.T) { b.checkCharset(t, s, name) })
		}
	})
}

// checkCharset compares each character: what we decode is what the server decodes, and what the server can encode we can decode.
func (b *bench) checkCharset(t *testing.T, s *resolve.Schemas, name string) {
	cs, err := s.Charset(t.Context(), name)
	require.NoError(t, err)
	right, wrong := 0, []string{}
	for _, code := range codes(name) {
		rows, err := b.sql.QueryContext(t.Context(), fmt.Sprintf(
			"SELECT HEX(%[1]s), IFNULL(HEX(CONVERT(CONVERT(%[1]s USING %[2]s) USING utf8mb4)), ''), "+
				"IFNULL(HEX(CONVERT(CONVERT(%[1]s USING %[2]s) USING utf8mb4)) <> HEX(%[1]s) AND "+
				"CAST(CONVERT(CONVERT(CONVERT(%[1]s USING %[2]s) USING utf8mb4) USING %[2]s) AS BINARY) = %[1]s, 0) FROM numbers WHERE n < %[3]d",
			code, name, map[bool]int{true: 12600, false: 65536}[name == "gb18030" && len(code) > 40]))
		require.NoError(t, err)
		for rows.Next() {
			var in, want string
			var valid bool
			require.NoError(t, rows.Scan(&in, &want, &valid))
			raw, _ := hex.DecodeString(in)
			text, _ := hex.DecodeString(want)
			got, _, err := cs.Decode(nil, raw)
			switch {
			case err == nil && string(got) == string(text):
				right++
			case err != nil && (!valid || !utf8.Valid(text) || string(text) == "\uFFFD" || bytes.Count(text, []byte("?")) > bytes.Count(raw, []byte("?"))):
			default:
				wrong = append(wrong, fmt.Sprintf("%x is %q, not %q (%v)", raw, text, got, err))
			}
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
	require.Greater(t, right, 100)
	if len(wrong) > 0 {
		require.Fail(t, fmt.Sprint(len(wrong), " of ", right+len(wrong), " differ"), "%q", wrong[:min(12, len(wrong))])
	}
}
