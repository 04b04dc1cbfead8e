package row

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/deltaforge/deltaforge/internal/envelope"
)

// A query has a JSON document as text: MySQL writes it with spaces, with its own escapes, and large and small doubles in its own way. The
// document of the log is written as appendBinaryJSON does.

// appendJSONText appends the document whose text MySQL has written.
func appendJSONText(dst, doc []byte) ([]byte, error) {
	if len(doc) == 0 {
		return append(dst, "null"...), nil
	}
	var scratch []byte
	for len(doc) > 0 {
		switch b := doc[0]; b {
		case ' ', '\t', '\n', '\r':
			doc = doc[1:]
		case '{', '}', '[', ']', ',', ':':
			dst = append(dst, b)
			doc = doc[1:]
		case '"':
			end := stringEnd(doc)
			if end < 0 {
				return dst, errBadJSON
			}
			s := doc[1 : end-1]
			if bytes.IndexByte(s, '\\') >= 0 {
				var ok bool
				if scratch, ok = unescape(scratch[:0], s); !ok {
					return dst, errBadJSON
				}
				s = scratch
			}
			if bytes.HasPrefix(s, []byte("base64:type")) { // MySQL breaks the lines of what has no type in JSON
				s = bytes.ReplaceAll(s, []byte("\n"), nil)
			}
			dst = envelope.AppendString(dst, s)
			doc = doc[end:]
		default:
			end := bytes.IndexAny(doc, " ,:]}\t\r\n")
			if end < 0 {
				end = len(doc)
			}
			if end == 0 {
				return dst, errBadJSON
			}
			dst = appendJSONWord(dst, doc[:end])
			doc = doc[end:]
		}
	}
	return dst, nil
}

// stringEnd returns where the string that doc begins with ends; -1 when it does not.
func stringEnd(doc []byte) int {
	for i := 1; i < len(doc); {
		n := bytes.IndexAny(doc[i:], `"\`)
		switch {
		case n < 0:
			return -1
		case doc[i+n] == '"':
			return i + n + 1
		}
		i += n + 2
	}
	return -1
}

// unescape appends what an escaped string stands for.
func unescape(dst, s []byte) ([]byte, bool) {
	for len(s) > 0 {
		n := bytes.IndexByte(s, '\\')
		if n < 0 {
			return append(dst, s...), true
		}
		dst = append(dst, s[:n]...)
		s = s[n+1:]
		if len(s) == 0 {
			return dst, false
		}
		kind := s[0]
		s = s[1:]
		if i := bytes.IndexByte([]byte(`"\/bfnrt`), kind); i >= 0 {
			dst = append(dst, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		r, rest, ok := unit16(s)
		if kind != 'u' || !ok {
			return dst, false
		}
		s = rest
		if utf16.IsSurrogate(r) && len(s) > 1 && s[0] == '\\' && s[1] == 'u' {
			if low, rest, ok := unit16(s[2:]); ok {
				r, s = utf16.DecodeRune(r, low), rest
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, true
}

func unit16(s []byte) (r rune, rest []byte, ok bool) {
	if len(s) < 4 {
		return 0, nil, false
	}
	n, err := strconv.ParseUint(string(s[:4]), 16, 16)
	return rune(n), s[4:], err == nil
}

// appendJSONWord appends a number or a literal. Integers and decimals have no exponent and stay as they are. What has one is a double, and
// so is a small number without one that is written as a double would be: MySQL begins exponents later than we do. (A decimal like that,
// which only functions can put into a document, becomes the same number in the other way of writing.)
func appendJSONWord(dst, word []byte) []byte {
	exponent := bytes.IndexByte(word, 'e') >= 0
	digits := bytes.TrimPrefix(word, []byte("-"))
	small := bytes.HasPrefix(digits, []byte("0.000000"))
	if len(digits) == 0 || digits[0] < '0' || digits[0] > '9' || !exponent && !small {
		return append(dst, word...)
	}
	f, err := strconv.ParseFloat(string(word), 64)
	if err != nil || small && !exponent && strconv.FormatFloat(f, 'f', -1, 64) != string(word) {
		return append(dst, word...)
	}
	return appendJSONDouble(dst, f)
}
