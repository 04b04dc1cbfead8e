package catalog

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
)

// East Asian charsets differ from vendor to vendor and from standard to standard in hundreds of characters. So the server is asked what
// its bytes mean, as it is for charsets of one byte a character.

// EastAsianCharset asks the server what the bytes of a charset mean.
func (c *Catalog) EastAsianCharset(ctx context.Context, name string) (*charset.Charset, error) {
	e := &charset.EastAsian{Long: name == "gb18030"}
	if err := c.characters(ctx, name, "", 1, e.Single[:]); err != nil {
		return nil, err
	}
	if err := c.characters(ctx, name, "", 2, e.Double[:]); err != nil {
		return nil, err
	}
	if name == "ujis" || name == "eucjpms" {
		e.Triple = new([1 << 16]rune)
		if err := c.characters(ctx, name, fmt.Sprintf("%02x", charset.ThreeByteLead), 2, e.Triple[:]); err != nil {
			return nil, err
		}
	}
	return &charset.Charset{Name: name, ASCII: true, Decode: e.Decode}, nil
}

// characters fills a table with what the numbers of that many bytes after a prefix mean, as far as they are one character.
func (c *Catalog) characters(ctx context.Context, name, prefix string, size int, table []rune) error {
	// The digits of the number, each out of a table of its own: what is there without privileges and settings.
	var digits, from []string
	const all = "(SELECT '0' d UNION ALL SELECT '1' UNION ALL SELECT '2' UNION ALL SELECT '3' UNION ALL SELECT '4' UNION ALL SELECT '5' " +
		"UNION ALL SELECT '6' UNION ALL SELECT '7' UNION ALL SELECT '8' UNION ALL SELECT '9' UNION ALL SELECT 'A' UNION ALL SELECT 'B' " +
		"UNION ALL SELECT 'C' UNION ALL SELECT 'D' UNION ALL SELECT 'E' UNION ALL SELECT 'F')"
	for i := range 2 * size {
		digits = append(digits, fmt.Sprintf("t%d.d", i))
		from = append(from, fmt.Sprintf("%s t%d", all, i))
	}
	number := "CONCAT(" + strings.Join(digits, ", ") + ")"
	text := fmt.Sprintf("CONVERT(UNHEX(CONCAT('%s', %s)) USING %s)", prefix, number, name)
	rows, err := c.Query(ctx, fmt.Sprintf("SELECT %[1]s, HEX(CONVERT(%[2]s USING utf8mb4)) FROM %[3]s WHERE CHAR_LENGTH(%[2]s) = 1 AND LENGTH(%[2]s) = %[4]d",
		number, text, strings.Join(from, ", "), len(prefix)/2+size))
	if err != nil {
		return fmt.Errorf("reading the character set %s: %w", name, err)
	}
	for _, row := range rows {
		n, err := strconv.ParseUint(row[0], 16, 8*size)
		if err != nil {
			return fmt.Errorf("reading the character set %s: %w", name, err)
		}
		utf, err := hex.DecodeString(row[1])
		if err != nil {
			return fmt.Errorf("reading the character set %s: %w", name, err)
		}
		if bytes.Equal(utf, []byte("?")) && n != '?' { // what stands for bytes that mean nothing
			continue
		}
		if r, size := utf8.DecodeRune(utf); size == len(utf) && r != utf8.RuneError {
			table[n] = r
		}
	}
	return nil
}
