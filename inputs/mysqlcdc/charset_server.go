package mysqlcdc

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// East Asian charsets differ from vendor to vendor and from standard to standard in hundreds of characters. So the server is asked what
// its bytes mean, as it is for charsets of one byte a character.

// isEastAsian reports the charsets that have characters of two bytes and more and are not of Unicode.
func isEastAsian(name string) bool {
	switch name {
	case "gbk", "gb2312", "gb18030", "big5", "sjis", "cp932", "ujis", "eucjpms", "euckr":
		return true
	default:
		return false
	}
}

// eastAsian holds what byte strings mean; 0 stands for none.
type eastAsian struct {
	single [256]rune
	double [1 << 16]rune
	// triple has what follows the byte 0x8f; nil for charsets without characters of three bytes.
	triple *[1 << 16]rune
	// long says that there are characters of four bytes, which are GB 18030's.
	long bool
}

const threeByteLead = 0x8f

// next returns the first character of src and its size; 0 for none.
func (e *eastAsian) next(src []byte) (r rune, size int) {
	if len(src) >= 2 {
		if r = e.double[int(src[0])<<8|int(src[1])]; r != 0 {
			return r, 2
		}
	}
	if e.triple != nil && src[0] == threeByteLead && len(src) >= 3 {
		if r = e.triple[int(src[1])<<8|int(src[2])]; r != 0 {
			return r, 3
		}
	}
	if e.long && len(src) >= 4 && src[0] > utf8.RuneSelf {
		if [4]byte(src) == [4]byte{0x81, 0x35, 0xf4, 0x37} {
			return '\ue7c7', 4 // as in the standard of 2000, which MySQL keeps; the one of 2005 has another character here
		}
		text, err := simplifiedchinese.GB18030.NewDecoder().Bytes(src[:4])
		if r, n := utf8.DecodeRune(text); err == nil && n == len(text) && r != utf8.RuneError {
			return r, 4
		}
		return 0, 0
	}
	if r = e.single[src[0]]; r != 0 || src[0] == 0 {
		return r, 1
	}
	return 0, 0
}

func (e *eastAsian) decode(dst, src []byte) ([]byte, []byte, error) {
	if isASCII(src) {
		return src, dst, nil
	}
	start := len(dst)
	for len(src) > 0 {
		r, size := e.next(src)
		if size == 0 {
			return nil, dst[:start], errNotText
		}
		dst = utf8.AppendRune(dst, r)
		src = src[size:]
	}
	return dst[start:len(dst):len(dst)], dst, nil
}

// eastAsianCharset asks the server what the bytes of a charset mean.
func (c *catalog) eastAsianCharset(ctx context.Context, name string) (*charset, error) {
	e := &eastAsian{long: name == "gb18030"}
	if err := c.characters(ctx, name, "", 1, e.single[:]); err != nil {
		return nil, err
	}
	if err := c.characters(ctx, name, "", 2, e.double[:]); err != nil {
		return nil, err
	}
	if name == "ujis" || name == "eucjpms" {
		e.triple = new([1 << 16]rune)
		if err := c.characters(ctx, name, fmt.Sprintf("%02x", threeByteLead), 2, e.triple[:]); err != nil {
			return nil, err
		}
	}
	return &charset{name, e.decode}, nil
}

// characters fills a table with what the numbers of that many bytes behind a prefix mean, as far as they are one character.
func (c *catalog) characters(ctx context.Context, name, prefix string, size int, table []rune) error {
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
	rows, err := c.query(ctx, fmt.Sprintf("SELECT %[1]s, HEX(CONVERT(%[2]s USING utf8mb4)) FROM %[3]s WHERE CHAR_LENGTH(%[2]s) = 1 AND LENGTH(%[2]s) = %[4]d",
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
