package protobuf

import (
	"fmt"
	"strconv"
	"strings"
)

// tokens splits the text of a .proto file. Comments are left out.
func tokens(text string) (out []string) {
	for {
		text = strings.TrimLeft(text, " \t\r\n\uFEFF")
		switch {
		case text == "":
			return out
		case strings.HasPrefix(text, "//"):
			_, text, _ = strings.Cut(text, "\n")
			continue
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
			continue
		}
		n := tokenSize(text)
		out = append(out, text[:n])
		text = text[n:]
	}
}

// tokenSize returns the size of the token at the start of a text.
func tokenSize(text string) int {
	if c := text[0]; c == '"' || c == '\'' {
		for i := 1; i < len(text); i++ {
			if text[i] == '\\' {
				i++
			} else if text[i] == c {
				return i + 1
			}
		}
		return len(text)
	}
	n := 0
	for n < len(text) && (text[n] == '_' || text[n] == '.' || text[n] >= '0' && text[n] <= '9' || text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z') {
		n++
	}
	return max(n, 1)
}

// appendQuoted appends a text as a string of the language.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c == 0x7f:
			dst = fmt.Appendf(dst, `\%03o`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// unquote reads a string of the language.
func unquote(token string) (string, error) {
	if len(token) < 2 || token[0] != token[len(token)-1] || token[0] != '"' && token[0] != '\'' {
		return "", strconv.ErrSyntax
	}
	rest := token[1 : len(token)-1]
	var b strings.Builder
	for rest != "" {
		if rest[0] != '\\' {
			b.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		c, multibyte, tail, err := strconv.UnquoteChar(rest, token[0])
		if err != nil {
			return "", err
		}
		if rest = tail; multibyte {
			b.WriteRune(c)
		} else {
			b.WriteByte(byte(c)) //nolint:gosec // one byte
		}
	}
	return b.String(), nil
}
