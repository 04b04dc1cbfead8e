// Package envelope turns a change.Event into the bytes of a message. It is the one place that knows how a value looks in
// JSON.
package envelope

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/internal/change"
)

// AppendValue appends the JSON of one value, in the form that the documentation's table of values gives. An absent value
// has no JSON; its column is left out by the callers.
func AppendValue(dst []byte, v change.Value) []byte {
	switch v.Kind() {
	case change.Null, change.Absent:
		return append(dst, "null"...)
	case change.Unavailable:
		return append(dst, `{"_unchanged":true}`...)
	case change.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case change.Int:
		return strconv.AppendInt(dst, v.Int(), 10)
	case change.Uint:
		return strconv.AppendUint(dst, v.Uint(), 10)
	case change.Float32:
		return AppendFloat(dst, float64(v.Float32()), 32)
	case change.Float64:
		return AppendFloat(dst, v.Float64(), 64)
	case change.Decimal:
		dst = append(dst, '"')
		dst = append(dst, v.Bytes()...)
		return append(dst, '"')
	case change.Text:
		return AppendText(dst, v.Bytes())
	case change.Bytes:
		dst = append(dst, `{"_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, v.Bytes())
		return append(dst, `"}`...)
	case change.JSON:
		return appendJSON(dst, v.Bytes())
	default:
		return append(dst, "null"...)
	}
}

// appendJSON appends JSON on one line.
func appendJSON(dst, s []byte) []byte {
	start := len(dst)
	dst = append(dst, s...)
	OneLine(dst[start:])
	return dst
}

// OneLine puts JSON on one line: a line break or tab between two tokens becomes a space, so that a message is one line. Nothing else is
// changed. PostgreSQL's json keeps the text as it was written.
func OneLine(rest []byte) {
	for {
		n := firstControl(rest)
		if n == len(rest) {
			return
		}
		rest[n] = ' ' // not inside of a string: JSON has no control characters there
		rest = rest[n+1:]
	}
}

// firstControl returns the index of the first control character, or the length of s.
func firstControl(s []byte) int {
	n := 0
	for ; len(s)-n >= 8; n += 8 {
		if x := binary.LittleEndian.Uint64(s[n:]); (x-' '*ones)&^x&highs != 0 { // see plain
			break
		}
	}
	for ; n < len(s) && s[n] >= ' '; n++ {
	}
	return n
}

// AppendFloat appends the shortest number that reads back to the same value at the given width; NaN and the infinities,
// which JSON has no numbers for, as strings.
func AppendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD; the inputs never produce them, since
// they reject text that they cannot decode.
func AppendString[S string | []byte](dst []byte, s S) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// appendEscaped appends s without the quotes.
func appendEscaped[S string | []byte](dst []byte, s S) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := decodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(dst, s[start:]...)
}

// AppendText is AppendString for text of which most needs no escapes.
func AppendText(dst, s []byte) []byte {
	dst = append(dst, '"')
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			return append(dst, '"')
		}
		// What follows is, within eight bytes, not plain. Escaped text is rare, and other alphabets come in runs.
		n = 1
		for n < len(s) && (n < 8 || s[n] >= utf8.RuneSelf) {
			n++
		}
		dst = appendEscaped(dst, s[:n])
		s = s[n:]
	}
}

// AppendASCII is AppendText for text that has only ASCII, and nothing to escape. It returns false for any other.
func AppendASCII(dst, s []byte) ([]byte, bool) {
	if plain(s) < len(s) {
		return dst, false
	}
	return append(append(append(dst, '"'), s...), '"'), true
}

// plain returns how many bytes at the start of s are ASCII that JSON takes as it is, or fewer.
func plain(s []byte) int {
	n := 0
	for ; len(s)-n >= 32; n += 32 {
		b := s[n : n+32 : n+32]
		if (special(b)|special(b[8:])|special(b[16:])|special(b[24:]))&highs != 0 {
			break // the next loop says where
		}
	}
	for ; len(s)-n >= 8; n += 8 {
		if special(s[n:])&highs != 0 {
			return n
		}
	}
	for ; n < len(s); n++ {
		if c := s[n]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return n
		}
	}
	return n
}

// The same byte eight times.
const ones, highs = 0x0101010101010101, 0x8080808080808080

// special tells of each of the first eight bytes in its highest bit: not ASCII, below a space, a quote, a backslash ("Bit Twiddling Hacks",
// "Determine if a word has a byte less than n"). Bits after the first that is set mean nothing.
func special(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)
	return x | (x - ' '*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones)
}

func decodeRune[S string | []byte](s S) (rune, int) {
	// The conversion of at most four bytes does not escape, so neither branch allocates.
	return utf8.DecodeRuneInString(string(s[:min(len(s), utf8.UTFMax)]))
}
